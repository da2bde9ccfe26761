"""Types of columns are found, and cells come back as they came in."""

import datetime
import json

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf
from pushforward.data import open_data
from pushforward.data.columns import infer_columns
from pushforward.data.columns.table import column_from_json
from pushforward.data.schema import Schema
from pushforward.probability.domain import Domain

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
    again = column_from_json(json.loads(json.dumps(column.to_json())))
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
            "small": NUMBERS.beta(2, 9, 600).clip(0, 0.95),
            "free": NUMBERS.normal(size=600),
            "rounded": NUMBERS.normal(170, 5, 600).round(1),
        }
    )
    debt, capped, share, small, free, rounded = (column.domain for column in infer_columns(frame).columns)
    assert (debt.low, debt.high, debt.atoms) == (0, np.inf, (0,))
    assert (capped.low, capped.high, capped.atoms) == (0, 1.5, (1.5,))
    assert (share.low, share.high, share.atoms) == (0, 1, ())
    assert (small.low, small.high) == (0, np.inf)
    assert (free.low, free.high, free.atoms) == (-np.inf, np.inf, ())
    assert rounded.atoms == ()  # numbers that repeat because they are coarse
    decoded = infer_columns(frame).columns[5].decode(np.array([171.23456]))
    assert decoded.tolist() == [171.2]


def test_what_is_left_out_is_said():
    frame = pd.DataFrame(
        {
            "id": range(N),
            "Unnamed: 0": range(5, 5 + N),
            "Order No": range(10_001, 10_001 + N),
            "PassengerId": range(N),
            "name": [f"person {number}" for number in range(N)],
            "story": [f"{number} " + "word " * 40 for number in range(N)],
            "empty": [None] * N,
            "dots": ["?"] * N,
            "age": NUMBERS.integers(0, 90, N),
        }
    )
    table = infer_columns(frame)
    assert table.names == ("age",)
    assert infer_columns(pd.DataFrame({"year": range(1990, 2050), 0: range(N), "age": frame["age"]})).names == (
        "year",
        0,
        "age",
    )
    reasons = {out.name: out.reason for out in table.left_out}
    assert list(reasons) == ["id", "Unnamed: 0", "Order No", "PassengerId", "name", "story", "empty", "dots"]
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
        column_from_json(column.to_json() | {"gap_text": "a"})
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


def test_limits_of_numbers_can_be_declared():
    frame = pd.DataFrame({"load": [12.5, np.nan, 99.0, 30.25], "debt": ["1,50", "0,25", "-2,00", "7,00"], "age": [9, 3, 8, 9]})
    types = {"load": "number from -5 to 1e2", "debt": "number to 9.5", "age": "integer from 0 to 120"}
    load, debt, age = infer_columns(frame, types).columns
    assert (load.low, load.high, debt.low, debt.high) == (-5.0, 100.0, None, 9.5)
    assert load.describe() == "number, from -5 to 100, 2 decimals, with gaps"
    assert age.describe() == "integer, 3 to 9, possible from 0 to 120"
    assert age.domain == Domain("integer", 3, 9, limits=(0, 120))
    assert [column_from_json(column.to_json()) for column in (load, age)] == [load, age]
    for types, message in (
        ({"load": "number from 20"}, r"to 'number from 20', but row 0 \(counted from 0\) holds 12.5; correct it"),
        ({"debt": "number from 0 to 5"}, r"to 'number from 0 to 5', but row 2 \(counted from 0\) holds -2"),
        ({"load": "number from 5 to 1"}, "but limits must rise: 'number from 1 to 5'"),
        ({"load": "date from 5"}, "or 'number from 0 to 1' and 'integer from 0 to 120' with limits"),
        ({"age": "integer from 5"}, r"to 'integer from 5', but row 1 \(counted from 0\) holds 3"),
        ({"age": "integer to 9.5"}, "the limits of integers are whole numbers"),
        ({"age": "integer from 9 to 5"}, "but limits must rise: 'integer from 5 to 9'"),
    ):
        with pytest.raises(ValueError, match=message):
            infer_columns(frame, types)


def test_a_declared_limit_ends_the_law():
    rows = np.random.default_rng(0).normal(size=(300, 1))
    frame = pd.DataFrame(rows.clip(None, 1.4), columns=["x"])[rows[:, 0] < 1.4]
    model = pf.GMM(n_components=1, columns={"x": "number to 1.5"}, random_state=0).fit(frame)
    inside = pd.DataFrame({"x": np.linspace(-8, 1.5, 4001)[:-1]})
    assert np.trapezoid(np.exp(model.score_samples(inside)), inside["x"]) == pytest.approx(1, abs=2e-3)
    assert model.sample(2000, seed=0)["x"].max() <= 1.5


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


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        (np.linspace(-1, 1, 90), "vectors"),
        (np.linspace(150, 190, 90), "vectors"),  # far from 0, which bounds nothing
        (np.linspace(0, 5, 90), "tables"),
        (np.linspace(0.2, 1, 90), "tables"),  # shares reach 1
        (np.where(np.arange(90) % 3, -1.5, np.linspace(-9, 9, 90)), "tables"),  # two of three rows have one value
        (np.arange(90) % 7, "vectors"),
    ],
)
def test_a_frame_of_numbers_is_a_table_where_columns_have_spikes_or_bounds(column, kind):
    frame = pd.DataFrame({"x": np.sin(np.arange(90.0)) + 5, "y": column})
    assert open_data(frame).schema.kind == kind
    assert open_data(frame.to_numpy(dtype=float)).schema.kind == "vectors"


def test_frames_of_plain_numbers_keep_their_decimals_and_columns_of_numbers_are_no_dates():
    frame = pd.DataFrame({"x": np.linspace(100, 105, 41).round(2), "y": np.sin(np.arange(41)) + 9, "k": np.arange(41) % 5})
    schema = open_data(frame).schema
    assert (schema.kind, schema.decimals) == ("vectors", (2, None, None))
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema
    made = schema.to_user(torch.tensor([[101.23456, 1 / 3, 2.0]], dtype=torch.float64))
    assert made.iloc[0].tolist() == [101.23, 1 / 3, 2]
    with pytest.raises(ValueError, match="decimals must hold 3 numbers"):
        Schema.from_json(schema.to_json() | {"decimals": [2, None]})
    with pytest.raises(ValueError, match="sets 'k' to 'date', but its cells, such as 0, 1, 2"):
        open_data(frame, types={"k": "date"})
    with pytest.raises(ValueError, match=r"X has 0 sample\(s\)"):
        open_data(frame.head(0))
