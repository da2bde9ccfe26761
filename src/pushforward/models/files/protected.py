"""The files of a run, which no other output may replace: without them the run cannot be loaded or resumed."""

from pathlib import Path

__all__ = ["check_not_of_run", "run_of"]

_CARD = "model.json"
_FILES = {_CARD, "weights.safetensors", "calibrations.json", "metrics.jsonl", "samples.png", ".lock"}
_FOLDERS = {"checkpoint", "samples", "coder", "prior", "matching"}


def run_of(path: Path) -> Path | None:
    """Return the folder of the run that holds a path, or None; links and other spellings of a name are resolved."""
    real = path.expanduser().resolve()
    for folder in real.parents:
        first = real.relative_to(folder).parts[0].casefold()
        if first in _FILES | _FOLDERS and (folder / _CARD).is_file():
            return folder
    return None


def check_not_of_run(path: Path) -> None:
    """Raise a ValueError if a path is a part of a run."""
    run = run_of(path)
    if run is not None:
        raise ValueError(f"{path} is part of the run {run}, which is never overwritten; write somewhere else")
