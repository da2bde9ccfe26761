"""Guided laws of tokens against their closed form, by an exact predictor of a small law of labels and rows."""

import itertools
import re

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.diffusion import GuidedTokens, unmask

K = 3
SCALES = [-1.0, 0.0, 0.5, 1.0, 2.5]
JOINT = np.random.default_rng(0).exponential(size=(2, K, K)) ** 2  # of label, first and second token
JOINT /= JOINT.sum()


class Exact:
    """The law of each of two tokens given what is seen, and the label if the condition names one, by counting."""

    def __init__(self, joint=JOINT):
        self.joint, self.rows_called = torch.from_numpy(joint), []

    def __call__(self, tokens, condition):
        self.rows_called.append(len(tokens))
        logits = []
        for row, named in zip(tokens.tolist(), condition, strict=True):
            law = self.joint[int(named.argmax())] if bool(named.any()) else self.joint.sum(0)
            of_first = law.sum(1) if row[1] < 0 else law[:, row[1]]
            of_second = law.sum(0) if row[0] < 0 else law[row[0]]
            logits.append(torch.stack([of_first, of_second]).log() + 0.7)  # logits are log-probabilities up to a constant
        return torch.stack(logits)


def label(number, n):
    return torch.eye(2, dtype=torch.float64)[number].expand(n, 2)


def closed_form(given_label, alone, w):
    powers = given_label**w * alone ** (1 - w)
    return powers / powers.sum()


def conditional(first, y=None):
    """P(second | first, label), or without the label."""
    law = JOINT.sum(0) if y is None else JOINT[y]
    return law[first] / law[first].sum()


@pytest.mark.parametrize("w", SCALES)
@pytest.mark.parametrize("y", [0, 1])
def test_the_law_of_a_token_is_the_closed_form(w, y):
    seen = torch.tensor([[first, -1] for first in range(K)])
    found = GuidedTokens(Exact(), w)(seen, label(y, K))[:, 1].softmax(1).numpy()
    wanted = [closed_form(conditional(first, y), conditional(first), w) for first in range(K)]
    np.testing.assert_allclose(found, wanted, rtol=1e-12)
    # By Bayes it is p(second | first) P(label | first, second)^w.
    tilted = np.stack([conditional(first) for first in range(K)]) * (JOINT[y] / JOINT.sum(0)) ** w
    np.testing.assert_allclose(found, tilted / tilted.sum(1, keepdims=True), rtol=1e-12)


@pytest.mark.parametrize("w", [SCALES[0], SCALES[-1], *(pytest.param(w, marks=pytest.mark.full) for w in SCALES[1:-1])])
def test_uncovered_rows_follow_the_guided_laws_in_both_orders(w):
    n, law = 6000, np.zeros((K, K))
    for joint in (JOINT, JOINT.transpose(0, 2, 1)):
        of_label, alone = joint[1] / joint[1].sum(), joint.sum(0)
        before = closed_form(of_label.sum(1), alone.sum(1), w)
        after = [closed_form(of_label[k] / of_label[k].sum(), alone[k] / alone[k].sum(), w) for k in range(K)]
        in_order = before[:, None] * np.stack(after)
        law += (in_order if joint is JOINT else in_order.T) / 2
    drawn = unmask(GuidedTokens(Exact(), w), torch.zeros(n, 2, dtype=torch.int64), condition=label(1, n), seed=3)
    counts = np.bincount(drawn.numpy() @ [K, 1], minlength=K * K)
    assert stats.chisquare(counts, law.flatten() * n).pvalue > 1e-4


def test_only_other_scales_than_0_and_1_call_the_network_twice():
    tokens = torch.tensor(list(itertools.product([-1, 0, 1], repeat=2)))
    for w, rows, given in ((1.0, 9, label(1, 9)), (0.0, 9, torch.zeros(9, 2)), (1.5, 18, None)):
        network = Exact()
        found = GuidedTokens(network, w)(tokens, label(1, 9))
        assert network.rows_called == [rows]
        if given is not None:
            torch.testing.assert_close(found, Exact()(tokens, given), rtol=0, atol=0)


def test_what_is_impossible_stays_impossible_and_the_rest_is_normalized():
    joint = JOINT.copy()
    joint[1, :, 2] = 0  # with this label, the second token is never 2
    joint[:, :, 1] = 0  # and with no label is it 1
    for w in SCALES:
        law = GuidedTokens(Exact(joint), w)(torch.tensor([[0, -1]]), label(1, 1))[0, 1].softmax(0)
        wanted = [joint.sum(0)[0, 0] / joint.sum(0)[0].sum(), 0, joint.sum(0)[0, 2] / joint.sum(0)[0].sum()]
        np.testing.assert_allclose(law, wanted if w == 0 else [1, 0, 0], atol=1e-12)


@pytest.mark.parametrize("w", [float("nan"), float("inf")])
def test_a_scale_that_is_not_finite_is_refused(w):
    with pytest.raises(ValueError, match=f"the guidance scale must be a finite number, got {w}"):
        GuidedTokens(Exact(), w)


def test_no_condition_is_refused():
    said = "guidance needs a condition to guide towards: pass condition=..., or use the network without GuidedTokens"
    with pytest.raises(ValueError, match=re.escape(said)):
        GuidedTokens(Exact(), 2.0)(torch.tensor([[0, -1]]), None)
