"""A studio in this process, on a port of this machine, over a folder of its own."""

import asyncio
import contextlib
import threading
import time
from pathlib import Path

import httpx
import pytest
import uvicorn

import pushforward
from pushforward.studio.app import application

TOKEN = "t" * 40


class Served:
    """A running studio: its folder, its address, and a client with the cookie."""

    def __init__(self, folder, **options):
        self.folder = folder
        app = application(folder, token=TOKEN, **options)
        self.server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=lambda: asyncio.run(self.server.serve()), daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)
        port = self.server.servers[0].sockets[0].getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        self.client = httpx.Client(base_url=self.address, cookies={"pushforward-studio": TOKEN}, trust_env=False, timeout=30)
        self.stranger = httpx.Client(base_url=self.address, trust_env=False, timeout=30)
        return self

    def __exit__(self, *_):
        self.client.close()
        self.stranger.close()
        self.server.should_exit = True
        with contextlib.suppress(RuntimeError):
            self.thread.join(10)


@pytest.fixture(scope="session", autouse=True)
def _processes_have_this_package():
    """Let the processes of the queue import the package that is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(Path(pushforward.__file__).parents[1]))
        yield


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """The studio that tests of this room share; uploads of more than a megabyte are refused."""
    with Served(tmp_path_factory.mktemp("studio"), upload_bytes=1_000_000) as served:
        yield served
