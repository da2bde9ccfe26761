"""Constructors generated from fields: a class declares its own arguments and inherits those of its bases.

A field of the class body is a keyword-only argument of the constructor, which stores it unchanged, as scikit-learn requires:

    class Ridge(Estimator):
        alpha: float = 1.0
        coef_: Tensor = field(init=False)

    Ridge(alpha=0.5)

An attribute that ``fit`` learns is a field with ``field(init=False)``, which is not an argument.
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

if TYPE_CHECKING:  # scikit-learn has no type hints, and mypy accepts any argument for a class with an untyped base

    class BaseEstimator:
        """The part of scikit-learn's class that is used here."""

        get_params: Callable[..., Facts]
        set_params: Callable[..., Self]

        def __sklearn_tags__(self) -> Tags: ...

    class TransformerMixin:
        """The part of scikit-learn's class that is used here."""

        fit_transform: Callable[..., Values]
        set_output: Callable[..., Self]

else:
    from sklearn.base import BaseEstimator, TransformerMixin


@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field,))
class Estimator(BaseEstimator):
    """A scikit-learn estimator whose constructor is generated from its fields; see the module docstring.

    A class that defines ``__init__`` keeps it, and so do its subclasses.
    """

    def __init_subclass__(cls, **options: object) -> None:
        """Generate the constructor, unless the class defines one."""
        super().__init_subclass__(**options)
        owner = next(base for base in cls.__mro__ if "__init__" in vars(base))
        if owner is not object and "__dataclass_params__" not in vars(owner):
            return
        for name in inspect.get_annotations(cls):
            if name.endswith("_") and name not in vars(cls):
                raise TypeError(f"{cls.__name__}.{name} is learned, not an argument; write {name}: ... = field(init=False)")
        dataclass(cls, kw_only=True, eq=False, repr=False)
        # A dataclass lists the arguments of its bases first; readers look for those of the class itself.
        bases = [base for base in cls.__mro__ if issubclass(base, Estimator)]
        order = ["self", *(name for base in bases for name in inspect.get_annotations(base))]
        init = vars(cls)["__init__"]
        signature = inspect.signature(init)
        parameters = sorted(signature.parameters.values(), key=lambda argument: (argument.kind, order.index(argument.name)))
        init.__signature__ = signature.replace(parameters=parameters)

    def __dir__(self) -> list[str]:
        """Return the names of attributes, of the public ones those that this model has; scikit-learn asks private ones too."""
        return [name for name in object.__dir__(self) if name.startswith("_") or hasattr(self, name)]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: object) -> CoreSchema:
        """Make pydantic check only the class of an estimator; for other dataclasses it also checks the fields."""
        return core_schema.is_instance_schema(cls)
