"""Calibrated samplers on disk: ``calibrations.json`` beside the weights.

A calibration belongs to one denoiser, the model's at one guidance scale, and to one number of steps. The file names the weights
that it was made for, by their SHA-256, because a table means nothing for any others.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from pushforward.data import Facts
from pushforward.diffusion import Calibration, Schedule
from pushforward.models.files import codec
from pushforward.training.files import write_file

__all__ = ["CALIBRATIONS", "Calibrations", "add_calibration", "read_calibrations", "write_calibrations"]

CALIBRATIONS = "calibrations.json"
_FORMAT = 2

Calibrations = Mapping[tuple[int, float], Calibration]
"""Calibrations by steps and guidance scale."""


def write_calibrations(folder: Path, calibrations: Calibrations, weights: Path) -> None:
    """Write ``calibrations.json`` in one piece, as made for this weights file; without any calibration there is no file."""
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
    """Write one calibration beside those that the folder holds by now, in place of one for the same steps and scale."""
    known = read_calibrations(folder, weights)
    write_calibrations(folder, {**known, (steps, float(guidance_scale)): calibration}, weights)


def read_calibrations(folder: Path, weights: Path, schedule: Schedule | None = None) -> dict[tuple[int, float], Calibration]:
    """Return the calibrations of a folder; none if it has no file of them.

    Raises
    ------
    ValueError
        If the file is damaged, was made for other weights, or its times do not fit the schedule, where one is given.
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
        said = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged: {said}; {again}") from None
    if version != _FORMAT:
        raise ValueError(f"{path} has format {version}, and this version of pushforward reads format {_FORMAT}; {again}")
    if made_for != _fingerprint(weights):
        raise ValueError(f"{path} was made for other weights than {weights} and means nothing for these; {again}")
    return calibrations


def _entry(entry: Facts, schedule: Schedule | None) -> tuple[tuple[int, float], Calibration]:
    """Return the key and the calibration that an entry of the file describes."""
    steps, scale = entry["steps"], entry["guidance_scale"]
    calibration = codec.from_plain(entry["calibration"], where="calibration")
    if not isinstance(calibration, Calibration):
        raise ValueError(f"an entry holds a {type(calibration).__name__} and no calibration")
    if not (isinstance(scale, float) and math.isfinite(scale) and math.isfinite(calibration.gain) and calibration.held_out > 0):
        raise ValueError(
            f"the guidance scale {scale}, the errors {calibration.error}, {calibration.default_error} or their number make no "
            "sense"
        )
    calibration.sampler.nfe(steps)  # refuses any other number than that of its table
    if schedule is not None:
        calibration.sampler.table(schedule, calibration.sampler.grid(schedule, steps))
    return (steps, scale), calibration


def _fingerprint(weights: Path) -> str:
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
