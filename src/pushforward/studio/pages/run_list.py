"""All runs of the workspace, and the queue above them."""

from urllib.parse import quote

from nicegui import ui

from pushforward.studio import parts
from pushforward.studio.runs import RunFacts, facts_of
from pushforward.studio.shared import Studio

__all__ = ["RunList", "state_of"]

_TICK = 1.0


def state_of(studio: Studio, found: RunFacts) -> str:
    """Return the state of a run in a word."""
    if found.finished:
        return "finished"
    job = studio.queue.of(found.folder)
    if job is not None and job.state in ("waiting", "running"):
        return "training" if job.state == "running" else "waiting"
    return "training" if found.active and job is None else "stopped"


class RunList:
    """The queue, and all runs."""

    def __init__(self, studio: Studio) -> None:
        self._studio, self._shown = studio, ""

    def build(self) -> None:
        """Lay out the list, and follow it."""
        self._place = ui.element("div").classes("pf-stack")
        self._refresh()
        ui.timer(_TICK, self._refresh)

    def _refresh(self) -> None:
        facts = [facts_of(self._studio.workspace.run(name)) for name in self._studio.workspace.run_names()]
        jobs = [job for job in self._studio.queue.jobs.values() if job.state in ("waiting", "running")]
        shown = repr([(f.name, f.done, f.finished, self._state(f)) for f in facts]) + repr([(j.id, j.state) for j in jobs])
        if shown == self._shown:
            return
        self._shown = shown
        self._place.clear()
        with self._place:
            if jobs:
                with parts.card("Queue"):
                    for job in sorted(jobs, key=lambda job: job.made):
                        with ui.element("div").classes("pf-row pf-between"):
                            ui.label(f"{job.verb} {job.folder}: {job.state}").style("overflow-wrap:anywhere")
                            ui.button("Stop", on_click=lambda job=job: self._studio.queue.stop(job)).props("flat dense")
            if not facts and not jobs:
                parts.empty(
                    "There are no runs yet. A run is what a training writes: the model, its losses and its samples.",
                    "Train one",
                    "/train",
                )
            with ui.element("div").classes("pf-grid"):
                for found in facts:
                    self._card(found)

    def _state(self, found: RunFacts) -> str:
        return state_of(self._studio, found)

    def _card(self, found: RunFacts) -> None:
        with ui.link(target=f"/watch?run={quote(found.name)}").classes("pf-choice"):
            if (found.folder / "samples.png").is_file():
                stamp = int(found.changed)
                ui.element("img").props(f'loading="lazy" alt="" src="/file/run/{quote(found.name)}/samples?{stamp}"').classes(
                    "pf-thumb"
                )
            with ui.element("strong"):
                ui.label(found.name)
            if found.problem:
                ui.label("cannot be read").classes("pf-bad pf-small")
                return
            ui.label(f"{found.family} on {found.source}").classes("pf-soft pf-small")
            parts.pills([self._state(found), *([f"{found.done:,} steps"] if found.steps else [])])
