"""The newest weights of a run for those who watch it: ``live.safetensors``, which is written while somebody asks for it.

A watcher calls :func:`watch` every few seconds, which renews the file ``.watched`` in the run folder. While that is fresh, the
run writes its averaged weights several times per second, without waiting for the disk. Otherwise it writes nothing, and the
cost is one check of a file.
"""

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from pushforward.training.record.files import inside, read_file

__all__ = ["LiveFile", "read_live", "watch"]

LIVE, WATCHED = "live.safetensors", ".watched"
FRESH_SECONDS = 6.0
PAUSE_SECONDS = 0.13
_SLACK = 1 << 20


class LiveFile:
    """Writes the weights of a run where they are asked for; does nothing without a folder."""

    def __init__(self, folder: Path | None) -> None:
        self._folder, self._due = folder, time.monotonic() + PAUSE_SECONDS

    def write(self, step: int, weights: Callable[[], dict[str, Tensor]]) -> None:
        """Write the weights after a step, if somebody watches and the last ones are old enough."""
        if self._folder is None or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + PAUSE_SECONDS
        try:
            if time.time() - (self._folder / WATCHED).lstat().st_mtime > FRESH_SECONDS:
                return
        except OSError:
            return
        from safetensors.torch import save

        content = save({name: value.cpu().contiguous() for name, value in weights().items()}, {"step": str(step)})
        path = inside(self._folder, LIVE)
        temporary = path.with_name(f".{LIVE}.new")
        with contextlib.suppress(OSError):  # a full disk must not end a run for the sake of those who watch it
            temporary.write_bytes(content)
            temporary.replace(path)

    def clear(self) -> None:
        """Delete the file: from now on the weights of the finished run are read."""
        if self._folder is not None:
            for name in (LIVE, f".{LIVE}.new", WATCHED):
                with contextlib.suppress(OSError):
                    (self._folder / name).unlink(missing_ok=True)


def watch(folder: Path) -> None:
    """Ask the run that trains in a folder for its weights, for the next seconds."""
    with contextlib.suppress(OSError):
        (folder / WATCHED).touch()


def read_live(folder: Path, most: int) -> tuple[int, dict[str, Tensor]] | None:
    """Return the step and the weights in a folder, or None if there are none or they are damaged.

    ``most`` is the number of bytes that the weights can have.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import load

    path = folder / LIVE
    try:
        content = read_file(path, most + _SLACK)
        with safe_open(path, "pt") as file:
            step = int((file.metadata() or {})["step"])
        return step, load(content)
    except (OSError, ValueError, KeyError, SafetensorError):
        return None
