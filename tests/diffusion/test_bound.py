"""The variational bound against the textbook chain, quadrature, SciPy and exact laws."""

import itertools
import math

import numpy as np
import pytest
import torch
from oracle import LAW, exact_denoiser
from scipy import stats

from pushforward.diffusion import (
    Bound,
    Cosine,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    FittedVariance,
    LinearBeta,
    StraightLine,
    UniformGrid,
    variational_bound,
)
from pushforward.diffusion.bound import Bins
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

BETAS = (0.02, 0.1, 0.3, 0.6, 0.8)
CHAIN = DiscreteBeta(BETAS)
LINE = GaussianMixture([0.4, 0.6], [[-0.8], [0.7]], [0.1, 0.05])
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(120)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def textbook(x, variance, fitted=None):
    """L_T, [L_{T-1}, ..., L_1], L_0 of DDPM's chain for a number x, by its formulas in beta and quadrature over eps."""
    beta = np.array(BETAS)
    bar = np.cumprod(1 - beta)
    law = LINE
    terms = []
    for k in range(len(beta) - 1, -1, -1):  # beta[k] belongs to step k + 1
        x_t = math.sqrt(bar[k]) * x + math.sqrt(1 - bar[k]) * NODES
        D = law.denoised(torch.from_numpy(x_t)[:, None], math.sqrt(bar[k]), math.sqrt(1 - bar[k]))[:, 0].numpy()
        if k == 0:
            v = 1 - bar[0] if fitted is None else fitted(1 / len(beta))
            terms.append(-WEIGHTS @ stats.norm(D, math.sqrt(v)).logpdf(x))
            break
        on_x0 = math.sqrt(bar[k - 1]) * beta[k] / (1 - bar[k])
        on_xt = math.sqrt(1 - beta[k]) * (1 - bar[k - 1]) / (1 - bar[k])
        tilde = (1 - bar[k - 1]) / (1 - bar[k]) * beta[k]
        v = {"beta": beta[k], "beta-tilde": tilde}.get(variance)
        v = tilde + on_x0**2 * fitted((k + 1) / len(beta)) if v is None else v
        normal = torch.distributions.Normal
        q = normal(torch.from_numpy(on_x0 * x + on_xt * x_t), math.sqrt(tilde))
        p = normal(torch.from_numpy(on_x0 * D + on_xt * x_t), math.sqrt(v))
        terms.append(WEIGHTS @ torch.distributions.kl_divergence(q, p).numpy())
    last = 1 - bar[-1]
    return bar[-1] * x**2 / (2 * last), terms


FITTED = FittedVariance((0.1, 0.5, 1.0), (0.05, 0.2, 0.6))


@pytest.mark.parametrize("variance", ["beta", "beta-tilde", FITTED], ids=str)
def test_every_term_is_ddpms(variance):
    """The terms sum from k = 2 to T, then L_0: one for each beta, besides L_T."""
    x = torch.full((20000, 1), 0.4, dtype=torch.float64)
    bound = variational_bound(ExactDenoiser(LINE, CHAIN), x, UniformGrid()(CHAIN, 5), variance=variance, draws=1, seed=3)
    prior, terms = textbook(0.4, variance if isinstance(variance, str) else None, None if isinstance(variance, str) else FITTED)
    assert bound.terms.shape == (20000, 5)
    np.testing.assert_allclose(bound.prior, prior, rtol=1e-10)
    error = bound.terms.std(0, ddof=1) / math.sqrt(20000)
    assert (np.abs(bound.terms.mean(0) - terms) < 4.5 * error).all()
    assert (error < 0.03 * np.abs(terms) + 1e-3).all()
    np.testing.assert_allclose(bound.times, [1.0, 0.8, 0.6, 0.4, 0.2])
    np.testing.assert_allclose(bound.values, -(bound.prior + bound.terms.sum(1)))


def test_the_form_along_the_chain_has_the_same_mean():
    """E log q(x_1..T | x) / p(x_0..T) with q(x_k | x_{k-1}) of sampled chains, written out here."""
    n, x = 40000, 0.4
    rng = np.random.default_rng(0)
    beta, bar = np.array(BETAS), np.cumprod(1 - np.array(BETAS))
    states, log_ratio = [np.full(n, x)], np.zeros(n)
    for k in range(5):
        states.append(math.sqrt(1 - beta[k]) * states[-1] + math.sqrt(beta[k]) * rng.normal(size=n))
        log_ratio += stats.norm(math.sqrt(1 - beta[k]) * states[-2], math.sqrt(beta[k])).logpdf(states[-1])
    log_ratio -= stats.norm(0, math.sqrt(1 - bar[-1])).logpdf(states[-1])
    for k in range(4, -1, -1):
        D = LINE.denoised(torch.from_numpy(states[k + 1])[:, None], math.sqrt(bar[k]), math.sqrt(1 - bar[k]))[:, 0].numpy()
        if k == 0:
            mean, v = D, 1 - bar[0]
        else:
            mean = math.sqrt(bar[k - 1]) * beta[k] / (1 - bar[k]) * D
            mean = mean + math.sqrt(1 - beta[k]) * (1 - bar[k - 1]) / (1 - bar[k]) * states[k + 1]
            v = beta[k]
        log_ratio -= stats.norm(mean, math.sqrt(v)).logpdf(states[k])
    rows = torch.full((n, 1), x, dtype=torch.float64)
    bound = variational_bound(ExactDenoiser(LINE, CHAIN), rows, UniformGrid()(CHAIN, 5), variance="beta", draws=1)
    spread = math.hypot(log_ratio.std(), bound.values.std()) / math.sqrt(n)
    assert abs(log_ratio.mean() + bound.values.mean()) < 4.5 * spread


@pytest.mark.parametrize("schedule", [LinearBeta(), DiscreteBeta(), StraightLine()], ids=lambda s: type(s).__name__)
def test_the_bound_lies_above_and_closes_as_the_chain_grows(schedule):
    x = LAW.sample(2000, seed=0)
    negative_log_likelihood = -LAW.log_prob(x).mean().item()
    gaps, errors = [], []
    for steps in (3, 12, 100):
        bound = variational_bound(exact_denoiser(schedule), x, UniformGrid()(schedule, steps))
        gaps.append(-bound.values.mean() - negative_log_likelihood)
        errors.append(math.sqrt((bound.standard_error**2).sum()) / len(x))
    for gap, error in zip(gaps, errors, strict=True):
        assert gap > -4 * error
    assert gaps[0] > 2 * gaps[1] > 0
    assert abs(gaps[2]) < 0.03 + 4 * errors[2]


def test_the_standard_error_is_that_of_repeated_bounds():
    x = LAW.sample(10, seed=0)
    runs = [
        variational_bound(exact_denoiser(Cosine()), x, UniformGrid()(Cosine(), 10), seed=seed, draws=4) for seed in range(80)
    ]
    spread = np.std([run.values for run in runs], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([run.standard_error**2 for run in runs], axis=0))
    np.testing.assert_allclose(spread, claimed, rtol=0.35)
    assert np.isnan(variational_bound(exact_denoiser(Cosine()), x, [1.0, 0.5, 0.0], draws=1).standard_error).all()


def test_the_curve_and_the_parts_sum_to_the_whole():
    x = LAW.sample(30, seed=0)
    bound = variational_bound(exact_denoiser(LinearBeta()), x, UniformGrid()(LinearBeta(), 20), draws=2)
    mean, error = bound.curve()
    whole = mean.sum() + bound.prior.mean() / (2 * math.log(2))
    assert bound.bits_per_dim.mean() == pytest.approx(whole)
    np.testing.assert_allclose(bound.bits_per_dim, -bound.values / (2 * math.log(2)))
    assert np.sqrt((error**2).sum()) == pytest.approx(np.sqrt((bound.standard_error**2).sum()) / 30 / (2 * math.log(2)))
    assert bound.shifted(1.5).values == pytest.approx(bound.values + 1.5)
    assert bound.nfe == 40
    both = Bound.concatenate([bound, bound])
    np.testing.assert_array_equal(both.values, np.tile(bound.values, 2))


def test_integers_get_the_mass_of_their_interval():
    """One step, T = 1: -log P(k | x_1) by quadrature over eps and SciPy's distribution function."""
    schedule, width = Cosine(), 0.5
    edges = np.array([-np.inf, -0.5, 0.0, 0.5, np.inf])
    centers = np.array([-0.75, -0.25, 0.25, 0.75])
    denoiser = ExactDenoiser(LINE, schedule)
    times = [1.0, 0.3, 0.0]
    alpha, sigma = (scale(torch.tensor(0.3, dtype=torch.float64)).item() for scale in (schedule.alpha, schedule.sigma))
    for low, high, center in zip(edges[:-1], edges[1:], centers, strict=True):
        x = torch.full((8000, 1), center, dtype=torch.float64)
        bins = Bins(torch.full_like(x, low), torch.full_like(x, high), torch.tensor([width]))
        bound = variational_bound(denoiser, x, times, bins=bins, draws=1)
        D = LINE.denoised(torch.from_numpy(alpha * center + sigma * NODES)[:, None], alpha, sigma)[:, 0].numpy()
        mass = stats.norm.cdf((high - D) / sigma) - stats.norm.cdf((low - D) / sigma)
        last = bound.terms[:, -1]
        assert abs(last.mean() + WEIGHTS @ np.log(mass.clip(min=1e-300))) < 4.5 * last.std() / math.sqrt(8000) + 1e-6
    assert width == pytest.approx(edges[2] - edges[1])


def test_a_chain_of_one_step_tells_everything_at_once():
    """At alpha = 0 the denoiser knows the mean alone, so the bound is the cost of N(mean, 1)."""
    law = Gaussian([0.3], 0.2)
    x = torch.tensor([[0.1], [1.4]], dtype=torch.float64)
    for schedule in (Cosine(), Exploding(0.001, 0.01)):
        plain = variational_bound(ExactDenoiser(law, schedule), x, [1.0, 0.0])
        assert np.isfinite(plain.values).all()
        bins = Bins(x - 0.5, x + 0.5, torch.tensor([1.0], dtype=torch.float64))
        bound = variational_bound(ExactDenoiser(law, schedule), x, [1.0, 0.0], bins=bins)
        assert (bound.values < 0).all()
    plain = variational_bound(ExactDenoiser(law, Cosine()), x, [1.0, 0.0])
    np.testing.assert_allclose(plain.values, stats.norm(0.3, 1).logpdf(x[:, 0]), atol=1e-12)


def test_masses_sum_to_one_far_from_the_range_too():
    edges = torch.tensor([-math.inf, -0.5, 0.0, 0.5, math.inf], dtype=torch.float64)
    for mean in (-40.0, -3.0, 0.1, 40.0):
        denoised = torch.full((4, 1), mean, dtype=torch.float64)
        cost = Bins(edges[:-1, None], edges[1:, None], torch.tensor([0.5])).cost(denoised, 0.3)
        assert torch.exp(-cost).sum().item() == pytest.approx(1.0, abs=1e-12)
        expected = -stats.norm.logsf(abs((0.5 if mean < 0 else -0.5) - mean) / 0.3)
        assert cost.max().item() == pytest.approx(expected, rel=1e-9)
    # In float32 a narrow interval far in the tail stays finite.
    narrow = Bins(torch.tensor([[5.0]]), torch.tensor([[5.0]]).nextafter(torch.tensor(6.0)), torch.tensor([1e-6]))
    assert narrow.cost(torch.zeros(1, 1), 0.05).isfinite().all()


def test_integers_are_decoded_once_and_then_cost_nothing():
    """The bound of a table of coarse and fine integers and reals is close to what each element costs by itself."""
    law = Gaussian([0.0, 0.0, 0.0], [1.0, 0.5, 0.3])
    schedule = Cosine()
    widths = torch.tensor([0.5, 0.02, 0.0], dtype=torch.float64)
    raw = law.sample(4000, seed=0)
    low = torch.where(widths > 0, (raw / widths.clamp(min=1e-9)).floor() * widths, raw)
    x, times = low + widths / 2, UniformGrid()(schedule, 400)
    bound = variational_bound(ExactDenoiser(law, schedule), x, times, bins=Bins(low, low + widths, widths), draws=1)
    std = np.sqrt([1.0, 0.5, 0.3])
    mass = [np.log(np.diff(stats.norm(0, std[i]).cdf(np.stack([low[:, i], low[:, i] + widths[i]])), axis=0)[0]) for i in (0, 1)]
    truth = mass[0] + mass[1] + stats.norm(0, std[2]).logpdf(raw[:, 2].numpy())
    gap = truth - bound.values
    assert -4 * gap.std() / math.sqrt(4000) < gap.mean() < 0.15
    # Each element has one last step; the coarse integer's is where the noise level passes 0.25.
    levels = [*schedule.noise_level(torch.tensor(bound.times)).tolist(), 0.0]
    bins = Bins(low, low + widths, widths)
    decoded = np.stack([bins.decoded(now, after).numpy() for now, after in itertools.pairwise(levels)])
    assert decoded.sum(0).tolist() == [1, 1, 0]
    assert levels[decoded[:, 0].argmax() + 1] < 0.25 <= levels[decoded[:, 0].argmax()]
    alone = variational_bound(
        ExactDenoiser(law, schedule), x, times, bins=bins, draws=1, varies=torch.tensor([True, False, False])
    )
    assert (alone.terms[:, decoded[:, 0].argmax() + 1 :] == 0).all()
    assert (alone.terms[:, decoded[:, 0].argmax()] > 0).all()


def test_reals_beside_integers_keep_their_density():
    law = Gaussian([0.0, 0.0], 0.3)
    x = torch.tensor([[0.25, 0.1]], dtype=torch.float64)
    times = [1.0, 0.4, 0.0]
    bins = Bins(x - torch.tensor([0.25, 0.0]), x + torch.tensor([0.25, 0.0]), torch.tensor([0.5, 0.0]))
    both = variational_bound(ExactDenoiser(law, Cosine()), x, times, bins=bins, draws=3)
    plain = variational_bound(ExactDenoiser(law, Cosine()), x, times, draws=3)
    second = variational_bound(ExactDenoiser(law, Cosine()), x, times, draws=3, varies=torch.tensor([False, True]))
    first = variational_bound(ExactDenoiser(law, Cosine()), x, times, bins=bins, draws=3, varies=torch.tensor([True, False]))
    assert both.values == pytest.approx(first.values + second.values)
    assert (first.dims, first.constants) == (1, 1)
    assert abs(both.values - plain.values) > 0.1


def test_a_row_does_not_depend_on_its_batch():
    x = LAW.sample(6, seed=1)
    times = UniformGrid()(Cosine(), 4)
    whole = variational_bound(exact_denoiser(Cosine()), x, times, seed=2)
    part = variational_bound(exact_denoiser(Cosine()), x[3:], times, seed=2, first=3)
    np.testing.assert_allclose(part.terms, whole.terms[3:], rtol=1e-12)
    assert (variational_bound(exact_denoiser(Cosine()), x, times, seed=3).terms[:, 1:] != whole.terms[:, 1:]).all()


class Coupled(AbstractDenoiser):
    gaussian_source = False
    schedule = Cosine()

    def forward(self, x_t, t, condition=None):
        return x_t


X = torch.zeros(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"times": [1.0, 0.5]}, ValueError, r"fall strictly from 1 \(noise\) to 0 \(data\)"),
        ({"times": [0.9, 0.5, 0.0]}, ValueError, "fall strictly from 1"),
        ({"times": [1.0, 0.5, 0.5, 0.0]}, ValueError, "fall strictly from 1"),
        ({"variance": "fixed"}, ValueError, "variance must be 'beta', 'beta-tilde', None or a function of t, got 'fixed'"),
        ({"draws": 0}, ValueError, "draws must be at least 1, got 0"),
        ({"draws": 1.5}, TypeError, "draws must be an integer, got 1.5"),
        ({"x": X[0]}, ValueError, r"x must hold rows of floats"),
        ({"denoiser": Coupled()}, ValueError, "the bound needs independent Gaussian noise"),
    ],
)
def test_errors_say_what_to_write(options, error, words):
    arguments = {"denoiser": exact_denoiser(Cosine()), "x": X, "times": [1.0, 0.5, 0.0]} | options
    with pytest.raises(error, match=words):
        variational_bound(arguments.pop("denoiser"), arguments.pop("x"), arguments.pop("times"), **arguments)


def test_the_exploding_chain_starts_at_its_own_noise():
    schedule = Exploding(0.01, 30.0)
    x = LAW.sample(500, seed=0)
    bound = variational_bound(exact_denoiser(schedule), x, UniformGrid()(schedule, 100))
    assert bound.prior == pytest.approx((x.square().sum(1) / (2 * 30.0**2)).numpy())
    gap = -bound.values.mean() + LAW.log_prob(x).mean().item()
    assert abs(gap) < 0.08


def test_the_default_variance_is_beta_where_variance_is_preserved_and_best_for_standard_normal_data():
    x = LAW.sample(20, seed=0)
    times = UniformGrid()(CHAIN, 5)
    default, beta = (variational_bound(exact_denoiser(CHAIN), x, times, variance=v) for v in (None, "beta"))
    np.testing.assert_allclose(default.terms, beta.terms, rtol=1e-10)
    law = Gaussian([0.0], 1.0)
    x, schedule = law.sample(20000, seed=0), Exploding(0.1, 10.0)
    for change in (0.7, 1.4):  # no other variance does better
        other = variational_bound(
            ExactDenoiser(law, schedule), x, [1.0, 0.5, 0.0], variance=lambda t, c=change: c * _mse(schedule, t)
        )
        best = variational_bound(ExactDenoiser(law, schedule), x, [1.0, 0.5, 0.0])
        assert other.terms[:, 0].mean() > best.terms[:, 0].mean() + 1e-3


def _mse(schedule, t):
    sigma = schedule.sigma(torch.tensor(t, dtype=torch.float64)).item()
    return sigma**2 / (1 + sigma**2)
