r"""Conditions: one float tensor that says what a sample should be like, or nothing.

A condition is a float tensor ``(B, K)``. Column 0 is the *present* flag, 1 or 0; the other columns are features, each
multiplied by the flag. A row of zeros therefore means "no condition": labels, numbers, gaps within a vector and the null
of guidance are one thing, and networks read it without a branch. Which features stand for which label or number is the
business of the encoder that a model fits (``pushforward.data.ConditionEncoder``). ``None`` means that the network was
built without conditions at all.

Dropout, which trains the unconditional law beside the conditional one, zeroes whole rows:

    condition * keep[:, None],         keep in {0, 1}.

Classifier-free guidance mixes both laws in every denoiser call,

    guided = uncond + w (cond - uncond),

with w = ``guidance_scale``: 0 ignores the condition, 1 is the conditional law, above 1 sharpens. The same formula in
``eps``, ``v``, ``velocity`` or ``score`` gives the same sampler, since all are affine in ``denoised`` at fixed x_t.

Domain. w is any finite number; w in {0, 1} costs one network call, any other two (made as one batch of 2B rows).
A user's own encoding may be any tensor whose first axis is B; then the null is given to :class:`Guided`.

References
----------
Jonathan Ho, Tim Salimans. Classifier-free diffusion guidance. 2022. https://arxiv.org/abs/2207.12598
"""

import math

import torch
from torch import Tensor

from pushforward.diffusion.denoiser import AbstractDenoiser

__all__ = ["Guided", "drop"]


def drop(condition: Tensor, keep: Tensor) -> Tensor:
    """Return the condition with the rows where ``keep`` (B,) is False replaced by "no condition"."""
    return condition * keep[:, None]


class Guided(AbstractDenoiser):
    """Classifier-free guidance: a denoiser around a denoiser, so it works with every sampler.

    Parameters
    ----------
    denoiser : AbstractDenoiser
        Trained with and without its condition.
    scale : float
        The w of uncond + w (cond - uncond).
    null : Tensor, optional
        One row (1, K) that stands for "no condition"; zeros by default.
    """

    def __init__(self, denoiser: AbstractDenoiser, scale: float, *, null: Tensor | None = None) -> None:
        super().__init__()
        if not math.isfinite(scale):
            raise ValueError(f"the guidance scale must be a finite number, got {scale}")
        self.denoiser = denoiser
        self.schedule = denoiser.schedule
        self.gaussian_source = denoiser.gaussian_source
        self.scale = float(scale)
        self.null = null
        self.calls = denoiser.calls * (1 if self.scale in (0.0, 1.0) else 2)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]; the condition is needed."""
        if condition is None:
            raise ValueError(
                "guidance needs a condition to guide towards: pass condition=..., or use the denoiser without Guided"
            )
        if self.scale == 1:
            return self._call(x_t, t, condition)
        null = torch.zeros_like(condition) if self.null is None else self.null.to(condition).expand_as(condition)
        if self.scale == 0:
            return self._call(x_t, t, null)
        twice = t if t.ndim == 0 else torch.cat((t, t))
        both = self._call(torch.cat((x_t, x_t)), twice, torch.cat((condition, null)))
        conditional, unconditional = both.chunk(2)
        return torch.lerp(unconditional, conditional, self.scale)

    def _call(self, x_t: Tensor, t: Tensor, condition: Tensor) -> Tensor:
        denoised: Tensor = self.denoiser(x_t, t, condition)
        return denoised
