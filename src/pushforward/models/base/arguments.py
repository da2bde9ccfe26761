"""Arguments that several verbs take, checked and encoded in one place."""

from typing import Any

from torch import Tensor

from pushforward.data import ConditionEncoder
from pushforward.probability.counts import check_count

__all__ = ["check_count", "encoded_condition"]


def encoded_condition(encoder: ConditionEncoder | None, condition: Any, n: int, dropout: float) -> Tensor | None:
    """Return one encoded condition per row (n, K), or None for the law without a condition.

    Raises
    ------
    ValueError
        If the model knows no conditions, or only laws with one.
    """
    if condition is not None:
        if encoder is None:
            raise ValueError(
                "this model was trained without conditions and cannot follow one; "
                "leave condition out, or train with fit(X, condition=labels)"
            )
        return encoder.encode(condition, n)
    if encoder is not None and dropout == 0 and not encoder.gaps:
        raise ValueError(
            "this model always saw its condition in training (condition_dropout=0) and has no law without one; "
            "pass condition=..., or train with condition_dropout=0.1"
        )
    return None
