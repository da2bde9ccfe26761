"""The tab of rows given a part: an image with a brush, a table with gaps, a text with blanks."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
from nicegui import events, ui

from pushforward.studio import parts
from pushforward.studio.drawing import Abilities, file_bytes, fill_image, fill_text, image_of, some_rows
from pushforward.studio.pages.samples import show
from pushforward.studio.shared import Studio

__all__ = ["Given"]


class Given:
    """Fills what is missing of a row, several times."""

    def __init__(self, studio: Studio, folder: Path, abilities: Abilities) -> None:
        self._studio, self._folder, self._able = studio, folder, abilities
        self._row, self._mask, self._seed = 0, [0], 1
        self._filled: Any = None

    def build(self) -> None:
        """Lay out what is given on one side, and the fillings on the other."""
        if self._able.part == "image":
            self._image()
        else:
            self._text()

    def _image(self) -> None:
        height, width = self._able.size
        self._mask = [0] * (height * width)
        with ui.element("div").classes("pf-two"):
            with parts.card("Paint what is to be drawn anew"):
                brush = parts.Brush("Image; arrow keys move, the space bar paints")
                brush.on("painted", self._painted)
                with ui.element("div").classes("pf-row"):
                    size = (
                        ui.slider(min=1, max=max(2, width // 2), step=1, value=2)
                        .props('label aria-label="Size of the brush"')
                        .style("flex:1;min-width:120px")
                    )
                    size.on_value_change(lambda event: brush.use(size=int(event.value)))
                    ui.switch("Erase", on_change=lambda event: brush.use(erase=bool(event.value)))
                with ui.element("div").classes("pf-row"):
                    ui.button("Lower half", on_click=lambda: self._cover(brush)).props("flat")
                    ui.button("Clear", on_click=lambda: self._clear(brush)).props("flat")
                    ui.button("Another image", on_click=lambda: self._next(brush)).props("flat")
                with ui.element("div").classes("pf-row"):
                    self._button = ui.button("Fill", on_click=self._fill_image).props("unelevated")
            with parts.card("Eight fillings"):
                self._place = ui.element("div")
                with self._place:
                    parts.note("Paint a part of the image, and press Fill. Known pixels stay as they are.")
        ui.timer(0.05, lambda: self._load(brush), once=True)

    async def _load(self, brush: parts.Brush) -> None:
        found = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: image_of(self._studio.models, self._folder, model, self._row)
        )
        if found is not None:
            brush.show(found, *self._able.size, self._mask)

    def _painted(self, event: events.GenericEventArguments) -> None:
        flat = event.args if isinstance(event.args, list) else []
        if len(flat) == len(self._mask):
            self._mask = [1 if value else 0 for value in flat]

    async def _cover(self, brush: parts.Brush) -> None:
        height, width = self._able.size
        self._mask = [int(row >= height // 2) for row in range(height) for _ in range(width)]
        await self._load(brush)

    async def _clear(self, brush: parts.Brush) -> None:
        self._mask = [0] * len(self._mask)
        await self._load(brush)

    async def _next(self, brush: parts.Brush) -> None:
        self._row += 1
        await self._load(brush)

    async def _fill_image(self) -> None:
        if not any(self._mask):
            ui.notify("Paint a part of the image first.", type="warning")
            return
        self._button.props("loading")
        covered = np.array(self._mask, dtype=bool).reshape(self._able.size)
        found = await parts.attempted(
            self._studio.models.use,
            self._folder,
            lambda model: fill_image(self._studio.models, self._folder, model, self._row, covered, self._seed),
        )
        self._button.props(remove="loading")
        self._seed += 1
        if found is not None:
            self._place.clear()
            with self._place:
                ui.element("img").classes("pf-picture").props(f'alt="Fillings" src="{found}"')

    def _text(self) -> None:
        table = self._able.part == "table"
        with ui.element("div").classes("pf-two"):
            with parts.card("Rows with gaps" if table else "A text with blanks"):
                parts.note(
                    "Leave a cell empty where it is to be filled."
                    if table
                    else "Write _ for each character that is to be filled.",
                    "pf-small",
                )
                self._area = ui.textarea("Comma-separated rows" if table else "Text").props(
                    'outlined rows=9 input-class="pf-text"'
                )
                with ui.element("div").classes("pf-row"):
                    self._button = ui.button("Fill", on_click=self._fill_text).props("unelevated")
                    if table:
                        ui.button("Download", icon="download", on_click=self._download).props("outline")
            with parts.card("Filled"):
                self._place = ui.element("div").style("min-width:0;display:flex;flex-direction:column;gap:12px")
                with self._place:
                    parts.note("Known values stay as they are; each filling is a draw given them.")
        ui.timer(0.05, self._load_rows, once=True)

    async def _load_rows(self) -> None:
        text = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: some_rows(self._studio.models, self._folder, model)
        )
        self._area.value = text or ""

    async def _fill_text(self) -> None:
        self._button.props("loading")
        found = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: fill_text(model, self._area.value or "", self._seed)
        )
        self._button.props(remove="loading")
        self._seed += 1
        if found is not None:
            self._filled = found.values
            self._place.clear()
            with self._place:
                show(found)

    async def _download(self) -> None:
        if self._filled is None:
            await asyncio.sleep(0)
            ui.notify("Fill the gaps first.", type="warning")
            return
        content = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: file_bytes(model, self._filled, "csv")
        )
        if content is not None:
            ui.download.content(content, f"{self._folder.name}-filled.csv")
