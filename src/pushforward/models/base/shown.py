"""What a notebook shows of a model: its arguments and, once fitted, its data and its training."""

import html
from collections.abc import Mapping
from typing import Protocol

from sklearn.utils.validation import check_is_fitted

from pushforward._messages import printable
from pushforward.data import Facts
from pushforward.training import TrainingResult

__all__ = ["as_html"]

_LONGEST = 200
_STYLE = """<style>
.pushforward-model { border-collapse: collapse; margin: .3em 0; }
.pushforward-model caption { text-align: left; color: inherit; font-weight: 600; padding: 0 0 .3em; }
.pushforward-model th, .pushforward-model td { text-align: left; vertical-align: top; padding: .15em 1.2em .15em 0; border: 0;
  background: none; color: inherit; font-weight: 400; }
.pushforward-model th { color: color-mix(in srgb, currentColor 72%, transparent); }
</style>"""


class _Model(Protocol):
    data_: Facts
    seed_: int
    training_result_: TrainingResult

    def get_params(self, deep: bool = True) -> Facts: ...
    def __sklearn_is_fitted__(self) -> bool: ...


def as_html(model: _Model) -> str:
    """Return a table that is readable on any background, in light and in dark."""
    fitted = model.__sklearn_is_fitted__()
    title = f"{type(model).__name__}{'' if fitted else ', not fitted'}"
    rows = [f"<tr><th scope='row'>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in _facts(model, fitted)]
    return f"{_STYLE}<table class='pushforward-model'><caption>{_text(title)}</caption><tbody>{''.join(rows)}</tbody></table>"


def _facts(model: _Model, fitted: bool) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = []
    if fitted:
        check_is_fitted(model)
        data, result = model.data_, model.training_result_
        facts.append(("data", f"{data['source']}: {data['rows']:,} rows, {data['held_out']:,} of them held out"))
        facts.append(("training", f"{result.steps:,} steps in {result.seconds:,.3g} s, {result.parameters:,} parameters"))
        if result.held_out_loss is not None:
            facts.append(("held-out loss", f"{result.held_out_loss:.4g}"))
        facts.append(("seed", model.seed_))
    return facts + list(_changed(model).items())


def _changed(model: _Model) -> Mapping[str, object]:
    """Return the arguments that differ from their defaults."""
    given, defaults = model.get_params(deep=False), type(model)().get_params(deep=False)
    return {name: value for name, value in given.items() if name != "verbose" and repr(value) != repr(defaults[name])}


def _text(value: object) -> str:
    text = printable(value)
    return html.escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ...")
