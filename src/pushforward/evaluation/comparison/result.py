"""The comparison that users hold: its ranking, with advice and pages."""

from dataclasses import dataclass
from pathlib import Path

from pushforward.evaluation.comparison import advice, page
from pushforward.evaluation.comparison.ranking import Ranking

__all__ = ["Comparison"]


@dataclass(frozen=True, eq=False)
class Comparison(Ranking):
    """Models compared on the same rows; :func:`~pushforward.evaluation.run_comparison` makes one.

    Attributes
    ----------
    trials : tuple of Trial
    about : mapping
        ``source``, ``shape``, numbers of rows, budget, seeds.
    folder : Path
        Of all runs and pages.
    """

    def advice(self) -> list[str]:
        """Return what the figures say about which model to take, one topic per sentence."""
        return advice.advice(self)

    def report(self, path: str | Path) -> Path:
        """Write one self-contained HTML file, and return its path."""
        return page.write_comparison(self, path)

    def __str__(self) -> str:
        return page.as_text(self)

    def _repr_html_(self) -> str:
        return page.fragment(self)
