"""The denoiser: preconditioning by its formulas, losses as weighted squared errors of ``denoised``, behavior at the ends."""

from typing import get_args

import pytest
import torch
from thin import thinned
from torch import nn

from pushforward.diffusion import (
    Cosine,
    Denoiser,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    Prediction,
    StraightLine,
    SubVP,
    widen,
)
from pushforward.probability import Gaussian

SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), Exploding(), DiscreteBeta()]
PREDICTIONS = get_args(Prediction)


class Recorder(nn.Module):
    """A network that is a fixed nonlinear map and remembers what it was called with."""

    def forward(self, x, t, condition):
        self.called = (x, t, condition)
        return torch.tanh(x * 1.3 + widen(t, x)) - 0.2


@pytest.fixture
def x():
    return torch.randn(9, 2, dtype=torch.float64)


@pytest.fixture
def t():
    return torch.linspace(0.05, 0.95, 9, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_edm_preconditioning_is_that_of_the_paper(schedule, x, t):
    """In the variance-exploding frame (x_t / alpha, noise level) the scalings are those of Karras et al., table 1."""
    network, std = Recorder(), 0.6
    got = Denoiser(network, schedule, data_std=std)(x, t)
    level = widen(schedule.noise_level(t), x)
    frame = x / widen(schedule.alpha(t), x)
    skip, out = std**2 / (level**2 + std**2), level * std / (level**2 + std**2).sqrt()
    inner = frame / (level**2 + std**2).sqrt()
    torch.testing.assert_close(network.called[0], inner, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(got, skip * frame + out * Recorder()(inner, t, None), rtol=1e-10, atol=1e-12)


def test_network_input_has_unit_variance(t):
    """For data of standard deviation s, c_in x_t has variance one at every t."""
    schedule, std = LinearBeta(), 0.4
    t = t.repeat(2000)
    x_t = widen(schedule.alpha(t), t[:, None]) * std * torch.randn(len(t), 1) + widen(
        schedule.sigma(t), t[:, None]
    ) * torch.randn(len(t), 1)
    network = Recorder()
    Denoiser(network, schedule, data_std=std)(x_t, t)
    variances = network.called[0].reshape(2000, 9).var(0)
    torch.testing.assert_close(variances, torch.ones(9, dtype=torch.float64), atol=0.15, rtol=0)


@thinned(schedule=SCHEDULES, prediction=PREDICTIONS, weight=PREDICTIONS)
def test_loss_is_the_weighted_squared_error_of_denoised(schedule, prediction, weight, x, t):
    eps = torch.randn_like(x)
    denoiser = Denoiser(Recorder(), schedule, prediction=prediction, data_std=0.6)
    alpha, sigma, std = schedule.alpha(t), schedule.sigma(t), 0.6
    x_t = widen(alpha, x) * x + widen(sigma, x) * eps
    w = {
        "denoised": torch.ones_like(t),
        "eps": alpha**2 / sigma**2,
        "v": (alpha**2 + sigma**2) ** 2 / sigma**2,
        "velocity": ((sigma * schedule.alpha_dot(t) - alpha * schedule.sigma_dot(t)) / sigma) ** 2,
        "score": alpha**2 / sigma**4,
        "edm": (alpha**2 * std**2 + sigma**2) / (sigma * std) ** 2,
    }[weight]
    expected = w * (denoiser(x_t, t) - x).square().mean(1)
    torch.testing.assert_close(denoiser.loss(x, t, eps, weight=weight), expected, rtol=1e-7, atol=1e-9)


def test_ddpm_simple_loss_is_the_error_of_eps(x, t):
    """Ho et al. 2020, equation 14, for a network that predicts eps."""
    schedule, eps, network = LinearBeta(), torch.randn_like(x), Recorder()
    got = Denoiser(network, schedule, prediction="eps").loss(x, t, eps, weight="eps")
    root = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).sqrt()
    x_t = widen(schedule.alpha(t), x) * x + widen(schedule.sigma(t), x) * eps
    expected = (Recorder()(x_t / widen(root, x), t, None) - eps).square().mean(1)
    torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


def test_a_weight_may_be_any_function(x, t):
    eps, schedule = torch.randn_like(x), Cosine()
    denoiser = Denoiser(Recorder(), schedule, prediction="v")
    got = denoiser.loss(x, t, eps, weight=lambda schedule, t: 1 / schedule.sigma(t) ** 2)
    expected = denoiser.loss(x, t, eps, weight="denoised") / schedule.sigma(t) ** 2
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_a_perfect_network_has_zero_loss(schedule, prediction, t):
    """For a single data point every prediction is known exactly, and a network that returns it has loss zero."""
    point = torch.tensor([[0.7, -0.3]], dtype=torch.float64).expand(9, 2)
    eps = torch.randn_like(point)

    class Perfect(nn.Module):
        def forward(self, scaled, times, condition):
            alpha, sigma = widen(schedule.alpha(times), scaled), widen(schedule.sigma(times), scaled)
            root = (alpha**2 * 0.36 + sigma**2).sqrt()
            noise = (scaled * root - alpha * point) / sigma
            from pushforward.diffusion.prediction import coefficients

            p, q = coefficients(prediction, schedule, times, data_std=0.6)
            return widen(p, scaled) * point + widen(q, scaled) * noise

    loss = Denoiser(Perfect(), schedule, prediction=prediction, data_std=0.6).loss(point, t, eps, weight=prediction)
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-12, rtol=0)


@pytest.mark.parametrize("schedule", [StraightLine(), Cosine()], ids=str)
@pytest.mark.parametrize("prediction", ["eps", "score"])
def test_eps_and_score_are_called_before_the_signal_vanishes(schedule, prediction, x):
    network = Recorder()
    denoised = Denoiser(network, schedule, prediction=prediction)(x, torch.ones((), dtype=torch.float64))
    called_at = network.called[1][0]
    assert schedule.log_snr(called_at).item() == pytest.approx(-14, rel=1e-6)
    assert denoised.isfinite().all()


@pytest.mark.parametrize("prediction", ["edm", "denoised", "v", "velocity"])
def test_others_are_called_at_pure_noise_itself(prediction, x):
    network = Recorder()
    assert Denoiser(network, Cosine(), prediction=prediction)(x, torch.ones(9, dtype=torch.float64)).isfinite().all()
    assert (network.called[1] == 1).all()


@pytest.mark.parametrize("shape", [(5, 2), (5, 3, 8, 8)])
@pytest.mark.parametrize("t_shape", [(), (5,)])
def test_shapes_and_dtypes(shape, t_shape):
    x_t = torch.randn(shape)
    condition = torch.ones(5, 3)
    network = Recorder()
    got = Denoiser(network, LinearBeta())(x_t, torch.full(t_shape, 0.5, dtype=torch.float64), condition)
    assert got.shape == shape
    assert got.dtype == torch.float32
    assert network.called[1].shape == (5,)
    assert network.called[1].dtype == torch.float32
    assert network.called[2] is condition


def test_exact_denoiser_takes_rows_of_any_shape():
    law = Gaussian([1.0, 2.0, 3.0, 4.0], 0.5)
    denoiser = ExactDenoiser(law, LinearBeta())
    x_t = torch.randn(3, 1, 2, 2)
    t = torch.tensor(0.3)
    got = denoiser(x_t, t)
    alpha, sigma = LinearBeta().alpha(t), LinearBeta().sigma(t)
    expected = law.mean + 0.5 * alpha / (0.5 * alpha**2 + sigma**2) * (x_t.flatten(1) - alpha * law.mean)
    torch.testing.assert_close(got, expected.reshape(3, 1, 2, 2).float())
    with pytest.raises(ValueError, match="has no condition"):
        denoiser(x_t, t, torch.ones(3, 1))


@pytest.mark.parametrize("std", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_data_std(std):
    with pytest.raises(ValueError, match="data_std must be positive and finite"):
        Denoiser(Recorder(), Cosine(), data_std=std)


def test_bad_prediction():
    with pytest.raises(ValueError, match="unknown prediction 'noise'"):
        Denoiser(Recorder(), Cosine(), prediction="noise")


def test_the_gradient_by_a_single_time_is_that_by_many(x):
    """One time for all rows takes a cached path; it must not lose the derivative."""
    denoiser = Denoiser(Recorder(), Cosine())
    one = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    rows = torch.full((len(x),), 0.4, dtype=torch.float64, requires_grad=True)
    (by_one,) = torch.autograd.grad(denoiser(x, one).sum(), one)
    (by_rows,) = torch.autograd.grad(denoiser(x, rows).sum(), rows)
    assert by_one.abs() > 1e-3
    torch.testing.assert_close(by_one, by_rows.sum())


class Biased(nn.Module):
    """A network that predicts eps exactly for N(0, 1), and then adds an error."""

    def __init__(self, schedule, error):
        super().__init__()
        self.schedule, self.error = schedule, error

    def forward(self, x, t, condition):
        alpha, sigma = widen(self.schedule.alpha(t), x), widen(self.schedule.sigma(t), x)
        return x * sigma / (alpha**2 + sigma**2).sqrt() + self.error


@pytest.mark.parametrize("schedule", [Cosine(), LinearBeta(), Exploding()], ids=str)
def test_bounds_hold_in_noise_and_nowhere_else(schedule):
    """In pure noise an error of eps moves denoised to an end at most; in clean rows also far outside it changes nothing."""
    ends = (torch.full((2,), -3.0, dtype=torch.float64), torch.tensor([3.0, 5.0], dtype=torch.float64))
    x = torch.randn(50, 2, dtype=torch.float64)
    for error, end in ((-0.3, ends[1]), (0.3, ends[0])):
        free, held = (Denoiser(Biased(schedule, error), schedule, prediction="eps", bounds=b) for b in (None, ends))
        noise, alpha = schedule.sigma(torch.ones(())) * x, float(schedule.alpha(torch.ones(())))
        slack = 0.25 * alpha / float(schedule.sigma(torch.ones(()))) * (ends[1] - ends[0])
        denoised = held(noise, torch.ones(()))
        assert bool((denoised >= ends[0] - slack - 1e-9).all() & (denoised <= ends[1] + slack + 1e-9).all())
        if alpha == 0:
            torch.testing.assert_close(denoised, end.expand(50, 2))
            assert free(noise, torch.ones(())).abs().min() > 50
        early = schedule.t_of_log_snr(torch.tensor(9.0, dtype=torch.float64))
        rows = 10 * x
        assert torch.equal(held(rows, early), free(rows, early))


def test_bounds_are_those_of_samples_and_not_of_losses(x, t):
    """The losses of a network, from rows and from noised rows only, know no bounds, which would end their gradient."""
    ends = (torch.full((2,), -0.1, dtype=torch.float64), torch.full((2,), 0.1, dtype=torch.float64))
    free, held = (Denoiser(Biased(Cosine(), 0.5), Cosine(), prediction="eps", bounds=b) for b in (None, ends))
    eps = torch.randn_like(x)
    assert torch.equal(held.loss(x, t, eps), free.loss(x, t, eps))
    assert torch.equal(held.matching_loss(x, t), free.matching_loss(x, t))
    assert not torch.equal(held(x, t), free(x, t))
