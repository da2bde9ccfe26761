"""Joint tables against NumPy, exact fractions and counting."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pushforward.probability import noise
from pushforward.probability.divergence import entropy, kl, kl_estimate
from pushforward.probability.laws.finite import FiniteLaw, bayes

SEEDS = st.integers(0, 2**31)


def _law(seed, shape=(2, 3, 4)):
    table = np.random.default_rng(seed).dirichlet(np.ones(math.prod(shape))).reshape(shape)
    return FiniteLaw(table / table.sum(), names=["a", "b", "c"][: len(shape)])


@given(SEEDS)
def test_marginals_and_conditionals_are_sums_and_ratios(seed):
    law = _law(seed)
    p = law.table.numpy()
    np.testing.assert_allclose(law.marginal("c", "a").table, p.sum(1).T, rtol=1e-12)
    np.testing.assert_allclose(law.marginal("b", "c", "a").table, p.transpose(1, 2, 0))
    given_b = law.condition(b=2)
    assert given_b.names == ("a", "c")
    np.testing.assert_allclose(given_b.table, p[:, 2] / p[:, 2].sum(), rtol=1e-12)
    assert law.probability(a=1, c=3) == pytest.approx(p[1, :, 3].sum())
    np.testing.assert_allclose(law.condition(b=2).condition(a=0).table, law.condition(a=0, b=2).table, rtol=1e-12)
    np.testing.assert_allclose(law.condition(b=2).marginal("a").table, law.marginal("a", "b").condition(b=2).table, rtol=1e-12)


@given(SEEDS)
def test_chain_rule_gives_the_joint_and_not_the_conditional(seed):
    """p(x) p(h | x) = p(x, h): its slice at one h is no law of x before it is divided by the evidence."""
    law = _law(seed, (3, 4))
    conditional = torch.stack([law.condition(a=value).table for value in range(3)])
    joint = law.marginal("a").times(conditional, name="b")
    np.testing.assert_allclose(joint.table, law.table, rtol=1e-12)
    assert joint.table[:, 1].sum().item() == pytest.approx(law.probability(b=1))
    posterior, evidence = bayes(law.marginal("a"), conditional[:, 1])
    np.testing.assert_allclose(posterior.table, law.condition(b=1).table, rtol=1e-12)
    # p(x) = sum_h p(x | h) p(h), weighted; the bare sum over h is no law.
    assert evidence == pytest.approx(law.probability(b=1), rel=1e-12)


def test_bayes_in_exact_fractions():
    prior, likelihood = [Fraction(1, 2), Fraction(1, 3), Fraction(1, 6)], [Fraction(1, 10), Fraction(3, 4), Fraction(2, 5)]
    joint = [p * given for p, given in zip(prior, likelihood, strict=True)]
    posterior, evidence = bayes(FiniteLaw([float(p) for p in prior], names=["urn"]), [float(given) for given in likelihood])
    assert evidence == pytest.approx(float(sum(joint)), rel=1e-14)
    assert posterior.table.tolist() == pytest.approx([float(p / sum(joint)) for p in joint], rel=1e-14)
    assert posterior.names == ("urn",)


def test_a_likelihood_may_be_a_density_above_one():
    posterior, evidence = bayes(FiniteLaw([0.5, 0.5]), [3.0, 1.0])
    assert posterior.table.tolist() == [0.75, 0.25]
    assert evidence == 2.0


def test_expectation_of_any_function_and_central_moments():
    law = FiniteLaw([[0.1, 0.2], [0.3, 0.4]], names=["a", "b"], values=[[10.0, 20.0], [-1.0, 3.0]])
    by_hand = 0.1 * 10 * -1 + 0.2 * 10 * 3 + 0.3 * 20 * -1 + 0.4 * 20 * 3
    assert law.expectation(lambda x: x[:, 0] * x[:, 1]).item() == pytest.approx(by_hand)
    assert law.mean.tolist() == pytest.approx([17.0, 1.4])
    # The second central moment, not E[x^2] = 310, and not its root.
    assert law.variance.tolist() == pytest.approx([310 - 17**2, 0.4 + 5.4 - 1.4**2])
    points, weights = law.outcomes.numpy(), law.table.flatten().numpy()
    np.testing.assert_allclose(law.covariance, np.cov(points.T, aweights=weights, bias=True), rtol=1e-10)
    assert law.expectation(lambda x: x[:, :, None] * x[:, None, :]).shape == (2, 2)


def test_expectation_leaves_out_the_impossible():
    law = FiniteLaw([0.0, 0.5, 0.5])
    assert law.expectation(lambda x: x[:, 0].log()).item() == pytest.approx(0.5 * math.log(2))
    with pytest.raises(ValueError, match=r"one row for each of 2 outcomes, not \(\)"):
        law.expectation(lambda x: x.sum())


@given(SEEDS)
def test_information_between_variables(seed):
    law = _law(seed, (2, 3))
    a, b = law.marginal("a"), law.marginal("b")
    expected = a.entropy() + b.entropy() - law.entropy()
    assert law.mutual_information("a", "b").item() == pytest.approx(expected.item(), abs=1e-12)
    assert law.entropy().item() == pytest.approx(stats.entropy(law.table.flatten()))
    chained = sum(b.probability(b=value) * law.condition(b=value).entropy() for value in range(3))
    assert law.entropy().item() == pytest.approx((b.entropy() + chained).item())
    assert not law.independent("a", "b")
    product = FiniteLaw(a.table[:, None] * b.table, names=["a", "b"])
    assert product.independent("a", "b")
    assert product.mutual_information("b", "a").item() == pytest.approx(0, abs=1e-14)


def test_pairwise_independence_is_not_independence():
    table = torch.zeros(2, 2, 2)
    for a in range(2):
        for b in range(2):
            table[a, b, a ^ b] = 0.25
    law = FiniteLaw(table, names=["a", "b", "c"])
    assert all(law.independent(*pair) for pair in ("ab", "bc", "ac"))
    assert not law.condition(c=1).independent("a", "b")


def test_draws_follow_the_table_and_are_addressed():
    law = FiniteLaw([[0.1, 0.0], [0.25, 0.65]], values=[[0.0, 1.0], [5.0, 7.0]])
    draws = law.sample(20_000, seed=3)
    counts = [int((draws == point).all(1).sum()) for point in law.outcomes]
    assert counts[1] == 0
    assert stats.chisquare([counts[0], *counts[2:]], [2000, 5000, 13000]).pvalue > 0.01
    assert torch.equal(law.sample(5, seed=3, first=100), draws[100:105])


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-32])
def test_no_draw_is_impossible_even_at_the_ends_of_the_uniform(monkeypatch, u):
    """Neither where the first outcomes have no mass, nor where rounding leaves the sum below the largest uniform number."""
    monkeypatch.setattr(noise, "uniform", lambda shape, rows, **_: torch.full((len(rows), *shape), u, dtype=torch.float64))
    draws = FiniteLaw([0.0, 0.5, 0.499995, 0.0]).sample(3, seed=0)
    assert draws.flatten().tolist() == [1.0 if u == 0 else 2.0] * 3


def test_log_prob_is_that_of_a_pmf_on_the_grid():
    law = FiniteLaw([[0.1, 0.2], [0.3, 0.4]], values=[[0.0, 1.0], [5.0, 7.0]])
    x = torch.tensor([[[1.0, 5.0], [0.0, 7.0]], [[0.5, 5.0], [1.0, 6.0]]])
    np.testing.assert_allclose(law.log_prob(x), [[math.log(0.3), math.log(0.2)], [-math.inf, -math.inf]])
    assert (law.log_prob(law.outcomes) <= 0).all()
    other = FiniteLaw([[0.25, 0.25], [0.25, 0.25]], values=[[0.0, 1.0], [5.0, 7.0]])
    estimate = kl_estimate(law, other, 20_000, seed=0)
    assert abs(estimate.value - kl(law.table, other.table).item()) < 4 * estimate.standard_error
    assert law.entropy() == entropy(law.table)


def test_a_law_of_one_variable_has_plain_defaults():
    law = FiniteLaw(torch.tensor([0.25, 0.75]))
    assert law.names == ("x0",)
    assert law.table.dtype == torch.float64
    assert law.outcomes.tolist() == [[0.0], [1.0]]
    assert law.probability() == 1.0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda law: FiniteLaw([0.5, 0.4]), r"the table must sum to 1, but it sums to 0\.9"),
        (
            lambda law: FiniteLaw([[0.5, 0.7], [-0.2, 0.0]]),
            r"the table must be at least 0 everywhere, but entry \(1, 0\) is -0\.2",
        ),
        (lambda law: FiniteLaw([0.5, 0.5], names=["a", "b"]), r"names must be 1 different names"),
        (lambda law: FiniteLaw(law.table, names=["a", "a"]), r"names must be 2 different names"),
        (lambda law: FiniteLaw(law.table, names="ab"), r"names must be 2 different names"),
        (lambda law: FiniteLaw(law.table, values=[[0, 1]]), r"values must be 2 sequences.*not 1"),
        (lambda law: FiniteLaw(law.table, values=[[0, 1], [0, 1, 2]]), r"x1 needs 2 values.*but has \(3,\)"),
        (
            lambda law: FiniteLaw([0.5, 0.5], values=[[1, 1]]),
            r"the values of x0 must differ from each other, not \[1\.0, 1\.0\]",
        ),
        (lambda law: FiniteLaw(1.0), r"at least one variable"),
        (lambda law: law.marginal(), r"at least one variable"),
        (lambda law: law.marginal("z"), r"no variable 'z': the variables are a, b"),
        (lambda law: law.marginal("a", "a"), r"named once, not \('a', 'a'\)"),
        (lambda law: law.condition(a=2), r"a has no value 2: its values are \[0\.0, 1\.0\]"),
        (lambda law: law.condition(b=0), r"the event b = 0 has probability 0"),
        (lambda law: law.condition(a=0, b=1), r"no variable is left"),
        (lambda law: law.times([[0.5, 0.5]], name="h"), r"shape \(2, 2\) and one axis more, not \(1, 2\)"),
        (
            lambda law: law.marginal("a").times([[0.5, 0.5], [0.5, 0.4]], name="h"),
            r"the conditional given \{'a': 1\.0\} must sum to 1, but it sums to 0\.9",
        ),
        (lambda law: law.marginal("a").times([[0.5, 0.5], [0.5, 0.5]], name="a"), r"names must be 2 different names"),
        (lambda law: law.log_prob(torch.zeros(3)), r"x has 3 columns, but the law has 2 variables"),
        (lambda law: bayes(law, [0.1, 0.2]), r"likelihood must have the shape \(2, 2\), not \(2,\)"),
        (lambda law: bayes(FiniteLaw([0.5, 0.5]), [0.1, -0.2]), r"one is -0\.2"),
        (lambda law: bayes(FiniteLaw([0.0, 1.0]), [0.3, 0.0]), r"the evidence is 0"),
    ],
)
def test_mistakes_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(FiniteLaw([[0.0, 0.4], [0.0, 0.6]], names=["a", "b"]))
