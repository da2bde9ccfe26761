"""Deprecated functions, methods and classes warn at the line that calls them, and are gone when they should be."""

import ast
import re
from pathlib import Path

import pytest

import pushforward as pf
from pushforward._deprecation import deprecated

mark = deprecated(since="0.2", until="0.4", instead="Other()")


@mark
class Old:
    """A class."""

    def __init__(self, size=1):
        self.size = size


class Owner:
    @mark
    def verb(self, n):
        """Return n."""
        return n


def test_a_class_and_a_method_work_on_and_warn_where_they_are_called():
    for call, name in ((lambda: Old(size=3).size, "Old"), (lambda: Owner().verb(3), "Owner.verb")):
        with pytest.warns(
            FutureWarning, match=f"^{name} is deprecated since pushforward 0.2 and will be removed in 0.4; write Other"
        ) as seen:
            assert call() == 3
        assert [warning.filename for warning in seen] == [__file__]
    assert isinstance(Old.__doc__, str)
    assert Owner.verb.__doc__ == "Return n."


def test_nothing_stays_beyond_the_version_that_it_goes_with():
    for path in Path(pf.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "deprecated":
                until = next(word.value.value for word in node.keywords if word.arg == "until")
                assert _numbers(pf.__version__) < _numbers(until), f"{path}: what goes with {until} is still there"


def _numbers(version):
    return [int(number) for number in re.findall(r"\d+", version)]
