"""Texts as a plot: one below the other, in letters of one width."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pushforward.plots.style import ACCENT, FAINT, INK, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["text_panel"]

_SIZE = 9.0  # points
# Inches. A letter takes 0.602 of its size, rounded to whole pixels.
_LETTER, _LINE, _MARGIN = 0.67 * _SIZE / 72, 1.35 * _SIZE / 72, 0.15
_WIDE, _MOST_LINES = 88, 60


def text_panel(texts: Sequence[str], *, labels: Sequence[Any] | None = None, width: int = _WIDE) -> "Figure":
    """Return texts one below the other, with lines between them, each after its label if there are labels.

    Lines break after ``width`` letters; what is more than a page is left out.
    """
    shown: list[tuple[str, list[str]]] = []
    count = 0
    for index, text in enumerate(texts):
        lines = _lines(text, width)
        if shown and count + len(lines) > _MOST_LINES:
            break
        shown.append(("" if labels is None else str(labels[index]), lines[:_MOST_LINES]))
        count += len(lines)
    head = max((len(label) for label, _ in shown), default=0)
    columns = width + (head + 2 if head else 0)
    lines_in_all = sum(len(lines) for _, lines in shown) + 0.7 * max(len(shown), 1)
    wide, high = columns * _LETTER + 2 * _MARGIN, max(lines_in_all, 1.0) * _LINE + 2 * _MARGIN
    canvas = figure(wide, high)
    canvas.set_layout_engine("none")
    axes = canvas.add_axes((_MARGIN / wide, _MARGIN / high, 1 - 2 * _MARGIN / wide, 1 - 2 * _MARGIN / high))
    axes.set_axis_off()
    axes.set_xlim(0, columns)
    axes.set_ylim(lines_in_all, 0)
    style: dict[str, Any] = {"family": "monospace", "fontsize": _SIZE, "va": "top", "parse_math": False}
    at = 0.0
    for label, lines in shown:
        axes.axhline(at, color=FAINT, linewidth=0.6)
        if label:
            axes.text(0, at + 0.3, label, color=ACCENT, **style)
        for line in lines:
            axes.text(columns - width, at + 0.3, line, color=INK, **style)
            at += 1
        at += 0.7
    return canvas


def _lines(text: str, width: int) -> list[str]:
    """Return the lines of a text, cut after ``width`` letters, with what has no shape as a dot."""
    lines = [line[start : start + width] for line in text.split("\n") for start in range(0, max(len(line), 1), width)]
    return ["".join(letter if letter.isprintable() else "·" for letter in line) for line in lines]
