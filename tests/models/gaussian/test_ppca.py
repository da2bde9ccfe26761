"""PPCA against scikit-learn's PCA of standardized columns, the exact conditional laws, and filling by the mean."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

import pushforward as pf
from pushforward.probability import Gaussian


def _data(n=400, dim=8, q=3):
    rng = np.random.default_rng(0)
    return 10 + rng.normal(size=(n, q)) @ rng.normal(size=(q, dim)) * 2 + 0.3 * rng.normal(size=(n, dim))


@pytest.mark.parametrize("q", [1, 3, 8])
def test_density_is_that_of_scikit_learn(q):
    X = _data()
    model = pf.PPCA(n_components=q, held_out=0).fit(X)
    scale = X.std(0)
    wanted = PCA(q).fit(X / scale).score_samples(X / scale) - np.log(scale).sum()
    np.testing.assert_allclose(model.score_samples(X), wanted, atol=1e-8)
    assert model.log_prob(X).kind == "exact"
    assert model.score(X) == pytest.approx(wanted.mean(), abs=1e-8)


def test_latents_are_those_of_scikit_learn_shrunk():
    X = _data()
    scale = X.std(0)
    model, peer = pf.PPCA(n_components=3, held_out=0).fit(X), PCA(3).fit(X / scale)
    s2 = float(peer.noise_variance_)
    np.testing.assert_allclose(model.latent_.noise_variance, s2 * scale**2)
    shrunk = peer.transform(X / scale) * np.sqrt(peer.explained_variance_ - s2) / peer.explained_variance_
    z = model.transform(X)
    np.testing.assert_allclose(np.abs(z), np.abs(shrunk), atol=1e-8)
    wanted = (model.latent_.coefficients[0] + torch.from_numpy(z) @ model.latent_.loadings.mT).numpy()
    np.testing.assert_allclose(model.inverse_transform(z), wanted)


UNITS = [[1e8, 1.0, 1e-6, 3600.0], [1.0, 1e-9, 1e9, 2.0], [0.01, 1.0, 1.0, 1e12]]


@pytest.mark.parametrize("units", UNITS)
@pytest.mark.parametrize("case", ["closed form", "gaps", "numbers"])
def test_the_law_of_columns_in_other_units_is_the_law_in_these_units(units, case):
    X, u = _data(dim=4, q=2), np.array(units)
    options = {"condition": X[:, :1] ** 2} if case == "numbers" else {}
    if case == "gaps":
        X = np.where(np.random.default_rng(1).random(X.shape) < 0.2, np.nan, X)
    model = pf.PPCA(held_out=0, random_state=0, tolerance=1e-10).fit(X, **options)
    other = pf.PPCA(held_out=0, random_state=0, tolerance=1e-10).fit(X * u, **options)
    assert other.n_components_ == model.n_components_
    np.testing.assert_allclose(other.law_.mean.numpy() / u, model.law_.mean, rtol=1e-6)
    np.testing.assert_allclose(other.law_.cov.numpy() / np.outer(u, u), model.law_.cov, rtol=1e-5, atol=1e-8)
    log_units = np.where(np.isnan(X), 0.0, np.log(u)).sum(1)
    np.testing.assert_allclose(other.score_samples(X * u, **options), model.score_samples(X, **options) - log_units, atol=1e-5)
    np.testing.assert_allclose(other.sample(5, seed=0) / u, model.sample(5, seed=0), rtol=1e-5)
    filled = [m.impute(np.array([[np.nan, 10, np.nan, 9]]) * scale, seed=0) / scale for m, scale in ((model, 1), (other, u))]
    np.testing.assert_allclose(filled[1], filled[0], rtol=1e-5)
    np.testing.assert_allclose(np.abs(other.transform(X * u)), np.abs(model.transform(X)), atol=1e-5)


def test_a_mixture_in_other_units_is_the_mixture_in_these_units():
    X, u = _data(dim=4, q=2), np.array(UNITS[0])
    model, other = (pf.GMM(n_components=2, restarts=1, held_out=0, random_state=0).fit(X * scale) for scale in (1.0, u))
    np.testing.assert_allclose(other.score_samples(X * u), model.score_samples(X) - np.log(u).sum(), atol=1e-4)


def test_small_columns_beside_large_ones_keep_their_spread():
    rng = np.random.default_rng(0)
    X = np.column_stack([1e8 * rng.normal(size=2000), rng.normal(size=2000)])
    time = np.column_stack([1.7e12 + 8.6e10 * rng.random(2000), 20 + 3.3 * rng.normal(size=2000)])
    for data in (X, time):
        np.testing.assert_allclose(pf.PPCA(random_state=0).fit(data).sample(4000, seed=0).std(0), data.std(0), rtol=0.05)


@pytest.mark.parametrize(("family", "dtype"), [(pf.PPCA, bool), (pf.GMM, int)])
def test_two_values_have_their_shares_and_their_probabilities(family, dtype):
    rng = np.random.default_rng(0)
    flags = rng.random((4000, 3)) < [0.02, 0.5, 0.97]
    flags[:, 2] |= flags[:, 1]
    X = flags.astype(dtype)
    options = {"n_components": 1} if family is pf.GMM else {}
    model = family(held_out=0, random_state=0, **options).fit(X)
    drawn = np.asarray(model.sample(20_000, seed=0))
    assert drawn.dtype == X.dtype
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.005)
    # The columns are almost independent, so the bound is almost the sum of their logarithms.
    every = np.array(np.meshgrid([0, 1], [0, 1], [0, 1])).reshape(3, -1).T.astype(dtype)
    values = model.log_prob(every, draws=60).values
    assert np.exp(values).sum() < 1.001
    rare = model.log_prob(np.array([[1, 0, 1]]).astype(dtype), draws=600).values[0]
    p = X.mean(0)
    assert rare == pytest.approx(np.log(p[0] * (1 - p[1]) * p[2]), abs=0.15)
    filled = np.asarray(model.impute(np.tile(X[:1], (500, 1)), mask=np.tile([[True, True, False]], (500, 1)), seed=0))
    assert (filled[:, :2] == X[0, :2]).all()
    known = np.asarray(model.posterior([[1.0, 0, 0], [0, 0, 1.0]], [1.0, 0.0], 0.0, n=200, seed=0))
    assert (known[:, 0] == 1).all()
    assert (known[:, 2] == 0).all()


def test_em_reaches_the_closed_form():
    X = _data()
    closed = pf.PPCA(n_components=3, held_out=0).fit(X)
    model = pf.PPCA(n_components=3, held_out=0, method="em", tolerance=1e-13, random_state=0).fit(X)
    np.testing.assert_allclose(model.score_samples(X), closed.score_samples(X), atol=1e-6)
    np.testing.assert_allclose(model.law_.cov, closed.law_.cov, atol=1e-6)
    assert closed.training_result_.steps == 0 < model.training_result_.steps


def test_gaps_are_learned_from_and_filled_better_than_by_the_mean():
    X = _data()
    rng = np.random.default_rng(1)
    hidden = rng.random(X.shape) < 0.3
    seen = np.where(hidden, np.nan, X)
    model = pf.PPCA(held_out=0, random_state=0).fit(seen)
    assert model.method_ == "em"
    assert model.n_components_ in (3, 4)  # noise that is equal in these units is not in standard deviations
    draws = np.mean(model.impute(seen, n=20, seed=0), axis=0)
    error = np.sqrt(((draws - X)[hidden] ** 2).mean())
    by_mean = np.sqrt(((np.nanmean(seen, 0) - X)[:, :] ** 2)[hidden].mean())
    assert error < 0.5 * by_mean
    np.testing.assert_array_equal(model.impute(seen, seed=1)[~hidden], X[~hidden])


def test_one_filling_has_the_exact_conditional_law():
    X = _data(dim=4)
    model = pf.PPCA(n_components=2, held_out=0).fit(X)
    row = np.array([[9.0, np.nan, 11.0, np.nan]])
    filled = np.array(model.impute(np.repeat(row, 4000, 0), seed=3))
    law = model.law_.condition([0, 2], [9.0, 11.0])
    assert np.abs(filled[:, [1, 3]].mean(0) - law.mean.numpy()).max() < 5 * float(law.covariance.max() / 4000) ** 0.5
    np.testing.assert_allclose(np.cov(filled[:, [1, 3]].T), law.covariance, atol=0.1 * float(law.covariance.max()))


def test_rows_with_gaps_have_the_density_of_what_is_seen():
    X = _data(dim=4)
    model = pf.PPCA(n_components=2, held_out=0).fit(X)
    row = np.array([[9.0, np.nan, 11.0, np.nan]])
    wanted = model.law_.marginal([0, 2]).log_prob(torch.tensor([9.0, 11.0], dtype=torch.float64)).item()
    assert model.score_samples(row)[0] == pytest.approx(wanted, abs=1e-10)
    z = model.transform(np.array([[np.nan] * 4]))
    np.testing.assert_allclose(z, 0.0, atol=1e-12)


def test_labels_move_the_mean():
    X = _data()
    label = np.array(["a", "b"] * 200)
    X = X + np.where(label == "a", 0.0, 5.0)[:, None]
    model = pf.PPCA(n_components=3, held_out=0).fit(X, condition=label)
    residual = np.concatenate([X[label == name] - X[label == name].mean(0) for name in "ab"])
    scale = X.std(0)
    cov = PCA(3).fit(residual / scale).get_covariance() * np.outer(scale, scale) * (len(X) - 1) / (len(X) - 2)
    for name in "ab":
        wanted = Gaussian(X[label == name].mean(0), cov).log_prob(torch.from_numpy(X))
        np.testing.assert_allclose(model.score_samples(X, condition=name), wanted, atol=1e-7)
    both = [model.score_samples(X, condition=name) for name in "ab"]
    np.testing.assert_allclose(model.score_samples(X), np.logaddexp(*both) - math.log(2), atol=1e-9)
    mean = np.asarray(model.sample(2000, condition="b", seed=0)).mean(0)
    np.testing.assert_allclose(mean, X[label == "b"].mean(0), atol=0.5)
    z = model.transform(X, condition=label)
    assert np.abs(np.corrcoef(z[:, 0], label == "b")[0, 1]) < 0.1
    inside = model.score_samples(X, condition="b") - both[0] > 20  # where the label is beyond doubt
    np.testing.assert_allclose(model.transform(X)[inside], model.transform(X, condition="b")[inside], atol=1e-6)
    np.testing.assert_allclose(model.inverse_transform(np.zeros((1, 3)))[0], X.mean(0), atol=1e-9)


def test_numbers_move_the_mean_linearly():
    rng = np.random.default_rng(2)
    c = rng.normal(size=(400, 2)) * [1.0, 30.0]
    X = _data(dim=4) + c @ np.array([[1.0, 0, 2, 0], [0, 0.1, 0, 0.2]])
    model = pf.PPCA(n_components=2, held_out=0).fit(X, condition=c)
    design = np.column_stack([np.ones(400), c])
    coefficients = np.linalg.lstsq(design, X, rcond=None)[0]
    scale = X.std(0)
    cov = PCA(2).fit((X - design @ coefficients) / scale).get_covariance() * np.outer(scale, scale) * 399 / 397
    wanted = [
        Gaussian(mean, cov).log_prob(torch.from_numpy(x)).item() for mean, x in zip(design @ coefficients, X, strict=True)
    ]
    np.testing.assert_allclose(model.score_samples(X, condition=c), wanted, atol=1e-4)
    marginal = Gaussian(X.mean(0), np.cov(X.T, bias=True))
    assert model.score(X) == pytest.approx(marginal.log_prob(torch.from_numpy(X)).mean().item(), abs=0.1)
    rows = np.asarray(model.sample(3000, condition=[1.0, 30.0], seed=0))
    np.testing.assert_allclose(rows.mean(0), np.array([1, 1.0, 30.0]) @ coefficients, atol=0.4)
    assert np.isfinite(model.transform(X)).all()


def test_posterior_is_that_of_the_law():
    X = _data(dim=4)
    model = pf.PPCA(n_components=2, held_out=0).fit(X)
    A, y = np.array([[1.0, 1.0, 0, 0], [0, 0, 1.0, -1.0]]), np.array([18.0, 1.0])
    law = model.law_.observe(A, y, [0.5, 1.0])
    rows = np.asarray(model.posterior(A, y, [0.5, 1.0], n=4000, seed=0))
    np.testing.assert_allclose(rows.mean(0), law.mean, atol=5 * float(law.covariance.max() / 4000) ** 0.5)
    np.testing.assert_allclose(np.cov(rows.T), law.covariance, atol=0.1 * float(law.covariance.max()))
    exact = np.asarray(model.posterior(A, y, 0.0, n=5, seed=0))
    np.testing.assert_allclose(exact @ A.T, np.tile(y, (5, 1)), atol=1e-9)
    np.testing.assert_array_equal(np.asarray(model.posterior(A, y, 0.0, n=3, seed=0, first=2)), exact[2:])


def test_integers_are_learned_as_intervals():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 5, (4000, 2))
    model = pf.PPCA(n_components=1, held_out=0, random_state=0).fit(X)
    np.testing.assert_allclose(model.law_.mean, [2.5, 2.5], atol=0.1)
    np.testing.assert_allclose(model.law_.covariance.diagonal(), 2 + 1 / 12, atol=0.15)
    result = model.log_prob(X[:5])
    assert result.kind == "lower bound"
    filled = model.impute(np.array([[3, 0]] * 50), mask=np.array([[True, False]] * 50), seed=0)
    assert filled.dtype == X.dtype
    assert set(filled[:, 0]) == {3}
    assert set(filled[:, 1]) <= set(range(5))
    assert len(set(filled[:, 1])) > 2


def test_posterior_of_integers_reads_the_integer_and_knows_the_constants():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 9, 3000)
    X = np.column_stack([first, np.full(3000, 4), first + rng.integers(0, 2, 3000)])
    model = pf.PPCA(n_components=2, held_out=0, random_state=0).fit(X)
    rows = model.posterior([[1.0, 1.0, 0.0]], [9.0], 0.0, n=2000, seed=0)
    assert set(rows[:, 0]) == {5}
    assert set(rows[:, 1]) == {4}
    assert rows[:, 2].mean() == pytest.approx(5.5, abs=0.1)


def test_images_leave_constant_pixels_out_and_are_filled():
    model = pf.PPCA(random_state=0).fit("digits", condition=False)
    digits = pf.open_data("digits").values
    assert model.law_.dim == model.log_prob(digits[:3]).dims == 64 - model.space_.transform.constants < 64
    covered = np.ones((8, 8), dtype=bool)
    covered[4:] = False
    filled = model.impute(digits[:4], mask=np.broadcast_to(covered, (4, 8, 8)), seed=0)
    np.testing.assert_array_equal(filled[:, :4], digits[:4, :4])
    assert model.transform(digits[:5]).shape == (5, model.n_components_)


def test_tables_with_gaps_keep_their_names():
    X = pd.DataFrame(_data(dim=3), columns=["a", "b", "c"])
    X.loc[::5, "b"] = np.nan
    model = pf.PPCA(n_components=1, random_state=0).fit(X)
    filled = model.impute(X, seed=0)
    assert list(filled.columns) == ["a", "b", "c"]
    assert not filled.isna().any().any()


def test_errors_say_what_to_do():
    X = _data(dim=3)
    with pytest.raises(ValueError, match=r"n_components=4 is more than the 3 elements .* set n_components=3 or less"):
        pf.PPCA(n_components=4).fit(X)
    gaps = X.copy()
    gaps[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"has 1 gaps, but the closed form needs complete rows; omit method"):
        pf.PPCA(method="closed-form", held_out=0).fit(gaps)
    gaps[:, 1] = np.nan
    with pytest.raises(ValueError, match=r"column 1 is missing in every training row"):
        pf.PPCA().fit(gaps)
    with pytest.raises(ValueError, match=r"X contains 400 NaN"):
        pf.FlowMatching(train_steps=1).fit(gaps)
    infinite = X.copy()
    infinite[0, 0] = np.inf
    with pytest.raises(ValueError, match=r"contains 1 infinities"):
        pf.PPCA().fit(infinite)
