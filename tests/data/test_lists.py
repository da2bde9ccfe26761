"""Columns of lists: one column per element, or one series per row."""

import numpy as np
import pandas as pd
import pytest

import pushforward as pf
from pushforward.data import open_data

ROWS = np.random.default_rng(0).normal(size=(120, 4))


def frame(rows=ROWS, **others):
    return pd.DataFrame({"emb": list(rows), **others})


@pytest.mark.parametrize("fixed", [True, False])
def test_lists_of_a_parquet_file_become_columns_or_series(fixed, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = pa.array(ROWS.tolist(), pa.list_(pa.float32(), 4) if fixed else pa.list_(pa.float64()))
    path = tmp_path / "lists.parquet"
    pq.write_table(pa.table({"emb": cells, "y": ROWS.sum(1)}), path)
    table = open_data(path)
    assert list(table.values.columns) == ["emb_0", "emb_1", "emb_2", "emb_3", "y"]
    np.testing.assert_allclose(table.values.to_numpy()[:, :4], ROWS, rtol=1e-6)
    series = open_data(path, columns="emb", condition="y", kind="signals")
    assert series.values.shape == (120, 4)
    np.testing.assert_allclose(series.condition, ROWS.sum(1))
    with pytest.raises(ValueError, match=r"'y' can be no part of them; choose the lists with columns='emb'"):
        open_data(path, kind="signals")


def test_a_model_takes_frames_with_the_lists_that_it_was_trained_on():
    polars = pytest.importorskip("polars")
    model = pf.GMM(n_components=2, random_state=0).fit(frame())
    plain = model.score_samples(pd.DataFrame(ROWS, columns=[f"emb_{k}" for k in range(4)]))
    np.testing.assert_array_equal(model.score_samples(frame()), plain)
    np.testing.assert_array_equal(model.score_samples(polars.DataFrame({"emb": ROWS.tolist()})), plain)
    assert list(model.sample(3, seed=0).columns) == ["emb_0", "emb_1", "emb_2", "emb_3"]


def test_missing_lists_and_elements_are_gaps():
    rows = [None if index == 3 else [1.0, None] if index == 5 else row.tolist()[:2] for index, row in enumerate(ROWS)]
    values = open_data(pd.DataFrame({"emb": rows}), gaps=True).values
    assert values.isna().to_numpy().nonzero()[0].tolist() == [3, 3, 5]
    filled = pf.GMM(n_components=1, random_state=0).fit(pd.DataFrame({"emb": rows})).impute(pd.DataFrame({"emb": rows}), seed=0)
    assert not filled.isna().to_numpy().any()


def test_lists_that_cannot_become_columns_are_named():
    with pytest.raises(ValueError, match=r"column 'emb' differ in length: row 3 has 2 elements and the first has 4"):
        open_data(pd.DataFrame({"emb": [[1.0] * 4, [2.0] * 4, [3.0] * 2]}))
    with pytest.raises(ValueError, match=r"'emb_0' is among the columns already; rename"):
        open_data(frame(emb_0=ROWS[:, 0]))
    with pytest.raises(TypeError, match=r"column 'emb' holds objects of type list"):
        open_data(pd.DataFrame({"emb": [["a", "b"], ["c", "d"]] * 10}))
