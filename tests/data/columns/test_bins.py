"""Tokens of columns hold every value once, keep their token in float32, and lead back to the same cells."""

import json
import math

import numpy as np
import pytest
import torch

from pushforward.data.columns.elements import Bins, Elements
from pushforward.probability.domain import Domain

N = 2000
numbers = np.random.default_rng(0)
COLUMNS = {
    "debt": (np.where(numbers.random(N) < 0.7, 0.0, numbers.lognormal(8, 1, N)), Domain("real", 0, math.inf, (0.0,))),
    "height": (numbers.normal(170, 8, N), Domain("real")),
    "price": (numbers.choice([1.5, 2.5, 9.9], N), Domain("real", 0, math.inf, (1.5, 9.9, 2.5))),
    "gain": (np.where(numbers.random(N) < 0.8, 0, numbers.integers(0, 100, N) ** 3), Domain("integer", 0, 99**3)),
    "born": (numbers.integers(-9000, 0, N), Domain("integer", -9000, -1)),
    "children": (np.where(numbers.random(N) < 0.1, np.nan, numbers.binomial(5, 0.3, N)), Domain("integer", 0, 5)),
    "city": (np.where(numbers.random(N) < 0.2, np.nan, numbers.integers(0, 4, N)), Domain("category", 0, 4)),
    "constant": (np.full(N, 3.0), Domain("integer", 3, 3)),
}
X = torch.tensor(np.stack([values for values, _ in COLUMNS.values()], axis=1))
DOMAINS = tuple(domain for _, domain in COLUMNS.values())
GAPS = tuple(bool(np.isnan(values).any()) for values, _ in COLUMNS.values())


@pytest.fixture(scope="module")
def elements():
    return Elements.fit(X, DOMAINS, GAPS, coordinates="bins")


def part(elements, name):
    return elements.parts[list(COLUMNS).index(name)]


def test_cells_come_back_also_after_storage(elements):
    z = elements.forward(X)
    torch.testing.assert_close(elements.inverse(z), X, rtol=1e-12, atol=1e-9, equal_nan=True)
    again = Elements.from_json(json.loads(json.dumps(elements.to_json(), allow_nan=False)))
    assert again.fit_to(DOMAINS, GAPS)
    torch.testing.assert_close(again.forward(X), z, rtol=0, atol=0)
    torch.testing.assert_close(again.log_volume(X, z), elements.log_volume(X, z), rtol=0, atol=0)


def test_float32_keeps_the_token(elements):
    z = elements.forward(X)
    torch.testing.assert_close(z.float().floor().double(), z.floor())
    assert bool((z.floor().amax(0) < elements.tokens).all())


@pytest.mark.parametrize("name", ["gain", "born", "children"])
def test_the_law_of_integers_has_a_total_of_one(elements, name):
    """The shares of tokens times the law inside, over the whole range and far beyond it, where the ends have shares."""
    bins, domain = part(elements, name), COLUMNS[name][1]
    values = X[:, list(COLUMNS).index(name)]
    share = torch.bincount(bins.forward(values, values)[:, 0].long(), minlength=bins.tokens) / len(values)
    x = torch.arange(domain.low - 60, domain.high + 61, dtype=torch.float64)
    z = bins.forward(x, x)
    total = (share.double()[z[:, 0].long()] * bins.log_volume(x, z).exp()).sum()
    gap = values.isnan().double().mean()
    assert float(total + gap) == pytest.approx(1, abs=1e-6)
    beyond = bins.log_volume(torch.tensor([domain.low - 1, domain.low, domain.high, domain.high + 2]).double(), x[:4])
    assert beyond.isfinite().all()
    assert beyond[0] < beyond[1]
    assert beyond[3] < beyond[2]


def test_points_have_a_token_each_and_no_density(elements):
    assert part(elements, "debt").points.tolist() == [0.0]
    assert part(elements, "price").points.tolist() == [1.5, 2.5, 9.9]
    assert part(elements, "city").tokens == 6
    assert part(elements, "constant").tokens == 1
    for name, value in (("debt", 0.0), ("price", 9.9), ("city", 3.0), ("city", math.nan), ("constant", 3.0)):
        x = torch.tensor([value], dtype=torch.float64)
        assert part(elements, name).log_volume(x, x).tolist() == [0.0]
    frequent = torch.tensor(np.r_[np.arange(200.0), np.full(10, 77.0), np.full(300, 150.0)])
    assert Bins.fit(frequent, Domain("integer", 0, 199), gaps=False).points.tolist() == [77.0, 150.0]


def test_reals_are_impossible_beyond_a_bound_only(elements):
    x = torch.tensor([-1.0, 5.0, 1e9]).double()
    assert part(elements, "debt").log_volume(x, x).isneginf().tolist() == [True, False, False]
    assert part(elements, "height").log_volume(x, x).isfinite().all()
    assert part(elements, "price").log_volume(x[1:2], x[1:2]).isfinite().all()  # no point, but not impossible


def test_gaps_are_a_token_where_the_data_have_them(elements):
    gap = torch.tensor([math.nan]).double()
    assert part(elements, "city").forward(gap, gap).tolist() == [[0.5]]
    assert part(elements, "height").forward(gap, gap).isnan().all()
    filled = elements.inverse(torch.full((1, len(DOMAINS)), 0.5).double(), gaps=False)
    assert not filled.isnan().any()


def test_wrong_facts_are_refused(elements):
    facts = elements.to_json()[list(COLUMNS).index("gain")]
    for change in (
        {"points": [3.0, 1.0]},
        {"points": [math.nan]},
        {"ends": [0.1]},
        {"ends": [0.1, 1.0]},
        {"gap": 1},
        {"knots": facts["knots"][::-1]},
        {"heights": facts["heights"][1:]},
        {"type": "category"},
    ):
        with pytest.raises(ValueError, match=r"points|ends|knot|levels"):
            Elements.from_json([facts | change])
    unbounded = {"bounds": [None, None], "limits": [None, None]}
    with pytest.raises(ValueError, match="needs a token"):
        Bins.from_json({"type": "real", **unbounded, "gap": False, "points": [], "ends": [0, 0]})
    assert not elements.fit_to(DOMAINS, (True,) * len(DOMAINS))
    assert not elements.fit_to(DOMAINS[::-1], GAPS)
