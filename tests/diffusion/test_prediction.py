"""Conversions: round trips over all pairs, and each prediction against its own definition on an exact law."""

from typing import get_args

import pytest
import torch
from thin import thinned

from pushforward.diffusion import (
    Cosine,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    Prediction,
    StraightLine,
    SubVP,
    convert,
    from_denoised,
    to_denoised,
    weight,
    widen,
)
from pushforward.probability import GaussianMixture

SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), Exploding(), DiscreteBeta()]
PREDICTIONS = get_args(Prediction)
LAW = GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]]])

TIMES = {"scalar": torch.tensor(0.37, dtype=torch.float64), "rows": torch.linspace(0.05, 0.95, 9, dtype=torch.float64)}


@pytest.fixture
def x_t():
    return torch.randn(9, 2, dtype=torch.float64)


@thinned(schedule=SCHEDULES, times=TIMES, source=PREDICTIONS, target=PREDICTIONS)
def test_round_trip(schedule, times, source, target, x_t):
    t, value = TIMES[times], torch.randn_like(x_t)
    there = convert(value, x_t, t, schedule=schedule, source=source, target=target, data_std=0.6)
    back = convert(there, x_t, t, schedule=schedule, source=target, target=source, data_std=0.6)
    torch.testing.assert_close(back, value, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("times", TIMES)
def test_score_is_the_gradient_of_the_noised_law(schedule, times, x_t):
    t = TIMES[times]
    denoised = ExactDenoiser(LAW, schedule)(x_t, t)
    got = from_denoised(denoised, x_t, t, schedule=schedule, prediction="score")
    for i, row in enumerate(x_t):
        time = t if t.ndim == 0 else t[i]
        law = LAW.noised(schedule.alpha(time).item(), schedule.sigma(time).item())
        point = row.clone().requires_grad_()
        (expected,) = torch.autograd.grad(law.log_prob(point), point)
        torch.testing.assert_close(got[i], expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_velocity_moves_the_density_as_the_continuity_equation_says(schedule):
    """d log p_t / dt = -div u - u . grad log p_t, with p_t the exact noised law."""
    time = torch.tensor(0.4321, dtype=torch.float64)
    point = torch.tensor([0.3, -0.2], dtype=torch.float64)
    denoiser = ExactDenoiser(LAW, schedule)

    def velocity(x):
        return from_denoised(denoiser(x[None], time), x[None], time, schedule=schedule, prediction="velocity")[0]

    def log_prob(t):
        return LAW.noised(schedule.alpha(t).item(), schedule.sigma(t).item()).log_prob(point)

    step = 1e-5
    rate = (log_prob(time + step) - log_prob(time - step)) / (2 * step)
    divergence = torch.autograd.functional.jacobian(velocity, point).trace()
    score = from_denoised(denoiser(point[None], time), point[None], time, schedule=schedule, prediction="score")[0]
    torch.testing.assert_close(rate, -divergence - velocity(point) @ score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("times", TIMES)
def test_each_prediction_of_known_data_and_noise(schedule, times, x_t):
    """With x and eps known the predictions are what their names say, written out here once more by hand."""
    t, x, eps = TIMES[times], torch.randn_like(x_t), torch.randn_like(x_t)
    alpha, sigma = widen(schedule.alpha(t), x), widen(schedule.sigma(t), x)
    state = alpha * x + sigma * eps
    std, power = 0.6, alpha**2 * 0.36 + sigma**2
    expected = {
        "denoised": x,
        "eps": eps,
        "v": alpha * eps - sigma * x,
        "velocity": widen(schedule.alpha_dot(t), x) * x + widen(schedule.sigma_dot(t), x) * eps,
        "score": -eps / sigma,
        "edm": (x - alpha * std**2 / power * state) / (sigma * std / power.sqrt()),
    }
    assert set(expected) == set(PREDICTIONS)
    for name, value in expected.items():
        got = from_denoised(x, state, t, schedule=schedule, prediction=name, data_std=std)
        torch.testing.assert_close(got, value, rtol=1e-7, atol=1e-7)
        back = to_denoised(value, state, t, schedule=schedule, prediction=name, data_std=std)
        torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_weight_turns_denoised_error_into_prediction_error(schedule, prediction, x_t):
    t = TIMES["rows"]
    x, guess = torch.randn_like(x_t), torch.randn_like(x_t)
    error = from_denoised(guess, x_t, t, schedule=schedule, prediction=prediction, data_std=0.6) - from_denoised(
        x, x_t, t, schedule=schedule, prediction=prediction, data_std=0.6
    )
    w = weight(prediction, schedule, t, data_std=0.6)
    torch.testing.assert_close(error.square().sum(1), w * (guess - x).square().sum(1), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("prediction", ["edm", "denoised", "v", "velocity"])
@pytest.mark.parametrize("schedule", [StraightLine(), Cosine()], ids=str)
def test_finite_at_pure_noise(schedule, prediction, x_t):
    one = torch.ones((), dtype=torch.float64)
    value = torch.randn_like(x_t)
    assert to_denoised(value, x_t, one, schedule=schedule, prediction=prediction).isfinite().all()


def test_result_has_the_dtype_of_the_state():
    x_t = torch.zeros(3, 2, dtype=torch.float32)
    for t in (torch.tensor(0.5, dtype=torch.float64), torch.full((3,), 0.5, dtype=torch.float64)):
        got = to_denoised(x_t, x_t, t, schedule=StraightLine(), prediction="v")
        assert got.dtype == torch.float32


def test_unknown_prediction_lists_the_known_ones():
    with pytest.raises(ValueError, match="unknown prediction 'epsilon'; choose one of 'edm', 'denoised', 'eps'"):
        weight("epsilon", StraightLine(), torch.tensor(0.5))
