"""The code of the pages as modules, for a type checker: each line stands where it stands on its page."""

import importlib.util
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"

PAGE = """Text
```python exec="1" session="a"
x = 1
```
=== "tab"

    ```python exec="1" html="1"
    if True:
        print(2)
    ```
```python
not_run()
```
```python exec="1" source="block" session="a"
y = x
```
"""


def test_lines_keep_their_numbers_and_sessions_their_blocks():
    spec = importlib.util.spec_from_file_location("code_of_pages", DOCS / "support" / "code.py")
    code = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(code)
    found = {name: text.split("\n") for name, text in code.modules(PAGE).items()}
    assert set(found) == {"a", "block1"}
    lines = PAGE.split("\n")
    for text in found.values():
        for place, line in enumerate(text):
            assert line == "" or line == lines[place].removeprefix("    " if text is found["block1"] else "")
    assert [line for line in found["a"] if line] == ["x = 1", "y = x"]
    assert [line for line in found["block1"] if line] == ["if True:", "    print(2)"]
    assert all(code.modules(path.read_text(encoding="utf-8")) for path in (DOCS / "lessons").glob("*-*.md"))
