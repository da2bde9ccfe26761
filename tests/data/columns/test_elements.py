"""Real coordinates of columns have the law they promise, and lead back to the same cells."""

import json
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.data.columns.elements import Block, Elements, Score
from pushforward.probability.domain import Domain

N = 4000
numbers = np.random.default_rng(0)
DEBT = np.where(numbers.random(N) < 0.7, 0.0, numbers.lognormal(8, 1, N))
DOMAINS = (
    Domain("real", 0, math.inf, (0.0,)),
    Domain("real"),
    Domain("real", 0, 1),
    Domain("integer", 0, 5),
    Domain("integer", 0, 10**6),
    Domain("category", 0, 3),
)
X = torch.tensor(
    np.stack(
        [
            DEBT,
            numbers.standard_t(4, N),
            numbers.random(N),
            np.where(numbers.random(N) < 0.1, np.nan, numbers.binomial(5, 0.3, N)),
            numbers.integers(0, 10**6, N),
            np.where(numbers.random(N) < 0.2, np.nan, numbers.integers(0, 4, N)),
        ],
        axis=1,
    )
)
GAPS = (False, False, False, True, False, True)
U = torch.tensor(numbers.random(X.shape))


@pytest.fixture(scope="module")
def elements():
    return Elements.fit(X, DOMAINS, GAPS)


def test_cells_come_back(elements):
    again = Elements.from_json(json.loads(json.dumps(elements.to_json(), allow_nan=False)))
    assert again == elements
    for u in (None, U):
        torch.testing.assert_close(again.inverse(elements.forward(X, u)), X, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_scores_are_standard_normal(elements):
    z = elements.forward(X, U)
    assert z.shape == (N, 5 + 5)
    for column in z[:, :5].T:
        assert stats.kstest(column, "norm").pvalue > 0.01


def test_normal_numbers_have_the_law_of_the_column(elements):
    z = torch.tensor(numbers.normal(size=(50_000, 10)))
    x = elements.inverse(z)
    assert abs(float((x[:, 0] == 0).double().mean()) - 0.7) < 0.02
    assert float(x[:, 0].min()) == 0
    assert 0 < float(x[:, 2].min()) < float(x[:, 2].max()) < 1
    assert float(x[:, 1].max()) > float(X[:, 1].max())  # reals without a bound go on
    assert set(x[:, 3].unique().tolist()) >= {0.0, 1.0, 2.0, 3.0}
    assert abs(float(x[:, 3].isnan().double().mean()) - 0.1) < 0.02
    for column in (1, 2, 4):
        assert stats.ks_2samp(x[:, column], X[:, column]).pvalue > 1e-3


def test_categories_are_blocks_or_scores():
    x = torch.tensor([[2.0], [math.nan], [0.0]], dtype=torch.float64)
    blocks = Elements.fit(x, (Domain("category", 0, 2),), (True,))
    assert blocks.parts == (Block(3, True),)
    assert blocks.forward(x).tolist() == [[0, 0, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert blocks.inverse(torch.tensor([[0.1, 0.2, 0.3, 0.9]]), gaps=False).tolist() == [[2.0]]
    scores = Elements.fit(x, (Domain("category", 0, 2),), (True,), coordinates="scores")
    assert scores.sizes == [1]
    torch.testing.assert_close(scores.inverse(scores.forward(x)), x, equal_nan=True)
    assert not scores.inverse(scores.forward(x), gaps=False).isnan().any()


def test_masks_repeat_for_blocks(elements):
    known = torch.tensor([[True, False, True, False, True, False], [False] * 5 + [True]])
    assert elements.mask(known).tolist() == [[True, False, True, False, True] + [False] * 5, [False] * 5 + [True] * 5]


def test_wrong_facts_are_refused(elements):
    score = elements.to_json()[0]
    for change in (
        {"values": score["values"][::-1]},
        {"low": score["low"][:-1]},
        {"gap": 9.0},
        {"above": -1.0},
        {"high": [math.inf, *score["high"][1:]]},
    ):
        with pytest.raises(ValueError, match=r"scores of a column|interval of a gap"):
            Elements.from_json([score | change])
    assert elements.fit_to(DOMAINS, GAPS)
    assert not elements.fit_to(DOMAINS, (True,) * 6)
    assert not elements.fit_to(DOMAINS[:5], GAPS[:5])
    assert isinstance(elements.parts[0], Score)


def test_volumes_turn_the_normal_law_into_that_of_the_column():
    scores = Elements.fit(X, DOMAINS, GAPS, coordinates="scores")
    shares = {0: [0.0], 3: [0.0, 2.0, math.nan], 5: [1.0, 3.0, math.nan]}
    for column, values in shares.items():
        part = scores.parts[column]
        for value in values:
            x = torch.full((50,), value, dtype=torch.float64)
            z = part.forward(x, torch.tensor(numbers.random(50)))
            mass = (part.log_volume(x, z) + torch.tensor(stats.norm.logpdf(z[:, 0]))).exp()
            same = X[:, column].isnan() if math.isnan(value) else X[:, column] == value
            torch.testing.assert_close(mass, torch.full_like(mass, float(same.double().mean())), rtol=0.01, atol=1e-3)
    for column in (0, 1, 2):  # the density of reals integrates to what the atoms leave
        part = scores.parts[column]
        edges = part.inverse(torch.linspace(-7.9, 7.9, 200_001, dtype=torch.float64)[:, None])
        x = (edges[1:] + edges[:-1]) / 2
        density = (part.log_volume(x, z := part.forward(x, torch.full_like(x, 0.5))) - z[:, 0].square() / 2).exp()
        whole = float((density * edges.diff())[edges.diff() > 0].sum()) / math.sqrt(2 * math.pi)
        assert whole == pytest.approx(1 - float((X[:, 0] == 0).double().mean()) if column == 0 else 1, abs=2e-3)


def test_integers_beyond_the_data_share_the_mass_of_the_ends():
    """Under the normal law each integer has its share of the data, and the integers beyond have 1 / (m + 2) of their end's."""
    x = torch.tensor([3.0] * 50 + [4.0] * 30 + [6.0] * 20).double()
    score = Score.fit(x, Domain("integer", 3, 6), gaps=False)
    u = (torch.arange(400).double() + 0.5) / 400

    def probability(k):
        cell = torch.full_like(u, float(k))
        z = score.forward(cell, u)
        normal = -z[:, 0].square() / 2 - math.log(2 * math.pi) / 2
        return (score.log_volume(cell, z) + normal).exp().mean().item()

    inside = [probability(k) for k in range(3, 7)]
    assert inside[0] == pytest.approx(0.5 * (1 - 1 / 52), rel=2e-3)
    assert probability(8) == pytest.approx(inside[3] / 22**2, rel=1e-9)
    assert sum(inside) + sum(probability(k) for k in [*range(7, 20), *range(-9, 3)]) == pytest.approx(1, abs=1e-3)
    again = Elements.from_json(json.loads(json.dumps(Elements((score,)).to_json())))
    assert again.parts == (score,)


@pytest.mark.parametrize("span", [40, 300, 998])
def test_integers_with_unseen_ones_between_have_finite_scores(span):
    """Shares that are summed end at 1, whatever their number: a score of more than 1 would be NaN, and so would all cells."""
    for seed in range(20):
        x = torch.tensor(np.random.default_rng(seed).integers(0, span, 60 + seed)).double()[:, None]
        fitted = Elements.fit(x, (Domain("integer", 0, math.inf),), (False,))
        assert all(map(math.isfinite, fitted.parts[0].high))
        z = fitted.forward(x, torch.full_like(x, 0.999))
        assert torch.equal(fitted.inverse(z), x)
        assert fitted.inverse(torch.tensor([[-9.0], [0.0], [9.0]]).double()).isfinite().all()
