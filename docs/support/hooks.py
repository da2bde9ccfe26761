"""What the site does to each page after Markdown: formulas become MathML, plots in the page become files of the site.

MathML needs no script and no font from a network, and every current browser draws it. A formula that cannot be parsed is a
warning, which a strict build turns into an error.

With SITE=quick in the environment, as .ci/run sets it, costly pages show their code without running it; a type checker sees it
(code.py).
"""

import base64
import hashlib
import html as entities
import logging
import os
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url

log = logging.getLogger("mkdocs.hooks.pushforward")

_COSTLY = {  # .ci/full runs them
    "gallery.md",
    *(f"guides/{name}.md" for name in ("comparison", "distill", "evaluation", "guidance", "image-conditions")),
    *(
        f"guides/{name}.md"
        for name in ("inverse-problems", "likelihood", "samplers", "scikit-learn", "sets", "signals", "text")
    ),
    *(f"lessons/{name}.md" for name in ("autoencoders", "comparison", "ddpm", "diffusion", "drawing", "energy-and-langevin")),
    *(f"lessons/{name}.md" for name in ("images-as-points", "neural-ode", "ode", "resnet", "score-matching")),
    *(f"families/{name}.md" for name in ("cnf", "diffusion", "flow-map", "flow-matching", "gan", "gmm", "hierarchical-vae")),
    *(f"families/{name}.md" for name in ("autoencoder", "latent", "masked-diffusion", "normalizing-flow", "vae", "vqvae")),
}
_OPTIONS = re.compile(r"^( *```python) .*$", re.MULTILINE)
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)
_FUNCTION = re.compile(r"(\\log|\\operatorname\{\w+\})\s+(?=[A-Za-z])")  # MathML puts no space after these
_DATA_URI = re.compile(r'src="data:image/(png|gif|jpeg|svg\+xml);base64,([A-Za-z0-9+/=]+)"')


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let the code blocks of the pages import what lies beside this file."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return config


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Return the page, in a quick build without running a costly one."""
    # The tests run the derivations.
    skipped = page.file.src_uri in _COSTLY or page.file.src_uri.startswith("derivations/")
    quick = os.environ.get("SITE") == "quick" and skipped
    return _OPTIONS.sub(r"\1", markdown) if quick else markdown


def on_post_page(output: str, **_: Any) -> str:
    """Return the page with a name for the dialog of the search, for those who hear it."""
    dialog = 'data-md-component="search" role="dialog"'
    return output.replace(dialog, f'{dialog} aria-label="Search"')


def on_page_content(html: str, *, page: Page, config: MkDocsConfig, **_: Any) -> str:
    """Return the page with its formulas as MathML and its embedded plots as files."""

    def mathml(match: re.Match[str], display: str) -> str:
        latex = _FUNCTION.sub(r"\1\\, ", entities.unescape(match[1]).strip())
        try:
            return convert(latex, display=display)
        except Exception as error:
            log.warning("%s: cannot turn the formula %r into MathML: %s", page.file.src_uri, latex, error)
            return match[0]

    def plot(match: re.Match[str]) -> str:
        content = base64.b64decode(match[2])
        name = f"plots/{hashlib.blake2b(content, digest_size=8).hexdigest()}.{match[1].removesuffix('+xml')}"
        path = Path(config.site_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return f'src="{get_relative_url(name, page.url)}"'

    html = _INLINE.sub(lambda match: mathml(match, "inline"), html)
    html = _BLOCK.sub(lambda match: f'<div class="formula" tabindex="0">{mathml(match, "block")}</div>', html)
    return _DATA_URI.sub(plot, html)
