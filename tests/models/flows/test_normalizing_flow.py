"""Normalizing flows against laws in closed form: affine flows are Gaussian, and densities integrate to one."""

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtr

import pushforward as pf
from pushforward.models.flows.base import standard_log_prob
from pushforward.networks.flows import Coupling, Mix, Normalize

RNG = np.random.default_rng(0)
SMALL = pf.FlowSpec(width=8, steps=2, bins=4)


def fitted(X, *, condition=None, steps=1, random_state=0, **changes):
    settings = pf.TrainingSettings(steps=steps, batch_size=32, learning_rate=0.01)
    arguments = {"network": SMALL, "training": settings, "random_state": random_state, "device": "cpu"}
    return pf.NormalizingFlow(**arguments | changes).fit(X, condition=condition)


def affine(model, seed=0):
    """Make a fitted vector flow affine and far from its start: couplings do nothing, the rest is random; return A, b of z = A x + b."""
    generator = torch.Generator().manual_seed(seed)
    for part in model.flow_.modules():
        with torch.no_grad():
            if isinstance(part, Coupling):
                part.network.last.weight.zero_()
                part.network.last.bias.zero_()
            elif isinstance(part, Normalize | Mix):
                for parameter in part.parameters():
                    parameter.copy_(0.3 * torch.randn(parameter.shape, generator=generator))
    scaled = torch.eye(model.space_.transform.shape[0], dtype=torch.float64)
    flow = model.flow_.double()
    with torch.no_grad():
        shift = flow(0 * scaled[:1])[0][0]
        matrix = (flow(scaled)[0] - shift).T
    model.flow_.float()
    of_data = (
        model.space_.transform.scale[~model.space_.transform.constant],
        model.space_.transform.shift[~model.space_.transform.constant],
    )
    return (matrix / of_data[0]).numpy(), (shift - matrix @ (of_data[1] / of_data[0])).numpy()


def test_an_affine_flow_is_the_gaussian_that_it_says():
    X = [5.0, -300.0, 0.01] + RNG.normal(size=(200, 3)) @ np.diag([1.0, 40.0, 0.003])
    model = fitted(X)
    matrix, shift = affine(model)
    back = np.linalg.inv(matrix)
    law = stats.multivariate_normal(-back @ shift, back @ back.T)
    found = model.log_prob(X)
    np.testing.assert_allclose(found.values, law.logpdf(X), rtol=0, atol=1e-9)
    assert (found.kind, found.dims, found.constants, found.nfe) == ("exact", 3, 0, 1)
    assert (found.standard_error == 0).all()
    assert model.score(X) == pytest.approx(law.logpdf(X).mean(), abs=1e-9)
    np.testing.assert_allclose(model.transform(X), X @ matrix.T + shift, rtol=0, atol=1e-9)
    sample = model.sample(20_000, seed=0, batch_size=20_000)
    white = sample @ matrix.T + shift
    np.testing.assert_allclose(white.mean(0), 0, atol=4 / 20_000**0.5)
    np.testing.assert_allclose(np.cov(white.T), np.eye(3), atol=6 / 20_000**0.5)


def test_the_density_integrates_to_one():
    model = fitted("moons", steps=60, condition_dropout=0.5)
    axis = np.linspace(-6, 7, 160)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2).astype(np.float32)
    cell = (axis[1] - axis[0]) ** 2
    for condition in (None, 1):
        density = np.exp(model.log_prob(grid, condition=condition, batch_size=40_000).values)
        assert density.sum() * cell == pytest.approx(1, abs=2e-3)


def test_latents_lead_back_also_from_far_away():
    X = RNG.normal(size=(150, 2)) * [1.0, 1e3]
    model = fitted(X, condition=X[:, 0] > 0, steps=40)
    for rows in (X[:20], 50 * X[:20]):
        z = model.transform(rows, condition=True)
        np.testing.assert_allclose(model.inverse_transform(z, condition=True), rows, rtol=0, atol=1e-9 * np.abs(rows).max())
    assert np.abs(model.transform(X, condition=True) - model.transform(X, condition=False)).max() > 1e-3
    first = model.sample(3, condition=True, seed=5)
    z = pf.probability.noise.normal((2,), seed=5, purpose="sample", rows=3).numpy()
    np.testing.assert_allclose(model.inverse_transform(z, condition=True), first, rtol=1e-4)


def test_integers_have_a_lower_bound_of_their_probability():
    X = np.column_stack([RNG.poisson(3, 300), np.full(300, 7)])
    model = fitted(X)
    matrix, shift = affine(model)
    slope, move = matrix[0, 0], shift[0]
    k = np.arange(1, 8)  # 0, the end of the range, shares its probability with the integers below
    exact = np.log(np.abs(ndtr(slope * (k + 1) + move) - ndtr(slope * k + move)))
    u = (np.arange(2000) + 0.5) / 2000
    mean = stats.norm.logpdf(slope * (k[:, None] + u) + move).mean(1) + np.log(abs(slope))
    found = model.log_prob(np.column_stack([k, 0 * k + 7]), draws=100)
    assert found.kind == "lower bound"
    assert (found.dims, found.constants) == (1, 1)
    assert (np.abs(found.values - mean) <= 4 * found.standard_error).all()
    assert (mean < exact).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_constant_pixels_are_bounded_out(dtype):
    """With an element-wise affine flow the bound is a sum over pixels, and a mean over the noise on the constant one."""
    X = (20 * RNG.random((60, 2, 2))).astype(dtype)
    X[:, 1, 0] = 3
    model = fitted(X, kind="images", network=pf.FlowSpec(width=4, steps=1, levels=1))
    first, last = (model.flow_.steps.parts[i] for i in (0, 3))
    with torch.no_grad():
        last.log_scale.zero_()
        last.mean.zero_()
        for parameter in model.flow_.steps.parts[1].parameters():
            parameter.zero_()
        model.flow_.steps.parts[2].network.last.weight.zero_()
        model.flow_.steps.parts[2].network.last.bias.zero_()
    scale, width = model.space_.transform.scale[0], model._constant_width
    unit = 1 / scale[1, 0].item() if dtype == np.uint8 else 1 / 16
    assert width.flatten().tolist() == [0, 0, unit, 0]
    mean, slope = (p.detach().double().flatten().numpy() for p in (first.mean, first.log_scale.exp()))
    u = (np.arange(1000) + 0.5) / 1000
    z = model.space_.transform.forward(torch.as_tensor(X).unsqueeze(1).float(), dtype=torch.float64).flatten(1).numpy()
    noisy = z[:, :, None] + (model.space_.transform.dequantization + width).flatten().numpy()[:, None] * u
    each = stats.norm.logpdf((noisy - mean[:, None]) * slope[:, None]).mean(2) + np.log(slope)
    each[:, 2] += np.log(unit)
    wanted = each.sum(1) - scale.flatten()[[0, 1, 3]].log().sum().item()
    found = model.log_prob(X, draws=100)
    assert (found.kind, found.dims, found.constants) == ("lower bound", 3, 1)
    assert (np.abs(found.values - wanted) <= 5 * found.standard_error + 1e-4).all()
    assert found.values.mean() == pytest.approx(wanted.mean(), abs=0.02)
    np.testing.assert_array_equal(model.sample(5, seed=0)[:, 1, 0], 3)


def test_the_held_out_loss_is_the_held_out_log_density():
    X = RNG.normal(size=(400, 2)) * [1.0, 100.0]
    model = fitted(X, steps=30)
    aside = pf.data.split_rows(400, 0.1, pf.probability.noise.derive(0, "held-out"))[1]
    assert model.training_result_.held_out_loss == pytest.approx(-model.score(X[aside]), abs=1e-4)


def test_the_start_is_taken_from_all_rows():
    """Rows that come sorted: the first thousands say nothing of the last."""
    X = np.sort(RNG.random((9000, 1)), axis=0)
    model = fitted(X, train_steps=1, training=pf.TrainingSettings(batch_size=8, learning_rate=1e-12))
    z = model.transform(X)
    assert abs(z.mean()) < 0.05
    assert z.std() == pytest.approx(1, abs=0.05)


def test_two_peaks_are_learned():
    truth = pf.probability.GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.1, 0.1])
    X = truth.sample(2000, seed=0).numpy()
    settings = pf.TrainingSettings(steps=120, batch_size=256, learning_rate=0.03, ema=0.1)
    model = fitted(X, training=settings, network=pf.FlowSpec(width=8, steps=3))
    new = truth.sample(2000, seed=1)
    assert truth.log_prob(new).mean() - model.score(new.numpy()) < 0.08


def test_a_condition_steers_and_its_absence_is_learned():
    labels = RNG.integers(0, 2, 600)
    X = RNG.normal(size=(600, 1)) * 0.5 + 4 * labels[:, None]
    settings = pf.TrainingSettings(steps=200, batch_size=64, learning_rate=0.02, ema=0.1)
    model = fitted(X, condition=labels, training=settings, condition_dropout=0.5)
    for label in (0, 1):
        assert model.sample(500, condition=label, seed=0).mean() == pytest.approx(4 * label, abs=0.3)
        own, other = (model.score(X[labels == label], condition=c) for c in (label, 1 - label))
        assert own > other + 3
    # Half of the rows are of each kind, so not to know it costs log 2.
    assert model.score(X) == pytest.approx(model.score(X, condition=labels) - np.log(2), abs=0.25)


def test_low_precision_does_not_reach_the_flow():
    X = RNG.normal(size=(60, 3))
    settings = pf.TrainingSettings(steps=5, batch_size=32, learning_rate=0.01)
    low = pf.TrainingSettings(steps=5, batch_size=32, learning_rate=0.01, precision="bfloat16")
    wanted = fitted(X, training=settings).sample(5, seed=0)
    np.testing.assert_array_equal(fitted(X, training=low).sample(5, seed=0), wanted)


def test_standard_log_prob():
    x = torch.tensor([[0.5, -1.0], [3.0, 2.0]], dtype=torch.float64)
    np.testing.assert_allclose(standard_log_prob(x), stats.multivariate_normal(np.zeros(2)).logpdf(x), rtol=1e-12)
