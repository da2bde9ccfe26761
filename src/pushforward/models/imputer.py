"""A model that can impute as a transformer of scikit-learn, for pipelines."""

from typing import Self, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from pushforward.data import Condition, Data, Values
from pushforward.models.base.available import Imputes
from pushforward.models.base.model import GenerativeModel
from pushforward.models.circuits.circuit import Circuit
from pushforward.models.files import registry

__all__ = ["Imputer"]


class Imputer(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fills gaps by draws from the law of the data, given the rest of the row: a transformer around a model.

    Parameters
    ----------
    model : estimator, optional
        With ``impute``; it is cloned and fitted, unless ``prefit``. Default ``Circuit()``, an exact law of columns of all
        types.
    prefit : bool
        Whether ``model`` is fitted already, such as one that :func:`pushforward.load` returns.
    seed : int
        Seed of the draws: the same rows are always filled in the same way.

    Attributes
    ----------
    model_ : estimator
        Fitted.

    >>> import pandas as pd
    >>> from pushforward import GMM
    >>> X = pd.DataFrame({"a": [1.0, 2.0, 3.0, 4.0, 5.0] * 20, "b": [2.0, 4.0, 6.0, 8.0, 10.0] * 20})
    >>> imputer = Imputer(GMM(n_components=5, random_state=0)).set_output(transform="pandas").fit(X)
    >>> imputer.transform(pd.DataFrame({"a": [1.0, None], "b": [None, 10.0]})).round().astype(int).to_numpy().tolist()
    [[1, 2], [5, 10]]
    """

    model_: GenerativeModel

    def __init__(self, model: GenerativeModel | None = None, *, prefit: bool = False, seed: int = 0) -> None:
        self.model = model
        self.prefit = prefit
        self.seed = seed

    def fit(self, X: Data, y: object = None, *, condition: Condition = None) -> Self:
        """Fit the model to rows, which may have gaps if it takes them; ``y`` is ignored."""
        model = Circuit() if self.model is None else self.model
        if not isinstance(model, GenerativeModel) or (self.prefit and not model.__sklearn_is_fitted__()):
            what = "a fitted estimator" if self.prefit else "an estimator"
            raise TypeError(f"model must be {what} of pushforward, such as Circuit(), got {model!r}")
        if not hasattr(type(model), "impute"):
            able = ", ".join(registry.families_with("impute"))
            raise TypeError(f"{type(model).__name__} cannot fill gaps; use a family that imputes: {able}")
        self.model_ = model if self.prefit else clone(model).fit(X, condition=condition)
        if hasattr(self.model_, "n_features_in_"):
            self.n_features_in_ = self.model_.n_features_in_
        if hasattr(self.model_, "feature_names_in_"):
            self.feature_names_in_ = self.model_.feature_names_in_
        return self

    def transform(self, X: Data, *, condition: Condition = None) -> Values:
        """Return rows with their gaps filled, in the layout of the training data; known values are unchanged."""
        check_is_fitted(self)
        return cast(Imputes, self.model_).impute(X, condition=condition, seed=self.seed)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return the names of the columns, those of the training data."""
        check_is_fitted(self)
        if hasattr(self, "feature_names_in_"):
            return np.asarray(self.feature_names_in_, dtype=object)
        return np.array([f"x{index}" for index in range(self.n_features_in_)], dtype=object)

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn that rows may have gaps."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
