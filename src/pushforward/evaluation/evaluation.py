"""The evaluation that users hold: its findings, with their plots and pages."""

from dataclasses import dataclass
from pathlib import Path

from pushforward.evaluation.findings import Findings
from pushforward.evaluation.report import page, plots, text
from pushforward.plots import Plot

__all__ = ["Evaluation"]


@dataclass(frozen=True, eq=False)
class Evaluation(Findings):
    """How good a model is, in figures; :func:`~pushforward.evaluation.evaluate` makes one.

    Attributes
    ----------
    figures : tuple of Figure
        In the order of the report.
    model : str
        Name of the family.
    about : mapping
        What was evaluated: ``source``, ``kind`` and shape of the data, numbers of rows, seed, training.
    failures : mapping
        Parts that could not be computed, with the reason. The other parts are not affected.
    skipped : mapping
        Parts that do not apply, with the reason.
    seconds : mapping
        Duration of each part.
    curve : sequence of mappings
        Learning curve: lines of ``metrics.jsonl``.
    arrays : mapping of arrays
        The rows that plots are drawn from: samples, held-out rows, nearest training rows, latents, paths.

    >>> from pushforward.evaluation import Figure, Measure
    >>> recall, floor = Measure(0.2, 0.1, 0.3, 500, p_value=0.001, side="below"), Measure(0.9, 0.8, 1.0, 500)
    >>> figure = Figure("recall", "samples", recall, better="higher", floor=floor)
    >>> Evaluation((figure,), "VAE").table()[["name", "value", "verdict"]].values.tolist()
    [['recall', 0.2, 'below the floor']]
    """

    def plot(self, name: str = "figures") -> Plot:
        """Draw a plot of the evaluation, as the report shows it.

        Parameters
        ----------
        name : str
            "figures" (intervals beside their noise floors), or another of :meth:`plots`.

        Raises
        ------
        ValueError
            If there is no such plot for this model and data.
        """
        return plots.draw(self, name)

    def plots(self) -> tuple[str, ...]:
        """Return the names that :meth:`plot` can draw."""
        return plots.names(self)

    def report(self, path: str | Path) -> Path:
        """Write everything as one self-contained HTML file, and return its path."""
        return page.write_report(self, path)

    def __str__(self) -> str:
        return text.as_text(self)

    def _repr_html_(self) -> str:
        return page.fragment(self)
