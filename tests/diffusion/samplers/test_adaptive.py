"""Adaptive steps: error against the exact flow and closed forms, control by row, cap and fall-back, and encoding."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracle import LAW, exact_denoiser, float64
from scipy import stats
from thin import thinned

from pushforward.diffusion import (
    MMPS,
    AbstractDenoiser,
    Adaptive,
    AngleSolver,
    ClassifierGuided,
    Cosine,
    Denoiser,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    Guided,
    LinearBeta,
    Matrix,
    PredictorCorrector,
    RewardGuided,
    StraightLine,
    SubVP,
    exact_flow,
    observe,
)
from pushforward.networks import MLPSpec
from pushforward.probability import Gaussian, GaussianMixture

SCHEDULES = [LinearBeta(), Cosine(), StraightLine(), Exploding(), SubVP(), DiscreteBeta()]
# One schedule of each kind: a straight line, variance kept, variance exploding; the others only scale time.
MOST = [pytest.param(one, marks=[] if index in (0, 2, 3) else [pytest.mark.full]) for index, one in enumerate(SCHEDULES)]
NOISE = torch.randn(24, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
GAUSSIAN = Gaussian([0.5, -1.0], [0.3, 2.0])
ATOL = 1e-12


def scales(schedule, t):
    return schedule.alpha(float64(t)), schedule.sigma(float64(t))


def carried(law, schedule, x, t, s):
    """The flow of a Gaussian: every state keeps its quantile."""
    (alpha, sigma), (alpha_s, sigma_s) = scales(schedule, t), scales(schedule, s)
    spread, spread_s = (alpha**2 * law.cov + sigma**2).sqrt(), (alpha_s**2 * law.cov + sigma_s**2).sqrt()
    return alpha_s * law.mean + spread_s / spread * (x - alpha * law.mean)


class Wrapped(AbstractDenoiser):
    """A denoiser that records how it is called, and may change what comes out."""

    def __init__(self, inner, change=lambda denoised, t: denoised):
        super().__init__()
        self.inner, self.schedule, self.change, self.sizes = inner, inner.schedule, change, []
        self.gaussian_source = inner.gaussian_source

    def forward(self, x_t, t, condition=None):
        self.sizes.append(len(x_t))
        return self.change(self.inner(x_t, t, condition), t)


def network(condition_dim, schedule):
    """A network, smooth in t, whose answer depends on all that it is given; untrained ones answer 0."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = MLPSpec(width=32, depth=2).build((2,), condition_dim=condition_dim)
        torch.nn.init.normal_(made.last.weight, std=0.1)
        torch.nn.init.normal_(made.embedding.condition.weight)
        torch.nn.init.normal_(made.modulation.weight, std=0.1)
        made.embedding.frequencies.clamp_(max=3.0)
    return Denoiser(made, schedule)


@thinned(together=1, schedule=SCHEDULES, rising=[False, True])
def test_error_falls_with_the_tolerance_in_both_directions(schedule, rising):
    """Between inner times, against the closed form: about in proportion, and never far above the tolerance."""
    denoiser, times = ExactDenoiser(GAUSSIAN, schedule), [1.0, 0.4, 2 * schedule.t_min]
    times = times[::-1] if rising else times
    radius = torch.hypot(*scales(schedule, times[0]))
    want = carried(GAUSSIAN, schedule, NOISE * radius, times[0], times[-1])
    end = torch.hypot(*scales(schedule, times[-1]))
    tolerances = [1e-3, 1e-5, 1e-7, 1e-9]
    found = [Adaptive(rtol=rtol, atol=ATOL).solve(denoiser, NOISE * radius, times) for rtol in tolerances]
    errors = [((result.x - want) / end).square().mean().sqrt().item() for result in found]
    assert all(error < 10 * rtol for error, rtol in zip(errors, tolerances, strict=True)), errors
    slope = np.polyfit(np.log(tolerances), np.log(errors), 1)[0]
    assert 0.8 < slope < 1.3
    calls = [result.nfe.double().mean().item() for result in found]
    assert calls == sorted(calls)
    assert calls[-1] < 700


@pytest.mark.parametrize("schedule", MOST, ids=str)
def test_samples_of_a_mixture_are_those_of_the_exact_flow(schedule):
    """Where a row turns to one mode or the other a step may mislead, so most rows are held to the tolerance, and all loosely."""
    exact, denoiser = exact_flow(LAW, schedule, NOISE, steps=200), exact_denoiser(schedule)
    low, sigma = scales(schedule, schedule.t_min)
    last = 3 * (sigma / low).item() ** 2  # what denoising at t_min leaves
    for rtol in (1e-2, 1e-6):
        error = (Adaptive(rtol=rtol, atol=ATOL).run(denoiser, NOISE) - exact).square().mean(1).sqrt()
        assert error.median() < rtol + last
        assert error.max() < 30 * rtol + last
    assert error.square().mean().sqrt() < 5e-6 + last


def test_calls_are_counted_for_each_row_and_rows_that_have_arrived_drop_out():
    law = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.0]], [1e-3, 1e-3])
    denoiser = Wrapped(ExactDenoiser(law, Cosine()))
    found = Adaptive().solve(denoiser, NOISE, [1.0, 0.0])
    assert sum(denoiser.sizes) == int(found.nfe.sum())
    assert denoiser.sizes[0] == len(NOISE) > denoiser.sizes[-1]
    assert found.nfe.unique().numel() > 1
    assert not found.capped.any()


def test_a_row_does_not_depend_on_the_rows_beside_it():
    denoiser = exact_denoiser(LinearBeta())
    whole = Adaptive(rtol=1e-5).solve(denoiser, NOISE, [1.0, 0.0])
    for i in range(0, len(NOISE), 5):
        alone = Adaptive(rtol=1e-5).solve(denoiser, NOISE[i : i + 1], [1.0, 0.0])
        torch.testing.assert_close(alone.x[0], whole.x[i], rtol=1e-10, atol=1e-10)
        assert alone.nfe[0] == whole.nfe[i]
    torch.testing.assert_close(
        Adaptive(rtol=1e-5).run(denoiser, NOISE.flip(0)).flip(0), Adaptive(rtol=1e-5).run(denoiser, NOISE)
    )


def test_rounding_does_not_grow_into_other_steps():
    """A field that is rough in t, as those of networks are, and rounded otherwise in a batch than alone."""
    inner = exact_denoiser(StraightLine())

    class Rough(Wrapped):
        def forward(self, x_t, t, condition=None):
            rough = inner(x_t, t) + 0.01 * (1000 * t).sin().reshape(-1, *[1] * (t.ndim and 1))
            return rough * (1 + 4e-16 * (len(x_t) > 1))

    sampler = Adaptive(rtol=1e-5, max_nfe=3000)
    whole = sampler.solve(Rough(inner), NOISE[:4], [1.0, 0.0])
    alone = [sampler.solve(Rough(inner), NOISE[i : i + 1], [1.0, 0.0]) for i in range(4)]
    assert whole.nfe.tolist() == [int(found.nfe) for found in alone]
    torch.testing.assert_close(whole.x, torch.cat([found.x for found in alone]), rtol=1e-10, atol=1e-10)


def test_a_time_close_before_another_costs_two_steps_at_most():
    denoiser = exact_denoiser(Cosine())
    plain = Adaptive().solve(denoiser, NOISE, [1.0, 0.5, 0.01]).nfe
    close = Adaptive().solve(denoiser, NOISE, [1.0, 0.5 + 1e-8, 0.5, 0.01]).nfe
    assert (close - plain).max() <= 12


def test_result_keeps_shape_dtype_and_is_what_its_parts_make():
    denoiser = exact_denoiser(StraightLine())
    noise = NOISE.reshape(24, 1, 2, 1)
    run = Adaptive().run(denoiser, noise, steps=7)
    assert run.shape == noise.shape
    torch.testing.assert_close(Adaptive().run(denoiser, noise), run, rtol=0, atol=0)
    torch.testing.assert_close(Adaptive().integrate(denoiser, noise, [1.0, 0.0]), run, rtol=0, atol=0)
    seen = []
    Adaptive().run(denoiser, noise, times=[1.0, 0.6, 0.0], on_step=lambda *arguments: seen.append(arguments))
    assert [(number, time) for number, time, _, _ in seen] == [(0, 0.6), (1, 0.0)]
    middle = Adaptive().integrate(denoiser, noise, [1.0, 0.6])
    torch.testing.assert_close(seen[0][2], middle)
    torch.testing.assert_close(seen[0][3], denoiser(middle, float64(0.6)), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(seen[1][2], seen[1][3], rtol=0, atol=0)


def test_gradients_flow():
    noise = NOISE[:3].clone().requires_grad_()
    made = Adaptive(rtol=1e-7).integrate(ExactDenoiser(GAUSSIAN, Cosine()), noise, [1.0, 0.01])
    (gradient,) = torch.autograd.grad(made.sum(), noise)
    alpha, sigma = scales(Cosine(), 0.01)
    torch.testing.assert_close(gradient, (alpha**2 * GAUSSIAN.cov + sigma**2).sqrt().expand(3, 2), rtol=1e-5, atol=0)


def test_rows_that_reach_the_cap_end_in_fixed_steps_with_one_warning():
    denoiser = exact_denoiser(LinearBeta())
    with pytest.warns(
        RuntimeWarning, match=r"24 of 24 rows were not finished after max_nfe=50.*10 fixed steps.*Raise max_nfe"
    ) as told:
        found = Adaptive(rtol=1e-9, max_nfe=50).solve(denoiser, NOISE, [1.0, 0.0])
    assert len(told) == 1
    assert found.capped.all()
    assert found.nfe.unique().tolist() == [49 + 20]
    exact = exact_flow(LAW, LinearBeta(), NOISE, steps=50)
    assert (found.x - exact).square().mean().sqrt() < 0.1
    with pytest.warns(RuntimeWarning, match="of 24 rows were not finished after max_nfe=40"):
        some = Adaptive(rtol=1e-4, max_nfe=40).solve(denoiser, NOISE, [1.0, 0.0])
    whole = Adaptive(rtol=1e-4).solve(denoiser, NOISE, [1.0, 0.0])
    assert 0 < int(some.capped.sum()) < len(NOISE)
    torch.testing.assert_close(some.x[~some.capped], whole.x[~some.capped])


def test_fixed_steps_are_of_order_two():
    """From 1 to 0.5 the first row of calls is spent at once, so nearly all of the way is made in ten steps."""
    denoiser, errors = ExactDenoiser(GAUSSIAN, Cosine()), []
    for times in ([0.5, 0.3], [0.5, 0.4]):
        x = NOISE * torch.hypot(*scales(Cosine(), 0.5))
        with pytest.warns(RuntimeWarning, match="fixed steps"):
            made = Adaptive(rtol=1e-15, atol=0.0, max_nfe=10).integrate(denoiser, x, times)
        errors.append((made - carried(GAUSSIAN, Cosine(), x, *times)).abs().max().item())
    assert errors[0] < 1e-3
    assert 4 < errors[0] / errors[1] < 20


def test_a_jump_is_crossed_without_end():
    """Guidance in an interval of noise levels jumps: one step of the shortest length crosses it."""
    jump = Wrapped(ExactDenoiser(GAUSSIAN, Cosine()), lambda denoised, t: denoised + 0.3 * (t < 0.37).double().reshape(-1, 1))
    sampler = Adaptive(rtol=1e-10, atol=ATOL, max_nfe=3000)
    found = sampler.solve(jump, NOISE, [0.5, 0.2])
    assert not found.capped.any()
    x = carried(GAUSSIAN, Cosine(), NOISE, 0.5, 0.37)
    want = sampler.integrate(jump, x, [0.37 - 1e-9, 0.2])
    torch.testing.assert_close(found.x, want, rtol=0, atol=1e-5)


def test_numbers_that_are_not_finite_end_and_are_told():
    broken = Wrapped(exact_denoiser(Cosine()), lambda denoised, t: denoised / (t > 0.5).double().reshape(-1, 1))
    with pytest.warns(RuntimeWarning, match=r"The denoiser returned numbers that are not finite for 24 of 24 rows"):
        found = Adaptive().solve(broken, NOISE, [1.0, 0.0])
    assert found.nfe.max() < 500


@pytest.mark.parametrize("rtol", [pytest.param(1e-3, marks=pytest.mark.full), 1e-12])
def test_float32(rtol):
    """The clock stays float64; a tolerance below float32 costs no more than the last one that it can reach."""
    law = GaussianMixture([0.4, 0.6], [[-1.0, 0.5], [1.0, 0.0]], [4e-4, 0.01])
    for schedule in (LinearBeta(), StraightLine(), Exploding()):
        denoiser = ExactDenoiser(law, schedule)
        found = Adaptive(rtol=rtol, atol=0.0).solve(denoiser, NOISE.float() * scales(schedule, 1.0)[1], [1.0, 0.0])
        assert found.x.dtype == torch.float32
        assert not found.capped.any()
        exact = exact_flow(law, schedule, NOISE, steps=200)
        last = (scales(schedule, schedule.t_min)[1] ** 2).item() / 0.02
        assert (found.x - exact).abs().median() < 1e-2 * rtol**0.5 + 2e-5 + last


def test_a_network_in_float32_is_followed_to_its_own_flow():
    denoiser = network(3, Cosine())
    condition = torch.eye(3)[torch.arange(24) % 3]
    noise = NOISE.float()
    fine = AngleSolver(order=3).run(denoiser, noise, steps=300, condition=condition)
    found = Adaptive(rtol=1e-6).run(denoiser, noise, condition=condition)
    torch.testing.assert_close(found, fine, rtol=0, atol=2e-4)
    guided = Guided(denoiser, 3.0, interval=(0.2, 5.0))
    fine = AngleSolver(order=2).run(guided, noise, steps=300, condition=condition)
    torch.testing.assert_close(Adaptive(rtol=1e-5).run(guided, noise, condition=condition), fine, rtol=0, atol=2e-2)


def test_what_a_denoiser_holds_for_each_row_stays_with_its_row():
    law, schedule = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.02, 0.3]), Cosine()
    denoiser, labels = ExactDenoiser(law, schedule), torch.arange(24) % 2

    def classifier(x, t):
        t = t.expand(len(x)) if t.ndim == 0 else t
        alpha, sigma = schedule.alpha(t)[:, None], schedule.sigma(t)[:, None]
        var = alpha**2 * law.covs + sigma**2
        square = (x[:, None] - alpha[..., None] * law.means).square().sum(-1)
        return -square / (2 * var) - var.log()

    guided = ClassifierGuided(denoiser, classifier, labels)
    for made in (guided, RewardGuided(guided, lambda x: x[:, 0], 0.0)):
        found = Adaptive(rtol=1e-7).run(made, NOISE)
        for k in (0, 1):
            part = exact_flow(Gaussian(law.means[k], law.covs[k]), schedule, NOISE[labels == k], steps=200)
            torch.testing.assert_close(found[labels == k], part, rtol=0, atol=2e-5)
    guided = network(2, schedule).double()
    negative, condition = torch.rand(24, 2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)[labels]
    whole = Adaptive().run(Guided(guided, 2.0, negative=negative), NOISE, condition=condition)
    single = Adaptive().run(Guided(guided, 2.0, negative=negative[5:6]), NOISE[5:6], condition=condition[5:6])
    torch.testing.assert_close(whole[5:6], single)


def test_posterior_methods_run_on_it():
    law = Gaussian([0.5, -1.0], [[0.3, 0.2], [0.2, 2.0]])
    seen = observe(Matrix([[1.0, 0.0]]), [1.2], 0.1, (2,))
    made = MMPS(sampler=Adaptive()).run(ExactDenoiser(law, Cosine()), seen, NOISE, steps=3)
    fine = MMPS(sampler=AngleSolver()).run(ExactDenoiser(law, Cosine()), seen, NOISE, steps=200)
    torch.testing.assert_close(made, fine, rtol=0, atol=1e-3)


def test_two_threads_share_one_sampler():
    sampler, denoisers = Adaptive(), [exact_denoiser(LinearBeta()), exact_denoiser(Cosine())] * 2
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda denoiser: sampler.run(denoiser, NOISE), denoisers))
    for one, denoiser in zip(made, denoisers, strict=True):
        torch.testing.assert_close(one, sampler.run(denoiser, NOISE), rtol=0, atol=0)


@pytest.mark.parametrize("schedule", MOST, ids=str)
def test_encoding_is_the_flow_from_the_data_itself(schedule):
    """Against the closed form; below t_min the law is continued, so nothing is lost there but a power of sigma(t_min)."""
    x = GAUSSIAN.sample(24, seed=0).double()
    found = Adaptive(rtol=1e-8, atol=ATOL).encode(ExactDenoiser(GAUSSIAN, schedule), x)
    alpha, sigma = scales(schedule, 1.0)
    want = alpha * GAUSSIAN.mean + (alpha**2 + sigma**2 / GAUSSIAN.cov).sqrt() * (x - GAUSSIAN.mean)
    low = scales(schedule, schedule.t_min)
    torch.testing.assert_close(found.x, want / sigma, rtol=0, atol=2e-7 + 5 * (low[1] / low[0]).item() ** 4)
    back = Adaptive(rtol=1e-8, atol=ATOL).decode(ExactDenoiser(GAUSSIAN, schedule), found.x)
    torch.testing.assert_close(back.x, x, rtol=0, atol=1e-6)


@thinned(together=1, rtol=[1e-3, 1e-5], schedule=SCHEDULES)
def test_data_come_back_within_the_tolerance(schedule, rtol):
    x, denoiser = LAW.sample(24, seed=3).double(), exact_denoiser(schedule)
    there = Adaptive(rtol=rtol).encode(denoiser, x)
    back = Adaptive(rtol=rtol).decode(denoiser, there.x)
    assert (back.x - x).square().mean().sqrt() < 20 * rtol
    assert not there.capped.any()
    assert not back.capped.any()


def test_encoded_rows_are_standard_normal():
    x = LAW.sample(2000, seed=5).double()
    z = Adaptive(rtol=1e-4).encode(exact_denoiser(StraightLine()), x).x
    for values in (z[:, 0], z[:, 1], (z[:, 0] + z[:, 1]) / 2**0.5):
        assert stats.kstest(values.numpy(), "norm").pvalue > 0.01
    assert abs(float(torch.corrcoef(z.T)[0, 1])) < 0.08


def test_other_sources_are_continued_linearly():
    """A law whose noise is no Gaussian but as in a translation: x_t = (1 - t) x + t (x + 1), so v is not odd in the angle."""

    class Translation(AbstractDenoiser):
        schedule, gaussian_source = StraightLine(), False

        def forward(self, x_t, t, condition=None):
            return x_t - t.reshape(-1, *[1] * (x_t.ndim - 1))

    z = Adaptive(rtol=1e-9, atol=ATOL).encode(Translation(), NOISE).x
    torch.testing.assert_close(z, NOISE + 1, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Adaptive(rtol=0.0), ValueError, "rtol must lie between 0 and 1, such as 1e-4, got 0.0"),
        (lambda: Adaptive(rtol=float("nan")), ValueError, "rtol must lie between 0 and 1"),
        (lambda: Adaptive(atol=-1.0), ValueError, "atol must be at least 0 and finite, got -1.0"),
        (lambda: Adaptive(max_nfe=5), ValueError, "max_nfe must be at least 10, got 5; a step takes 6 calls"),
        (lambda: Adaptive(max_nfe=1e3), TypeError, "max_nfe must be an integer, got 1000.0"),
        (lambda: Adaptive().run(exact_denoiser(Cosine()), NOISE, steps=0), ValueError, "steps must be at least 1, got 0"),
        (
            lambda: Adaptive().run(exact_denoiser(Cosine()), NOISE, times=[0.9, 0.0]),
            ValueError,
            "the times of a run start at 1",
        ),
        (lambda: Adaptive().integrate(exact_denoiser(Cosine()), NOISE, [0.5]), ValueError, "needs at least two times"),
        (lambda: Adaptive().integrate(exact_denoiser(Cosine()), NOISE, [0.0, 0.5]), ValueError, "must lie between t_min"),
        (
            lambda: Adaptive().encode(exact_denoiser(Cosine()), NOISE, condition=NOISE[:3]),
            ValueError,
            "24 rows to sample but 3 conditions",
        ),
        (
            lambda: Adaptive().decode(exact_denoiser(Cosine()), NOISE, condition=NOISE[:3]),
            ValueError,
            "24 rows to sample but 3 conditions",
        ),
        (
            lambda: Adaptive().run(exact_denoiser(Cosine()), NOISE, condition=NOISE[:3]),
            ValueError,
            "24 rows to sample but 3 conditions",
        ),
        (
            lambda: PredictorCorrector(Adaptive()),
            TypeError,
            r"predictor must be a TableSampler such as ",
        ),
    ],
)
def test_errors_say_what_is_wrong(call, error, message):
    with pytest.raises(error, match=message.replace("(", r"\(").replace(")", r"\)")):
        call()
