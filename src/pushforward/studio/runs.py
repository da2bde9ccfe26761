"""The contents of run folders: card, learning curve and samples, of runs that may come from strangers, or train now."""

import contextlib
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pushforward.evaluation import Evaluation
from pushforward.models.files.registry import family_name, find
from pushforward.models.files.storage import read_card
from pushforward.training.record.files import RunError, read_file
from pushforward.training.record.metrics import MOST_BYTES

__all__ = ["FIRST", "Curve", "RunFacts", "curve_files", "facts_of", "figures_of", "side_by_side", "step_pictures", "width_of"]

FIRST = ("log-density", "bits per dimension")  # figures that stand first in tables of several runs
_SHOWN_POINTS = 400
_QUIET_SECONDS = 20.0


@dataclass(frozen=True)
class RunFacts:
    """A run in a list; ``problem`` says why its card cannot be read."""

    name: str
    folder: Path
    family: str = ""
    source: str = ""
    rows: int = 0
    steps: int | None = None
    done: int = 0
    seconds: float | None = None
    held_out_loss: float | None = None
    finished: bool = False
    active: bool = False
    changed: float = 0.0
    problem: str = ""


def facts_of(folder: Path) -> RunFacts:
    """Return the facts of a run folder; it never raises."""
    changed = max(
        (path.stat().st_mtime for path in [folder / "model.json", *curve_files(folder)] if path.is_file()), default=0.0
    )
    try:
        card = read_card(folder)
        training = card["resolved"].get("training")
        maker = find(card["class"])
        result = card["result"] if card["status"] == "finished" else {}
        steps = None if not isinstance(training, dict) else int(training["steps"])
        curve = Curve.of(folder)
        return RunFacts(
            folder.name,
            folder,
            family=card["class"] if maker is None else family_name(type(maker())),
            source=str(card["data"]["source"]),
            rows=int(card["data"]["rows"]),
            steps=result.get("steps", steps),
            done=result.get("steps") or curve.last_step,
            seconds=result.get("seconds"),
            held_out_loss=result.get("held_out_loss"),
            finished=card["status"] == "finished",
            active=card["status"] != "finished" and time.time() - changed < _QUIET_SECONDS and (folder / ".lock").exists(),
            changed=changed,
        )
    except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
        return RunFacts(folder.name, folder, changed=changed, problem=str(error)[:400])


def curve_files(folder: Path) -> list[Path]:
    """Return the learning curves of a run: one, or one for each part of a composed model."""
    return [path for path in (folder / "metrics.jsonl", *sorted(folder.glob("*/metrics.jsonl"))) if path.is_file()]


@dataclass
class Curve:
    """The learning curve of a run, read on from where it ended the last time."""

    path: Path | None
    lines: list[dict[str, Any]] = field(default_factory=list)
    _size: int = 0

    @classmethod
    def of(cls, folder: Path) -> "Curve":
        """Return the curve of a run, of a composed model that of the part that trains now."""
        files = curve_files(folder)
        curve = cls(max(files, key=lambda path: path.stat().st_mtime) if files else None)
        curve.read()
        return curve

    def read(self) -> bool:
        """Read what is new, and return whether there was anything."""
        if self.path is None:
            return False
        try:
            size = self.path.stat().st_size
            if size == self._size:
                return False
            content = read_file(self.path, MOST_BYTES)
        except (OSError, RunError):
            return False
        if size < self._size:  # the run was resumed from before
            self.lines, self._size = [], 0
        whole = content[: content.rfind(b"\n") + 1]
        self.lines += [line for text in whole[self._size :].splitlines() if (line := _line(text)) is not None]
        self._size = len(whole)
        return True

    @property
    def last_step(self) -> int:
        """Number of steps done."""
        return int(self.lines[-1]["step"]) if self.lines else 0

    def points(self, key: str) -> list[list[float]]:
        """Return [step, value] of a figure, thinned for a chart."""
        found = [[line["step"], line[key]] for line in self.lines if isinstance(line.get(key), float | int)]
        every = max(1, len(found) // _SHOWN_POINTS)
        return found[::-1][::every][::-1]

    def levels(self) -> list[float | None]:
        """Return the last held-out loss by noise level, least noise first; empty if there is none."""
        for line in reversed(self.lines):
            values = line.get("held_out_by_level")
            if isinstance(values, list) and values:
                return [value if isinstance(value, float | int) else None for value in values][:32]
        return []


def _line(text: bytes) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
        if not isinstance(line, dict) or not math.isfinite(float(line["step"])):
            return None
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        return None
    bad = [key for key, value in line.items() if isinstance(value, float) and not math.isfinite(value)]
    return {key: value for key, value in line.items() if key not in bad}


def step_pictures(folder: Path) -> list[tuple[int, Path]]:
    """Return the pictures of samples that a run has drawn on its way, with their steps, and the last one."""
    found = []
    for path in sorted(folder.glob("samples/step-*.png")):
        with contextlib.suppress(ValueError):
            found.append((int(path.stem.removeprefix("step-")), path))
    return found


def width_of(picture: Path) -> int:
    """Return the width of a picture in pixels, 0 if it cannot be read."""
    try:
        with Image.open(picture) as opened:
            return int(opened.width)
    except OSError:
        return 0


def figures_of(folder: Path) -> list[dict[str, Any]]:
    """Return the figures of the evaluation in a run folder as rows of a table; empty if there is none that can be read."""
    try:
        table = Evaluation.load(folder / "evaluation.json").table()
    except (OSError, ValueError):
        return []
    shown = table[["name", "value", "low", "high", "floor", "reference", "space", "unit", "verdict"]]
    return [{key: _cell(value) for key, value in row.items()} for row in shown.to_dict("records")]


def side_by_side(figures: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return what several evaluations have measured, a row for each figure: its name, and the value of run i as ``v{i}``.

    >>> side_by_side([[{"name": "recall", "reference": "train", "space": "", "unit": "", "value": 0.9}], []])
    [{'id': 0, 'name': 'recall', 'reference': 'train', 'space': '', 'unit': '', 'v0': 0.9}]
    """
    found: dict[tuple[str, ...], dict[str, Any]] = {}
    keys = ("name", "reference", "space", "unit")
    for number, rows in enumerate(figures):
        for row in rows:
            same = found.setdefault(tuple(row[key] for key in keys), {"id": len(found), **{key: row[key] for key in keys}})
            same.setdefault(f"v{number}", row["value"])
    return list(found.values())


def _cell(value: object) -> str | float | None:
    if isinstance(value, float | int):
        return float(f"{float(value):.4g}") if math.isfinite(value) else None
    return "" if value is None else str(value)
