"""Draw from a finished run: samples under several settings side by side, given a part of a row, and between two rows."""

from pathlib import Path
from urllib.parse import quote

from nicegui import ui

from pushforward.studio import parts
from pushforward.studio.drawing import Abilities, able_to
from pushforward.studio.pages.given import Given
from pushforward.studio.pages.samples import Samples
from pushforward.studio.pages.walks import Walks
from pushforward.studio.runs import facts_of
from pushforward.studio.shared import Studio

__all__ = ["add_page"]


def add_page(studio: Studio) -> None:
    """Add the page ``/draw``."""

    @ui.page("/draw")
    async def draw(run: str = "") -> None:
        with parts.frame("Draw", "Draw"):
            if not run:
                _choose(studio)
                return
            parts.heading(f"Draw from {run[:120]}")
            found = await parts.waited(_opened, studio, run)
            if found is None:
                return
            if isinstance(found, Exception):
                parts.problem(found)
                ui.link("Other runs", "/draw")
                return
            folder, abilities = found
            parts.note(f"{abilities.family} on {abilities.source}.")
            if not (abilities.samples or abilities.walks):
                parts.problem("This family compresses rows and restores them, but draws none. Train another, such as a VAE.")
                return
            with ui.tabs().props("no-caps align=left dense inline-label") as tabs:
                named = [ui.tab("Samples")] if abilities.samples else []
                named += [ui.tab("Given a part")] if abilities.part else []
                named += [ui.tab("Between two rows")] if abilities.walks else []
            with ui.tab_panels(tabs, value=named[0]).classes("pf-panels").props("keep-alive"):
                if abilities.samples:
                    with ui.tab_panel("Samples"):
                        Samples(studio, folder, abilities).build()
                if abilities.part:
                    with ui.tab_panel("Given a part"):
                        Given(studio, folder, abilities).build()
                if abilities.walks:
                    with ui.tab_panel("Between two rows"):
                        Walks(studio, folder, abilities).build()


def _opened(studio: Studio, run: str) -> tuple[Path, Abilities]:
    folder = studio.workspace.run(run)
    return folder, studio.models.use(folder, able_to)


def _choose(studio: Studio) -> None:
    parts.heading("Draw")
    finished = [found for name in studio.workspace.run_names() if (found := facts_of(studio.workspace.run(name))).finished]
    if not finished:
        parts.empty("A model draws once its training is finished. There is none yet.", "Train one", "/train")
        return
    parts.note("Choose the model that is to draw.")
    with ui.element("div").classes("pf-grid"):
        for found in finished:
            with ui.link(target=f"/draw?run={quote(found.name)}").classes("pf-choice"):
                picture = f"/file/run/{quote(found.name)}/samples?{int(found.changed)}"
                ui.element("img").props(f'loading="lazy" alt="" src="{picture}"').classes("pf-thumb")
                with ui.element("strong"):
                    ui.label(found.name)
                ui.label(f"{found.family} on {found.source}").classes("pf-soft pf-small")
