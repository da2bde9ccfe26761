"""Write samples where the user wants them; the ending of the path picks the format.

- ``.png``: one image that shows them all: a grid of images, a scatter plot of points, histograms of more columns.
- no ending, or a slash at the end: a folder with one PNG each, in a sub-folder per label if labels are given. Integers of 8
  bits (grey ones of 16 too) are written as they are, so that the folder opens to the same values; others are spread over
  0 to 255.
- ``.npy``, ``.npz`` (with ``condition`` beside ``samples``), ``.csv`` and ``.parquet`` (images as PNG bytes in a column
  ``image``, the condition in a column ``label``): everything exact.
"""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from pushforward import plots
from pushforward.data.checks import Values, is_frame
from pushforward.data.schema import Schema

__all__ = ["check_target", "write_samples"]

_FORMATS = (".png", ".npy", ".npz", ".csv", ".parquet")
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def check_target(path: str | Path, schema: Schema) -> Path:
    """Return the path, or say why samples with this schema cannot be written there; call it before the work of sampling.

    Raises
    ------
    ValueError
        If the ending is unknown, the format cannot hold such samples, or the folder already holds something.
    """
    as_folder = str(path).endswith(("/", "\\"))
    path = Path(path).expanduser()
    suffix = path.suffix.lower()
    if as_folder or suffix == "" or path.is_dir():
        return _check_folder(path, schema)
    if suffix not in _FORMATS:
        raise ValueError(
            f"{path} ends in {suffix}, which is not written; use one of {', '.join(_FORMATS)}, "
            f"or no ending for a folder of images."
        )
    if schema.kind == "images" and suffix == ".csv":
        raise ValueError(f"{path}: a CSV file does not hold images; use .npy, .npz, .parquet, .png or a folder.")
    if schema.kind == "images" and suffix == ".parquet":
        _check_png(path, schema, exact=True)
    return path


def write_samples(
    path: str | Path,
    values: Values,
    schema: Schema,
    *,
    condition: Sequence[Any] | np.ndarray | None = None,
    scale: tuple[float, float] | None = None,
) -> Path:
    """Write samples and return the path.

    Parameters
    ----------
    path : str or path
        See the top of this module; missing folders are made, an existing file is replaced.
    values : array, tensor or DataFrame
        Samples in the layout of ``schema``.
    schema : Schema
    condition : sequence, optional
        What each sample was asked to be: captions of a grid, sub-folders, or values beside the samples.
    scale : (float, float), optional
        Values shown as black and as white where the format cannot keep values exactly; by default the smallest and largest
        sample.
    """
    path = check_target(path, schema)
    if len(values) == 0:
        raise ValueError(f"there is no sample to write to {path}; draw at least one.")
    suffix = path.suffix.lower() if not path.is_dir() else ""
    if condition is not None and len(condition) != len(values):
        raise ValueError(f"condition has {len(condition)} entries for {len(values)} samples; give one per sample.")
    if suffix not in _FORMATS:
        _write_folder(path, _images(values, schema), condition, scale)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if suffix == ".png":
        _write_overview(path, values, schema, condition, scale)
    elif suffix == ".npy":
        np.save(path, _array(values))
    elif suffix == ".npz":
        arrays: dict[str, Any] = {} if condition is None else {"condition": _storable(condition)}
        np.savez_compressed(path, samples=_array(values), **arrays)
    else:
        frame = _frame(values, schema, condition)
        frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path, index=False)
    return path


def _check_folder(path: Path, schema: Schema) -> Path:
    if schema.kind != "images":
        raise ValueError(f"{path} has no ending and so means a folder of images, but the samples are vectors; use {_tables()}.")
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = "holds files already" if path.is_dir() else "is a file"
        raise ValueError(f"{path} {what}; name a new folder, so that samples of two runs are not mixed.")
    return _check_png(path, schema, exact=False)


def _check_png(path: Path, schema: Schema, *, exact: bool) -> Path:
    channels = schema.internal_shape[0]
    if channels not in _MODES:
        raise ValueError(
            f"{path}: a PNG holds 1, 3 or 4 channels, but the samples have {channels}; use .npy or .npz "
            "(a .png grid shows the channels side by side)."
        )
    if exact and schema.dtypes[0] != "uint8":
        raise ValueError(
            f"{path}: images are stored as PNG with 8 bits, but the samples are {schema.dtypes[0]}; use .npy or .npz."
        )
    return path


def _tables() -> str:
    return ".csv, .parquet, .npy, .npz or .png"


def _array(values: Any) -> np.ndarray:
    if is_frame(values):
        return np.asarray(values.to_numpy())
    if isinstance(values, np.ndarray):
        return values
    return np.asarray(values.float() if str(values.dtype) == "torch.bfloat16" else values)


def _images(values: Values, schema: Schema) -> np.ndarray:
    """Return images as (N, H, W) or (N, H, W, C), with a single channel squeezed."""
    array = _array(values)
    if schema.channels == "first":
        array = array.transpose(0, 2, 3, 1)
    return array[..., 0] if array.ndim == 4 and array.shape[-1] == 1 else array


def _storable(condition: Any) -> np.ndarray:
    array = np.asarray(condition)
    return array.astype(str) if array.dtype == object else array


def _write_overview(path: Path, values: Values, schema: Schema, condition: Any, scale: tuple[float, float] | None) -> None:
    if schema.kind == "images":
        captions = None if condition is None or np.ndim(condition) > 1 else [_caption(label) for label in condition]
        plots.save(plots.image_grid(_images(values, schema), labels=captions, scale=scale), path)
        return
    points = _array(values).reshape(len(values), -1)
    draw = plots.scatter_grid if points.shape[1] == 2 else plots.columns_grid
    plots.save(draw(points.astype(float), names=schema.columns), path)


def _caption(label: Any) -> str:
    return f"{label:.3g}" if isinstance(label, float | np.floating) else str(label)


def _write_folder(path: Path, images: np.ndarray, condition: Any, scale: tuple[float, float] | None) -> None:
    from PIL import Image

    encoded = _png_values(images, scale)
    digits = max(5, len(str(len(encoded) - 1)))
    # Only labels name sub-folders; vectors of numbers do not.
    labelled = condition is not None and np.ndim(condition) == 1 and _storable(condition).dtype.kind != "f"
    for index, image in enumerate(encoded):
        folder = path / _safe(str(condition[index])) if labelled else path
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index:0{digits}d}.png")


def _safe(label: str) -> str:
    """Return a label as the name of a folder inside the target, and not a hidden one."""
    return re.sub(r"[\\/:]|^\.+", "_", label.strip()) or "_"


def _png_values(images: np.ndarray, scale: tuple[float, float] | None) -> np.ndarray:
    if images.dtype in (np.uint8, np.uint16) and (images.dtype == np.uint8 or images.ndim == 3):
        return images
    if images.dtype == bool:
        return images.astype(np.uint8) * 255
    values = images.astype(np.float64)
    low, high = scale if scale is not None else (float(values.min()), float(values.max()))
    return np.asarray((255 * ((values - low) / ((high - low) or 1.0)).clip(0, 1)).round().astype(np.uint8))


def _frame(values: Values, schema: Schema, condition: Any) -> Any:
    import pandas as pd

    if is_frame(values):
        frame = cast(Any, values).copy()
    elif schema.kind == "images":
        frame = pd.DataFrame({"image": [{"bytes": _png_bytes(image), "path": None} for image in _images(values, schema)]})
    else:
        flat = _array(values).reshape(len(values), -1)
        frame = pd.DataFrame(flat, columns=[f"x{index}" for index in range(flat.shape[1])])
    if condition is not None:
        columns = np.asarray(condition).reshape(len(frame), -1)
        single = "condition" if "label" in frame else "label"
        for index in range(columns.shape[1]):
            frame[single if columns.shape[1] == 1 else f"condition{index}"] = columns[:, index]
    return frame


def _png_bytes(image: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="png")
    return stream.getvalue()
