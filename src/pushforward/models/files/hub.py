"""Models on a hub of Hugging Face: ``hf://owner/name`` or ``hf://owner/name@revision``, through huggingface_hub.

What comes from a hub is a folder from a stranger. Only the files of a model are fetched, by their names, and they are read
under the rules of any folder. ``HF_ENDPOINT``, ``HF_TOKEN`` and ``HF_HOME`` mean what they mean to huggingface_hub.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from pushforward._messages import lacking
from pushforward._version import __version__
from pushforward.models.files.card import AGAIN, CARD, WEIGHTS, read_card
from pushforward.training.record.files import RunError, inside

__all__ = ["FILES", "fetched", "is_remote", "push"]

FILES = (CARD, WEIGHTS, "calibrations.json")
"""Files of a model."""
_SHOWN = ("samples.png", "evaluation.json", "metrics.jsonl")  # about the model; pushed if the run has them
_NAME = re.compile(r"hf:/{1,2}([\w.-]+/[\w.-]+)(?:@([\w./-]+))?", re.ASCII)  # a Path has one of the two slashes

T = TypeVar("T")


def is_remote(name: object) -> bool:
    """Whether a folder is named by its place on a hub.

    >>> is_remote("hf://owner/name"), is_remote("runs/digits")
    (True, False)
    """
    return str(name).startswith("hf:/")


@contextlib.contextmanager
def fetched(place: object) -> Iterator[Path]:
    """Fetch a model and yield its folder, which is deleted at the end of the context.

    Raises
    ------
    ValueError
        If ``place`` does not name a model on a hub.
    FileNotFoundError
        If the hub has no such model.
    OSError
        If the hub cannot be reached.
    """
    match = _NAME.fullmatch(str(place))
    if match is None:
        raise ValueError(f"{place} is no place on a hub; write hf://owner/name, or hf://owner/name@revision")
    hub = _hub()
    name, revision = match.groups()
    stored = Path(
        _asked(
            hub,
            name,
            lambda: hub.snapshot_download(name, revision=revision, allow_patterns=list(FILES), endpoint=_endpoint()),
        )
    )
    with tempfile.TemporaryDirectory(prefix="pushforward-") as folder:
        # The files of the cache of huggingface_hub are links, which no run folder may hold.
        for file in FILES:
            if (stored / file).is_file():
                shutil.copyfile(stored / file, Path(folder) / file)
        if not (Path(folder) / CARD).is_file():
            raise FileNotFoundError(f"{name} on the hub is no model of pushforward: it has no {CARD}")
        yield Path(folder)


def push(folder: Path, name: str, card: str, *, private: bool = False) -> str:
    """Push a finished run, with its card as README.md, to ``owner/name`` on a hub, and return the address.

    Checkpoints, plots of training and the rows that an evaluation has kept are not pushed.

    Raises
    ------
    ValueError
        If ``name`` is not "owner/name", or the run is not finished.
    OSError
        If the hub cannot be reached or refuses.
    """
    if re.fullmatch(r"[\w.-]+/[\w.-]+", name, re.ASCII) is None:
        raise ValueError(f"{name!r} is no name of a model on a hub; write owner/name")
    if read_card(folder)["status"] != "finished":
        raise RunError(folder, "holds an unfinished run, so there is no model to push yet", "finish it first")
    files = [file for file in (*FILES, *_SHOWN) if inside(folder, file).is_file()]
    if WEIGHTS not in files:
        raise RunError(folder / WEIGHTS, "is missing", AGAIN)
    hub = _hub()
    api = hub.HfApi(endpoint=_endpoint(), library_name="pushforward", library_version=__version__)
    adds = [hub.CommitOperationAdd(path_in_repo=file, path_or_fileobj=str(folder / file)) for file in files]
    adds.append(hub.CommitOperationAdd(path_in_repo="README.md", path_or_fileobj=card.encode()))

    def send() -> str:
        address = api.create_repo(name, private=private, exist_ok=True)
        api.create_commit(name, adds, commit_message=f"Model of pushforward {__version__}")
        return str(address)

    return _asked(hub, name, send)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _hub() -> ModuleType:
    try:
        import huggingface_hub.errors  # optional
    except ImportError:
        raise lacking("a model on a hub", "huggingface_hub", "hub") from None
    return huggingface_hub


def _asked(hub: Any, name: str, call: Callable[[], T]) -> T:
    """Return what a call to the hub returns; its errors become those of this library."""
    at = _endpoint()
    try:
        return call()
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError):
        raise FileNotFoundError(
            f"{at} has no model {name}, or it is private and the token (HF_TOKEN) may not read it; check the name"
        ) from None
    except hub.errors.HfHubHTTPError as error:
        status = error.response.status_code
        cure = "log in with `hf auth login`, or set HF_TOKEN" if status in (401, 403) else "try again later"
        raise OSError(f"{at} refuses {name} with status {status}; {cure}") from None
    except hub.errors.LocalEntryNotFoundError:
        raise OSError(f"{at} cannot be reached, and {name} was never fetched here; connect, or set HF_ENDPOINT") from None
    except OSError:
        raise
    except Exception as error:
        if type(error).__module__.startswith(("httpx", "httpcore", "requests")):
            raise OSError(f"{at} cannot be reached: {error}; connect, or set HF_ENDPOINT") from None
        raise
