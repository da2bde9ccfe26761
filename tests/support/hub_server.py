"""A hub on 127.0.0.1 that speaks the few calls that pushing and fetching a model need, and keeps repositories in memory."""

import base64
import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from unittest import mock


@dataclass
class Hub:
    """Repositories by name, as files by path; the requests that came; and the token that writing needs."""

    address: str = ""
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    private: set[str] = field(default_factory=set)
    requests: list[str] = field(default_factory=list)
    token: str = "hf_secret"

    def sha(self, name: str) -> str:
        """Return the commit of a repository, a digest of its files."""
        files = self.repositories[name]
        return hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()


@contextlib.contextmanager
def served(cache: Any) -> Iterator[Hub]:
    """Serve a hub within the context to this process, with ``cache`` as the folder of huggingface_hub."""
    import huggingface_hub.constants as constants

    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        with (
            mock.patch.dict(os.environ, {"HF_ENDPOINT": hub.address, "HF_TOKEN": hub.token}),
            mock.patch.object(constants, "HF_HUB_CACHE", str(cache)),
        ):
            yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = self.path.partition("?")[0]
        self.hub.requests.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._json({"error": "unauthorized"}, status=401)
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            self.hub.repositories.setdefault(name, {})
            if asked.get("private") or asked.get("visibility") == "private":
                self.hub.private.add(name)
            return self._json({"url": f"{self.hub.address}/{name}"})
        if path == "/api/validate-yaml":  # of the model card
            return self._json({"errors": [], "warnings": []})
        match = re.fullmatch(r"/(?:api/models/)?([\w.-]+/[\w.-]+)(/.*)?", path)
        name, rest = (match[1], match[2] or "") if match else ("", "")
        if name not in self.hub.repositories:
            return self._json({"error": "Repository not found"}, status=404, headers={"X-Error-Code": "RepoNotFound"})
        return self._repository(name, rest, body)

    def _repository(self, name: str, rest: str, body: bytes) -> None:
        files, sha = self.hub.repositories[name], self.hub.sha(name)
        if rest.startswith("/preupload/"):
            asked = json.loads(body)["files"]
            return self._json(
                {
                    "files": [
                        {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False, "oid": None} for file in asked
                    ]
                }
            )
        if rest.startswith("/commit/"):
            for line in filter(None, body.splitlines()):
                entry = json.loads(line)
                if entry["key"] == "file":
                    files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self._json({"commitUrl": f"{self.hub.address}/{name}/commit/{sha}", "commitOid": self.hub.sha(name)})
        if rest.startswith("/tree/"):
            return self._json(
                [{"type": "file", "path": path, "size": len(files[path]), "oid": _digest(files[path])} for path in files]
            )
        if rest in ("", "/revision/main"):
            return self._json({"id": name, "sha": sha, "siblings": [{"rfilename": path} for path in files]})
        if rest.startswith("/resolve/"):
            path = rest.split("/", 3)[3]
            if path in files:
                return self._send(files[path], {"ETag": f'"{_digest(files[path])}"', "X-Repo-Commit": sha})
            return self._json({"error": "Entry not found"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
        return self._json({"error": "Revision not found"}, status=404, headers={"X-Error-Code": "RevisionNotFound"})

    def _json(self, value: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)

    def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
