"""Every family, on a table with columns of several types and gaps."""

import numpy as np
import pandas as pd
import pytest
from test_contract import SMALL, _maker

import pushforward as pf
from pushforward.models import MODELS

numbers = np.random.default_rng(0)
N = 80
FRAME = pd.DataFrame(
    {
        "height": numbers.normal(170, 8, N).round(1),
        "debt": np.where(numbers.random(N) < 0.6, 0, numbers.lognormal(5, 1, N)),
        "children": pd.array(numbers.integers(0, 4, N), dtype="Int64"),
        "city": pd.Categorical(numbers.choice(["Paris", "Rome", "Ulm"], N), categories=["Ulm", "Rome", "Paris", "Oslo"]),
        "smoker": numbers.random(N) < 0.3,
        "born": pd.to_datetime("1990-01-01") + pd.to_timedelta(numbers.integers(0, 9000, N), unit="D"),
        "since": [f"{day:02}.03.2024" for day in numbers.integers(13, 31, N)],
    }
)
FRAME.loc[::7, "children"] = None
FRAME.loc[::9, "city"] = None
OF_NUMBERS = ["height", "debt", "children", "smoker", "born"]  # without categories of three levels
COLUMNS = {"PPCA": OF_NUMBERS}
QUICK = {"FlowMatching", "GMM", "MaskedDiffusion", "NormalizingFlow", "VAE"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.full]) for name in MODELS])
def test_tables(name, tmp_path):
    frame = FRAME[COLUMNS.get(name, list(FRAME.columns))]
    model = _maker(name, SMALL)().fit(frame)
    model.save(tmp_path / "model")
    again = pf.load(tmp_path / "model")
    if hasattr(model, "sample"):
        samples = model.sample(60, seed=0)
        assert list(samples.columns) == list(frame.columns)
        assert list(samples.dtypes) == list(frame.dtypes)
        pd.testing.assert_frame_equal(again.sample(60, seed=0), samples)
        if "city" in samples:
            assert set(samples["city"].dropna()) <= {"Paris", "Rome", "Ulm"}
        assert samples["children"].dropna().between(0, 3).all()
        assert not samples["smoker"].isna().any()
        if name in ("FlowMatching", "Diffusion", "MaskedDiffusion", "NormalizingFlow"):
            assert (samples["debt"] >= 0).all()
            assert (samples["debt"] == 0).any()
            assert np.array_equal(samples["height"].round(1), samples["height"])
    if model.given_columns:
        given = model.sample(5, condition={"smoker": True, "children": [0, 1, 2, 3, 0]}, seed=0)
        assert given["smoker"].all()
        assert given["children"].tolist() == [0, 1, 2, 3, 0]
    if hasattr(model, "impute"):
        rows = frame.iloc[:9].copy()
        rows["smoker"] = rows["smoker"].astype("boolean")
        rows.loc[2, "smoker"] = None
        filled = model.impute(rows, seed=1)
        assert not filled.isna().any().any()
        for column in rows:
            known = ~rows[column].isna()
            assert filled[column][known].astype(object).tolist() == rows[column][known].astype(object).tolist()
    if hasattr(model, "score"):
        scores = model.score_samples(frame.iloc[:5])
        assert np.isfinite(scores).all()
        np.testing.assert_array_equal(again.score_samples(frame.iloc[:5]), scores)


def test_the_bound_of_a_flow_is_one_of_probabilities():
    frame = pd.DataFrame({"a": numbers.choice(["x", "y", "z"], 200, p=[0.6, 0.3, 0.1]), "b": numbers.integers(0, 3, 200)})
    frame.loc[::5, "a"] = None
    flow = pf.NormalizingFlow(network=pf.FlowSpec(width=16, steps=2, bins=8), train_steps=40, random_state=0, device="cpu")
    flow.fit(frame)
    every = pd.DataFrame([(a, b) for a in ("x", "y", "z", None) for b in range(3)], columns=["a", "b"])
    found = flow.log_prob(every, draws=50)
    assert found.kind == "lower bound"
    assert 0.8 < np.exp(found.values).sum() < 1.001


def test_columns_that_a_family_cannot_learn_are_refused_before_training():
    with pytest.raises(
        ValueError, match=r"PPCA takes no categories with more than two levels, as in 'city'; omit .*GMM.*Masked"
    ):
        pf.PPCA().fit(FRAME)
    rows = FRAME.iloc[:5].astype({"smoker": "boolean"})
    rows.loc[1:, "smoker"] = None
    flow = _maker("NormalizingFlow", SMALL)().fit(FRAME)
    with pytest.raises(ValueError, match=r"X contains 4 NaN or empty cells, the first at row 1, column 'smoker'"):
        flow.score_samples(rows)
    with pytest.raises(TypeError, match=r"trained on a table with the columns 'height', .*pass a DataFrame"):
        _maker("PPCA", SMALL)().fit(FRAME[OF_NUMBERS]).score_samples(np.zeros((3, 5)))


def test_types_can_be_set_and_are_kept(tmp_path):
    frame = pd.DataFrame({"code": [3, 1, 7] * 20, "x": numbers.normal(size=60)})
    model = _maker("FlowMatching", SMALL)().set_params(columns={"code": "category"}).fit(frame)
    assert model.space_.schema.table.columns[0].levels == (1, 3, 7)
    assert set(model.sample(20, seed=0)["code"]) <= {1, 3, 7}
    model.save(tmp_path / "model")
    assert dict(pf.load(tmp_path / "model").columns) == {"code": "category"}
    with pytest.raises(ValueError, match="sets types of columns, but the data are no table"):
        model.fit(frame.to_numpy())
