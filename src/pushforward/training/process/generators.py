"""torch's global generators during training, for modules such as dropout that can use no others.

They are seeded from the step number before every step, which makes the step a function of its address even if a network
contains dropout, and takes about a microsecond. After the run they have their previous state.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TypeVar

import torch
from torch import nn

from pushforward.probability import noise

__all__ = ["ModuleGenerators", "fresh_module"]

MASK = (1 << 63) - 1
M = TypeVar("M", bound=nn.Module)


class ModuleGenerators:
    """Context in which the training loop controls the global generators of the CPU and of ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._generators = [torch.default_generator]
        if device.type == "cuda":
            self._generators.append(torch.cuda.default_generators[device.index])
        self._fork: AbstractContextManager[None] | None = None
        self._base = 0

    def __enter__(self) -> "ModuleGenerators":
        self._fork = torch.random.fork_rng(devices=[self._device.index] if self._device.type == "cuda" else [])
        self._fork.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._fork is not None
        self._fork.__exit__(kind, error, trace)

    def start(self, base: int) -> None:
        """Set the base to which step numbers are added."""
        self._base = base

    def seed(self, step: int) -> None:
        """Seed the generators for a step."""
        for generator in self._generators:
            generator.manual_seed((self._base + step) & MASK)


def fresh_module(build: Callable[[], M], seed: int) -> M:
    """Build a module with weights that depend on ``seed`` alone, leaving torch's global generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(noise.derive(seed, "weights"))
        return build()
