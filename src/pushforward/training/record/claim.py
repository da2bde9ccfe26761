"""The claim of one process on a folder, so that no two of them write into it at once.

A claim is a lock of the system on the file ``.lock`` in the folder. The system releases it when the process ends, however that
happens, so a killed run can be resumed at once.
"""

import contextlib
import errno
import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from pushforward.training.record.folders import missing_of, remove_empty, writing_into

__all__ = ["FolderInUse", "claimed", "is_vacant"]

LOCK = ".lock"
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)
_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the text, which others must be able to read
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderInUse(OSError):  # noqa: N818 - named after the state, like FileExistsError
    """Another process, or another thread of this one, writes into the folder."""

    def __init__(self, folder: Path, holder: str) -> None:
        super().__init__(f"{folder} is in use by {holder}; wait until it has ended, or stop it, and try again")


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Create a folder if it is missing, and keep all others out of it within the context.

    A folder that the claim created and that is still empty at the end is removed.

    Raises
    ------
    FolderInUse
        If another claim on the folder is held.
    OSError
        If the folder cannot be written to.
    """
    created = missing_of(folder)
    descriptor = _opened(folder)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (folder / LOCK).unlink()
        os.close(descriptor)
        remove_empty(created)


def is_vacant(folder: Path) -> bool:
    """Whether a folder is missing or empty; the lock of a claim does not count."""
    return not folder.exists() or (folder.is_dir() and all(path.name == LOCK for path in folder.iterdir()))


def _opened(folder: Path) -> int:
    """Return the descriptor of the locked file; the lock is held until it is closed."""
    path = folder / LOCK
    while True:
        with writing_into(folder):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileExistsError:
                if folder.exists() and not folder.is_dir():
                    raise
                continue  # another claim has ended and removed the folder while mkdir looked at it
            try:
                descriptor = os.open(path, _FLAGS, 0o666)
            except FileNotFoundError:  # the same, between the two lines
                continue
        try:
            _lock(descriptor)
        except OSError as error:
            if error.errno in _HELD:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise FolderInUse(folder, holder) from None
            # This file system has no locks: the folder is used without one.
        if _is_at(path, descriptor):
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        os.close(descriptor)  # another claim has ended and removed the file after it was opened here


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(descriptor: int) -> str:
    """Return the words for the process that wrote its number into the file."""
    with contextlib.suppress(OSError):
        text = os.read(descriptor, 200).decode("ascii", "replace")
        if re.fullmatch(r"process \d+ on [\w.-]+", text):
            return text
    return "another process"
