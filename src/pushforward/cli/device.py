"""The option ``--device``."""

__all__ = ["check_device"]


def check_device(name: str | None) -> None:
    """Raise a ValueError if there is no device of this name here; None and "" leave the choice open."""
    if not name:
        return
    import torch

    found = torch.accelerator.current_accelerator()
    here = "cpu" if found is None else f"cpu and {found.type}"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"there is no kind of device called {name!r}; here there is {here}") from None
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise ValueError(f"device {name!r} cannot be used ({reason}); here there is {here}") from None
