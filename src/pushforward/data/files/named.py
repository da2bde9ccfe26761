"""Open data by name: the name of a built-in, a file of any format, or a folder."""

import difflib
from pathlib import Path
from typing import Any

from pushforward._messages import Argument, naming
from pushforward.data.builtin import BUILTIN
from pushforward.data.checks import Condition
from pushforward.data.files.arrays import read_npz
from pushforward.data.files.csv import CSV_ENDINGS, is_csv, read_csv
from pushforward.data.files.images import IMAGE_ENDINGS, has_files
from pushforward.data.files.points import POINT_ENDINGS, holds_points, read_point_folder, read_points
from pushforward.data.files.sounds import SOUND_ENDINGS, read_sound_folder
from pushforward.data.files.stored import open_array, open_images
from pushforward.data.files.tables import Names, part_frame, read_parquet, read_parquet_parts
from pushforward.data.files.texts import is_text_folder, read_text, read_texts
from pushforward.data.points import PointSets

__all__ = ["open_named", "refuse_columns"]

_FILES = (".npy", ".npz", *CSV_ENDINGS, ".parquet", ".txt")


def open_named(
    source: str | Path,
    columns: Names,
    condition: Condition,
    rate: int | None,
    length: int | None,
    size: int | None,
    stream: bool | None,
) -> tuple[Any, Any, str]:
    """Return the values, the conditions beside them, if any, and the name of the source; for arguments see ``open_data``."""
    name = str(source)
    if isinstance(source, str) and name in BUILTIN:
        refuse_columns(columns, f"the built-in {name}")
        values, labels = BUILTIN[name]()
        return values, labels, name
    path = Path(source).expanduser()
    if path.is_dir():
        if columns is not None and not has_files(path, (".parquet",)):
            refuse_columns(columns, "a folder")
        if is_text_folder(path):
            return *read_texts(path), name
        if has_files(path, (".parquet",)) and not has_files(path, (*IMAGE_ENDINGS, *SOUND_ENDINGS)):
            return *read_parquet_parts(path, columns, condition), name
        if has_files(path, SOUND_ENDINGS) and not has_files(path, IMAGE_ENDINGS):
            return *read_sound_folder(path, rate, length), name
        return *(read_point_folder(path) if holds_points(path) else open_images(path, size, stream)), name
    if not path.exists():
        raise _unknown_source(name)
    if not path.is_file():
        raise ValueError(f"{path} is a device or a pipe, which may never end; save its rows to a file first and name that")
    suffix = path.suffix.lower()
    if is_csv(path):
        return *part_frame(read_csv(path), columns, condition, name), name
    if suffix == ".parquet":
        return *read_parquet(path, columns, condition, rate=rate, length=length, size=size), name
    if suffix == ".npy":
        refuse_columns(columns, "a .npy file")
        return open_array(path, stream), None, name
    if suffix == ".txt":
        refuse_columns(columns, "a .txt file")
        return [read_text(path)], None, name
    if suffix == ".npz":
        return *read_npz(path, columns, condition), name
    if suffix in POINT_ENDINGS:
        points, names = read_points(path)
        return PointSets([points], names), None, name
    if suffix in SOUND_ENDINGS:
        raise ValueError(f"{path} is one sound, but a law is learned from many; give the folder that holds them: {path.parent}")
    raise ValueError(
        f"{path} ends in {suffix or 'nothing'}, which is not supported; use one of {', '.join(_FILES)}, or a folder of images "
        "or sounds."
    )


def _unknown_source(name: str) -> FileNotFoundError:
    path = Path(name).expanduser()
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(name, list(BUILTIN), n=1, cutoff=0.6)
    if not close:
        close = [str(path.with_name(entry)) for entry in difflib.get_close_matches(path.name, siblings, n=1, cutoff=0.7)]
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return FileNotFoundError(f"{name!r} is not a file, a folder or a built-in data set ({', '.join(BUILTIN)}).{hint}")


def refuse_columns(columns: Names, what: str) -> None:
    """Raise a ValueError if ``columns`` are chosen of data that have none."""
    if columns is not None:
        argument = Argument("columns", columns)
        message = f"{argument} selects columns of a table or arrays of an .npz file, but the data are {what}; omit it."
        raise naming(ValueError(message), argument)
