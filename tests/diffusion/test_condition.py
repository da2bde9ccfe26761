"""Conditions and guidance, against the formula and against exact conditional laws."""

import pytest
import torch

from pushforward.diffusion import DPMSolver, ExactDenoiser, Guided, LinearBeta, drop, from_denoised
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

LEFT, RIGHT = Gaussian([-1.0, 0.0], 0.2), Gaussian([1.0, 0.5], 0.3)
BOTH = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.2, 0.3])


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


CONDITION = torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 3.0, -1.0])
@pytest.mark.parametrize("t", [torch.tensor(0.4, dtype=torch.float64), torch.tensor([0.1, 0.4, 0.7, 0.9], dtype=torch.float64)])
def test_guided_score_is_the_closed_form(w, t):
    """grad log p + w (grad log p(.|c) - grad log p), each score by autograd of the exact noised law."""
    x_t = torch.randn(4, 2, dtype=torch.float64)
    denoised = Guided(TwoClasses(), w)(x_t, t, CONDITION)
    got = from_denoised(denoised, x_t, t, schedule=LinearBeta(), prediction="score")
    for i in range(4):
        time = t if t.ndim == 0 else t[i]
        alpha, sigma = LinearBeta().alpha(time).item(), LinearBeta().sigma(time).item()
        conditional = BOTH if CONDITION[i, 0] == 0 else (LEFT if CONDITION[i, 1] == 1 else RIGHT)
        scores = []
        for law in (BOTH, conditional):
            point = x_t[i].clone().requires_grad_()
            scores.append(torch.autograd.grad(law.noised(alpha, sigma).log_prob(point), point)[0])
        torch.testing.assert_close(got[i], scores[0] + w * (scores[1] - scores[0]), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(("w", "rows"), [(0.0, 4), (1.0, 4), (2.0, 8)])
def test_cost_of_guidance(w, rows):
    inner = TwoClasses()
    guided = Guided(inner, w)
    guided(torch.zeros(4, 2, dtype=torch.float64), torch.tensor(0.5), CONDITION)
    assert inner.batches == [rows]
    assert guided.calls == rows // 4


def test_scale_one_samples_the_conditional_law():
    noise = torch.randn(4000, 2, dtype=torch.float64)
    condition = CONDITION[:1].expand(4000, 3)
    x = DPMSolver(order=3).run(Guided(TwoClasses(), 1.0), noise, steps=40, condition=condition)
    torch.testing.assert_close(x.mean(0), LEFT.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.var(0), torch.full((2,), 0.2, dtype=torch.float64), atol=0.02, rtol=0)


def test_null_may_be_given():
    null = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float64)
    x_t, t = torch.randn(4, 2, dtype=torch.float64), torch.tensor(0.4, dtype=torch.float64)
    got = Guided(TwoClasses(), 0.0, null=null)(x_t, t, CONDITION)
    torch.testing.assert_close(got, ExactDenoiser(RIGHT, LinearBeta())(x_t, t))


def test_drop_makes_rows_that_say_nothing():
    dropped = drop(CONDITION, torch.tensor([True, False, True, True]))
    assert torch.equal(dropped[1], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(dropped[[0, 2, 3]], CONDITION[[0, 2, 3]])


def test_errors():
    with pytest.raises(ValueError, match="guidance needs a condition"):
        Guided(TwoClasses(), 2.0)(torch.zeros(1, 2), torch.tensor(0.5))
    with pytest.raises(ValueError, match="guidance scale must be a finite number, got nan"):
        Guided(TwoClasses(), float("nan"))
