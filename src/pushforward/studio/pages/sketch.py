"""Draw points with the mouse, or type their coordinates, as your own data."""

import io
from urllib.parse import quote

import numpy as np
from nicegui import events, ui

from pushforward.models.plane import Square
from pushforward.studio import parts
from pushforward.studio.shared import Studio
from pushforward.studio.workspace import Refused, safe_name

__all__ = ["add_page", "read_points"]

_MOST, _LEAST = 50_000, 20
_SQUARE = Square((-3.0, 3.0), (-3.0, 3.0))
_Point = tuple[float, float, int]


def read_points(text: str) -> list[_Point]:
    r"""Return the points (x, y, class) of lines such as ``1.5, 2`` or ``1.5 2 1``; Refused names the first bad line.

    >>> read_points("0 1\n-0.5, 2; 3")
    [(0.0, 1.0, 0), (-0.5, 2.0, 3)]
    """
    points = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.replace(",", " ").replace(";", " ").split()
        if not words:
            continue
        try:
            x, y = float(words[0]), float(words[1])
            label = int(words[2]) if len(words) > 2 else 0
        except (ValueError, IndexError):
            raise Refused(
                f"Line {number} is “{line[:40]}”. Write two numbers, and a whole number as class if you like: 0.5, 1.2, 0"
            ) from None
        if not (abs(x) <= 3 and abs(y) <= 3 and 0 <= label <= 7):
            raise Refused(f"Line {number} lies outside the field: coordinates go from −3 to 3, classes from 0 to 7.")
        points.append((x, y, label))
    return points


def add_page(studio: Studio) -> None:
    """Add the page ``/sketch``."""

    @ui.page("/sketch")
    def sketch() -> None:
        with parts.frame("Draw points", "Data"):
            parts.heading("Draw points")
            parts.note("Draw with the mouse or a finger. Samples can be asked for by class.")
            _Sketch(studio).build()


class _Sketch:
    """A field to draw points on, and the points so far: x, y, class."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._points = studio, list[_Point]()

    def build(self) -> None:
        """Lay out the field and the controls beside it."""
        with ui.element("div").classes("pf-side"):
            with parts.card():
                self._plane = parts.Plane("Field to draw points on, from −3 to 3", pen=True)
                self._plane.on("drawn", self._drawn)
                self._count = ui.label().classes("pf-soft pf-small").props('aria-live="polite"')
            with parts.card("Points"):
                self._class = ui.toggle({0: "Class 0", 1: "Class 1", 2: "Class 2"}, value=0).props(
                    "no-caps unelevated toggle-color=primary"
                )
                self._typed = ui.textarea("Or type coordinates, a point in a line", placeholder="0.5, 1.2\n-1, 0.3").props(
                    "outlined rows=4"
                )
                with ui.element("div").classes("pf-row"):
                    ui.button("Add the typed points", on_click=self._take).props("outline")
                    ui.button("Take back 20", on_click=lambda: self._keep(len(self._points) - 20)).props("flat")
                    ui.button("Clear", on_click=lambda: self._keep(0)).props("flat")
                self._name = ui.input("Name", value="points").props("outlined")
                ui.button("Keep as data", on_click=self._save).props("unelevated")
        self._show()

    def _show(self) -> None:
        points = np.array([(x, y) for x, y, _ in self._points], dtype=float).reshape(-1, 2)
        self._plane.show(parts.scene_of(_SQUARE, data=points, groups=np.array([g for _, _, g in self._points], dtype=int)))
        count = len(self._points)
        self._count.text = f"{count:,} points" + ("" if count >= _LEAST else f"; at least {_LEAST} are needed")

    def _add(self, more: list[_Point]) -> None:
        self._points.extend(more[: max(0, _MOST - len(self._points))])
        self._show()

    def _keep(self, count: int) -> None:
        del self._points[max(0, count) :]
        self._show()

    def _drawn(self, event: events.GenericEventArguments) -> None:
        flat = [float(value) for value in event.args][: 2 * _MOST] if isinstance(event.args, list) else []
        group, most = int(self._class.value or 0), 1.07 * _SQUARE.x[1]
        pairs = zip(flat[::2], flat[1::2], strict=False)
        self._add([(x, y, group) for x, y in pairs if abs(x) <= most and abs(y) <= most])

    def _take(self) -> None:
        try:
            self._add(read_points(self._typed.value or ""))
            self._typed.value = ""
        except Refused as error:
            ui.notify(str(error), type="negative", multi_line=True)

    async def _save(self) -> None:
        if len(self._points) < _LEAST:
            ui.notify(f"{len(self._points)} points are too few to learn a law from: draw at least {_LEAST}.", type="negative")
            return
        name = f"{safe_name(self._name.value or 'points')}.csv"
        path = await parts.attempted(self._studio.workspace.keep, [(name, io.BytesIO(_csv(self._points)))])
        if path is not None:
            source = f"data/{path.name}"
            if len({group for _, _, group in self._points}) > 1:
                self._studio.workspace.choose(source, {"condition": "class"})
            ui.navigate.to(f"/data?name={quote(source)}")


def _csv(points: list[_Point]) -> bytes:
    labelled = len({group for _, _, group in points}) > 1
    lines = ["x,y,class" if labelled else "x,y"]
    lines += [f"{x:.4f},{y:.4f}" + (f",{'abcdefgh'[group]}" if labelled else "") for x, y, group in points]
    return ("\n".join(lines) + "\n").encode()
