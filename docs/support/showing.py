"""What the code blocks of the pages print: formulas from SymPy, and plots.

A page runs ``from showing import formula, plot``. Both print, as everything that a block shows is what it prints.
"""

import base64
import functools
import html
import io
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import sympy
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pushforward import gallery

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

_FRAMES = 12  # a quarter of a second each

__all__ = ["embed", "film", "formula", "gallery_page", "plot"]


def formula(*sides: sympy.Basic | str) -> None:
    """Print expressions, or LaTeX, joined by equality signs, as one formula on a line of its own."""
    latex = " = ".join(side if isinstance(side, str) else sympy.latex(side) for side in sides)
    _show(f"\n$$\n{latex}\n$$\n")


def plot(name: str, *, caption: str = "") -> None:
    """Print the plot ``name`` of the gallery; the caption, by default the gallery's own description, is its alt text too.

    The block needs ``html="1"``.
    """
    embed(_drawn(name), caption or gallery.describe(name))


@functools.cache  # the page of the gallery shows again what lessons and guides show
def _drawn(name: str) -> bytes:
    return _png(gallery.draw(name))


def film(name: str, *, caption: str = "", frames: int = _FRAMES) -> None:
    """Print the moving plot ``name`` of the gallery as a GIF, in a quick build its still; otherwise as :func:`plot`."""
    if os.environ.get("SITE") == "quick":  # a film is drawn frame by frame
        plot(name, caption=caption)
        return
    _publish(_filmed(name, frames), "gif", caption or gallery.describe(name))


@functools.cache  # several pages show one film
def _filmed(name: str, frames: int) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        return gallery.save(name, Path(folder) / "film.gif", frames=frames).read_bytes()


def gallery_page() -> None:
    """Print the whole gallery by topic; the block needs ``html="1"``."""
    for title, names in gallery.topics().items():
        _show(f"<h2>{html.escape(title)}</h2>")
        for name in names:
            _show(f"<h3><code>{name}</code></h3>")
            plot(name)


def embed(image: "Figure | Image | Path | bytes", caption: str, *, alt: str = "") -> None:
    """Print a matplotlib figure, a Pillow image, a file (.png, .gif, .jpeg) or the bytes of a PNG as a figure with a caption.

    The plot travels in the page as a data URI, and the site's hook makes it a file. The block needs ``html="1"``.

    Parameters
    ----------
    image : Figure, Image, Path or bytes
    caption : str
        Plain text under the plot.
    alt : str
        What a reader who cannot see the plot should know; by default the caption.
    """
    content, kind = image, "png"
    if isinstance(image, Path):
        content, kind = image.read_bytes(), image.suffix.removeprefix(".")
    elif not isinstance(image, bytes):
        content = _png(image)
    _publish(content, kind, caption, alt)


def _publish(content: bytes, kind: str, caption: str, alt: str = "") -> None:
    source = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    _show(
        f'<figure class="plot"><img alt="{html.escape(alt or caption)}" loading="lazy" src="{source}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
    )


def _png(image: "Figure | Image") -> bytes:
    content = io.BytesIO()
    if hasattr(image, "savefig"):
        image.set_dpi(110)
        FigureCanvasAgg(image).print_png(content)  # savefig draws twice
    else:
        image.save(content, "PNG")
    return content.getvalue()


def _show(text: str) -> None:
    """Print by the ``print`` of the code block that called: markdown-exec gives each its own, and reads no other."""
    frame = sys._getframe()
    while frame.f_back is not None and "print" not in frame.f_globals:
        frame = frame.f_back
    frame.f_globals.get("print", print)(text)
