"""Choose data: built-in ones, uploads, drawn points; and what each holds, in plain words."""

import asyncio
import contextlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from nicegui import events, ui

from pushforward._messages import printable
from pushforward.data import Dataset
from pushforward.data.builtin import BUILTIN
from pushforward.data.columns.column import COLUMN_TYPES
from pushforward.studio import parts
from pushforward.studio.shared import Studio
from pushforward.studio.thumbnails import open_chosen
from pushforward.studio.workspace import Refused

__all__ = ["add_page"]

_WORDS = {
    "digits": "1,797 handwritten digits, 8×8",
    "moons": "two half circles",
    "swissroll": "a spiral",
    "checkerboard": "uniform on the dark squares",
    "rings": "four rings",
    "eight-gaussians": "eight Gaussians in a ring",
    "shapes": "sets of points in space",
    "tones": "short sounds of three notes",
    "markov-text": "a text whose law is known",
}


def add_page(studio: Studio) -> None:
    """Add the pages ``/`` and ``/data``."""

    @ui.page("/")
    def home() -> None:
        with parts.frame("Data", "Data"):
            parts.heading("Choose data")
            parts.note("Begin with data of your own, or with one of the built-in sets. All files stay on this machine.")
            _own(studio)
            parts.heading("Built-in data", 2)
            with ui.element("div").classes("pf-grid"):
                for name in BUILTIN:
                    _choice(name, name, _WORDS.get(name, ""))

    @ui.page("/data")
    async def one(name: str = "") -> None:
        with parts.frame(name[:60] or "Data", "Data"):
            parts.heading(name[:120])
            summary = await parts.waited(_summary, studio, name)
            if summary is None:
                return
            if isinstance(summary, Exception):
                parts.problem(summary)
                if name.startswith("data/") and studio.workspace.choices(name):
                    ui.button("Undo the choices for these data", on_click=lambda: _forget(studio, name)).props("outline")
                ui.link("All data", "/")
                return
            _show(studio, name, summary)


def _own(studio: Studio) -> None:
    with parts.card("Your own data"):
        with ui.element("div").classes("pf-two"):
            with ui.element("div"):
                upload = ui.upload(
                    label="Drop files here, or press +",
                    multiple=True,
                    auto_upload=True,
                    max_file_size=studio.upload_bytes,
                    on_multi_upload=lambda event: _uploaded(studio, event),
                    on_rejected=lambda: ui.notify(
                        f"Files of more than {studio.upload_bytes / 1e6:,.0f} MB are not accepted. Start the studio with a "
                        "larger --upload-limit, or put the file into data/ yourself.",
                        type="negative",
                        multi_line=True,
                        timeout=10_000,
                    ),
                )
                upload.props('aria-label="Upload data"')
            with ui.element("div").classes("pf-small pf-soft"):
                ui.label("A table: .csv or .parquet. An array: .npy or .npz. A text: .txt.")
                ui.label("Sounds, images or point clouds: several files at once, or a .zip whose folders are classes.")
                with ui.element("div").classes("pf-row").style("padding-top:12px"):
                    ui.button("Draw points", icon="draw", on_click=lambda: ui.navigate.to("/sketch")).props("outline")
        names = studio.workspace.sources()
        if names:
            with ui.element("div").classes("pf-grid"):
                for name in names:
                    _choice(name, name.removeprefix("data/"), "")


def _choice(source: str, title: str, words: str) -> None:
    target = f"/data?name={quote(source)}"
    with ui.link(target=target).classes("pf-choice"):
        ui.element("img").props(f'loading="lazy" alt="" src="/file/thumbnail/{quote(source)}"').classes("pf-thumb")
        with ui.element("strong"):
            ui.label(title)
        if words:
            ui.label(words).classes("pf-soft pf-small")


async def _uploaded(studio: Studio, event: events.MultiUploadEventArguments) -> None:
    with contextlib.ExitStack() as stack:
        files = []
        for file in event.files:
            content = stack.enter_context(parts.opened(await file.read()))
            files.append((file.name, content))
        path = await parts.attempted(studio.workspace.keep, files)
    if isinstance(event.sender, ui.upload):
        event.sender.reset()
    if path is None:
        return
    name = f"data/{path.name}"
    try:
        await asyncio.to_thread(_summary, studio, name)
    except (ValueError, TypeError, OSError, ImportError) as error:
        await asyncio.to_thread(studio.workspace.drop, path)
        ui.notify(printable(error), type="negative", multi_line=True, timeout=15_000, close_button="Close")
        return
    ui.navigate.to(f"/data?name={quote(name)}")


@dataclass(frozen=True)
class Summary:
    """What data hold: lines of words, lines of columns (name, type, words), and columns that can be conditions."""

    dataset: Dataset
    lines: list[str]
    warnings: list[str]
    columns: Sequence[tuple[str, str, str]]
    left_out: list[tuple[str, str]]


def _summary(studio: Studio, source: str) -> Summary:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        dataset = open_chosen(studio.workspace, source)
    schema = dataset.schema
    if schema.table is None:
        lines = [
            f"{len(dataset):,} "
            + (
                f"rows: {schema.text.describe()}."
                if schema.text is not None
                else f"{schema.rules.describe(schema.internal_shape)}."
            )
        ]
        lines += [
            line[0].upper() + line[1:] + "."
            for line in ([] if schema.signal is None else schema.signal.describe(schema.internal_shape[1]))
        ]
    else:
        gaps = sum(schema.table.gaps)
        lines = [f"{len(dataset):,} rows with {len(schema.table.columns)} columns, {gaps or 'none'} of them with gaps."]
    lines.append(_condition_words(dataset))
    columns = [(str(c.name), c.type, c.describe()) for c in (() if schema.table is None else schema.table.columns)]
    if schema.table is None and schema.columns is not None:
        columns = [(str(name), "number", "number") for name in schema.columns]
    left = [] if schema.table is None else [(str(out.name), out.reason) for out in schema.table.left_out]
    return Summary(dataset, lines, [str(one.message) for one in caught], columns, left)


def _condition_words(dataset: Dataset) -> str:
    if dataset.condition is None:
        return "These data have no labels, so samples cannot be asked for by class."
    if dataset.condition.ndim == 1 and dataset.condition.dtype.kind not in "fc":
        classes = sorted({str(label) for label in dataset.condition if label is not None})
        shown = ", ".join(classes[:10]) + (f" and {len(classes) - 10} more" if len(classes) > 10 else "")
        return f"{len(classes)} classes, which samples can be asked for: {shown}."
    named = ", ".join(dataset.condition_columns or ()) or "numbers"
    return f"Samples can be asked for by {named}."


def _show(studio: Studio, source: str, summary: Summary) -> None:
    table = summary.dataset.schema.table is not None  # whose picture has a part for each column, so it is wide
    with ui.element("div").classes("pf-stack" if table else "pf-side"):
        for lay_out in (_hold, _look) if table else (_look, _hold):
            lay_out(studio, source, summary)
    if source.startswith("data/") and (summary.columns or studio.workspace.choices(source)):
        _columns(studio, source, summary)


def _look(studio: Studio, source: str, summary: Summary) -> None:
    schema, stamp = summary.dataset.schema, abs(hash(str(studio.workspace.choices(source))))
    wide = schema.table is not None or schema.text is not None
    with parts.card("What they look like"):
        parts.picture("Rows of the data", f"/file/picture/{quote(source)}?{stamp}", wide=wide)


def _hold(studio: Studio, source: str, summary: Summary) -> None:
    with parts.card("What they hold"):
        for line in summary.lines:
            ui.label(line)
        for warning in summary.warnings:
            ui.label(printable(warning)).classes("pf-small pf-soft")
        for name, reason in summary.left_out:
            ui.label(f"{printable(name)} is left out, because it {reason}.").classes("pf-small pf-soft")
        with ui.element("div").classes("pf-row"):
            ui.button("Train on these data", on_click=lambda: ui.navigate.to(f"/train?data={quote(source)}")).props(
                "unelevated"
            )
            if source.startswith("data/"):
                ui.button("Delete", on_click=lambda: _ask_to_drop(studio, source)).props("flat color=negative")


def _columns(studio: Studio, source: str, summary: Summary) -> None:
    chosen = studio.workspace.choices(source)
    types: dict[str, str] = dict(chosen.get("columns") or {})
    with parts.card("Columns"):
        parts.note(
            "The types were found in the data. Change one that is wrong, such as a code that looks like a number.", "pf-small"
        )
        with ui.element("div").style(
            "display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,320px),1fr));gap:14px"
        ):
            for name, found, words in summary.columns[:80]:
                with ui.element("div"):
                    select = ui.select(list(COLUMN_TYPES), value=found, label=name[:60]).props("outlined dense options-dense")
                    select.on_value_change(lambda event, name=name: types.__setitem__(name, event.value))
                    ui.label(words[:160]).classes("pf-small pf-soft").style("padding-top:4px;overflow-wrap:anywhere")
        names = [name for name, _, _ in summary.columns if "," not in name]
        used = chosen.get("condition") or []
        used = [used] if isinstance(used, str) else list(used)
        given = [name for name in used if name != "none"]
        condition = ui.select(sorted({*names, *given}), multiple=True, value=given, label="Ask samples by (optional)").props(
            "outlined use-chips"
        )

        def apply() -> None:
            kept: dict[str, Any] = {}
            found = {name: column_type for name, column_type, _ in summary.columns}
            kept_before = chosen.get("columns") or {}
            changed = {name: new for name, new in types.items() if new != found.get(name) or name in kept_before}
            if changed:
                kept["columns"] = changed
            if condition.value:
                kept["condition"] = list(condition.value) if len(condition.value) > 1 else condition.value[0]
            studio.workspace.choose(source, kept)
            ui.navigate.to(f"/data?name={quote(source)}")

        with ui.element("div").classes("pf-row"):
            ui.button("Apply", on_click=apply).props("outline")
            if chosen:
                ui.button("Undo the choices", on_click=lambda: _forget(studio, source)).props("flat")


def _forget(studio: Studio, source: str) -> None:
    studio.workspace.choose(source, {})
    ui.navigate.to(f"/data?name={quote(source)}")


def _ask_to_drop(studio: Studio, source: str) -> None:
    with ui.dialog() as dialog, ui.card():
        ui.label(f"Delete {source}? Runs that were trained on it stay, but cannot be evaluated without it.")
        with ui.row():
            ui.button("Keep it", on_click=dialog.close).props("flat")
            ui.button("Delete", on_click=lambda: _drop(studio, source)).props("unelevated color=negative")
    dialog.open()


def _drop(studio: Studio, source: str) -> None:
    try:
        path = studio.workspace.source(source)
    except Refused as error:
        ui.notify(str(error), type="negative")
        return
    if not isinstance(path, str):
        studio.workspace.drop(path)
    ui.navigate.to("/")
