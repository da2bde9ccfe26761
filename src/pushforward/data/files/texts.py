"""Read texts from .txt files, and from folders of them, whose sub-folders are classes."""

from pathlib import Path

import numpy as np

from pushforward.data.checks import enumerate_names

__all__ = ["is_text_folder", "read_text", "read_texts"]

_SUFFIX = ".txt"


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with line breaks as one character each.

    Raises
    ------
    ValueError
        If the file is empty or binary.
    """
    content = path.read_bytes()
    if not content.strip():
        raise ValueError(f"{path} is empty; name a file with text in it.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text in UTF-8 (byte {error.start:,} is {content[error.start]:#04x}): it is binary, or in another "
            "encoding; convert it first, e.g. with iconv -t UTF-8."
        ) from None
    if "\x00" in text:
        raise ValueError(f"{path} is binary: it has zero bytes; name a file with text in it.")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_text_folder(folder: Path) -> bool:
    """Whether a folder, or a sub-folder of it, has a .txt file, and none has an image beside it."""
    endings = {path.suffix.lower() for path in _files(folder)}
    return endings == {_SUFFIX}


def read_texts(folder: Path) -> tuple[list[str], np.ndarray | None]:
    """Return the texts of a folder in the order of their paths, and their classes: the names of the sub-folders they are in.

    Raises
    ------
    ValueError
        If a file is empty or binary, or files are both in the folder and in sub-folders.
    """
    paths = sorted(path.relative_to(folder) for path in _files(folder))
    direct = [path for path in paths if len(path.parts) == 1]
    if direct and len(direct) < len(paths):
        nested = next(path for path in paths if len(path.parts) > 1)
        raise ValueError(
            f"{folder} holds texts directly ({enumerate_names(map(str, direct[:1]))}) and in sub-folders ({nested}), so their "
            "classes are unclear; put all texts into sub-folders, or none."
        )
    texts = [read_text(folder / path) for path in paths]
    return texts, None if direct else np.array([path.parts[0] for path in paths], dtype=object)


def _files(folder: Path) -> list[Path]:
    """Return the visible files of a folder and its sub-folders."""
    return [
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    ]
