"""What a family can learn from, and the refusal of all other data before training."""

from typing import ClassVar

from pushforward._messages import Argument, naming
from pushforward.data import Coordinates, Dataset, Kind
from pushforward.data.checks import enumerate_names
from pushforward.data.columns import Table
from pushforward.models.files import registry

__all__ = ["Takes"]


class Takes:
    """What a family says of the data that it takes; the defaults are those of a family of real vectors without gaps."""

    gaps: ClassVar[bool] = False
    """Whether rows may have gaps (NaN)."""
    takes_series: ClassVar[bool] = False
    """Whether the family learns signals as they are."""
    takes_points: ClassVar[bool] = False
    """Whether the family learns sets of points, whose order means nothing."""
    takes_texts: ClassVar[bool] = False
    """Whether the family learns texts."""
    categories: ClassVar[bool] = False
    """Whether categories with more than two levels have their own probabilities, instead of coordinates as real numbers."""
    columnwise: ClassVar[bool] = False
    """Whether the family models the columns of a table as they are, instead of real coordinates for them."""
    coordinates: ClassVar[Coordinates] = "blocks"
    """These coordinates (:mod:`pushforward.data.columns.elements`)."""
    of_levels: ClassVar[bool] = False
    """Whether the family gives probabilities to the levels of categories that became 0/1 coordinates."""
    streams: ClassVar[bool] = False
    """Whether the family can learn from rows that stay on disk, batch by batch."""
    image_conditions: ClassVar[bool] = False
    """Whether conditions may be images, or the visible part of the row itself."""

    @classmethod
    def _check_data(cls, dataset: Dataset) -> None:
        """Raise a ValueError, which names families that can, if the family cannot learn from these data."""
        cls._check_kind(dataset.schema.rules)
        cls._check_columns(dataset.schema.table)
        cls._check_images(dataset)
        if dataset.on_disk and not cls.streams:
            able, stream = ", ".join(registry.families_with("streams")), Argument("stream", False)
            message = (
                f"{cls.__name__} needs all rows at once; read them into memory with {stream}, or use a family that learns "
            )
            raise naming(ValueError(f"{message}from disk: {able}."), stream)

    @classmethod
    def refused_columns(cls, table: Table) -> tuple[str, list[str | int]] | None:
        """Return what the family cannot learn, "categories" or "gaps", and the columns that have it; None if nothing."""
        if not cls.columnwise:
            return None
        wide = [column.name for column in table.columns if column.domain.type == "category" and column.domain.high > 1]
        lacking = [column.name for column in table.columns if column.gaps]
        if wide and not cls.categories:
            return "categories", wide
        return ("gaps", lacking) if lacking and not cls.gaps else None

    @classmethod
    def takes_kind(cls, kind: Kind) -> bool:
        """Whether the family learns rows of this kind."""
        return not kind.ability or bool(getattr(cls, kind.ability))

    @classmethod
    def _check_kind(cls, kind: Kind) -> None:
        """Raise a ValueError, which names families that can, if the family cannot learn rows of this kind."""
        if cls.takes_kind(kind):
            return
        able, vectors = ", ".join(registry.families_with(kind.ability)), Argument("kind", "vectors")
        message = f"{cls.__name__} does not learn {kind.noun}; use a family that does: {able}"
        if not kind.flattens:
            raise ValueError(f"{message}.")
        raise naming(ValueError(f"{message}; or learn arrays of them as flat vectors, with {vectors}."), vectors)

    @classmethod
    def _check_columns(cls, table: Table | None) -> None:
        """Raise a ValueError, which names families that can, if the family cannot learn some columns of a table."""
        refused = None if table is None else cls.refused_columns(table)
        if refused is not None:
            what, names = refused
            more = " with more than two levels" if what == "categories" else ""
            raise ValueError(
                f"{cls.__name__} takes no {what}{more}, as in {enumerate_names(names)}; omit these columns, or use a "
                f"family that takes them: {', '.join(registry.families_with(what))}."
            )

    @classmethod
    def _check_images(cls, dataset: Dataset) -> None:
        """Raise a ValueError, which names families that can, if the family cannot follow images as conditions."""
        given = dataset.condition
        if (dataset.masked or (given is not None and given.ndim > 2)) and not cls.image_conditions:
            raise ValueError(
                f"{cls.__name__} takes no images and no masks as conditions; use a family that does: "
                f"{', '.join(registry.families_with('image_conditions'))}."
            )
