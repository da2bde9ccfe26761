"""torch's state that the whole process shares, while modules are built and trained: global generators and default dtype.

Modules such as dropout can use no other generator. They are seeded from the step number before every step, which makes the step
a function of its address even if a network contains dropout, and takes about a microsecond. Modules are built in float32,
the dtype of the training rows, whatever the default dtype is. Only one thread at a time has the generators; afterwards they
are as they were.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

from pushforward.probability import noise

__all__ = ["ModuleGenerators", "fresh_module"]

MASK = (1 << 63) - 1
M = TypeVar("M", bound=nn.Module)

_one_thread = threading.RLock()


class ModuleGenerators:
    """Control over the global generators of the CPU and of ``device``."""

    def __init__(self, device: torch.device) -> None:
        self._devices = [device.index] if device.type == "cuda" else []
        self._generators = [torch.default_generator, *(torch.cuda.default_generators[index] for index in self._devices)]
        self._base = 0

    @contextlib.contextmanager
    def controlled(self, base: int = 0) -> Iterator[None]:
        """Keep other threads from the generators within the context, and add step numbers to ``base`` for their seeds."""
        with _one_thread, torch.random.fork_rng(devices=self._devices):
            self._base = base
            yield

    def seed(self, step: int) -> None:
        """Seed the generators for a step."""
        for generator in self._generators:
            generator.manual_seed((self._base + step) & MASK)


def fresh_module(build: Callable[[], M], seed: int) -> M:
    """Build a module with float32 weights that depend on ``seed`` alone, leaving torch's global state as it was."""
    with _one_thread, torch.random.fork_rng(devices=[]), torch.inference_mode(False):
        dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            torch.manual_seed(noise.derive(seed, "weights"))
            return build()
        finally:
            torch.set_default_dtype(dtype)
