"""Progress of work that has named parts: live on a terminal, elsewhere a plain line after each part."""

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from pushforward._messages import encodable
from pushforward.training.record.progress import clock

__all__ = ["PartProgress"]

PLAIN_SECONDS = 10.0


class PartProgress:
    """Shows the current part, the number of parts done, and the time.

    Parameters
    ----------
    visible : bool
        Whether to show anything.

    >>> with PartProgress(False) as progress:
    ...     progress.begin("speed")
    ...     progress.end("speed")
    """

    def __init__(self, visible: bool) -> None:
        self._visible, self._done, self._total, self._name, self._note = visible, 0, 0, "", ""
        self._began = self._part_began = self._due = time.perf_counter()
        self._console: Console | None = None
        self._live: Live | None = None

    def __enter__(self) -> "PartProgress":
        if self._visible:
            self._console = Console(highlight=False)
            if self._console.is_terminal:
                self._live = Live(get_renderable=self._text, console=self._console, refresh_per_second=5, transient=True)
                self._live.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def expect(self, parts: int) -> None:
        """Set the number of parts still to come."""
        self._total = self._done + parts

    def begin(self, name: str) -> None:
        """Begin a part."""
        self._name, self._note, self._part_began = name, "", time.perf_counter()
        self._due = self._part_began + PLAIN_SECONDS

    def note(self, text: str) -> None:
        """Show how far the part is."""
        self._note = text
        if self._console is not None and self._live is None and time.perf_counter() >= self._due:
            self._console.print(encodable(self._line(), self._console.encoding), markup=False)
            self._due = time.perf_counter() + PLAIN_SECONDS

    def end(self, name: str, failure: str | None = None) -> None:
        """End a part, with the reason if it failed."""
        self._done += 1
        took = clock(time.perf_counter() - self._part_began)
        if self._console is not None and (self._live is None or failure):
            line = f"{name}: {f'failed: {failure}' if failure else took}"
            self._console.print(encodable(line, self._console.encoding), markup=False)

    def _text(self) -> Text:
        encoding = "utf-8" if self._console is None else self._console.encoding
        return Text(encodable(self._line(), encoding), no_wrap=True, overflow="ellipsis")

    def _line(self) -> str:
        of = f" of {self._total}" if self._total else ""
        parts = [f"{self._done}{of} done", self._name, self._note, clock(time.perf_counter() - self._began)]
        return " · ".join(part for part in parts if part)
