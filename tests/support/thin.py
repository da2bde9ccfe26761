"""Grids of parameters of which the quick run takes a part, and the full run all."""

import itertools
from collections import Counter

import pytest


def thinned(*, together=2, unless=(), **axes):
    """Parametrize a test by the product of the axes, and mark as ``full`` what repeats.

    Any ``together`` values of different axes meet in at least one case that is not marked: a fault that shows for one value
    (1), or for one pair of values (2), fails the quick run. Among equally good cases those come first whose values were used
    least. Combinations listed in ``unless`` are no cases at all.
    """
    values = [list(axis) for axis in axes.values()]

    def chosen(case):
        return tuple(axis[index] for axis, index in zip(values, case, strict=True))

    cases = [case for case in itertools.product(*(range(len(axis)) for axis in values)) if chosen(case) not in unless]
    meetings = {case: set(itertools.combinations(enumerate(case), together)) for case in cases}
    missing, used, quick = set().union(*meetings.values()), Counter(), set()
    while missing:
        best = max(cases, key=lambda case: (len(meetings[case] & missing), -sum(used[place] for place in enumerate(case))))
        missing -= meetings[best]
        used.update(enumerate(best))
        quick.add(best)
    return pytest.mark.parametrize(
        list(axes),
        [
            pytest.param(*chosen(case), id="-".join(map(str, chosen(case))), marks=[] if case in quick else [pytest.mark.full])
            for case in cases
        ],
    )
