"""EM against autograd, its own objective, and known laws."""

import math

import numpy as np
import pytest
import torch
from hidden_trees import random_law

from pushforward.probability import noise
from pushforward.probability.circuits import em, evidence, structure
from pushforward.probability.circuits.basis import Basis
from pushforward.probability.circuits.evidence import Evidence
from pushforward.probability.circuits.tree import HiddenTree
from pushforward.probability.domain import KNOWN, UNKNOWN, Domain

LAW = random_law()
ROWS = LAW.sample(300, seed=5)
STATE = torch.where(noise.uniform((4,), seed=1, purpose="hidden", rows=300) < 0.2, UNKNOWN, KNOWN)
SEEN = Evidence.of(LAW.bases, ROWS, STATE)
TREE = LAW.trees[1]
PRIOR = em.Prior(2.0, 1.5, em.marginal_shares(SEEN))


def test_expected_counts_are_the_gradient_of_the_log_likelihood():
    """d log p / d log theta is the expected count of theta, for parameters without the constraint of their sum."""
    parameters = [TREE.root, TREE.transitions, *TREE.leaves]
    logs = [part.log().requires_grad_() for part in parameters]
    root, transitions, *leaves = (part.exp() for part in logs)
    tree = HiddenTree(TREE.parents, root, transitions, tuple(leaves))
    log_prob = tree.upward(SEEN.emissions(tree.leaves)).log_prob.sum()
    wanted = torch.autograd.grad(log_prob, logs)
    counts, each = em.expected(TREE, SEEN)
    assert each.sum().item() == pytest.approx(log_prob.item())
    for found, gradient in zip((counts.root, counts.transitions, *counts.leaves), wanted, strict=True):
        np.testing.assert_allclose(found, gradient, rtol=1e-8, atol=1e-9)


def test_counts_of_blocks_add_up(monkeypatch):
    whole, log_prob = em.expected(TREE, SEEN)
    monkeypatch.setattr(evidence, "_NUMBERS", 7 * 4 * 3)
    total, summed = em.expected_of_all(TREE, SEEN)
    assert summed == pytest.approx(log_prob.sum().item())
    np.testing.assert_allclose(total.transitions, whole.transitions, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(total.leaves[1], whole.leaves[1], rtol=1e-10, atol=1e-12)


def test_iterations_never_lower_the_objective():
    tree = em.start_tree(TREE.parents, SEEN, 4, PRIOR, seed=0)
    values = []
    for _ in range(15):
        values.append(em.objective(tree, SEEN, PRIOR))
        tree = em.maximized(em.expected_of_all(tree, SEEN)[0], PRIOR, tree.parents)
    assert min(np.diff(values)) > -1e-9
    assert values[-1] > values[0] + 10


def test_the_m_step_is_stationary_for_the_expected_objective():
    """Moving mass between two entries of a probability vector cannot raise the expected objective."""
    counts, _ = em.expected(TREE, SEEN)
    best = em.maximized(counts, PRIOR, TREE.parents)
    pseudo = [
        (counts.root + PRIOR.transition / 3, best.root[:, None]),
        (counts.transitions[0] + PRIOR.transition / 3, best.transitions[0].mT),
        (counts.leaves[2] + PRIOR.leaf * PRIOR.shares[2][:, None], best.leaves[2]),
    ]
    pseudo[0] = (pseudo[0][0][:, None], pseudo[0][1])
    pseudo[1] = (pseudo[1][0].mT, pseudo[1][1])
    for weight, share in pseudo:
        np.testing.assert_allclose(share.sum(0), 1)
        ratio = weight / share  # the Lagrange multiplier of each column
        np.testing.assert_allclose(ratio, ratio[:1].expand_as(ratio), rtol=1e-10)


def test_marginal_shares_follow_the_column_and_leave_no_element_without_mass():
    x = torch.tensor([[0.0], [1.0], [1.0], [math.nan]] * 50)
    basis = Basis.fit(x[:, 0], Domain("category", 0, 3))
    (shares,) = em.marginal_shares(Evidence.of((basis,), x))
    np.testing.assert_allclose(shares, (np.array([50, 50, 100, 0, 0]) + 0.1) / 200.5, rtol=1e-12)


def test_a_fit_recovers_a_known_law_and_columns_without_gaps_have_none():
    """Rows of a chain of binary columns with known agreement, and of a real that depends on the last one."""
    n = 6000
    u = noise.uniform((4,), seed=3, purpose="rows", rows=n, dtype=torch.float64)
    a = (u[:, 0] < 0.3).double()
    b = torch.where(u[:, 1] < 0.9, a, 1 - a)
    c = torch.where(u[:, 2] < 0.8, b, 1 - b)
    y = u[:, 3] + 2 * c
    x = torch.stack([y, c, a, b], 1)
    domains = (Domain("real", 0, 3), Domain("category", 0, 1), Domain("integer", 0, 1), Domain("category", 0, 1))
    seen = Evidence.of(tuple(Basis.fit(x[:, i], domain) for i, domain in enumerate(domains)), x)
    prior = em.Prior(1.0, 1.0, em.marginal_shares(seen))
    parents = structure.spanning_tree(structure.mutual_information(structure.codes(x, domains)), jitter=0.0, seed=0)
    start = em.start_tree(parents, seen, 4, prior, seed=0)
    fit = em.fit_tree(start, seen, prior, rounds=6, seed=0)
    law = em.average(seen, [fit.tree])
    truth = {
        (i, j, k): (0.3 if i else 0.7) * (0.9 if i == j else 0.1) * (0.8 if j == k else 0.2)
        for i in (0, 1)
        for j in (0, 1)
        for k in (0, 1)
    }
    rows = torch.tensor([[0.0, k, i, j] for i, j, k in truth]).double()
    state = torch.tensor([[UNKNOWN, KNOWN, KNOWN, KNOWN]]).expand(8, -1)
    np.testing.assert_allclose(law.log_prob(rows, state).exp(), list(truth.values()), atol=0.015)
    grid = torch.stack([torch.tensor([v, 1.0, 0.0, 0.0]) for v in (0.25, 0.5, 0.75, 2.25, 2.5, 2.75)]).double()
    given = torch.tensor([[KNOWN, KNOWN, UNKNOWN, UNKNOWN]]).expand(6, -1)
    density = (
        law.log_prob(grid, given) - law.log_prob(grid, torch.tensor([[UNKNOWN, KNOWN, UNKNOWN, UNKNOWN]]).expand(6, -1))
    ).exp()
    np.testing.assert_allclose(density, [0, 0, 0, 1, 1, 1], atol=0.15)
    assert fit.counts.root.sum().item() == pytest.approx(n)
    assert law.log_prob(torch.tensor([[1.0, math.nan, 0, 0]])).item() == -math.inf
    assert not law.sample(2000, seed=1).isnan().any()


def test_a_fit_stops_before_held_out_rows_lose_density():
    x = noise.uniform((3,), seed=0, purpose="rows", rows=60, dtype=torch.float64)
    bases = tuple(Basis.fit(x[:40, i], Domain("real", 0, 1)) for i in range(3))
    train, held_out = Evidence.of(bases, x[:40]), Evidence.of(bases, x[40:])
    prior = em.Prior(0.1, 0.1, em.marginal_shares(train))
    start = em.start_tree((-1, 0, 1), train, 16, prior, seed=0)
    density = {}
    for name, options in {"to the end": {}, "stopped": {"held_out": held_out}}.items():
        fit = em.fit_tree(start, train, prior, rounds=8, seed=0, **options)
        density[name] = em.average(train, [fit.tree]).log_prob(x[40:]).mean().item()
    assert density["stopped"] > density["to the end"] + 0.1
    assert fit.rounds < 8
