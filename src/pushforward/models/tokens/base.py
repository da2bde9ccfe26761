"""The base of families that model the tokens of rows: integers, texts, and tables by their bins."""

from typing import ClassVar

from sklearn.utils import Tags

from pushforward.data import Coordinates, Dataset, Limits, Schema, Transform
from pushforward.data.stream import AnyRows
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.tokens.tokens import refuse_fractions, token_scaling

__all__ = ["TokenModel"]


class TokenModel(TrainedModel):
    """Base of the families whose rows are tokens."""

    categories: ClassVar[bool] = True
    takes_texts: ClassVar[bool] = True
    coordinates: ClassVar[Coordinates] = "bins"

    def __sklearn_tags__(self) -> Tags:
        """Declare to scikit-learn that rows are categorical."""
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical = True
        return tags

    def _prepare(self, dataset: Dataset) -> Prepared:
        prepared = super()._prepare(dataset)
        if prepared.held_out is not None and self.space_.schema.elements is None:
            refuse_fractions(prepared.held_out[0])
        return prepared

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
        if schema.elements is not None:
            return Transform.in_data_units(x, integer=False, kind=schema.kind)
        return token_scaling(x[:], schema.kind, limits)
