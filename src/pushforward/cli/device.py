"""The option ``--device``."""

from typing import Annotated, Any

import typer

__all__ = ["Device", "check_device", "move"]

Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: cuda if there is one.")]


def check_device(name: str | None) -> None:
    """Raise a ValueError if this machine has no device of this name; None and "" mean no choice."""
    if name:
        # Deferred, because it imports torch.
        from pushforward.training.process import devices

        devices.check_device(name)


def move(model: Any, name: str) -> None:
    """Move a model to the device of this name; "" means cuda if there is one."""
    import torch

    model.to(name or ("cuda" if torch.cuda.is_available() else "cpu"))
