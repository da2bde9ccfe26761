"""Can everybody read the site and the reports? axe-core looks at each page in headless Chromium, in light and in dark.

    python docs/support/accessibility.py site report.html ...

takes folders of pages and single pages. It needs playwright, a Chromium (CHROMIUM, by default that on the PATH) and axe-core:
AXE is its axe.min.js, by default that of node_modules, where `npm install axe-core` puts it. Any violation is an error: missing
alternative text, low contrast, headings that skip a level, what no keyboard can reach.
"""

import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]
RUN = """tags => axe.run(document, {
    runOnly: tags, rules: {'heading-order': {enabled: true}, 'empty-heading': {enabled: true}}, resultTypes: ['violations']
}).then(found => found.violations)"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def pages(places: list[Path]) -> Iterator[tuple[Path, str]]:
    """Yield folders to serve with the addresses of pages in them."""
    for place in places:
        if place.is_dir():
            for page in sorted(place.rglob("*.html")):
                yield place, page.relative_to(place).as_posix()
        else:
            yield place.parent, place.name


def violations(page: Page, address: str, axe: str) -> list[dict[str, Any]]:
    """Return what axe finds on a page in light and in dark, each finding once."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(address)
        page.evaluate(axe)
        for violation in page.evaluate(RUN, TAGS):
            for node in violation["nodes"]:
                why = node["failureSummary"].replace("\n", " ")
                found.setdefault(
                    (violation["id"], str(node["target"])),
                    {"rule": violation["id"], "scheme": scheme, "html": node["html"][:160], "why": why[:300]},
                )
    return list(found.values())


def main(places: list[Path]) -> int:
    """Print all findings and return how many there are."""
    axe = Path(os.environ.get("AXE", "node_modules/axe-core/axe.min.js")).read_text(encoding="utf-8")
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    looked, count = 0, 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(bypass_csp=True)  # that of the reports allows no script
        servers: dict[Path, int] = {}
        for folder, name in pages(places):
            if folder not in servers:
                handler = functools.partial(_Quiet, directory=str(folder))
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                servers[folder] = server.server_port
            found = violations(page, f"http://127.0.0.1:{servers[folder]}/{name}", axe)
            looked, count = looked + 1, count + len(found)
            for finding in found:
                sys.stdout.write(f"{name}: {finding['rule']} ({finding['scheme']}): {finding['html']}\n    {finding['why']}\n")
        browser.close()
    sys.stdout.write(f"{looked} pages, {count} errors\n")
    return count


if __name__ == "__main__":
    sys.exit(bool(main([Path(name) for name in sys.argv[1:]])))
