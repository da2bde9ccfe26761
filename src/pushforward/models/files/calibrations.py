"""Calibrated samplers on disk: ``calibrations.json`` beside the weights.

A calibration is valid for one model, one guidance scale and one number of steps. The file stores the SHA-256 of the weights
that it is valid for, because it is invalid for any others.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pushforward.data import Facts
from pushforward.diffusion import Calibration, Schedule
from pushforward.models.files import codec
from pushforward.models.files.card import parse
from pushforward.training.record.files import RunError, inside, write_file

__all__ = ["CALIBRATIONS", "Calibrations", "add_calibration", "read_calibrations", "write_calibrations"]

CALIBRATIONS = "calibrations.json"
_FORMAT = 3
_MOST_BYTES = 32 << 20

Calibrations = Mapping[tuple[int, float], Calibration]
"""Calibrations by steps and guidance scale."""


def write_calibrations(folder: Path, calibrations: Calibrations, weights: Sequence[str]) -> None:
    """Write ``calibrations.json`` atomically, valid for weights with these SHA-256; delete it if there are no calibrations."""
    path = inside(folder, CALIBRATIONS)
    if not calibrations:
        path.unlink(missing_ok=True)
        return
    entries = [
        {"steps": steps, "guidance_scale": scale, "calibration": codec.to_plain(calibration)}
        for (steps, scale), calibration in sorted(calibrations.items())
    ]
    content = {"format": _FORMAT, "weights": list(weights), "calibrations": entries}
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def add_calibration(folder: Path, steps: int, guidance_scale: float, calibration: Calibration, weights: str) -> None:
    """Add one calibration to those in the folder; it replaces one for the same steps and scale."""
    stored = read_calibrations(folder, weights)
    write_calibrations(folder, {**stored, (steps, float(guidance_scale)): calibration}, [weights])


def read_calibrations(folder: Path, weights: str, schedule: Schedule | None = None) -> dict[tuple[int, float], Calibration]:
    """Return the calibrations of a folder whose weights have this SHA-256; empty without a file.

    Raises
    ------
    RunError
        If the file is damaged, is not valid for the weights, or its times do not fit ``schedule``.
    """
    path = folder / CALIBRATIONS
    again = f"delete {path} and calibrate again"
    try:
        content = parse(path, _MOST_BYTES, again)
    except FileNotFoundError:
        return {}
    if content.get("format") != _FORMAT:
        version = content.get("format")
        raise RunError(path, f"has format {version!r}, but this version of pushforward reads format {_FORMAT}", again)
    try:
        valid = weights in list(content["weights"])
        calibrations = dict(_entry(entry, schedule) for entry in content["calibrations"])
    except Exception as error:  # the classes that the file names check what it holds
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise RunError(path, f"is damaged: {reason}", again) from error
    if not valid:
        raise RunError(path, "was made for other weights than those in the folder", again)
    return calibrations


def _entry(entry: Facts, schedule: Schedule | None) -> tuple[tuple[int, float], Calibration]:
    """Return the key and the calibration of an entry."""
    steps, scale = entry["steps"], entry["guidance_scale"]
    calibration = codec.from_plain(entry["calibration"], where="calibration")
    if not isinstance(calibration, Calibration):
        raise ValueError(f"an entry holds a {type(calibration).__name__}, not a calibration")
    if not (isinstance(scale, float) and math.isfinite(scale) and math.isfinite(calibration.gain) and calibration.held_out > 0):
        raise ValueError(
            f"guidance scale {scale}, the errors {calibration.error}, {calibration.default_error} or their number is invalid"
        )
    if type(steps) is not int:
        raise ValueError(f"the number of steps is {steps!r}")
    calibration.sampler.nfe(steps)  # raises if the table has another number of steps
    if schedule is not None:
        calibration.sampler.table(schedule, calibration.sampler.grid(schedule, steps))
    return (steps, scale), calibration
