"""Write samples to a file or folder; the ending of the path selects the format.

- ``.gif``: sets of points in space that turn.
- ``.png``: one plot of all samples: a grid of images or signals, a scatter plot of points, or histograms of more columns.
- no ending, or a trailing slash: a folder with one PNG per image or one .txt per text, in a sub-folder per label if there are
  labels. Unsigned integers with 8 or 16 bits are written unchanged, so that the folder opens to the same values; others are
  scaled to 0 to 255. Sets of points become one file each: .ply if their coordinates have names, as in such files, else .xyz.
  Sounds become one file each, in the format of the training data.
- ``.wav``, ``.flac``, ``.ogg``: sounds, one after the other with a pause.
- ``.txt``: texts, one per line, or with an empty line between them if they have line breaks of their own.
- ``.npy``, ``.npz`` (with ``condition`` beside ``samples``; of sets of different sizes the points one after the other, and
  ``sizes``), ``.csv`` and ``.parquet`` (images as PNG bytes in a column
  ``image``, the condition in a column ``label``): exact values.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from pushforward import plots
from pushforward.data.checks import Values, is_frame
from pushforward.data.kinds import Drawing, FolderKind
from pushforward.data.points import PointSets
from pushforward.data.schema import Schema

__all__ = ["check_target", "write_samples"]

_FORMATS = (".png", ".npy", ".npz", ".csv", ".parquet", ".txt")
_TURNING = 8  # sets in a film


def check_target(path: str | Path, schema: Schema) -> Path:
    """Return the path after checking that samples with this schema can be written there; call it before sampling.

    Raises
    ------
    ValueError
        If the ending is unknown, the format cannot hold such samples, or the folder is not empty.
    """
    as_folder = str(path).endswith(("/", "\\"))
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if as_folder or suffix == "" or path.is_dir():
        schema.rules.check_file(path.with_suffix(""), schema.internal_shape, schema.dtypes[0])
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            what = "already holds files" if path.is_dir() else "is a file"
            raise ValueError(f"{path} {what}; choose a new folder, so that samples of two runs are not mixed.")
        return path
    turning = suffix == ".gif" and schema.rules.structure == "points" and schema.internal_shape[1] > 2
    formats = (*_FORMATS, *schema.rules.files)
    if suffix not in formats and not turning:
        folder = f", or no ending for a folder of {schema.rules.noun}" if isinstance(schema.rules, FolderKind) else ""
        raise ValueError(f"{path} ends in {suffix}, which is not supported; use one of {', '.join(formats)}{folder}.")
    schema.rules.check_file(path.with_suffix(suffix), schema.internal_shape, schema.dtypes[0])
    return path


def write_samples(
    path: str | Path,
    values: Values,
    schema: Schema,
    *,
    condition: Sequence[Any] | np.ndarray | Any = None,
    scale: tuple[float, float] | None = None,
) -> Path:
    """Write samples and return the path.

    Parameters
    ----------
    path : str or path
        See the module docstring; missing folders are created, an existing file is replaced.
    values : array, tensor or DataFrame
        Samples in the layout of ``schema``.
    schema : Schema
    condition : sequence or DataFrame, optional
        The condition of each sample: captions of a grid, sub-folders, or values beside the samples.
    scale : (float, float), optional
        Values shown as black and as white if the format is not exact; by default the smallest and the largest value.

    Raises
    ------
    ValueError
        If there is no sample, if ``condition`` is not one per sample, or if the format of ``path`` does not fit the data.
    """
    path = check_target(path, schema)
    if len(values) == 0:
        raise ValueError(f"there is no sample to write to {path}; draw at least one.")
    suffix = path.suffix.lower() if not path.is_dir() else ""
    if condition is not None and len(condition) != len(values):
        raise ValueError(f"condition has {len(condition)} entries for {len(values)} samples; pass one per sample.")
    kind = schema.rules
    array: Any = values if isinstance(values, PointSets) else _array(values)
    if suffix in kind.files:
        assert isinstance(kind, FolderKind)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(kind.file_bytes(kind.view(array, schema.channels), suffix.removeprefix(".")))
        return path
    if suffix not in (*_FORMATS, ".gif"):
        # Only labels become names of sub-folders, vectors do not.
        labelled = condition is not None and np.ndim(condition) == 1 and _storable(condition).dtype.kind != "f"
        folders = [_safe(str(label)) for label in condition] if labelled and condition is not None else None
        assert isinstance(kind, FolderKind)  # check_target has refused a folder of any other
        rows = kind.view(array, schema.channels)
        _write_folder(path, *kind.encoded(rows, scale, schema.coordinates), len(rows), folders)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix in (".png", ".gif"):
        table = schema.table
        rows = kind.view(array, schema.channels) if table is None else table.encode(values)
        levels, formats = (None, None) if table is None else (table.levels, table.formats)
        captions = None if condition is None or np.ndim(condition) > 1 else [_caption(label) for label in condition]
        names = schema.columns if schema.coordinates is None else schema.coordinates
        drawing = Drawing(names=names, labels=captions, scale=scale, levels=levels, formats=formats)
        if suffix == ".gif":
            plots.turning_sets(rows[:_TURNING], path, labels=captions and captions[:_TURNING], names=names)
        else:
            plots.save(kind.draw(rows, drawing), path)
    elif suffix == ".txt":
        texts = kind.view(array, schema.channels).tolist()
        between = "\n\n" if any("\n" in text for text in texts) else "\n"
        path.write_text(between.join(texts) + "\n", encoding="utf-8", newline="")
    elif isinstance(array, PointSets) and suffix == ".npy":
        raise ValueError(f"{path}: sets of points of different sizes do not fit into one array; use .npz or a folder.")
    elif suffix == ".npy":
        np.save(path, array)
    elif suffix == ".npz":
        arrays: dict[str, Any] = {} if condition is None else {"condition": _storable(condition)}
        if isinstance(array, PointSets):
            arrays, array = {"sizes": array.sizes, **arrays}, np.concatenate(array)
        np.savez_compressed(path, samples=array, **arrays)
    else:
        frame = cast(Any, values).copy() if is_frame(values) else kind.frame(kind.view(array, schema.channels))
        _add_condition(frame, condition)
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path, index=False)
    return path


def _write_folder(path: Path, ending: str, contents: Iterable[bytes], n: int, folders: Sequence[str] | None) -> None:
    """Write n files, numbered so that their names sort in this order, into folders by name if there are any."""
    digits = max(5, len(str(n - 1)))
    for index, content in enumerate(contents):
        folder = path if folders is None else path / folders[index]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index:0{digits}d}.{ending}").write_bytes(content)


def _array(values: Any) -> np.ndarray:
    if is_frame(values):
        return np.asarray(values.to_numpy())
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)


def _storable(condition: Any) -> np.ndarray:
    array = np.asarray(condition)
    return array.astype(str) if array.dtype == object else array


def _safe(label: str) -> str:
    """Return a label as a safe name of a folder that is not hidden."""
    return re.sub(r"[\\/:]|^\.+", "_", label.strip()) or "_"


def _caption(label: Any) -> str:
    return f"{label:.3g}" if isinstance(label, float | np.floating) else str(label)


def _add_condition(frame: Any, condition: Any) -> None:
    if condition is None:
        return
    if is_frame(condition):
        for name in condition.columns:
            frame[name] = condition[name].infer_objects().to_numpy()
        return
    columns = np.asarray(condition).reshape(len(frame), -1)
    single = "condition" if "label" in frame else "label"
    for index in range(columns.shape[1]):
        frame[single if columns.shape[1] == 1 else f"condition{index}"] = columns[:, index]
