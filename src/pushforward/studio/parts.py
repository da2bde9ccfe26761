"""Parts of all pages: the frame with its navigation, cards, messages, and the two components with a canvas."""

import asyncio
import contextlib
import html
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy as np
from nicegui import ui
from nicegui.element import Element
from numpy.typing import NDArray

from pushforward._messages import printable

__all__ = [
    "Brush",
    "Plane",
    "attempted",
    "card",
    "code",
    "column",
    "delivered",
    "empty",
    "frame",
    "heading",
    "key",
    "note",
    "opened",
    "picture",
    "pills",
    "problem",
    "report",
    "scene_of",
    "table",
    "waited",
]

PAGES = {"Data": "/", "Train": "/train", "Watch": "/watch", "Draw": "/draw", "Judge": "/judge", "Learn": "/learn"}
_THEMES = {"auto": ("brightness_auto", None), "light": ("light_mode", False), "dark": ("dark_mode", True)}

_MENDABLE = (ValueError, TypeError, OSError, ImportError, MemoryError)

P = ParamSpec("P")
T = TypeVar("T")


class Plane(Element, component="static/plane.js"):
    """A picture of points in the plane, with paths over time; the methods of :func:`scene_of` say what is in it."""

    def __init__(self, label: str, *, pen: bool = False) -> None:
        super().__init__()
        self._props["label"], self._props["pen"] = label, pen

    def show(self, scene: dict[str, Any]) -> None:
        """Show a scene in place of the last."""
        self._props["scene"] = scene
        self.update()


class Brush(Element, component="static/brush.js"):
    """An image with a mask that is painted on it; the event ``painted`` brings the mask, row by row."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self._props["label"], self._props["size"], self._props["erase"] = label, 2, False

    def show(self, image: str, height: int, width: int, mask: list[int]) -> None:
        """Show an image of this many pixels, as a data URI, and the mask on it."""
        self._props["image"], self._props["height"], self._props["width"] = image, height, width
        self._props["mask"] = mask
        self.update()

    def use(self, *, size: int | None = None, erase: bool | None = None) -> None:
        """Set the side of the brush in pixels, and whether it takes away."""
        if size is not None:
            self._props["size"] = size
        if erase is not None:
            self._props["erase"] = erase
        self.update()


def scene_of(square: Any, **layers: Any) -> dict[str, Any]:
    """Return a scene for :class:`Plane`: flat lists of few digits from arrays, of which None are left out.

    ``data`` and ``samples`` are points (N, 2), ``groups`` numbers (N,), ``heat``, ``contours`` and ``exact_contours`` values
    (side, side), ``field`` and ``exact`` pairs of points and vectors (N, 2), ``paths`` times (S,) and states (S, N, 2).
    """
    scene: dict[str, Any] = {"square": [*square.x, *square.y]}
    highest = float(np.max(layers.get("exact_contours", layers.get("contours", 1.0)))) or 1.0
    for name, value in layers.items():
        if value is None:
            continue
        if name in ("data", "samples"):
            scene[name] = _flat(value)
        elif name == "groups":
            scene[name] = [int(group) for group in value]
        elif name == "heat":
            scene[name] = {"side": len(value), "values": _shares(value)}
        elif name in ("contours", "exact_contours"):
            thousandths = np.clip(1000 * np.asarray(value) / highest, 0, 9999)
            scene[name] = {"side": len(value), "values": [round(float(each)) for each in thousandths.ravel()]}
        elif name in ("field", "exact"):
            points, vectors = value
            longest = float(np.quantile(np.hypot(*vectors.T), 0.95)) or 1.0
            scene[name] = {"side": round(len(points) ** 0.5), "points": _flat(points), "vectors": _flat(vectors / longest)}
        else:
            times, states = value
            scene[name] = {
                "times": [round(float(t), 4) for t in times],
                "states": [_flat(state) for state in states],
                "trails": 60,
            }
    return scene


def _flat(points: NDArray[Any]) -> list[float]:
    return [round(float(value), 3) if np.isfinite(value) else 0.0 for value in np.asarray(points, dtype=float).ravel()]


def _shares(values: NDArray[Any]) -> list[int]:
    """Return values as whole hundredths of the largest one, negative ones of the most negative."""
    high, low = float(np.quantile(values, 0.995)), float(np.quantile(values, 0.005))
    scale = max(abs(high), abs(low) if low < 0 else 0.0) or 1.0
    return [round(float(share)) for share in np.clip(100 * values.ravel() / scale, -100, 100)]


@contextlib.contextmanager
def frame(title: str, here: str) -> Iterator[None]:
    """Lay out a page: navigation above, the content of the context below."""
    ui.page_title(f"{title} · pushforward studio")
    theme = _theme()
    dark = ui.dark_mode(_THEMES[theme][1])
    ui.colors(primary="#2563eb")
    with ui.header().classes("pf-top"):
        with ui.link(target="/").classes("pf-brand"):
            ui.label("pushforward").style("display:inline")
            ui.html("<span> studio</span>", sanitize=False).style("display:inline")
        with ui.element("nav").classes("pf-nav").props('aria-label="Pages"'):
            for name, target in PAGES.items():
                link = ui.link(name, target)
                if name == here:
                    link.classes("pf-here").props('aria-current="page"')
        button = ui.button(icon=_THEMES[theme][0]).props(f'flat round dense color=grey-7 aria-label="Theme: {theme}"')
        state = {"theme": theme}

        def turn() -> None:
            names = list(_THEMES)
            state["theme"] = chosen = names[(names.index(state["theme"]) + 1) % len(names)]
            dark.value = _THEMES[chosen][1]
            button.props(f'icon={_THEMES[chosen][0]} aria-label="Theme: {chosen}"')
            ui.run_javascript(f"document.cookie='pf-theme={chosen};path=/;max-age=31536000;samesite=strict'")

        button.on_click(turn)
    with ui.element("div").classes("pf-page"):
        yield


def _theme() -> str:
    request = ui.context.client.request
    theme = request.cookies.get("pf-theme", "auto") if request is not None else "auto"
    return theme if theme in _THEMES else "auto"


def heading(text: str, level: int = 1) -> Element:
    """Add a heading, whose text may come from strangers."""
    element = ui.element(f"h{level}")
    with element:
        ui.label(text).style("display:inline")
    return element


def note(text: str, classes: str = "") -> ui.label:
    """Add a paragraph in a soft color."""
    return ui.label(text).classes(f"pf-soft pf-lead {classes}")


@contextlib.contextmanager
def card(title: str = "", classes: str = "") -> Iterator[Element]:
    """Add a card with a heading."""
    with ui.element("section").classes(f"pf-card {classes}") as element:
        if title:
            heading(title, 2)
        yield element


def empty(text: str, link: str, target: str) -> None:
    """Add what stands where there is nothing yet: what to do first."""
    with card(classes="pf-empty"):
        ui.label(text)
        ui.button(link, on_click=lambda: ui.navigate.to(target)).props("unelevated")


def problem(text: object) -> ui.label:
    """Add a message about what went wrong; its text is shown as it is."""
    return ui.label(printable(text)).classes("pf-problem").props('role="alert"')


def code(text: str) -> ui.label:
    """Add text to copy, with a button that copies it."""
    with ui.element("div").style("position:relative;width:100%"):
        shown = ui.label(text).classes("pf-code").style("padding-right:44px").props('tabindex="0"')

        def copy() -> None:
            ui.clipboard.write(shown.text)
            ui.notify("Copied")

        button = ui.button(icon="content_copy", on_click=copy)
        button.props('flat dense round size=sm color=grey-7 aria-label="Copy"').style("position:absolute;top:6px;right:6px")
    return shown


def pills(words: Sequence[str]) -> None:
    """Add short words in a row."""
    with ui.element("div").classes("pf-pills"):
        for word in words:
            ui.label(word).classes("pf-pill")


def column(key: str, label: str, *, number: bool = False) -> dict[str, Any]:
    """Return a column of a table, by which it can be sorted."""
    return {"name": key, "label": label, "field": key, "sortable": True, "align": "right" if number else "left"}


def table(columns: list[dict[str, Any]], rows: list[dict[str, Any]], row_key: str, most: int = 25) -> ui.table:
    """Add a table that can be sorted; its cells are shown as they are."""
    shown = ui.table(columns=columns, rows=rows, row_key=row_key, pagination=most).props("flat dense").classes("pf-table")
    if len(rows) <= most:
        shown.props("hide-bottom")
    return shown


def picture(alt: str, source: str, *, wide: bool = False) -> Element:
    """Add a picture. A wide one keeps its letters large enough to read in a small window, where it can be scrolled."""
    place = ui.element("div").classes("pf-wide" if wide else "")
    if wide:
        place.props(f'tabindex="0" role="group" aria-label="{html.escape(alt, quote=True)}"')
    with place:
        return ui.element("img").classes("pf-picture").props(f'alt="{html.escape(alt, quote=True)}" src="{source}"')


def report(address: str, name: str, file: Path) -> None:
    """Add a report of a run or a comparison, which may not run scripts, and a link to it alone."""
    frame = ui.element("iframe").classes("pf-frame")
    title = html.escape(f"Report of {name}", quote=True)
    frame.props(f'sandbox="" title="{title}" src="{address}?{file.stat().st_mtime_ns}"')
    ui.link("Open the report alone", address, new_tab=True).classes("pf-small")


def key(**colors: str) -> None:
    """Add the key of a picture: words with the names of their colors."""
    with ui.element("div").classes("pf-key"):
        for word, name in colors.items():
            with ui.element("span"):
                ui.html(f'<i style="background:var(--pf-{html.escape(name)})"></i>', sanitize=False).style("display:inline")
                ui.label(word.replace("_", " ")).style("display:inline")


async def delivered() -> None:
    """Deliver the page as it is by now; what takes longer follows once the browser is connected."""
    await ui.context.client.connected(timeout=60.0)


def opened(content: bytes) -> io.BytesIO:
    """Return the content of an upload as a file."""
    return io.BytesIO(content)


async def waited(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception | None:
    """Deliver the page, and show that it waits while a thread works.

    Returns the result, or an error that the user can fix, or None if the page has been left meanwhile.
    """
    waiting = ui.spinner(size="lg")
    found: T | Exception
    try:
        await delivered()
        found = await asyncio.to_thread(function, *args, **kwargs)
    except _MENDABLE as error:
        found = error
    if waiting.is_deleted or ui.context.client.is_deleted:
        return None
    waiting.delete()
    return found


async def attempted(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
    """Run work in a thread; an error that the user can fix is shown as a message, and None returned."""
    try:
        return await asyncio.to_thread(function, *args, **kwargs)
    except _MENDABLE as error:
        ui.notify(printable(error), type="negative", multi_line=True, timeout=12_000, close_button="Close")
        return None
