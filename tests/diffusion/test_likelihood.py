"""Log-densities by the flow against exact laws, quadrature and closed forms."""

import itertools

import numpy as np
import pytest
import torch
from oracle import LAW, exact_denoiser, float64

from pushforward import diffusion
from pushforward.diffusion import (
    Cosine,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    Guided,
    LinearBeta,
    LogProb,
    StandardNoise,
    StraightLine,
    SubVP,
    flow_log_prob,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

pytestmark = pytest.mark.usefixtures("refined")
SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), DiscreteBeta(), Exploding()]
SPIKY = GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.5]], [0.06**2, 0.12**2])
WIDE = Gaussian([0.3, -1.0, 2.0], [[4.0, 0.5, 0.1], [0.5, 0.6, 0.0], [0.1, 0.0, 0.2]])
LAWS = {"mixture": LAW, "spiky": SPIKY, "wide": WIDE}


def end(schedule):
    one = float64(1.0)
    return schedule.alpha(one).item(), schedule.sigma(one).item()


def own_prior(law, schedule):
    """The law of x_1, or None where it is pure noise."""
    alpha, sigma = end(schedule)
    return law.noised(alpha, sigma) if alpha > 1e-12 else None


EACH = dict(zip(LAWS, [StraightLine(), LinearBeta(), Exploding()], strict=True))  # test_last_step meets the other schedules


@pytest.mark.parametrize(
    ("schedule", "name"),
    [
        pytest.param(schedule, name, marks=[] if schedule == EACH[name] else [pytest.mark.full])
        for schedule, name in itertools.product(SCHEDULES, LAWS)
    ],
)
def test_exact_laws_to_a_ten_thousandth_per_dimension(schedule, name):
    law = LAWS[name]
    x = law.sample(20, seed=0)
    result = flow_log_prob(ExactDenoiser(law, schedule), x, prior=own_prior(law, schedule), steps=64)
    error = np.abs(result.values - law.log_prob(x).numpy())
    assert error.max() < 1e-4 * law.dim
    assert result.kind == "exact"
    assert (result.standard_error == 0).all()
    assert (result.prior_mismatch == 0).all()
    assert result.dims == law.dim


def test_default_steps_and_the_numerical_error():
    x = LAW.sample(40, seed=0)
    denoiser, truth = exact_denoiser(Cosine()), LAW.log_prob(x).numpy()
    result = flow_log_prob(denoiser, x, steps=32)
    assert (np.abs(result.values - truth) <= 0.3 * result.numerical_error + 1e-7).all()
    coarse = flow_log_prob(denoiser, x, steps=16)
    assert (result.numerical_error >= np.abs(result.values - coarse.values) - 1e-10).all()
    default = flow_log_prob(denoiser, x)
    assert np.abs(default.values - truth).max() < 1e-3
    assert default.nfe == result.nfe
    # Too few steps are doubled row by row.
    few, doubled = flow_log_prob(denoiser, x, steps=4), flow_log_prob(denoiser, x, first_steps=4)
    assert doubled.nfe > few.nfe
    assert np.median(np.abs(doubled.values - truth)) < 0.1 * np.median(np.abs(few.values - truth))


def test_the_order_is_four():
    """On a mixture: the divergence of a Gaussian's flow does not depend on the state, so it would not tell."""
    x = LAW.sample(20, seed=0)
    denoiser, truth = exact_denoiser(Cosine()), LAW.log_prob(x).numpy()
    errors = [np.abs(flow_log_prob(denoiser, x, steps=steps).values - truth).mean() for steps in (24, 48)]
    assert 3.7 < np.log2(errors[0] / errors[1]) < 4.4


class Wrong(AbstractDenoiser):
    """Not the E[x | x_t] of anything: the flow still generates some law."""

    def __init__(self, schedule, gaussian_source=True):
        super().__init__()
        self.schedule, self.gaussian_source = schedule, gaussian_source

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        share = sigma / (alpha**2 + sigma**2)
        return alpha * share / sigma * x_t + share * (0.5 * torch.tanh(2 * x_t) + 0.4 * torch.sin(3 * x_t) + 0.3)


@pytest.mark.parametrize("schedule", [StraightLine(), LinearBeta(), Exploding(0.05, 4.0)])
def test_any_denoiser_has_a_density_that_integrates_to_one(schedule):
    line = torch.linspace(-14, 14, 2001, dtype=torch.float64)
    values = flow_log_prob(Wrong(schedule), line[:, None], steps=32).values
    assert np.trapezoid(np.exp(values), line.numpy()) == pytest.approx(1.0, abs=2e-3)


def test_the_density_is_that_of_what_the_sampler_draws():
    """Histogram of samples, by the sampler's own arithmetic, against the integral of the density over each bin."""
    schedule = LinearBeta()
    noise = torch.special.ndtri((torch.arange(20000, dtype=torch.float64) + 0.5) / 20000)[:, None]
    x = diffusion.DPMSolver(order=3, grid=diffusion.LogSNRGrid()).run(
        exact := ExactDenoiser(GaussianMixture([0.3, 0.7], [[-1.0], [1.0]], [0.2, 0.05]), schedule), noise, steps=120
    )
    edges = np.linspace(-2.5, 2.0, 19)
    share = np.histogram(x.numpy(), edges)[0] / len(x)
    fine = torch.linspace(-2.5, 2.0, 18 * 20 + 1, dtype=torch.float64)
    density = np.exp(flow_log_prob(exact, fine[:, None], steps=32).values)
    mass = [np.trapezoid(density[20 * k : 20 * k + 21], fine[20 * k : 20 * k + 21].numpy()) for k in range(18)]
    np.testing.assert_allclose(share, mass, atol=1e-3)


@pytest.mark.parametrize("schedule", [LinearBeta(), Exploding(0.01, 8.0)])
def test_the_prior_mismatch_is_the_kl_of_the_noised_row_to_the_noise(schedule):
    x = LAW.sample(50, seed=0)
    alpha, sigma = end(schedule)
    result = flow_log_prob(exact_denoiser(schedule), x, steps=8)
    normal = torch.distributions.Normal
    kl = torch.distributions.kl_divergence(normal(alpha * x, sigma), normal(torch.zeros_like(x), sigma)).sum(1)
    np.testing.assert_allclose(result.prior_mismatch, kl.numpy(), rtol=1e-9)
    # The prior is all that it is about: the flow ends in the same place.
    own = flow_log_prob(exact_denoiser(schedule), x, steps=8, prior=LAW.noised(alpha, sigma))
    assert 0 < np.abs(own.values - result.values).max() < 20 * np.sqrt(result.prior_mismatch.max())
    assert (own.prior_mismatch == 0).all()
    assert flow_log_prob(exact_denoiser(Cosine()), x[:2], steps=4).prior_mismatch.max() < 1e-20


def test_hutchinson_is_unbiased_and_knows_its_error():
    x = LAW.sample(100, seed=1)
    denoiser = exact_denoiser(StraightLine())
    exact = flow_log_prob(denoiser, x, steps=6)
    estimate = flow_log_prob(denoiser, x, steps=6, divergence="hutchinson", probes=8, seed=5)
    assert estimate.kind == "estimate"
    assert estimate.nfe == exact.nfe
    z = (estimate.values - exact.values) / estimate.standard_error
    assert abs(np.median(z)) < 0.35
    assert 0.8 < np.sqrt(np.mean(z**2)) < 1.4
    many = flow_log_prob(denoiser, x[:10], steps=6, divergence="hutchinson", probes=80)
    assert (np.abs(many.values - exact.values[:10]) < 4.5 * many.standard_error).all()
    assert np.isnan(flow_log_prob(denoiser, x[:2], steps=4, divergence="hutchinson", probes=1).standard_error).all()


def test_hutchinson_is_exact_where_the_jacobian_is_diagonal():
    law = Gaussian([0.0, 1.0], [0.5, 2.0])
    x = law.sample(5, seed=0)
    denoiser = ExactDenoiser(law, Cosine())
    options = {"steps": 6}
    exact = flow_log_prob(denoiser, x, **options)
    estimate = flow_log_prob(denoiser, x, divergence="hutchinson", probes=2, **options)
    np.testing.assert_allclose(estimate.values, exact.values, atol=1e-12)
    np.testing.assert_allclose(estimate.standard_error, 0, atol=1e-12)


def test_large_rows_are_estimated_and_small_ones_exact():
    for dim, kind in ((32, "exact"), (33, "estimate")):
        law = Gaussian(torch.zeros(dim, dtype=torch.float64), 0.5)
        x = law.sample(2, seed=0)
        result = flow_log_prob(ExactDenoiser(law, Cosine()), x, steps=32)
        assert result.kind == kind
        np.testing.assert_allclose(result.values, law.log_prob(x).numpy(), atol=1e-4 * dim)


def test_a_row_does_not_depend_on_its_batch():
    x = LAW.sample(6, seed=1)
    denoiser, options = exact_denoiser(StraightLine()), {"steps": 6, "divergence": "hutchinson", "seed": 9}
    whole = flow_log_prob(denoiser, x, **options)
    part = flow_log_prob(denoiser, x[2:4], first=2, **options)
    np.testing.assert_allclose(part.values, whole.values[2:4], rtol=1e-12)
    np.testing.assert_allclose(part.standard_error, whole.standard_error[2:4], rtol=1e-9)
    other = flow_log_prob(denoiser, x, **(options | {"seed": 10}))
    assert (np.abs(other.values - whole.values) > 1e-6).all()


def test_images_are_rows_too():
    x = LAW.sample(4, seed=0)
    flat = flow_log_prob(exact_denoiser(Cosine()), x, steps=8)
    shaped = flow_log_prob(exact_denoiser(Cosine()), x.reshape(4, 1, 2, 1), steps=8)
    np.testing.assert_allclose(shaped.values, flat.values, rtol=1e-12)


class WithConstant(AbstractDenoiser):
    """LAW beside a third element that is always 3, in the middle."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.oracle = schedule, exact_denoiser(schedule)

    def forward(self, x_t, t, condition=None):
        # A network need not ignore the noised constant: where it is not that of the path, this one is far off.
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        eps = ((x_t[:, 1:2] - 3 * alpha) / sigma).abs()
        off = ((eps > 7) | (eps < 1e-6)).double()
        moving = self.oracle(x_t[:, [0, 2]], t)
        return torch.cat((moving[:, :1] + 5 * off, torch.full_like(x_t[:, :1], 3.0), moving[:, 1:] + 5 * off), 1)


@pytest.mark.parametrize("divergence", ["exact", "hutchinson"])
def test_elements_that_never_change_have_no_density(divergence):
    moving = LAW.sample(5, seed=0)
    x = torch.stack((moving[:, 0], torch.full((5,), 3.0), moving[:, 1]), 1)
    result = flow_log_prob(
        WithConstant(StraightLine()), x, varies=torch.tensor([True, False, True]), steps=24, divergence=divergence, probes=8
    )
    assert (result.dims, result.constants) == (2, 1)
    error = np.abs(result.values - LAW.log_prob(moving).numpy())
    assert (error < 1e-4 + 4.5 * result.standard_error).all()


class GaussianToGaussian(AbstractDenoiser):
    """E[x | alpha x + sigma z] for independent Gaussian x and z, both with a mean and a variance of their own."""

    gaussian_source = False

    def __init__(self, schedule, x, z):
        super().__init__()
        self.schedule, self.x, self.z = schedule, x, z

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.x.cov / (alpha**2 * self.x.cov + sigma**2 * self.z.cov)
        return self.x.mean + gain * (x_t - alpha * self.x.mean - sigma * self.z.mean)


@pytest.mark.parametrize("schedule", [StraightLine(), DiscreteBeta()])
def test_any_source_with_a_density(schedule):
    law, source = Gaussian([1.0, -1.0], 0.09), Gaussian([3.0, 2.0], 4.0)
    x = law.sample(10, seed=0)
    alpha, sigma = end(schedule)
    prior = Gaussian(alpha * law.mean + sigma * source.mean, alpha**2 * law.cov + sigma**2 * source.cov)
    result = flow_log_prob(GaussianToGaussian(schedule, law, source), x, prior=prior)
    tolerance = 1e-5 if schedule.t_min < 1e-3 else 5e-3  # a straight line through noise levels near 0.01
    np.testing.assert_allclose(result.values, law.log_prob(x).numpy(), atol=tolerance)


class Labelled(AbstractDenoiser):
    """N(condition, 0.25)."""

    def __init__(self):
        super().__init__()
        self.schedule = Cosine()

    def forward(self, x_t, t, condition=None):
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        return condition + alpha * 0.25 / (alpha**2 * 0.25 + sigma**2) * (x_t - alpha * condition)


def test_conditions_and_guidance():
    x, condition = torch.tensor([[0.2], [1.5]], dtype=torch.float64), torch.tensor([[0.0], [2.0]], dtype=torch.float64)
    plain = flow_log_prob(Labelled(), x, condition=condition, steps=48)
    np.testing.assert_allclose(plain.values, torch.distributions.Normal(condition, 0.5).log_prob(x)[:, 0].numpy(), atol=1e-4)
    guided = flow_log_prob(Guided(Labelled(), 2.0), x, condition=condition, steps=48)
    # Of Gaussians of equal variance, uncond + 2 (cond - uncond) is the one about 2 cond.
    np.testing.assert_allclose(
        guided.values, torch.distributions.Normal(2 * condition, 0.5).log_prob(x)[:, 0].numpy(), atol=1e-4
    )
    assert guided.nfe == 2 * plain.nfe


def test_float32_is_enough():
    x = LAW.sample(20, seed=0)
    values = flow_log_prob(exact_denoiser(StraightLine()), x.float(), steps=32).values
    np.testing.assert_allclose(values, LAW.log_prob(x).numpy(), atol=2e-3)
    assert values.dtype == np.float64


def test_results_in_bits_joined_and_averaged():
    zeros = np.zeros(2)
    a = LogProb(np.array([-1.0, -2.0]), "exact", zeros, np.array([0.1, 0.2]), zeros, nfe=3, dims=4)
    b = LogProb(np.array([-3.0, -2.5]), "exact", zeros, np.array([0.3, 0.2]), zeros, nfe=3, dims=4)
    bits = a.in_bits_per_dim()
    np.testing.assert_allclose(bits.values, [0.25 / np.log(2), 0.5 / np.log(2)])
    np.testing.assert_allclose(bits.numerical_error, a.numerical_error / (4 * np.log(2)))
    assert bits.unit == "bits per dimension"
    assert bits.in_bits_per_dim() is bits
    both = LogProb.average([a, b], "lower bound")
    np.testing.assert_allclose(both.values, [-2.0, -2.25])
    np.testing.assert_allclose(both.standard_error, np.std([[-1, -2], [-3, -2.5]], axis=0, ddof=1) / np.sqrt(2))
    assert (both.kind, both.nfe) == ("lower bound", 6)
    assert LogProb.concatenate([a, b]).values.tolist() == [-1.0, -2.0, -3.0, -2.5]
    assert a.shifted(2.0).values.tolist() == [1.0, 0.0]
    assert StandardNoise(2.0).log_prob(torch.ones(1, 3)).item() == pytest.approx(
        torch.distributions.Normal(0.0, 2.0).log_prob(torch.tensor(1.0)).item() * 3
    )


X = torch.zeros(2, 2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"steps": 1}, ValueError, "steps must be at least 2, got 1"),
        ({"steps": 4.0}, TypeError, "steps must be an integer, got 4.0"),
        ({"probes": 0}, ValueError, "probes must be at least 1, got 0"),
        ({"divergence": "skilling"}, ValueError, "divergence must be 'exact', 'hutchinson' or None"),
        ({"x": X[0]}, ValueError, r"x must hold rows of floats, .* got \(2,\)"),
        ({"x": X.long()}, ValueError, "of torch.int64"),
        ({"denoiser": Wrong(Cosine(), gaussian_source=False)}, ValueError, r"give the law of x_1 as prior=.*StandardNoise"),
    ],
)
def test_errors_say_what_to_write(options, error, words):
    arguments = {"denoiser": exact_denoiser(Cosine()), "x": X} | options
    with pytest.raises(error, match=words):
        flow_log_prob(arguments.pop("denoiser"), arguments.pop("x"), **arguments)
