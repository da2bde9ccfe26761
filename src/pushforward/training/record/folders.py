"""Folders that files are to be written into: what is missing of them, and whether they can be written to."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pushforward._messages import Argument, naming

__all__ = ["check_writable", "missing_of", "remove_empty", "writing_into"]

_OUT = Argument("out")


def check_writable(folder: Path) -> None:
    """Raise an OSError if no file can be written into a folder, which may be missing; nothing is left there."""
    missing = missing_of(folder)
    try:
        with writing_into(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
    finally:
        remove_empty(missing)


def missing_of(folder: Path) -> list[Path]:
    """Return those of a folder and its parents that do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, up to the first one that holds something."""
    with contextlib.suppress(OSError):
        for path in folders:
            path.rmdir()


@contextlib.contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Make an OSError within the context say that the folder is the cause."""
    try:
        yield
    except OSError as error:
        message = f"nothing can be written into {folder} ({error.strerror or error}); choose another folder with {_OUT}"
        raise naming(type(error)(message), _OUT) from None
