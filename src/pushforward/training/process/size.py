"""A limit on the networks that a file describes, so that numbers in a file cannot allocate more than the file explains."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import nn

__all__ = ["check_size", "networks_explained_by"]

_most: ContextVar[int | None] = ContextVar("most", default=None)
_SLACK = 1 << 20


@contextmanager
def networks_explained_by(stored: int) -> Iterator[None]:
    """Let :func:`check_size` refuse networks with more than twice the bytes that are stored for them."""
    token = _most.set(2 * stored + _SLACK)
    try:
        yield
    finally:
        _most.reset(token)


def check_size(build: Callable[[], nn.Module]) -> None:
    """Raise a ValueError if a network, built on the meta device without memory, is larger than the files explain."""
    most = _most.get()
    if most is None:
        return
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        size = sum(value.numel() * value.element_size() for value in build().state_dict().values())
    if size > most:
        raise ValueError(f"it describes a network of {size:,} bytes, but the weights in the folder have at most {most:,}")
