"""The option ``--device``."""

from typing import Annotated, Any

import typer

__all__ = ["Device", "check_device", "move"]

Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, ... Default: cuda if there is one.")]


def check_device(name: str | None) -> None:
    """Raise a ValueError if this machine has no device of this name; None and "" mean no choice."""
    if not name:
        return
    import torch

    accelerator = torch.accelerator.current_accelerator()
    here = "cpu" if accelerator is None else f"cpu and {accelerator.type}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no kind of device called {name!r}; here there is {here}") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {name!r} cannot be used ({reason}); here there is {here}") from None


def move(model: Any, name: str) -> None:
    """Move a model to the device of this name; "" means cuda if there is one."""
    import torch

    model.to(name or ("cuda" if torch.cuda.is_available() else "cpu"))
