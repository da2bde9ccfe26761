"""Ctrl-C during training: the current step is finished first, so that the state is one that can be resumed."""

import signal
import threading
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

__all__ = ["Interrupted", "StopRequest"]


class Interrupted(KeyboardInterrupt):
    """Training was stopped by Ctrl-C, between two steps.

    Attributes
    ----------
    step, steps : int
        Steps done, and steps of the whole run.
    folder : Path or None
        Where the checkpoint was saved, or None if the run had no folder and its progress is lost.
    """

    def __init__(self, step: int, steps: int, folder: Path | None) -> None:
        kept = (
            f"saved in {folder}; train again with resume=True to go on"
            if folder is not None
            else "not saved: there is no folder"
        )
        super().__init__(f"Stopped after step {step} of {steps}, {kept}.")
        self.step, self.steps, self.folder = step, steps, folder


class StopRequest:
    """Context that turns the first Ctrl-C into ``set``; the second one interrupts at once.

    Outside the main thread, which alone gets signals, it does nothing.
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
