"""Judge: evaluate runs, compare families on data, and read the reports."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import Query
from nicegui import ui

from pushforward._messages import printable
from pushforward.data.builtin import BUILTIN
from pushforward.models.files.registry import family_names
from pushforward.studio import parts
from pushforward.studio.commands import options_of
from pushforward.studio.jobs import Job
from pushforward.studio.pages.beside import MOST, address_of, show_beside
from pushforward.studio.runs import FIRST, RunFacts, facts_of, figures_of
from pushforward.studio.shared import Studio
from pushforward.studio.workspace import Refused, safe_name

__all__ = ["add_page"]

_NOT_COMPARED = ("flow-map",)
_LOG_LINES = 12


def add_page(studio: Studio) -> None:
    """Add the page ``/judge``."""

    @ui.page("/judge")
    async def judge(run: Annotated[list[str] | None, Query()] = None, comparison: str = "") -> None:
        runs = [name for name in run or [] if name]
        with parts.frame(", ".join(runs)[:60] or comparison[:60] or "Judge", "Judge"):
            try:
                if len(runs) > 1:
                    await show_beside(studio, runs)
                elif runs:
                    name = runs[0]
                    _Report(studio, name, studio.workspace.run(name), f"/file/run/{quote(name)}/report").build()
                elif comparison:
                    folder = studio.workspace.compare / comparison
                    if studio.queue.of(folder) is None:
                        folder = studio.workspace.comparison(comparison)
                    _Report(studio, comparison, folder, f"/file/comparison/{quote(comparison)}/report").build()
                else:
                    await _all(studio)
            except Refused as error:
                parts.problem(error)
                ui.link("All runs", "/judge")


async def _all(studio: Studio) -> None:
    parts.heading("Judge")
    parts.note("How good a model is, in figures with a noise floor: the difference between two samples of the data themselves.")
    measured = await parts.waited(_measured, studio)
    if measured is None:
        return
    if isinstance(measured, Exception):
        parts.problem(measured)
    elif measured:
        with parts.card("Runs side by side"):
            _table([found for found, _ in measured], {found.name: figures for found, figures in measured})
            parts.note(
                "Open a run to measure it, or to read its report. Choose several to read them side by side. Figures on "
                "different data cannot be compared, nor can losses of different families.",
                "pf-small",
            )
    else:
        parts.empty("There is no finished run to judge yet.", "Train one", "/train")
    _compare(studio)
    names = studio.workspace.comparison_names()
    if names:
        with parts.card("Comparisons"):
            for name in names[:40]:
                ui.link(name, f"/judge?comparison={quote(name)}")


def _measured(studio: Studio) -> list[tuple[RunFacts, list[dict[str, Any]]]]:
    """Return the finished runs with the figures of their evaluations."""
    runs = [facts_of(studio.workspace.run(name)) for name in studio.workspace.run_names()]
    return [(found, figures_of(found.folder)) for found in runs if found.finished]


def _table(runs: list[RunFacts], figures: dict[str, list[dict[str, Any]]]) -> None:
    """Show runs as rows and figures as columns, the most common ones first."""
    counted: dict[str, int] = {}
    for rows in figures.values():
        for name in dict.fromkeys(row["name"] for row in rows):
            counted[name] = counted.get(name, 0) + 1
    names = sorted(counted, key=lambda name: (name not in FIRST, -counted[name]))[:8]
    words = [("run", "Run"), ("family", "Family"), ("data", "Data")]
    columns = [parts.column(key, label) for key, label in words]
    columns += [parts.column(key, label, number=True) for key, label in (("loss", "Held-out loss"), ("seconds", "Training, s"))]
    columns += [parts.column(f"f{i}", name, number=True) for i, name in enumerate(names)]
    rows = []
    for found in runs:
        values = {row["name"]: row["value"] for row in reversed(figures[found.name])}
        rows.append(
            {
                "run": found.name,
                "family": found.family,
                "data": found.source,
                "loss": None if found.held_out_loss is None else float(f"{found.held_out_loss:.4g}"),
                "seconds": None
                if found.seconds is None
                else float(f"{found.seconds:.2g}" if found.seconds < 10 else f"{found.seconds:.0f}"),
            }
            | {f"f{i}": values.get(name) for i, name in enumerate(names)}
        )
    table = parts.table(columns, rows, "run")
    table.set_selection("multiple")
    link = """<q-td :props="props"><a :href="'/judge?run=' + encodeURIComponent(props.value)">{{ props.value }}</a></q-td>"""
    table.add_slot("body-cell-run", link)

    def open_chosen() -> None:
        names = [row["run"] for row in table.selected]
        if 2 <= len(names) <= MOST:
            ui.navigate.to(address_of(names))
        else:
            ui.notify(f"Choose from 2 to {MOST} runs, by the boxes in front of them.", type="warning")

    with ui.element("div"):
        ui.button("Side by side", icon="view_column", on_click=open_chosen).props("outline")


def _compare(studio: Studio) -> None:
    with parts.card("Compare families on the same data"):
        parts.note("Each family is trained for the same time, measured on held-out rows, and ranked.")
        with ui.element("div").classes("pf-two"):
            data = ui.select([*BUILTIN, *studio.workspace.sources()], value="moons", label="Data").props("outlined")
            families = [name for name in family_names() if name not in _NOT_COMPARED]
            chosen = ui.select(families, multiple=True, value=["gmm", "flow-matching"], label="Families").props(
                "outlined use-chips"
            )
            budget = ui.select(
                {"10s": "10 seconds", "1m": "1 minute", "5m": "5 minutes"}, value="1m", label="Time for each"
            ).props("outlined")
            name = ui.input("Name", placeholder="after the data").props("outlined maxlength=60")

        def start() -> None:
            if not chosen.value:
                ui.notify("Choose at least one family.", type="warning")
                return
            source = str(data.value)
            stem = safe_name(name.value or Path(source.rpartition("/")[2]).stem)
            folder = studio.workspace.vacant(studio.workspace.compare, stem)
            words = ["compare", source, "--models", ",".join(chosen.value), "--budget", str(budget.value), "--seeds", "1"]
            words += options_of(studio.workspace.choices(source))
            try:
                studio.queue.add([*words, "--out", f"compare/{folder.name}"], folder)
            except Refused as error:
                ui.notify(str(error), type="negative", multi_line=True)
                return
            ui.navigate.to(f"/judge?comparison={quote(folder.name)}")

        with ui.element("div"):
            ui.button("Compare", on_click=start).props("unelevated")


class _Report:
    """The evaluation of a run, or a comparison: its progress, its figures, its report."""

    def __init__(self, studio: Studio, name: str, folder: Path, address: str) -> None:
        self._studio, self._name, self._folder, self._address = studio, name, folder, address
        self._is_run, self._stamp = "/run/" in address, -1.0

    def build(self) -> None:
        """Lay out the page, and follow the command that writes the report."""
        with ui.element("div").classes("pf-row pf-between"):
            parts.heading(f"{'Evaluation of' if self._is_run else 'Comparison:'} {self._name[:100]}")
            self._button = ui.element("div").classes("pf-row")
        self._progress = ui.element("div").classes("pf-column")
        self._report = ui.element("div").classes("pf-stack")
        self._shown: object = None
        self._look()
        ui.timer(0.5, self._look)

    def _job(self) -> Job | None:
        """Return the newest command that writes this report."""
        place = self._folder.relative_to(self._studio.workspace.root)
        verb = "evaluate" if self._is_run else "compare"
        mine = [job for job in self._studio.queue.jobs.values() if job.verb == verb and job.folder == str(place)]
        return max(mine, key=lambda job: job.made, default=None)

    def _look(self) -> None:
        job, report = self._job(), self._folder / "report.html"
        stamp = report.stat().st_mtime if report.is_file() else 0.0
        log = "" if job is None or job.state == "waiting" else self._studio.queue.log(job)
        shown = (None if job is None else (job.id, job.state), stamp, log)
        if shown == self._shown:
            return
        self._shown = shown
        active = job is not None and job.state in ("waiting", "running")
        self._button.clear()
        with self._button:
            if active and job is not None:
                ui.button("Stop", icon="stop", on_click=lambda: self._studio.queue.stop(job)).props("outline")
            elif self._is_run:
                ui.button("Evaluate again" if stamp else "Evaluate", on_click=self._evaluate).props(
                    "unelevated" if not stamp else "outline"
                )
        self._progress.clear()
        with self._progress:
            self._tell(job, log, stamp)
        if stamp != self._stamp:
            self._stamp = stamp
            self._report.clear()
            if stamp:
                with self._report:
                    self._show()

    def _tell(self, job: Job | None, log: str, stamp: float) -> None:
        if job is not None and job.state in ("waiting", "running"):
            with parts.card():
                ui.linear_progress(show_value=False).props('indeterminate rounded size=6px aria-label="At work"')
                ui.label("Waiting in the queue." if job.state == "waiting" else "Working:").props('aria-live="polite"')
                if log:
                    ui.label(printable("\n".join(log.strip().splitlines()[-_LOG_LINES:]))).classes("pf-code")
        elif job is not None and job.state in ("failed", "stopped") and job.ended and job.ended > stamp:
            parts.problem("It was stopped." if job.state == "stopped" else self._studio.queue.said(job))
        elif not stamp and self._is_run:
            with parts.card(classes="pf-empty"):
                ui.label("This run has not been measured yet. An evaluation takes from seconds to minutes.")

    def _show(self) -> None:
        parts.report(self._address, self._name, self._folder / "report.html")
        figures = figures_of(self._folder) if self._is_run else []
        if figures:
            with parts.card("Figures"):
                shown = [
                    ("name", "Figure"),
                    ("value", "Value"),
                    ("floor", "Noise floor"),
                    ("unit", "Unit"),
                    ("verdict", "Verdict"),
                ]
                shown += [("reference", "Against")] + ([("space", "Features")] if any(row["space"] for row in figures) else [])
                columns = [parts.column(key, label, number=key in ("value", "floor")) for key, label in shown]
                parts.table(columns, [row | {"id": number} for number, row in enumerate(figures)], "id")

    def _evaluate(self) -> None:
        try:
            place = self._folder.relative_to(self._studio.workspace.root)
            self._studio.queue.add(["evaluate", str(place), "--overwrite"], self._folder)
        except Refused as error:
            ui.notify(str(error), type="negative", multi_line=True)
        self._look()
