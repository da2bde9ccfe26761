"""The numbers behind the plots of likelihood, guidance and posterior, against quadrature and textbook formulas."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy, norm

from pushforward.diffusion import MMPS, Exact
from pushforward.gallery import questions

LINE = np.linspace(-6, 6, 4001)


def both(x):
    return 0.5 * norm.pdf(x, -0.8, 0.5) + 0.5 * norm.pdf(x, 0.8, 0.5)


@pytest.mark.parametrize(
    ("scale", "cdf"),
    [
        (0.0, lambda x: 0.5 * norm.cdf(x, -0.8, 0.5) + 0.5 * norm.cdf(x, 0.8, 0.5)),
        (1.0, lambda x: norm.cdf(x, 0.8, 0.5)),
    ],
)
def test_guided_samples_are_exact_at_zero_and_one(scale, cdf):
    drawn = np.sort(questions._guided(scale)[:, 0].numpy())
    levels = (np.arange(len(drawn)) + 0.5) / len(drawn)
    np.testing.assert_allclose(cdf(drawn), levels, atol=6e-3)


def test_the_curve_is_the_tilted_density():
    for scale in questions.SCALES:
        expected = both(LINE) * (0.5 * norm.pdf(LINE, 0.8, 0.5) / both(LINE)) ** scale
        expected /= np.trapezoid(expected, LINE)
        found = questions.tilted(torch.tensor(LINE), scale).numpy()
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_above_one_samples_go_farther_out_than_the_curve():
    for scale, least in ((2.0, 0.2), (4.0, 0.45)):
        density = questions.tilted(torch.tensor(LINE), scale).numpy()
        mean = np.trapezoid(LINE * density, LINE)
        assert questions._guided(scale).mean().item() > mean + least


def test_the_bits_of_all_steps_sum_to_a_little_more_than_the_entropy():
    weights, middles = questions._integers()
    truth = entropy(weights.numpy(), base=2)
    sums = []
    for steps in questions.CHAINS:
        times, terms, prior = questions._bits(steps)
        assert times.shape == terms.shape == (steps,)
        assert times[0] == 1
        sums.append((terms.sum() + prior).item())
    assert truth < sums[2] < sums[1] < sums[0] < truth + 0.25
    # What the prior costs: KL(N(alpha x, sigma^2) || N(0, sigma^2)).
    alpha, sigma = (
        scale(torch.tensor(1.0, dtype=torch.float64)) for scale in (questions.SCHEDULE.alpha, questions.SCHEDULE.sigma)
    )
    expected = (weights * (alpha * middles / sigma) ** 2 / 2).sum() / np.log(2)
    assert prior.item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_integers_are_all_those_of_the_range():
    weights, middles = questions._integers()
    assert len(weights) == questions.INTEGERS
    assert weights.sum().item() == pytest.approx(1)
    width = middles.diff()
    torch.testing.assert_close(width, torch.full_like(width, 4 / questions.INTEGERS))
    assert middles[0] - width[0] / 2 == pytest.approx(-2)


def test_the_exact_posterior_is_that_of_quadrature():
    axis = torch.linspace(-2.2, 2.2, 441, dtype=torch.float64)
    points = torch.cartesian_prod(axis, axis)
    likelihood = torch.tensor(norm.pdf(points[:, 0].numpy(), questions.MEASURED, questions.NOISE))
    seen = questions.RING.log_prob(points).exp() * likelihood
    seen /= seen.sum()
    share = seen[points[:, 1] > 0].sum().item()
    mean = (seen * points[:, 0]).sum()
    spread = (seen * (points[:, 0] - mean) ** 2).sum().sqrt().item()
    drawn = questions._posterior(Exact())
    assert drawn.shape == (questions.POSTERIOR_ROWS, 2)
    assert (drawn[:, 1] > 0).double().mean().item() == pytest.approx(share, abs=0.05)  # three standard errors
    assert drawn[:, 0].std().item() == pytest.approx(spread, abs=0.02)
    # What the guide says of the default's neighbor: near in spread, and too much weight on the smaller modes.
    nearly = questions._posterior(MMPS(iterations=1))
    assert nearly[:, 0].std().item() == pytest.approx(spread, rel=0.2)
    assert 0.6 < (nearly[:, 1] > 0).double().mean().item() < share


def test_no_method_takes_more_passes_than_are_said():
    calls = []

    class Counting(MMPS):
        def run(self, *arguments, steps, **options):
            calls.append(self.passes(steps))
            return super().run(*arguments, steps=1, **options)

    questions._posterior(Counting(iterations=2))
    assert calls == [questions.PASSES]
