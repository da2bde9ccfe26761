"""Stochastic tables against the papers' formulas, the discrete chain, and closed forms."""

import math

import numpy as np
import pytest
import torch
from oracle import LAW, exact_denoiser, float64
from scipy.integrate import quad

from pushforward.diffusion import (
    DDIM,
    DDPM,
    AnnealedLangevin,
    ChainGrid,
    Cosine,
    DiscreteBeta,
    DPMSolver,
    Euler,
    Exploding,
    LinearBeta,
    PredictorCorrector,
    ReverseSDE,
    StochasticDPMSolver,
    StraightLine,
    SubVP,
    UniformGrid,
)
from pushforward.dynamics import langevin
from pushforward.probability import noise as random

SCHEDULES = [LinearBeta(), StraightLine(), SubVP(), Cosine()]


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_reverse_sde_is_the_formula_of_the_paper(eta):
    """Song et al. 2021 in beta: f = -beta x / 2, g^2 = beta; the score at eps = 0 and at x = 0 by hand."""
    schedule, t, s = LinearBeta(), 0.6, 0.55
    beta = 0.1 + 0.6 * 19.9
    sigma2 = 1 - math.exp(-(0.1 * 0.6 + 0.5 * 19.9 * 0.36))
    alpha, h = math.sqrt(1 - sigma2), 0.05
    row = ReverseSDE(eta=eta).table(schedule, [t, s])
    half = 0.5 * (1 + eta**2) * beta
    # x - h (f x - half score), score = (alpha D - x) / sigma^2
    assert row.A[0, 0].item() == pytest.approx(1 + h * beta / 2 - h * half / sigma2, rel=1e-9)
    assert row.B[0, 0].item() == pytest.approx(h * half * alpha / sigma2, rel=1e-9)
    assert row.C[0, 0].item() == pytest.approx(eta * math.sqrt(beta * h), rel=1e-9)


def test_reverse_sde_without_noise_is_euler():
    times = UniformGrid()(Cosine(), 6)
    one, other = ReverseSDE(eta=0.0).table(Cosine(), times), Euler().table(Cosine(), times)
    for name in "ABC":
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-10, atol=1e-12)


def test_reverse_sde_leaves_pure_noise_by_the_exact_limit():
    """From alpha = 0 the states x_s and x_t are independent given x, whatever eta = 1 does later."""
    row = ReverseSDE().table(StraightLine(), [1.0, 0.9])
    assert (row.A[0, 0].item(), row.B[0, 0].item()) == pytest.approx((0.0, 0.1))
    assert row.C[0, 0].item() == pytest.approx(0.9)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_first_order_stochastic_solver_is_ddpm(schedule):
    times = [0.9, 0.7, 0.4, 0.1, 0.0]
    one, other = StochasticDPMSolver(order=1).table(schedule, times), DDPM().table(schedule, times)
    for name in "ABC":
        torch.testing.assert_close(getattr(one, name), getattr(other, name), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_second_order_stochastic_solver_is_exact_on_lines(schedule):
    """Variation of constants by quadrature, with D = 1 and D = lambda."""
    times = [0.8, 0.7, 0.5]
    alpha, sigma = (f(float64(times)).tolist() for f in (schedule.alpha, schedule.sigma))
    lam = [math.log(a / s) for a, s in zip(alpha, sigma, strict=True)]
    row = StochasticDPMSolver().table(schedule, times)
    h = lam[2] - lam[1]
    assert row.A[1, 0].item() == pytest.approx(sigma[2] / sigma[1] * math.exp(-h), rel=1e-10)
    assert row.C[1, 0].item() == pytest.approx(sigma[2] * math.sqrt(1 - math.exp(-2 * h)), rel=1e-10)
    for power in (0, 1):
        exact = quad(lambda u, p=power: 2 * alpha[2] * math.exp(2 * (u - lam[2])) * u**p, lam[1], lam[2], epsabs=1e-13)[0]
        got = row.B[1, 0].item() * lam[1] ** power + row.B[1, 1].item() * lam[0] ** power
        assert got == pytest.approx(exact, rel=1e-9)


def _chain(model, x, chosen, draw):
    """DDPM on a sub-sequence of its steps as in the paper, in alpha_bar and eps, indices from 0; the last step adds nothing."""
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for i, k in enumerate(chosen):
        before = alpha_bar[chosen[i + 1]] if i + 1 < len(chosen) else 1.0
        beta = 1 - alpha_bar[k] / before
        eps = model(x, k)
        mean = (x - beta / math.sqrt(1 - alpha_bar[k]) * eps) / math.sqrt(1 - beta)
        variance = (1 - before) / (1 - alpha_bar[k]) * beta
        x = mean + math.sqrt(variance) * draw(i) if i + 1 < len(chosen) else mean
    return x


@pytest.mark.parametrize("steps", [pytest.param(1000, marks=pytest.mark.full), 50, 7])
def test_sub_sequences_are_the_discrete_chain(steps):
    denoiser, rows = exact_denoiser(DiscreteBeta()), torch.arange(16)
    alpha_bar = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    noise = torch.randn(16, 2, dtype=torch.float64)

    def eps(x, k):
        denoised = LAW.denoised(x, math.sqrt(alpha_bar[k]), math.sqrt(1 - alpha_bar[k]))
        return (x - math.sqrt(alpha_bar[k]) * denoised) / math.sqrt(1 - alpha_bar[k])

    def draw(step):
        return random.normal((2,), seed=4, purpose="sampler", rows=rows, step=step, dtype=torch.float64)

    chosen = [math.ceil(1000 * (steps - i) / steps) - 1 for i in range(steps)]
    got = DDPM(grid=ChainGrid()).run(denoiser, noise, steps=steps, seed=4)
    want = _chain(eps, noise * math.sqrt(1 - alpha_bar[-1]), chosen, draw)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)


def test_chain_grid_names_steps_of_the_chain():
    for steps in (1, 3, 7, 999, 1000):
        times = ChainGrid()(DiscreteBeta(), steps)[:-1] * 1000
        assert (times - times.round()).abs().max() < 1e-9
        assert times.min() >= 1
    with pytest.raises(ValueError, match="no sub-sequence of 1001; use at most 1000 steps"):
        ChainGrid()(DiscreteBeta(), 1001)
    with pytest.raises(ValueError, match="length of a ChainGrid must be at least 1, got 0"):
        ChainGrid(length=0)


def test_corrector_is_a_langevin_step():
    """Its rows are the stated step, and its stationary law has the variance that theory gives."""
    schedule, snr, s = LinearBeta(), 0.2, 0.5
    table = PredictorCorrector(DDIM(), corrections=2, snr=snr).table(schedule, [0.6, s])
    alpha, sigma = schedule.alpha(float64(s)).item(), schedule.sigma(float64(s)).item()
    assert table.tau.tolist() == [0.6, s, s]
    assert table.to.tolist() == [s, s, s]
    delta = 2 * (snr * sigma) ** 2
    for row in (1, 2):  # x + delta (alpha D - x) / sigma^2 + sqrt(2 delta) z
        assert table.A[row, 0].item() == pytest.approx(1 - delta / sigma**2, rel=1e-12)
        assert table.B[row, 0].item() == pytest.approx(delta * alpha / sigma**2, rel=1e-12)
        assert table.C[row, 0].item() == pytest.approx(math.sqrt(2 * delta), rel=1e-12)
    # On N(0, 0.3) at time s: gain a + b * denoising factor, stationary variance c^2 / (1 - gain^2) = v / (1 - delta / 2v)
    marginal = alpha**2 * 0.3 + sigma**2
    gain = table.A[1, 0].item() + table.B[1, 0].item() * alpha * 0.3 / marginal
    stationary = table.C[1, 0].item() ** 2 / (1 - gain**2)
    assert stationary == pytest.approx(marginal / (1 - delta / (2 * marginal)), rel=1e-12)


def test_corrector_pulls_a_wrong_law_to_the_right_one():
    """One huge step of the predictor leaves the wrong law at time 0.3; Langevin steps mend it."""
    schedule, s = LinearBeta(), 0.3
    noise = torch.randn(3000, 2, dtype=torch.float64)
    truth = LAW.noised(schedule.alpha(float64(s)).item(), schedule.sigma(float64(s)).item()).sample(100_000, seed=9).T.cov()

    def gap(sampler):
        x = sampler.integrate(exact_denoiser(schedule), noise, [1.0, s], seed=1)
        return (x.T.cov() - truth).abs().max().item()

    assert gap(PredictorCorrector(DDIM(), corrections=60, snr=0.25)) < 0.09 < 0.3 < gap(DDIM())


def test_annealed_langevin_is_the_recursion_of_langevin_chains_on_a_gaussian():
    """Mean and variance of N(0.7, 0.3) pushed through the table are those of the chains of ``dynamics.langevin.annealed``."""
    mean, variance, step, n_steps = 0.7, 0.3, 0.2, 3
    schedule = Exploding(sigma_min=0.05, sigma_max=20.0)
    table = AnnealedLangevin(step=step, n_steps=n_steps).table(schedule, UniformGrid()(schedule, 8))
    levels = [schedule.sigma(float64(k / 8)).item() for k in range(7, 0, -1)]
    assert table.nfe == 7 * n_steps + 1
    m, v, row = 0.0, 400.0, 0
    got_m, got_v = 0.0, 400.0
    for sigma in levels:
        total = variance + sigma**2
        for _ in range(n_steps):
            h = step * sigma**2
            m, v = m + h * (mean - m) / total, v * (1 - h / total) ** 2 + 2 * h
            a, b, c = (matrix[row, 0].item() for matrix in (table.A, table.B, table.C))
            gain = a + b * variance / total
            got_m, got_v, row = gain * got_m + b * mean * sigma**2 / total, gain**2 * got_v + c**2, row + 1
            assert (got_m, got_v) == pytest.approx((m, v), rel=1e-9)
    assert (table.A[-1, 0], table.B[-1, 0], table.C[-1, 0]) == (0, 1, 0)
    assert m == pytest.approx(mean, abs=0.05)


def test_annealed_langevin_agrees_with_chains_on_a_mixture():
    """The same law as ``dynamics.langevin.annealed`` gives, which has a loop, levels and noise of its own."""
    schedule = Exploding(sigma_min=0.1, sigma_max=30.0)
    times = UniformGrid()(schedule, 30)[:-1]
    start = 30 * torch.randn(3000, 2, dtype=torch.float64)
    got = AnnealedLangevin(step=0.1, n_steps=5).integrate(exact_denoiser(schedule), start, times, seed=1)
    levels = [schedule.sigma(t).item() for t in times[1:]]
    want = langevin.annealed(lambda x, sigma: LAW.noised(1, sigma).score(x), start, levels, 0.1, 5, seed=2).samples
    torch.testing.assert_close(got.mean(0), want.mean(0), atol=0.09, rtol=0)
    torch.testing.assert_close(got.T.cov(), want.T.cov(), atol=0.11, rtol=0)
    truth = LAW.sample(100_000, seed=9)
    samples = AnnealedLangevin(n_steps=20).run(exact_denoiser(Exploding()), start / 30, steps=60, seed=3)
    torch.testing.assert_close(samples.mean(0), truth.mean(0), atol=0.09, rtol=0)
    torch.testing.assert_close(samples.T.cov(), truth.T.cov(), atol=0.11, rtol=0)


def test_a_multistep_predictor_starts_afresh():
    times = UniformGrid()(LinearBeta(), 5)
    one, other = (PredictorCorrector(p).table(LinearBeta(), times) for p in (DPMSolver(order=3), DPMSolver(order=1)))
    torch.testing.assert_close(one.B, other.B)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ReverseSDE(eta=1.5), "eta must lie between 0 and 1, got 1.5"),
        (lambda: StochasticDPMSolver(order=3), "the order of StochasticDPMSolver is 1 or 2, got 3"),
        (lambda: PredictorCorrector(corrections=0), "corrections must be at least 1, got 0"),
        (lambda: PredictorCorrector(snr=0.8), "snr must lie between 0 and 0.7, where Langevin steps are stable, got 0.8"),
        (lambda: ReverseSDE().table(LinearBeta(), [0.2, 0.5]), "rising times need a deterministic sampler"),
        (lambda: StochasticDPMSolver().table(LinearBeta(), [0.2, 0.5]), "rising times need a deterministic sampler"),
        (lambda: AnnealedLangevin(step=1.0), "step must lie between 0 and 1, where Langevin steps are stable, got 1.0"),
        (lambda: AnnealedLangevin(n_steps=0), "n_steps must be at least 1, got 0"),
        (lambda: AnnealedLangevin().table(LinearBeta(), [0.2, 0.5]), "rising times need a deterministic sampler"),
        (lambda: PredictorCorrector().table(LinearBeta(), [0.2, 0.5]), "rising times need a deterministic sampler"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
