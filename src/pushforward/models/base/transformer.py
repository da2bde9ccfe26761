"""Models with codes as transformers of scikit-learn: named columns, and the frames that ``set_output`` asks for."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from pushforward.data import Schema
from pushforward.models.base.available import available_if
from pushforward.models.base.estimator import TransformerMixin

__all__ = ["Transformer"]


class _Coding(Protocol):
    @property
    def _code_schema(self) -> Schema: ...
    def __sklearn_is_fitted__(self) -> bool: ...


def _has_columns(model: _Coding) -> bool:
    """Whether codes are rows of a table; before ``fit`` they may be."""
    return not model.__sklearn_is_fitted__() or len(model._code_schema.row_shape) == 1


class Transformer(TransformerMixin):
    """Base of families with ``transform``, whose codes have the layout ``_code_schema``.

    They are a frame, if ``set_output(transform="pandas")`` asks for one. Codes that are shaped like images or sets have no
    columns, and stay arrays.
    """

    @available_if(_has_columns)
    def get_feature_names_out(self: _Coding, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns of codes, such as "ppca0"; ``input_features`` is ignored."""
        check_is_fitted(self)
        [count] = self._code_schema.row_shape
        return np.array([f"{type(self).__name__.lower()}{index}" for index in range(count)], dtype=object)
