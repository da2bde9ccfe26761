"""Who may talk to the studio, and what it answers to all others."""

import asyncio

import pytest

from pushforward.studio.guard import Guard, stored_token

TOKEN = "t" * 40


async def _hello(scope, receive, send):
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(guard, *, kind="http", method="GET", path="/", query="", body=(b"",), **headers):
    """Send one request to a guard, and return the messages that it sends."""
    given = {"host": "127.0.0.1:1", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
    }
    parts, sent = list(body), []

    async def receive():
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message):
        sent.append(message)

    asyncio.run(guard(scope, receive, send))
    return sent


def status(sent):
    return sent[0].get("status", sent[0]["type"])


GUARD = Guard(_hello, TOKEN, hosts=("127.0.0.1", "localhost", "::1"), password="", most_bytes=100)
COOKIE = f"pushforward-studio={TOKEN}"


def test_the_cookie_opens_and_the_address_with_the_token_gives_it():
    assert status(ask(GUARD, cookie=COOKIE)) == 200
    (start, _) = ask(GUARD, path="/watch", query=f"run=a%20b&token={TOKEN}")
    headers = dict(start["headers"])
    assert (start["status"], headers[b"location"]) == (303, b"/watch?run=a+b")
    cookie = headers[b"set-cookie"].decode()
    assert TOKEN in cookie
    assert {"httponly", "samesite=strict"} <= {part.strip().lower() for part in cookie.split(";")}


@pytest.mark.parametrize("cookie", ["", "pushforward-studio=", "pushforward-studio=wrong", "x=;=\x7f", f"other={TOKEN}"])
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_nobody_else_comes_in(cookie, kind):
    refused = ask(GUARD, kind=kind, cookie=cookie)
    assert status(refused) == (403 if kind == "http" else "websocket.close")
    assert b"inside" not in b"".join(message.get("body", b"") for message in refused)
    assert TOKEN not in repr(refused)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "127.0.0.1.evil.example:1"},
        {"host": ""},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:2"},
        {"sec_fetch_site": "cross-site", "sec_fetch_mode": "cors"},
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_cookie_is_not_enough_from_another_host_or_origin(headers, kind):
    refused = ask(GUARD, kind=kind, cookie=COOKIE, **headers)
    assert status(refused) == (403 if kind == "http" else "websocket.close")


def test_names_of_this_machine_and_the_own_origin_are_fine():
    for host in ("127.0.0.1:1", "localhost:1", "[::1]:1", "localhost"):
        assert status(ask(GUARD, cookie=COOKIE, host=host, origin=f"http://{host}")) == 200
    assert status(ask(GUARD, kind="websocket", cookie=COOKIE)) == "websocket.accept"


@pytest.mark.parametrize("headers", [{"content_length": "101"}, {}])
def test_a_body_that_is_too_large_is_cut_off(headers):
    sent = ask(GUARD, method="POST", cookie=COOKIE, body=[b"x" * 60, b"x" * 60], **headers)
    assert status(sent) == 413
    assert b"inside" not in sent[-1]["body"]
    assert status(ask(GUARD, method="POST", cookie=COOKIE, body=[b"x" * 60, b"x" * 40])) == 200


def test_pages_load_nothing_from_elsewhere():
    (start, _) = ask(GUARD, cookie=COOKIE)
    policy = dict(start["headers"])[b"content-security-policy"].decode()
    assert "default-src 'self'" in policy
    assert "http" not in policy
    assert "*" not in policy


def test_other_machines_need_the_password():
    with pytest.raises(ValueError, match="password"):
        Guard(_hello, TOKEN, hosts=None, password="", most_bytes=100)
    guard = Guard(_hello, TOKEN, hosts=None, password="opén", most_bytes=100)
    assert status(ask(guard, host="there.example")) == 401
    assert status(ask(guard, host="there.example", method="POST", path="/login", body=[b"password=wrong"])) == 403
    assert status(ask(guard, host="there.example", method="POST", path="/login", body=[b"password=" + b"x" * 5000])) == 413
    entered = ask(guard, host="there.example", method="POST", path="/login", body=[b"password=op%C3%A9n"])
    assert status(entered) == 303
    assert TOKEN.encode() in dict(entered[0]["headers"])[b"set-cookie"]
    assert status(ask(guard, host="there.example", origin="http://evil.example", cookie=COOKIE)) == 403


def test_the_token_is_kept_for_its_owner_alone(tmp_path):
    token = stored_token(tmp_path / "a" / "token")
    assert len(token) >= 32
    assert (tmp_path / "a" / "token").stat().st_mode & 0o077 == 0
    assert stored_token(tmp_path / "a" / "token") == token
    (tmp_path / "a" / "token").write_text("short")
    assert len(stored_token(tmp_path / "a" / "token")) >= 32
