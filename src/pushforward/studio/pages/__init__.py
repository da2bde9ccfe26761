"""The pages of the studio, one file each."""

from pushforward.studio.pages import data, draw, judge, learn, sketch, train, watch
from pushforward.studio.shared import Studio

__all__ = ["add_pages"]


def add_pages(studio: Studio) -> None:
    """Add all pages to the application of NiceGUI."""
    for page in (data, sketch, train, watch, draw, judge, learn):
        page.add_page(studio)
