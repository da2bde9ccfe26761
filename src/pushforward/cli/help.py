"""The layout of a command's help: a sentence or two, then examples to paste."""

from collections.abc import Sequence

__all__ = ["CONTEXT", "help_text"]

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def help_text(*paragraphs: str, examples: Sequence[str], title: str = "Examples") -> str:
    r"""Return the text of ``--help``; the examples are on lines that are never wrapped.

    >>> help_text("Draw.", examples=["pushforward sample runs/digits"])
    'Draw.\n\n\x08\nExamples:\n  pushforward sample runs/digits'
    """
    lines = [f"{title}:", *(f"  {example}" for example in examples)]
    # A backspace alone on the first line of a paragraph makes click keep its lines.
    return "\n\n".join((*paragraphs, "\b\n" + "\n".join(lines)))
