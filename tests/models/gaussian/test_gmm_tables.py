"""GMM on tables: sums and integrals over all rows, laws by Bayes' rule, shares of many draws, and files."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf
from pushforward.data import open_data
from pushforward.models.base.plan import plan
from pushforward.models.gaussian.columns import Coordinates, LevelColumn, Steps
from pushforward.models.gaussian.search import Learner
from pushforward.probability.domain import KNOWN, PRESENT, UNKNOWN, Domain

RNG = np.random.default_rng(0)
N = 600
GROUP = RNG.integers(0, 3, N)
FRAME = pd.DataFrame(
    {
        "debt": np.where(RNG.random(N) < 0.4, 0.0, RNG.lognormal(GROUP, 0.5, N)),
        "visits": pd.array(RNG.poisson(3 * GROUP), dtype="Int64"),
        "city": np.array(["Paris", "Rome", "Ulm"])[(GROUP + (RNG.random(N) < 0.1)) % 3],
    }
)
FRAME.loc[RNG.random(N) < 0.2, "visits"] = None
FRAME.loc[(GROUP == 1) & (RNG.random(N) < 0.5), "city"] = None
LABEL = np.array(["low", "high"])[(GROUP == 2).astype(int)]
NAN = float("nan")


@pytest.fixture(scope="module")
def model():
    return pf.GMM(n_components=4, random_state=0).fit(FRAME)


@pytest.fixture(scope="module")
def joint(model):
    """The law of the integer and the category, and the density of the real, by the mixture of the formula."""
    visits = model.space_.schema.table.columns[1]
    values = [*np.arange(visits.low, visits.high + 1), NAN]
    cells = list(itertools.product(values, [0.0, 1.0, 2.0, NAN]))
    x = torch.tensor([[0.0, *cell] for cell in cells]).double()
    state = torch.tensor([UNKNOWN, KNOWN, KNOWN]).expand(len(x), -1)
    return cells, model.law_.log_prob(x, state).exp().numpy()


def test_probabilities_and_densities_add_up_to_one(model, joint):
    cells, shares = joint
    assert shares.sum() == pytest.approx(1, abs=1e-10)
    score = model.law_.coordinates.columns[0].inside
    edges = np.array(score.values)
    below, above = edges[0] - np.linspace(0, edges[0], 2000)[::-1], edges[-1] + np.linspace(0, 400, 40_000)
    grid = np.unique(np.concatenate([below, *(np.linspace(a, b, 400) for a, b in itertools.pairwise(edges)), above]))
    middle, width = (grid[1:] + grid[:-1]) / 2, np.diff(grid)  # no value is an atom, nor an end of a linear piece
    for cell, share in zip(cells[::7], shares[::7], strict=True):
        rows = np.column_stack([middle, *(np.full(len(middle), value) for value in cell)])
        smooth = (model.law_.log_prob(torch.from_numpy(rows)).exp().numpy() * width).sum()
        atom = model.law_.log_prob(torch.tensor([[0.0, *cell]]).double()).exp().item()
        assert smooth + atom == pytest.approx(share, rel=5e-3)


def test_scores_are_those_of_the_law(model):
    rows = FRAME.iloc[:50]
    x = torch.from_numpy(model.space_.schema.table.encode(rows))
    result = model.log_prob(rows)
    assert (result.kind, result.dims) == ("exact", 3)
    inside = (rows["visits"] > 0) & (rows["visits"] < FRAME["visits"].max())  # the ends share with integers beyond
    np.testing.assert_allclose(result.values[inside.fillna(False)], model.law_.log_prob(x)[inside.fillna(False).to_numpy()])
    beyond = pd.DataFrame({"debt": [1.0] * 120, "visits": pd.array(range(-60, 60), dtype="Int64"), "city": ["Ulm"] * 120})
    cell = torch.tensor([[1.0, 0.0, 2.0]]).double()
    known = model.law_.log_prob(cell, torch.tensor([[KNOWN, PRESENT, KNOWN]])).exp().item()
    assert np.exp(model.score_samples(beyond)).sum() == pytest.approx(known, rel=1e-3)


def test_any_columns_are_drawn_given_any_others_by_the_joint_law(model, joint):
    n = 20_000
    rows = model.sample(n, condition={"city": "Rome"}, seed=0)
    assert (rows["city"] == "Rome").all()
    cells, shares = joint
    given = [(cell[0], share) for cell, share in zip(cells, shares, strict=True) if cell[1] == 1]
    total = sum(share for _, share in given)
    for value, share in given:
        found = rows["visits"].isna() if np.isnan(value) else rows["visits"] == value
        assert found.fillna(False).mean() == pytest.approx(share / total, abs=4 * 0.5 / n**0.5)
    state = torch.tensor([[KNOWN, UNKNOWN, KNOWN]])
    zero = model.law_.log_prob(torch.tensor([[0.0, 0.0, 1.0]]).double(), state).exp().item()
    assert (rows["debt"] == 0).mean() == pytest.approx(zero / total, abs=4 * 0.5 / n**0.5)
    with pytest.raises(ValueError, match=r"visits.*in training are 0 to"):
        model.sample(1, condition={"visits": 1000})


def test_gaps_are_filled_by_the_law_given_that_there_is_none(model, joint):
    n = 20_000
    rows = pd.DataFrame({"debt": [1.0] * n, "visits": pd.array([4] * n, dtype="Int64"), "city": [None] * n})
    filled = model.impute(rows, seed=0)
    x = torch.tensor([[1.0, 4.0, level] for level in range(3)]).double()
    shares = model.law_.log_prob(x).softmax(0)
    for city, share in zip(["Paris", "Rome", "Ulm"], shares.tolist(), strict=True):
        assert (filled["city"] == city).mean() == pytest.approx(share, abs=4 * 0.5 / n**0.5)


def test_samples_have_gaps_spikes_and_dependence_of_the_data(model):
    rows = model.sample(20_000, seed=1)
    assert list(rows.dtypes) == list(FRAME.dtypes)
    for column in ("visits", "city"):
        assert rows[column].isna().mean() == pytest.approx(FRAME[column].isna().mean(), abs=0.03)
    assert (rows["debt"] == 0).mean() == pytest.approx((FRAME["debt"] == 0).mean(), abs=0.03)
    assert (rows["debt"] >= 0).all()
    for city in ("Paris", "Ulm"):
        means = [table.loc[table["city"] == city, "visits"].mean() for table in (rows, FRAME)]
        assert means[0] == pytest.approx(means[1], abs=0.5)
    np.testing.assert_allclose(model.responsibilities(FRAME.iloc[:9]).sum(1), 1)
    pd.testing.assert_frame_equal(model.sample(10, seed=1, first=40), rows.iloc[40:50].reset_index(drop=True))


def test_labels_and_tables_are_conditions_by_bayes_rule():
    labeled = pf.GMM(n_components=4, random_state=0).fit(FRAME, condition=LABEL)
    rows = FRAME.iloc[:40]
    of_labels = [labeled.score_samples(rows, condition=[name] * 40) for name in ("high", "low")]
    x, state = torch.zeros(2, 4).double(), torch.tensor([UNKNOWN, UNKNOWN, UNKNOWN, KNOWN]).expand(2, -1)
    x[:, 3] = torch.arange(2)
    shares = labeled.law_.log_prob(x, state).numpy()
    assert np.exp(shares).sum() == pytest.approx(1)
    whole = np.logaddexp(*(part + share for part, share in zip(of_labels, shares, strict=True)))
    np.testing.assert_allclose(labeled.score_samples(rows), whole, rtol=1e-9)
    wealthy = labeled.sample(2000, condition="high", seed=0)["visits"].mean()
    assert wealthy == pytest.approx(FRAME["visits"][LABEL == "high"].mean(), abs=0.5)
    beside = pd.DataFrame({"label": LABEL, "age": GROUP + RNG.normal(0, 0.1, N)})
    mixed = pf.GMM(n_components=4, random_state=0).fit(FRAME, condition=beside)
    old = mixed.sample(500, condition={"label": "high", "age": 2.0}, seed=0)["visits"].mean()
    young = mixed.sample(500, condition={"age": 0.0}, seed=0)["visits"].mean()
    assert old > 4 > 1 > young


def test_more_components_are_taken_where_the_data_have_more_groups():
    model = pf.GMM(restarts=2, random_state=0).fit(FRAME)
    assert 2 <= model.n_components_ <= 16
    assert model.score(FRAME) > pf.GMM(n_components=1, random_state=0).fit(FRAME).score(FRAME) + 0.3
    twin = pf.GMM(**model._resolved()).fit(FRAME)
    np.testing.assert_array_equal(twin.score_samples(FRAME), model.score_samples(FRAME))


@pytest.mark.parametrize(("copies", "held_out"), [(1, 0.1), (4, 0.5)])  # fifths of few rows judge, or 1,000 held-out rows
def test_the_law_is_the_mean_of_mixtures_from_different_starts(copies, held_out):
    """With a part of a mean that is drawn by itself, its density is the share that the others leave."""
    frame, given = (
        pd.concat([FRAME] * copies),
        {"n_components": 3, "max_iterations": 1, "held_out": held_out, "random_state": 0},
    )
    one, two, three = (pf.GMM(restarts=n, **given).fit(frame) for n in (1, 2, 3))
    assert (three.restarts_, len(three.law_.mixture.weights)) == (3, 9)
    density = [np.exp(model.score_samples(FRAME.iloc[:60])) for model in (one, two, three)]
    second, third = 2 * density[1] - density[0], 3 * density[2] - 2 * density[1]
    assert (second > 0).all()
    assert (third > 0).all()
    assert np.abs(np.log(second / third)).mean() > 0.1  # from other rows
    assert one.score(FRAME) < two.score(FRAME)


def test_a_plan_of_a_table_tries_nothing(monkeypatch):
    monkeypatch.setattr(Learner, "of", lambda *_, **__: pytest.fail("a trial"))
    model = pf.GMM(random_state=0)
    model.n_components_ = 3  # of an earlier training
    assert plan(open_data(FRAME, gaps=True), model).model._resolved()["n_components"] is None


def test_real_columns_depend_on_each_other_within_a_component():
    x = RNG.normal(size=(500, 1))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 0] + 0.1 * RNG.normal(size=500), "c": ["u", "v"] * 250})
    model = pf.GMM(n_components=1, random_state=0).fit(frame)
    apart = pf.GMM(n_components=1, covariance="diag", random_state=0).fit(frame)
    assert model.score(frame) > apart.score(frame) + 1.5  # log of 1 / sqrt(1 - 0.995^2) is 2.3
    assert model.sample(2000, seed=0)[["a", "b"]].corr().iloc[0, 1] > 0.98


def test_integers_that_many_rows_have_stand_alone_and_others_share_an_interval():
    x = torch.tensor([5.0] * 30 + [9.0] * 30 + [20.0, 21, 22, 23, 24, 40] * 3).double()
    steps = Steps.fit(x, 5.0, 45.0, (7.0,))
    every = torch.tensor([value for value in range(5, 46) if value != 7]).double()
    level = steps.level(every)
    assert (level.diff() >= 0).all()
    for lonely in (5.0, 9.0):
        assert (level == level[every == lonely]).sum() == 1
    np.testing.assert_allclose(torch.bincount(level).double().log(), -steps.log_volume(torch.arange(steps.count)))
    u = torch.linspace(0, 1 - 1e-9, 4000).double()
    for number in range(steps.count):
        drawn = steps.value(torch.full((4000,), number), u)
        assert set(drawn.tolist()) == set(every[level == number].tolist())


def test_columns_are_the_same_after_they_are_written(model):
    again = Coordinates.from_json(model.law_.coordinates.to_json())
    assert again == model.law_.coordinates
    one = LevelColumn.fit(torch.tensor([2.0, NAN]), Domain("real"), True)
    assert one.log_volume(torch.tensor([2.0, NAN, 3.0]).double()).tolist() == [0.0, 0.0, -np.inf]


def test_what_a_table_cannot_have_is_refused(model):
    assert not hasattr(model, "posterior")
    law = pf.GMM(n_components=1, random_state=0).fit(np.random.default_rng(0).normal(size=(50, 2))).law_
    with pytest.raises(ValueError, match=r"start is for rows of numbers, but the data are a table; omit it"):
        pf.GMM(start=pf.probability.GaussianMixture([1.0], law.mean[None], law.cov[None])).fit(FRAME)
    with pytest.raises(ValueError, match=r"batch_size is for rows of numbers"):
        pf.GMM(batch_size=10).fit(FRAME)
    with pytest.raises(ValueError, match=r"n_components=1,000 is more than the 5\d\d training rows"):
        pf.GMM(n_components=1000).fit(FRAME)
    facts, tensors = model._state()
    with pytest.raises(ValueError, match="tables of levels"):
        model._restore(facts, tensors | {"tables": tensors["tables"][:, 1:]}, {})
