"""Frames of polars are taken, and come back with the same types."""

import datetime

import numpy as np
import polars as pl
import pytest

import pushforward as pf

N = 80
RNG = np.random.default_rng(0)
DAY, SECOND = datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)
FRAME = pl.DataFrame(
    {
        "word": RNG.choice(["a", "b"], N),
        "count": [None if k % 7 == 0 else int(k % 5) for k in range(N)],
        "size": RNG.normal(size=N).astype(np.float32),
        "flag": RNG.random(N) < 0.5,
        "day": [DAY + datetime.timedelta(days=3 * k % 50) for k in range(N)],
        "time": [SECOND + datetime.timedelta(seconds=977 * k) for k in range(N)],
        "level": pl.Series(RNG.choice(["x", "y"], N)).cast(pl.Categorical),
    }
)


@pytest.fixture(scope="module")
def model():
    return pf.Circuit(n_states=2, n_trees=1, shrinkage=3.0, random_state=0).fit(FRAME)


def test_samples_have_the_types_of_the_data(model, tmp_path):
    samples = model.sample(40, seed=0)
    assert samples.schema == FRAME.schema
    assert samples["count"].null_count() > 0
    model.save(tmp_path)
    assert pf.load(tmp_path).sample(40, seed=0).equals(samples)
    assert model.sample(3, condition={"level": "x"}, seed=0)["level"].to_list() == ["x"] * 3


def test_rows_are_scored_filled_and_evaluated(model):
    assert model.score_samples(FRAME).shape == (N,)
    filled = model.impute(FRAME, seed=0)
    assert filled.null_count().sum_horizontal().item() == 0
    known = FRAME["count"].is_not_null()
    assert filled.filter(known).equals(FRAME.filter(known))
    assert dict(pf.evaluate(model, FRAME[40:], X_train=FRAME[:40]).failures) == {}


def test_plain_numbers_are_vectors():
    numbers = pl.DataFrame({"x": RNG.normal(size=60), "y": RNG.normal(size=60)})
    model = pf.PPCA(random_state=0).fit(numbers)
    assert model.space_.schema.kind == "vectors"
    assert model.sample(5, seed=0).schema == numbers.schema
    np.testing.assert_array_equal(model.score_samples(numbers), model.score_samples(numbers.to_pandas()))
