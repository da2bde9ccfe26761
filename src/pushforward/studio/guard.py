"""Who may talk to the studio: a secret in a cookie, the names of this machine, and pages of its own origin alone.

The address that the command prints holds a token. A request with it gets the cookie and the address without it. All others, and
all websockets, need the cookie. ``Host`` must be a name of this machine, which keeps away pages that rebind their name to it,
and ``Origin``, where a browser sends it, must be that host. Bodies of requests are cut off at a limit.
"""

import hmac
import html
import secrets
from http.cookies import SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "stored_token"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_COOKIE = "pushforward-studio"
_MOST_PASSWORD = 4096
_HEADERS = {
    # Nothing is loaded from, or sent to, any other machine; `unsafe-eval` is what Vue's templates need.
    "content-security-policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; "
    "form-action 'self'; base-uri 'self'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>pushforward studio</title><style>:root{{color-scheme:light dark}}body{{font:16px/1.6 system-ui,sans-serif;
max-width:32rem;margin:15vh auto;padding:0 1.5rem}}input,button{{font:inherit;padding:.5rem .8rem}}</style>
<h1>pushforward studio</h1><p>{text}</p>{more}</html>"""
_FORM = """<form method="post" action="/login"><label>Password <input type="password" name="password" autofocus
autocomplete="current-password"></label> <button>Open</button></form>"""


def stored_token(path: Path) -> str:
    """Return the token in a file that only its owner can read, or make one; pages that are open survive a new server."""
    if (
        path.is_file()
        and not path.is_symlink()
        and len(known := path.read_text(encoding="ascii", errors="replace").strip()) >= 32
    ):
        return known
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    token = secrets.token_urlsafe(32)
    path.touch(mode=0o600)
    path.write_text(token, encoding="ascii")
    return token


class Guard:
    """An ASGI application around that of the studio, which lets only permitted requests through.

    Parameters
    ----------
    app : ASGI application
    token : str
        The secret in address and cookie.
    hosts : tuple of str or None
        Allowed names in ``Host``, without ports; None for all, which needs a password.
    password : str
        What opens the studio from other machines; empty for none.
    most_bytes : int
        Largest body of a request.
    """

    def __init__(self, app: ASGIApp, token: str, *, hosts: tuple[str, ...] | None, password: str, most_bytes: int) -> None:
        if hosts is None and not password:
            raise ValueError("a studio for other machines needs a password")
        self.app, self._token, self._hosts, self._password, self._most = app, token, hosts, password, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on, one request or websocket."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(headers)
        if refusal is None and not self._knows(headers):
            if scope["type"] == "http":
                answer = await self._stranger(scope, receive)
                await answer(scope, receive, send)
                return
            refusal = "no cookie"
        if refusal is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 4403})
                return
            await _page(f"This request was refused: {html.escape(refusal)}.", 403)(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        if scope["method"] == "GET" and "token" in (query := dict(parse_qsl(scope["query_string"].decode("latin-1")))):
            del query["token"]
            await RedirectResponse(_address(scope, query), 303)(scope, receive, send)
            return
        await self._limited(scope, headers, receive, send)

    def _refusal(self, headers: dict[str, str]) -> str | None:
        """Return why a request cannot come from a page of this studio, or None."""
        host = headers.get("host", "")
        if self._hosts is not None and (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            return "its Host is not a name of this machine"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "it comes from a page of another origin"
        if headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate":
            return "it comes from a page of another site"
        return None

    def _knows(self, headers: dict[str, str]) -> bool:
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except Exception:  # a stranger may send anything as a cookie
            return False
        return _COOKIE in cookies and _same(cookies[_COOKIE].value, self._token)

    async def _stranger(self, scope: Scope, receive: Receive) -> Response:
        """Answer a request without the cookie: it may bring the token or the password."""
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] == "GET" and _same(query.pop("token", ""), self._token):
            return self._welcome(RedirectResponse(_address(scope, query), 303))
        if not self._password:
            return _page(
                "Open the address that <code>pushforward studio</code> has printed: it holds the key to this page.", 403
            )
        if scope["method"] == "POST" and scope["path"] == "/login":
            body = b""
            async for part in Request(scope, receive).stream():
                body += part
                if len(body) > _MOST_PASSWORD:
                    return _page("This is too long for a password.", 413)
            given = parse_qs(body.decode("utf-8", "replace")).get("password", [""])[0]
            if _same(given, self._password):
                return self._welcome(RedirectResponse("/", 303))
            return _page("This is not the password of this studio.", 403, _FORM)
        return _page("This studio asks for its password.", 401, _FORM)

    def _welcome(self, answer: Response) -> Response:
        answer.set_cookie(_COOKIE, self._token, max_age=30 * 86400, httponly=True, samesite="strict")
        return answer

    async def _limited(self, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
        """Hand on a request, unless its body is too large, with the headers of security in the answer."""
        too_large = _page(f"Files of more than {self._most / 1e6:,.0f} MB are not accepted.", 413)
        if headers.get("content-length", "0").isdigit() and int(headers.get("content-length", "0")) > self._most:
            await too_large(scope, receive, send)
            return
        came, began = 0, False

        async def counted() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if came > self._most:
                raise _TooLargeError
            return message

        async def labelled(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                known = {name.lower() for name, _ in message["headers"]}
                more = [(name.encode(), value.encode()) for name, value in _HEADERS.items() if name.encode() not in known]
                message = {**message, "headers": [*message["headers"], *more]}
            await send(message)

        try:
            await self.app(scope, counted, labelled)
        except _TooLargeError:
            if not began:
                await too_large(scope, receive, send)


class _TooLargeError(Exception):
    """The body of a request is larger than it may be."""


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(), secret.encode())


def _address(scope: Scope, query: dict[str, str]) -> str:
    path = "/" + str(scope["path"]).lstrip("/")
    return path + ("?" + urlencode(query) if query else "")


def _page(text: str, status: int, more: str = "") -> HTMLResponse:
    return HTMLResponse(_PAGE.format(text=text, more=more), status, headers={"cache-control": "no-store"})
