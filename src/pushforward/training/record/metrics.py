"""The curve of a run: ``metrics.jsonl``, one JSON object per line.

Keys are ``step``, ``loss`` (mean since the previous line, null if every step was skipped), ``learning_rate``,
``rows_per_second`` (of training only, without evaluations and checkpoints), ``seconds`` (since the start, over all
resumed parts), ``attempt``, and after a held-out evaluation ``held_out_loss`` and ``held_out_by_level``.
"""

import json
import os
from pathlib import Path
from typing import Any

from pushforward.training.record.files import read_file, write_file

__all__ = ["MOST_BYTES", "MetricsFile"]

MOST_BYTES = 1 << 28


class MetricsFile:
    """Appends lines to a JSON-lines file; does nothing without a path."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def append(self, line: dict[str, Any]) -> None:
        """Write one line."""
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")

    def flush(self) -> None:
        """Flush all lines to the disk, before a checkpoint that relies on them."""
        if self._path is not None and self._path.exists():
            with self._path.open("rb") as file:
                os.fsync(file.fileno())

    def truncate(self, step: int) -> None:
        """Delete the lines after ``step``, and an incomplete last line."""
        if self._path is None or not self._path.exists():
            return
        content = read_file(self._path, MOST_BYTES).decode(errors="replace")
        lines = [line for line in content.splitlines() if _step_of(line) <= step]
        write_file(self._path, "".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
