"""Learn: the teaching plots, those with parameters under sliders."""

import hashlib
import threading
from pathlib import Path
from typing import Any
from urllib.parse import quote

from nicegui import ui

from pushforward import gallery
from pushforward.gallery.pen import Slider
from pushforward.studio import parts
from pushforward.studio.drawing import data_uri
from pushforward.studio.shared import Studio
from pushforward.studio.thumbnails import png_of

__all__ = ["add_page", "figure_file"]

_TOPICS = {
    "Laws and their exact properties": "Gaussian calculus",
    "Sampling": "Drawing",
    "Estimation and Markov chains": "Estimation",
    "Differential equations": "ODE",
    "Differential equations learned from data": "Neural ODE",
    "Diffusion": "Diffusion",
    "Densities, guidance and posteriors of a diffusion": "Diffusion",
}
_LESSONS = {
    "densities": "Densities and Bayes",
    "posterior": "Densities and Bayes",
    "kl": "Information",
    "maximum-entropy": "Information",
    "markov": "Markov chains",
    "mixture-components": "Mixtures",
    "guidance": "Guidance",
    "brownian": "SDE",
    "strong-order": "SDE",
    "boltzmann": "Energy and Langevin",
    "langevin": "Energy and Langevin",
    "langevin-bias": "Energy and Langevin",
}
_SPELLED = {
    "kl": "KL",
    "em": "EM",
    "cdf": "CDF",
    "rk4": "RK4",
    "ode": "ODE",
    "box muller": "Box–Muller",
    "langevin": "Langevin",
}
_pen = threading.Lock()  # one figure at a time: they share fonts, and the cores are for training


def figure_file(notes: Path, name: str, dpi: int) -> Path:
    """Return the file with a plot of the gallery."""
    if name not in gallery.names():
        raise ValueError(f"there is no plot {name[:60]!r}")
    path = notes / "figures" / f"{hashlib.sha256(f'{name}|{dpi}'.encode()).hexdigest()[:24]}.png"
    with _pen:
        if not path.is_file():
            content = png_of(gallery.draw(name), dpi)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    return path


def add_page(studio: Studio) -> None:
    """Add the page ``/learn``."""

    @ui.page("/learn")
    def learn(figure: str = "") -> None:
        with parts.frame(figure[:60] or "Learn", "Learn"):
            if not figure:
                _topics()
            elif figure in gallery.names():
                _Figure(figure).build()
            else:
                parts.problem(f"There is no plot “{figure[:60]}”.")
                ui.link("All plots", "/learn")


def _topics() -> None:
    parts.heading("Learn")
    parts.note("Plots of what is known exactly, drawn by this library. Those marked with a slider can be changed.")
    for topic, names in gallery.topics().items():
        parts.heading(topic, 2)
        with ui.element("div").classes("pf-grid"):
            for name in names:
                with ui.link(target=f"/learn?figure={quote(name)}").classes("pf-choice"):
                    ui.element("img").props(f'loading="lazy" alt="" src="/file/figure/{quote(name)}"').classes("pf-thumb")
                    with ui.element("strong"):
                        ui.label(_title(name))
                    if gallery.moves(name) or gallery.sliders(name):
                        parts.pills(["slider"])


def _title(name: str) -> str:
    """Return the name of a plot as a heading.

    >>> _title("em-coins"), _title("euler-vs-rk4"), _title("box-muller")
    ('EM coins', 'Euler vs RK4', 'Box–Muller')
    """
    plain = name.replace("-", " ")
    words = _SPELLED.get(plain) or " ".join(_SPELLED.get(word, word) for word in plain.split())
    return words[0].upper() + words[1:]


class _Figure:
    """One plot under its sliders, drawn anew when one has come to rest."""

    def __init__(self, name: str) -> None:
        self._name, self._values = name, dict[str, float]()
        self._drawn, self._wanted, self._busy = -1, 0, False

    def build(self) -> None:
        """Lay out the plot with its sliders, caption and lesson."""
        name = self._name
        parts.heading(_title(name))
        with parts.card():
            self._image = parts.picture(_title(name), f"/file/figure/{quote(name)}/large")
            if gallery.moves(name):
                self._slider("moment", Slider("time", 0.0, 1.0, 0.01, 1.0))
            for parameter, slider in gallery.sliders(name).items():
                self._slider(parameter, slider)
        with parts.card("What it shows"):
            for paragraph in gallery.explain(name).split("\n\n"):
                ui.label(" ".join(paragraph.split())).style("max-width:75ch")
        topic = next(topic for topic, names in gallery.topics().items() if name in names)
        with parts.card("Read on"):
            lesson = _LESSONS.get(name, _TOPICS.get(topic, topic))
            ui.label(f"The lesson “{lesson}” derives it: docs/lessons/{lesson.lower().replace(' ', '-')}.md").style(
                "overflow-wrap:anywhere"
            )
            parts.code(f"pushforward show {name}" + (f" --out {name}.gif" if gallery.moves(name) else ""))
            ui.link("All plots", "/learn")
        ui.timer(0.12, self._draw)

    def _slider(self, name: str, slider: Slider) -> None:
        label = slider.label[0].upper() + slider.label[1:]
        with ui.element("div"):
            said = ui.label(f"{label}: {slider.said(slider.default)}").classes("pf-small pf-soft")

            def change(event: Any) -> None:
                self._values[name] = float(event.value)
                said.text = f"{label}: {slider.said(float(event.value))}"
                self._wanted += 1

            made = ui.slider(min=slider.low, max=slider.high, step=slider.step, value=slider.default)
            made.props(f'aria-label="{label}"').on_value_change(change)

    async def _draw(self) -> None:
        if self._busy or self._wanted in (0, self._drawn):
            return
        self._busy, self._drawn = True, self._wanted
        try:
            content = await parts.attempted(_picture, self._name, dict(self._values))
            if content is not None:
                self._image.props(f'src="{data_uri(content, "image/png")}"')
        finally:
            self._busy = False


def _picture(name: str, values: dict[str, float]) -> bytes:
    with _pen:
        return png_of(gallery.draw(name, **values), 90)
