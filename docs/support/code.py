"""Write the code of the pages as modules, so that a type checker sees each name, argument and attribute that they use.

    python docs/support/code.py FOLDER

Blocks of one session are one module, as they are when they run; every other executed block is a module of its own. A line of a
module that holds no code of its page is empty, so that messages of the checker name the line of the page.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

DOCS = Path(__file__).parents[1]
_BLOCK = re.compile(r"^( *)```python (exec=[^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_SESSION = re.compile(r'session="([\w-]+)"')


def modules(page: str) -> dict[str, str]:
    """Return the code of a page by session; blocks without one are numbered."""
    lines: dict[str, list[str]] = defaultdict(lambda: [""] * (page.count("\n") + 1))
    for number, block in enumerate(_BLOCK.finditer(page)):
        indent, options, code = block.groups()
        session = _SESSION.search(options)
        first = page.count("\n", 0, block.start(3))
        own = lines[session[1] if session else f"block{number}"]
        for place, line in enumerate(code.splitlines()):
            own[first + place] = line.removeprefix(indent)
    return {name: "\n".join(code) for name, code in lines.items()}


def main() -> None:
    """Write the modules of all pages, named after page and session."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(DOCS.rglob("*.md")):
        stem = "_".join(path.relative_to(DOCS).with_suffix("").parts).replace("-", "_")
        for name, code in modules(path.read_text(encoding="utf-8")).items():
            (folder / f"{stem}__{name.replace('-', '_')}.py").write_text(code, encoding="utf-8")


if __name__ == "__main__":
    main()
