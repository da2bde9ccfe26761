"""The progress line: live on a terminal, otherwise a plain line every few seconds."""

import time
from types import TracebackType
from typing import Any

from pushforward._messages import encodable

__all__ = ["Progress"]

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 10.0


class Progress:
    """Shows step, losses, rows per second and the time left.

    Parameters
    ----------
    steps : int
        Steps of the whole run.
    first : int
        Step at which this process started.
    visible : bool
        Whether to show anything.
    rows : str
        The word for the rows of the data.
    """

    def __init__(self, steps: int, first: int, visible: bool, rows: str = "rows") -> None:
        self._steps, self._first, self._speed = steps, first, f"{rows}/s"
        self._values: dict[str, float | None] = {"loss": None, "held-out loss": None, self._speed: None}
        self._live: Any = None
        self._console: Any = None
        self._started = time.perf_counter()
        self._due = self._started if visible else float("inf")

    def __enter__(self) -> "Progress":
        if self._due < float("inf"):
            from rich.console import Console
            from rich.live import Live

            self._console = Console(highlight=False)
            if self._console.is_terminal:
                self._live = Live(self._text(self._first), console=self._console, auto_refresh=False)
                self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def note(self, **values: float | None) -> None:
        """Set the values of the next line: ``loss``, ``held_out_loss``, ``rows_per_second``."""
        names = {"loss": "loss", "held_out_loss": "held-out loss", "rows_per_second": self._speed}
        self._values |= {names[key]: value for key, value in values.items()}

    def expect(self, steps: int) -> None:
        """Set the number of steps of the whole run."""
        self._steps = steps

    def tick(self, step: int) -> None:
        """Show the line after ``step`` if it is due, or the run is at its end."""
        now = time.perf_counter()
        if now < self._due and not (step == self._steps and self._console is not None):
            return
        if self._live is not None:
            self._live.update(self._text(step), refresh=True)
            self._due = now + LIVE_SECONDS
        elif self._console is not None:
            self._console.print(encodable(self._line(step), self._console.encoding))
            self._due = now + PLAIN_SECONDS

    def _text(self, step: int) -> Any:
        from rich.text import Text

        return Text(encodable(self._line(step), self._console.encoding))

    def _line(self, step: int) -> str:
        parts = [f"step {step:,} of {self._steps:,}"]
        for name, value in self._values.items():
            if value is not None:
                parts.append(f"{name} {value:,.0f}" if name == self._speed else f"{name} {value:.4g}")
        if step > self._first:
            elapsed = time.perf_counter() - self._started
            parts.append(f"{clock(elapsed / (step - self._first) * (self._steps - step))} left")
        return " · ".join(parts)


def clock(seconds: float) -> str:
    """Format a time for display.

    >>> clock(7.2), clock(312), clock(7440)
    ('7 s', '5 min 12 s', '2 h 4 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
