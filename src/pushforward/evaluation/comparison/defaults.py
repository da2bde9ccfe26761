"""The families that are compared by default."""

from typing import cast

from pushforward.data import Dataset
from pushforward.models import GenerativeModel
from pushforward.models.files.registry import find
from pushforward.models.tokens.tokens import MOST_VALUES

__all__ = ["default_models"]


def default_models(dataset: Dataset) -> list[str]:
    """Return the names of the families that are compared by default, the fastest to train first.

    These are the families named by the kind of data that take the rows, with all columns. Masked diffusion is included for
    integer columns with ranges that it can model.

    >>> from pushforward.data import open_data
    >>> default_models(open_data("moons"))
    ['ppca', 'gmm', 'vae', 'gan', 'normalizing-flow', 'diffusion', 'flow-matching']
    """
    schema = dataset.schema
    families = {name: cast(type[GenerativeModel], find(name)) for name in schema.rules.compared_models}
    able = [name for name, family in families.items() if family.takes_kind(schema.rules)]
    if schema.table is not None:
        return [name for name in able if families[name].refused_columns(schema.table) is None]
    drops = schema.rules.has_columns and not _has_levels(dataset)
    return [name for name in able if not (drops and name == "masked-diffusion")]


def _has_levels(dataset: Dataset) -> bool:
    """Whether all columns are integers with few enough values for masked diffusion."""
    if not all(dataset.schema.integer):
        return False
    rows = dataset.to_internal(gaps=True)
    return float((rows.amax(0) - rows.amin(0)).max()) < MOST_VALUES
