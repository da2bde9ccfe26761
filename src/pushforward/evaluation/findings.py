"""The data of an evaluation: figures, what was evaluated, and the few rows that plots are drawn from.

They are written as JSON, with the arrays beside it as .npz. Reading them runs no code from the files.
"""

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pushforward.evaluation.figure import Figure, Group, off_floor, standing, verdict
from pushforward.metrics.measure import Measure
from pushforward.models.files.card import parse
from pushforward.training.record.files import RunError, inside, write_file

__all__ = ["GROUPS", "Findings", "Results"]

GROUPS: dict[Group, str] = {
    "samples": "Samples against rows",
    "density": "Density",
    "table": "Columns",
    "memorization": "Memorization",
    "latent": "Latent space",
    "speed": "Speed",
}
_FORMAT = 2
_MOST_BYTES = 32 << 20
_COLUMNS = (
    *("name", "value", "low", "high", "floor", "n", "reference", "unit", "space", "note", "group", "floor_low", "floor_high"),
    *("p_value", "verdict"),
)


@dataclass(eq=False)
class Results:
    """What the parts of an evaluation have measured so far.

    Attributes
    ----------
    figures : list of Figure
    arrays : dict of arrays
        Rows that plots are drawn from.
    skipped : dict
        Parts that do not apply, with the reason.
    """

    figures: list[Figure] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Findings:
    """The data of an :class:`~pushforward.evaluation.Evaluation`, which describes the attributes."""

    figures: tuple[Figure, ...]
    model: str
    about: Mapping[str, Any] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    curve: Sequence[Mapping[str, Any]] = ()
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict, repr=False)

    def find(self, name: str, *, reference: str | None = None, space: str | None = None) -> Figure | None:
        """Return the first figure of this name, and of this reference and space if they are given; None if there is none."""
        for figure in self.figures:
            if figure.name == name and reference in (None, figure.reference) and space in (None, figure.space):
                return figure
        return None

    def table(self) -> pd.DataFrame:
        """Return one line per figure.

        The columns are name, value, low and high (of the 95 % interval), floor, n, reference, unit, space, note, group,
        floor_low and floor_high, p_value and verdict.
        """
        return pd.DataFrame([_line(figure) for figure in self.figures], columns=list(_COLUMNS))

    def sections(self) -> list[tuple[str, list[Figure]]]:
        """Return the figures under their headings: the group, and the feature space if there is one."""
        sections: dict[str, list[Figure]] = {}
        for group, title in GROUPS.items():
            for figure in self.figures:
                if figure.group == group:
                    sections.setdefault(f"{title}, {figure.space}" if figure.space else title, []).append(figure)
        return list(sections.items())

    def headline(self) -> str:
        """Return the model, the data, and how many figures reach their noise floor, all tests together at the 5 % level."""
        source = f" on {self.about['source']}" if self.about.get("source") else ""
        tested = sum(bool(standing(figure)) for figure in self.figures)
        reach = tested - len(off_floor(self.figures))
        parts = (
            f": {reach} of {tested} figures at their noise floor or better (5 % level for all tests together)" if tested else ""
        )
        return f"{self.model}{source}{parts}"

    def save(self, path: str | Path) -> Path:
        """Write ``path``, a .json, and beside it the arrays as .npz; :meth:`load` reads both. Return the path."""
        path = _json_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.arrays:
            buffer = io.BytesIO()
            np.savez_compressed(buffer, allow_pickle=False, **self.arrays)
            write_file(path.with_suffix(".npz"), buffer.getvalue())
        else:
            path.with_suffix(".npz").unlink(missing_ok=True)
        facts = {item.name: getattr(self, item.name) for item in dataclasses.fields(self) if item.name != "arrays"}
        facts["figures"] = [dataclasses.asdict(figure) for figure in self.figures]
        text = json.dumps(_to_json({"format": _FORMAT} | facts), indent=1, allow_nan=False)
        write_file(path, text + "\n")
        return path

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote; without the .npz there are the figures but no plots of rows.

        Raises
        ------
        FileNotFoundError, ValueError
            If there is no such file, or it does not hold an evaluation.
        """
        path = _json_path(path)
        if not path.is_file():
            raise FileNotFoundError(f"there is no evaluation {path}; make one with `pushforward evaluate RUN`")
        try:
            facts = parse(path, _MOST_BYTES, "evaluate again with `pushforward evaluate RUN`")
            if facts.pop("format") != _FORMAT:
                raise ValueError(f"it is not of format {_FORMAT}")
            facts["figures"] = tuple(_figure(figure) for figure in facts["figures"])
            arrays = {}
            if inside(path.parent, path.with_suffix(".npz").name).is_file():
                with np.load(path.with_suffix(".npz"), allow_pickle=False) as archive:
                    arrays = {name: archive[name] for name in archive.files}
            return cls(**facts, arrays=arrays)
        except RunError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, EOFError, MemoryError, BadZipFile) as error:
            raise RunError(path, f"is not an evaluation that can be read: {error}", "evaluate again") from None


def _line(figure: Figure) -> list[Any]:
    measure, floor = figure.measure, figure.floor
    nan = float("nan")
    return [
        *(figure.name, measure.value, measure.low, measure.high, nan if floor is None else floor.value, measure.n),
        *(figure.reference, figure.unit, figure.space, figure.note, figure.group),
        *((nan, nan) if floor is None else (floor.low, floor.high)),
        *(nan if measure.p_value is None else measure.p_value, verdict(figure)),
    ]


def _figure(plain: Mapping[str, Any]) -> Figure:
    floor = plain["floor"]
    return Figure(**{**plain, "measure": _measure(plain["measure"]), "floor": None if floor is None else _measure(floor)})


def _measure(plain: Mapping[str, Any]) -> Measure:
    numbers = {key: float("nan") if plain[key] is None else float(plain[key]) for key in ("value", "low", "high")}
    p = plain["p_value"]
    return Measure(**numbers, n=int(plain["n"]), p_value=None if p is None else float(p), side=plain["side"])


def _to_json(value: Any) -> Any:
    """Return plain data that strict JSON can hold: NaN as null, infinities as text."""
    if isinstance(value, Mapping):
        return {str(key): _to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "inf" if value > 0 else "-inf"
    return value


def _json_path(path: str | Path) -> Path:
    """Return the path of the JSON file; a folder means its ``evaluation.json``."""
    path = Path(path)
    if path.is_dir():
        return path / "evaluation.json"
    if path.suffix.lower() != ".json":
        raise ValueError(
            f"an evaluation is written to a .json file, not to {path.name!r}; write {path.stem or 'evaluation'}.json"
        )
    return path
