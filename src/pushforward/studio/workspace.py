"""The folder that a studio works in: uploaded data, run folders, comparisons, and the studio's own notes.

    data/           what was uploaded or drawn: files, and folders of files
    runs/           run folders, as ``pushforward train`` writes them
    compare/        comparisons, as ``pushforward compare`` writes them
    .studio/        the queue, choices for data, thumbnails; nothing that a run needs

A name from a browser is used only if it is the name of an entry of such a folder, so no path leads out of it.
"""

import contextlib
import json
import os
import re
import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from pushforward.data.builtin import BUILTIN

__all__ = ["TABLES", "Refused", "Workspace", "safe_name"]

TABLES = (".csv", ".parquet")
FILES = (*TABLES, ".tsv", ".npy", ".npz", ".txt", ".zip")
GATHERED = {
    "sounds": (".wav", ".flac", ".ogg"),
    "images": (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif"),
    "clouds": (".ply", ".xyz"),
}
_MOST_MEMBERS, _MOST_UNPACKED = 100_000, 2 << 30
_LONGEST = 80
_COPY_BYTES = 1 << 20


class Refused(ValueError):  # noqa: N818 - what the user is told, not a fault
    """Something that the studio does not do; the message says why and what to do instead."""


def safe_name(name: str) -> str:
    r"""Return a name for a file or folder that keeps letters of all languages and spaces, and nothing that leads elsewhere.

    >>> safe_name("../../etc/passwd"), safe_name("Größe 1.csv"), safe_name("C:\\x\\a<b>.csv"), safe_name("..")
    ('passwd', 'Größe 1.csv', 'a b .csv', 'data')
    """
    last = unicodedata.normalize("NFC", name).replace("\\", "/").rstrip("/").rpartition("/")[2]
    plain = "".join(c if c.isprintable() and c not in '<>:"|?*`$' else " " for c in last)
    plain = re.sub(r"\s+", " ", plain).strip(" .-")
    stem, dot, ending = plain.rpartition(".")
    cut = f"{stem[:_LONGEST]}{dot}{ending[:10]}" if dot and stem else plain[:_LONGEST]
    return cut or "data"


class Workspace:
    """The folders of a studio, and the names in them."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self.data, self.runs, self.compare = self.root / "data", self.root / "runs", self.root / "compare"
        self.notes = self.root / ".studio"

    def names(self, folder: Path) -> list[str]:
        """Return the names of the entries of a folder, the newest first, without links and hidden ones."""
        if not folder.is_dir():
            return []
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".") and not entry.is_symlink()]
        return [entry.name for entry in sorted(entries, key=lambda entry: -entry.stat().st_mtime)]

    def run_names(self) -> list[str]:
        """Return the names of the run folders, the newest first."""
        return [name for name in self.names(self.runs) if (self.runs / name / "model.json").is_file()]

    def comparison_names(self) -> list[str]:
        """Return the names of the comparisons, the newest first."""
        return [name for name in self.names(self.compare) if (self.compare / name).is_dir()]

    def run(self, name: str) -> Path:
        """Return the folder of a run; Refused if there is none of this name."""
        return self._entry(self.runs, name, "run")

    def comparison(self, name: str) -> Path:
        """Return the folder of a comparison; Refused if there is none of this name."""
        return self._entry(self.compare, name, "comparison")

    def _entry(self, folder: Path, name: str, what: str) -> Path:
        if name not in self.names(folder):
            raise Refused(f"There is no {what} “{name[:_LONGEST]}” in {folder.name}/. It may have been moved or deleted.")
        return folder / name

    def sources(self) -> list[str]:
        """Return the data in this workspace as the command line names them: ``data/NAME``."""
        return [f"data/{name}" for name in self.names(self.data)]

    def source(self, name: str) -> Path | str:
        """Return what ``open_data`` takes for built-in data or data of this workspace; Refused if there are none."""
        if name in BUILTIN:
            return name
        folder, _, entry = name.partition("/")
        if folder != "data":
            raise Refused(f"There are no data “{name[:_LONGEST]}”. Choose some on the page Data.")
        return self._entry(self.data, entry, "data set")

    def vacant(self, folder: Path, name: str) -> Path:
        """Return a path in a folder that does not exist, with a number if the name is taken."""
        stem, dot, ending = name.rpartition(".")
        if not dot or not stem or len(ending) > 8:
            stem, dot, ending = name, "", ""
        number, path = 1, folder / name
        while os.path.lexists(path):
            number += 1
            path = folder / f"{stem}-{number}{dot}{ending}"
        return path

    def keep(self, files: Iterable[tuple[str, BinaryIO]]) -> Path:
        """Store uploaded files, a .zip as a folder, sounds and images together in one; return the path of the data."""
        given = [(safe_name(name), content) for name, content in files]
        if not given:
            raise Refused("No file was received. Choose one, or drop it on the field.")
        name, content = given[0]
        ending = Path(name).suffix.lower()
        kind = next((kind for kind, endings in GATHERED.items() if ending in endings), None)
        self.data.mkdir(parents=True, exist_ok=True)
        if kind is not None:
            return self._keep_folder(kind, given)
        if len(given) > 1:
            raise Refused("Several files at once must be sounds, images or point clouds. Give a table or an array alone.")
        if ending not in FILES:
            known = ", ".join((*FILES, *(ending for endings in GATHERED.values() for ending in endings)))
            raise Refused(f"“{name}” ends in {ending or 'nothing'}, which is not a data format. The formats are {known}.")
        path = self.vacant(self.data, name if ending != ".zip" else Path(name).stem)
        try:
            if ending == ".zip":
                _unpack(content, path)
            else:
                with path.open("wb") as file:
                    shutil.copyfileobj(content, file, _COPY_BYTES)
        except BaseException:
            self.drop(path)
            raise
        return path

    def _keep_folder(self, kind: str, given: list[tuple[str, BinaryIO]]) -> Path:
        endings = GATHERED[kind]
        for name, _ in given:
            if Path(name).suffix.lower() not in endings:
                raise Refused(f"“{name}” does not belong to the {kind}. Give files of one kind at a time.")
        folder = self.vacant(self.data, kind)
        folder.mkdir()
        for name, content in given:
            with self.vacant(folder, name).open("wb") as file:
                shutil.copyfileobj(content, file, _COPY_BYTES)
        return folder

    def drop(self, path: Path) -> None:
        """Delete data of this workspace."""
        if path.parent != self.data:
            raise Refused("Only data of this workspace can be deleted.")
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
        self._choices_file(f"data/{path.name}").unlink(missing_ok=True)

    def choices(self, source: str) -> dict[str, Any]:
        """Return what was chosen for data: ``columns`` (types by name), ``condition``."""
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(self._choices_file(source).read_text(encoding="utf-8"))
            if isinstance(found, dict):
                return found
        return {}

    def choose(self, source: str, choices: dict[str, Any]) -> None:
        """Store what was chosen for data."""
        self.note(self._choices_file(source), choices)

    def note(self, path: Path, content: Any) -> None:
        """Write a JSON file of the studio in one piece."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
        temporary.replace(path)

    def _choices_file(self, source: str) -> Path:
        return self.notes / "choices" / f"{source.replace('/', '--')}.json"


def _unpack(content: BinaryIO, folder: Path) -> None:
    """Unpack a .zip into a new folder: plain files alone, inside it, and no more than fit."""
    try:
        with zipfile.ZipFile(content) as archive:
            members = [member for member in archive.infolist() if not member.is_dir() and not _is_hidden(member.filename)]
            if len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _MOST_UNPACKED:
                raise Refused(
                    f"The archive unpacks to more than {_MOST_MEMBERS:,} files or {_MOST_UNPACKED >> 30} GB. Give a part."
                )
            if not members:
                raise Refused("The archive holds no files.")
            parts = [PurePosixPath(member.filename.replace("\\", "/")).parts for member in members]
            inner = 1 if len({part[0] for part in parts}) == 1 and all(len(part) > 1 for part in parts) else 0
            room = _MOST_UNPACKED
            for member, part in zip(members, parts, strict=True):
                mode = member.external_attr >> 16
                if (
                    ".." in part
                    or part[0].startswith("/")
                    or ":" in part[0]
                    or (mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG))
                ):
                    raise Refused("The archive holds a path that leads out of it, or a link. Pack the files themselves.")
                target = folder.joinpath(*map(safe_name, part[inner:]))
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as file, target.open("wb") as out:
                    while block := file.read(_COPY_BYTES):
                        room -= len(block)
                        if room < 0:
                            raise Refused("The archive is larger than it says. Pack it again.")
                        out.write(block)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise Refused(f"The archive cannot be unpacked ({error}). Pack it again as a plain .zip without a password.") from None


def _is_hidden(name: str) -> bool:
    parts = PurePosixPath(name.replace("\\", "/")).parts
    return any(part.startswith((".", "__MACOSX")) and part not in (".", "..") for part in parts)
