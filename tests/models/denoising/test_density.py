"""Densities of models in data units, against laws that are known there; which model has which verb; errors."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import pushforward as pf
from pushforward.diffusion import ExactDenoiser, LogProb
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 3, "random_state": 0, "device": "cpu"}
LAW = GaussianMixture([0.3, 0.7], [[4.0, -20.0], [8.0, 20.0]], [[0.5, 40.0], [1.0, 90.0]])
DATA = LAW.sample(400, seed=0).numpy()


def with_oracle(model, law):
    """Put the exact denoiser of ``law``, which is in data units, in the place of the network."""
    transform = model.space_.transform
    kept = ~transform.constant
    A = torch.diag(1 / transform.scale[kept])
    model.denoiser_ = ExactDenoiser(law.affine(A, -transform.shift[kept] / transform.scale[kept]), model.schedule_)
    return model


@pytest.fixture(scope="module")
def oracle():
    return with_oracle(pf.FlowMatching(**TINY).fit(DATA), LAW)


@pytest.fixture(scope="module")
def trained():
    """A network as it comes out of a short training."""
    return pf.FlowMatching(**(TINY | {"train_steps": 60})).fit(DATA)


def test_values_are_in_the_units_of_the_data(oracle):
    x = LAW.sample(30, seed=1)
    result = oracle.log_prob(x.numpy(), steps=64)
    expected = LAW.log_prob(x).numpy()
    np.testing.assert_allclose(result.values, expected, atol=2e-4)
    assert isinstance(result, LogProb)
    assert (result.kind, result.dims, result.constants, result.unit) == ("exact", 2, 0, "nats")
    np.testing.assert_allclose(oracle.score_samples(x.numpy()), expected, atol=2e-3)
    assert oracle.score(x.numpy(), y=np.zeros(30)) == pytest.approx(expected.mean(), abs=1e-3)
    bits, nats = (oracle.log_prob(x.numpy(), steps=4, bits_per_dim=unit) for unit in (True, False))
    np.testing.assert_allclose(bits.values, -nats.values / (2 * math.log(2)))
    assert bits.unit == "bits per dimension"


def test_the_bound_lies_above_in_the_units_of_the_data(oracle):
    x = LAW.sample(300, seed=1)
    bound = oracle.bound(x.numpy(), steps=200)
    error = math.sqrt((bound.standard_error**2).sum()) / len(x)
    gap = LAW.log_prob(x).mean().item() - bound.values.mean()
    assert -4 * error < gap < 0.1 + 4 * error
    assert bound.terms.shape == (300, 200)
    power = oracle.bound(x.numpy()[:2], steps=5, grid=pf.diffusion.PowerGrid(2.0), variance="beta-tilde", draws=1)
    np.testing.assert_allclose(power.times, [1.0, 0.64, 0.36, 0.16, 0.04])


def test_a_row_does_not_depend_on_its_batch(trained):
    x = DATA[:7]
    options = {"steps": 3, "divergence": "hutchinson", "seed": 3}
    whole = trained.log_prob(x, **options)
    parts = trained.log_prob(x, batch_size=3, **options)
    np.testing.assert_allclose(parts.values, whole.values, rtol=1e-9)
    np.testing.assert_allclose(trained.log_prob(x[2:], first=2, **options).values, whole.values[2:], rtol=1e-9)
    np.testing.assert_array_equal(trained.log_prob(x, **options).values, whole.values)
    assert np.abs(trained.log_prob(x, **(options | {"seed": 4})).values - whole.values).max() > 0.01
    bound = trained.bound(x, steps=3)
    np.testing.assert_allclose(trained.bound(x, steps=3, batch_size=2).values, bound.values, rtol=1e-9)
    np.testing.assert_allclose(trained.bound(x[5:], steps=3, first=5).values, bound.values[5:], rtol=1e-9)


def test_scoring_changes_nothing_of_the_model(trained):
    trained.denoiser_.train()
    before = {name: value.clone() for name, value in trained.denoiser_.state_dict().items()}
    state = torch.get_rng_state()
    trained.score_samples(DATA[:3])
    assert trained.denoiser_.training
    trained.denoiser_.eval()
    assert all(torch.equal(value, before[name]) for name, value in trained.denoiser_.state_dict().items())
    assert next(trained.denoiser_.parameters()).dtype == torch.float32
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_is_off_and_autocast_too():
    seen = set()

    class Noisy(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

        def forward(self, x, t, condition=None):
            seen.add((self.training, torch.is_autocast_enabled("cpu"), x.dtype))
            return torch.nn.functional.dropout(self.layer(x), 0.5, self.training)

    model = pf.FlowMatching(**(TINY | {"network": Noisy()})).fit(DATA)
    model.denoiser_.train()
    seen.clear()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model.log_prob(DATA[:2], steps=2)
    assert seen == {(False, False, torch.float32)}


def test_saved_models_score_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    loaded, whole = (model.log_prob(DATA[:4], steps=4).values for model in (pf.load(tmp_path / "model"), trained))
    np.testing.assert_allclose(loaded, whole, rtol=1e-9)


WIDE = Gaussian([50.0], 9.0)


def integers(n=300):
    return np.floor(WIDE.sample(n, seed=0).numpy()).astype(np.int64)


def test_integers_are_a_lower_bound_of_their_probability():
    """E_u log p(k + u) by quadrature; below log P(k), which SciPy knows."""
    model = with_oracle(pf.FlowMatching(**TINY).fit(integers()), WIDE)
    k = np.arange(42, 59)[:, None]
    result = model.log_prob(k, draws=12, steps=8)
    u = (np.arange(2000) + 0.5) / 2000
    mean = stats.norm(50, 3).logpdf(k + u).mean(1)
    assert result.kind == "lower bound"
    assert result.standard_error.max() < 0.2
    assert (np.abs(result.values - mean) < 4.5 * result.standard_error + 1e-3).all()
    log_mass = np.log(stats.norm(50, 3).cdf(k[:, 0] + 1) - stats.norm(50, 3).cdf(k[:, 0]))
    assert (mean < log_mass).all()
    assert np.isnan(model.log_prob(k[:2], draws=1, steps=4).standard_error).all()
    assert result.nfe == 12 * model.log_prob(k[:1], draws=1, steps=8).nfe


def test_the_bound_of_integers_is_one_of_their_probability():
    values = integers()
    model = with_oracle(pf.FlowMatching(**TINY).fit(values), WIDE)
    low, high = values.min(), values.max()
    k = np.arange(low, high + 1)[:, None]
    bound = model.bound(np.repeat(k, 40, 0), steps=60)
    mean = bound.values.reshape(len(k), 40).mean(1)
    error = bound.values.reshape(len(k), 40).std(1) / math.sqrt(40)
    edges = np.arange(low, high + 2).astype(float)
    edges[0], edges[-1] = -np.inf, np.inf
    log_mass = np.log(np.diff(stats.norm(50, 3).cdf(edges)))
    inner = slice(2, -2)
    assert (mean[inner] < log_mass[inner] + 4.5 * error[inner] + 0.02).all()
    assert np.abs(mean - log_mass)[inner].mean() < 0.2
    assert np.exp(mean).sum() < 1.02  # a lower bound of something that sums to one
    first = model.bound(k[:1] - 5, steps=5)  # open at the ends of the range
    assert np.isfinite(first.values).all()


def test_mixed_tables_and_constant_columns():
    n = 300
    real, whole = LAW.sample(n, seed=3).numpy()[:, :1], integers(n)
    frame = pd.DataFrame({"real": real[:, 0], "always": np.full(n, 7), "whole": whole[:, 0]})
    model = pf.FlowMatching(**TINY).fit(frame)
    normal = Gaussian([6.0, 50.0], [5.0, 9.0])
    model = with_oracle(model, normal)
    result = model.log_prob(frame[:5], steps=12, draws=6)
    assert (result.dims, result.constants, result.kind) == (2, 1, "lower bound")
    u = (np.arange(2000) + 0.5) / 2000
    expected = stats.norm(6, math.sqrt(5)).logpdf(real[:5, 0]) + stats.norm(50, 3).logpdf(whole[:5] + u).mean(1)
    assert (np.abs(result.values - expected) < 4.5 * result.standard_error + 1e-2).all()
    bound = model.bound(frame[:100], steps=100)
    whole_mass = np.log(stats.norm(50, 3).cdf(whole[:100, 0] + 1) - stats.norm(50, 3).cdf(whole[:100, 0]))
    truth = (stats.norm(6, math.sqrt(5)).logpdf(real[:100, 0]) + whole_mass).mean()
    assert bound.constants == 1
    assert truth - 0.4 < bound.values.mean() < truth + 0.1
    with pytest.raises(ValueError, match=r"X has the value 50.5 in row 1, but the training data are integers there"):
        model.log_prob(np.array([[1.0, 7.0, 50.0], [1.0, 7.0, 50.5]]))


class Pixels(AbstractDenoiser):
    """Pixels that are N(0, 0.25) each, but for those that are fixed."""

    def __init__(self, schedule, fixed, value):
        super().__init__()
        self.schedule, self.fixed, self.value = schedule, fixed, value

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return torch.where(self.fixed, self.value, alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * x_t)


def images(dtype):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (40, 4, 4)).astype(dtype) if np.dtype(dtype).kind == "u" else rng.random((40, 4, 4, 1))
    X[:, 0, :2] = 0
    return X


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_images_with_constant_pixels(dtype):
    X = images(dtype)
    model = pf.Diffusion(**(TINY | {"network": pf.UNetSpec(width=8, levels=1, patch=1)})).fit(X)
    transform = model.space_.transform
    fixed = transform.constant
    value = ((transform.value - transform.shift) / transform.scale).float()
    model.denoiser_ = Pixels(model.schedule_, fixed, value)
    result = model.log_prob(X[:3], steps=8, draws=4)
    assert (result.dims, result.constants) == (14, 2)
    assert result.kind == ("lower bound" if dtype == np.uint8 else "estimate")
    scale = float(transform.scale.flatten()[-1])
    edges = transform.shift[~fixed].numpy()
    flat = X[:3].reshape(3, -1)[:, ~fixed.flatten().numpy()].astype(float)
    u = ((np.arange(400) + 0.5) / 400)[:, None, None] if dtype == np.uint8 else np.zeros((1, 1, 1))
    expected = (stats.norm(0, 0.5).logpdf((flat + u - edges) / scale) - math.log(scale)).mean(0).sum(1)
    tolerance = 4.5 * result.standard_error + 5e-3
    assert (np.abs(result.values - expected) < tolerance).all()
    bits = model.log_prob(X[:3], steps=2, draws=2, bits_per_dim=True)
    np.testing.assert_allclose(bits.values, -model.log_prob(X[:3], steps=2, draws=2).values / 14 / math.log(2), rtol=1e-9)
    bound = model.bound(X[:3], steps=20)
    assert (bound.dims, bound.constants) == (14, 2)
    assert np.isfinite(bound.values).all()


def test_conditions():
    labels = np.where(DATA[:, 1] > 0, "up", "down")
    model = pf.FlowMatching(**(TINY | {"train_steps": 100})).fit(DATA, condition=labels)
    given = model.log_prob(DATA[:6], condition=labels[:6], steps=4).values
    one = model.log_prob(DATA[:6], condition="up", steps=4).values
    without = model.log_prob(DATA[:6], steps=4).values
    assert np.abs(given - without).max() > 0.01
    up = labels[:6] == "up"
    np.testing.assert_allclose(one[up], given[up], rtol=1e-9)
    null = model.log_prob(DATA[:6], condition=[None] * 6, steps=4)
    np.testing.assert_allclose(null.values, without, rtol=1e-9)
    assert not np.allclose(model.bound(DATA[:6], steps=3, condition="up").values, model.bound(DATA[:6], steps=3).values)
    always = pf.FlowMatching(**TINY, condition_dropout=0.0).fit(DATA, condition=labels)
    assert np.isfinite(always.log_prob(DATA[:2], condition="up", steps=4).values).all()
    with pytest.raises(ValueError, match=r"condition_dropout=0\) and has no law without one; pass condition="):
        always.score_samples(DATA[:2])
    with pytest.raises(ValueError, match=r"this model was trained without conditions; omit condition"):
        pf.FlowMatching(**TINY).fit(DATA).score_samples(DATA[:2], condition="up")


class Between(AbstractDenoiser):
    """E[x | x_t] on the straight line for independent x ~ N(m, s^2) and z ~ N(n, r^2), in scaled units."""

    gaussian_source = False

    def __init__(self, m, s, n, r):
        super().__init__()
        self.schedule = pf.StraightLine()
        self.m, self.s, self.n, self.r = m, s, n, r

    def forward(self, x_t, t, condition=None):
        gain = (1 - t) * self.s**2 / ((1 - t) ** 2 * self.s**2 + t**2 * self.r**2)
        return self.m + gain * (x_t - (1 - t) * self.m - t * self.n)


def test_a_source_with_a_density_is_the_prior():
    target, source = Gaussian([5.0, 1.0], [4.0, 0.25]), Gaussian([3.0, 2.0], [1.0, 0.5])
    X = target.sample(300, seed=0).numpy()
    model = pf.FlowMatching(**TINY, source=source).fit(X)
    shift, scale = model.space_.transform.shift, model.space_.transform.scale
    model.denoiser_ = Between(
        (target.mean - shift) / scale, target.cov.sqrt() / scale, (source.mean - shift) / scale, source.cov.sqrt() / scale
    )
    result = model.log_prob(X[:8], steps=64)
    np.testing.assert_allclose(result.values, target.log_prob(torch.from_numpy(X[:8])).numpy(), atol=1e-4)
    assert not hasattr(model, "bound")


def test_verbs_are_there_exactly_when_they_can_be_kept(tmp_path):
    verbs = ("log_prob", "score_samples", "score", "bound")

    class Unknown:
        def sample(self, n, *, seed):
            return LAW.sample(n, seed=seed)

    def has(model):
        return [hasattr(model, verb) for verb in verbs]

    gaussian = pf.FlowMatching(**TINY)
    transported = pf.FlowMatching(**TINY, coupling="optimal-transport")
    law = pf.FlowMatching(**TINY, source=LAW)
    rows = pf.FlowMatching(**TINY, source=DATA + 1)
    unknown = pf.FlowMatching(**TINY, source=Unknown())
    for model, density, bound in (
        (gaussian, True, True),
        (pf.Diffusion(**TINY), True, True),
        (transported, True, False),
        (law, True, False),
        (rows, False, False),
        (unknown, False, False),
    ):
        assert has(model) == [density] * 3 + [bound]
        model.fit(DATA)
        assert has(model) == [density] * 3 + [bound]
        if density:
            assert np.isfinite(model.log_prob(DATA[:2], steps=2).values).all()
    law.save(tmp_path / "law")
    assert has(pf.load(tmp_path / "law", parts={"source": LAW})) == [True] * 3 + [False]
    rows.save(tmp_path / "rows")
    assert has(pf.load(tmp_path / "rows")) == [False] * 4
    coupled = pf.FlowMatching(**TINY, coupling="optimal-transport", schedule=pf.LinearBeta()).fit(DATA)
    assert np.isnan(coupled.log_prob(DATA[:2], steps=2).prior_mismatch).all()
    assert (transported.log_prob(DATA[:2], steps=2).prior_mismatch == 0).all()
    # Where x_1 is not z alone, or the law lives on a constant column too, the density of x_1 is not known.
    assert not hasattr(pf.FlowMatching(**TINY, source=LAW, schedule=pf.LinearBeta()).fit(DATA), "log_prob")
    flat = np.column_stack([DATA[:, 0], np.full(len(DATA), 2.0)])
    assert not hasattr(pf.FlowMatching(**TINY, source=LAW).fit(flat), "log_prob")


def test_errors_say_what_to_write(trained):
    for verb in (trained.log_prob, trained.bound):
        with pytest.raises(ValueError, match=r"draws must be at least 1, got 0"):
            verb(DATA[:2], draws=0)
        with pytest.raises(TypeError, match=r"batch_size must be an integer, got 2.5"):
            verb(DATA[:2], batch_size=2.5)
        with pytest.raises(ValueError, match=r"X has 3 features, but FlowMatching is expecting 2 features"):
            verb(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"divergence must be"):
        trained.log_prob(DATA[:2], divergence="magic")
    with pytest.raises(ValueError, match=r"steps must be at least 1"):
        trained.bound(DATA[:2], steps=0)
