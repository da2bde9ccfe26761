"""Constructors from fields: a class of estimators declares its own arguments once, and inherits those of its bases.

A field of the class body is a keyword-only argument of the constructor, which stores it untouched as scikit-learn asks:

    class Ridge(Estimator):
        alpha: float = 1.0
        coef_: Tensor = field(init=False)

    Ridge(alpha=0.5)

An attribute that ``fit`` learns is a field with ``field(init=False)``, which is no argument.
:mod:`pushforward.models.files.params` checks arguments against the annotations.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self, dataclass_transform

from pydantic_core import CoreSchema, core_schema
from sklearn.utils import Tags

from pushforward.data import Facts, Values

__all__ = ["Estimator", "TransformerMixin"]

if TYPE_CHECKING:  # scikit-learn has no type hints, and a class with a base of unknown type would take any argument

    class BaseEstimator:
        """What is used of scikit-learn's class of this name."""

        get_params: Callable[..., Facts]
        set_params: Callable[..., Self]

        def __sklearn_tags__(self) -> Tags: ...

    class TransformerMixin:
        """What is used of scikit-learn's class of this name."""

        fit_transform: Callable[..., Values]

else:
    from sklearn.base import BaseEstimator, TransformerMixin


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class Estimator(BaseEstimator):
    """An estimator of scikit-learn whose constructor is made from its fields; see the module's text.

    A class with an ``__init__`` of its own keeps it, and so do its subclasses.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Make the constructor, unless one was written."""
        super().__init_subclass__(**options)
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        if owner is not object and "__dataclass_params__" not in vars(owner):
            return
        for name in inspect.get_annotations(cls):
            if name.endswith("_") and name not in vars(cls):
                raise TypeError(f"{cls.__name__}.{name} is learned and no argument; write {name}: ... = field(init=False)")
        dataclass(cls, kw_only=True, eq=False, repr=False)
        # A dataclass lists the arguments of its bases first; a reader looks for those of the class itself.
        bases = [base for base in cls.__mro__ if issubclass(base, Estimator)]
        order = ["self", *(name for base in bases for name in inspect.get_annotations(base))]
        init = vars(cls)["__init__"]
        signature = inspect.signature(init)
        parameters = sorted(signature.parameters.values(), key=lambda argument: (argument.kind, order.index(argument.name)))
        init.__signature__ = signature.replace(parameters=parameters)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """Let pydantic check the class of an estimator alone; it checks the fields of other dataclasses too."""
        return core_schema.is_instance_schema(cls)
