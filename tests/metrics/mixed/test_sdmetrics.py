"""Shapes and trends are those of sdmetrics: its numbers on a fixed table, and its code where it is installed."""

import numpy as np
import pytest

from pushforward.metrics.mixed.shapes import column_shapes
from pushforward.metrics.mixed.trends import pair_trends
from pushforward.probability.domain import Domain

NAMES = ("a", "b", "c", "d", "e", "f", "g")
DOMAINS = (Domain("category", 0, 2), Domain("category", 0, 3), *[Domain("real"), Domain("integer")], *[Domain("real")] * 3)


def tables():
    """Real rows and samples: gaps, a level that only real rows have, a constant column and an empty one."""
    i, k, gap = np.arange(60), np.arange(50), np.nan
    real = [i % 3, np.where(i % 7 == 0, gap, i * i % 4), i % 10 / 2 + i % 3, np.where(i % 11 == 0, gap, i * 7 % 23)]
    fake = [k % 2, np.where(k % 5 == 0, gap, k**3 % 4), k % 9 / 2 + k % 2, np.where(k % 6 == 0, gap, k * 5 % 19)]
    real += [np.full(60, 4.0), np.full(60, gap), real[2] + i % 4]
    fake += [np.where(k == 3, 5.0, 4.0), k * 1.0, fake[2] + k % 3]
    return np.stack(fake, axis=1), np.stack(real, axis=1)


# sdmetrics 0.32.0, the properties ColumnShapes and ColumnPairTrends, and the Quality Report, which knows thresholds
SHAPES = [0.6666666666666666, 0.7401960884275276, 0.8, 0.7962962962962963, 0.98, None, 0.71]
PAIRS = ("ab", "ac", "ad", "ae", "af", "ag", "bc", "bd", "be", "bf", "bg", "cd", "cg", "dg")
SCORES = (
    *(0.3666666666666667, 0.6, 0.5433333333333333, 0.0, 0.02, 0.3333333333333333, 0.4633333333333333, 0.5433333333333333),
    *(0.0, 0.02, 0.4966666666666667, 0.9963667881798441, 0.9691418401396033, 0.9745465377719303),
)
# sdmetrics counts a level that only samples have as a millionth of a real row
TOLERANCE = 1e-7
MEANS = (0.7821931752317485, 0.4519087023398602, 0.5724950346945873)


def test_the_numbers_are_those_of_sdmetrics():
    P, Q = tables()
    shapes, trends = column_shapes(P, Q, DOMAINS), pair_trends(P, Q, DOMAINS)
    assert [column and column.value for column in shapes.columns] == pytest.approx(SHAPES, abs=TOLERANCE)
    assert by_pair(trends) == pytest.approx(dict(zip(PAIRS, SCORES, strict=True)), abs=TOLERANCE)
    assert (shapes.mean.value, trends.mean.value, trends.associated.value) == pytest.approx(MEANS, abs=TOLERANCE)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("swap", [False, True])
def test_the_numbers_are_those_of_an_installed_sdmetrics(swap):
    pytest.importorskip("sdmetrics")
    P, Q = tables()[:: -1 if swap else 1]
    shapes, trends = column_shapes(P, Q, DOMAINS), pair_trends(P, Q, DOMAINS)
    of_shapes, of_trends, means = from_sdmetrics(P, Q)
    assert [column and column.value for column in shapes.columns] == pytest.approx(of_shapes, abs=TOLERANCE)
    assert by_pair(trends) == pytest.approx(of_trends, abs=TOLERANCE)
    assert (shapes.mean.value, trends.mean.value, trends.associated.value) == pytest.approx(means, abs=TOLERANCE)


def by_pair(trends):
    found = {NAMES[i] + NAMES[j]: trends.scores[i, j] for i in range(7) for j in range(i + 1, 7)}
    return {pair: score for pair, score in found.items() if not np.isnan(score)}


def from_sdmetrics(P, Q):
    """Shapes by column, trends by pair, and the means over columns, over pairs and over associated pairs."""
    import pandas as pd
    from sdmetrics.reports.single_table import QualityReport
    from sdmetrics.reports.single_table._properties import ColumnPairTrends, ColumnShapes

    real, fake = (pd.DataFrame(rows, columns=list(NAMES)) for rows in (Q, P))
    types = {"category": "categorical", "integer": "numerical", "real": "numerical"}
    metadata = {"columns": {name: {"sdtype": types[domain.type]} for name, domain in zip(NAMES, DOMAINS, strict=True)}}
    shapes, trends, report = ColumnShapes(), ColumnPairTrends(), QualityReport()
    means = [part.get_score(real, fake, metadata) for part in (shapes, trends)]
    report.generate(real, fake, metadata, verbose=False)
    means.append(report.get_properties()["Score"][1])
    of_shapes = [None if np.isnan(score) else score for score in shapes.details["Score"]]
    pairs = trends.details.dropna(subset=["Score"])
    return of_shapes, dict(zip(pairs["Column 1"] + pairs["Column 2"], pairs["Score"], strict=True)), tuple(means)
