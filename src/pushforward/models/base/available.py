"""Verbs that a model has only if it can keep their promise."""

from collections.abc import Callable
from typing import TypeVar

from sklearn.utils import metaestimators

__all__ = ["available_if"]

Model = TypeVar("Model")
Verb = TypeVar("Verb", bound=Callable[..., object])


def available_if(check: Callable[[Model], bool]) -> Callable[[Verb], Verb]:
    """Return the decorator of a method that models have where ``check(model)`` is true: scikit-learn's, with types."""
    decorator: Callable[[Verb], Verb] = metaestimators.available_if(check)
    return decorator
