"""A model card in Markdown: what a model was trained on, what it is, how good it is, how to load it, and its limits."""

import shlex
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from pushforward._messages import printable
from pushforward.cli.run_facts import facts_of

__all__ = ["model_card"]

_OF_THE_TRAINING_MACHINE = ("image", "continue with", "calibrated")
_LIMITS = (
    "It has learned the law of its training data, with their gaps, errors and biases, and knows nothing about other rows.",
    "No figure above promises privacy: a generative model can reproduce rows that it was trained on.",
    "The figures hold for the rows that they were measured on, and *at the floor* says that so many rows show no difference.",
)


def model_card(run: Path, name: str = "") -> str:
    """Return the card of a finished run, from its model.json and, if there is one, its evaluation.json.

    Parameters
    ----------
    run : path
    name : str
        "owner/name" on a hub; default the name of the folder, loaded from there.

    Raises
    ------
    RunError
        If the run is not finished, or a file of it cannot be read.
    """
    from pushforward.models.files.storage import read_card
    from pushforward.training.record.files import RunError

    card = read_card(run)
    if card["status"] != "finished":
        raise RunError(run, "holds an unfinished run, which has no model card yet", "finish it first")
    tags = ("generative-model", card["class"].lower(), _word(card["schema"]["kind"]))
    parts = [
        "\n".join(("---", "library_name: pushforward", "tags:", *(f"- {tag}" for tag in tags), "---")),
        f"# {_plain(name or run.resolve().name)}",
        f"A generative model of the family {_plain(card['class'])}, trained with pushforward.",
    ]
    if (run / "samples.png").is_file():
        parts.append("![Samples of the model](samples.png)")
    parts += ["## Model", _table(("", ""), _facts(run, card))]
    parts += ["## Quality", *_quality(run)]
    parts += ["## Use", _use(card, name or str(run), hub=bool(name))]
    parts += ["## Limits", "\n".join(f"- {limit}" for limit in _LIMITS)]
    return "\n\n".join(parts) + "\n"


def _facts(run: Path, card: dict[str, Any]) -> list[tuple[str, ...]]:
    source = card["data"]["source"]  # a path would reveal details of the machine
    facts = [(name, value.replace(source, PurePath(source).name)) for name, value in facts_of(run, card)]
    return [fact for fact in facts if fact[0] not in _OF_THE_TRAINING_MACHINE]


def _quality(run: Path) -> list[str]:
    """Return the figures of the evaluation beside the run."""
    from pushforward.evaluation import Evaluation
    from pushforward.evaluation.figure import remarks, written

    if not (run / "evaluation.json").is_file():
        return ["Not evaluated. `pushforward evaluate RUN` measures the model on rows that it has not seen."]
    found = Evaluation.load(run)
    rows = [
        (
            f"{figure.name}{f' ({figure.unit})' if figure.unit else ''}",
            *written(figure.measure),
            "" if figure.floor is None else written(figure.floor)[0],
            f"{figure.measure.n:,}",
            figure.reference or "",
            remarks(figure),
        )
        for figure in found.figures
        if figure.group != "speed"  # of the machine, not of the model
    ]
    tested = found.headline().rpartition(": ")[2]
    return [
        f"{_plain(tested)}. The *floor* is what a perfect model would reach with as many rows.",
        _table(("figure", "value", "95 % interval", "floor", "n", "against", "what it says"), rows),
    ]


def _use(card: dict[str, Any], place: str, *, hub: bool) -> str:
    from pushforward.models.files.registry import MODELS

    package = f"{'pushforward[hub]' if hub else 'pushforward'}=={card['pushforward']}"
    lines = ["import pushforward as pf", "", f"model = pf.load({('hf://' if hub else '') + place!r})"]
    if getattr(MODELS.get(card["class"]), "generates", True):
        condition = "" if card["condition"] is None else "condition=..., "
        lines.append(f"rows = model.sample(10, {condition}seed=0)")
    else:
        lines.append("codes = model.transform(rows)")
    code = printable("\n".join(lines))
    return f"```sh\npython -m pip install {shlex.quote(printable(package))}\n```\n\n```python\n{code}\n```"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *(tuple(map(_plain, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: object) -> str:
    r"""Return a text on one line that Markdown and HTML show as it is, whoever wrote it.

    >>> print(_plain("a|b <img src=x> [link](y)"))
    a\|b &lt;img src=x&gt; \[link\](y)
    """
    line = " ".join(printable(text).split())
    for sign in "\\`*_[]|#!":
        line = line.replace(sign, "\\" + sign)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _word(text: str) -> str:
    return "".join(sign for sign in text if sign.isalnum() or sign in "-_")
