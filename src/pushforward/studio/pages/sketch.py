"""Draw points with the mouse, or type their coordinates, as data of one's own."""

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


def read_points(text: str) -> list[tuple[float, float, int]]:
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
            raise Refused(f"Line {number} lies outside of the picture: coordinates go from −3 to 3, classes from 0 to 7.")
        points.append((x, y, label))
    return points


def add_page(studio: Studio) -> None:
    """Add the page ``/sketch``."""

    @ui.page("/sketch")
    def sketch() -> None:
        points: list[tuple[float, float, int]] = []
        with parts.frame("Draw points", "Data"):
            parts.heading("Draw points")
            parts.note("Draw with the mouse or a finger. Samples can be asked for by class.")
            with ui.element("div").classes("pf-side"):
                with parts.card():
                    plane = parts.Plane("Field to draw points on, from −3 to 3", pen=True)
                    count = ui.label().classes("pf-soft pf-small").props('aria-live="polite"')
                with parts.card("Points"):
                    label = ui.toggle({0: "Class 0", 1: "Class 1", 2: "Class 2"}, value=0).props(
                        "no-caps unelevated toggle-color=primary"
                    )
                    typed = ui.textarea("Or type coordinates, a point in a line", placeholder="0.5, 1.2\n-1, 0.3").props(
                        "outlined rows=4"
                    )

                    def show() -> None:
                        array = np.array([(x, y) for x, y, _ in points], dtype=float).reshape(-1, 2)
                        plane.show(parts.scene_of(_SQUARE, data=array, groups=np.array([g for _, _, g in points], dtype=int)))
                        count.text = f"{len(points):,} points" + (
                            "" if len(points) >= _LEAST else f"; at least {_LEAST} are needed"
                        )

                    def add(more: list[tuple[float, float, int]]) -> None:
                        points.extend(more[: max(0, _MOST - len(points))])
                        show()

                    def drawn(event: events.GenericEventArguments) -> None:
                        flat = [float(value) for value in event.args][: 2 * _MOST] if isinstance(event.args, list) else []
                        add(
                            [
                                (x, y, int(label.value or 0))
                                for x, y in zip(flat[::2], flat[1::2], strict=False)
                                if abs(x) <= 3.2 and abs(y) <= 3.2
                            ]
                        )

                    def take() -> None:
                        try:
                            add(read_points(typed.value or ""))
                            typed.value = ""
                        except Refused as error:
                            ui.notify(str(error), type="negative", multi_line=True)

                    def clear() -> None:
                        points.clear()
                        show()

                    def undo() -> None:
                        del points[-20:]
                        show()

                    plane.on("drawn", drawn)
                    with ui.element("div").classes("pf-row"):
                        ui.button("Add the typed points", on_click=take).props("outline")
                        ui.button("Take back 20", on_click=undo).props("flat")
                        ui.button("Clear", on_click=clear).props("flat")
                    name = ui.input("Name", value="points").props("outlined")

                    async def save() -> None:
                        if len(points) < _LEAST:
                            ui.notify(
                                f"{len(points)} points are too few to learn a law from: draw at least {_LEAST}.",
                                type="negative",
                            )
                            return
                        content = _csv(points)
                        path = await parts.attempted(
                            studio.workspace.keep, [(f"{safe_name(name.value or 'points')}.csv", io.BytesIO(content))]
                        )
                        if path is not None:
                            source = f"data/{path.name}"
                            if len({group for _, _, group in points}) > 1:
                                studio.workspace.choose(source, {"condition": "class"})
                            ui.navigate.to(f"/data?name={quote(source)}")

                    ui.button("Keep as data", on_click=save).props("unelevated")
            show()


def _csv(points: list[tuple[float, float, int]]) -> bytes:
    labelled = len({group for _, _, group in points}) > 1
    lines = ["x,y,class" if labelled else "x,y"]
    lines += [f"{x:.4f},{y:.4f}" + (f",{'abcdefgh'[group]}" if labelled else "") for x, y, group in points]
    return ("\n".join(lines) + "\n").encode()
