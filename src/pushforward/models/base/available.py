"""Methods that a model has only if a check passes, and the type of models with one of them."""

from collections.abc import Callable
from typing import Protocol, TypeVar

from sklearn.utils import metaestimators

from pushforward.data import ArrayLike, Condition, Values

__all__ = ["Imputes", "available_if", "in_data_units"]

Model = TypeVar("Model")
Verb = TypeVar("Verb", bound=Callable[..., object])


def available_if(check: Callable[[Model], bool]) -> Callable[[Verb], Verb]:
    """Return a decorator that exposes a method only if ``check(model)`` is true; scikit-learn's decorator with types."""
    decorator: Callable[[Verb], Verb] = metaestimators.available_if(check)
    return decorator


def in_data_units(model: object) -> bool:
    """Whether densities of the rows of a model are those of the data.

    They are not if categories of a table became 0/1 coordinates to which the model gives no probabilities, or if signals end
    early, because such signals have more coordinates than samples.
    """
    space = getattr(model, "space_", None)
    coding = None if space is None else space.transform.coding
    if coding is not None and not coding.exact:
        return False
    elements = None if space is None else space.schema.elements
    if elements is None or elements.are_scores or elements.are_bins:
        return True
    return bool(getattr(type(model), "of_levels", False))


class Imputes(Protocol):
    """A model that fills gaps."""

    def impute(self, X: ArrayLike, *, condition: Condition = None, seed: int | None = None) -> Values:
        """Return rows with their gaps filled."""
