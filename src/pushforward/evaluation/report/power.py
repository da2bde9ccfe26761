"""Which defects the tests of an evaluation could have found with its number of rows, from the benchmark of their power.

``power.json`` is written by ``benchmarks/evaluation_power.py``: for each number of rows the smallest defect that each figure
finds in four of five draws of ten Gaussians in the plane.
"""

import json
from collections.abc import Collection
from functools import cache
from importlib import resources

import numpy as np

from pushforward.evaluation.figure import number, percent

__all__ = ["could_have_seen"]

_WORDS = {
    "dropped mode": "a missing mode of {share} of the rows",
    "copied share": "copies that are {share} of the samples",
    "wrong labels": "wrong labels of {share} of the samples",
    "blur": "noise of {size} standard deviations of a mode",
}


@cache
def _table() -> dict[int, dict[str, dict[str, float | None]]]:
    text = resources.files("pushforward.evaluation.report").joinpath("power.json").read_text(encoding="utf-8")
    return {int(n): defects for n, defects in json.loads(text).items()}


def could_have_seen(n: int, figures: Collection[str]) -> str:
    """Return a sentence on the smallest defects of a known law that these figures find with n rows; "" for too few rows.

    Sizes are interpolated between the numbers of rows of the benchmark, on logarithmic scales, and constant beyond the last.

    >>> could_have_seen(30, ["recall"])
    ''
    """
    table = _table()
    if n < min(table):
        return ""
    seen = []
    for defect, words in _WORDS.items():
        found = [size for name in figures if (size := _smallest(table, n, defect, name)) is not None]
        if found:
            seen.append(words.format(share=percent(min(found)), size=number(min(found))))
    if not seen:
        return ""
    return (
        f"With {n:,} rows these tests could have seen, in four of five cases: {', '.join(seen)} "
        "(measured on ten Gaussians in the plane; other laws may hide more)."
    )


def _smallest(table: dict[int, dict[str, dict[str, float | None]]], n: int, defect: str, name: str) -> float | None:
    sizes = {rows: defects.get(defect, {}).get(name) for rows, defects in table.items()}
    known = {rows: size for rows, size in sizes.items() if size is not None}
    if not known or n < min(known):
        return None
    rows = sorted(known)
    return float(np.exp(np.interp(np.log(n), np.log(rows), np.log([known[each] for each in rows]))))
