"""Permutation tests of shapes, trends and gaps: their level on equal laws, what they see, and the statistics by hand."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.mixed.gaps import gap_patterns
from pushforward.metrics.mixed.relabeled import Cells, _distances, chance_of_each, column_cells
from pushforward.metrics.mixed.shapes import column_shapes
from pushforward.metrics.mixed.trends import pair_trends
from pushforward.probability.domain import Domain

DOMAINS = (Domain("real", atoms=(0.0,)), Domain("category", 0, 2), Domain("integer"), Domain("real"))


def rows(n, seed, *, link=0.8, gaps=0.1):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=n)
    debt = np.where(rng.random(n) < 0.4, 0.0, np.exp(normal))
    kind = np.where(rng.random(n) < link, (normal > 0) + 0.0, rng.integers(0, 3, n))
    return np.stack([debt, kind, rng.poisson(3, n), np.where(rng.random(n) < gaps, np.nan, rng.normal(size=n))], axis=1)


def test_the_first_relabeling_is_the_truth():
    P, Q = rows(90, 0), rows(70, 1)
    cells = [column_cells(P[:, j], Q[:, j], domain) for j, domain in enumerate(DOMAINS)]
    truth = next(_distances(cells, 90, 0))[:, 0]
    shapes = column_shapes(P, Q, DOMAINS, test=False)
    np.testing.assert_allclose(1 - truth, [column.value for column in shapes.columns], atol=1e-12)  # fewer than 256 values
    few = column_cells(P[:, 3], Q[:, 3], DOMAINS[3], most=4)
    assert sorted(np.unique(few.cell)) == [-1, 0, 1, 2, 3]
    known = few.cell[few.cell >= 0]
    assert np.ptp(np.bincount(known)) <= 1  # equally full


def test_rows_that_are_left_out_count_on_neither_side():
    cells = Cells(np.array([0, 0, -1, 1, 0, 1, 1, -1]))
    assert next(_distances([cells], 4, 0))[0, 0] == pytest.approx(abs(2 / 3 - 1 / 3))


def test_equal_laws_are_seldom_told_apart():
    below = []
    for seed in range(40):
        P, Q = rows(60, 2 * seed), rows(75, 2 * seed + 1)
        shapes = column_shapes(P, Q, DOMAINS, seed=seed)
        figures = (*shapes.columns, shapes.mean, pair_trends(P, Q, DOMAINS, seed=seed).mean)
        below.append([figure.p_value <= 0.05 for figure in (*figures, gap_patterns(P, Q, DOMAINS, seed=seed).variation)])
    rates = np.mean(below, axis=0)
    assert (rates <= stats.binom.ppf(0.9995, 40, 0.05) / 40).all()
    assert rates.mean() > 0.02  # and no test is idle


def test_each_test_sees_its_own_fault():
    P, Q = rows(400, 0), rows(400, 1)
    shifted = P + np.array([0.0, 0.0, 1.0, 0.0])
    shapes = column_shapes(shifted, Q, DOMAINS)
    assert [column.p_value < 0.01 for column in shapes.columns] == [False, False, True, False]
    assert {shapes.columns[2].side, shapes.mean.side} == {"below"}
    apart = rows(400, 2, link=0.0)
    trend = pair_trends(apart, Q, DOMAINS).mean
    assert (trend.p_value < 0.01, trend.side) == (True, "below")
    full = gap_patterns(rows(400, 3, gaps=0.0), Q, DOMAINS).variation
    assert (full.p_value < 0.001, full.side) == (True, "above")


def test_of_many_columns_the_worst_is_corrected_for_their_number():
    rng = np.random.default_rng(0)
    P, Q = (rng.integers(0, 4, (80, 30)).astype(float) for _ in range(2))
    domains = (Domain("category", 0, 3),) * 30
    cells = [column_cells(P[:, j], Q[:, j], domains[j]) for j in range(30)]
    alone, jointly = (chance_of_each(cells, 80, 0, jointly=way) for way in (False, True))
    least = [min(p for p, side in found if side == "below") for found in (alone, jointly)]
    assert least[0] < 0.1 < least[1]
