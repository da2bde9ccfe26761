"""Devices by name: which ones this machine has."""

import torch

__all__ = ["check_device"]


def check_device(name: str | torch.device) -> None:
    """Raise a ValueError if this machine has no device of this name that computes."""
    accelerator = torch.accelerator.current_accelerator()
    here = "cpu" if accelerator is None else f"cpu and {accelerator.type}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no kind of device called {str(name)!r}; here there is {here}") from None
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {str(name)!r} cannot be used ({reason}); here there is {here}") from None
