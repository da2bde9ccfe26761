"""Guidance, pointwise against autograd of exact noised laws, and in law against exact conditional laws."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm

from pushforward.diffusion import (
    DDPM,
    ClassifierGuided,
    Cosine,
    DPMSolver,
    ExactDenoiser,
    Exploding,
    Guided,
    LinearBeta,
    RewardGuided,
    StraightLine,
    from_denoised,
)
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

LEFT, RIGHT = Gaussian([-1.0, 0.0], 0.2), Gaussian([1.0, 0.5], 0.3)
BOTH = GaussianMixture([0.4, 0.6], [[-1.0, 0.0], [1.0, 0.5]], [0.2, 0.3])
TIMES = [torch.tensor(0.4, dtype=torch.float64), torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=torch.float64)]
CONDITION = torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)


class TwoClasses(AbstractDenoiser):
    """The exact conditional denoiser of two classes, in the convention of conditions: (present, left, right)."""

    def __init__(self):
        super().__init__()
        self.schedule = LinearBeta()
        self.batches = []

    def forward(self, x_t, t, condition=None):
        self.batches.append(len(x_t))
        left, right, both = (ExactDenoiser(law, self.schedule)(x_t, t) for law in (LEFT, RIGHT, BOTH))
        present, is_left = condition[:, :1], condition[:, 1:2]
        return torch.where(present == 0, both, torch.where(is_left == 1, left, right))


class Shifted(ExactDenoiser):
    """An exact denoiser that says its noise was not Gaussian."""

    gaussian_source = False


def exact_classifier(schedule, calls=None):
    """log p(class, x_t) of the two components by the textbook density of each noised component."""

    def classifier(x_t, t):
        if calls is not None:
            calls.append(t)
        alpha, sigma = (scale.reshape(-1, 1) for scale in (schedule.alpha(t), schedule.sigma(t)))
        logits = []
        for weight, mean, var in zip((0.4, 0.6), BOTH.means, (0.2, 0.3), strict=True):
            spread = alpha**2 * var + sigma**2
            logits.append((-0.5 * (x_t - alpha * mean) ** 2 / spread - 0.5 * spread.log()).sum(1) + np.log(weight))
        return torch.stack(logits, 1)

    return classifier


def scores(points, t, schedule, laws):
    """Score of the noised law of each row, by autograd."""
    found = []
    for i, (point, law) in enumerate(zip(points, laws, strict=True)):
        time = t if t.ndim == 0 else t[i]
        point = point.clone().requires_grad_()
        density = law.noised(schedule.alpha(time).item(), schedule.sigma(time).item()).log_prob(point)
        found.append(torch.autograd.grad(density, point)[0])
    return torch.stack(found)


def laws_of(condition):
    return [BOTH if row[0] == 0 else (LEFT if row[1] == 1 else RIGHT) for row in condition]


def score_of(denoised, x_t, t, schedule):
    return from_denoised(denoised, x_t, t, schedule=schedule, prediction="score")


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0, -1.0])
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("negative", [None, torch.tensor([[1.0, 0, 1]]), CONDITION.flip(0)], ids=["null", "one", "rows"])
def test_guided_score_is_the_closed_form(w, t, negative):
    """away + w (conditional - away), each score by autograd of the exact noised law."""
    x_t, schedule = torch.randn(4, 2, dtype=torch.float64), LinearBeta()
    got = score_of(Guided(TwoClasses(), w, negative=negative)(x_t, t, CONDITION), x_t, t, schedule)
    away = torch.zeros_like(CONDITION) if negative is None else negative.expand_as(CONDITION)
    from_, to = (scores(x_t, t, schedule, laws_of(condition)) for condition in (away, CONDITION))
    torch.testing.assert_close(got, from_ + w * (to - from_), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("w", [0.0, 3.0])
def test_the_interval_is_in_noise_levels_and_conditional_outside(w):
    schedule, x_t = LinearBeta(), torch.randn(4, 2, dtype=torch.float64)
    level = schedule.noise_level(TIMES[1])
    guided = Guided(TwoClasses(), w, interval=(level[0].item(), level[2].item()))
    inside, plain = Guided(TwoClasses(), w), Guided(TwoClasses(), 1.0)
    for rows in (TIMES[1], *TIMES[1]):
        within = torch.tensor([False, True, True, False]) if rows.ndim else (rows == TIMES[1][1]) | (rows == TIMES[1][2])
        expected = torch.where(within.reshape(-1, 1), inside(x_t, rows, CONDITION), plain(x_t, rows, CONDITION))
        torch.testing.assert_close(guided(x_t, rows, CONDITION), expected, rtol=1e-12, atol=1e-12)
    assert guided.calls == 2


def test_the_widest_interval_and_the_null_condition_change_nothing():
    """Also at t = 1 of a path that ends in pure noise, where the noise level is infinite."""
    x_t = torch.randn(4, 2, dtype=torch.float64)
    for schedule in (LinearBeta(), StraightLine()):
        inner = TwoClasses()
        inner.schedule = schedule
        plain = Guided(inner, 3.0)
        for t in (*TIMES, torch.tensor(1.0, dtype=torch.float64)):
            expected = plain(x_t, t, CONDITION)
            assert torch.equal(Guided(inner, 3.0, interval=(0.0, float("inf")))(x_t, t, CONDITION), expected)
            for null in (torch.zeros(1, 3), torch.zeros(4, 3)):
                assert torch.equal(Guided(inner, 3.0, negative=null)(x_t, t, CONDITION), expected)


@pytest.mark.parametrize(("w", "rows"), [(0.0, 4), (1.0, 4), (2.0, 8)])
def test_cost_of_guidance(w, rows):
    inner = TwoClasses()
    guided = Guided(inner, w)
    guided(torch.zeros(4, 2, dtype=torch.float64), torch.tensor(0.5), CONDITION)
    assert inner.batches == [rows]
    assert guided.calls == rows // 4


def test_no_second_call_is_made_outside_the_interval():
    inner = TwoClasses()
    guided = Guided(inner, 2.0, interval=(0.5, 2.0))
    for t in (0.01, 0.99):
        guided(torch.zeros(4, 2, dtype=torch.float64), torch.tensor(t), CONDITION)
    assert inner.batches == [4, 4]


def agrees(x, law):
    """Whether each coordinate and their sum have the law of ``law``, by Kolmogorov-Smirnov."""
    cov = torch.eye(2, dtype=torch.float64) * law.cov
    for direction in ((1.0, 0.0), (0.0, 1.0), (1.0, 1.0)):
        direction = torch.tensor(direction, dtype=torch.float64)
        mean, std = (direction @ law.mean).item(), (direction @ cov @ direction).sqrt().item()
        if kstest((x @ direction).numpy(), norm(mean, std).cdf).pvalue < 1e-3:
            return False
    return True


@pytest.mark.parametrize(("sampler", "steps"), [(DPMSolver(order=3), 40), pytest.param(DDPM(), 300, marks=pytest.mark.full)])
def test_scale_one_samples_the_conditional_law(sampler, steps):
    noise = torch.randn(3000, 2, dtype=torch.float64)
    schedule = LinearBeta()
    condition = CONDITION[:1].expand(3000, 3)
    x = sampler.run(Guided(TwoClasses(), 1.0), noise, steps=steps, condition=condition, seed=0)
    assert agrees(x, LEFT)
    assert not agrees(x, RIGHT)
    for label, law in ((0, LEFT), (1, RIGHT)):
        guided = ClassifierGuided(ExactDenoiser(BOTH, schedule), exact_classifier(schedule), label, 1.0)
        assert agrees(sampler.run(guided, noise, steps=steps, seed=0), law)


@pytest.mark.parametrize("w", [0.0, 1.0, 2.5, -1.0])
@pytest.mark.parametrize("t", TIMES)
@pytest.mark.parametrize("schedule", [LinearBeta(), StraightLine(), Exploding(0.01, 50.0)], ids=str)
def test_classifier_guided_score_is_the_closed_form(w, t, schedule):
    """score + w (score of the class - score of all), by autograd of the exact noised laws."""
    x_t, label = torch.randn(4, 2, dtype=torch.float64), torch.tensor([0, 1, 0, 1])
    guided = ClassifierGuided(ExactDenoiser(BOTH, schedule), exact_classifier(schedule), label, w)
    got = score_of(guided(x_t, t), x_t, t, schedule)
    all_, class_ = (scores(x_t, t, schedule, laws) for laws in ([BOTH] * 4, [LEFT, RIGHT] * 2))
    torch.testing.assert_close(got, all_ + w * (class_ - all_), rtol=1e-7, atol=1e-8)


def test_one_label_for_all_rows():
    x_t, t, schedule = torch.randn(4, 2, dtype=torch.float64), TIMES[0], LinearBeta()
    denoiser, classifier = ExactDenoiser(BOTH, schedule), exact_classifier(schedule)
    one = ClassifierGuided(denoiser, classifier, 1, 2.0)(x_t, t)
    torch.testing.assert_close(one, ClassifierGuided(denoiser, classifier, torch.ones(4, dtype=torch.int64), 2.0)(x_t, t))
    zero = ClassifierGuided(denoiser, classifier, 1, 0.0)
    torch.testing.assert_close(zero(x_t, t), denoiser(x_t, t))


def test_no_scale_but_one_gives_the_tilted_law():
    """At w = 3 the end of the guided flow is not p(x) p(label | x)^3; at w = 1 it is the conditional law."""
    law, schedule = GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], [1.0, 1.0]), LinearBeta()

    def classifier(x_t, t):
        return law.noised(schedule.alpha(t).item(), schedule.sigma(t).item()).responsibilities(x_t).log()

    grid = torch.linspace(-8, 9, 4001, dtype=torch.float64)[:, None]
    noise = torch.randn(4000, 1, dtype=torch.float64)
    for w, right in ((1.0, True), (3.0, False)):
        weight = (law.log_prob(grid) + w * law.responsibilities(grid)[:, 1].log()).exp()
        mean = (weight * grid[:, 0]).sum() / weight.sum()
        std = ((weight * (grid[:, 0] - mean) ** 2).sum() / weight.sum()).sqrt()
        guided = ClassifierGuided(ExactDenoiser(law, schedule), classifier, 1, w)
        x = DPMSolver(order=3).run(guided, noise, steps=60)
        error = (x.mean() - mean).abs() / std
        assert (error < 0.05) == right
        if not right:
            assert error > 0.15


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), StraightLine()], ids=str)
@pytest.mark.parametrize("t", [0.2, 0.7, 1.0])
def test_a_linear_reward_tilts_a_gaussian_exactly(schedule, t):
    """N(m, S) times exp(w a x) is N(m + w S a, S) up to a factor, and so is its denoiser at every t, alpha = 0 included."""
    cov = torch.tensor([[0.5, 0.2], [0.2, 0.8]], dtype=torch.float64)
    direction, w = torch.tensor([0.7, -0.4], dtype=torch.float64), 1.5
    mean = torch.tensor([0.3, -0.2], dtype=torch.float64)
    guided = RewardGuided(ExactDenoiser(Gaussian(mean, cov), schedule), lambda x: x @ direction, scale=w)
    x_t, t = torch.randn(6, 2, dtype=torch.float64), torch.tensor(t, dtype=torch.float64)
    expected = ExactDenoiser(Gaussian(mean + w * cov @ direction, cov), schedule)(x_t, t)
    torch.testing.assert_close(guided(x_t, t), expected, rtol=2e-3 if t == 1 else 1e-9, atol=1e-9)


def test_gradients_flow_through_guidance():
    """A guided denoiser may be guided again, or differentiated: the derivative agrees with central differences."""
    schedule, t = LinearBeta(), TIMES[0]
    inner = ClassifierGuided(ExactDenoiser(BOTH, schedule), exact_classifier(schedule), 1, 2.0)
    outer = RewardGuided(inner, lambda x: -(x**2).sum(1), 0.3)
    x_t = torch.randn(1, 2, dtype=torch.float64)
    h = 1e-5
    columns = [(inner(x_t + h * e, t) - inner(x_t - h * e, t)) / (2 * h) for e in torch.eye(2, dtype=torch.float64)]
    pulled = torch.cat(columns) @ (-2 * inner(x_t, t)[0])
    factor = 0.3 * schedule.sigma(t) ** 2 / schedule.alpha(t)
    torch.testing.assert_close(outer(x_t, t), inner(x_t, t) + factor * pulled, rtol=1e-6, atol=1e-8)


def test_a_condition_goes_on_to_the_denoiser_inside():
    x_t, t, schedule = torch.randn(4, 2, dtype=torch.float64), TIMES[0], LinearBeta()
    got = ClassifierGuided(TwoClasses(), exact_classifier(schedule), 1, 0.0)(x_t, t, CONDITION)
    torch.testing.assert_close(got, TwoClasses()(x_t, t, CONDITION))


def test_errors():
    zeros, half = torch.zeros(1, 2, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    exact, classifier = ExactDenoiser(BOTH, LinearBeta()), exact_classifier(LinearBeta())
    with pytest.raises(ValueError, match="guidance needs a condition to guide towards: pass condition="):
        Guided(TwoClasses(), 2.0)(zeros, half)
    for bad in (float("nan"), float("inf")):
        for make in (
            lambda bad=bad: Guided(TwoClasses(), bad),
            lambda bad=bad: ClassifierGuided(exact, classifier, 0, bad),
            lambda bad=bad: RewardGuided(exact, lambda x: x.sum(1), bad),
        ):
            with pytest.raises(ValueError, match=f"guidance scale must be a finite number, got {bad}"):
                make()
    with pytest.raises(ValueError, match=r"0 <= low < high, got \(5, 0.2\); write \(0.2, 5\)"):
        Guided(TwoClasses(), 2.0, interval=(5.0, 0.2))
    with pytest.raises(ValueError, match=r"got \(-1, 0.2\)$"):
        Guided(TwoClasses(), 2.0, interval=(-1.0, 0.2))
    with pytest.raises(ValueError, match=r"negative condition has the shape \(1, 2\), but the condition \(4, 3\)"):
        Guided(TwoClasses(), 2.0, negative=torch.zeros(1, 2))(torch.zeros(4, 2), half, CONDITION)
    for guide in (lambda d: ClassifierGuided(d, classifier, 0), lambda d: RewardGuided(d, lambda x: x.sum(1))):
        with pytest.raises(ValueError, match="Guided adds a gradient to the score, but this model's source is not"):
            guide(Shifted(BOTH, LinearBeta()))
    with pytest.raises(ValueError, match="label 2 is not a class: the classifier has 2, numbered from 0"):
        ClassifierGuided(exact, classifier, 2)(zeros, half)
    with pytest.raises(ValueError, match="there are 1 rows to guide but 3 labels"):
        ClassifierGuided(exact, classifier, torch.tensor([0, 1, 0]))(zeros, half)
    with pytest.raises(TypeError, match="label must be the number of a class"):
        ClassifierGuided(exact, classifier, torch.tensor([0.0]))
    with pytest.raises(ValueError, match=r"reward must return one number per row, \(1,\), but returned \(\)"):
        RewardGuided(exact, lambda x: x.sum())(zeros, half)
