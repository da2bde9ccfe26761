"""Sets of points of different sizes through the verbs of a model: density, samples, imputation, codes, refusals."""

import numpy as np
import pytest
import torch
from scipy import stats

import pushforward as pf
from pushforward.data.points import PointSets
from pushforward.diffusion import AbstractDenoiser
from pushforward.models import MODELS

SETTINGS = pf.TrainingSettings(steps=6, batch_size=16, learning_rate=1e-3)
SMALL = {"network": pf.SetSpec(width=8, depth=1, heads=2, states=2), "training": SETTINGS, "random_state": 0, "device": "cpu"}
MEAN, STD = np.array([1.0, -2.0]), np.array([0.5, 2.0])


def ragged(n, seed=0):
    numbers = np.random.default_rng(seed)
    return [MEAN + STD * numbers.normal(size=(size, 2)) for size in numbers.integers(1, 6, n)]


X = ragged(50)
LABELS = np.array(["large" if len(points) > 3 else "small" for points in X])


class IndependentPoints(AbstractDenoiser):
    """E[x | x_t] of points with independent coordinates N(mean, std^2); NaN stays NaN."""

    def __init__(self, schedule, mean, std):
        super().__init__()
        self.schedule, self.mean, self.std = schedule, mean, std
        self.unused = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t).to(x_t), self.schedule.sigma(t).to(x_t)
        gain = alpha * self.std**2 / ((alpha * self.std) ** 2 + sigma**2)
        return (self.mean + gain * (x_t - alpha * self.mean)).to(x_t.dtype)


@pytest.fixture(scope="module")
def model():
    return pf.FlowMatching(kind="sets", **SMALL).fit(X, condition=LABELS)


@pytest.fixture
def exact(model):
    """The model with the exact denoiser of its data's law in place of the trained one."""
    transform, trained = model.space_.transform, model.denoiser_
    mean = (torch.from_numpy(MEAN) - transform.shift[0]) / transform.scale[0]
    model.denoiser_ = IndependentPoints(model.schedule_, mean, torch.from_numpy(STD) / transform.scale[0])
    yield model
    model.denoiser_ = trained


def test_the_density_is_that_of_the_ordered_array_given_its_size(exact):
    rows = ragged(6, seed=1)
    wanted = [stats.norm(MEAN, STD).logpdf(points).sum() for points in rows]
    result = exact.log_prob(rows, steps=8)
    assert result.kind == "exact"
    np.testing.assert_allclose(result.values, wanted, atol=2e-4)
    with pytest.raises(ValueError, match="rows of different sizes have no common number of dimensions"):
        result.in_bits_per_dim()


def test_the_density_is_equal_in_every_order(model):
    with torch.no_grad():
        for parameter in model.denoiser_.parameters():
            parameter.add_(0.1)
    rows = [points for points in X if len(points) == 5][:2]
    turned = [points[[3, 1, 4, 0, 2]] for points in rows]
    first, second = (model.log_prob(part, steps=4).values for part in (rows, turned))
    np.testing.assert_allclose(first, second, atol=1e-4)


def test_sizes_are_those_of_training_or_as_asked(model):
    drawn = model.sample(40, condition=["large", "small"] * 20, steps=3, seed=0)
    assert isinstance(drawn, PointSets)
    assert set(drawn[::2].sizes) <= {4, 5}
    assert set(drawn[1::2].sizes) <= {1, 2, 3}
    asked = model.sample(3, size=[2, 9, 1], condition="small", steps=3, seed=0)
    assert asked.sizes.tolist() == [2, 9, 1]
    alone = model.sample(1, size=9, condition="small", steps=3, seed=0, first=1)
    np.testing.assert_allclose(alone[0], asked[1], atol=1e-5)
    with pytest.raises(ValueError, match="size must be from 1"):
        model.sample(2, size=0)


def test_codes_lead_back(model):
    rows, labels = X[:4], LABELS[:4]
    codes = model.transform(rows, condition=labels, rtol=1e-3)
    assert [code.shape for code in codes] == [points.shape for points in rows]
    for got, wanted in zip(model.inverse_transform(codes, condition=labels, rtol=1e-3), rows, strict=True):
        np.testing.assert_allclose(got, wanted, atol=0.05)


def test_missing_points_and_coordinates_are_filled(exact):
    rows = [points.copy() for points in ragged(300, seed=2) if len(points) > 2]
    for points in rows:
        points[0], points[1, 1] = np.nan, np.nan
    filled = exact.impute(rows, steps=10, seed=0)
    assert [points.shape for points in filled] == [points.shape for points in rows]
    for got, known in zip(filled, rows, strict=True):
        np.testing.assert_array_equal(got[~np.isnan(known)], known[~np.isnan(known)])
    drawn = np.stack([points[0] for points in filled])
    np.testing.assert_allclose(drawn.mean(0), MEAN, atol=5 * STD.max() / len(drawn) ** 0.5)
    np.testing.assert_allclose(drawn.std(0), STD, rtol=0.2)


def test_a_saved_model_is_the_same(model, tmp_path):
    model.save(tmp_path / "model")
    loaded = pf.load(tmp_path / "model")
    for got, wanted in zip(loaded.sample(3, steps=3, seed=1), model.sample(3, steps=3, seed=1), strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_families_that_see_an_order_refuse():
    for cls in MODELS.values():
        if not cls.takes_points:
            with pytest.raises(ValueError, match=r"does not learn sets.*does: Diffusion\(\), FlowMatching\(\)"):
                cls(kind="sets").fit(X)


@pytest.mark.parametrize("argument", [{"coupling": "optimal-transport"}, {"source": np.zeros((50, 5, 2))}])
def test_other_starts_than_gaussian_noise_are_refused(argument):
    with pytest.raises(ValueError, match="sets of points start from independent Gaussian noise"):
        pf.FlowMatching(kind="sets", **SMALL, **argument).fit(X)


def test_what_sets_cannot_have_is_refused(model):
    with pytest.raises(ValueError, match="needs sets of one size"):
        pf.Diffusion(kind="sets", loss="sliced", **SMALL).fit(X)
    with pytest.raises(ValueError, match="there is no classifier of sets of points"):
        model.fit_classifier(X, LABELS)
    assert not hasattr(model, "bound")
    with pytest.raises(ValueError, match="trained on sets of 5 points in 2 coordinates"):
        model.log_prob([np.zeros((9, 2)), np.zeros((3, 2))])
    with pytest.raises(ValueError, match="contains 1 NaN"):
        model.log_prob([np.array([[np.nan, 1.0]]), np.zeros((3, 2))])


def test_evaluation_compares_sets(model, tmp_path, monkeypatch):
    monkeypatch.setattr(type(model.space_.kind), "solver_steps", 2)  # the density is tested above
    evaluation = pf.evaluate(model, ragged(20, seed=3), X_train=X, condition=LABELS[:20], train_condition=LABELS)
    assert not evaluation.failures
    for space in ("Chamfer", "matching"):
        assert evaluation.find("1-NN accuracy", space=space).floor is not None
        assert evaluation.find("coverage", space=space) is not None
    assert evaluation.find("log-density") is not None
    assert evaluation.find("C2ST") is None
    assert evaluation.report(tmp_path / "report.html").stat().st_size > 10_000
