"""The tab of samples: condition, guidance, sampler and steps, for one setting or two with the same seed."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nicegui import ui

from pushforward._messages import printable
from pushforward.models.recipe import named_sampler
from pushforward.studio import parts
from pushforward.studio.drawing import Abilities, Shown, call_of, file_bytes, shown
from pushforward.studio.shared import Studio

__all__ = ["Samples"]

_SAMPLERS = ("", "ddim", "heun", "dpm-solver", "unipc", "euler", "rk4", "ddpm", "reverse-sde", "annealed-langevin")
_MOST = 5000


@dataclass
class _Setting:
    """What one panel asks for, and what came."""

    condition: str = ""
    guidance: float = 1.0
    steps: float | None = None
    sampler: str = ""
    temperature: float = 1.0
    prompt: str = ""
    place: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    values: Any = None


class Samples:
    """Draws with one seed under one setting or two."""

    def __init__(self, studio: Studio, folder: Path, abilities: Abilities) -> None:
        self._studio, self._folder, self._able = studio, folder, abilities
        self._settings = [_Setting(), _Setting()]
        self._two, self._n, self._seed = False, 1000 if abilities.plane else abilities.usual, 1

    def build(self) -> None:
        """Lay out controls and pictures."""
        with ui.element("div").classes("pf-side pf-draw"):
            with ui.element("div").classes("pf-pair"):
                for number, setting in enumerate(self._settings):
                    with parts.card("Samples" if number == 0 else "The same seed, other settings") as element:
                        setting.place = ui.element("div").style("display:flex;flex-direction:column;gap:12px;min-width:0")
                        with setting.place:
                            parts.note("Press Draw.")
                    if number:
                        self._second = element
            with ui.element("div").style("display:flex;flex-direction:column;gap:20px;min-width:0"):
                with parts.card("Settings"):
                    self._controls(self._settings[0])
                    n = ui.number("Number of samples", value=self._n, min=1, max=_MOST, precision=0).props("outlined")
                    n.on_value_change(lambda event: self._set_number("_n", event.value, 1))
                    seed = ui.number("Seed", value=self._seed, min=0, precision=0).props("outlined")
                    seed.on_value_change(lambda event: self._set_number("_seed", event.value, 0))
                    ui.switch("Compare with other settings", on_change=self._set_two)
                    with ui.element("div").classes("pf-row"):
                        self._button = ui.button("Draw", on_click=self.draw).props("unelevated")
                        ui.button("New seed", on_click=lambda: seed.set_value(self._seed + 1)).props("flat")
                with parts.card("Other settings") as self._others:
                    self._controls(self._settings[1])
                with parts.card("Keep them"):
                    ending = ui.select(list(self._able.endings), value=self._able.endings[0], label="Format").props("outlined")
                    ui.button("Download", icon="download", on_click=lambda: self._download(str(ending.value))).props("outline")
                    self._code = parts.code("")
        self._show_second()
        ui.timer(0.05, self.draw, once=True)

    def _set_number(self, name: str, value: Any, least: int) -> None:
        if isinstance(value, int | float) and value >= least:
            setattr(self, name, int(value))

    def _set_two(self, event: Any) -> None:
        self._two = bool(event.value)
        self._show_second()

    def _show_second(self) -> None:
        self._second.set_visibility(self._two)
        self._others.set_visibility(self._two)

    def _controls(self, setting: _Setting) -> None:
        able = self._able
        if able.classes:
            choices = {"": "As in the data", **{label: label for label in able.classes}}
            ui.select(choices, value="", label="Class").props("outlined").on_value_change(
                lambda event: setattr(setting, "condition", event.value or "")
            )
        elif able.example or able.columns:
            field_ = ui.input("Given values", placeholder=able.example or f"{able.columns[0]}=…").props("outlined")
            field_.on_value_change(lambda event: setattr(setting, "condition", event.value or ""))
        if able.guidance and (able.classes or able.example):
            with ui.element("div"):
                said = ui.label("Guidance scale: 1").classes("pf-small pf-soft")

                def guide(event: Any) -> None:
                    setting.guidance = float(event.value)
                    said.text = f"Guidance scale: {event.value:g}"

                ui.slider(min=0, max=6, step=0.25, value=1).props('label aria-label="Guidance scale"').on_value_change(guide)
        if able.steps:
            with ui.element("div"):
                steps = ui.label("Steps: 20").classes("pf-small pf-soft")

                def step(event: Any) -> None:
                    setting.steps = float(event.value)
                    steps.text = f"Steps: {event.value:g}"

                ui.slider(min=3 if able.sampler else 1, max=60, step=1, value=20).props(
                    'label aria-label="Steps"'
                ).on_value_change(step)
        if able.sampler:
            names = {name: name or "The run's own" for name in _SAMPLERS}
            ui.select(names, value="", label="Sampler").props("outlined").on_value_change(
                lambda event: setattr(setting, "sampler", event.value or "")
            )
        if able.temperature:
            ui.number("Temperature", value=1.0, min=0.05, max=3, step=0.05).props("outlined").on_value_change(
                lambda event: setattr(setting, "temperature", float(event.value or 1.0))
            )
        if able.prompt:
            ui.input("Beginning of the text").props("outlined").on_value_change(
                lambda event: setattr(setting, "prompt", event.value or "")
            )

    def _options(self, setting: _Setting) -> dict[str, Any]:
        able = self._able
        options: dict[str, Any] = {"n": self._n, "seed": self._seed}
        if setting.condition.strip():
            options["condition"] = setting.condition.strip()
        if able.guidance and setting.guidance != 1 and (able.classes or able.example):
            options["guidance"] = setting.guidance
        if able.steps and setting.steps is not None:
            options["steps"] = int(setting.steps)
        if able.temperature and setting.temperature != 1:
            options["temperature"] = setting.temperature
        if able.prompt and setting.prompt:
            options["prompt"] = setting.prompt
        return options

    async def draw(self) -> None:
        """Draw under one setting, or both."""
        self._button.props("loading")
        try:
            for setting in self._settings[: 2 if self._two else 1]:
                await self._draw_one(setting)
        finally:
            self._button.props(remove="loading")

    async def _draw_one(self, setting: _Setting) -> None:
        setting.options = self._options(setting)

        def work(model: Any) -> Shown:
            sampler = named_sampler(setting.sampler) if setting.sampler else None
            found = shown(model, setting.options, sampler, self._able)
            setting.values = found.values
            return found

        try:
            found = await asyncio.to_thread(self._studio.models.use, self._folder, work)
        except (ValueError, TypeError, OSError, RuntimeError, MemoryError) as error:
            setting.place.clear()
            with setting.place:
                parts.problem(error)
            return
        setting.place.clear()
        with setting.place:
            show(found)
        sampler = f"pf.{type(named_sampler(setting.sampler)).__name__}()" if setting.sampler else None
        place = self._folder.relative_to(self._studio.workspace.root)
        self._code.text = call_of(str(place), "sample", setting.options, sampler)

    async def _download(self, ending: str) -> None:
        setting = self._settings[0]
        if setting.values is None:
            ui.notify("Draw first.", type="warning")
            return
        content = await parts.attempted(
            self._studio.models.use, self._folder, lambda model: file_bytes(model, setting.values, ending)
        )
        if content is not None:
            ui.download.content(content, f"{self._folder.name}-seed-{self._seed}.{ending}")


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
        ui.element("img").classes("pf-picture").props(f'alt="Samples" src="{picture}"')
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
