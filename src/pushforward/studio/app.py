"""The server of the studio: pages, guard, queue, and the files that pages show."""

import asyncio
import contextlib
import socket
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from fastapi.responses import FileResponse, Response
from nicegui import app as pages_app
from nicegui import ui

from pushforward.studio import pages
from pushforward.studio.guard import LOOPBACK, Guard, stored_token
from pushforward.studio.jobs import Queue
from pushforward.studio.loaded import Models
from pushforward.studio.pages import learn
from pushforward.studio.shared import Studio
from pushforward.studio.thumbnails import thumbnail
from pushforward.studio.workspace import Refused, Workspace
from pushforward.training.record.claim import claimed
from pushforward.training.record.files import RunError, inside

__all__ = ["application", "serve"]

_POLL_SECONDS = 0.5
# A report may come from a stranger: it may show itself, but run nothing and load nothing.
_REPORT = {
    "content-security-policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'",
    "cache-control": "no-store",
}


def application(
    folder: Path, *, token: str, hosts: tuple[str, ...] | None = LOOPBACK, password: str = "", upload_bytes: int = 100_000_000
) -> Guard:
    """Return the studio of a folder as an ASGI application."""
    workspace = Workspace(folder)
    studio = Studio(workspace, Queue(workspace), Models(workspace), upload_bytes)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        polling = asyncio.create_task(_poll(studio.queue))
        yield
        polling.cancel()

    server = FastAPI(lifespan=lifespan, openapi_url=None)
    _add_files(server, studio)
    pages.add_pages(studio)
    pages_app.add_static_files("/studio-static", Path(__file__).parent / "static")
    ui.add_head_html('<link rel="stylesheet" href="/studio-static/studio.css">', shared=True)
    ui.run_with(server, title="pushforward studio", dark=None, favicon="📈", show_welcome_message=False, tailwind=False)
    # The form of an upload takes a little more than its files.
    return Guard(server, token, hosts=hosts, password=password, most_bytes=upload_bytes + (1 << 20))


async def _poll(queue: Queue) -> None:
    while True:
        await asyncio.sleep(_POLL_SECONDS)
        with contextlib.suppress(OSError):
            await asyncio.to_thread(queue.poll)


def _add_files(server: FastAPI, studio: Studio) -> None:
    """Serve what pages show from run folders: pictures and reports, by name."""

    def found(path: Path, **headers: str) -> Response:
        if not path.is_file():
            return Response("There is no such file.", 404)
        return FileResponse(path, headers={"cache-control": "no-cache"} | headers)

    @server.get("/file/run/{name}/report")
    def run_report(name: str) -> Response:
        return _safely(lambda: found(inside(studio.workspace.run(name), "report.html"), **_REPORT))

    @server.get("/file/comparison/{name}/report")
    def comparison_report(name: str) -> Response:
        return _safely(lambda: found(inside(studio.workspace.comparison(name), "report.html"), **_REPORT))

    @server.get("/file/run/{name}/samples/{step}")
    def step_picture(name: str, step: int) -> Response:
        return _safely(lambda: found(inside(studio.workspace.run(name), "samples", f"step-{step:08d}.png")))

    @server.get("/file/run/{name}/samples")
    def last_picture(name: str) -> Response:
        return _safely(lambda: found(inside(studio.workspace.run(name), "samples.png")))

    @server.get("/file/figure/{name}")
    def figure(name: str) -> Response:
        return _safely(lambda: found(learn.figure_file(studio.workspace.notes, name, 50)))

    @server.get("/file/figure/{name}/large")
    def large_figure(name: str) -> Response:
        return _safely(lambda: found(learn.figure_file(studio.workspace.notes, name, 110)))

    @server.get("/file/picture/{source:path}")
    def data_picture(source: str) -> Response:
        return _safely(lambda: found(thumbnail(studio.workspace, source, 150)))

    @server.get("/file/thumbnail/{source:path}")
    def data_thumbnail(source: str) -> Response:
        return _safely(lambda: found(thumbnail(studio.workspace, source)))


def _safely(answer: Callable[[], Response]) -> Response:
    try:
        return answer()
    except (Refused, RunError, ValueError, TypeError, OSError) as error:
        return Response(str(error), 404, media_type="text/plain")


def serve(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    password: str = "",
    upload_bytes: int = 100_000_000,
    show: bool = True,
) -> None:
    """Serve the studio of a folder until Ctrl-C."""
    local = host in LOOPBACK
    if not local and not password:
        raise ValueError(
            f"--host {host} opens the studio to other machines, which needs a password: set it in the environment, "
            "PUSHFORWARD_STUDIO_PASSWORD=..., and start it again"
        )
    with claimed(folder / ".studio"), socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # a browser that is quicker than the server waits
        token = stored_token(folder / ".studio" / "token")
        app = application(folder, token=token, hosts=LOOPBACK if local else None, password=password, upload_bytes=upload_bytes)
        shown = f"[{host}]" if ":" in host else host
        address = f"http://{shown}:{listening.getsockname()[1]}/?token={token}"
        text = f"The studio of {folder.resolve()} is open at\n\n    {address}\n\nCtrl-C ends it; trainings continue."
        print(text, flush=True)  # noqa: T201
        if show:
            webbrowser.open(address)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)).run(sockets=[listening])
