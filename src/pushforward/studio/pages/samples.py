"""The tab of samples: condition, guidance, sampler and steps, under one setting or several with the same seed."""

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nicegui import ui

from pushforward._messages import printable
from pushforward.models import plane
from pushforward.models.recipe import named_sampler
from pushforward.studio import parts
from pushforward.studio.drawing import Abilities, Shown, call_of, file_bytes, shown
from pushforward.studio.shared import Studio

__all__ = ["Samples", "Setting", "show"]

_SAMPLERS = ("", "ddim", "heun", "dpm-solver", "unipc", "euler", "rk4", "ddpm", "reverse-sde", "annealed-langevin")
_MOST, _MOST_SETTINGS, _MOST_STEPS = 5000, 6, 64


@dataclass(frozen=True)
class Setting:
    """What is asked for, besides the number of samples and the seed."""

    condition: str = ""
    guidance: float = 1.0
    steps: int | None = None
    sampler: str = ""
    temperature: float = 1.0
    prompt: str = ""

    def options(self, able: Abilities) -> dict[str, Any]:
        """Return the arguments of ``sample``, without those that are at their defaults."""
        options: dict[str, Any] = {}
        if self.condition.strip():
            options["condition"] = self.condition.strip()
        if able.guided and self.guidance != 1:
            options["guidance"] = self.guidance
        if able.steps and self.steps is not None:
            options["steps"] = self.steps
        if able.temperature and self.temperature != 1:
            options["temperature"] = self.temperature
        if able.prompt and self.prompt:
            options["prompt"] = self.prompt
        return options

    def said(self, able: Abilities) -> str:
        """Return the setting in words.

        >>> able = Abilities("diffusion", "moons", True, True, "flat", 9, ("csv",), classes=("0", "1"), guidance=True, steps=20)
        >>> Setting(condition="1", guidance=2.5, steps=7, sampler="heun").said(able)
        'class 1, guidance 2.5, 7 steps, heun'
        >>> Setting().said(able)
        'the usual settings'
        """
        words = []
        for name, value in self.options(able).items():
            shown_value = f"{value:g}" if isinstance(value, float) else printable(value)
            if name == "condition":
                words.append(f"class {shown_value}" if able.classes else shown_value)
            elif name == "prompt":
                words.append(f"begins with “{shown_value[:30]}”")
            else:
                words.append(f"{shown_value} steps" if name == "steps" else f"{name} {shown_value}")
        return ", ".join([*words, *([self.sampler] if self.sampler else [])]) or "the usual settings"


class _Panel:
    """One setting with its controls, and what was drawn under it."""

    def __init__(self, able: Abilities, setting: Setting) -> None:
        self._able, self.setting = able, setting
        self.options: dict[str, Any] = {}
        self.sampler, self.values = "", None

    def build(self, removed: Any) -> None:
        """Lay out the controls, and the place of the samples below them."""
        with parts.card() as self.card:
            with ui.element("div").classes("pf-row pf-between"):
                with ui.element("h2"):
                    self._title = ui.label().style("display:inline")
                self._remove = ui.button(icon="close", on_click=removed).props("flat round dense color=grey-7")
            with ui.element("div").classes("pf-controls"):
                self._controls()
            self._place = ui.element("div").classes("pf-column pf-drawn")
            with self._place:
                parts.note("Press Draw.", "pf-small")

    def call(self, name: str, *, alone: bool) -> None:
        """Set the title of the panel, and whether it can be removed."""
        self.name, self._title.text = name, "Samples" if alone else name
        self._remove.props(f'aria-label="Remove {name.lower()}"')
        self._remove.set_visibility(not alone)

    def wait(self) -> None:
        """Show that the first samples are on their way."""
        if self.values is None:
            self._place.clear()
            with self._place:
                ui.spinner(size="md")

    def show(self, found: Shown | Exception, seconds: float) -> None:
        """Show what came."""
        self._place.clear()
        with self._place:
            if isinstance(found, Exception):
                parts.problem(found)
                return
            show(found)
            ui.label(f"Drawn with {self.setting.said(self._able)}, in {seconds:.2g} s.").classes("pf-small pf-soft")

    def _set(self, name: str, value: Any) -> None:
        self.setting = replace(self.setting, **{name: value})

    def _controls(self) -> None:
        able, setting = self._able, self.setting
        if able.classes:
            choices = {"": "As in the data", **{label: label for label in able.classes}}
            self._follow(ui.select(choices, value=setting.condition, label="Class"), "condition")
        elif able.example or able.columns:
            example = able.example or f"{able.columns[0]}=…"
            self._follow(ui.input("Given values", placeholder=example, value=setting.condition), "condition")
        if able.guided:
            self._slider("Guidance scale", "guidance", setting.guidance, 0, 6, 0.25)
        if able.steps:
            self._slider("Steps", "steps", setting.steps or able.steps, 3 if able.sampler else 1, _MOST_STEPS, 1)
        if able.sampler:
            names = {name: name or "The run's own" for name in _SAMPLERS}
            self._follow(ui.select(names, value=setting.sampler, label="Sampler"), "sampler")
        if able.temperature:
            number = ui.number("Temperature", value=setting.temperature, min=0.05, max=3, step=0.05).props("outlined")
            number.on_value_change(lambda event: self._set("temperature", float(event.value or 1.0)))
        if able.prompt:
            self._follow(ui.input("Beginning of the text", value=setting.prompt), "prompt")

    def _follow(self, element: Any, name: str) -> None:
        element.props("outlined").on_value_change(lambda event: self._set(name, event.value or ""))

    def _slider(self, label: str, name: str, value: float, low: float, high: float, step: float) -> None:
        with ui.element("div"):
            said = ui.label(f"{label}: {value:g}").classes("pf-small pf-soft")

            def change(event: Any) -> None:
                self._set(name, int(event.value) if step == 1 else float(event.value))
                said.text = f"{label}: {event.value:g}"

            slider = ui.slider(min=low, max=high, step=step, value=value).props(f'label aria-label="{label}"')
            slider.on_value_change(change)


class Samples:
    """Draws with one seed under one setting, or under several side by side."""

    def __init__(self, studio: Studio, folder: Path, abilities: Abilities) -> None:
        self._studio, self._folder, self._able = studio, folder, abilities
        self._panels: list[_Panel] = []
        self._n, self._seed = 1000 if abilities.plane else abilities.usual, 1

    def build(self) -> None:
        """Lay out what all settings share, and the first of them."""
        with ui.element("div").classes("pf-draw"):
            with ui.element("div").classes("pf-stack pf-beside"):
                with parts.card("All settings"):
                    n = ui.number("Number of samples", value=self._n, min=1, max=_MOST, precision=0).props("outlined")
                    n.on_value_change(lambda event: self._set_number("_n", event.value, 1))
                    seed = ui.number("Seed", value=self._seed, min=0, precision=0).props("outlined")
                    seed.on_value_change(lambda event: self._set_number("_seed", event.value, 0))
                    with ui.element("div").classes("pf-row"):
                        self._button = ui.button("Draw", on_click=self.draw).props("unelevated")
                        ui.button("New seed", on_click=lambda: seed.set_value(self._seed + 1)).props("flat")
                    self._adding = ui.button("Add a setting", icon="add", on_click=lambda: self._add()).props("outline")
                    parts.note("Settings side by side draw from the same noise, so they differ in nothing else.", "pf-small")
                with parts.card("Keep them"):
                    self._which = ui.select([], label="Of").props("outlined")
                    self._which.on_value_change(lambda: self._say_code())
                    ending = ui.select(list(self._able.endings), value=self._able.endings[0], label="Format").props("outlined")
                    ui.button("Download", icon="download", on_click=lambda: self._download(str(ending.value))).props("outline")
                    self._code = parts.code("")
            self._place = ui.element("div").classes("pf-panels-grid")
        self._add()
        ui.timer(0.05, self.draw, once=True)

    def _set_number(self, name: str, value: Any, least: int) -> None:
        if isinstance(value, int | float) and value >= least:
            setattr(self, name, int(value))

    def _add(self) -> None:
        """Add a setting, which begins as the last one."""
        if len(self._panels) == _MOST_SETTINGS:
            ui.notify(f"There are {_MOST_SETTINGS} settings, the most that fit. Remove one first.", type="warning")
            return
        panel = _Panel(self._able, self._panels[-1].setting if self._panels else Setting())
        with self._place:
            panel.build(lambda: self._drop(panel))
        self._panels.append(panel)
        self._name_all()

    def _drop(self, panel: _Panel) -> None:
        ui.run_javascript(f"getHtmlElement({self._adding.id}).focus()")  # the button that has the focus goes
        self._panels.remove(panel)
        panel.card.delete()
        self._name_all()

    def _name_all(self) -> None:
        alone = len(self._panels) == 1
        for number, panel in enumerate(self._panels, 1):
            panel.call(f"Setting {number}", alone=alone)
        names = {number: panel.name for number, panel in enumerate(self._panels)}
        self._which.set_options(names, value=min(self._which.value or 0, len(names) - 1))
        self._which.set_visibility(not alone)
        self._say_code()

    def _kept(self) -> _Panel:
        return self._panels[min(int(self._which.value or 0), len(self._panels) - 1)]

    def _say_code(self) -> None:
        panel = self._kept()
        if panel.options:
            sampler = f"pf.{type(named_sampler(panel.sampler)).__name__}()" if panel.sampler else None
            place = self._folder.relative_to(self._studio.workspace.root)
            self._code.text = call_of(str(place), "sample", panel.options, sampler)

    async def draw(self) -> None:
        """Draw under each setting. All pictures of points show the part of the plane that the first one shows."""
        self._button.props("loading")
        square: plane.Square | None = None
        try:
            for panel in self._panels:
                panel.wait()
            for panel in list(self._panels):
                square = await self._draw_one(panel, square) or square
        finally:
            self._button.props(remove="loading")
        self._say_code()

    async def _draw_one(self, panel: _Panel, square: plane.Square | None) -> plane.Square | None:
        panel.options = {"n": self._n, "seed": self._seed, **panel.setting.options(self._able)}
        panel.sampler = panel.setting.sampler

        def work(model: Any) -> Shown:
            sampler = named_sampler(panel.sampler) if panel.sampler else None
            return shown(model, panel.options, sampler, self._able, square)

        began = time.monotonic()
        try:
            found = await asyncio.to_thread(self._studio.models.use, self._folder, work)
        except (ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
            panel.values = None
            if panel in self._panels:
                panel.show(error, 0.0)
            return None
        panel.values = found.values
        if panel in self._panels:
            panel.show(found, time.monotonic() - began)
        return found.square

    async def _download(self, ending: str) -> None:
        panel = self._kept()
        if panel.values is None:
            ui.notify("Draw first.", type="warning")
            return
        content = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: file_bytes(model, panel.values, ending)
        )
        if content is not None:
            number = "" if len(self._panels) == 1 else f"-{panel.name.lower().replace(' ', '-')}"
            ui.download.content(content, f"{self._folder.name}-seed-{self._seed}{number}.{ending}")


def show(found: Shown) -> None:
    """Add what was drawn to the page."""
    if found.scene is not None:
        parts.Plane("Samples in the plane").show(found.scene)
    if found.moments:
        _show_moments(found.moments)
    for text in found.texts:
        ui.label(printable(text)).classes("pf-text pf-code")
    for sound in found.sounds:
        ui.element("audio").props(f'controls preload="metadata" src="{sound}"').style("width:100%;height:36px")
    for picture in found.pictures:
        parts.picture("Samples", picture, wide=found.table is not None)
    if found.table is not None:
        columns, rows = found.table
        parts.table(columns, rows, "id", 10)


def _show_moments(moments: list[list[str]]) -> None:
    """Add texts with a slider over the moments of their drawing, and a button that plays them."""
    labels = [ui.label(printable(text)).classes("pf-text pf-code") for text in moments[-1]]
    last = len(moments) - 1

    def move(event: Any) -> None:
        for label, text in zip(labels, moments[int(event.value)], strict=True):
            label.text = printable(text)

    def tick() -> None:
        slider.value = min(last, int(slider.value) + 1)
        if slider.value == last:
            timer.deactivate()

    def play() -> None:
        if slider.value == last:
            slider.value = 0
        timer.activate()

    with ui.element("div").classes("pf-row").style("flex-wrap:nowrap"):
        ui.button(icon="play_arrow", on_click=play).props('flat round dense aria-label="Play from covered to drawn"')
        slider = ui.slider(min=0, max=last, value=last, step=1).props('aria-label="How much is drawn"').style("flex:1")
        slider.on_value_change(move)
    timer = ui.timer(0.15, tick, active=False)
