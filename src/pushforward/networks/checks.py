"""Checks that the networks share."""

from torch import Tensor, nn

__all__ = ["check_int", "check_shape", "condition_layers"]


def check_int(name: str, value: int, low: int, high: int, *, even: bool = False) -> None:
    """Raise a TypeError or a ValueError if ``value`` is not an int from ``low`` to ``high``, or not even if it must be.

    >>> check_int("depth", 0, 1, 100)
    Traceback (most recent call last):
    ValueError: depth must be an int from 1 to 100, got 0
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r} of type {type(value).__name__}")
    if not low <= value <= high or (even and value % 2):
        raise ValueError(f"{name} must be {'an even int' if even else 'an int'} from {low} to {high}, got {value}")


def check_shape(shape: tuple[int, ...]) -> None:
    """Raise a ValueError if ``shape`` is not that of a vector or of an image."""
    if len(shape) not in (1, 3) or min(shape) < 1:
        raise ValueError(f"shape: rows are vectors (D,) or images (C, H, W) with sizes of at least 1, got {tuple(shape)}")


def condition_layers(layers: nn.Module | None, condition: Tensor) -> nn.Module:
    """Return the layers for the condition, or raise a ValueError if the network was built without them."""
    if layers is None:
        raise ValueError(
            f"this network was built with condition_dim=0 and takes no condition, but got one of shape "
            f"{tuple(condition.shape)}; build it with condition_dim={condition.shape[-1]} or pass condition=None"
        )
    return layers
