"""Watch runs: the queue, and of one run its losses, its samples, and in the plane its density or field over time."""

import asyncio
import shlex
import time
from urllib.parse import quote

from nicegui import ui

from pushforward._messages import printable
from pushforward.models.files.storage import read_card, resume_command
from pushforward.studio import charts, parts
from pushforward.studio.jobs import Job
from pushforward.studio.pages.run_list import RunList, state_of
from pushforward.studio.pages.run_picture import RunPicture
from pushforward.studio.runs import Curve, facts_of
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
            self._place = ui.element("div").classes("pf-column")
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
            self._text.text = "This training did not start."
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
        self._picture = RunPicture(studio, self._folder)
        self._busy, self._next_facts, self._read = False, 0.0, False

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
                self._picture.build()
            with ui.element("div").classes("pf-stack"):
                with parts.card("Loss") as self._losses:
                    self._chart = ui.echart(charts.loss_options()).style("width:100%;height:270px")
                    self._chart.props('aria-label="Loss by step"')
                    self._levels_title = parts.heading("Held-out loss by noise level", 2)
                    self._levels = ui.echart(charts.level_options()).style("width:100%;height:180px")
                    self._levels.props('aria-label="Loss by noise level"')
                self._picture.build_codes()
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
                self._curve, self._read = Curve.of(self._folder), False
            if await asyncio.to_thread(self._curve.read) or not self._read:
                self._read = True
                self._update_curve()
            await self._picture.follow(self._facts, self._state)
        finally:
            self._busy = False

    def _update_facts(self) -> None:
        found, state = self._facts, state_of(self._studio, self._facts)
        self._bar.value = 1.0 if found.finished else min(1.0, found.done / found.steps) if found.steps else 0.0
        self._figures["State"].text = state
        total = f" of {found.steps:,}" if found.steps and not found.finished else ""
        self._figures["Step"].text = f"{found.done:,}{total}" if found.done or total else "—"
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
            self._picture.forget()
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
        ui.notify("It stops after the current step and saves everything.")

    def _resume(self) -> None:
        try:
            place = self._folder.relative_to(self._studio.workspace.root)
            words = resume_command(read_card(self._folder), place)
            self._studio.queue.add(shlex.split(words)[1:], self._folder)
        except (Refused, OSError, ValueError) as error:
            ui.notify(printable(error), type="negative", multi_line=True)

    def _update_curve(self) -> None:
        loss, held = self._curve.points("loss"), self._curve.points("held_out_loss")
        self._losses.set_visibility(bool(loss or held) or not self._facts.finished)
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


def _figure(name: str) -> ui.label:
    with ui.element("div"):
        ui.label(name).classes("pf-small pf-soft")
        return ui.label("—").classes("pf-figure")
