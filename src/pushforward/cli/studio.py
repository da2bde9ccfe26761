"""``pushforward studio``: a local page to train, watch, compare and draw."""

import os
from pathlib import Path
from typing import Annotated

import typer

from pushforward._messages import lacking
from pushforward.cli.help import help_text

__all__ = ["HELP", "command"]

HELP = help_text(
    "Open a page in the browser to choose data, train, watch, draw, judge and learn.",
    "It writes only ordinary files and run folders, in data/, runs/ and compare/ of --folder. Trainings are processes of their "
    "own, which continue when the page or the studio is closed. Nothing leaves this machine.",
    examples=[
        "pushforward studio",
        "pushforward studio --folder work/ --port 8080",
        "PUSHFORWARD_STUDIO_PASSWORD=... pushforward studio --host 0.0.0.0 --port 8080",
    ],
)
_PASSWORD = "PUSHFORWARD_STUDIO_PASSWORD"


def command(
    folder: Annotated[Path, typer.Option(metavar="DIR", help="Folder to work in.")] = Path(),
    host: Annotated[
        str,
        typer.Option(metavar="NAME", help=f"Address to listen at. Any but this machine's own needs a password in {_PASSWORD}."),
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(metavar="N", min=0, max=65535, help="Port to listen at. Default: a free one.")] = 0,
    upload_limit: Annotated[int, typer.Option(metavar="MB", min=1, help="Largest size of an upload.")] = 100,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
) -> None:
    """Serve the page until Ctrl-C."""
    try:
        from pushforward.studio.app import serve
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("pushforward"):
            raise lacking("the studio", str(error.name), "studio") from None
        raise
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to work in; make it first, or name another with --folder")
    password = os.environ.pop(_PASSWORD, "")
    serve(folder, host=host, port=port, password=password, upload_bytes=upload_limit * 1_000_000, show=not no_browser)
