"""Circuit: its verbs against its law, known laws, gaps, conditions, files and budgets."""

import itertools
import math
import time

import numpy as np
import pytest
import torch
from scipy import stats

import pushforward as pf
from pushforward.models.circuits import storage
from pushforward.models.circuits.domains import real_domain
from pushforward.probability.domain import KNOWN, UNKNOWN, Domain

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 3, 900)
REAL = RNG.normal(size=900) + 4 * (LABELS == 2)
X = np.column_stack([REAL, (REAL > 0) * 2.0 + (RNG.random(900) < 0.1), RNG.gamma(1.0, size=900)])
HOLES = np.where(RNG.random(X.shape) < 0.1, np.nan, X)
SMALL = {"n_states": 8, "n_trees": 2, "shrinkage": 1.0, "random_state": 0}


@pytest.fixture(scope="module")
def model():
    return pf.Circuit(**SMALL).fit(X, condition=LABELS)


@pytest.fixture(scope="module")
def with_gaps():
    return pf.Circuit(**SMALL).fit(HOLES)


def test_densities_are_conditional_laws_by_bayes_rule(model):
    rows, labels = X[:50], LABELS[:50]
    joint = model.law_.log_prob(torch.from_numpy(np.column_stack([rows, labels])))
    state = torch.tensor([[UNKNOWN, UNKNOWN, UNKNOWN, KNOWN]]).expand(50, -1)
    of_label = model.law_.log_prob(torch.from_numpy(np.column_stack([rows, labels])), state)
    result = model.log_prob(rows, condition=labels)
    np.testing.assert_allclose(result.values, joint - of_label, rtol=1e-10)
    assert (result.kind, result.dims, result.nfe) == ("exact", 3, 0)
    each = [model.score_samples(rows, condition=np.full(50, k)) for k in range(3)]
    shares = model.law_.marginals(torch.zeros(1, 4).double(), torch.full((1, 4), UNKNOWN))[3][0].log().numpy()
    np.testing.assert_allclose(
        model.score_samples(rows), np.logaddexp.reduce([e + s for e, s in zip(each, shares, strict=True)]), rtol=1e-9
    )


def test_probabilities_of_integers_and_densities_of_reals_add_up_to_one(model):
    knots = model.law_.bases[0].knots.numpy()
    inside = [np.linspace(a, b, 9)[:-1] for a, b in itertools.pairwise(knots)]
    beyond = np.linspace(0, 8, 400)
    grid = np.concatenate([(knots[0] - beyond)[:0:-1], *inside, knots[-1] + beyond])
    total = 0
    for integer in range(4):
        rows = np.column_stack([grid, np.full(len(grid), float(integer)), np.full(len(grid), np.nan)])
        total += np.trapezoid(np.exp(model.score_samples(rows, condition=2)), grid)
    assert total == pytest.approx(1, abs=0.01)


def test_the_law_of_each_label_is_found(model):
    for label in range(3):
        drawn, wanted = model.sample(2000, condition=label, seed=label)[:, 0], REAL[np.equal(LABELS, label)].mean()
        assert drawn.mean() == pytest.approx(wanted, abs=0.2)
    assert set(np.unique(model.sample(500, seed=0)[:, 1])) <= {0.0, 1.0, 2.0, 3.0}


def test_bounds_hold_for_the_law_and_for_samples(model):
    assert model.law_.bases[2].domain.low == 0
    assert model.sample(3000, seed=1)[:, 2].min() >= 0
    with np.errstate(invalid="ignore"):
        assert model.score_samples([[0.0, 1.0, -0.1]], condition=0)[0] == -math.inf


def test_scores_of_rows_with_gaps_are_marginal_laws(with_gaps):
    """exp(score) of a row with a gap is the sum over the values of the gap, and samples are complete."""
    rows = np.column_stack([np.full(4, 0.5), np.arange(4.0), np.full(4, 1.5)])
    whole = np.exp(with_gaps.score_samples(rows)).sum()
    assert np.exp(with_gaps.score_samples([[0.5, np.nan, 1.5]])[0]) == pytest.approx(
        whole, rel=1e-4
    )  # a real between the atoms is possible
    assert np.exp(with_gaps.score_samples([[np.nan] * 3])[0]) == pytest.approx(1)
    assert np.isfinite(with_gaps.sample(500, seed=2)).all()
    assert all(basis.gap for basis in with_gaps.law_.bases)


def test_imputation_follows_the_conditional_law(with_gaps):
    rows = np.tile([[1.0, np.nan, 0.4]], (6000, 1))
    filled = with_gaps.impute(rows, seed=3)
    np.testing.assert_array_equal(filled[:, [0, 2]], rows[:, [0, 2]])
    values = np.column_stack([np.full(4, 1.0), np.arange(4.0), np.full(4, 0.4)])
    p = np.exp(with_gaps.score_samples(values))
    counts = np.bincount(filled[:, 1].astype(int), minlength=4)
    assert stats.chisquare(counts, p / p.sum() * 6000).pvalue > 1e-3
    masked = with_gaps.impute(X[:5], mask=np.array([[True, False, True]] * 5), seed=1)
    np.testing.assert_array_equal(masked[:, [0, 2]], X[:5, [0, 2]])


def test_missing_conditions_teach_the_law_without_one_only():
    labels = [None if i % 5 == 0 else str(k) for i, k in enumerate(LABELS)]
    model = pf.Circuit(**SMALL).fit(X, condition=np.array(labels, dtype=object))
    weights = model.law_.marginals(torch.zeros(1, 4).double(), torch.full((1, 4), UNKNOWN))[3][0]
    shares = np.array([np.mean([label == str(k) for label in labels if label]) for k in range(3)])
    np.testing.assert_allclose(weights, shares, atol=0.02)
    assert model.law_.bases[3].gap is False


def test_numbers_as_condition_shift_the_law():
    c = RNG.normal(size=900)
    model = pf.Circuit(**SMALL).fit(np.column_stack([3 * c + RNG.normal(size=900), RNG.normal(size=900)]), condition=c)
    low, high = (model.sample(1500, condition=value, seed=0)[:, 0].mean() for value in (-1.0, 1.0))
    assert high - low == pytest.approx(6, abs=2)


def test_atoms_and_bounds_are_found_in_the_data():
    gamma = torch.from_numpy(RNG.gamma(2.0, size=400))
    assert real_domain(gamma) == Domain("real", 0.0, math.inf)
    assert real_domain(gamma - 1) == Domain("real")
    assert real_domain(gamma + 30) == Domain("real")
    assert real_domain(torch.cat([gamma, torch.zeros(40), torch.full((9,), math.nan)]).double()).atoms == (0.0,)
    assert real_domain(torch.tensor([0.0, 0.5, 1.0] * 20).double()) == Domain("real", 0.0, 1.0, (0.0, 0.5, 1.0))
    assert not real_domain((gamma * 50).round() / 50).atoms  # rounded
    assert real_domain(gamma[:10]) == Domain("real")  # too few rows to tell


def test_settings_are_chosen_by_density_of_rows_not_trained_on():
    cluster = np.arange(320) % 8
    structured = pf.Circuit(n_trees=1, random_state=0).fit(np.column_stack([cluster, cluster % 4 + 0.1 * RNG.random(320)]))
    noise = pf.Circuit(n_trees=1, random_state=0).fit(RNG.normal(size=(200, 2)))
    assert structured.n_states_ >= 4 > noise.n_states_
    assert noise.shrinkage_ == 30


def test_max_time_limits_the_trees():
    begin = time.perf_counter()
    model = pf.Circuit(n_states=4, shrinkage=1.0, n_trees=10_000, max_time=1.0, random_state=0).fit(X)
    assert 1 <= model.n_trees_ < 10_000
    assert len(model.law_.trees) == model.n_trees_ == model.training_result_.steps
    assert time.perf_counter() - begin < 10


def test_progress_is_shown(capsys):
    pf.Circuit(**SMALL, verbose=True).fit(X)
    assert "step 2 of 2" in capsys.readouterr().out


def test_files_with_parts_that_do_not_fit_are_refused(model):
    facts, tensors = storage.state(model.law_)
    again = storage.restored(facts, tensors)
    rows = torch.from_numpy(np.column_stack([X, LABELS])[:20])
    assert torch.equal(again.log_prob(rows), model.law_.log_prob(rows))
    for change in ({"points": [1] * 4}, {"parents": [[-1, 0, 1, 2]]}, {"types": ["category"] * 4}, {"gaps": [True] * 4}):
        with pytest.raises(ValueError, match=r"\w"):
            storage.restored(facts | change, tensors)
    fewer = pf.Circuit(**SMALL).fit(X)
    with pytest.raises(ValueError, match=r"4 columns, but rows and conditions have 3"):
        fewer._restore(facts, tensors, {})
