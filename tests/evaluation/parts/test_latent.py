"""Latent figures of maps that are known by heart, and of a model of each kind."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA

import pushforward as pf
from pushforward.data import Schema
from pushforward.evaluation.parts.latent import latent_figures


class Known:
    """A model by two functions, whose codes have a standard normal law or none."""

    def __init__(self, encode, decode, *, shape=(4,), has_law=True, kind="vectors"):
        self.encode, self.decode, self.generates = encode, decode, has_law
        self.space_ = SimpleNamespace(schema=Schema(kind, "numpy", shape, ("float64",), None), conditions=None)
        self.told = []

    def transform(self, X, *, condition=None):
        self.told.append(condition)
        return self.encode(X)

    def inverse_transform(self, Z, *, condition=None):
        self.told.append(condition)
        return self.decode(Z)


def same(x):
    return x


def test_what_the_reconstruction_loses_is_what_scikit_learns_components_lose():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 6)) @ rng.normal(size=(6, 6)) * [1, 1, 100, 1, 1, 1] + 3
    pca = PCA(2).fit(X)
    found = latent_figures(Known(pca.transform, pca.inverse_transform, shape=(6,)), X)
    back = pca.inverse_transform(pca.transform(X))
    assert found.reconstruction.value == pytest.approx(np.sqrt(((X - back) ** 2).mean()))
    assert found.lost.value == pytest.approx((((X - back) ** 2).mean(0) / X.var(0)).mean())
    np.testing.assert_allclose(found.reconstructed, back)
    np.testing.assert_allclose(found.codes, pca.transform(X))
    error = ((X - back) ** 2).mean(1)
    half = 1.959964 * error.std(ddof=1) / math.sqrt(300)
    assert found.reconstruction.low == pytest.approx(math.sqrt(error.mean() - half))
    assert found.reconstruction.high == pytest.approx(math.sqrt(error.mean() + half))


def test_pixels_share_one_unit():
    rng = np.random.default_rng(1)
    X = rng.normal(size=(50, 2, 2)) * [[1, 1], [1, 10]]
    found = latent_figures(Known(same, lambda z: z * [[1, 1], [1, 0]], shape=(2, 2), kind="images"), X)
    spread = X.reshape(50, 4).var(0).sum()
    assert found.lost.value == pytest.approx((X[:, 1, 1] ** 2).mean() / spread)


def test_the_interval_of_what_is_lost_holds_the_truth_nineteen_times_of_twenty():
    """Of two columns alike, one is halved: 1/8 of the variance is lost."""
    held = 0
    for seed in range(200):
        X = np.random.default_rng(seed).normal(size=(100, 2))
        found = latent_figures(Known(same, lambda z: z * [1, 0.5], shape=(2,)), X, pairs=2, steps=2)
        held += found.lost.low < 1 / 8 < found.lost.high
    assert held >= 0.9 * 200


def test_active_dimensions_are_those_above_a_hundredth_of_the_prior_or_of_the_largest():
    X = np.random.default_rng(2).normal(size=(400, 4)) * [1.0, 0.5, 0.05, 0.0] * 0.3
    with_law = latent_figures(Known(same, same), X)
    without = latent_figures(Known(same, same, has_law=False), X * 1e-3)
    assert (with_law.active.value, with_law.active.low, with_law.active.high) == (2, 2, 2)
    assert without.active.value == 2
    assert latent_figures(Known(same, same), X * 1e-3).active.value == 0
    edge = latent_figures(Known(same, same), np.random.default_rng(3).normal(size=(50, 4)) * [1, 1, 0.1, 0.1])
    assert edge.active.low < edge.active.high


@pytest.mark.parametrize("stds", [(1.0, 1.0, 1.0, 1.0), (3.0, 1.0, 1.0, 0.1)], ids=["round", "long"])
def test_the_effective_dimensions_are_those_of_the_covariance(stds):
    variance = np.array(stds) ** 2
    truth = variance.sum() ** 2 / (variance**2).sum()
    found = [
        latent_figures(Known(same, same), np.random.default_rng(s).normal(size=(80, 4)) * stds, pairs=2, steps=2).effective
        for s in range(100)
    ]
    assert np.mean([one.low <= truth <= one.high for one in found]) >= 0.88
    assert np.mean([one.value for one in found]) == pytest.approx(truth, rel=0.03)


def test_the_interval_of_the_effective_dimensions_is_that_of_leaving_each_row_out():
    X = np.random.default_rng(12).normal(size=(25, 4)) * [2, 1, 1, 0.3]
    found = latent_figures(Known(same, same), X).effective
    z = X - X.mean(0)

    def of(rows):
        products = rows @ rows.T
        apart = products[~np.eye(len(rows), dtype=bool)]
        trace = np.trace(products)
        return (trace / len(rows)) ** 2 / ((apart**2).mean() - (trace / apart.size) ** 2)

    assert found.value == pytest.approx(of(z))
    half = 1.959964 * math.sqrt(24 * np.var([of(np.delete(z, i, axis=0)) for i in range(25)]))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))


def test_few_rows_of_many_dimensions_do_not_make_these_few():
    X = np.random.default_rng(4).normal(size=(60, 400))
    found = latent_figures(Known(same, same, shape=(400,)), X, pairs=2, steps=2).effective
    assert found.value == pytest.approx(400, rel=0.1)
    assert latent_figures(Known(lambda x: x * 0, same, shape=(400,)), X, pairs=2, steps=2).effective.value == 0


def test_a_linear_map_makes_straight_paths_of_straight_ones_and_arcs_of_arcs():
    X = np.random.default_rng(5).normal(size=(40, 4))
    straight = latent_figures(Known(same, lambda z: 2 * z + 1, has_law=False), X)
    assert (straight.path_length.value, straight.largest_step.value) == (pytest.approx(1), pytest.approx(1))
    square = np.concatenate([np.tile([3.0, 0, 0, 0], (20, 1)), np.tile([0, 3.0, 0, 0], (20, 1))])
    arc = latent_figures(Known(same, same), square, pairs=20, steps=6)
    assert arc.path_length.value == pytest.approx(6 * 2 * math.sin(math.pi / 24) / math.sqrt(2))
    assert arc.largest_step.value == pytest.approx(1)
    assert arc.path_length.n == 20


def test_a_decoder_that_jumps_has_one_step():
    X = np.where(np.arange(20)[:, None] < 10, -1.0, 1.1) * np.ones(4)
    found = latent_figures(Known(same, np.sign, has_law=False), X, pairs=10, steps=7)
    assert found.largest_step.value == pytest.approx(7)
    assert found.path_length.value == pytest.approx(1)


def test_paths_are_seen_in_the_given_features_of_rows_in_the_librarys_layout():
    seen = []

    def features(x):
        seen.append(x.shape)
        return x.reshape(len(x), -1)[:, :1] ** 2

    X = np.linspace(-1, 2, 20).reshape(20, 1, 1) * np.ones((1, 2, 2))
    found = latent_figures(
        Known(same, same, shape=(2, 2), kind="images", has_law=False), X, pairs=10, steps=50, features=features
    )
    assert set(seen) == {(10, 1, 2, 2)}
    start, end = X[:10, 0, 0], X[10:, 0, 0]
    detour = np.where(start < 0, start**2 + end**2, np.abs(end**2 - start**2)) / np.abs(end**2 - start**2)
    assert found.path_length.value == pytest.approx(detour.mean(), rel=1e-2)


def test_a_path_keeps_the_condition_of_its_first_row():
    X = np.random.default_rng(6).normal(size=(20, 4))
    model = Known(same, same)
    latent_figures(model, X, condition=list(range(20)), pairs=3, steps=2)
    assert model.told == [list(range(20))] * 2 + [[0, 1, 2]] * 3
    model.told.clear()
    latent_figures(model, X, condition="cat", pairs=3, steps=2)
    assert set(model.told) == {"cat"}


def test_a_decoder_of_one_row_has_no_paths():
    X = np.random.default_rng(7).normal(size=(20, 4))
    found = latent_figures(Known(same, lambda z: np.tile(X.mean(0), (len(z), 1))), X)
    assert (found.path_length, found.largest_step) == (None, None)
    assert found.lost.value == pytest.approx(1)


def test_an_invertible_model_loses_nothing_and_a_gan_has_paths_alone():
    rows = stats.multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).rvs(200, random_state=0)
    flow = latent_figures(pf.NormalizingFlow(train_steps=3, random_state=0).fit(rows), rows[:50])
    assert flow.reconstruction.high < 1e-4
    assert flow.dims == 2
    gan = latent_figures(pf.GAN(latent_dim=3, train_steps=3, random_state=0).fit(rows), rows[:50])
    assert (gan.reconstruction, gan.lost, gan.active, gan.effective, gan.reconstructed) == (None,) * 5
    assert gan.codes.shape == (50, 3)
    assert gan.path_length.value >= 1
    assert abs(gan.codes.std() - 1) < 0.2


def test_tensors_of_images_go_through_a_model_with_conditions():
    rows = torch.as_tensor(np.asarray(pf.open_data("digits").values[:100]))
    labels = np.arange(100) % 10
    model = pf.VAE(latent_dim=3, train_steps=5, random_state=0).fit(rows, condition=labels)
    found = latent_figures(model, rows[:30], condition=labels[:30], pairs=5, steps=3)
    assert found.dims == 3
    assert found.path_length.n == 5
    assert found.lost.value > 0


def test_codes_that_are_rows_of_a_source_are_joined_by_straight_lines():
    rng = np.random.default_rng(8)
    model = pf.FlowMatching(source=rng.normal(size=(100, 2)) + 50, train_steps=3, random_state=0).fit(rng.normal(size=(100, 2)))
    met = []
    decode = model.inverse_transform

    def inverse_transform(Z, *, condition=None, rtol=1e-5):
        met.append((np.asarray(Z), rtol))
        return decode(Z, condition=condition, rtol=rtol)

    model.inverse_transform = inverse_transform
    latent_figures(model, rng.normal(size=(10, 2)), pairs=2, steps=2)
    codes, middle = met[0][0], met[2][0]
    np.testing.assert_allclose(middle, (codes[:2] + codes[2:4]) / 2, rtol=1e-6)
    assert {rtol for _, rtol in met} == {1e-3}


@pytest.mark.parametrize(("coder", "straight"), [(pf.Autoencoder, True), (pf.VAE, False)], ids=["autoencoder", "vae"])
def test_a_latent_model_has_a_law_of_its_codes_if_its_coder_has(coder, straight):
    rows = np.random.default_rng(13).normal(size=(60, 4))
    parts = coder(latent_dim=2, train_steps=2, random_state=0), pf.GMM(n_components=1)
    model, met = pf.Latent(*parts, random_state=0).fit(rows), []
    decode = model.inverse_transform

    def inverse_transform(Z, *, condition=None):
        met.append(np.asarray(Z))
        return decode(Z, condition=condition)

    model.inverse_transform = inverse_transform
    latent_figures(model, rows[:10], pairs=2, steps=2)
    middle = met[0][:2] + met[0][2:4]
    np.testing.assert_allclose(met[2], middle / 2 if straight else middle / math.sqrt(2), rtol=1e-5)


def test_wrong_calls_are_refused():
    with pytest.raises(TypeError, match="object has no inverse_transform, so no latent space"):
        latent_figures(object(), np.zeros((20, 4)))
    with pytest.raises(ValueError, match="X must be at least 10 rows"):
        latent_figures(Known(same, same), np.zeros((9, 4)))
    with pytest.raises(ValueError, match="pairs and steps must be at least 2, but are 1 and 8"):
        latent_figures(Known(same, same), np.zeros((20, 4)), pairs=1)
