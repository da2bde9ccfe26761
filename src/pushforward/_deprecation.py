"""Deprecated names, which still work, but warn and say what to write instead."""

import functools
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["deprecated"]

F = TypeVar("F", bound=Callable[..., Any])


def deprecated(*, since: str, until: str, instead: str) -> Callable[[F], F]:
    """Make a function, a method or a class warn where it is called.

    Parameters
    ----------
    since : str
        The first version that warns.
    until : str
        The version that no longer has it.
    instead : str
        What to write instead, as code.

    >>> @deprecated(since="0.2", until="0.4", instead="draw(n)")
    ... def make(n):
    ...     return list(range(n))
    >>> import warnings
    >>> with warnings.catch_warnings(record=True, action="always") as caught:
    ...     make(2)
    [0, 1]
    >>> print(caught[0].message)
    make is deprecated since pushforward 0.2 and will be removed in 0.4; write draw(n)
    """

    def mark(target: F) -> F:
        message = (
            f"{target.__qualname__} is deprecated since pushforward {since} and will be removed in {until}; write {instead}"
        )
        if isinstance(target, type):
            target.__init__ = _warning(target.__init__, message)  # type: ignore[misc]
            return target
        return _warning(target, message)

    return mark


def _warning(function: F, message: str) -> F:
    @functools.wraps(function)
    def warns(*values: Any, **named: Any) -> Any:
        warnings.warn(message, FutureWarning, stacklevel=2)  # a DeprecationWarning is hidden in most code of users
        return function(*values, **named)

    return warns  # type: ignore[return-value]
