"""Watch runs: the queue, and of one run its losses, its samples, and in the plane its density or field over time."""

import asyncio
import contextlib
import shlex
import time
from typing import Any
from urllib.parse import quote

from nicegui import events, ui

from pushforward._messages import printable
from pushforward.models import plane
from pushforward.models.files.storage import read_card, resume_command
from pushforward.studio import charts, parts, views
from pushforward.studio.jobs import Job
from pushforward.studio.pages.run_list import RunList, state_of
from pushforward.studio.runs import Curve, facts_of, step_pictures
from pushforward.studio.shared import Studio
from pushforward.studio.workspace import Refused
from pushforward.training.record.progress import clock

__all__ = ["add_page"]

_TICK = 0.1


def add_page(studio: Studio) -> None:
    """Add the page ``/watch``."""

    @ui.page("/watch")
    async def watch(run: str = "") -> None:
        with parts.frame(run[:60] or "Watch", "Watch"):
            if not run:
                parts.heading("Runs")
                RunList(studio).build()
                return
            await _open(studio, run)


async def _open(studio: Studio, name: str) -> None:
    """Show a run as soon as its folder is there."""
    folder = studio.workspace.runs / name
    job = studio.queue.of(folder)
    if name not in studio.workspace.run_names():
        parts.heading(name[:120])
        if job is None:
            parts.problem(f"There is no run “{name[:80]}” in runs/. It may have been moved or deleted.")
            ui.link("All runs", "/watch")
            return
        _Waiting(studio, name).build()
        return
    _Watch(studio, name).build()


class _Waiting:
    """A run whose folder is not there yet: it waits in the queue, begins, or has failed before its first step."""

    def __init__(self, studio: Studio, name: str) -> None:
        self._studio, self._name = studio, name

    def build(self) -> None:
        with parts.card():
            self._text = ui.label().props('aria-live="polite"')
            self._spinner = ui.spinner(size="md")
            self._place = ui.element("div").style("display:flex;flex-direction:column;gap:14px")
        self._timer = ui.timer(0.3, self._look)

    def _look(self) -> None:
        job = self._studio.queue.of(self._studio.workspace.runs / self._name)
        if self._name in self._studio.workspace.run_names():
            self._timer.cancel()
            ui.navigate.to(f"/watch?run={quote(self._name)}")
        elif job is not None and job.state in ("waiting", "running"):
            ahead = sum(other.state == "running" for other in self._studio.queue.jobs.values())
            self._text.text = (
                "The data are opened and the network is built…"
                if job.state == "running"
                else f"Waits for {ahead} other command."
            )
        else:
            self._timer.cancel()
            self._spinner.set_visibility(False)
            self._text.text = "This training did not begin."
            with self._place:
                parts.problem(self._studio.queue.said(job) if job is not None else "It is not in the queue any more.")
                ui.link("Train again", "/train")


class _Watch:
    """One run, while it trains and afterwards."""

    def __init__(self, studio: Studio, name: str) -> None:
        self._studio, self._name = studio, name
        self._folder = studio.workspace.run(name)
        self._facts = facts_of(self._folder)
        self._curve = Curve.of(self._folder)
        self._view: views.View | None = None
        self._busy, self._time, self._shown_step, self._next_facts = False, 0.5, -1, 0.0
        self._tried, self._asked = False, True
        self._pictures: tuple[int, ...] = ()

    def build(self) -> None:
        """Lay out the page, and follow the run."""
        with ui.element("div").classes("pf-row pf-between"):
            with ui.element("div"):
                parts.heading(self._name)
                if not self._facts.problem:
                    parts.note(f"{self._facts.family} on {self._facts.source}, {self._facts.rows:,} rows")
            self._buttons = ui.element("div").classes("pf-row")
        if self._facts.problem:
            parts.problem(self._facts.problem)
            ui.link("All runs", "/watch")
            return
        self._message = ui.element("div")
        with parts.card():
            self._bar = ui.linear_progress(value=0, show_value=False).props(
                'rounded size=8px aria-label="Progress of the training"'
            )
            with ui.element("div").classes("pf-figures"):
                self._figures = {name: _figure(name) for name in ("State", "Step", "Loss", "Held-out loss", "Time")}
        with ui.element("div").classes("pf-side"):
            with parts.card("Samples"):
                self._picture = ui.element("div").style("display:flex;flex-direction:column;gap:12px")
            with parts.card("Loss"):
                self._chart = (
                    ui.echart(charts.loss_options()).style("width:100%;height:270px").props('aria-label="Loss by step"')
                )
                self._levels_title = parts.heading("Held-out loss by noise level", 2)
                self._levels = (
                    ui.echart(charts.level_options()).style("width:100%;height:180px").props('aria-label="Loss by noise level"')
                )
        self._state = ""
        self._update_facts()
        ui.timer(_TICK, self._tick)

    async def _tick(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            if time.monotonic() > self._next_facts:
                self._next_facts = time.monotonic() + 0.5
                self._facts = await asyncio.to_thread(facts_of, self._folder)
                self._update_facts()
            if self._curve.path is None:
                self._curve = Curve.of(self._folder)
            if await asyncio.to_thread(self._curve.read) or self._shown_step < 0:
                self._update_curve()
            await self._update_picture()
        finally:
            self._busy = False

    def _update_facts(self) -> None:
        found, state = self._facts, state_of(self._studio, self._facts)
        self._bar.value = 1.0 if found.finished else min(1.0, found.done / found.steps) if found.steps else 0.0
        self._figures["State"].text = state
        self._figures["Step"].text = f"{found.done:,}" + (f" of {found.steps:,}" if found.steps and not found.finished else "")
        seconds = (
            found.seconds
            if found.seconds is not None
            else (self._curve.lines[-1].get("seconds", 0) if self._curve.lines else 0)
        )
        self._figures["Time"].text = clock(float(seconds or 0))
        if state == self._state:
            return
        ended, self._state = self._state == "training", state
        self._figures["State"].classes(
            replace=f"pf-figure {'pf-good' if state == 'finished' else 'pf-bad' if state == 'stopped' else ''}"
        )
        self._set_buttons(state)
        if ended or state == "finished":
            self._view, self._tried, self._asked = None, False, True
            self._curve = Curve.of(self._folder)
            self._update_curve()

    def _set_buttons(self, state: str) -> None:
        self._buttons.clear()
        self._message.clear()
        queue, name = self._studio.queue, quote(self._name)
        job = queue.of(self._folder)
        with self._buttons:
            if state in ("training", "waiting") and job is not None:
                ui.button(
                    "Stop",
                    icon="stop",
                    on_click=lambda: self._stop(job),
                ).props("outline")
            elif state == "stopped":
                ui.button("Resume", icon="play_arrow", on_click=self._resume).props("unelevated")
            elif state == "finished":
                ui.button("Draw", on_click=lambda: ui.navigate.to(f"/draw?run={name}")).props("unelevated")
                ui.button("Judge", on_click=lambda: ui.navigate.to(f"/judge?run={name}")).props("outline")
        if state == "stopped" and job is not None and job.state == "failed":
            with self._message:
                parts.problem(queue.said(job))

    def _stop(self, job: Job) -> None:
        self._studio.queue.stop(job)
        ui.notify("It stops after its step, and saves everything.")

    def _resume(self) -> None:
        try:
            place = self._folder.relative_to(self._studio.workspace.root)
            words = resume_command(read_card(self._folder), place)
            self._studio.queue.add(shlex.split(words)[1:], self._folder)
        except (Refused, OSError, ValueError) as error:
            ui.notify(printable(error), type="negative", multi_line=True)

    def _update_curve(self) -> None:
        loss, held = self._curve.points("loss"), self._curve.points("held_out_loss")
        self._figures["Loss"].text = f"{loss[-1][1]:.4g}" if loss else "—"
        self._figures["Held-out loss"].text = f"{min(value for _, value in held):.4g}" if held else "—"
        options = self._chart.options
        positive = [value for _, value in (*loss, *held)]
        options["yAxis"]["type"] = "log" if positive and min(positive) > 0 and max(positive) > 3 * min(positive) else "value"
        options["series"][0]["data"], options["series"][1]["data"] = loss, held
        self._chart.update()
        levels = self._curve.levels()
        for element in (self._levels, self._levels_title):
            element.set_visibility(bool(levels))
        if levels:
            self._levels.options["series"][0]["data"] = levels
            self._levels.options["xAxis"]["data"] = ["least", *[""] * (len(levels) - 2), "most"] if len(levels) > 1 else ["all"]
            self._levels.update()

    async def _update_picture(self) -> None:
        """Show the newest samples: in the plane from the weights of the moment, else the pictures that the run has drawn."""
        if self._view is None and not self._tried:
            self._tried = True
            self._view = await asyncio.to_thread(self._open_view)
            self._build_picture()
        if self._view is None:
            self._show_pictures()
            return
        live = self._view.live
        fresh = live is not None and await asyncio.to_thread(live.refresh)
        if not (fresh or self._asked) or (live is not None and live.step == 0):
            return
        self._asked = False
        with contextlib.suppress(ValueError, RuntimeError):
            made = await asyncio.to_thread(self._compute)
            self._plane.show(made)
            self._shown_step = 0 if live is None else live.step
            at = "" if live is None else f"Weights of step {live.step:,}. "
            self._said.text = at + views.error_in_words(self._view)

    def _compute(self) -> dict[str, Any]:
        assert self._view is not None
        if self._view.live is not None:
            return views.scene(self._view, self._time)
        return self._studio.models.use(self._folder, lambda _: views.scene(self._view, self._time))  # type: ignore[arg-type]

    def _open_view(self) -> views.View | None:
        try:
            workspace = self._studio.workspace
            if self._facts.finished:
                return self._studio.models.use(
                    self._folder,
                    lambda model: (
                        views.View.of(model, workspace, self._facts.source)
                        if plane.is_plane(model) and hasattr(model, "sample")
                        else None
                    ),
                )
            if self._state == "training":
                return views.View.of_live(workspace, self._folder, self._facts.source)
        except (ValueError, TypeError, OSError, KeyError, RuntimeError, ImportError):
            pass  # the pictures of the run itself are shown instead
        return None

    def _build_picture(self) -> None:
        self._picture.clear()
        self._pictures = ()
        if self._view is None:
            return
        with self._picture:
            self._plane = parts.Plane("Samples in the plane, with data beneath them")
            self._plane.on("time", self._moved)
            parts.key(data="data", samples="samples", **views.colors(self._view))
            self._said = ui.label().classes("pf-small pf-soft")

    def _moved(self, event: events.GenericEventArguments) -> None:
        with contextlib.suppress(TypeError, ValueError):
            self._time = min(max(float(event.args), 0.0), 1.0)
            self._asked = True

    def _show_pictures(self) -> None:
        found = [step for step, _ in step_pictures(self._folder)]
        whole = (self._folder / "samples.png").is_file()
        key = (*found, -1 if whole else -2)
        if key == self._pictures:
            return
        self._pictures = key
        self._picture.clear()
        name = quote(self._name)
        with self._picture:
            if not found and not whole:
                parts.note(
                    "The first samples are drawn at a fifth of the training."
                    if self._state == "training"
                    else "There are no pictures of samples."
                )
                return
            sources = [f"/file/run/{name}/samples/{step}" for step in found] + (
                [f"/file/run/{name}/samples?{int(self._facts.changed)}"] if whole else []
            )
            words = [f"Step {step:,}" for step in found] + (["After training"] if whole else [])
            image = ui.element("img").classes("pf-picture").props(f'alt="Samples" src="{sources[-1]}"')
            said = ui.label(words[-1]).classes("pf-small pf-soft")
            if len(sources) > 1:
                slider = ui.slider(min=0, max=len(sources) - 1, value=len(sources) - 1, step=1).props(
                    'snap markers aria-label="Moment of the training"'
                )

                def move(event: Any) -> None:
                    image.props(f'src="{sources[int(event.value)]}"')
                    said.text = words[int(event.value)]

                slider.on_value_change(move)


def _figure(name: str) -> ui.label:
    with ui.element("div"):
        ui.label(name).classes("pf-small pf-soft")
        return ui.label("—").classes("pf-figure")
