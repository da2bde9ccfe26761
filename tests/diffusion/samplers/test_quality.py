"""The measure of samplers itself: against closed forms, SciPy's flow, and the limits that the default sampler must keep."""

import math

import numpy as np
import pytest
import torch
from oracle import LAW, flow
from thin import thinned

from pushforward.diffusion import DDPM, Cosine, DiscreteBeta, DPMSolver, LinearBeta, StraightLine, UniPC
from pushforward.diffusion.samplers.default import default_sampler, formula
from pushforward.diffusion.samplers.quality import exact_flow, flow_error
from pushforward.probability import Gaussian, GaussianMixture

NOISE = torch.randn(24, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("schedule", [Cosine(), StraightLine(), LinearBeta(), DiscreteBeta()], ids=str)
def test_flow_of_a_gaussian_is_linear(schedule):
    """x = mean + sqrt(v / (alpha^2 v + sigma^2)) (x_t - alpha mean): the flow keeps each state at its quantile."""
    law, one = Gaussian([0.5, -1.0], [0.3, 2.0]), torch.ones((), dtype=torch.float64)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    want = law.mean + (law.cov / (alpha**2 * law.cov + sigma**2)).sqrt() * (sigma * NOISE - alpha * law.mean)
    torch.testing.assert_close(exact_flow(law, schedule, NOISE), want, rtol=0, atol=2e-7)


def test_flow_of_a_mixture_is_that_of_scipy():
    schedule = LinearBeta()
    states = flow(schedule, NOISE * schedule.sigma(torch.ones((), dtype=torch.float64)), [1.0, 2e-4])
    torch.testing.assert_close(exact_flow(LAW, schedule, NOISE, steps=200), states[-1], rtol=0, atol=1e-4)


@pytest.mark.full  # of one reference solution
def test_flow_is_converged():
    law = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [4e-4, 0.01])
    coarse, fine = (exact_flow(law, Cosine(), NOISE, steps=n) for n in (800, 1600))
    torch.testing.assert_close(coarse, fine, rtol=0, atol=1e-7)


def test_error_is_that_of_the_sampler():
    exact = exact_flow(LAW, Cosine(), NOISE)
    errors = [flow_error(DPMSolver(order=2), LAW, Cosine(), NOISE, steps=n, exact=exact) for n in (10, 20, 200)]
    assert errors[0] > errors[1] > errors[2] > 0
    assert flow_error(DPMSolver(order=2), LAW, Cosine(), NOISE, steps=10) == errors[0]


@thinned(together=1, schedule=[Cosine(), StraightLine(), LinearBeta(), DiscreteBeta()], steps=[8, 15, 30])
def test_default_sampler_is_ahead_of_plain_solvers(schedule, steps):
    """On a broad law, by at least a factor of two (with few calls 1.5) on the same grid and on the uniform one."""
    exact = exact_flow(LAW, schedule, NOISE, steps=200)
    sampler = default_sampler(steps)
    error = flow_error(sampler, LAW, schedule, NOISE, steps=steps, exact=exact)
    plain = [DPMSolver(order=2), UniPC(order=3), DPMSolver(order=2, grid=sampler.grid), UniPC(order=3, grid=sampler.grid)]
    least = min(flow_error(other, LAW, schedule, NOISE, steps=steps, exact=exact) for other in plain)
    assert error < (0.5 if steps > 10 else 0.67) * least


@pytest.mark.parametrize(
    ("steps", "most"),
    [
        (5, 0.06),
        pytest.param(8, 0.022, marks=pytest.mark.full),
        pytest.param(10, 0.015, marks=pytest.mark.full),
        (15, 0.007),
        pytest.param(20, 0.004, marks=pytest.mark.full),
        pytest.param(50, 0.0005, marks=pytest.mark.full),
    ],
)
def test_default_sampler_is_stable_on_narrow_spikes(steps, most):
    """Eight spikes of width 0.02 on a circle; D of the last call alone would err by 0.002 at 50 calls."""
    turns = torch.arange(8, dtype=torch.float64) * torch.pi / 4
    ring = GaussianMixture([0.125] * 8, 1.4 * torch.stack((turns.cos(), turns.sin()), 1), [4e-4] * 8)
    noise = torch.randn(128, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert flow_error(default_sampler(steps), ring, DiscreteBeta(), noise, steps=steps) < most


@pytest.fixture(scope="module")
def others():
    """Spikes, wide blobs and a subspace, other ones than the tables were fitted to, with noises and where these go."""
    found = []
    for seed in (7, 8, 9):
        rng = np.random.default_rng(seed)
        plane = np.linalg.qr(rng.normal(size=(6, 2)))[0].T * math.sqrt(3)
        for means, variance in (
            (rng.normal(size=(7, 4)), 2e-3),
            (rng.normal(size=(5, 3)), 0.2),
            (rng.normal(size=(9, 2)) @ plane, 0.01),
            (rng.normal(size=(4, 12)), 0.02),
        ):
            law = GaussianMixture(np.full(len(means), 1 / len(means)), means, np.full(len(means), variance))
            noise = torch.randn(512, law.dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
            found.append((law, noise, exact_flow(law, StraightLine(), noise, steps=200)))
    return found


@pytest.mark.full  # measures numbers that are stored, on twelve laws
@pytest.mark.parametrize("steps", range(3, 11))
def test_tables_for_few_calls_are_better_than_the_formula_on_other_laws_and_schedules(steps, others):
    errors = [
        [
            flow_error(sampler, law, StraightLine(), noise, steps=steps, exact=exact)
            for sampler in (default_sampler(steps), formula(steps))
        ]
        for law, noise, exact in others
    ]
    assert np.diff(np.log(errors)).mean() > -math.log(0.99)


def test_order_2_is_the_better_default_for_few_steps_under_strong_guidance():
    law = GaussianMixture([1 / 12] * 12, np.random.default_rng(0).normal(size=(12, 8)), [1e-3] * 12)
    guided = _GuidedMixture(law, GaussianMixture([0.5, 0.5], law.means[:2], law.covs[:2]), 4.0)
    noise = torch.randn(64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact = exact_flow(guided, Cosine(), noise, steps=200)
    for steps in (5, 8, 10):
        chosen, plain = default_sampler(steps, guidance_scale=4.0), default_sampler(steps)
        errors = [flow_error(sampler, guided, Cosine(), noise, steps=steps, exact=exact) for sampler in (chosen, plain)]
        assert errors[0] < 0.5 * errors[1]


class _GuidedMixture:
    """Guidance on exact denoisers, in place of a law."""

    def __init__(self, law, conditional, scale):
        self.law, self.conditional, self.scale, self.dim = law, conditional, scale, law.dim

    def denoised(self, x, alpha, sigma):
        away = self.law.denoised(x, alpha, sigma)
        return away + self.scale * (self.conditional.denoised(x, alpha, sigma) - away)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="draws noise, so its results cannot be compared"):
        flow_error(DDPM(), LAW, Cosine(), NOISE, steps=5)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        exact_flow(LAW, Cosine(), NOISE, steps=0)
