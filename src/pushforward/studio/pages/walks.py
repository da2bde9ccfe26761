"""The tab of walks in the space of codes: between two rows, and along one element of the code."""

from pathlib import Path
from typing import Any

from nicegui import ui

from pushforward.studio import parts
from pushforward.studio.drawing import Abilities, between, traversed
from pushforward.studio.pages.samples import show
from pushforward.studio.shared import Studio

__all__ = ["Walks"]


class Walks:
    """Rows between two rows of the data, and rows whose codes differ in one element."""

    def __init__(self, studio: Studio, folder: Path, abilities: Abilities) -> None:
        self._studio, self._folder, self._able = studio, folder, abilities

    def build(self) -> None:
        """Lay out both walks."""
        with ui.element("div").classes("pf-two"):
            with parts.card("Between two rows of the data"):
                first = ui.number("First row", value=0, min=0, precision=0).props("outlined")
                second = ui.number("Second row", value=1, min=0, precision=0).props("outlined")

                async def walk() -> None:
                    rows = int(first.value or 0), int(second.value or 0)
                    await self._show(place, lambda model: between(self._studio.models, self._folder, model, *rows))

                with ui.element("div").classes("pf-row"):
                    ui.button("Walk", on_click=walk).props("unelevated")
                place = ui.element("div").classes("pf-column")
            with parts.card("Along one element of the code"):
                said = ui.label("Element 0").classes("pf-small pf-soft")
                slider = ui.slider(min=0, max=max(1, self._able.codes - 1), step=1, value=0).props(
                    'label aria-label="Element of the code"'
                )
                other = ui.element("div").classes("pf-column")

                async def traverse() -> None:
                    said.text = f"Element {int(slider.value)}"
                    await self._show(other, lambda model: traversed(model, int(slider.value)))

                slider.on("change", traverse)
        ui.timer(0.05, walk, once=True)
        ui.timer(0.1, traverse, once=True)

    async def _show(self, place: ui.element, work: Any) -> None:
        found = await parts.attempted(self._studio.models.use, self._folder, work)
        if found is not None:
            place.clear()
            with place:
                show(found)
