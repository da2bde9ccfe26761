"""Schedules against autograd, quadrature and DDPM's own products."""

import math

import numpy as np
import pytest
import torch
from scipy import integrate

from pushforward.diffusion import Cosine, DiscreteBeta, Exploding, LinearBeta, StraightLine, SubVP, widen

SCHEDULES = [
    StraightLine(),
    Cosine(),
    LinearBeta(),
    LinearBeta(0.5, 9.0),
    SubVP(),
    Exploding(),
    DiscreteBeta(),
    DiscreteBeta((0.1, 0.3, 0.6)),
]
PRESERVING = [Cosine(), LinearBeta(), DiscreteBeta()]


def _times(schedule, count=41):
    return torch.linspace(schedule.t_min, 1, count, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_derivatives_are_those_of_autograd(schedule):
    # Off the knots of the piecewise DiscreteBeta, where the derivative jumps.
    t = (_times(schedule)[:-1] + 0.00037).requires_grad_()
    for scale, derivative in ((schedule.alpha, schedule.alpha_dot), (schedule.sigma, schedule.sigma_dot)):
        value = scale(t)
        expected = torch.autograd.grad(value.sum(), t)[0] if value.requires_grad else torch.zeros_like(t)
        torch.testing.assert_close(derivative(t), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_log_snr_is_that_of_the_scales_and_falls(schedule):
    t = _times(schedule)[:-1]
    log_snr = schedule.log_snr(t)
    torch.testing.assert_close(log_snr, 2 * torch.log(schedule.alpha(t) / schedule.sigma(t)), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(schedule.noise_level(t), torch.exp(-log_snr / 2), rtol=1e-9, atol=0)
    assert (schedule.log_snr(_times(schedule)).diff() < 0).all()


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_t_of_log_snr_is_the_inverse(schedule):
    t = _times(schedule)
    torch.testing.assert_close(schedule.t_of_log_snr(schedule.log_snr(t)), t, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("shape", [(), (3,)])
def test_shape_and_dtype_are_those_of_t(schedule, shape):
    for dtype in (torch.float32, torch.float64):
        t = torch.full(shape, 0.3, dtype=dtype)
        for function in (
            schedule.alpha,
            schedule.sigma,
            schedule.alpha_dot,
            schedule.sigma_dot,
            schedule.log_snr,
            schedule.noise_level,
        ):
            assert function(t).shape == shape
            assert function(t).dtype == dtype


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_float32_is_accurate_down_to_t_min(schedule):
    t = torch.logspace(math.log10(schedule.t_min), 0, 30, dtype=torch.float64).float()
    for function in (schedule.sigma, schedule.alpha):
        torch.testing.assert_close(function(t).double(), function(t.double()), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("schedule", PRESERVING, ids=str)
def test_variance_is_preserved(schedule):
    t = _times(schedule)
    torch.testing.assert_close(schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2, torch.ones_like(t))


@pytest.mark.parametrize("schedule", [LinearBeta(), SubVP(0.2, 5.0)], ids=str)
def test_alpha_is_the_integral_of_beta(schedule):
    for t in (0.1, 0.5, 1.0):
        integral = integrate.quad(lambda s: schedule.beta_min + s * (schedule.beta_max - schedule.beta_min), 0, t)[0]
        assert schedule.alpha(torch.tensor(t, dtype=torch.float64)).item() == pytest.approx(math.exp(-integral / 2), rel=1e-12)


def test_sub_vp_is_the_square_of_vp():
    t = _times(SubVP())
    torch.testing.assert_close(SubVP().sigma(t), LinearBeta().sigma(t) ** 2)


def test_exploding_is_geometric():
    t = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    torch.testing.assert_close(Exploding(0.01, 100.0).sigma(t), torch.tensor([0.01, 1.0, 100.0], dtype=torch.float64))


@pytest.mark.parametrize("betas", [tuple(np.linspace(1e-4, 0.02, 1000)), (0.1, 0.3, 0.6)])
def test_discrete_beta_is_the_product_of_the_chain(betas):
    schedule = DiscreteBeta(betas)
    t = torch.arange(1, len(betas) + 1, dtype=torch.float64) / len(betas)
    alpha_bar = np.cumprod(1 - np.array(betas))
    np.testing.assert_allclose(schedule.alpha(t).numpy() ** 2, alpha_bar, rtol=1e-10)
    np.testing.assert_allclose(schedule.sigma(t).numpy() ** 2, 1 - alpha_bar, rtol=1e-9)
    if len(betas) == 1000:
        np.testing.assert_allclose(DiscreteBeta().alpha(t).numpy(), schedule.alpha(t).numpy(), rtol=1e-12)


def test_ends():
    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for schedule in (StraightLine(), Cosine()):
        for dtype in (torch.float32, torch.float64):
            assert schedule.alpha(one.to(dtype)) == 0
        assert schedule.sigma(one) == 1
        assert schedule.log_snr(one) == -math.inf
    for schedule in (StraightLine(), Cosine(), LinearBeta(), SubVP()):
        assert schedule.sigma(zero) == 0
        assert schedule.alpha(zero) == 1
        assert schedule.log_snr(zero) == math.inf
    assert math.isfinite(DiscreteBeta().log_snr(zero))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearBeta(2.0, 1.0), "0 < beta_min < beta_max, got beta_min=2.0, beta_max=1.0"),
        (lambda: SubVP(-1.0, 1.0), "0 < beta_min < beta_max"),
        (lambda: Exploding(0.0, 1.0), "0 < sigma_min < sigma_max"),
        (lambda: DiscreteBeta((0.1, 1.5)), r"betas\[1\] is 1.5"),
        (lambda: DiscreteBeta((0.1,)), "at least two betas, got 1"),
    ],
)
def test_bad_parameters_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_widen():
    x = torch.zeros(2, 3, 4)
    assert widen(torch.tensor(0.5), x).shape == ()
    assert widen(torch.zeros(2), x).shape == (2, 1, 1)
    with pytest.raises(ValueError, match="x has 2 rows, t the shape"):
        widen(torch.zeros(3), x)
