"""Read NumPy files, without unpickling."""

from pathlib import Path
from typing import Any

import numpy as np

from pushforward._messages import Argument, naming
from pushforward.data.checks import Condition, enumerate_names, missing_column
from pushforward.data.conditions import MASK, as_condition_array
from pushforward.data.files.points import split_by_size
from pushforward.data.files.tables import Names, as_names, condition_names

__all__ = ["read_npz", "read_numpy"]


def read_numpy(path: Path) -> Any:
    """Return the content of a .npy or .npz file, without unpickling."""
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        if "pickle" in str(error).lower() and path.stat().st_size:
            raise ValueError(
                f"{path} holds Python objects (or is not a NumPy file), which are not supported; save numbers with np.save."
            ) from None
        raise ValueError(f"{path} cannot be read as a NumPy file: {error}.") from None


def read_npz(path: Path, columns: Names, condition: Condition) -> tuple[Any, np.ndarray | None]:
    """Return the array of a .npz file that ``columns`` chooses, and the one that is the condition, if any."""
    loaded = read_numpy(path)
    if isinstance(loaded, np.ndarray):
        return loaded, None
    with loaded as archive:
        keys = list(archive.keys())
        sized = "sizes" in keys and len(keys) > 1
        keys = [key for key in keys if not (sized and key == "sizes")]
        if isinstance(condition, str) and condition == MASK and MASK not in keys:
            condition = False
        from_keys = condition_names(condition, keys, None, str(path))
        if from_keys is None and condition is None and "condition" in keys and len(keys) > 1:
            from_keys = ["condition"]
        chosen = as_names(columns) or [key for key in keys if key not in (from_keys or ())]
        if not keys:
            raise ValueError(f"{path} has no array.")
        if len(chosen) != 1:
            first = Argument("columns", keys[0])
            message = f"{path} holds the arrays {enumerate_names(keys, 20)}; choose one of them with {first}."
            raise naming(ValueError(message), first)
        if chosen[0] not in keys:
            raise missing_column(chosen[0], keys, str(path))
        if from_keys is not None and len(from_keys) > 1:
            raise ValueError(f"condition names {len(from_keys)} arrays of {path}; choose one.")
        try:
            values = split_by_size(archive[chosen[0]], archive["sizes"]) if sized else archive[chosen[0]]
            return values, None if from_keys is None else as_condition_array(archive[from_keys[0]])
        except ValueError as error:
            raise ValueError(f"{path} cannot be read: {error}.") from None
