"""Choose a family and its few important controls, and start the training as a process of the command line."""

import asyncio
from typing import Any
from urllib.parse import quote

from nicegui import ui

from pushforward._messages import printable
from pushforward.data.kinds import kind_named
from pushforward.models.base.plan import Plan
from pushforward.studio import parts
from pushforward.studio.commands import Training, full_recipe
from pushforward.studio.families import Family, cards
from pushforward.studio.shared import Studio
from pushforward.studio.thumbnails import open_chosen
from pushforward.studio.workspace import Refused

__all__ = ["add_page"]

_TIMES = {
    "": "As set by the family's recipe",
    "15": "15 seconds",
    "60": "1 minute",
    "300": "5 minutes",
    "1800": "30 minutes",
}


def add_page(studio: Studio) -> None:
    """Add the page ``/train``."""

    @ui.page("/train")
    async def train(data: str = "") -> None:
        with parts.frame("Train", "Train"):
            parts.heading("Train a model")
            if not data:
                parts.empty("First choose what the model is to learn from.", "Choose data", "/")
                return
            dataset = await parts.waited(open_chosen, studio.workspace, data)
            if dataset is None:
                return
            if isinstance(dataset, Exception):
                parts.problem(dataset)
                ui.link("Choose other data", "/")
                return
            rules = kind_named(dataset.schema.kind)
            with ui.element("p").classes("pf-soft"):
                ui.label(f"On {data}: {len(dataset):,} {rules.noun if dataset.schema.table is None else 'rows'}. ").style(
                    "display:inline"
                )
                ui.link("Look at them", f"/data?name={quote(data)}")
            _Form(studio, Training(data, rules.default_model), cards(rules.default_model)).build()


class _Form:
    """The form of one training; the recipe beside it follows every control."""

    def __init__(self, studio: Studio, training: Training, families: list[Family]) -> None:
        self._studio, self._training, self._families = studio, training, families
        self._choices: dict[str, ui.element] = {}
        self._checks = 0

    def build(self) -> None:
        """Lay out cards, controls, recipe and command."""
        parts.heading("Family", 2)
        with ui.element("div").classes("pf-grid pf-families").props('role="radiogroup" aria-label="Family"'):
            for index, family in enumerate(self._families):
                self._card(family, suggested=index == 0)
        with ui.element("div").classes("pf-two"):
            with parts.card("Controls"):
                self._controls()
            with parts.card("Recipe"):
                parts.note("What these controls mean, as a recipe and as a command for a terminal.", "pf-small")
                self._recipe, self._command = parts.code(""), parts.code("")
                with ui.expansion("All arguments, with their defaults for these data").classes("pf-small").style("width:100%"):
                    self._whole = parts.code("…")
        self._changed()

    def _card(self, family: Family, *, suggested: bool) -> None:
        button = ui.element("button").classes("pf-choice").props(f'type="button" role="radio" data-family="{family.name}"')
        with button:
            with ui.element("strong"):
                ui.label(family.title)
            ui.label(family.idea).classes("pf-small pf-soft")
            parts.pills([*(["suggested"] if suggested else []), *family.promises])
        button.on("click", lambda: self._choose(family))
        self._choices[family.name] = button

    def _choose(self, family: Family) -> None:
        self._training.model = family.name
        self._changed()

    def _controls(self) -> None:
        arguments = self._training.arguments

        def setter(name: str, kind: type = str, scale: float = 1) -> Any:
            def change(event: Any) -> None:
                value = event.value
                target, _, inner = name.partition(".")
                made = None if value in (None, "") else kind(value * scale if scale != 1 else value)
                if inner:
                    arguments.setdefault(target, {})[inner] = made
                else:
                    arguments[target] = made
                self._changed()

            return change

        self._timed = ui.element("div").classes("pf-column")
        with self._timed:
            ui.select(_TIMES, value="", label="Time for training").props("outlined").on_value_change(setter("max_time", float))
            ui.number("Or number of steps", min=1, max=10_000_000, precision=0, placeholder="the family's own").props(
                "outlined debounce=400"
            ).on_value_change(setter("train_steps", int))
            with (
                ui.expansion("More").style("width:100%"),
                ui.element("div").classes("pf-column"),
            ):
                ui.number("Width of the network", min=1, max=4096, precision=0, placeholder="suits the data").props(
                    "outlined debounce=400"
                ).on_value_change(setter("network.width", int))
                ui.number("Learning rate", min=1e-6, max=1, placeholder="suits the data").props(
                    "outlined debounce=400 step=any"
                ).on_value_change(setter("training.learning_rate", float))
                ui.number("Rows of a batch", min=1, max=65_536, precision=0, placeholder="suits the data").props(
                    "outlined debounce=400"
                ).on_value_change(setter("training.batch_size", int))
        self._components = ui.number(
            "Number of Gaussians", min=1, max=1000, precision=0, placeholder="found by held-out rows"
        ).props("outlined debounce=400")
        self._components.on_value_change(setter("n_components", int))
        ui.number("Seed", min=0, max=2**31, precision=0, placeholder="a fresh one").props(
            "outlined debounce=400"
        ).on_value_change(setter("random_state", int))
        name = ui.input("Name of the run", placeholder="after the data and the family").props(
            "outlined debounce=400 maxlength=60"
        )
        name.on_value_change(self._named)
        self._message = ui.label().classes("pf-problem").props('role="alert"')
        self._said = ui.label().classes("pf-soft pf-small").props('aria-live="polite"')
        with ui.element("div").classes("pf-row"):
            self._start = ui.button("Start training", on_click=self._go).props("unelevated")

    def _named(self, event: Any) -> None:
        self._training.name = event.value or ""
        self._changed()

    def _changed(self) -> None:
        family = next(one for one in self._families if one.name == self._training.model)
        for name, button in self._choices.items():
            button.props(f'aria-checked="{"true" if name == family.name else "false"}"')
            button.classes("pf-on") if name == family.name else button.classes(remove="pf-on")
        self._timed.set_visibility(family.steps)
        self._components.set_visibility(family.name == "gmm")
        if not family.steps:
            for name in ("max_time", "train_steps", "network", "training"):
                self._training.arguments.pop(name, None)
        if family.name != "gmm":
            self._training.arguments.pop("n_components", None)
        self._recipe.text = self._training.yaml(self._studio.workspace)
        self._command.text = self._training.command(self._studio.workspace)
        self._message.set_visibility(False)
        self._said.text = "Checking…"
        self._start.set_enabled(False)
        self._checks += 1
        ui.timer(0.25, lambda number=self._checks: self._check(number), once=True)

    async def _check(self, number: int) -> None:
        """Resolve the recipe on the data, and say what is wrong with it, before anything is started."""
        if number != self._checks:
            return
        timed = self._training.arguments.get("max_time")
        try:
            planned: Plan = await asyncio.to_thread(self._untimed().plan, self._studio.workspace)
            if number != self._checks:
                return
            counted = [] if planned.parameters is None else [f"{planned.parameters:,} parameters"]
            if planned.steps is not None:
                counted.append(f"as many steps as fit into {timed:g} s" if timed else f"{planned.steps:,} steps")
            self._said.text = ", ".join(counted)[:1].upper() + ", ".join(counted)[1:] + ("." if counted else "")
            self._whole.text = full_recipe(planned)
            self._start.set_enabled(True)
        except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
            if number == self._checks:
                self._message.text, self._said.text, self._whole.text = printable(error), "", "…"
                self._message.set_visibility(True)

    def _untimed(self) -> Training:
        """Return the training without its limit of time, which would be measured by trial steps."""
        arguments = {key: value for key, value in self._training.arguments.items() if key != "max_time"}
        return Training(self._training.source, self._training.model, arguments)

    def _go(self) -> None:
        try:
            words, folder = self._training.start(self._studio.workspace)
            self._studio.queue.add(words, folder)
        except (Refused, OSError) as error:
            ui.notify(printable(error), type="negative", multi_line=True, timeout=10_000)
            return
        ui.navigate.to(f"/watch?run={quote(folder.name)}")
