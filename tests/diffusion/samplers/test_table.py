"""Samplers: measured orders, exact laws, the ends, and the loop."""

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from oracle import LAW, exact_denoiser, float64, flow
from thin import thinned

from pushforward.diffusion import (
    DDIM,
    DDPM,
    DEIS,
    RK4,
    AngleSolver,
    AnnealedLangevin,
    ChainGrid,
    Cosine,
    DiscreteBeta,
    DPMSolver,
    Euler,
    ExactDenoiser,
    Exploding,
    FittedVariance,
    Heun,
    KarrasGrid,
    LinearBeta,
    LogSNRGrid,
    PowerGrid,
    PredictorCorrector,
    ReverseSDE,
    SinhGrid,
    StochasticDPMSolver,
    StraightLine,
    SubVP,
    TableSampler,
    UniformGrid,
    UniPC,
    VPGrid,
    widen,
)
from pushforward.probability import Gaussian

SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), Exploding()]
ONE_STEP = [Euler(), Heun(), RK4(), DDIM(), DPMSolver(order=1), ReverseSDE(eta=0.0)]
MULTISTEP = [
    *(DPMSolver(order=k) for k in (2, 3)),
    *(UniPC(order=k) for k in (2, 3, 4)),
    *(DEIS(order=k) for k in (2, 3, 4)),
    *(AngleSolver(order=k) for k in (2, 3, 4)),
]
FITTED = FittedVariance((0.0, 0.5, 1.0), (0.0, 0.1, 0.3))
STOCHASTIC = [
    *(DDPM(), DDPM("beta"), DDPM(FITTED), DDIM(eta=0.5), DDIM(eta=1.0)),
    *(ReverseSDE(eta=0.4), ReverseSDE(), StochasticDPMSolver(order=1), StochasticDPMSolver(order=2)),
]
ALL = [*ONE_STEP, *MULTISTEP, *STOCHASTIC, PredictorCorrector(), AnnealedLangevin()]
GRIDS = [UniformGrid(), PowerGrid(2.0), KarrasGrid(), LogSNRGrid(), VPGrid(), SinhGrid(), ChainGrid()]
START = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _slope(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


@thinned(together=1, sampler=ONE_STEP, schedule=SCHEDULES)
def test_global_order_of_one_step_methods(sampler, schedule):
    begin, end = 0.7, 0.4
    exact = flow(schedule, START, [begin, end])[-1]
    steps = [8, 12, 16, 24] if sampler.order == 4 else [32, 48, 64, 96]
    denoiser = exact_denoiser(schedule)
    errors = [
        (sampler.integrate(denoiser, START, torch.linspace(begin, end, n + 1, dtype=torch.float64)) - exact).norm().item()
        for n in steps
    ]
    assert _slope(steps, errors) == pytest.approx(sampler.order, abs=0.2 if sampler.order < 4 else 0.4)


@thinned(together=1, sampler=MULTISTEP, schedule=SCHEDULES)
def test_local_order_of_multistep_methods_from_exact_history(sampler, schedule):
    """One row of the table, fed with exact states, errs by h^(order + 1).

    The two leading terms of AngleSolver's error have opposite signs, so its slope is a bound from below over a wide range.
    """
    denoiser, errors, wide = exact_denoiser(schedule), [], isinstance(sampler, AngleSolver)
    sizes = np.array([0.04, 0.02, 0.01, 0.005] if wide else [0.02, 0.016, 0.012, 0.01])
    sizes = sizes / 4 if isinstance(schedule, Exploding) else sizes  # 8.5 units of log-SNR / 2 on [0, 1]
    for h in sizes:
        times = [0.5 + h * (sampler.order + 1 - k) for k in range(sampler.order + 3)]
        states = flow(schedule, START, times)
        row = sampler.table(schedule, times)
        got = torch.zeros_like(START)
        for lag in range(row.A.shape[1]):
            state = states[-2 - lag]
            got = got + row.A[-1, lag] * state + row.B[-1, lag] * denoiser(state, float64(times[-2 - lag]))
        errors.append((got - states[-1]).norm().item())
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert slope > sampler.order + 0.6
    assert wide or slope < sampler.order + 1.4


@thinned(together=1, sampler=STOCHASTIC, schedule=[LinearBeta(), Cosine(), StraightLine()])
def test_weak_order_of_stochastic_methods(sampler, schedule):
    """Mean and variance of a Gaussian pushed through the table exactly; their error falls like steps^-order."""
    mean, variance, begin, end = 0.7, 0.3, 0.8, 0.3
    law = Gaussian([mean], variance)

    def scales(t):
        return schedule.alpha(float64(t)).item(), schedule.sigma(float64(t)).item()

    def error(steps):
        table = sampler.table(schedule, torch.linspace(begin, end, steps + 1, dtype=torch.float64))
        lags = table.A.shape[1]
        alpha, sigma = scales(begin)
        # Joint mean and covariance of the last states, newest first; each D is affine in its own state.
        m, v = np.zeros(lags), np.zeros((lags, lags))
        m[0], v[0, 0] = alpha * mean, alpha**2 * variance + sigma**2
        gains, shifts = np.zeros(lags), np.zeros(lags)
        for i, tau in enumerate(table.tau.tolist()):
            alpha, sigma = scales(tau)
            at_zero, at_one = (law.denoised(float64([[x]]), alpha, sigma).item() for x in (0.0, 1.0))
            gains, shifts = np.append(at_one - at_zero, gains[:-1]), np.append(at_zero, shifts[:-1])
            step = np.eye(lags, k=-1)
            step[0] = table.A[i].numpy() + table.B[i].numpy() * gains
            m, v = step @ m, step @ v @ step.T
            m[0] += table.B[i].numpy() @ shifts
            v[0, 0] += table.C[i, 0].item() ** 2
        alpha, sigma = scales(end)
        return abs(m[0] - alpha * mean) + abs(v[0, 0] - alpha**2 * variance - sigma**2)

    steps = [100, 150, 200, 300]
    assert _slope(steps, [error(n) for n in steps]) == pytest.approx(sampler.order, abs=0.2)


EULER = (Euler(), ReverseSDE(eta=0.0), ReverseSDE(eta=0.4), ReverseSDE(), PredictorCorrector())

# Not on the exploding path: there a step's own variance is far from infinitesimal, and Euler in t needs thousands of steps.
UNLAWFUL = [(sampler, Exploding()) for sampler in (DDPM("beta"), *EULER)]
# Annealed Langevin needs levels that lie close: test_stochastic.
LAWFUL = [sampler for sampler in ALL if not isinstance(sampler, AnnealedLangevin)]


@pytest.fixture(scope="module")
def truth():
    return LAW.sample(200_000, seed=9)


@thinned(together=1, sampler=LAWFUL, schedule=[*SCHEDULES, DiscreteBeta()], unless=UNLAWFUL)
def test_samples_follow_the_law(sampler, schedule, truth):
    """Mean and covariance of 3,000 samples; the tolerance is four standard errors plus the bias of first-order methods."""
    noise = torch.randn(3000, 2, dtype=torch.float64)
    steps = 80 if isinstance(sampler, PredictorCorrector) else {1: 200, 2: 60, 3: 40, 4: 30}[sampler.order]
    grid = KarrasGrid(sigma_max=200)(schedule, steps) if isinstance(schedule, Exploding) else UniformGrid()(schedule, steps)
    fitted = sampler
    if isinstance(sampler, DDPM) and isinstance(sampler.variance, FittedVariance):
        fitted = DDPM(FittedVariance.fit(exact_denoiser(schedule), LAW.sample(2000, seed=5), noise[:2000]))
    x = fitted.run(exact_denoiser(schedule), noise, times=grid, seed=2)
    torch.testing.assert_close(x.mean(0), truth.mean(0), atol=0.09, rtol=0)
    torch.testing.assert_close(x.T.cov(), truth.T.cov(), atol=0.11, rtol=0)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_ddim_is_the_formula_of_the_paper(eta):
    """Song et al. 2021, equations 12 and 16, in alpha_bar, on sub-sequences of DDPM's chain."""
    schedule = DiscreteBeta()
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for later, earlier in ((999, 899), (500, 400), (50, 0)):
        table = DDIM(eta=eta).table(schedule, [(later + 1) / 1000, (earlier + 1) / 1000])
        at, as_ = alpha_bar[later], alpha_bar[earlier]
        sigma = eta * math.sqrt((1 - as_) / (1 - at)) * math.sqrt(1 - at / as_)
        direction = math.sqrt(1 - as_ - sigma**2)
        assert table.A[0, 0].item() == pytest.approx(direction / math.sqrt(1 - at), rel=1e-8)
        assert table.B[0, 0].item() == pytest.approx(math.sqrt(as_) - direction * math.sqrt(at / (1 - at)), rel=1e-8)
        assert table.C[0, 0].item() == pytest.approx(sigma, rel=1e-7)


@pytest.mark.parametrize("variance", ["beta", "beta-tilde"])
def test_ddpm_is_the_chain_of_the_paper(variance):
    """Ho et al. 2020, equations 6 and 7, at each step of the full chain of 1,000."""
    betas = np.linspace(1e-4, 0.02, 1000)
    alpha_bar = np.cumprod(1 - betas)
    previous = np.append(1.0, alpha_bar[:-1])
    table = DDPM(variance).table(DiscreteBeta(), np.arange(1000, 0, -1) / 1000)
    k = np.arange(999, 0, -1)
    on_x = np.sqrt(1 - betas[k]) * (1 - previous[k]) / (1 - alpha_bar[k])
    on_denoised = np.sqrt(previous[k]) * betas[k] / (1 - alpha_bar[k])
    tilde = (1 - previous[k]) / (1 - alpha_bar[k]) * betas[k]
    np.testing.assert_allclose(table.A[:, 0].numpy(), on_x, rtol=1e-8)
    np.testing.assert_allclose(table.B[:, 0].numpy(), on_denoised, rtol=1e-6)
    np.testing.assert_allclose(table.C[:, 0].numpy() ** 2, betas[k] if variance == "beta" else tilde, rtol=1e-6)


def test_ddim_with_all_noise_is_ddpm():
    times = UniformGrid()(LinearBeta(), 7)
    one, other = DDIM(eta=1.0).table(LinearBeta(), times), DDPM().table(LinearBeta(), times)
    for name in "ABC":
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-12)


def test_first_order_solver_is_ddim():
    times = PowerGrid(2.0)(Cosine(), 9)
    one, other = DPMSolver(order=1).table(Cosine(), times), DDIM().table(Cosine(), times)
    torch.testing.assert_close(one.A, other.A, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(one.B, other.B, rtol=1e-10, atol=1e-12)


def test_second_order_solver_is_the_formula_of_the_paper():
    """Lu et al. 2022, algorithm 2 with the exact phi function: x = (s/s') x - a (e^-h - 1) D0 + a ((e^-h - 1) / h + 1) h D1."""
    schedule, times = LinearBeta(), [0.8, 0.6, 0.45]
    lam = [schedule.log_snr(float64(t)).item() / 2 for t in times]
    alpha, sigma = schedule.alpha(float64(0.45)).item(), schedule.sigma(float64(times))
    h, before = lam[2] - lam[1], lam[1] - lam[0]
    phi = (math.exp(-h) - 1) / h + 1
    table = DPMSolver(order=2).table(schedule, times)
    assert table.A[1, 0].item() == pytest.approx((sigma[2] / sigma[1]).item(), rel=1e-10)
    assert table.B[1, 0].item() == pytest.approx(-alpha * math.expm1(-h) + alpha * phi * h / before, rel=1e-9)
    assert table.B[1, 1].item() == pytest.approx(-alpha * phi * h / before, rel=1e-9)


def test_euler_is_euler():
    schedule, times = StraightLine(), [0.9, 0.6]
    denoiser = exact_denoiser(schedule)
    denoised = denoiser(START, float64(0.9))
    velocity = (START - denoised) / 0.9
    torch.testing.assert_close(Euler().integrate(denoiser, START, times), START - 0.3 * velocity)


@pytest.mark.parametrize("all_grids", [False, pytest.param(True, marks=pytest.mark.full)])
@pytest.mark.parametrize("schedule", [*SCHEDULES, DiscreteBeta()], ids=str)
@pytest.mark.parametrize("sampler", ALL, ids=str)
def test_tables_are_finite_and_end_with_denoised(sampler, schedule, all_grids):
    """The last row returns D; AngleSolver's carries x = alpha m + sigma z to m where D = m all along, whatever m and z are."""
    some = [GRIDS[(ALL.index(sampler) + number) % len(GRIDS)] for number in range(4)]  # a sampler sees times, not their grid
    for steps, grid in itertools.product((1, 2, 5, 12), GRIDS) if all_grids else zip((1, 2, 5, 12), some, strict=True):
        table = sampler.table(schedule, grid(schedule, steps))
        for matrix in (table.A, table.B, table.C):
            assert matrix.isfinite().all()
        assert (table.C[-1] == 0).all()
        if isinstance(sampler, AngleSolver):
            tau, on_x, on_denoised = table.tau.flip(0)[: table.A.shape[1]], table.A[-1], table.B[-1]
            on_x, on_denoised = on_x[: len(tau)], on_denoised[: len(tau)]
            assert (on_x * schedule.sigma(tau)).sum().item() == pytest.approx(0, abs=1e-9)
            assert ((on_x * schedule.alpha(tau)).sum() + on_denoised.sum()).item() == pytest.approx(1, abs=1e-9)
        else:
            assert (table.A[-1] == 0).all()
            assert table.B[-1].tolist() == [1.0] + [0.0] * (table.B.shape[1] - 1)
        assert table.to[-1] == 0
        assert table.nfe == sampler.nfe(steps)


@pytest.mark.parametrize("schedule", [StraightLine(), Cosine()], ids=str)
@pytest.mark.parametrize("sampler", [sampler for sampler in ALL if sampler not in EULER[2:]], ids=str)
def test_limit_where_the_signal_vanishes(sampler, schedule):
    """The table from t = 1 is the limit of tables from t just below 1."""
    at = sampler.table(schedule, [1.0, 0.8, 0.6, 0.4, 0.0])
    near = sampler.table(schedule, [1 - 1e-9, 0.8, 0.6, 0.4, 0.0])
    slow = isinstance(sampler, DPMSolver | UniPC | StochasticDPMSolver) and sampler.order > 1
    tolerance = 0.2 if slow else 1e-6  # log-SNR goes to infinity slowly
    for name in "ABC":
        lags = max(getattr(at, name).shape[1], getattr(near, name).shape[1])
        wide = [torch.nn.functional.pad(m, (0, lags - m.shape[1])) for m in (getattr(at, name), getattr(near, name))]
        torch.testing.assert_close(*wide, atol=tolerance, rtol=tolerance)


def test_nfe_counts_calls():
    calls = []

    class Counting(ExactDenoiser):
        def forward(self, x_t, t, condition=None):
            calls.append(t)
            return super().forward(x_t, t, condition)

    for sampler in ALL:
        calls.clear()
        sampler.run(Counting(LAW, LinearBeta()), START, steps=5, seed=0)
        assert len(calls) == sampler.nfe(5)
    assert [sampler.nfe(5) for sampler in (Euler(), Heun(), RK4(), DPMSolver())] == [5, 9, 17, 5]


@pytest.mark.parametrize("sampler", [Heun(), RK4(), DPMSolver(order=3), DDIM()], ids=str)
def test_encoding_and_decoding_return_to_the_data(sampler):
    schedule, x = LinearBeta(), LAW.sample(6, seed=1)
    denoiser = exact_denoiser(schedule)
    times = torch.linspace(0.01, 1, 400 if sampler == DDIM() else 200, dtype=torch.float64)
    code = sampler.integrate(denoiser, x, times)
    back = sampler.integrate(denoiser, code, times.flip(0))
    assert (code - x).abs().max() > 0.1
    torch.testing.assert_close(back, x, atol=0.05 if sampler == DDIM() else 2e-3, rtol=0)


@pytest.mark.parametrize("schedule", [Cosine(), StraightLine()], ids=str)
def test_encoding_reaches_pure_noise(schedule):
    times = torch.linspace(0.05, 1, 100, dtype=torch.float64)
    x_t = LAW.noised(schedule.alpha(times[0]).item(), schedule.sigma(times[0]).item()).sample(3000, seed=1)
    code = DPMSolver(order=2).integrate(exact_denoiser(schedule), x_t, times)
    torch.testing.assert_close(code.T.cov(), torch.eye(2, dtype=torch.float64), atol=0.12, rtol=0)


@pytest.mark.parametrize("sampler", ALL, ids=str)
def test_a_row_is_the_same_in_any_batch(sampler):
    denoiser, noise = exact_denoiser(LinearBeta()), torch.randn(10, 2, dtype=torch.float64)
    whole = sampler.run(denoiser, noise, steps=5, seed=3, first=20)
    part = sampler.run(denoiser, noise[4:7], steps=5, seed=3, first=24)
    torch.testing.assert_close(part, whole[4:7], rtol=1e-12, atol=1e-12)


def test_seeds_matter_only_for_stochastic_samplers():
    denoiser, noise = exact_denoiser(LinearBeta()), torch.randn(4, 2, dtype=torch.float64)
    for sampler in ALL:
        same = torch.equal(sampler.run(denoiser, noise, steps=4, seed=0), sampler.run(denoiser, noise, steps=4, seed=1))
        assert same != sampler.table(LinearBeta(), [1.0, 0.5, 0.0]).stochastic


@pytest.mark.parametrize("sampler", [DPMSolver(order=3), AngleSolver(), UniPC(), StochasticDPMSolver()], ids=str)
def test_one_object_serves_two_threads(sampler):
    noise = torch.randn(64, 2, dtype=torch.float64)
    denoisers = [exact_denoiser(schedule) for schedule in (LinearBeta(), Cosine())] * 8
    alone = [sampler.run(denoiser, noise, steps=12, seed=3) for denoiser in denoisers]
    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(lambda denoiser: sampler.run(denoiser, noise, steps=12, seed=3), denoisers))
    for one, other in zip(alone, together, strict=True):
        assert torch.equal(one, other)


def test_on_step_sees_every_state():
    seen = []
    x = DPMSolver(order=2).run(exact_denoiser(Cosine()), START, steps=4, on_step=lambda *event: seen.append(event))
    assert [event[0] for event in seen] == [0, 1, 2, 3]
    assert [event[1] for event in seen] == pytest.approx(UniformGrid()(Cosine(), 4).tolist()[1:])
    assert torch.equal(seen[-1][2], x)
    assert torch.equal(seen[-1][3], x)


def test_run_keeps_no_graph_but_integrate_may():
    x = START.clone().requires_grad_()
    assert not DDIM().run(exact_denoiser(Cosine()), x, steps=3).requires_grad
    end = DDIM().integrate(exact_denoiser(Cosine()), x, [0.8, 0.5, 0.2])
    (gradient,) = torch.autograd.grad(end.sum(), x)
    nudge = 1e-6
    numeric = (DDIM().integrate(exact_denoiser(Cosine()), START + nudge, [0.8, 0.5, 0.2]) - end).sum(1) / nudge
    torch.testing.assert_close(gradient.sum(1), numeric.detach(), rtol=1e-4, atol=1e-4)


def test_the_input_is_not_changed():
    noise = torch.randn(4, 2, dtype=torch.float64)
    before = noise.clone()
    for sampler in ALL:
        sampler.run(exact_denoiser(StraightLine()), noise, steps=3, seed=0)
    assert torch.equal(noise, before)


def test_fitted_variance_makes_the_reverse_step_exact():
    """For a Gaussian, mean and variance after one big step are those of the marginal only with the fitted variance."""
    schedule, law = LinearBeta(), Gaussian([0.5], 0.4)
    x, eps = law.sample(50_000, seed=0), torch.randn(50_000, 1, dtype=torch.float64)
    denoiser = ExactDenoiser(law, schedule)
    fitted = DDPM(FittedVariance.fit(denoiser, x, eps, count=400))
    t, s = 0.7, 0.4
    x_t = widen(schedule.alpha(float64(t)), x) * x + schedule.sigma(float64(t)) * eps
    variance = (schedule.alpha(float64(s)) ** 2 * 0.4 + schedule.sigma(float64(s)) ** 2).item()
    errors = {
        name: abs(sampler.integrate(denoiser, x_t, [t, s], seed=1).var().item() - variance)
        for name, sampler in {"fitted": fitted, "tilde": DDPM("beta-tilde"), "beta": DDPM("beta")}.items()
    }
    assert errors["fitted"] < 0.01
    assert min(errors["tilde"], errors["beta"]) > 0.05


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d: DPMSolver().run(d, START, steps=0), ValueError, "steps must be at least 1, got 0"),
        (lambda d: DPMSolver().run(d, START, steps=2.5), TypeError, "steps must be an integer, got 2.5"),
        (lambda d: DPMSolver().run(d, START), ValueError, "give either steps="),
        (lambda d: DPMSolver().run(d, START, steps=3, times=[1.0, 0.0]), ValueError, "and not both"),
        (lambda d: DPMSolver().run(d, START, times=[1.0, 0.2, 0.5, 0.0]), ValueError, "must fall strictly"),
        (lambda d: DPMSolver().run(d, START, times=[0.9, 0.0]), ValueError, "start at 1"),
        (lambda d: DPMSolver().integrate(d, START, [0.5]), ValueError, "at least two times"),
        (lambda d: DPMSolver().integrate(d, START, [0.5, 1e-6]), ValueError, "between t_min=0.0001"),
        (lambda d: DDPM().integrate(d, START, [0.2, 0.5], seed=0), ValueError, "only runs from noise to data"),
        (
            lambda d: Euler().run(d, START, steps=3, condition=torch.zeros(5, 1)),
            ValueError,
            "6 rows to sample but 5 conditions",
        ),
        (lambda d: DPMSolver(order=4), ValueError, "order of DPMSolver is 1, 2 or 3"),
        (lambda d: DDIM(eta=2.0), ValueError, "eta must lie between 0 and 1"),
        (lambda d: DDPM("fixed_large"), ValueError, "variance must be 'beta', 'beta-tilde' or a FittedVariance"),
        (lambda d: FittedVariance((0.0, 1.0), (0.1,)), ValueError, "same length"),
        (lambda d: FittedVariance((0.0, 0.0), (0.1, 0.1)), ValueError, "rise strictly"),
        (lambda d: FittedVariance((0.0, 1.0), (0.1, -0.1)), ValueError, "not negative"),
        (lambda d: PowerGrid(0.0), ValueError, "power of a PowerGrid must be positive"),
        (lambda d: KarrasGrid(sigma_min=1.0, sigma_max=0.5), ValueError, "0 < sigma_min < sigma_max"),
        (lambda d: KarrasGrid(rho=0.0), ValueError, "rho must be positive"),
        (lambda d: LogSNRGrid(2.0, 1.0), ValueError, "low < high"),
        (lambda d: UniformGrid()(DiscreteBeta((0.1, 0.2, 0.3)), 10), ValueError, "use fewer steps or another grid"),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message):
        call(exact_denoiser(LinearBeta()))


def test_stochastic_samplers_refuse_other_sources():
    denoiser = exact_denoiser(StraightLine())
    denoiser.gaussian_source = False
    assert DPMSolver().run(denoiser, START, steps=3).isfinite().all()
    with pytest.raises(ValueError, match="not independent Gaussian noise.*deterministic sampler"):
        DDPM().run(denoiser, START, steps=3)


@dataclass(frozen=True)
class Cancelling(TableSampler):
    """x' = x - D: the weights sum to zero, so a chain of weighted means would divide by it."""

    order = 1

    def _fill(self, builder, schedule, times):
        builder.row(times[0], times[1], {0: 1.0}, {0: -1.0})


def test_rows_whose_weights_cancel_are_added_up():
    denoiser = exact_denoiser(LinearBeta())
    got = Cancelling().integrate(denoiser, START, [0.8, 0.5])
    torch.testing.assert_close(got, START - denoiser(START, float64(0.8)), rtol=1e-13, atol=1e-13)
