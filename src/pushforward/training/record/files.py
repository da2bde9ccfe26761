"""Files of a run folder, which may come from a stranger: read if they are plain files, and written whole or not at all."""

import os
import stat
from pathlib import Path

from pushforward._messages import printable

__all__ = ["RunError", "commit_file", "inside", "read_file", "stage_file", "staged", "write_file"]

_OPEN = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_KINDS = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}


class RunError(ValueError):
    """A file of a run folder that cannot be used; the message names the file, what is wrong with it, and the cure."""

    def __init__(self, path: Path, problem: object, cure: str) -> None:
        super().__init__(f"{printable(path)} {printable(problem)}; {printable(cure)}")


def inside(folder: Path, *names: str) -> Path:
    """Return the path of a file or folder inside a folder, which need not exist.

    Raises
    ------
    RunError
        If it, or a folder on the way, is a symbolic link, a device or a pipe: it would lead out of the folder, or block.
    """
    path = folder
    for name in names:
        path = path / name
        try:
            mode = path.lstat().st_mode
        except OSError:  # it does not exist
            continue
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            kind = _KINDS.get(stat.S_IFMT(mode), "a device")
            raise RunError(
                path,
                f"is {kind}, but a run folder holds only files and folders of its own",
                "put a copy of the file itself there, or delete it",
            )
    return path


def read_file(path: Path, most: int) -> bytes:
    """Return the content of a plain file of at most ``most`` bytes.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    RunError
        If it is not a plain file, or larger.
    """
    path = inside(path.parent, path.name)
    if path.is_dir():
        raise RunError(path, "is a folder, not a file", "delete it, or get the run folder again from where it came")
    with os.fdopen(os.open(path, _OPEN), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise RunError(
                path,
                f"has {size:,} bytes, more than the {most:,} that such a file may have",
                "delete it, or get the run folder again from where it came",
            )
        return file.read()


def write_file(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8, in one piece: under another name, flushed to the disk, and then renamed."""
    stage_file(path, content)
    commit_file(path)


def staged(path: Path) -> Path:
    """Return the name under which the next content of a file is written."""
    return path.with_name(f".{path.name}.new")


def stage_file(path: Path, content: bytes | str) -> None:
    """Write the next content of a file beside it, flushed to the disk, for :func:`commit_file`."""
    temporary = staged(path)
    temporary.unlink(missing_ok=True)  # a link there would lead out of the folder
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
    except OSError:
        temporary.unlink(missing_ok=True)  # on a full disk it holds the room that the other files need
        raise


def commit_file(path: Path) -> None:
    """Put the content that :func:`stage_file` wrote in place of the file, in one piece."""
    staged(path).replace(path)
