"""The plots of an evaluation, by name, for notebooks and for the report."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushforward import plots
from pushforward.data.columns import Table
from pushforward.evaluation.figure import standing
from pushforward.evaluation.findings import Findings
from pushforward.plots import Plot

__all__ = ["columns_beside", "draw", "names", "scatter"]

_PATHS = 6
_PER_LINE = 8


def names(findings: Findings) -> tuple[str, ...]:
    """Return the names of the plots that can be drawn from these findings."""
    return tuple(name for name, (applies, _) in _VIEWS.items() if applies(findings))


def draw(findings: Findings, name: str) -> Plot:
    """Draw a plot.

    Raises
    ------
    ValueError
        If there is none of this name.
    """
    known = names(findings)
    if name not in known:
        reason = "" if findings.arrays else "; it was loaded without its arrays, the .npz beside the .json"
        raise ValueError(f"there is no plot {name!r} of this evaluation, but there are {', '.join(map(repr, known))}{reason}")
    return _VIEWS[name][1](findings)


def scatter(findings: Findings, which: str) -> Plot:
    """Draw "rows" or "samples" as points on common axes: the two columns, or the two main directions of the rows."""
    rows, samples, titles = _planes(findings)
    limits = _corners(rows)
    points, color = (rows, plots.INK) if which == "rows" else (samples, plots.SAMPLES)
    return plots.point_cloud({which: points}, names=titles, limits=limits, colors={which: color})


def columns_beside(findings: Findings, chosen: Sequence[int], *, titled: bool = True) -> Plot:
    """Draw samples and rows of some columns, a panel each."""
    samples, rows = (findings.arrays[name][:, list(chosen)] for name in ("samples", "rows"))
    names = [findings.about["columns"][index] if titled else "" for index in chosen]
    table = _table(findings)
    if table is None:
        return plots.columns_grid(samples, rows, names=names)
    levels, formats = [table.levels[index] for index in chosen], [table.formats[index] for index in chosen]
    return plots.columns_compared(samples, rows, names=names, levels=levels, formats=formats)


def _table(findings: Findings) -> Table | None:
    """Return the columns of a table, if the rows are of one."""
    facts = findings.about.get("table")
    return None if facts is None else Table.from_json(facts)


def _has(key: str) -> Callable[[Findings], bool]:
    return lambda findings: key in findings.arrays


def _has_grid(key: str) -> Callable[[Findings], bool]:
    return lambda findings: key in findings.arrays and findings.arrays[key].ndim > 2


def _has_texts(key: str) -> Callable[[Findings], bool]:
    return lambda findings: key in findings.arrays and np.issubdtype(findings.arrays[key].dtype, np.str_)


def _is_shown(key: str) -> Callable[[Findings], bool]:
    return lambda findings: _has_grid(key)(findings) or _has_texts(key)(findings)


def _is_flat(findings: Findings) -> bool:
    return "samples" in findings.arrays and findings.arrays["samples"].ndim == 2


def _figures(findings: Findings) -> Plot:
    figures = [figure for figure in findings.figures if figure.floor is not None]
    nan = (float("nan"),) * 3
    ends = [(f.measure.low, f.measure.value, f.measure.high) for f in figures]
    floors = [nan if f.floor is None else (f.floor.low, f.floor.value, f.floor.high) for f in figures]
    titles = [f"{f.name}{', train' if f.reference == 'train' and f.group == 'samples' else ''}" for f in figures]
    return plots.floor_chart(titles, np.array(ends), np.array(floors), marks=[standing(figure) for figure in figures])


def _grid(key: str) -> Callable[[Findings], Plot]:
    def grid(findings: Findings) -> Plot:
        if _has_texts(key)(findings):
            return plots.text_panel(findings.arrays[key].tolist())
        images, labels = findings.arrays[key], findings.arrays.get("class_labels")
        columns = len(images) // len(labels) if labels is not None else _PER_LINE
        return plots.image_grid(images, columns=columns, scale=_range(findings), width=720)

    return grid


def _neighbors(findings: Findings) -> Plot:
    samples, rows = findings.arrays["neighbor_samples"], findings.arrays["neighbor_rows"]
    return plots.image_grid(np.concatenate([samples, rows]), columns=len(samples), scale=_range(findings), width=1000)


def _distances(findings: Findings) -> Plot:
    return plots.distance_histogram(findings.arrays["distances_of_samples"], findings.arrays["distances_of_held_out"])


def _marginals(findings: Findings) -> Plot:
    return columns_beside(findings, range(findings.arrays["rows"].shape[1]))


def _associations(findings: Findings) -> Plot:
    arrays = findings.arrays
    return plots.association_maps(
        arrays["associations_of_samples"], arrays["associations_of_rows"], names=findings.about["columns"]
    )


def _gaps(findings: Findings) -> Plot:
    return plots.gap_patterns_chart(findings.arrays["samples"], findings.arrays["rows"], names=findings.about["columns"])


def _plane(findings: Findings) -> Plot:
    rows, samples, titles = _planes(findings)
    return plots.scatter_grid(samples, rows, names=titles, titles=("samples", "held-out rows"))


def _latent(findings: Findings) -> Plot:
    codes, labels = findings.arrays["codes"], findings.arrays.get("code_labels")
    if labels is None or len(np.unique(labels)) > len(plots.KINDS):
        return plots.point_cloud({"codes": codes})
    order = sorted(
        np.unique(labels).tolist(), key=lambda label: (not label.isdigit(), len(label) if label.isdigit() else 0, label)
    )
    return plots.point_cloud({label: codes[labels == label] for label in order})


def _paths(findings: Findings) -> Plot:
    states = findings.arrays["path_states"]
    if states.ndim == 3:  # (frames, n, 2)
        return plots.path_lines(states)
    images = np.moveaxis(states[:, :_PATHS], 0, 1)
    return plots.image_grid(images.reshape(-1, *images.shape[2:]), columns=len(states), scale=(-1, 1), width=1000)


def _learning(findings: Findings) -> Plot:
    return plots.learning_curve(findings.curve)


def _levels(findings: Findings) -> Plot:
    return plots.level_bars(findings.about["held_out_by_level"])


def _planes(findings: Findings) -> tuple[NDArray[Any], NDArray[Any], tuple[str, str]]:
    """Return rows and samples as points (n, 2), and the titles of the axes."""
    arrays, columns = findings.arrays, findings.about.get("columns") or ("column 0", "column 1")
    if "plane_rows" in arrays:
        return arrays["plane_rows"], arrays["plane_samples"], ("first principal component", "second")
    return arrays["rows"], arrays["samples"], (columns[0], columns[1])


def _two_dimensional(findings: Findings) -> bool:
    rows = findings.arrays.get("rows")
    if rows is None or not _is_flat(findings) or findings.about.get("table") is not None:
        return False
    return "plane_rows" in findings.arrays or rows.shape[1] == 2


def _corners(rows: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the corners of a square around all but rare outliers."""
    low, high = np.quantile(rows, 0.001, axis=0), np.quantile(rows, 0.999, axis=0)
    half, center = max(float((high - low).max()) * 0.58, 1e-9), (low + high) / 2
    return center - half, center + half


def _range(findings: Findings) -> tuple[float, float] | None:
    ends = findings.about.get("pixel_range")
    return None if ends is None else (ends[0], ends[1])


_VIEWS: dict[str, tuple[Callable[[Findings], bool], Callable[[Findings], Plot]]] = {
    "figures": (lambda findings: any(figure.floor is not None for figure in findings.figures), _figures),
    "samples": (_is_shown("samples"), _grid("samples")),
    "rows": (_is_shown("rows"), _grid("rows")),
    "plane": (_two_dimensional, _plane),
    "marginals": (lambda findings: _is_flat(findings) and bool(findings.about.get("columns")), _marginals),
    "associations": (_has("associations_of_samples"), _associations),
    "gaps": (_has("gaps_of_samples"), _gaps),
    "neighbors": (_has_grid("neighbor_samples"), _neighbors),
    "distances": (_has("distances_of_samples"), _distances),
    "latent": (_has("codes"), _latent),
    "paths": (_has("path_states"), _paths),
    "learning": (lambda findings: len(findings.curve) > 1, _learning),
    "noise levels": (lambda findings: bool(findings.about.get("held_out_by_level")), _levels),
}
