"""Calibrated samplers on disk: ``calibrations.json`` beside the weights.

A calibration is valid for one model, one guidance scale and one number of steps. The file stores the SHA-256 of the weights
that it was made for, because it is invalid for any others.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from pushforward.data import Facts
from pushforward.diffusion import Calibration, Schedule
from pushforward.models.files import codec
from pushforward.training.record.files import write_file

__all__ = ["CALIBRATIONS", "Calibrations", "add_calibration", "read_calibrations", "write_calibrations"]

CALIBRATIONS = "calibrations.json"
_FORMAT = 2

Calibrations = Mapping[tuple[int, float], Calibration]
"""Calibrations by steps and guidance scale."""


def write_calibrations(folder: Path, calibrations: Calibrations, weights: Path) -> None:
    """Write ``calibrations.json`` atomically, with the SHA-256 of this weights file; delete it if there are no calibrations."""
    path = folder / CALIBRATIONS
    if not calibrations:
        path.unlink(missing_ok=True)
        return
    entries = [
        {"steps": steps, "guidance_scale": scale, "calibration": codec.to_plain(calibration)}
        for (steps, scale), calibration in sorted(calibrations.items())
    ]
    content = {"format": _FORMAT, "weights": _fingerprint(weights), "calibrations": entries}
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def add_calibration(folder: Path, steps: int, guidance_scale: float, calibration: Calibration, weights: Path) -> None:
    """Add one calibration to those in the folder; it replaces one for the same steps and scale."""
    stored = read_calibrations(folder, weights)
    write_calibrations(folder, {**stored, (steps, float(guidance_scale)): calibration}, weights)


def read_calibrations(folder: Path, weights: Path, schedule: Schedule | None = None) -> dict[tuple[int, float], Calibration]:
    """Return the calibrations of a folder; empty without a file.

    Raises
    ------
    ValueError
        If the file is damaged, was made for other weights, or its times do not fit ``schedule``.
    """
    path = folder / CALIBRATIONS
    if not path.is_file():
        return {}
    again = f"delete {path} and calibrate again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, made_for = content["format"], content["weights"]
        calibrations = dict(_entry(entry, schedule) for entry in content["calibrations"]) if version == _FORMAT else {}
    except (ValueError, TypeError, KeyError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged: {reason}; {again}") from None
    if version != _FORMAT:
        raise ValueError(f"{path} has format {version}, but this version of pushforward reads format {_FORMAT}; {again}")
    if made_for != _fingerprint(weights):
        raise ValueError(f"{path} was made for other weights than {weights}; {again}")
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
    calibration.sampler.nfe(steps)  # raises if the table has another number of steps
    if schedule is not None:
        calibration.sampler.table(schedule, calibration.sampler.grid(schedule, steps))
    return (steps, scale), calibration


def _fingerprint(weights: Path) -> str:
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
