"""The plots of an evaluation, by name, for notebooks and for the report: each is drawn by :mod:`~pushforward.plots`."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from pushforward import plots
from pushforward.plots import Plot

if TYPE_CHECKING:
    from pushforward.evaluation.evaluation import Evaluation

__all__ = ["draw", "names", "scatter"]

_PATHS = 6
_PER_LINE = 8


def names(evaluation: "Evaluation") -> tuple[str, ...]:
    """Return the names of the plots that can be drawn of this evaluation."""
    return tuple(name for name, (applies, _) in _VIEWS.items() if applies(evaluation))


def draw(evaluation: "Evaluation", name: str) -> Plot:
    """Draw a plot.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    known = names(evaluation)
    if name not in known:
        kept = "" if evaluation.arrays else "; it was loaded without its arrays, the .npz beside the .json"
        raise ValueError(f"there is no plot {name!r} of this evaluation, but there are {', '.join(map(repr, known))}{kept}")
    return _VIEWS[name][1](evaluation)


def scatter(evaluation: "Evaluation", which: str) -> Plot:
    """Draw "rows" or "samples" as points on common axes: the two columns, or the two main directions of the rows."""
    rows, samples, titles = _planes(evaluation)
    limits = _corners(rows)
    points, color = (rows, plots.INK) if which == "rows" else (samples, plots.SAMPLES)
    return plots.point_cloud({which: points}, names=titles, limits=limits, colors={which: color})


def _has(*keys: str) -> Callable[["Evaluation"], bool]:
    return lambda evaluation: all(key in evaluation.arrays for key in keys)


def _of_images(key: str) -> Callable[["Evaluation"], bool]:
    return lambda evaluation: key in evaluation.arrays and evaluation.about.get("kind") == "images"


def _vectors(evaluation: "Evaluation") -> bool:
    return _has("samples", "rows")(evaluation) and evaluation.about.get("kind") == "vectors"


def _figures(evaluation: "Evaluation") -> Plot:
    from pushforward.evaluation.evaluation import standing

    figures = [figure for figure in evaluation.figures if figure.floor is not None]
    nan = (float("nan"),) * 3
    ends = [(one.measure.low, one.measure.value, one.measure.high) for one in figures]
    floors = [nan if one.floor is None else (one.floor.low, one.floor.value, one.floor.high) for one in figures]
    titles = [f"{one.name}{', train' if one.reference == 'train' and one.group == 'samples' else ''}" for one in figures]
    return plots.floor_chart(titles, np.array(ends), np.array(floors), marks=[standing(one) for one in figures])


def _grid(key: str) -> Callable[["Evaluation"], Plot]:
    def drawn(evaluation: "Evaluation") -> Plot:
        images, labels = evaluation.arrays[key], evaluation.arrays.get("class_labels")
        columns = len(images) // len(labels) if labels is not None else _PER_LINE
        return plots.image_grid(images, columns=columns, scale=_range(evaluation), width=720)

    return drawn


def _neighbors(evaluation: "Evaluation") -> Plot:
    samples, rows = evaluation.arrays["neighbor_samples"], evaluation.arrays["neighbor_rows"]
    return plots.image_grid(np.concatenate([samples, rows]), columns=len(samples), scale=_range(evaluation), width=1000)


def _distances(evaluation: "Evaluation") -> Plot:
    return plots.distance_histogram(evaluation.arrays["distances_of_samples"], evaluation.arrays["distances_of_held_out"])


def _marginals(evaluation: "Evaluation") -> Plot:
    columns = evaluation.about.get("columns")
    return plots.columns_grid(evaluation.arrays["samples"], evaluation.arrays["rows"], names=columns)


def _plane(evaluation: "Evaluation") -> Plot:
    rows, samples, titles = _planes(evaluation)
    return plots.scatter_grid(samples, rows, names=titles, titles=("samples", "held-out rows"))


def _latent(evaluation: "Evaluation") -> Plot:
    codes, labels = evaluation.arrays["codes"], evaluation.arrays.get("code_labels")
    if labels is None or len(np.unique(labels)) > len(plots.KINDS):
        return plots.point_cloud({"codes": codes})
    order = sorted(
        np.unique(labels).tolist(), key=lambda label: (not label.isdigit(), len(label) if label.isdigit() else 0, label)
    )
    return plots.point_cloud({label: codes[labels == label] for label in order})


def _paths(evaluation: "Evaluation") -> Plot:
    states = evaluation.arrays["path_states"]
    if evaluation.about.get("kind") != "images":
        return plots.path_lines(states)
    images = np.moveaxis(states[:, :_PATHS], 0, 1)
    return plots.image_grid(images.reshape(-1, *images.shape[2:]), columns=len(states), scale=(-1, 1), width=1000)


def _learning(evaluation: "Evaluation") -> Plot:
    return plots.learning_curve(evaluation.curve)


def _levels(evaluation: "Evaluation") -> Plot:
    return plots.level_bars(evaluation.about["held_out_by_level"])


def _planes(evaluation: "Evaluation") -> tuple[np.ndarray, np.ndarray, tuple[str, str]]:
    """Return rows and samples as points (n, 2), and what the axes are."""
    arrays, columns = evaluation.arrays, evaluation.about.get("columns") or ("column 0", "column 1")
    if "plane_rows" in arrays:
        return arrays["plane_rows"], arrays["plane_samples"], ("first principal component", "second")
    return arrays["rows"], arrays["samples"], (columns[0], columns[1])


def _two_dimensional(evaluation: "Evaluation") -> bool:
    return _vectors(evaluation) and ("plane_rows" in evaluation.arrays or evaluation.arrays["rows"].shape[1] == 2)


def _corners(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of a square around all but the rare outliers."""
    low, high = np.quantile(rows, 0.001, axis=0), np.quantile(rows, 0.999, axis=0)
    half, center = max(float((high - low).max()) * 0.58, 1e-9), (low + high) / 2
    return center - half, center + half


def _range(evaluation: "Evaluation") -> tuple[float, float] | None:
    ends = evaluation.about.get("pixel_range")
    return None if ends is None else (ends[0], ends[1])


_VIEWS: dict[str, tuple[Callable[["Evaluation"], bool], Callable[["Evaluation"], Plot]]] = {
    "figures": (lambda evaluation: any(figure.floor is not None for figure in evaluation.figures), _figures),
    "samples": (_of_images("samples"), _grid("samples")),
    "rows": (_of_images("rows"), _grid("rows")),
    "plane": (_two_dimensional, _plane),
    "marginals": (_vectors, _marginals),
    "neighbors": (_of_images("neighbor_samples"), _neighbors),
    "distances": (_has("distances_of_samples"), _distances),
    "latent": (_has("codes"), _latent),
    "paths": (_has("path_states"), _paths),
    "learning": (lambda evaluation: len(evaluation.curve) > 1, _learning),
    "noise levels": (lambda evaluation: bool(evaluation.about.get("held_out_by_level")), _levels),
}
