"""The data of a comparison: evaluations of several models on the same rows, and their ranking.

Models are ranked by how their samples compare with held-out rows. In each such figure they get a place, 1 for the best, and a
model's rank is the mean of its places. A value better than the noise floor counts as the floor: two models that both reach it
share a place. With several seeds the values are averaged first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.figure import Figure, Standing, short_note, standing
from pushforward.plots import Plot, trade_off

__all__ = ["Ranking", "Trial", "front"]

_COST = (("time of 1,000 samples", None), ("network calls", None), ("training time", None))
_TABULATED = (
    *(("C2ST", "held-out"), ("sliced Wasserstein", "held-out"), ("Fréchet distance", "held-out")),
    *(("precision", "held-out"), ("recall", "held-out"), ("log-density", "held-out"), ("near copies", "train")),
    *(("variance lost", "held-out"), ("effective dimensions", "held-out"), *_COST),
)
_OF_TABLES = (
    *(("Shape", "held-out"), ("Trend", "held-out"), ("detection", "held-out"), ("train on samples, test on rows", "held-out")),
    *(("C2ST", "held-out"), ("log-density", "held-out"), ("nearer to training", "train"), *_COST),
)
_OF_SETS = (("1-NN accuracy", "held-out"), ("coverage", "held-out"), ("log-density", "held-out"), *_COST)
_TABULATED_BY_KIND = {"tables": _OF_TABLES, "sets": _OF_SETS}
_RANKED_OF_TABLES = ("Shape", "Trend", "association gap", "detection", "pattern of gaps", "train on samples, test on rows")
_SPREAD = "sliced Wasserstein"
_ORDER: tuple[Standing, ...] = ("worse", "better", "at")


@dataclass(frozen=True, eq=False)
class Trial:
    """One model trained with one seed.

    Attributes
    ----------
    name : str
        Of the model in this comparison.
    seed : int
    folder : Path
        Its run.
    evaluation : Evaluation or None
        None if training or evaluating failed.
    failure : str
        The reason, or "".
    """

    name: str
    seed: int
    folder: Path
    evaluation: Evaluation | None
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Ranking:
    """Trials ranked: the data of a :class:`~pushforward.evaluation.Comparison`, which describes the attributes."""

    trials: tuple[Trial, ...]
    about: dict[str, Any]
    folder: Path

    @cached_property
    def names(self) -> list[str]:
        """The models that were evaluated, the best first; those that draw no samples come last."""
        return sorted(self._places, key=lambda name: (np.nan_to_num(self._places[name], nan=np.inf), name))

    def evaluations(self, name: str) -> list[Evaluation]:
        """Return the evaluations of a model, one for each seed that did not fail."""
        return [trial.evaluation for trial in self.trials if trial.name == name and trial.evaluation is not None]

    def figure(self, name: str, figure: str, reference: str | None = None, space: str | None = None) -> Figure | None:
        """Return a figure of the first seed of a model, or None."""
        return next(self._figures(name, figure, reference, space), None)

    def value(self, name: str, figure: str, reference: str | None = None, space: str | None = None) -> float:
        """Return the mean of a figure over the seeds of a model; NaN if it has none."""
        values = self.values(name, figure, reference, space)
        return float(np.mean(values)) if values else float("nan")

    def values(self, name: str, figure: str, reference: str | None = None, space: str | None = None) -> list[float]:
        """Return a figure of a model for each of its seeds."""
        return [found.measure.value for found in self._figures(name, figure, reference, space)]

    def _figures(self, name: str, figure: str, reference: str | None, space: str | None) -> Iterator[Figure]:
        for evaluation in self.evaluations(name):
            if (found := evaluation.find(figure, reference=reference, space=space)) is not None:
                yield found

    def standing(self, name: str, figure: str, reference: str | None = None, space: str | None = None) -> Standing:
        """Return where a figure of a model stands beside its floor, over all its seeds; "" without a test.

        It is worse if it is worse for one seed when the p-value is corrected for the number of seeds (Bonferroni).
        """
        found = list(self._figures(name, figure, reference, space))
        corrected = {standing(_corrected(one, len(found))) for one in found}
        return next((relation for relation in _ORDER if relation in corrected), "")

    def rank(self, name: str) -> float:
        """Return the mean place of a model among all; NaN if it draws no samples."""
        return self._places[name]

    def spread(self, name: str) -> float:
        """Return the largest sliced Wasserstein distance among the seeds of a model over the smallest; 1 is stable."""
        values = self.values(name, _SPREAD, "held-out")
        return max(values) / min(values) if len(values) > 1 and min(values) > 0 else float("nan")

    @cached_property
    def judged(self) -> list[tuple[str, str]]:
        """Names and spaces of the figures that the ranking uses."""
        judged: dict[tuple[str, str], None] = {}
        for trial in self.trials:
            for figure in () if trial.evaluation is None else trial.evaluation.figures:
                ranked = figure.group == "samples" or figure.name in _RANKED_OF_TABLES
                if ranked and figure.reference == "held-out" and figure.better in ("lower", "higher"):
                    judged[figure.name, figure.space] = None
        return list(judged)

    @cached_property
    def _places(self) -> dict[str, float]:
        names = list(dict.fromkeys(trial.name for trial in self.trials if trial.evaluation is not None))
        places: dict[str, list[float]] = {name: [] for name in names}
        for figure, space in self.judged:
            losses = {name: self._loss(name, figure, space) for name in names}
            able = [name for name in names if np.isfinite(losses[name])]
            for name, place in zip(able, rankdata([losses[name] for name in able]), strict=True):
                places[name].append(float(place))
        return {name: float(np.mean(own)) if own else float("nan") for name, own in places.items()}

    def _loss(self, name: str, figure: str, space: str) -> float:
        """Return a figure as a loss, never better than its floor."""
        first, value = self.figure(name, figure, "held-out", space), self.value(name, figure, "held-out", space)
        if first is None:
            return float("nan")
        sign = 1.0 if first.better == "lower" else -1.0
        return max(sign * value, -np.inf if first.floor is None else sign * first.floor.value)

    def table(self) -> pd.DataFrame:
        """Return one line per model, the best first; models that failed with every seed come last, with the reason.

        ``rank`` is the mean place over the figures of samples, ``variance lost`` and ``effective dimensions`` describe the
        latent space where there is one, ``density`` is the kind of the log-density, ``seeds`` the number
        of trainings that were evaluated, and ``spread`` the largest sliced Wasserstein distance among them over the smallest.
        All other columns are means over seeds.
        """
        lines, tabulated = [], _TABULATED_BY_KIND.get(self.about["kind"], _TABULATED)
        for name in self.names:
            density = self.figure(name, "log-density", "held-out")
            lines.append(
                {"model": name, "rank": self.rank(name)}
                | {figure: self.value(name, figure, reference) for figure, reference in tabulated}
                | {
                    "density": "" if density is None else short_note(density),
                    "parameters": self.evaluations(name)[0].about["parameters"],
                    "seeds": len(self.evaluations(name)),
                    "spread": self.spread(name),
                    "failed": "; ".join(dict.fromkeys(t.failure for t in self.trials if t.name == name and t.failure)),
                }
            )
        lost = {trial.name: trial.failure for trial in self.trials if trial.name not in self.names}
        lines += [{"model": name, "seeds": 0, "failed": failure} for name, failure in lost.items()]
        columns = ["model", "rank", *(figure for figure, _ in tabulated), "density", "parameters", "seeds", "spread", "failed"]
        return pd.DataFrame(lines, columns=columns)

    def figures(self) -> pd.DataFrame:
        """Return all figures of all models and seeds, one per line, as :meth:`Evaluation.table` gives them."""
        parts = [
            trial.evaluation.table().assign(model=trial.name, seed=trial.seed)
            for trial in self.trials
            if trial.evaluation is not None
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["model", "seed"])

    def plot(self) -> Plot:
        """Draw the mean place against the time of sampling, with the models that no other beats in both."""
        points = {
            name: (seconds, self.rank(name))
            for name in self.names
            if np.isfinite(seconds := self.value(name, "time of 1,000 samples")) and np.isfinite(self.rank(name))
        }
        return trade_off(points, front=front(points), labels=("seconds for 1,000 samples", "mean place (1 is best)"))


def _corrected(figure: Figure, tests: int) -> Figure:
    measure = figure.measure
    if measure.p_value is None:
        return figure
    return replace(figure, measure=measure.tested(min(1.0, tests * measure.p_value), measure.side))


def front(points: dict[str, tuple[float, float]]) -> Sequence[str]:
    """Return the names of the Pareto-optimal points, both numbers the lower the better, ordered by the first number.

    >>> front({"a": (1.0, 3.0), "b": (2.0, 1.0), "c": (3.0, 2.0)})
    ['a', 'b']
    """
    optimal = [
        name for name, (x, y) in points.items() if not any(u <= x and v <= y and (u, v) != (x, y) for u, v in points.values())
    ]
    return sorted(optimal, key=lambda name: points[name])
