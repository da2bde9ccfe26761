"""Score matching as a training loss: the same mean as the denoising loss, a network that finds the known score, and resuming."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pushforward as pf
from pushforward.diffusion import Denoiser, UniformTimes, from_denoised
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.denoising.source import GaussianSource
from pushforward.models.denoising.task import DenoisingTask
from pushforward.probability import GaussianMixture, noise
from pushforward.training import Batch

LAW = GaussianMixture([0.4, 0.6], [[-1.0, 0.3], [1.0, -0.5]], [[0.3, 0.6], [0.5, 0.2]])
ROWS = 20000
SETTINGS = pf.TrainingSettings(steps=300, batch_size=256, learning_rate=4e-3, ema=0.1, weight_decay=0.0, gradient_clip=1.0)


class Bent(nn.Module):
    """A network in float64 whose output is far from any score, with a Jacobian that is not symmetric."""

    def forward(self, x, t, condition=None):
        swapped = x.flatten(1).flip(1).reshape(x.shape)
        return torch.tanh(swapped) * (1 + x) + 0.3 * t.reshape(-1, *[1] * (x.ndim - 1))


def standard_error(values):
    return values.std().item() / math.sqrt(len(values))


@pytest.mark.parametrize("probes", [0, 1, 3])
@pytest.mark.parametrize(
    ("prediction", "weight"),
    [("edm", "eps"), ("eps", "eps"), ("v", "v"), ("denoised", "score"), ("score", lambda schedule, t: 1 + t)],
)
def test_mean_of_the_matching_loss_is_that_of_the_denoising_loss(prediction, weight, probes):
    """Over x and eps, for a network that is far from optimal; the difference is a mean of zero with a known error."""
    denoiser = Denoiser(Bent(), pf.LinearBeta(), prediction=prediction, data_std=0.8)
    x = LAW.sample(30000, seed=1)
    eps = noise.normal((2,), seed=2, purpose="test", rows=len(x), dtype=torch.float64)
    t = 0.1 + 0.3 * noise.uniform((), seed=3, purpose="test", rows=len(x), dtype=torch.float64)
    schedule = denoiser.schedule
    x_t = schedule.alpha(t)[:, None] * x + schedule.sigma(t)[:, None] * eps
    signs = noise.normal((probes, 2), seed=4, purpose="test", rows=len(x), dtype=torch.float64).sign().transpose(0, 1)
    matched = denoiser.matching_loss(x_t, t, weight=weight, probes=signs if probes else None)
    difference = matched - denoiser.loss(x, t, eps, weight=weight)
    assert abs(difference.mean().item()) < 4 * standard_error(difference)
    assert standard_error(difference) < 0.05 * denoiser.loss(x, t, eps, weight=weight).mean()


def test_rows_of_images_with_conditions():
    """The trace by autograd's own Jacobian, for images whose network reads its condition."""

    class Reads(nn.Module):
        def forward(self, x, t, condition=None):
            return Bent()(x, t) * condition.sum(1).reshape(-1, 1, 1, 1)

    denoiser = Denoiser(Reads(), pf.Cosine(), prediction="v")
    x_t, t = torch.randn(3, 1, 2, 3, dtype=torch.float64), torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)
    condition = torch.rand(3, 2, dtype=torch.float64)

    def eps(row, i):
        one = row.reshape(1, 1, 2, 3)
        found = denoiser(one, t[i : i + 1], condition[i : i + 1])
        return from_denoised(found, one, t[i : i + 1], schedule=pf.Cosine(), prediction="eps").flatten()

    got = denoiser.matching_loss(x_t, t, condition)
    for i, row in enumerate(x_t):
        jacobian = torch.autograd.functional.jacobian(lambda flat, i=i: eps(flat, i), row.flatten())
        sigma = math.sin(math.pi * t[i].item() / 2)
        expected = 1 + (eps(row, i).square().sum() - 2 * sigma * jacobian.trace()) / 6
        torch.testing.assert_close(got[i], expected, rtol=1e-10, atol=1e-10)


def score_errors(model, times=(0.1, 0.3, 0.6)):
    """Return sigma^2 E |score - true score|^2 at each time under the exact noised law of the scaled rows."""
    shift, scale = model.space_.transform.shift, model.space_.transform.scale
    law = GaussianMixture(LAW.weights, (LAW.means - shift) / scale, LAW.covs / scale**2)
    errors = []
    for time in times:
        t = torch.tensor(time, dtype=torch.float64)
        noised = law.noised(model.schedule_.alpha(t).item(), model.schedule_.sigma(t).item())
        x_t = noised.sample(4000, seed=9)
        with torch.no_grad():
            denoised = model.denoiser_(x_t.float(), t).double()
        score = from_denoised(denoised, x_t, t, schedule=model.schedule_, prediction="score")
        errors.append(model.schedule_.sigma(t).item() ** 2 * (score - noised.score(x_t)).square().sum(1).mean().item())
    return errors


@pytest.mark.full  # the losses have the right mean above, and the task takes them below
@pytest.mark.parametrize("loss", ["denoising", "sliced", "implicit"])
def test_each_loss_finds_the_known_score(loss):
    model = pf.Diffusion(loss=loss, network=pf.MLPSpec(width=32, depth=2), training=SETTINGS, random_state=0, device="cpu")
    X = LAW.sample(ROWS, seed=0).numpy()
    model.fit(X)
    assert model.weight_ == ("edm" if loss == "denoising" else "eps")
    assert max(score_errors(model)) < 0.12  # the score 0 is wrong by about 1
    samples = model.sample(2000, seed=0)
    np.testing.assert_allclose(samples.mean(0), X.mean(0), atol=0.15)
    np.testing.assert_allclose(np.cov(samples.T), np.cov(X.T), atol=0.25)


def task(loss, width=None):
    network = pf.MLPSpec(width=8, depth=1).build((2,), condition_dim=0)
    return DenoisingTask(
        Denoiser(network, pf.LinearBeta()),
        source=GaussianSource((2,)),
        times=UniformTimes(),
        weight="eps",
        dequantization=width,
        by=loss,
    )


@pytest.mark.parametrize("width", [None, torch.tensor([0.5, 0.0])])
def test_probes_are_signs_with_an_address(width):
    sliced, implicit = task("sliced", width), task("implicit", width)
    steps = torch.tensor([3, 4])
    drawn = sliced.draw(torch.arange(50), 50, steps, seed=6)
    plain = implicit.draw(torch.arange(50), 50, steps, seed=6)
    assert len(drawn) == len(plain) + 1
    for one, other in zip(drawn, plain, strict=False):
        assert torch.equal(one, other)
    probes = drawn[-1]
    assert probes.shape == (2, 50, 2)
    assert set(probes.unique().tolist()) == {-1.0, 1.0}
    assert not torch.equal(probes[0], probes[1])
    part = sliced.draw(torch.tensor([7, 30]), 50, torch.tensor([4]), seed=6)
    assert torch.equal(part[-1][0], probes[1][[7, 30]])


def test_the_task_trains_on_noised_rows_and_is_held_out_by_the_clean_ones():
    width = torch.tensor([0.5, 0.0])
    x = torch.randn(20, 2)
    for loss in ("sliced", "implicit"):
        one = task(loss, width)
        nn.init.normal_(one.denoiser.network.last.weight)
        draws = tuple(part[0] for part in one.draw(torch.arange(20), 20, torch.tensor([2]), seed=6))
        u, t, z = draws[:3]
        schedule, clean = one.denoiser.schedule, x + width * u
        x_t = schedule.alpha(t)[:, None] * clean + schedule.sigma(t)[:, None] * z
        probes = draws[3][None] if loss == "sliced" else None
        expected = one.denoiser.matching_loss(x_t, t, weight="eps", probes=probes)
        torch.testing.assert_close(one(Batch(x, None, draws)), expected)
        held_out, level = one.held_out(Batch(x, None, draws))
        torch.testing.assert_close(held_out, one.denoiser.loss(clean, t, z, weight="eps"))
        assert torch.equal(level, t)


def test_images():
    """Convolutions go back twice, on integers with labels."""
    digits = pf.open_data("digits")
    for loss in ("sliced", "implicit"):
        model = pf.Diffusion(
            loss=loss,
            network=pf.UNetSpec(width=4, levels=1),
            training=pf.TrainingSettings(steps=2, batch_size=8),
            random_state=0,
            device="cpu",
        )
        model.fit(digits.values[:60], condition=digits.condition[:60])
        assert math.isfinite(model.training_result_.held_out_loss)
        assert model.sample(2, condition=3, steps=2, seed=0).shape == (2, 8, 8)


def test_errors():
    X = LAW.sample(20, seed=0).numpy()
    with pytest.raises(ValueError, match="Diffusion: loss='explicit' is not allowed: it should be 'denoising', 'sliced' or"):
        pf.Diffusion(loss="explicit").fit(X)
    assert not hasattr(pf.FlowMatching(), "loss")
    assert issubclass(pf.Diffusion, DenoisingModel)
