"""Gradients where they are needed, whatever the caller has turned off."""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

__all__ = ["with_gradients"]

P = ParamSpec("P")
R = TypeVar("R")


def with_gradients(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that computes gradients even inside the caller's ``no_grad`` or ``inference_mode``.

    >>> @with_gradients
    ... def slope() -> float:
    ...     x = torch.ones((), requires_grad=True)
    ...     return torch.autograd.grad(3 * x, x)[0].item()
    >>> with torch.inference_mode():
    ...     slope()
    3.0
    """
    return torch.inference_mode(False)(torch.enable_grad()(function))
