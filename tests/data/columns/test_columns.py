"""Types of columns are found, and cells come back as they came in."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest

from pushforward.data.columns import Column, infer_columns

NUMBERS = np.random.default_rng(0)
N = 60
DAYS = [datetime.date(2024, 1, 1) + datetime.timedelta(days=int(day)) for day in NUMBERS.integers(0, 500, N)]
CENTS = NUMBERS.integers(0, 10**7, N) / 100
SPANS = pd.to_timedelta(NUMBERS.integers(0, 999, N), unit="min")
ZONED = pd.to_datetime(pd.Series(DAYS)).dt.tz_localize("Europe/Berlin") + SPANS
WORDS = [("a", "b", "c")[index] for index in NUMBERS.integers(0, 3, N)]

# What a column holds, its type, and what its numbers can be.
COLUMNS = {
    "reals": (pd.Series(NUMBERS.normal(size=N)), "number"),
    "float32": (pd.Series(NUMBERS.normal(size=N).astype("float32")), "number"),
    "cents": (pd.Series(CENTS), "number"),
    "int8": (pd.Series(NUMBERS.integers(0, 9, N).astype("int8")), "integer"),
    "uint64": (pd.Series(NUMBERS.integers(0, 9, N).astype("uint64")), "integer"),
    "wide integers": (pd.Series(NUMBERS.integers(4 * 10**15, 5 * 10**15, N)), "integer"),
    "whole floats with gaps": (pd.Series([1.0, np.nan, *NUMBERS.integers(0, 9, N)]), "integer"),
    "nullable": (pd.Series(pd.array([1, None, 5] * 20, dtype="Int64")), "integer"),
    "arrow integers": (pd.Series(pd.array([1, None, 5] * 20, dtype="int64[pyarrow]")), "integer"),
    "objects": (pd.Series([1, 2, 7] * 20, dtype=object), "integer"),
    "words": (pd.Series(WORDS), "category"),
    "objects of words": (pd.Series([*WORDS, None], dtype=object), "category"),
    "arrow words": (pd.Series(pd.array([*WORDS, None], dtype="string[pyarrow]")), "category"),
    "categorical": (pd.Series(pd.Categorical(WORDS, categories=["c", "b", "unused", "a"], ordered=True)), "category"),
    "categorical numbers": (pd.Series(pd.Categorical([3, 1, None] * 20)), "category"),
    "codes with zeros": (pd.Series(["007", "010", "100"] * 20), "category"),
    "bool": (pd.Series([True, False] * 30), "boolean"),
    "nullable bool": (pd.Series(pd.array([True, None, False] * 20, dtype="boolean")), "boolean"),
    "yes and no": (pd.Series(["yes", "no", "no"] * 20), "boolean"),
    "dollars": (pd.Series([f"${cents:,.2f}" for cents in CENTS]), "number"),
    "euros": (pd.Series([f"{cents:,.2f} €".translate(str.maketrans(",.", ".,")) for cents in CENTS]), "number"),
    "percents": (pd.Series([f"{share}%" for share in NUMBERS.integers(0, 101, N)]), "integer"),
    "thousands": (pd.Series([f"{1000 + whole:,}" for whole in NUMBERS.integers(0, 10**6, N)]), "integer"),
    "days": (pd.Series(pd.to_datetime(DAYS)), "datetime"),
    "moments in a zone": (ZONED, "datetime"),
    "moments with gaps": (pd.Series([*ZONED, pd.NaT]), "datetime"),
    "spans": (pd.Series(SPANS), "duration"),
    "objects of dates": (pd.Series(DAYS, dtype=object), "date"),
    "objects of times": (pd.Series([datetime.time(7, 5), datetime.time(23, 59, 1)] * 30, dtype=object), "time"),
    "dates": (pd.Series([f"{day:%Y-%m-%d}" for day in DAYS]), "date"),
    "German dates": (pd.Series([f"{day:%d.%m.%Y}" for day in DAYS]), "date"),
    "American dates": (pd.Series([f"{day:%-m/%-d/%Y}" for day in DAYS]), "date"),
    "months in words": (pd.Series([f"{day:%b %d, %Y}" for day in DAYS]), "date"),
    "times": (pd.Series([f"{hour}:{minute:02}" for hour in range(6) for minute in range(10)]), "time"),
    "moments": (pd.Series([f"{day:%Y-%m-%d}T08:30:0{index % 10}" for index, day in enumerate(DAYS)]), "datetime"),
    "moments of a zone": (pd.Series([f"{day:%Y-%m-%d} 08:30:00+0000" for day in DAYS]), "datetime"),
}


@pytest.mark.parametrize(("cells", "kind"), COLUMNS.values(), ids=COLUMNS)
def test_cells_come_back_as_they_came_in(cells, kind):
    (column,) = infer_columns(cells.to_frame("x")).columns
    assert column.type == kind
    again = Column.from_json(json.loads(json.dumps(column.to_json())))
    assert again == column
    values = again.encode(cells)
    assert values.dtype == np.float64
    np.testing.assert_array_equal(np.isnan(values), cells.isna())
    assert column.gaps == cells.isna().any()
    low, high = column.domain.low, column.domain.high
    assert ((values >= low) & (values <= high) | np.isnan(values)).all()
    pd.testing.assert_series_equal(again.decode(values), cells, check_names=False)


def test_numbers_keep_order_and_distance():
    frame = pd.DataFrame({"when": ["2024-02-28", "2024-02-29", "2024-03-02"], "price": ["$1,000.50", "$-3.00", "$0.25"]})
    table = infer_columns(frame)
    np.testing.assert_array_equal(np.diff(table.encode(frame)[:, 0]), [1, 2])
    np.testing.assert_array_equal(table.encode(frame)[:, 1], [1000.5, -3, 0.25])


def test_shapes_of_numbers():
    debt = np.where(NUMBERS.random(600) < 0.7, 0, NUMBERS.lognormal(8, 1, 600))
    capped = np.minimum(NUMBERS.exponential(size=600), 1.5)
    frame = pd.DataFrame(
        {
            "debt": debt,
            "capped": capped,
            "share": NUMBERS.random(600),
            "free": NUMBERS.normal(size=600),
            "rounded": NUMBERS.normal(170, 5, 600).round(1),
        }
    )
    debt, capped, share, free, rounded = (column.domain for column in infer_columns(frame).columns)
    assert (debt.low, debt.high, debt.atoms) == (0, np.inf, (0,))
    assert (capped.low, capped.high, capped.atoms) == (0, 1.5, (1.5,))
    assert (share.low, share.high, share.atoms) == (0, 1, ())
    assert (free.low, free.high, free.atoms) == (-np.inf, np.inf, ())
    assert rounded.atoms == ()  # numbers that repeat because they are coarse
    decoded = infer_columns(frame).columns[4].decode(np.array([171.23456]))
    assert decoded.tolist() == [171.2]


def test_what_is_left_out_is_said():
    frame = pd.DataFrame(
        {
            "id": range(N),
            "Unnamed: 0": range(5, 5 + N),
            "name": [f"person {number}" for number in range(N)],
            "story": [f"{number} " + "word " * 40 for number in range(N)],
            "empty": [None] * N,
            "dots": ["?"] * N,
            "age": NUMBERS.integers(0, 90, N),
        }
    )
    table = infer_columns(frame)
    assert table.names == ("age",)
    reasons = {out.name: out.reason for out in table.left_out}
    assert list(reasons) == ["id", "Unnamed: 0", "name", "story", "empty", "dots"]
    assert "counts the rows" in reasons["id"]
    assert "60 of 60" in reasons["name"]
    assert reasons["story"] == "is long free text"
    assert infer_columns(frame, {"name": "category"}).names == ("name", "age")


def test_gaps_among_words():
    rare = pd.Series(["a", "b", "?", ""] + ["a", "b"] * 20)
    (column,) = infer_columns(rare.to_frame("x")).columns
    assert column.levels == ("a", "b")
    assert np.isnan(column.encode(rare)).sum() == 2
    (column,) = infer_columns(rare.replace("", "?").to_frame("x")).columns
    assert column.decode(np.array([np.nan, 1.0])).tolist() == ["?", "b"]
    with pytest.raises(ValueError, match="writes gaps as 'a', which is read as no gap"):
        Column.from_json(column.to_json() | {"gap_text": "a"})
    often = pd.Series(["a", "?"] * 20)
    assert infer_columns(often.to_frame("x")).columns[0].levels == ("?", "a")
    assert infer_columns(pd.Series(["NA", "none", "x"] * 9).to_frame("x")).columns[0].levels == ("NA", "none", "x")


def test_types_can_be_set():
    frame = pd.DataFrame({"zip": [10115, 80331] * 20, "size": ["1", "2"] * 20, "when": ["01/02/2024", "03/04/2024"] * 20})
    zips, sizes, when = infer_columns(frame, {"zip": "category", "size": "number", "when": "category"}).columns
    assert (zips.type, zips.levels) == ("category", (10115, 80331))
    assert zips.decode(zips.encode(frame["zip"])).equals(frame["zip"])
    assert sizes.type == "number"
    assert sizes.decode(sizes.encode(frame["size"])).tolist() == frame["size"].tolist()
    assert when.levels == ("01/02/2024", "03/04/2024")
    for types, message in (
        ({"zip": "postcode"}, "a type is one of number, integer, category"),
        ({"zap": "category"}, "columns sets the type of 'zap', but the data have the columns 'zip'"),
        ({"when": "number"}, "columns sets 'when' to 'number', but its cells, such as '01/02/2024'"),
        ({"size": "duration"}, "columns sets 'size' to 'duration'"),
    ):
        with pytest.raises(ValueError, match=message):
            infer_columns(frame, types)


def test_cells_that_are_not_understood_are_named():
    with pytest.raises(ValueError, match=r"'01/02/2024' can be 2024-02-01 or 2024-01-02"):
        infer_columns(pd.DataFrame({"when": ["01/02/2024", "03/04/2024"]}))
    mostly = pd.DataFrame({"x": [*map(str, NUMBERS.normal(size=40)), "n/a", "abc"]})
    with pytest.raises(ValueError, match=r"column 'x' holds numbers, except for 1 cells, the first of them 'abc' in row 41"):
        infer_columns(mostly)
    with pytest.raises(TypeError, match=r"column 'x' holds objects of type list, such as \[1, 2\]"):
        infer_columns(pd.DataFrame({"x": [[1, 2], [3, 4]]}))
    table = infer_columns(pd.DataFrame({"sex": ["f", "m"] * 9, "age": [3, 4] * 9, "day": ["2024-01-31", "2024-02-01"] * 9}))
    for cells, message in (
        (
            {"sex": ["f", "mm"], "age": [1, 2], "day": ["2024-01-31"] * 2},
            "column 'sex' has 'mm' in row 1 .* the levels 'f', 'm'",
        ),
        ({"sex": ["f"], "age": [1.5], "day": ["2024-01-31"]}, "column 'age' has .*1.5.* in row 0 .*write a whole number"),
        ({"sex": ["f"], "age": [1], "day": ["31.1.2024"]}, "column 'day' has '31.1.2024' .*write a date such as '2024-01-31'"),
    ):
        with pytest.raises(ValueError, match=message):
            table.encode(pd.DataFrame(cells))
