"""Posterior methods: exact where theory says so, and in law against the closed form of mixtures."""

import math

import numpy as np
import pytest
import torch
from laws import full
from scipy.stats import kstest, norm, wasserstein_distance
from thin import thinned

from pushforward.diffusion import (
    DDIM,
    DDPM,
    DPS,
    MMPS,
    Cosine,
    DiffPIR,
    DPMSolver,
    Exact,
    ExactDenoiser,
    Guided,
    LinearBeta,
    Mask,
    Matrix,
    PiGDM,
    Replacement,
    StraightLine,
    observe,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.posterior import PosteriorDenoiser
from pushforward.diffusion.posterior.krylov import Covariance, root, solve, solve_isotropic
from pushforward.diffusion.posterior.method import InverseProblem
from pushforward.probability import Gaussian, GaussianMixture

A = np.array([[1.0, 0.5, -0.3], [0.2, -1.0, 0.4]])
Y = np.array([0.7, -0.4])
COV = np.array([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]])
NORMAL = Gaussian([0.3, -0.2, 0.1], COV)
MIX = GaussianMixture([0.4, 0.6], [[-1.0, 0.5, 0.0], [1.0, -0.5, 0.3]], np.stack([0.3 * COV, 0.2 * np.eye(3)]))
SCHEDULES = [LinearBeta(), StraightLine(), Cosine()]
METHODS = [MMPS(), PiGDM(), DiffPIR(), DPS(0.3), Replacement(2)]
name_of = {"ids": lambda value: type(value).__name__}


def float64(value):
    return torch.tensor(value, dtype=torch.float64)


def starts(n, *shape):
    return torch.randn(n, *shape, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, **name_of)
@pytest.mark.parametrize("t", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("std", [0.0, 0.3])
def test_moment_matching_is_exact_for_a_gaussian(schedule, t, std):
    """E[x | x_t, y] by Bayes on the stacked observation of (x_t, y), in NumPy; above the noise level 10 s as if at it."""
    x_t = starts(5, 3)
    denoiser = ExactDenoiser(NORMAL, schedule)
    got = PosteriorDenoiser(denoiser, observe(Matrix(A), Y, std, (3,)), MMPS(iterations=2))(x_t, float64(t))
    at = schedule.t_of_log_snr(float64(-2 * math.log(10 * denoiser.data_std))).clamp(max=t)
    x_t = x_t * schedule.sigma(at) / schedule.sigma(float64(t))
    alpha, sigma = schedule.alpha(at).item(), schedule.sigma(at).item()
    H = np.concatenate([alpha * np.eye(3), A])
    noise = np.diag([sigma**2] * 3 + [std**2] * 2)
    gain = COV @ H.T @ np.linalg.inv(H @ COV @ H.T + noise)
    mean = NORMAL.mean.numpy()
    stacked = np.concatenate([x_t.numpy(), np.tile(Y, (5, 1))], 1)
    expected = mean + (stacked - H @ mean) @ gain.T
    np.testing.assert_allclose(got, expected, atol=1e-8)


def test_moment_matching_with_correlated_noise():
    R = np.array([[0.5, 0.3], [0.3, 0.4]])
    x_t, t, schedule = starts(4, 3), float64(0.5), LinearBeta()
    seen = observe(Matrix(A), Y, Gaussian([0.1, -0.2], R), (3,))
    got = PosteriorDenoiser(ExactDenoiser(NORMAL, schedule), seen, MMPS(iterations=2))(x_t, t)
    alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
    exact = NORMAL.observe(A, Y, Gaussian([0.1, -0.2], R))
    expected = ExactDenoiser(exact, schedule)(x_t, t)
    torch.testing.assert_close(got, expected)
    assert alpha < 1 < alpha + sigma


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_the_solver_is_the_best_in_the_krylov_space(iterations):
    """Least error in the norm of R + A V A^T, against dense projections in NumPy."""
    V, std = torch.tensor(COV), 0.1
    B = torch.randn(3, 3, dtype=torch.float64)
    seen = observe(Matrix(B), torch.randn(3, dtype=torch.float64), std, (3,))
    residual = torch.randn(4, 3, dtype=torch.float64)
    v, moved = solve(seen, residual, Covariance(lambda u: u @ V), torch.zeros(4, 3, dtype=torch.float64), iterations)
    K = (std**2 * torch.eye(3) + B @ V @ B.mT).numpy()
    for row in range(4):
        start = residual[row].numpy()
        space = np.stack([np.linalg.matrix_power(K, power) @ start for power in range(iterations)], 1)
        best = space @ np.linalg.solve(space.T @ K @ space, space.T @ start)
        np.testing.assert_allclose(v[row].numpy(), best, rtol=1e-6)
    torch.testing.assert_close(moved, v @ B @ V)


def test_the_solver_takes_no_long_step_where_the_curvature_vanishes():
    """A rotation has w^T V w = 0 for all w, and is no covariance: the step keeps the stated bound."""
    rotation = float64([[0.0, -1.0], [1.0, 1e-9]])
    seen = observe(Matrix(np.eye(2)), [1.0, 2.0], 0.0, (2,))
    for size in (1e-6, 1e-2, 1.0, 1e2):
        V = Covariance(lambda u, size=size: size * (u @ rotation.mT), least=0.01, largest=4.0)
        _, moved = solve(seen, float64([[1.0, 2.0]]), V, float64([[0.0, 0.0]]), 1)
        assert moved.norm() <= math.sqrt(5 * 4 / 0.01)
        _, moved = solve(seen, float64([[0.0, 0.0]]), V, float64([[0.0, 0.0]]), 2)
        assert torch.equal(moved, torch.zeros_like(moved))


def test_the_root_is_that_of_the_covariance():
    """V^1/2 z by eigenvalues in NumPy; negative ones count as 0, and large ones as the bound."""
    z = starts(5, 3)
    values, vectors = np.linalg.eigh(COV)
    expected = z.numpy() @ vectors @ np.diag(np.sqrt(values)) @ vectors.T
    np.testing.assert_allclose(root(Covariance(lambda u: u @ torch.tensor(COV)), z, 3), expected, rtol=1e-6)
    np.testing.assert_allclose(root(Covariance(lambda u: 4.0 * u), z, 2), 2 * z)
    assert torch.equal(root(Covariance(lambda u: -u), z, 2), torch.zeros_like(z))
    assert bool((root(Covariance(lambda u: 100.0 * u, largest=4.0), z, 2).norm(dim=1) <= 2 * z.norm(dim=1) + 1e-9).all())


@pytest.mark.parametrize("schedule", SCHEDULES[:2], **name_of)
@pytest.mark.parametrize("std", [0.0, 0.4])
def test_each_correction_is_its_formula(schedule, std):
    """PiGDM and DiffPIR with dense matrices and the Jacobian by autograd."""
    x_t, t = starts(1, 3), float64(0.4)
    denoiser, seen = ExactDenoiser(MIX, schedule), observe(Matrix(A), Y, std, (3,))
    alpha, sigma = schedule.alpha(t).item(), schedule.sigma(t).item()
    D = denoiser(x_t, t).numpy()[0]
    J = torch.autograd.functional.jacobian(lambda x: denoiser(x, t), x_t)[0, :, 0].numpy()
    e, V = Y - A @ D, sigma**2 / alpha * J.T
    for s in (1.0, 0.7):
        r2 = sigma**2 * s**2 / (alpha**2 * s**2 + sigma**2)
        expected = D + V @ A.T @ np.linalg.solve(std**2 * np.eye(2) + r2 * A @ A.T, e)
        np.testing.assert_allclose(PosteriorDenoiser(denoiser, seen, PiGDM(data_std=s))(x_t, t)[0], expected, rtol=1e-8)
    for pull in (1.0, 3.0):
        v = (sigma / alpha) ** 2 / pull
        expected = D + v * A.T @ np.linalg.solve(std**2 * np.eye(2) + v * A @ A.T, e)
        np.testing.assert_allclose(PosteriorDenoiser(denoiser, seen, DiffPIR(pull=pull))(x_t, t)[0], expected, rtol=1e-8)
    expected = D + V @ A.T @ np.linalg.solve(std**2 * np.eye(2) + A @ V @ A.T, e)
    np.testing.assert_allclose(PosteriorDenoiser(denoiser, seen, MMPS(iterations=2))(x_t, t)[0], expected, rtol=1e-8)


def test_one_step_of_dps_is_its_formula():
    """x_s = DDPM's step - strength * grad |y - A D|, the gradient by autograd; the last step returns D, corrected."""
    schedule, denoiser = LinearBeta(), ExactDenoiser(MIX, LinearBeta())
    z, strength = starts(4, 3), 0.8
    got = DPS(strength).run(denoiser, observe(Matrix(A), Y, 0.1, (3,)), z, steps=1, seed=0)
    x = (z * schedule.sigma(float64(1.0))).requires_grad_()
    D = denoiser(x, float64(1.0))
    length = (torch.tensor(Y) - D @ torch.tensor(A).T).norm(dim=1)
    (gradient,) = torch.autograd.grad(length.sum(), x)
    torch.testing.assert_close(got, (D - strength * gradient).detach())


def test_ddpm_chain_of_the_loops():
    """With a measurement of nothing, replacement once is DDPM: the same law, here by mean and variance of a Gaussian."""
    seen = observe(Mask([False] * 3), [0.0] * 3, 0.0, (3,))
    x = Replacement(repeats=1).run(ExactDenoiser(NORMAL, LinearBeta()), seen, starts(2000, 3), steps=50, seed=0)
    np.testing.assert_allclose(x.mean(0), NORMAL.mean, atol=0.07)
    again = DDPM().run(ExactDenoiser(NORMAL, LinearBeta()), starts(2000, 3), steps=50, seed=1)
    np.testing.assert_allclose(np.cov(x.T.numpy()), np.cov(again.T.numpy()), atol=0.08)
    x = Replacement(repeats=4).run(ExactDenoiser(NORMAL, LinearBeta()), seen, starts(2000, 3), steps=50, seed=0)
    np.testing.assert_allclose(x.mean(0), NORMAL.mean, atol=0.07)
    np.testing.assert_allclose(np.cov(x.T.numpy()), np.cov(again.T.numpy()), atol=0.08)


def test_replacement_puts_the_measurement_in_place():
    """Noiseless: A x = y to rounding, for masks and any matrix."""
    denoiser = ExactDenoiser(MIX, LinearBeta())
    for operator, y in ((Matrix(A), Y), (Mask([True, False, True]), np.array([0.4, 0.0, -0.2]))):
        x = Replacement(3).run(denoiser, observe(operator, y, 0.0, (3,)), starts(6, 3), steps=10, seed=0)
        torch.testing.assert_close(operator(x), torch.tensor(y).expand(6, -1))


def test_replacement_noises_the_measurement_to_the_level_of_the_state():
    """Known part of x_s: mean alpha y and variance sigma^2 in all, of which alpha^2 std^2 is in y already."""
    from pushforward.diffusion.posterior.chain import Chain

    schedule, s, std = LinearBeta(), float64(0.3), 1.0
    seen = observe(Mask([True, False, False]), [0.9, 0.0, 0.0], std, (3,))
    problem = InverseProblem(ExactDenoiser(NORMAL, schedule), seen, starts(20000, 3), 1, None, seed=0, first=0)
    chain = Chain(problem)
    x_s = starts(20000, 3)
    moved = Replacement()._replace(seen, chain, x_s, s)
    alpha, sigma = schedule.alpha(s).item(), schedule.sigma(s).item()
    torch.testing.assert_close(moved[:, 1:], x_s[:, 1:])
    assert kstest(moved[:, 0], norm(0.9 * alpha, math.sqrt(sigma**2 - alpha**2 * std**2)).cdf).pvalue > 1e-3


@thinned(together=1, sampler=[None, DDIM(eta=1.0), DPMSolver(order=3)], std=[0.0, 0.3])
def test_samples_of_a_gaussian_posterior(sampler, std):
    """Kolmogorov-Smirnov in directions that the measurement leaves open, and in one that it fixes."""
    seen = observe(Matrix(A), Y, std, (3,))
    steps = 10 if sampler is None else 150
    x = MMPS(sampler, iterations=2).run(ExactDenoiser(NORMAL, LinearBeta()), seen, starts(1500, 3), steps=steps, seed=0)
    gain = COV @ A.T @ np.linalg.inv(A @ COV @ A.T + std**2 * np.eye(2))
    mean = NORMAL.mean.numpy() + gain @ (Y - A @ NORMAL.mean.numpy())
    cov = COV - gain @ A @ COV
    null = np.linalg.svd(A)[2][2]
    assert kstest(x.numpy() @ null, norm(null @ mean, math.sqrt(null @ cov @ null)).cdf).pvalue > 1e-3
    if std:
        assert kstest(x.numpy()[:, 0], norm(mean[0], math.sqrt(cov[0, 0])).cdf).pvalue > 1e-3
    else:
        np.testing.assert_allclose(x.numpy() @ A.T, np.tile(Y, (1500, 1)), atol=1e-8)


def distance(x, y):
    """Mean Wasserstein-1 distance of the coordinates of two samples, in units of the spread of ``y``."""
    return np.mean([wasserstein_distance(a, b) / b.std() for a, b in zip(x.T.numpy(), y.T.numpy(), strict=True)])


@pytest.mark.parametrize("std", [0.0, 0.3])
def test_exact_is_the_closed_form_of_mixtures(std):
    """Against rejection: rows of the prior, kept with probability proportional to the likelihood."""
    operator, y = Matrix(A[:1]), Y[:1]
    x = Exact().run(ExactDenoiser(MIX, LinearBeta()), observe(operator, y, std, (3,)), starts(4000, 3), steps=1, seed=0)
    prior = MIX.sample(400_000, seed=1)
    gap = (prior @ torch.tensor(A[0]) - y[0]) / max(std, 0.02)
    kept = prior[torch.rand(len(prior)) < torch.exp(-0.5 * gap**2)][:4000]
    assert len(kept) == 4000
    assert distance(x, kept) < 0.05
    if not std:
        torch.testing.assert_close(operator(x), torch.tensor(y).expand(4000, 1))


def test_exact_with_noise_in_some_entries():
    """The limit of small noise; entries without noise hold exactly, and may be repeated."""
    B, y = np.vstack([A, A[:1]]), np.array([0.7, -0.4, 0.7])
    denoiser = ExactDenoiser(MIX, LinearBeta())
    x = Exact().run(denoiser, observe(Matrix(B), y, [0.0, 0.3, 0.0], (3,)), starts(4000, 3), steps=1, seed=0)
    torch.testing.assert_close(x @ torch.tensor(A[0]), torch.full((4000,), 0.7, dtype=torch.float64))
    near = Exact().run(denoiser, observe(Matrix(A), Y, [1e-4, 0.3], (3,)), starts(4000, 3), steps=1, seed=1)
    assert distance(x, near) < 0.05
    made = MMPS().run(denoiser, observe(Matrix(B), y, [0.0, 0.3, 0.0], (3,)), starts(2000, 3), steps=20, seed=0)
    torch.testing.assert_close(made @ torch.tensor(A[0]), torch.full((2000,), 0.7, dtype=torch.float64), atol=1e-4, rtol=0)


def test_exact_with_a_mask_is_conditioning():
    seen = Mask([True, False, True])
    x = Exact().run(
        ExactDenoiser(MIX, LinearBeta()), observe(seen, [0.4, 0, -0.2], 0.0, (3,)), starts(4000, 3), steps=1, seed=0
    )
    law = MIX.condition([0, 2], [0.4, -0.2])
    std = np.sqrt(full(law.covs.numpy(), 1)[:, 0, 0])
    weights, means = law.weights.numpy(), law.means.numpy()[:, 0]
    assert (
        kstest(x[:, 1], lambda v: sum(w * norm.cdf(v, m, s) for w, m, s in zip(weights, means, std, strict=True))).pvalue > 1e-3
    )
    torch.testing.assert_close(x[:, ::2], float64([[0.4, -0.2]]).expand(4000, 2))


@pytest.mark.parametrize(
    ("method", "steps", "bound"),
    [
        (MMPS(iterations=1), 50, 0.2),
        (PiGDM(), 50, 0.3),
        (Replacement(3), 30, 0.35),
        (DPS(1.0), 50, 0.4),
        (DiffPIR(), 50, 0.6),
    ],
    **name_of,
)
def test_methods_come_near_the_posterior_of_a_mixture(method, steps, bound):
    """Each at its own distance, the order that the benchmark finds; the prior is farther than all."""
    denoiser = ExactDenoiser(MIX, LinearBeta())
    seen = observe(Matrix(A[:1]), Y[:1], 0.2, (3,))
    x = method.run(denoiser, seen, starts(1500, 3), steps=steps, seed=0)
    truth = Exact().run(denoiser, seen, x, steps=1, seed=0)
    assert distance(x, truth) < bound
    assert distance(MIX.sample(1500, seed=0), truth) > 0.8


@pytest.mark.parametrize("method", METHODS, **name_of)
def test_rows_are_addressed_and_may_be_in_one_precision_or_the_other(method):
    denoiser, seen = ExactDenoiser(MIX, LinearBeta()), observe(Matrix(A), Y, 0.2, (3,))
    z = starts(6, 3)
    whole = method.run(denoiser, seen, z, steps=5, seed=3)
    assert torch.equal(whole, method.run(denoiser, seen, z, steps=5, seed=3))
    assert not torch.equal(whole, method.run(denoiser, seen, z, steps=5, seed=4))
    part = method.run(denoiser, seen, z[2:], steps=5, seed=3, first=2)
    torch.testing.assert_close(part, whole[2:], rtol=1e-6, atol=1e-9)
    single = method.run(denoiser, seen, z.float(), steps=5, seed=3)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), whole, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("method", METHODS, **name_of)
def test_passes_are_counted(method):
    class Counting(ExactDenoiser):
        forwards = backwards = 0

        def forward(self, x_t, t, condition=None):
            self.forwards += 1

            class Passing(torch.autograd.Function):
                @staticmethod
                def forward(x):
                    return x.clone()

                @staticmethod
                def setup_context(ctx, inputs, output):
                    pass

                @staticmethod
                def backward(ctx, gradient, outer=self):
                    outer.backwards += 1
                    return gradient

            return super().forward(Passing.apply(x_t), t)

    denoiser = Counting(MIX, LinearBeta())
    method.run(denoiser, observe(Matrix(np.eye(3)), [0.1, 0.2, 0.3], 0.2, (3,)), starts(4, 3), steps=7, seed=0)
    assert method.passes(7) - 1 <= denoiser.forwards + denoiser.backwards <= method.passes(7)  # a solved system takes no more


@pytest.mark.parametrize("method", METHODS, **name_of)
def test_draws_stay_where_the_law_lives(method):
    """Half of eight elements is seen, with and without noise: more iterations than there are measurements change nothing."""
    g = torch.Generator().manual_seed(2)
    roots = torch.randn(6, 8, 8, generator=g, dtype=torch.float64) / math.sqrt(8)
    law = GaussianMixture(
        [1 / 6] * 6, torch.randn(6, 8, generator=g, dtype=torch.float64), 0.6 * roots @ roots.mT + 0.03 * torch.eye(8)
    )
    half = torch.arange(8) < 4
    for std in (0.0, 0.3):
        seen = observe(Mask(half), half * law.sample(1, seed=5)[0], std, (8,))
        x = method.run(ExactDenoiser(law, LinearBeta()), seen, starts(300, 8), steps=60, seed=0)
        assert float(x.abs().max()) < 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.0, 1e-4, 0.3])
@pytest.mark.parametrize("singular", [np.logspace(0, -4, 40), np.arange(40) < 10.0], ids=["ill-conditioned", "of low rank"])
def test_solved_systems_stay_solved(singular, std, dtype):
    """A residual of rounding is not worked on: the minimum-norm solution of NumPy, to the precision of the rows."""
    U, _, Vt = np.linalg.svd(np.random.default_rng(0).normal(size=(40, 60)), full_matrices=False)
    B = U * singular @ Vt
    rows = starts(50, 60)
    residual = rows @ float64(B).mT
    seen = observe(Matrix(B), residual[0].numpy(), std, (60,))
    _, moved = solve_isotropic(seen, residual.to(dtype), torch.full((50, 1), 0.5, dtype=dtype), rows.to(dtype))
    system = std**2 * np.eye(40) + 0.5 * B @ B.T
    expected = 0.5 * np.linalg.lstsq(system, residual.numpy().T, rcond=1e-13)[0].T @ B
    np.testing.assert_allclose(moved, expected, atol=2e-2 if dtype == torch.float32 else 1e-7)


def test_a_measurement_for_each_row():
    """Rows with masks and values of their own are those of separate measurements."""
    from pushforward.diffusion import Observation

    seen = torch.tensor([[True, False, True], [False, True, False]])
    y = float64([[0.4, 0.0, -0.2], [0.0, 0.3, 0.0]])
    z = starts(2, 3)
    denoiser = ExactDenoiser(MIX, LinearBeta())
    both = MMPS().run(denoiser, Observation(Mask(seen), y, torch.zeros(3)), z, steps=8, seed=0)
    for i in range(2):
        one = MMPS().run(denoiser, observe(Mask(seen[i]), y[i], 0.0, (3,)), z[i : i + 1], steps=8, seed=0, first=i)
        torch.testing.assert_close(both[i : i + 1], one)
        torch.testing.assert_close(both[i][seen[i]], y[i][seen[i]])


def test_works_around_a_guided_denoiser():
    class Conditional(AbstractDenoiser):
        schedule = LinearBeta()

        def forward(self, x_t, t, condition=None):
            return ExactDenoiser(NORMAL, self.schedule)(x_t, t) + 0.1 * condition[:, 1:2]

    z, condition = starts(2, 3), float64([[1.0, 2.0], [1.0, 0.5]])
    seen = observe(Matrix(A), Y, 0.2, (3,))
    x = MMPS().run(Guided(Conditional(), 2.0), seen, z, steps=5, seed=0, condition=condition)
    plain = MMPS().run(ExactDenoiser(NORMAL, LinearBeta()), seen, z, steps=5, seed=0)
    assert not torch.allclose(x, plain)
    assert PosteriorDenoiser(Guided(Conditional(), 2.0), seen, MMPS(iterations=3)).calls == 8


def test_errors():
    class Shifted(ExactDenoiser):
        gaussian_source = False

    denoiser, seen, z = ExactDenoiser(MIX, LinearBeta()), observe(Matrix(A), Y, 0.2, (3,)), starts(2, 3)
    for method in [*METHODS, Exact()]:
        with pytest.raises(ValueError, match="needs a score, but this model's source is not independent Gaussian noise"):
            method.run(Shifted(MIX, LinearBeta()), seen, z, steps=3)
        with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
            method.run(denoiser, seen, z, steps=0)
    with pytest.raises(ValueError, match=r"Exact\(\) needs the exact denoiser of a Gaussian or a mixture; a trained model"):
        Exact().run(Guided(denoiser, 1.0), seen, z, steps=1)
    for make, message in (
        (lambda: MMPS(iterations=0), "iterations must be at least 1, got 0"),
        (lambda: DiffPIR(pull=0.0), "pull must be positive, got 0.0"),
        (lambda: DPS(strength=math.nan), "strength must be positive, got nan"),
        (lambda: Replacement(repeats=0), "repeats must be at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
