"""Associations against SciPy; their gap against a known one."""

import numpy as np
import pytest
from scipy import stats

from pushforward.metrics.mixed.associations import association_gap, associations
from pushforward.probability.domain import Domain

MIXED = (Domain("category", 0, 3), Domain("category", 0, 2), Domain("real"), Domain("integer"))


def rows(seed, n):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 4, n)
    b = np.where(rng.random(n) < 0.5, a % 3, rng.integers(0, 3, n))
    x = a + rng.normal(size=n)
    table = np.stack([a, b, x, np.round(x + rng.normal(size=n))], axis=1).astype(float)
    table[rng.random((n, 4)) < 0.1] = np.nan
    return table


def test_every_pair_has_the_association_of_scipy_over_its_rows_without_gaps():
    table = rows(0, 300)
    found = associations(table, MIXED)
    assert (np.diag(found) == 1).all()
    assert (found == found.T).all()
    for i in range(4):
        for j in range(i):
            u, v = table[~np.isnan(table[:, [i, j]]).any(axis=1)][:, [i, j]].T
            if j >= 2:
                truth = stats.pearsonr(u, v).statistic
            elif i >= 2:
                groups = [u[v == level] for level in np.unique(v)]
                f, k = stats.f_oneway(*groups).statistic, len(groups)
                truth = np.sqrt(f * (k - 1) / (f * (k - 1) + len(u) - k))
            else:
                counts = stats.contingency.crosstab(u, v).count
                n, (r, c) = counts.sum(), counts.shape
                phi = stats.chi2_contingency(counts, correction=False).statistic / n - (r - 1) * (c - 1) / (n - 1)
                truth = np.sqrt(phi / (min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)) - 1))
            assert found[i, j] == pytest.approx(truth, abs=1e-10)


def test_a_constant_or_empty_column_is_associated_with_none():
    table = rows(0, 50)
    table[:, 0], table[:, 2] = 1.0, np.nan
    found = associations(table, MIXED)
    assert np.isnan(found[0, 1:]).all()
    assert np.isnan(found[2, [0, 1, 3]]).all()
    assert np.isfinite(found[1, 3])


def test_the_gap_holds_the_known_one_and_a_collapsed_column_counts_as_not_associated():
    held = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x, y = rng.normal(size=(2, 300, 2))
        y[:, 1] = 0.6 * y[:, 0] + 0.8 * y[:, 1]
        found = association_gap(x, y, (Domain("real"), Domain("real")), seed=seed)
        held += found.low <= 0.6 <= found.high
    assert held >= 34
    x[:, 1] = 3.0
    gap = association_gap(x, y, (Domain("real"), Domain("real")))
    assert gap.value == pytest.approx(abs(np.corrcoef(y.T)[0, 1]))
    with pytest.raises(ValueError, match="no pair of columns varies"):
        association_gap(y, x, (Domain("real"), Domain("real")))
