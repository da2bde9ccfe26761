"""The public names and their arguments are those that are written down: a change is made on purpose, and told to users."""

import difflib

import public_api


def test_the_public_api_is_as_written_down():
    written, found = public_api.STORED.read_text(encoding="utf-8").splitlines(), public_api.lines()
    changes = [line for line in difflib.unified_diff(written, found, lineterm="", n=0) if line[0] in "+-" and line[:3] != "+++"]
    told = "if this is meant, write it down with `python tests/support/public_api.py --write`, and tell users in CHANGELOG.md"
    assert not changes[1:], f"{told}:\n" + "\n".join(changes[1:])
