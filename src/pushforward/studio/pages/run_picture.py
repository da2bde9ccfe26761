"""The samples of a run on the page Watch: with the current weights while it trains, else what it has drawn itself."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import events, ui

from pushforward.data import Dataset
from pushforward.models import plane
from pushforward.models.live import LiveModel
from pushforward.studio import parts, views
from pushforward.studio.pages.samples import show
from pushforward.studio.runs import RunFacts, step_pictures, width_of
from pushforward.studio.shared import Studio

__all__ = ["RunPicture"]

_FAULTS = (ValueError, TypeError, OSError, KeyError, RuntimeError, ImportError)
_SHARE = 8  # between two drawings of rows pass as many times the seconds of one, for the sake of the training
_LEAST_SECONDS = 0.7
_WIDE_PIXELS = 900


class RunPicture:
    """The samples of one run, and of a model with an encoder the map of its codes."""

    def __init__(self, studio: Studio, folder: Path) -> None:
        self._studio, self._folder, self._time = studio, folder, 0.5
        self._pictures: tuple[int, ...] = ()
        self.forget()

    def build(self) -> None:
        """Lay out the place of the picture."""
        self._place = ui.element("div").classes("pf-column")
        with self._place:
            ui.spinner(size="md")

    def build_codes(self) -> None:
        """Lay out the place of the map of codes, which only models with an encoder have."""
        with parts.card("Codes of some rows") as self._codes:
            self._map = parts.Plane("Codes along the two directions in which they vary most")
            self._classes = ui.element("div")
            parts.note("Along the two directions in which they vary most, by class.", "pf-small")
        self._codes.set_visibility(False)

    def forget(self) -> None:
        """Read the run again: it has ended, or was resumed."""
        self._view: views.View | None = None
        self._live: LiveModel | None = None
        self._texts: views.TextView | None = None
        self._coded: Dataset | None = None
        self._tried, self._asked, self._due = False, True, 0.0

    async def follow(self, facts: RunFacts, state: str) -> None:
        """Show the newest samples, if there are newer ones."""
        if not self._tried:
            self._tried = True
            await asyncio.to_thread(self._open, facts, state)
            self._lay_out(facts, state)
        if self._view is None and self._live is None:
            self._show_pictures(facts, state)
            return
        live = self._live
        fresh = live is not None and await asyncio.to_thread(live.refresh)
        self._asked |= fresh
        if not self._asked or time.monotonic() < self._due or (live is not None and live.step == 0):
            return
        self._asked = False
        with contextlib.suppress(*_FAULTS):
            began = time.monotonic()
            await (self._update_rows() if self._view is None else self._update_plane(self._view))
            if self._view is None:
                took = time.monotonic() - began
                self._due = time.monotonic() + max(_LEAST_SECONDS, _SHARE * took)

    def _open(self, facts: RunFacts, state: str) -> None:
        """Open the model with its current weights, or the finished one if its rows lie in the plane."""
        workspace = self._studio.workspace
        try:
            if facts.finished:
                self._studio.models.use(self._folder, lambda model: self._open_finished(model, facts.source))
            elif state == "training":
                live = LiveModel(self._folder, workspace.source(facts.source))
                if plane.is_plane(live.model):
                    self._view = views.View.of(live.model, workspace, facts.source, live)
                self._live = live
                self._texts = views.TextView.of(live.model, facts.source)
                self._open_codes(live.model)
        except _FAULTS:
            pass  # the pictures of the run itself are shown instead

    def _open_finished(self, model: Any, source: str) -> None:
        if plane.is_plane(model) and hasattr(model, "sample"):
            self._view = views.View.of(model, self._studio.workspace, source)
        self._texts = views.TextView.of(model, source)
        self._open_codes(model)

    def _open_codes(self, model: Any) -> None:
        if views.has_codes(model):
            self._coded = self._studio.models.data_of(self._folder, model)

    def _lay_out(self, facts: RunFacts, state: str) -> None:
        self._place.clear()
        self._pictures = ()
        with self._place:
            if self._view is not None:
                self._plane = parts.Plane("Samples in the plane, with data beneath them")
                self._plane.on("time", self._moved)
                parts.key(data="data", samples="samples", **views.colors(self._view))
            else:
                self._rows = ui.element("div").classes("pf-column")
            self._said = ui.label().classes("pf-small pf-soft")
            if self._live is not None and self._view is None:
                with self._rows:
                    parts.note("The first samples come with the first weights, within seconds.")
        self._codes.set_visibility(self._coded is not None)
        if self._coded is not None and facts.finished:
            with self._codes:
                ui.timer(0.05, self._update_codes, once=True)
        if self._texts is not None and facts.finished:
            with self._place:
                ui.timer(0.05, self._say_law, once=True)

    async def _update_plane(self, view: views.View) -> None:
        made = await asyncio.to_thread(self._with_model, lambda _: views.scene(view, self._time))
        self._plane.show(made)
        self._say(views.error_in_words(view))
        if view.live is not None:
            await self._update_codes()

    async def _update_rows(self) -> None:
        assert self._live is not None
        found = await asyncio.to_thread(views.rows_now, self._live)
        self._rows.clear()
        with self._rows:
            show(found)
        self._say("The same seed each time.")
        await self._say_law("The same seed each time. ")
        await self._update_codes()

    async def _say_law(self, before: str = "") -> None:
        """Say how far a model of texts is from their law, where that is known."""
        if self._texts is not None:
            with contextlib.suppress(*_FAULTS):
                self._say(before + await asyncio.to_thread(self._with_model, self._texts.look))

    async def _update_codes(self) -> None:
        dataset = self._coded
        if dataset is None:
            return
        with contextlib.suppress(*_FAULTS):
            scene, classes = await asyncio.to_thread(self._with_model, lambda model: views.codes_scene(model, dataset))
            self._map.show(scene)
            if not self._classes.default_slot.children:
                with self._classes:
                    parts.key(**{name: f"g{i % 10}" for i, name in enumerate(classes)})

    def _with_model(self, work: Any) -> Any:
        return work(self._live.model) if self._live is not None else self._studio.models.use(self._folder, work)

    def _say(self, words: str) -> None:
        at = "" if self._live is None else f"Weights of step {self._live.step:,}. "
        self._said.text = at + words

    def _moved(self, event: events.GenericEventArguments) -> None:
        with contextlib.suppress(TypeError, ValueError):
            self._time = min(max(float(event.args), 0.0), 1.0)
            self._asked = True

    def _show_pictures(self, facts: RunFacts, state: str) -> None:
        """Show what the run has drawn, with a slider over its steps."""
        found = [step for step, _ in step_pictures(self._folder)]
        whole = (self._folder / "samples.png").is_file()
        key = (*found, -1 if whole else -2)
        if key == self._pictures:
            return
        self._pictures = key
        self._rows.clear()
        name = quote(self._folder.name)
        with self._rows:
            if not found and not whole:
                parts.note(
                    "The first samples are drawn at a fifth of the training."
                    if state == "training"
                    else "There are no pictures of samples."
                )
                return
            sources = [f"/file/run/{name}/samples/{step}" for step in found] + (
                [f"/file/run/{name}/samples?{int(facts.changed)}"] if whole else []
            )
            words = [f"Step {step:,}" for step in found] + (["After training"] if whole else [])
            wide = whole and width_of(self._folder / "samples.png") > _WIDE_PIXELS
            image = parts.picture("Samples", sources[-1], wide=wide)
            said = ui.label(words[-1]).classes("pf-small pf-soft")
            if len(sources) > 1:
                slider = ui.slider(min=0, max=len(sources) - 1, value=len(sources) - 1, step=1).props(
                    'snap markers aria-label="Moment of the training"'
                )

                def move(event: Any) -> None:
                    image.props(f'src="{sources[int(event.value)]}"')
                    said.text = words[int(event.value)]

                slider.on_value_change(move)
