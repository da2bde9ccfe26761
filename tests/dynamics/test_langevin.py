"""Langevin sampling against closed forms: stationary variances, acceptance probabilities, and mixtures with known CDFs."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pushforward.dynamics.langevin import annealed, mala, unadjusted
from pushforward.dynamics.sde import SDE, WienerPath, integrate_along
from pushforward.probability import Gaussian, GaussianMixture
from pushforward.probability.laws.energy import EnergyLaw

MIXTURE = GaussianMixture([0.3, 0.7], [[-1.5], [1.0]], [0.3, 0.5])


def _zeros(n, dim=1):
    return torch.zeros(n, dim, dtype=torch.float64)


def _mixture_cdf(x):
    return 0.3 * stats.norm(-1.5, math.sqrt(0.3)).cdf(x) + 0.7 * stats.norm(1, math.sqrt(0.5)).cdf(x)


def _normal_log_prob(x):
    return -0.5 * (x**2).sum(-1)


@pytest.mark.parametrize("step", [0.05, 0.5, 1.2])
def test_the_unadjusted_stationary_law_is_the_known_wrong_one(step):
    """On N(0, 1) x' = (1 - h) x + sqrt(2 h) z has the stationary variance 2 h / (1 - (1 - h)^2) = 1 / (1 - h / 2), not 1."""
    chains = unadjusted(lambda x: -x, _zeros(20_000), step, math.ceil(8 / min(step, 2 - step)), seed=0)
    law = stats.norm(0, math.sqrt(1 / (1 - step / 2)))
    assert stats.kstest(chains.samples[:, 0].numpy(), law.cdf).pvalue > 0.01
    assert (chains.acceptance == 1).all()


def test_langevin_climbs_log_p():
    """Away from the mode the mean step goes up the gradient: down it the chains would run away."""
    law = Gaussian([3.0, -1.0], [1.0, 0.25])
    chains = unadjusted(law.score, _zeros(5000, 2), 0.05, 150, seed=0)
    torch.testing.assert_close(chains.samples.mean(0), law.mean, atol=0.06, rtol=0)
    torch.testing.assert_close(chains.samples.var(0), law.cov / (1 - 0.025 / law.cov), atol=0.06, rtol=0)


def test_one_step_is_euler_maruyama_on_the_langevin_equation():
    x = torch.rand(4, 2, dtype=torch.float64)
    still = unadjusted(lambda x: 0 * x, x, 0.08, 1, seed=5).samples - x  # the noise alone
    path = WienerPath([0.0, 0.08], still[None] / math.sqrt(2))
    expected = integrate_along(SDE(lambda x, t: -(x**3), lambda x, t: math.sqrt(2)), x, path).end
    torch.testing.assert_close(unadjusted(lambda x: -(x**3), x, 0.08, 1, seed=5).samples, expected)
    spread = unadjusted(lambda x: 0 * x, _zeros(20_000), 0.08, 1, seed=5).samples
    assert stats.kstest(spread[:, 0].numpy(), stats.norm(0, 0.4).cdf).pvalue > 0.01


def test_the_bias_shrinks_in_proportion_to_the_step():
    """The law of the chain on a mixture by matrix powers, without sampling noise; its error in E[x^2] has slope one.

    The chain of the library is compared with that law at the largest step.
    """
    grid = np.linspace(-6, 6, 801)
    points = torch.from_numpy(grid)[:, None]
    score, density = MIXTURE.score(points)[:, 0].numpy(), MIXTURE.log_prob(points).exp().numpy()
    truth = (grid**2 * density).sum() / density.sum()
    steps, biases, laws = [0.1, 0.05, 0.025, 0.0125], [], []
    for step in steps:
        kernel = stats.norm(grid + step * score, math.sqrt(2 * step)).pdf(grid[:, None])
        laws.append(np.linalg.matrix_power(kernel / kernel.sum(0), 4096) @ np.full(801, 1 / 801))
        biases.append((grid**2 * laws[-1]).sum() - truth)
    assert np.polyfit(np.log(steps[1:]), np.log(np.abs(biases[1:])), 1)[0] == pytest.approx(1.0, abs=0.1)
    assert np.abs(biases[0]) > 0.01
    chains = unadjusted(MIXTURE.score, MIXTURE.sample(10_000, seed=3), 0.1, 200, seed=0).samples[:, 0].numpy()
    cdf = laws[0].cumsum()
    assert stats.kstest(chains, lambda x: np.interp(x, grid + 0.0075, cdf)).pvalue > 0.01


def test_on_a_mixture_mala_is_exact_where_the_unadjusted_chain_is_not():
    start = MIXTURE.sample(5000, seed=9)
    arguments = {"step": 0.6, "n_steps": 40, "seed": 0}
    adjusted = mala(MIXTURE.log_prob, MIXTURE.score, start, **arguments)
    plain = unadjusted(MIXTURE.score, start, **arguments)
    assert stats.kstest(adjusted.samples[:, 0].numpy(), _mixture_cdf).pvalue > 0.01
    assert stats.ks_2samp(adjusted.samples[:, 0].numpy(), MIXTURE.sample(5000, seed=77)[:, 0].numpy()).pvalue > 0.01
    assert stats.kstest(plain.samples[:, 0].numpy(), _mixture_cdf).pvalue < 1e-6
    assert 0.3 < adjusted.acceptance.mean() < 0.95


def test_mala_finds_the_mixture_from_elsewhere():
    chains = mala(MIXTURE.log_prob, MIXTURE.score, _zeros(4000) + 2.5, 0.6, 300, seed=2)
    assert stats.kstest(chains.samples[:, 0].numpy(), _mixture_cdf).pvalue > 0.01


@pytest.mark.parametrize("start", [0.0, 0.7, 2.0])
def test_mala_accepts_with_the_closed_form_probability(start):
    """On N(0, 1) the Metropolis-Hastings ratio is exp(h (x^2 - y^2) / 4) with y = (1 - h) x + sqrt(2 h) z."""
    step = 1.1
    chains = mala(_normal_log_prob, lambda x: -x, _zeros(40_000) + start, step, 1, seed=0)

    def accepted(z):
        y = (1 - step) * start + math.sqrt(2 * step) * z
        return min(1.0, math.exp(step * (start**2 - y**2) / 4)) * stats.norm.pdf(z)

    truth = integrate.quad(accepted, -9, 9, limit=200, points=[-1, 0, 1])[0]
    rate = chains.acceptance.mean().item()
    assert abs(rate - truth) < 4 * math.sqrt(max(truth * (1 - truth), 1e-4) / 40_000)
    moved = chains.samples[:, 0] != start
    assert torch.equal(moved.double(), chains.acceptance)


def test_mala_is_in_detailed_balance():
    """From a start in equilibrium (x, y) and (y, x) have one law: antisymmetric means are 0, also for a score that is wrong."""
    start = Gaussian([0.0, 0.0], [1.0, 0.5]).sample(100_000, seed=1)
    law = Gaussian([0.0, 0.0], [1.0, 0.5])
    for score in (law.score, lambda x: law.score(x) + 0.4):
        end = mala(law.log_prob, score, start, 0.5, 1, seed=0).samples
        for f in (
            lambda x, y: x[:, 0] ** 3 * y[:, 0],
            lambda x, y: x[:, 0] ** 2 * y[:, 1],
            lambda x, y: x[:, 1] * y[:, 1].exp(),
        ):
            gap = f(start, end) - f(end, start)
            assert abs(gap.mean()) < 4 * gap.std() / math.sqrt(100_000)
        assert stats.kstest(end[:, 1].numpy(), stats.norm(0, math.sqrt(0.5)).cdf).pvalue > 0.01


def test_mala_on_an_energy_with_bounded_support():
    """The exponential law: a proposal below 0 is refused, however its score comes out."""
    law = EnergyLaw(lambda x: x[..., 0], dim=1)

    def log_prob(x):
        return torch.where(x[:, 0] > 0, law.log_unnormalized(x), -math.inf)

    chains = mala(log_prob, lambda x: torch.where(x > 0, law.score(x), math.nan), _zeros(5000) + 1, 0.5, 150, seed=0)
    assert stats.kstest(chains.samples[:, 0].numpy(), stats.expon.cdf).pvalue > 0.01
    with pytest.raises(ValueError, match="chain 1 starts where log_prob is -inf; start it inside the support"):
        mala(log_prob, law.score, torch.tensor([[1.0], [-1.0]]), 0.5, 3, seed=0)


def test_annealing_finds_the_weights_of_far_modes_where_langevin_stays_in_one():
    law = GaussianMixture([0.2, 0.8], [[-8.0, 0.0], [8.0, 0.0]], [0.25, 0.25])
    start = Gaussian([5.0, 0.0], 400.0).sample(2000, seed=0)
    levels = torch.tensor([20.0 * 0.75**k for k in range(19)])
    chains = annealed(lambda x, sigma: law.noised(1.0, sigma).score(x), start, levels, 0.1, 60, seed=0)
    left = chains.samples[:, 0] < 0
    assert left.double().mean().item() == pytest.approx(0.2, abs=0.04)
    stuck = unadjusted(law.score, _zeros(2000, 2) + 8, 0.05, 300, seed=0).samples
    assert (stuck[:, 0] > 0).all()
    spread = chains.samples[~left] - law.means[1]
    blurred = math.sqrt(0.25 + levels[-1].item() ** 2)
    assert stats.kstest(spread[:, 1].numpy(), stats.norm(0, blurred).cdf).pvalue > 0.01


def test_the_annealed_step_is_proportional_to_the_variance_of_the_level():
    """Without a score, level sigma adds 2 step sigma^2 n to the variance; and each level's score is called in its turn."""
    seen = []
    chains = annealed(lambda x, sigma: seen.append(sigma) or 0 * x, _zeros(20_000), [3.0, 1.0, 0.5], 0.1, 4, seed=0)
    assert seen == [3.0] * 4 + [1.0] * 4 + [0.5] * 4
    assert chains.evaluations == 12
    law = stats.norm(0, math.sqrt(2 * 0.1 * 4 * (9 + 1 + 0.25)))
    assert stats.kstest(chains.samples[:, 0].numpy(), law.cdf).pvalue > 0.01
    one = annealed(lambda x, sigma: torch.ones_like(x), _zeros(1), [2.0], 0.1, 1, seed=0).samples
    none = annealed(lambda x, sigma: torch.zeros_like(x), _zeros(1), [2.0], 0.1, 1, seed=0).samples
    assert (one - none).item() == pytest.approx(0.4, rel=1e-12)


RUNS = {
    "unadjusted": lambda x, **kw: unadjusted(MIXTURE.score, x, 0.1, 5, **kw),
    "mala": lambda x, **kw: mala(MIXTURE.log_prob, MIXTURE.score, x, 0.9, 5, **kw),
    "annealed": lambda x, **kw: annealed(lambda x, s: MIXTURE.noised(1.0, s).score(x), x, [2.0, 1.0], 0.1, 3, **kw),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_chain_does_not_depend_on_the_batch_and_each_step_is_shown(name):
    x = torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None]
    seen = []
    whole = RUNS[name](x, seed=0, on_step=lambda step, state: seen.append((step, state.clone())))
    part = RUNS[name](x[30:], seed=0, first=30)
    torch.testing.assert_close(part.samples, whole.samples[30:], rtol=1e-14, atol=1e-14)
    torch.testing.assert_close(part.acceptance, whole.acceptance[30:])
    assert not torch.equal(RUNS[name](x, seed=1).samples, whole.samples)
    steps = 6 if name == "annealed" else 5
    assert [step for step, _ in seen] == list(range(1, steps + 1))
    assert torch.equal(seen[-1][1], whole.samples)
    assert whole.evaluations == (steps + 1 if name == "mala" else steps)
    assert not torch.equal(seen[0][1] - x, seen[1][1] - seen[0][1])
    assert x.tolist() == torch.linspace(-1, 1, 40, dtype=torch.float64)[:, None].tolist()


def test_the_acceptance_is_the_share_of_moves():
    x, seen = torch.zeros(50, 2, 3), [torch.zeros(50, 2, 3)]
    chains = mala(
        lambda x: -0.5 * (x**2).flatten(1).sum(1), lambda x: -x, x, 1.2, 8, seed=0, on_step=lambda _, s: seen.append(s.clone())
    )
    moves = sum((a != b).flatten(1).any(1).float() for a, b in itertools.pairwise(seen))
    torch.testing.assert_close(chains.acceptance, moves / 8)
    assert chains.samples.dtype == torch.float32
    assert 0 <= moves.min() < moves.max() <= 8


def test_no_graph_is_kept_of_a_network():
    network = torch.nn.Linear(2, 2)
    chains = unadjusted(network, torch.zeros(3, 2), 0.01, 3, seed=0)
    assert not chains.samples.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"step": 0.0}, "step must be positive and finite, but is 0"),
        ({"step": math.nan}, "step must be positive and finite, but is nan"),
        ({"n_steps": 0}, "n_steps must be at least 1, but is 0"),
        ({"x": torch.zeros(3)}, r"floating-point with the shape \(B, \*D\), but is torch.float32 of the shape \(3,\)"),
        ({"x": torch.zeros(3, 1, dtype=torch.int64)}, "but is torch.int64"),
        ({"x": torch.full((3, 1), math.inf)}, r"x must be finite, but entry \(0, 0\) is inf"),
    ],
)
def test_bad_arguments_say_what_is_wrong(change, message):
    arguments = {"x": torch.zeros(3, 1), "step": 0.1, "n_steps": 2, "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        unadjusted(lambda x: -x, **arguments)
    with pytest.raises(ValueError, match=message):
        mala(_normal_log_prob, lambda x: -x, **arguments)
    with pytest.raises(ValueError, match=message):
        annealed(lambda x, s: -x, noise_levels=[1.0], **arguments)


def test_bad_levels_and_densities_say_what_is_wrong():
    for levels in ([1.0, 2.0], [1.0, 1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match=r"noise_levels must be positive and fall, but are \[1\.0"):
            annealed(lambda x, s: -x, torch.zeros(2, 1), levels, 0.1, 2, seed=0)
    with pytest.raises(ValueError, match=r"noise_levels must have the shape \(L,\)"):
        annealed(lambda x, s: -x, torch.zeros(2, 1), 1.0, 0.1, 2, seed=0)
    with pytest.raises(ValueError, match=r"one number per chain, \(2,\), but returned \(2, 1\)"):
        mala(lambda x: -(x**2), lambda x: -x, torch.zeros(2, 1), 0.1, 2, seed=0)


def test_a_step_that_is_too_large_is_reported():
    start, message = torch.full((2, 1), 3.0), r"no longer finite at step {}: step = 5 is too large; take a smaller one"
    with pytest.raises(ArithmeticError, match=message.format("[3-6]")):
        unadjusted(lambda x: -(x**3), start, 5.0, 50, seed=0)
    with pytest.raises(ArithmeticError, match=message.format("[3-6]")):
        annealed(lambda x, s: -(x**3), start, [1.0], 5.0, 50, seed=0)
    with pytest.raises(ArithmeticError, match=message.format(1)):
        mala(_normal_log_prob, lambda x: x / 0, start, 5.0, 50, seed=0)
    # Where the unadjusted chain explodes the adjusted one stands still.
    assert (mala(lambda x: -0.25 * (x**4).sum(-1), lambda x: -(x**3), start, 5.0, 5, seed=0).samples == start).all()
    with pytest.raises(ArithmeticError, match=r"acceptance is NaN at step 1: check log_prob and score"):
        mala(lambda x: torch.where(x[:, 0] == 0, 0.0, math.nan), lambda x: -x, torch.zeros(2, 1), 0.1, 2, seed=0)
