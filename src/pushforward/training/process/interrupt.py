"""Ctrl-C during training: the current step is finished first, so that the state can be resumed."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C stopped training between two steps.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps of the whole run.
    folder : Path or None
        The folder of the checkpoint, or None if the run had no folder and its progress is lost.
    """

    def __init__(self, step: int, steps: int, folder: Path | None) -> None:
        saved = (
            f"saved in {folder}; train again with resume=True to continue"
            if folder is not None
            else "not saved: there is no folder"
        )
        super().__init__(f"Stopped after step {step} of {steps}, {saved}.")
        self.step, self.steps, self.folder = step, steps, folder


class StopRequest:
    """Context in which the first Ctrl-C sets ``set`` and the second one interrupts at once.

    Only the main thread gets signals; in other threads it does nothing.
    """

    def __init__(self) -> None:
        self.set = False
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, self._handle)
            self._installed = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._installed:
            signal.signal(signal.SIGINT, self._previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.set:
            raise KeyboardInterrupt
        self.set = True
