"""Plots of tables with columns of every type: each column, how columns go together, and gaps; samples beside data.

Rows are arrays (n, C) with one number per column: the number of the level of a category, or a number. NaN is a gap.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pushforward.plots import style
from pushforward.plots.style import DATA, FAINT, INK, SAMPLES, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["association_maps", "columns_compared", "gap_patterns_chart"]

_Floats = NDArray[np.float64]
_MOST_LEVELS = 9
_NAME = 24
_BINS = 40
_COLORS = (SAMPLES, DATA)
_SPIKE, _FEW_VALUES = 0.03, 40  # a share of rows that is a spike, among more different values than this
_MOST_SPIKES = 3
_LEAST_SPIKE = 8  # rows
_ROOM_FOR_THREE = 10  # characters
_SKEW = 20.0
_MOST_PATTERNS = 12
_MOST_GAPS = 40


def columns_compared(
    samples: np.ndarray,
    data: np.ndarray | None = None,
    *,
    names: Sequence[object],
    levels: Sequence[Sequence[object] | None],
    formats: Sequence[Callable[[float], str] | None] | None = None,
    titles: tuple[str, str] = ("samples", "data"),
    limit: int = 40,
) -> "Figure":
    """Return one panel per column: bars of a category, or the histogram of a number with its spikes apart.

    Shares are of all rows, gaps among them. A value that many rows have exactly stands as a line; its shares of the data and of
    the samples are written, and the histogram shows the other values. Numbers far out are in the first and the last bin.

    Parameters
    ----------
    samples, data : array (n, C), (m, C)
        Without data, the samples alone.
    names : sequence of C
    levels : sequence of C
        The names of the levels of a category, None for a number. Of more than 10 levels the 9 most frequent are shown.
    formats : sequence of C, optional
        For numbers that are read as something else, such as dates: text of a number, None for plain numbers.
    titles : (str, str)
        Of the samples and of the data.
    limit : int
        Largest number of columns shown; the title then gives their total number.

    >>> rows = np.array([[0.0, 1.5], [1.0, np.nan], [0.0, 2.5]])
    >>> chart = columns_compared(rows, rows, names=["kind", "size"], levels=[["a", "b"], None])
    """
    sets = [np.asarray(rows, dtype=float) for rows in (samples, data) if rows is not None]
    total = sets[0].shape[1]
    shown = min(total, limit)
    across = min(4, shown) if shown != 4 else 2
    lines = -(-shown // across)
    canvas = _figure(3.3 * across + (0.3 if across > 1 else 1.3), 2.25 * lines + 0.6)
    for j in range(shown):
        axes = panel(canvas, lines, across, j + 1, _short(names[j], 28))
        axes.title.set_fontsize(9)
        column, labels = [rows[:, j] for rows in sets], levels[j]
        if all(np.isnan(values).all() for values in column):
            _say(axes, "no values")
        elif labels is None:
            _numbers(axes, column, None if formats is None else formats[j])
        else:
            _bars(axes, column, labels)
    _key(canvas, "" if shown == total else f"the first {shown} of {total} columns", titles[: len(sets)])
    return canvas


def association_maps(samples: np.ndarray, data: np.ndarray, *, names: Sequence[object], limit: int = 40) -> "Figure":
    """Return heat maps of the associations of all pairs of columns: of the data, of the samples, and their difference.

    Parameters
    ----------
    samples, data : array (C, C)
        Associations in [-1, 1]; NaN where there is none, which is left gray.
    names : sequence of C
    limit : int
        Largest number of columns shown: those of the largest differences.

    >>> chart = association_maps(np.eye(2), np.array([[1.0, 0.5], [0.5, 1.0]]), names=["a", "b"])
    """
    samples, data = np.asarray(samples, dtype=float), np.asarray(data, dtype=float)
    total, count = len(data), min(len(data), limit)
    if count < total:
        shown = np.sort(np.argsort(-np.nan_to_num(np.abs(samples - data)).max(axis=1), kind="stable")[:limit])
        samples, data, names = samples[np.ix_(shown, shown)], data[np.ix_(shown, shown)], [names[j] for j in shown]
    side = max(2.6, 0.55 * count if count <= 12 else 0.16 * count + 1.0)
    written = 0.075 * max(len(_short(name, _NAME)) for name in names)
    canvas = _figure(3 * side + 2.0 + written, side + 0.6 + written)
    difference = samples - data
    off = difference[~np.eye(count, dtype=bool)]
    widest = max(0.05, float(np.nanmax(np.abs(off), initial=0.0)))
    axes = [canvas.add_subplot(1, 3, k + 1) for k in range(3)]
    first = "data" if count == total else f"data, the {count} of {total} columns that differ most"
    for place, (part, title, most) in enumerate(
        ((data, first, 1.0), (samples, "samples", 1.0), (difference, "samples minus data", widest))
    ):
        image = _map(axes[place], part, title, most, names, labelled=place == 0)
        if place == 1:
            _scale(canvas, image, axes[:2], "association")
        elif place == 2:
            _scale(canvas, image, axes[2:], "difference")
    return canvas


def gap_patterns_chart(samples: np.ndarray, data: np.ndarray, *, names: Sequence[object]) -> "Figure":
    """Return which columns have gaps, how often, and which have them together.

    Above, the share of rows with a gap by column. Below, a line for each of the most frequent patterns: dots mark the columns
    with a gap, bars the share of rows with gaps in exactly these columns.

    Parameters
    ----------
    samples, data : array (n, C), (m, C)
    names : sequence of C

    >>> rows = np.array([[0.0, np.nan], [np.nan, np.nan], [1.0, 2.0]])
    >>> chart = gap_patterns_chart(rows, rows, names=["a", "b"])
    """
    gaps = [np.isnan(np.asarray(rows, dtype=float)) for rows in (samples, data)]
    rates = [part.mean(axis=0) for part in gaps]
    columns = np.flatnonzero((rates[0] > 0) | (rates[1] > 0))
    if not len(columns):
        canvas = _figure(4.6, 1.6)
        _say(panel(canvas, 1, 1, 1), "no gaps, neither in the data nor among the samples")
        return canvas
    kept = np.sort(columns[np.argsort(-(rates[0] + rates[1])[columns], kind="stable")[:_MOST_GAPS]])
    patterns, shares = _patterns(gaps[0][:, kept], gaps[1][:, kept])
    canvas = _figure(max(5.0, 0.3 * len(kept) + 3.6), 3.4 + 0.26 * len(patterns) + 0.6)
    grid = canvas.add_gridspec(2, 2, width_ratios=[max(len(kept), 6), 8], height_ratios=[1.6, max(0.26 * len(patterns), 0.6)])
    top, below, beside = (canvas.add_subplot(grid[place]) for place in ((0, 0), (1, 0), (1, 1)))
    for axes in (top, below, beside):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(DATA)
        axes.tick_params(colors=INK, labelsize=8, color=DATA)
    places = np.arange(len(kept))
    top.bar(places - 0.2, rates[1][kept], 0.4, color=DATA)
    top.bar(places + 0.2, rates[0][kept], 0.4, color=SAMPLES)
    top.yaxis.set_major_formatter(_percent)
    top.set_xticks([])
    top.set_xlim(-0.6, len(kept) - 0.4)
    top.set_title("gaps by column" + ("" if len(kept) == len(columns) else f", {len(kept)} of {len(columns)}"), fontsize=9)
    _dots(below, patterns, [_short(names[j], _NAME) for j in kept])
    _pattern_bars(beside, shares)
    whole = [float((~part.any(axis=1)).mean()) for part in gaps]
    note = f"rows without a gap:\n{_percent(whole[1])} of the data\n{_percent(whole[0])} of the samples"
    canvas.add_subplot(grid[0, 1], frame_on=False, xticks=[], yticks=[]).text(
        0.1, 0.7, note, va="center", fontsize=8.5, color=INK
    )
    _key(canvas, "")
    return canvas


def _figure(width: float, height: float) -> "Figure":
    """Return a figure with a margin for labels that stand out of their axes."""
    canvas = style.figure(width, height)
    canvas.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return canvas


def _bars(axes: "Axes", column: Sequence[_Floats], labels: Sequence[object]) -> None:
    """Draw shares of the levels side by side, the most frequent first if there are many; ``column`` has the data last."""
    count = len(labels)
    of_levels = [np.bincount(rows[~np.isnan(rows)].astype(int), minlength=count)[:count] / max(len(rows), 1) for rows in column]
    order, names = np.arange(count), [_short(label, 20) for label in labels]
    rest = np.array([], dtype=int)
    if count > _MOST_LEVELS + 1:
        ranked = np.argsort(-of_levels[-1], kind="stable")
        order, rest = ranked[:_MOST_LEVELS], ranked[_MOST_LEVELS:]
    shares = [np.append(part[order], [part[rest].sum()] if len(rest) else []) for part in of_levels]
    names = [names[k] for k in order] + ([f"{len(rest)} others"] if len(rest) else [])
    gaps = [float(np.isnan(rows).mean()) for rows in column]
    if max(gaps) > 0:
        shares = [np.append(part, gap) for part, gap in zip(shares, gaps, strict=True)]
        names.append("(gap)")
    places, width = np.arange(len(names)), 0.8 / len(column)
    for k in reversed(range(len(column))):
        axes.barh(places + width * ((len(column) - 1) / 2 - k), shares[k], width, color=_COLORS[k])
    axes.set_yticks(places, names, fontsize=7)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(_percent)
    axes.tick_params(axis="x", labelsize=7)
    axes.locator_params(axis="x", nbins=4)


def _numbers(axes: "Axes", column: Sequence[_Floats], form: Callable[[float], str] | None) -> None:
    """Draw shares of rows in bins as a histogram, and exact values that many rows have as lines."""
    sizes, missing = [len(rows) for rows in column], [float(np.isnan(rows).mean()) for rows in column]
    column = [rows[~np.isnan(rows)] for rows in column]
    spikes = _spikes(column[-1] if len(column[-1]) else column[0])
    beside = [rows[~np.isin(rows, spikes)] for rows in column]
    reference = beside[-1] if len(beside[-1]) else beside[0]
    highest = 0.0
    if len(reference):
        edges, logarithmic = _edges(reference)
        shares = [
            np.histogram(np.clip(rows, edges[0], edges[-1]), edges)[0] / size for rows, size in zip(beside, sizes, strict=True)
        ]
        axes.stairs(shares[-1], edges, fill=True, color=_COLORS[len(column) - 1], alpha=0.55)
        if len(column) > 1:
            axes.stairs(shares[0], edges, color=SAMPLES, linewidth=1.4)
        highest = float(max(part.max() for part in shares))
        if logarithmic and (not len(spikes) or spikes.min() > 0):
            axes.set_xscale("log")
    pairs = [[(rows == spike).sum() / size for rows, size in zip(column, sizes, strict=True)] for spike in spikes]
    _spike_lines(axes, spikes, pairs, highest, form)
    axes.set_yticks([])
    if form is not None:
        _written_ticks(axes, form)
    elif axes.get_xscale() == "linear":
        axes.locator_params(axis="x", nbins=4)
    if max(missing) > 0:
        axes.set_xlabel(f"gaps: {_percents(missing)}", fontsize=7, color=INK)


def _written_ticks(axes: "Axes", form: Callable[[float], str]) -> None:
    """Write the ends and the middle of the axis; long labels stay inside it."""
    low, high = axes.get_xlim()
    axes.set_xlim(low, high)
    places: tuple[float, ...] = (low, high)
    if axes.get_xscale() == "linear" and len(form(low)) <= _ROOM_FOR_THREE:
        places = (low, (low + high) / 2, high)
    axes.set_xticks(places, [_short(form(place), 19) for place in places], fontsize=6.5)
    axes.set_xticks([], minor=True)
    labels = axes.get_xticklabels()
    labels[0].set_horizontalalignment("left")
    labels[-1].set_horizontalalignment("right")


def _spike_lines(
    axes: "Axes", spikes: _Floats, shares: Sequence[list[float]], highest: float, form: Callable[[float], str] | None
) -> None:
    """Draw each spike as a line of its share, cut at the top of the panel, and write the shares beside its value."""
    top = 1.6 * highest if highest else 1.15 * max([max(of_sets) for of_sets in shares], default=1.0)
    notes = []
    for spike, of_sets in zip(spikes, shares, strict=True):
        for k in reversed(range(len(of_sets))):
            width = 5 if k == len(of_sets) - 1 else 1.6
            axes.vlines(spike, 0, min(of_sets[k], top), color=_COLORS[k], linewidth=width, zorder=4 - k)
        value = f"{spike:,.6g}" if form is None else _short(form(float(spike)), 16)
        notes.append(f"{value}: {_percents(of_sets)}")
    if notes:
        axes.text(0.98, 0.97, "\n".join(notes), transform=axes.transAxes, ha="right", va="top", fontsize=7, color=INK, zorder=5)
    axes.set_ylim(0, top if len(spikes) else None)


def _spikes(values: _Floats) -> _Floats:
    """Return the most frequent exact values that hold a share of their own, of a column that is not a few values anyway."""
    different, counts = np.unique(values, return_counts=True)
    if len(different) == 1:
        return different
    if len(different) <= _FEW_VALUES:
        return different[:0]
    often = np.flatnonzero(counts >= max(_SPIKE * counts.sum(), _LEAST_SPIKE)).tolist()
    around = [np.concatenate([counts[max(k - 4, 0) : k], counts[k + 1 : k + 5]]) for k in often]
    found = np.array([k for k, others in zip(often, around, strict=True) if counts[k] >= 4 * np.median(others)], dtype=int)
    spikes: _Floats = different[np.sort(found[np.argsort(-counts[found], kind="stable")[:_MOST_SPIKES]])]
    return spikes


def _edges(values: _Floats) -> tuple[_Floats, bool]:
    """Return the edges of about 40 bins without rare outliers, one bin for each of few integers, and whether they widen."""
    low, high = np.quantile(values, 0.005), np.quantile(values, 0.995)
    if high <= low:
        low, high = values.min(), values.max()
    if not high > low:
        return np.array([low - 0.5, low + 0.5]), False
    if low > 0 and high > _SKEW * np.median(values):
        return np.geomspace(low, high, _BINS + 1), True
    if (values == np.round(values)).all():
        width = np.ceil((high - low + 1) / _BINS)  # bins that hold equally many integers; others would show false stripes
        return np.arange(np.floor(low), np.ceil(high) + width + 0.5, width) - 0.5, False
    return np.linspace(low, high, _BINS + 1), False


def _map(axes: "Axes", part: _Floats, title: str, most: float, names: Sequence[object], *, labelled: bool) -> Any:
    count = len(part)
    axes.set_facecolor(FAINT)
    image = axes.imshow(np.ma.masked_invalid(part), cmap="RdBu_r", vmin=-most, vmax=most)
    axes.set_title(title, fontsize=10, color=INK)
    axes.set_anchor("N")  # the names below it need the room that the square leaves
    size = 8 if count <= 20 else 6.5
    short = [_short(name, _NAME) for name in names]
    axes.set_xticks(range(count), short, rotation=90, fontsize=size)
    axes.set_yticks(range(count), short if labelled else [""] * count, fontsize=size)
    axes.tick_params(length=0, colors=INK)
    axes.spines[:].set_visible(False)
    if count <= 12:
        for i, j in zip(*np.nonzero(np.isfinite(part)), strict=True):
            if i != j:
                color = "white" if abs(part[i, j]) > 0.6 * most else INK
                axes.text(j, i, f"{part[i, j]:.2f}".replace("0.", "."), ha="center", va="center", fontsize=7, color=color)
    return image


def _scale(canvas: "Figure", image: Any, axes: "Sequence[Axes]", label: str) -> None:
    bar = canvas.colorbar(image, ax=list(axes), shrink=0.8, pad=0.01, aspect=30)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, colors=INK, length=0)
    bar.set_label(label, fontsize=8, color=INK)


def _patterns(samples: np.ndarray, data: np.ndarray) -> tuple[np.ndarray, _Floats]:
    """Return the most frequent patterns with a gap (K, C), and their shares of the data and of the samples (K, 2)."""
    patterns, place = np.unique(np.concatenate([data, samples]), axis=0, return_inverse=True)
    place = place.reshape(-1)
    parts = (place[: len(data)], place[len(data) :])
    shares = np.stack([np.bincount(part, minlength=len(patterns)) / len(part) for part in parts], axis=1)
    some = patterns.any(axis=1)
    patterns, shares = patterns[some], shares[some]
    order = np.argsort(-shares.max(axis=1), kind="stable")[:_MOST_PATTERNS]
    return patterns[order], shares[order]


def _dots(axes: "Axes", patterns: np.ndarray, names: Sequence[str]) -> None:
    lines, columns = np.nonzero(np.ones_like(patterns))
    marked = patterns.ravel()
    axes.scatter(columns, lines, s=26, color=FAINT, linewidths=0)
    axes.scatter(columns[marked], lines[marked], s=26, color=INK, linewidths=0)
    for line in range(len(patterns)):
        inside = np.flatnonzero(patterns[line])
        axes.plot([inside.min(), inside.max()], [line, line], color=INK, linewidth=1.2)
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8)
    axes.set_yticks([])
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(len(patterns) - 0.5, -0.5)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)


def _pattern_bars(axes: "Axes", shares: _Floats) -> None:
    places = np.arange(len(shares))
    axes.barh(places - 0.18, shares[:, 0], 0.36, color=DATA)
    axes.barh(places + 0.18, shares[:, 1], 0.36, color=SAMPLES)
    for place, (of_data, of_samples) in enumerate(shares):
        text = f" {_percent(of_data)} | {_percent(of_samples)}"
        axes.text(max(of_data, of_samples), place, text, va="center", fontsize=7, color=INK)
    axes.set_xlim(0, 1.9 * float(shares.max()))
    axes.set_ylim(len(shares) - 0.5, -0.5)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    axes.set_title("rows with gaps in exactly these columns", fontsize=8, color=INK)


def _key(canvas: "Figure", note: str, titles: Sequence[str] = ("samples", "data")) -> None:
    """Write above all panels what gray and blue are, and a note."""
    from matplotlib.patches import Patch

    patches = [Patch(color=color, label=title) for title, color in zip(titles, _COLORS, strict=False)][::-1]
    patches += [Patch(alpha=0.0, label=note)] if note else []
    canvas.legend(handles=patches, loc="outside upper left", ncols=3, frameon=False, fontsize=8.5, labelcolor=INK)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", va="center", fontsize=9, color=INK)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)


def _percent(share: float, _: object = None) -> str:
    """Return a share as a percentage with two digits, or three from 10 on."""
    percent = 100 * float(share)
    return f"{percent:.2g} %" if percent < 9.95 else f"{percent:.1f}".removesuffix(".0") + " %"


def _percents(shares: Sequence[float]) -> str:
    """Return shares of the samples and of the data as text, those of the data first."""
    return " | ".join(_percent(share) for share in reversed(shares))


def _short(text: object, most: int) -> str:
    """Return a text with its middle left out if it is long: the ends tell names apart."""
    words = str(text)
    head = 2 * most // 3
    return words if len(words) <= most else f"{words[:head]}…{words[len(words) - (most - head - 1) :]}"
