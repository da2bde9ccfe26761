"""The comparison of samplers: its laws against scikit-learn, its figures against closed forms and counted calls."""

import dataclasses
import math
import warnings

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.mixture import GaussianMixture as SklearnMixture

from pushforward.diffusion import (
    DDIM,
    DDPM,
    RK4,
    Adaptive,
    Cosine,
    DiscreteBeta,
    DPMSolver,
    ExactDenoiser,
    Heun,
    PredictorCorrector,
    ReverseSDE,
    StochasticDPMSolver,
    calibrate,
    default_sampler,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers import benchmark
from pushforward.diffusion.samplers.benchmark import (
    LAWS,
    Problem,
    benchmark_law,
    benchmark_samplers,
    check_comparable,
    compare,
    steps_within,
)
from pushforward.probability import Gaussian, GaussianMixture

GAUSSIAN = Gaussian([0.5, -1.0], [0.3, 2.0])
RING = GaussianMixture(
    [0.2] * 5, [[1.2 * math.cos(0.4 * math.pi * k), 1.2 * math.sin(0.4 * math.pi * k)] for k in range(5)], [0.04] * 5
)


class Counting(AbstractDenoiser):
    """A denoiser that counts its calls and keeps the conditions."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.schedule, self.made, self.conditions = inner, inner.schedule, 0, []

    def forward(self, x_t, t, condition=None):
        self.made += 1
        self.conditions.append(condition)
        return self.inner(x_t, t)


def test_digits_are_the_mixture_of_scikit_learn():
    rows = load_digits().data / 8 - 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = SklearnMixture(30, covariance_type="diag", reg_covar=2e-3, random_state=0).fit(rows)
    found = benchmark_law("digits").log_prob(torch.from_numpy(rows[:100]))
    torch.testing.assert_close(found, torch.from_numpy(fit.score_samples(rows[:100])), rtol=1e-9, atol=1e-8)


def test_photos_keep_the_moments_of_standardized_patches():
    """EM leaves mean and covariance of the data as they are, up to the ridge of 1e-3."""
    law = benchmark_law("photos")
    assert law.dim == 64
    assert law.mean.mean().item() == pytest.approx(0, abs=1e-3)
    assert law.covariance.diagonal().mean().item() == pytest.approx(1.001, abs=2e-3)
    across = law.covariance[0, 1] / law.covariance[0, 0]  # neighboring pixels are alike, distant ones less
    assert 0.8 < across < 1
    assert law.covariance[0, 63] < law.covariance[0, 1]


def test_small_laws_are_what_they_are_called():
    spiky, broad = benchmark_law("spiky"), benchmark_law("broad")
    assert spiky.dim == 8
    assert torch.equal(spiky.covs, torch.full((12,), 1e-3, dtype=torch.float64))
    assert torch.pdist(spiky.means).min() > 20 * math.sqrt(1e-3)
    assert broad.dim == 2
    assert torch.linalg.eigvalsh(broad.covs).min() > 0.1


def test_a_problem_holds_the_exact_flow_of_the_published_noises():
    """Of a Gaussian the flow is linear: it keeps each state at its quantile."""
    schedule, one = DiscreteBeta(), torch.ones((), dtype=torch.float64)
    problem = Problem.of_law(GAUSSIAN, rows=20, seed=3)
    noise = torch.randn(20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    assert torch.equal(problem.noise, noise)
    alpha, sigma = schedule.alpha(one), schedule.sigma(one)
    scale = (GAUSSIAN.cov / (alpha**2 * GAUSSIAN.cov + sigma**2)).sqrt()
    want = GAUSSIAN.mean + scale * (sigma * noise - alpha * GAUSSIAN.mean)
    torch.testing.assert_close(problem.exact, want, rtol=0, atol=1e-6)


def test_other_noises_are_for_fitting():
    problem = Problem.of_law(GAUSSIAN, rows=20, fine_steps=2)
    assert problem.others.shape == (2048, 2)
    assert torch.cdist(problem.noise, problem.others).min() > 0
    assert problem.others.std().item() == pytest.approx(1, abs=0.05)


def test_figures_are_those_of_the_rows():
    problem = Problem.of_law(RING, schedule=Cosine(), rows=33, fine_steps=200)
    cell = problem.measure("mine", DPMSolver(order=2), 6)
    difference = (DPMSolver(order=2).run(ExactDenoiser(RING, Cosine()), problem.noise, steps=6) - problem.exact).numpy()
    rows = sorted((row @ row / 2) ** 0.5 for row in difference)
    assert cell.error == pytest.approx((sum(row**2 for row in rows) / 33) ** 0.5, rel=1e-12)
    assert cell.median == pytest.approx(rows[16], rel=1e-12)
    assert (cell.solver, cell.calls, cell.steps, cell.nfe) == ("mine", 6, 6, 6)


@pytest.mark.parametrize("calls", [1, 2, 5, 8, 11])
def test_calls_are_those_really_made_and_one_more_step_needs_too_many(calls):
    for sampler in (DPMSolver(), Heun(), RK4(), DDIM()):
        counting = Counting(ExactDenoiser(RING, Cosine()))
        problem = dataclasses.replace(Problem.of_law(RING, schedule=Cosine(), rows=2, fine_steps=2), denoiser=counting)
        cell = problem.measure("it", sampler, calls)
        assert cell.nfe == counting.made <= calls < sampler.nfe(cell.steps + 1)
        assert cell.steps == steps_within(sampler, calls)


def test_conditions_reach_the_denoiser():
    counting = Counting(ExactDenoiser(RING, Cosine()))
    condition = torch.eye(2)
    problem = Problem(counting, torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(4, 2), condition, torch.ones(4, 2))
    problem.measure("it", DPMSolver(), 3)
    assert all(given is condition for given in counting.conditions)


def test_the_table_has_the_default_first_and_every_cell():
    problem = Problem.of_law(RING, rows=4, fine_steps=10)
    cells = list(compare(problem, {"a": Heun(), "b": DDIM()}, calls=(3, 9)))
    assert [(cell.solver, cell.calls, cell.nfe) for cell in cells] == [
        ("default", 3, 3),
        ("default", 9, 9),
        ("a", 3, 3),
        ("a", 9, 9),
        ("b", 3, 3),
        ("b", 9, 9),
    ]
    assert cells[1] == problem.measure("default", default_sampler(9), 9)


def test_the_listed_samplers_can_all_be_compared():
    listed = benchmark_samplers()
    assert len(set(listed.values())) == len(listed)
    for sampler in listed.values():
        assert check_comparable(sampler) is sampler
        assert sampler != default_sampler(10)


@pytest.mark.parametrize(
    ("calls", "limit"), [(5, 0.111), (8, 0.0633), (10, 0.046), (15, 0.019), (20, 0.00525), (30, 0.002), (50, 0.00067)]
)
def test_default_sampler_keeps_its_promise_on_digits(calls, limit, digits):
    """Shares of the best that other libraries' solvers reach on this problem."""
    assert digits.measure("default", default_sampler(calls), calls).error <= limit


@pytest.fixture(scope="module")
def digits():
    return Problem.of_law(benchmark_law("digits"), fine_steps=100)


def test_calibration_is_measured_on_noises_that_it_has_not_seen(monkeypatch):
    problem = Problem.of_law(RING, rows=256, fine_steps=200)
    problem = dataclasses.replace(problem, others=problem.others[:256])
    seen = []

    def spied(denoiser, noise, **options):
        seen.append(noise)
        return calibrate(denoiser, noise, iterations=150, **options)

    monkeypatch.setattr(benchmark, "calibrate", spied)
    cell = problem.calibrated(4)
    assert seen[0] is problem.others
    assert (cell.solver, cell.nfe) == ("calibrated", 4)
    assert 0 < 1.3 * cell.error < problem.measure("default", default_sampler(4), 4).error


@pytest.mark.parametrize(
    "sampler",
    [DDPM(), DDIM(eta=0.5), ReverseSDE(), StochasticDPMSolver(), PredictorCorrector()],
    ids=lambda sampler: type(sampler).__name__,
)
def test_samplers_that_draw_noise_are_refused_before_any_is_run(sampler):
    counting = Counting(ExactDenoiser(RING, Cosine()))
    problem = Problem(counting, torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"draws noise, so its results cannot be compared.*use a deterministic sampler"):
        compare(problem, {"fine": DDIM(), "not": sampler})
    assert counting.made == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: benchmark_law("digit"), f"there is no law 'digit'.*{', '.join(LAWS)}"),
        (lambda: Problem.of_law(RING, rows=0), "rows must be at least 1, got 0"),
        (lambda: steps_within(DDIM(), 0), "steps must be at least 1, got 0"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_adaptive_steps_have_no_place_at_equal_calls():
    with pytest.raises(TypeError, match="chooses its own number of calls"):
        check_comparable(Adaptive())
