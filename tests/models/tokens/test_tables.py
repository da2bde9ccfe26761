"""Masked diffusion of tables: laws of mixed rows against exact sums, integrals and shares of the data."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import pushforward as pf

NETWORK = pf.TransformerSpec(width=32, depth=1, heads=2)
N = 1500
numbers = np.random.default_rng(0)


def training(steps, rate=5e-3):
    return pf.TrainingSettings(steps=steps, batch_size=128, learning_rate=rate, ema=0.1, gradient_clip=None)


def fitted(frame, steps, rate=5e-3, **options):
    return pf.MaskedDiffusion(network=NETWORK, training=training(steps, rate), random_state=0, **options).fit(frame)


def mixed(n):
    sex = numbers.choice(["f", "m"], n, p=[0.4, 0.6])
    frame = pd.DataFrame(
        {
            "sex": sex,
            "height": np.where(sex == "f", numbers.normal(160, 5, n), numbers.normal(180, 5, n)).round(1),
            "debt": np.where(numbers.random(n) < 0.6, 0.0, numbers.lognormal(5, 1, n)),
            "born": pd.to_datetime("1990-01-01") + pd.to_timedelta(numbers.integers(0, 9000, n), unit="D"),
            "children": pd.array(numbers.integers(0, 4, n), dtype="Int64"),
        }
    )
    frame.loc[numbers.random(n) < np.where(sex == "f", 0.5, 0.1), "children"] = None
    return frame


FRAME = mixed(N)


@pytest.fixture(scope="module")
def model():
    return fitted(FRAME, 250)


def test_the_bounds_of_all_rows_of_a_discrete_table_are_probabilities_of_its_law():
    first = numbers.choice(["x", "y", "z"], 1000, p=[0.6, 0.3, 0.1])
    second = pd.array(np.where(first == "x", 0, numbers.integers(0, 3, 1000)), dtype="Int64")
    frame = pd.DataFrame({"a": first, "b": second})
    frame.loc[frame.index % 4 == 0, "b"] = None
    every = pd.DataFrame([(a, b) for a in "xyz" for b in (0, 1, 2, None)], columns=["a", "b"]).astype({"b": "Int64"})
    found = fitted(frame, 200, 1e-2, held_out=0).log_prob(every, draws=100)
    counts = frame.fillna(-1).value_counts()
    truth = np.array([counts.get(tuple(row), 0) for row in every.fillna(-1).itertuples(index=False)]) / 1000
    assert found.kind == "lower bound"
    # The ends of integers keep 1 - 1 / (m + 2) of their mass.
    error = np.linalg.norm(np.exp(found.values) * found.standard_error)
    assert 0.97 < np.exp(found.values).sum() < 1 + 3 * error
    assert error < 0.02
    assert np.abs(np.exp(found.values) - truth).max() < 0.02


def test_the_law_of_one_column_has_mass_one():
    """Of a single column the bound is exact, and without training its tokens have the shares of the data."""
    debts = FRAME[["debt"]]
    law = fitted(debts, 1, 1e-12, held_out=0, kind="tables")
    edges = np.r_[np.linspace(0, 2000, 8000), np.geomspace(2001, 1e9, 3000)]
    middle, width = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    density = np.exp(law.log_prob(pd.DataFrame({"debt": middle}), draws=1, batch_size=20_000).values)
    share = (debts["debt"] > 0).mean()
    assert density @ width == pytest.approx(share, abs=0.01)
    near = stats.gaussian_kde(np.log(debts["debt"][debts["debt"] > 0]), 0.2)(5)[0] / math.exp(5)
    assert share * near == pytest.approx(np.exp(law.score_samples(pd.DataFrame({"debt": [math.exp(5)]})))[0], rel=0.25)
    with pytest.warns(UserWarning, match="beyond a closed range"):
        at = law.score_samples(pd.DataFrame({"debt": [0.0, -1.0]}))
    assert np.exp(at) == pytest.approx([1 - share, 0], abs=0.01)


def test_samples_are_like_the_data(model):
    drawn = model.sample(3000, seed=0)
    assert list(drawn.dtypes) == list(FRAME.dtypes)
    assert (drawn["debt"] == 0).mean() == pytest.approx((FRAME["debt"] == 0).mean(), abs=0.05)
    assert drawn["debt"].min() == 0
    assert np.array_equal(drawn["height"].round(1), drawn["height"])
    assert drawn["born"].between(FRAME["born"].min(), FRAME["born"].max()).all()
    assert stats.ks_2samp(drawn["height"], FRAME["height"]).statistic < 0.06
    for sex in "fm":
        gaps = [frame["children"][frame["sex"] == sex].isna().mean() for frame in (drawn, FRAME)]
        assert gaps[0] == pytest.approx(gaps[1], abs=0.08)
        assert drawn["height"][drawn["sex"] == sex].mean() == pytest.approx(160 if sex == "f" else 180, abs=2.5)
    assert not model.sample(200, seed=0, gaps="fill").isna().any().any()
    assert (model.sample(30, seed=3, batch_size=7)["debt"] == model.sample(40, seed=3)["debt"][:30]).mean() > 0.95


def test_any_columns_can_be_given(model):
    tall = model.sample(300, condition={"height": 182.5, "debt": 0}, seed=0)
    assert (tall["height"] == 182.5).all()
    assert (tall["debt"] == 0).all()
    assert (tall["sex"] == "m").mean() > 0.9
    each = model.sample(2, condition={"sex": ["f", "m"], "born": "1999-12-31"}, seed=0)
    assert each["sex"].tolist() == ["f", "m"]
    assert (each["born"] == pd.Timestamp("1999-12-31")).all()
    pd.testing.assert_frame_equal(model.sample(5, seed=1, condition="sex=f"), model.sample(5, seed=1, condition={"sex": "f"}))
    for given, said in (
        ({"sex": "x"}, r"condition 'sex' is 'x'; the data have the levels"),
        ({"weight": 3}, r"condition names 'weight', but the columns that it can name are"),
        ({"children": 9}, r"condition 'children' is 9, but its values in training are 0 to 3"),
        ({"debt": -3.0}, r"no row can have the given values of 'debt'.*density is 0"),
    ):
        with pytest.raises(ValueError, match=said):
            model.sample(2, condition=given)


def test_gaps_are_filled_by_the_law_of_what_is_not_missing(model):
    rows = FRAME.iloc[:400].copy()
    rows["sex"] = None
    filled = model.impute(rows, seed=0)
    assert not filled.isna().any().any()
    assert (filled["sex"] == FRAME["sex"][:400]).mean() > 0.9
    assert filled["children"].between(0, 3).all()
    known = rows["children"].notna()
    assert (filled["children"][known] == rows["children"][known]).all()
    assert (filled["height"] == rows["height"]).all()


def test_of_what_is_unknown_nothing_is_said(model):
    """A gap in a column without gaps in training is not counted; one in a column with gaps is a value."""
    rows = FRAME.iloc[:6].assign(
        sex=None, height=np.nan, debt=np.nan, born=pd.NaT, children=pd.array([None] * 6, dtype="Int64")
    )
    share = FRAME["children"].isna().mean()
    np.testing.assert_allclose(np.exp(model.score_samples(rows)), share, atol=0.06)


def test_values_beyond_the_data_have_a_probability_only_where_they_are_possible(model):
    row = FRAME.iloc[[0]].assign(children=pd.array([3], dtype="Int64"))
    here, beyond = (model.score_samples(row.assign(children=pd.array([k], dtype="Int64")))[0] for k in (3, 4))
    assert -math.inf < beyond < here - 3
    assert np.isfinite(model.score_samples(row.assign(height=300.0))).all()
    assert np.isfinite(model.score_samples(row.assign(born=pd.Timestamp("2050-01-01")))).all()
    with pytest.warns(UserWarning, match="beyond a closed range"):
        assert np.isneginf(model.score_samples(row.assign(debt=-1.0))).all()


def test_conditions_stand_beside_columns_that_are_given():
    group = pd.DataFrame({"group": np.where(FRAME["sex"] == "f", "a", "b")})
    conditional = pf.MaskedDiffusion(network=NETWORK, training=training(120), random_state=0)
    conditional.fit(FRAME[["height", "debt", "children"]], condition=group)
    drawn = conditional.sample(200, condition={"group": "a", "debt": 0}, seed=0)
    assert drawn["height"].mean() == pytest.approx(160, abs=4)
    assert (drawn["debt"] == 0).all()


def test_what_cannot_be_learned_is_said_before_training():
    many = pd.DataFrame({"code": [f"c{index % 1100}" for index in range(3300)], "x": numbers.normal(size=3300)})
    with pytest.raises(ValueError, match=r"column 'code' has 1,100 values, but models of tokens take at most 1,024"):
        fitted(many, 1, columns={"code": "category"})
    with pytest.raises(ValueError, match=r"X has the value .*kind=\"tables\""):
        fitted(pd.DataFrame(numbers.normal(size=(50, 2)), columns=list("ab")), 1)
    table = fitted(pd.DataFrame(numbers.normal(size=(200, 2)), columns=list("ab")), 1, kind="tables")
    assert np.isfinite(table.score(pd.DataFrame(numbers.normal(size=(5, 2)), columns=list("ab"))))
