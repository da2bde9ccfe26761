r"""Conditions: one float tensor that says what a sample should be like, or nothing.

A condition is a float tensor ``(B, K)``. Column 0 is the *present* flag, 1 or 0; the other columns are features, each
multiplied by the flag. A row of zeros therefore means "no condition": labels, numbers, gaps within a vector and the null
of guidance are one thing, and networks read it without a branch. Which features stand for which label or number is the
business of the encoder that a model fits (``pushforward.data.ConditionEncoder``). ``None`` means that the network was
built without conditions at all.

Dropout, which trains the unconditional law beside the conditional one, zeroes whole rows:

    condition * keep[:, None],         keep in {0, 1}.

What guidance makes of both laws is in :mod:`pushforward.diffusion.guidance`.
"""

from torch import Tensor

__all__ = ["drop"]


def drop(condition: Tensor, keep: Tensor) -> Tensor:
    """Return the condition with the rows where ``keep`` (B,) is False replaced by "no condition"."""
    return condition * keep[:, None]
