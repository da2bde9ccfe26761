"""Multistep tables: exact on polynomials, equal to known methods, corrected as they say."""

import math

import numpy as np
import pytest
import torch
from oracle import exact_denoiser, float64, flow
from scipy.integrate import quad
from thin import thinned

from pushforward.diffusion import (
    DDIM,
    DEIS,
    AngleSolver,
    CalibratedSampler,
    Cosine,
    DPMSolver,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    StraightLine,
    SubVP,
    UniPC,
    VPGrid,
    default_sampler,
)
from pushforward.diffusion.samplers.coefficients import exponential_integrals
from pushforward.diffusion.samplers.default import formula
from pushforward.probability import GaussianMixture

TIMES = [0.9, 0.8, 0.71, 0.6, 0.52, 0.41, 0.35]
SCHEDULES = [LinearBeta(), StraightLine(), SubVP(), Exploding(0.05, 3.0)]
START = torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def _scales(schedule, t):
    return schedule.alpha(float64(t)).item(), schedule.sigma(float64(t)).item()


def _lam(schedule, t):
    alpha, sigma = _scales(schedule, t)
    return math.log(alpha / sigma)


def _path(rate, begin, ends):
    """Integrals of ``rate`` from ``begin`` to each end, by adaptive quadrature."""
    return [quad(rate, begin, end, epsabs=1e-13, epsrel=1e-12)[0] for end in ends]


def _denoised_path(schedule, power):
    """States and calls with D = lambda^power: x / sigma is an integral of e^lambda D."""
    lams = [_lam(schedule, t) for t in TIMES]
    z = [0.7 + part for part in _path(lambda u: math.exp(u) * u**power, lams[0], lams)]
    return [value * _scales(schedule, t)[1] for value, t in zip(z, TIMES, strict=True)], [lam**power for lam in lams]


def _eps_path(schedule, power):
    """The same with eps = t^power: x / alpha is an integral of eps over the noise level."""

    def rate(t):
        h = 1e-5  # central difference of the noise level with error h^4
        levels = [sigma / alpha for alpha, sigma in (_scales(schedule, t + k * h) for k in (-2, -1, 1, 2))]
        return t**power * (levels[0] - 8 * levels[1] + 8 * levels[2] - levels[3]) / (12 * h)

    y = [0.7 + part for part in _path(rate, TIMES[0], TIMES)]
    pairs = [_scales(schedule, t) for t in TIMES]
    states = [value * alpha for value, (alpha, _) in zip(y, pairs, strict=True)]
    return states, [(x - s * t**power) / a for x, t, (a, s) in zip(states, TIMES, pairs, strict=True)]


def _angle_path(schedule, power, scale=1.5):
    """The same with F = theta^power: x / rho is an integral of F over the angle."""
    pairs = [_scales(schedule, t) for t in TIMES]
    theta = [math.atan(scale * a / s) for a, s in pairs]
    states, calls = [], []
    for angle, (a, s) in zip(theta, pairs, strict=True):
        rho = math.sqrt(scale**2 * a**2 + s**2)
        states.append(rho * (0.7 + (angle ** (power + 1) - theta[0] ** (power + 1)) / (power + 1)))
        calls.append(a * scale**2 / rho**2 * states[-1] + scale * s / rho * angle**power)
    return states, calls


def _row(table, k, states, calls):
    lags = range(min(k + 1, table.A.shape[1]))
    return sum(table.A[k, j].item() * states[k - j] + table.B[k, j].item() * calls[k - j] for j in lags)


EXACT = [
    *((DPMSolver(order=k), _denoised_path, k) for k in (1, 2, 3)),
    *((UniPC(order=k), _denoised_path, k - 1) for k in (2, 3, 4)),
    *((DEIS(order=k), _eps_path, k) for k in (1, 2, 3, 4)),
    *((AngleSolver(order=k), _angle_path, k) for k in (1, 2, 3, 4)),
]


@thinned(together=1, case=range(len(EXACT)), schedule=SCHEDULES)
def test_rows_are_exact_where_the_smooth_part_is_a_polynomial(case, schedule):
    sampler, path, count = EXACT[case]
    table = sampler.table(schedule, TIMES)
    for power in range(count):
        states, calls = path(schedule, power)
        assert _row(table, 5, states, calls) == pytest.approx(states[6], rel=2e-8)
    states, calls = path(schedule, count)
    assert abs(_row(table, 5, states, calls) - states[6]) > 1e-7  # one degree more is not


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("order", [2, 3, 4])
def test_unipc_corrects_the_step_before(order, schedule):
    """With D a polynomial that the corrector catches and the predictor does not, only the last step's error is left."""
    states, calls = _denoised_path(schedule, order - 1)
    table = UniPC(order=order).table(schedule, TIMES)
    predicted = [*states[:4], _exact_step(order, schedule, states, calls, 3), *states[5:]]
    assert abs(predicted[4] - states[4]) > 1e-8
    assert _row(table, 4, predicted, calls) == pytest.approx(_exact_step(order, schedule, states, calls, 4), rel=1e-9)


def _exact_step(order, schedule, states, calls, k):
    """The plain predictor's step from the exact state."""
    return _row(DPMSolver(order=order - 1).table(schedule, TIMES), k, states, calls)


def _equal_angles(first, h, count):
    """Times of Cosine at equal angles of AngleSolver(scale=1), theta = pi/2 (1 - t)."""
    angles = [first + h * k for k in range(count)]
    return angles, [1 - angle / (math.pi / 2) for angle in angles]


BASHFORTH = {1: [1.0], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
MOULTON = {1: [1.0], 2: [1 / 2, 1 / 2], 3: [5 / 12, 8 / 12, -1 / 12], 4: [9 / 24, 19 / 24, -5 / 24, 1 / 24]}


@pytest.mark.parametrize(("first", "h"), [(0.3, 0.05), (0.8, 0.1), (1.0, 0.09)])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_angle_solver_corrects_the_step_before(order, first, h):
    """On equal angles its chain is Adams-Bashforth, corrected by Adams-Moulton through the same number of values.

    Of the correction 1 - min(s, 1)^3 is kept, where s is what a frozen D takes back of it in one step.
    """
    angles, times = _equal_angles(first, h, 7)
    row = AngleSolver(order=order, scale=1.0).table(Cosine(), times)
    bashforth, moulton = np.array([*BASHFORTH[order], 0.0]), np.array([*MOULTON[order], 0.0])
    kept = 1 - min(h * BASHFORTH[order][0] * math.tan(angles[5]), 1.0) ** 3
    weights = bashforth + kept * (moulton - np.array([0.0, *BASHFORTH[order]]))
    for lag, weight in enumerate(h * weights[: row.B.shape[1]]):
        angle = angles[5 - lag]
        # F = (D - sin(theta) x) / cos(theta), since alpha = sin(theta) and sigma = cos(theta)
        assert row.B[5, lag].item() == pytest.approx(weight / math.cos(angle), rel=1e-9)
        assert row.A[5, lag].item() == pytest.approx((lag == 0) - weight * math.tan(angle), rel=1e-9)


def test_corrections_are_kept_whole_on_the_way_to_the_noise():
    angles, times = _equal_angles(0.8, -0.1, 7)
    row = AngleSolver(order=2, scale=1.0).table(Cosine(), times)
    weights = -0.1 * (np.array([3 / 2, -1 / 2, 0]) + np.array([1 / 2, 1 / 2, 0]) - np.array([0, 3 / 2, -1 / 2]))
    for lag, weight in enumerate(weights):
        assert row.B[5, lag].item() == pytest.approx(weight / math.cos(angles[5 - lag]), rel=1e-9)


def test_errors_die_out_in_a_narrow_spike():
    """With D = m throughout, a push of one state falls to a seventeenth in six long steps; undamped, to a third only."""
    levels = [0.3 * 0.45**k for k in range(9)]
    table = AngleSolver().table(StraightLine(), [level / (1 + level) for level in levels])
    ends = []
    for push in (0.0, 1.0):
        states = [0.5]
        for k in range(8):
            states[k] += push * (k == 2)
            states.append(_row(table, k, states, [1.4] * 9))
        ends.append(states[8])
    assert abs(ends[1] - ends[0]) < 0.06


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_last_step_carries_d_to_the_data(order, schedule):
    """Exact for eps a polynomial in the angle of degree order - 1; the truth is the integral of eps over the noise level."""
    levels, scale = [0.2, 0.13, 0.08, 0.06], 1.5
    times = schedule.t_of_log_snr(-2 * float64(levels).log()).tolist()
    table = AngleSolver(order=order).table(schedule, [*times, 0.0])
    pairs = [_scales(schedule, t) for t in times]

    def eps(level, power):
        return math.atan(level / scale) ** power

    for power in range(order + 1):
        start = 0.7  # x / alpha at the first level
        path = [start + quad(eps, levels[0], level, args=(power,), epsabs=1e-14)[0] for level in (*levels, 0.0)]
        x = [a * y for y, (a, _) in zip(path, pairs, strict=False)]
        d = [(v - s * eps(level, power)) / a for v, level, (a, s) in zip(x, levels, pairs, strict=True)]
        error = abs(_row(table, 3, x, d) - path[-1])
        assert error < 1e-9 if power < order else error > 1e-7


def test_last_step_returns_d_far_from_the_data():
    """Above sigma / rho = 0.05, which is a noise level of 0.075 at the scale 1.5."""
    for level, used in ((0.0745, 3), (0.0757, 1)):
        times = StraightLine().t_of_log_snr(-2 * float64([1.0, 0.4, 0.2, level]).log()).tolist()
        table = AngleSolver().table(StraightLine(), [*times, 0.0])
        assert len(table.B[-1].nonzero()) == used
        assert len(table.A[-1].nonzero()) == (used if used > 1 else 0)


@pytest.mark.parametrize("sampler", [DEIS(order=1), DPMSolver(order=1)], ids=str)
def test_first_order_is_ddim(sampler):
    one, other = sampler.table(Cosine(), TIMES), DDIM().table(Cosine(), TIMES)
    for name in "ABC":
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("begin", "end"), [(-6.0, 3.0), (3.0, -6.0), (-200.0, 2.0), (-math.inf, 2.0)])
@pytest.mark.parametrize("rate", [1.0, 2.0])
def test_exponential_integrals_of_long_steps(begin, end, rate):
    nodes, top = [max(begin, -30.0), 4.0], max(begin, end)
    got = exponential_integrals(nodes, begin, end, rate=rate)
    for j, node in enumerate(nodes):
        other = nodes[1 - j]
        low, high = max(begin, -45.0), max(end, -45.0)
        want = quad(lambda u, n=node, o=other: math.exp(rate * (u - top)) * (u - o) / (n - o), low, high, epsabs=1e-13)[0]
        assert got[j] == pytest.approx(want, rel=1e-9, abs=1e-12)


def test_no_corrector_costs_a_call():
    assert [sampler.nfe(7) for sampler in (UniPC(order=2), UniPC(order=4), AngleSolver(order=4))] == [7, 7, 7]


@pytest.mark.parametrize("order", [2, 3])
def test_unipc_converges_with_its_order(order):
    schedule, denoiser = LinearBeta(), exact_denoiser(LinearBeta())
    exact, steps = flow(schedule, START, [0.7, 0.3])[-1], [20, 28, 40, 56]
    errors = []
    for n in steps:
        x = UniPC(order=order).integrate(denoiser, START, torch.linspace(0.7, 0.3, n + 1, dtype=torch.float64))
        errors.append((x - exact).norm().item())
    assert -np.polyfit(np.log(steps), np.log(errors), 1)[0] == pytest.approx(order, abs=0.35)


def test_default_sampler_is_one_call_per_step():
    for steps in (1, 2, 5, 20):
        assert default_sampler(steps).nfe(steps) == steps
        assert default_sampler(steps, 4.0).nfe(steps) == steps
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        default_sampler(0)
    with pytest.raises(TypeError, match=r"steps must be an integer, got 2\.5"):
        default_sampler(2.5)
    with pytest.raises(ValueError, match="guidance_scale must be a finite number, got nan"):
        default_sampler(5, math.nan)


def test_default_sampler_is_of_low_order_under_strong_guidance():
    orders = {(11, 1.0): 4, (20, 0.0): 4, (15, 1.5): 4, (5, 1.6): 2, (7, 1.6): 3, (15, 4.0): 2, (16, 4.0): 3, (10, -4.0): 2}
    assert {case: default_sampler(*case).order for case in orders} == orders
    assert default_sampler(16, 4.0).grid == VPGrid()


def test_default_sampler_goes_nearer_to_the_data_with_more_steps():
    """To 3.2 / n^2 with up to five calls and 1.6 / n^2 from ten on, or to the end of the schedule."""
    schedule = Cosine()
    end = schedule.noise_level(torch.tensor(schedule.t_min, dtype=torch.float64)).item()
    for steps, lowest in {2: 0.8, 4: 0.2, 5: 0.128, 8: 0.03125, 10: 0.016, 20: 0.004, 50: 0.00064}.items():
        levels = schedule.noise_level(formula(steps).grid(schedule, steps)[:-1])
        assert levels[-1].item() == pytest.approx(max(lowest, end), rel=5e-3)
    assert default_sampler(20) == formula(20)
    grids = {steps: formula(steps).grid for steps in (2, 8, 20, 30, 100)}
    assert {steps: grid.center for steps, grid in grids.items()} == {2: 1.7, 8: 1.06, 20: 1.05, 30: 0.875, 100: 0.525}
    assert {steps: grid.sigma_max for steps, grid in grids.items()} == {2: 50.0, 8: 50.0, 20: 50.0, 30: 60.0, 100: 100.0}
    assert {formula(steps).scale for steps in (1, 5, 100)} == {1.6}


def test_default_sampler_has_a_table_for_few_calls():
    for steps in range(2, 11):
        sampler = default_sampler(steps)
        assert isinstance(sampler, CalibratedSampler)
        assert sampler == default_sampler(steps, guidance_scale=0.5) != default_sampler(steps, guidance_scale=2.0)
        assert len(sampler.kept) == steps
        assert sampler.kept[-1] == 0.0
        assert sampler.levels[-1] > 0.01  # the lowest noise level of DDPM's schedule
    for steps in (1, 11, 1000):
        assert default_sampler(steps) == formula(steps)


@pytest.mark.parametrize("steps", [2, 5, 10])
def test_shifted_data_give_shifted_samples_with_few_calls(steps):
    """Up to the four decimals of the tables; AngleSolver takes the data to be centred."""
    means, shift = (
        torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64),
        torch.tensor([30.0, -10.0], dtype=torch.float64),
    )
    made = [
        default_sampler(steps).run(ExactDenoiser(GaussianMixture([0.4, 0.6], where, [0.1, 0.2]), Cosine()), START, steps=steps)
        for where in (means, means + shift)
    ]
    torch.testing.assert_close(made[1] - made[0], shift.expand_as(made[0]), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniPC(order=1), "the order of UniPC is 2, 3 or 4, got 1"),
        (lambda: DEIS(order=5), "the order of DEIS is 1, 2, 3 or 4, got 5"),
        (lambda: AngleSolver(order=0), "the order of AngleSolver is 1, 2, 3 or 4, got 0"),
        (lambda: AngleSolver(scale=0.0), "scale of an AngleSolver must be positive and finite, got 0.0"),
    ],
)
def test_errors_say_what_is_wrong(make, message):
    with pytest.raises(ValueError, match=message):
        make()
