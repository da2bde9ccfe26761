"""Conditions of columns of several types: their encoding, gaps, names, mistakes, and state."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, save

from pushforward.data import fit_conditions, open_data, restored_conditions
from pushforward.data.columns.given import named_values
from pushforward.data.conditions import keep_parts

N = 120


def table(gaps=False):
    """Return columns of all types; with gaps in rows 3 and 5, and in all of row 7."""
    rng = np.random.default_rng(0)
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 500, N), "D")
    frame = pd.DataFrame(
        {
            "income": rng.choice(["<=50K", ">50K", "a=b, c"], N),
            "age": rng.integers(17, 90, N),
            "rate": rng.normal(size=N).round(3),
            "born": days,
            "since": days.strftime("%d.%m.%Y"),
            "owner": rng.random(N) < 0.3,
            "size": pd.Categorical(rng.choice(["s", "m"], N), categories=["s", "m", "l"], ordered=True),
            "price": [f"${value:,.2f}" for value in rng.gamma(2, 900, N)],
        }
    )
    if gaps:
        frame["age"] = frame["age"].astype("Int64")
        frame["owner"] = frame["owner"].astype("boolean")
        frame.loc[3, "income"], frame.loc[5, ["age", "born"]] = None, None
        frame.loc[7, :] = None
    return frame


@pytest.fixture(scope="module")
def encoder():
    return fit_conditions(table())


def expected(frame):
    """Return the features as the documentation defines them."""
    day, origin = pd.Timedelta(days=1), pd.Timestamp("1970-01-01")
    real = {
        "age": frame["age"].astype(float),
        "rate": frame["rate"],
        "born": (frame["born"] - origin) / day,
        "since": (pd.to_datetime(frame["since"], format="%d.%m.%Y") - origin) / day,
        "price": frame["price"].str.replace(r"[$,]", "", regex=True).astype(float),
    }
    levels = {"income": ["<=50K", ">50K", "a=b, c"], "owner": [False, True], "size": ["m", "s"]}
    parts = [np.ones((N, 1))]
    for name in frame.columns:
        if name in real:
            values = real[name].to_numpy(dtype=float, na_value=np.nan)
            parts.append(((values - np.nanmean(values)) / np.nanstd(values))[:, None])
        else:
            parts.append(np.stack([(frame[name] == level).fillna(False).to_numpy(dtype=float) for level in levels[name]], 1))
    flags = frame.notna().to_numpy().astype(float)
    rows = np.nan_to_num(np.column_stack([*parts, flags]))
    return rows * flags.any(1, keepdims=True)


@pytest.mark.parametrize("gaps", [False, True])
def test_numbers_are_standardized_and_levels_are_blocks_of_features_with_a_flag_per_column(gaps):
    frame = table(gaps)
    encoder = fit_conditions(frame)
    assert (encoder.kind, encoder.has_classes, encoder.gaps) == ("table", False, gaps)
    rows = encoder.encode(frame, N)
    assert rows.shape == (N, encoder.dim)
    np.testing.assert_allclose(rows.numpy(), expected(frame), atol=1e-5)
    # The cells by position, as open_data returns them.
    opened = open_data(np.arange(2 * N).reshape(N, 2) % 7 / 2, condition=frame)
    assert torch.equal(encoder.encode(opened.condition, N), rows)
    shown = encoder.plain(frame)
    assert torch.equal(encoder.encode(shown, N), rows)
    assert shown[0].tolist() == [None if pd.isna(cell) else cell for cell in frame.iloc[0]]


def test_values_by_name_in_any_container_and_order(encoder):
    frame = table()
    rows = encoder.encode(frame, N)
    shuffled = frame[[*reversed(frame.columns)]].assign(more=1)
    for given in (shuffled, {name: frame[name] for name in shuffled.columns[:-1]}):
        assert torch.equal(encoder.encode(given, N), rows)
    first = rows[:1].expand(3, -1)
    for given in (shuffled.iloc[0], dict(frame.iloc[0]), frame.iloc[:1], list(frame.iloc[0])):
        assert torch.equal(encoder.encode(given, 3), first)
    many = encoder.encode({"income": ">50K", "age": [30, 40]}, 2)
    assert torch.equal(many[0], encoder.encode({"income": ">50K", "age": 30}, 1)[0])
    assert not torch.equal(many[0], many[1])


def test_a_part_that_is_left_out_is_a_gap(encoder):
    whole, part = encoder.encode(table(), N)[:1], encoder.encode(table()[["age", "size"]].iloc[:1], 1)
    kept = torch.tensor([[name in ("age", "size") for name in table().columns]])
    assert torch.equal(part, keep_parts(whole, kept, encoder.parts))
    row = table().iloc[0]
    for given in (f"age={row['age']},size={row['size']}", {"age": row["age"], "size": row["size"], "income": None}):
        assert torch.equal(encoder.encode(given, 1), part)
    assert not encoder.encode({}, 2).any()
    assert torch.equal(keep_parts(whole, kept & False, encoder.parts), torch.zeros_like(whole))


@pytest.mark.parametrize(
    ("free", "plain"),
    [
        ({"income": " >50k"}, {"income": ">50K"}),
        ({"owner": "true"}, {"owner": True}),
        ({"owner": 0}, {"owner": False}),
        ({"age": "40"}, {"age": 40}),
        ({"age": 40.0}, {"age": 40}),
        ({"born": "2020-03-01"}, {"born": pd.Timestamp("2020-03-01")}),
        ({"since": pd.Timestamp("2020-03-01")}, {"since": "01.03.2020"}),
        ({"since": "2020-03-01"}, {"since": "01.03.2020"}),
        ({"price": 1234.5}, {"price": "$1,234.50"}),
        ({"price": "1234.5"}, {"price": "$1,234.50"}),
    ],
)
def test_cells_may_be_written_in_other_ways(encoder, free, plain):
    assert torch.equal(encoder.encode(free, 1), encoder.encode(plain, 1))
    assert encoder.encode(free, 1).any()


def test_a_number_is_not_read_as_text_of_another_format():
    prices = [f"{value / 7:,.2f}".translate(str.maketrans(",.", ".,")) for value in range(5000, 90000, 500)]
    german = fit_conditions({"price": prices, "kind": ["a", "b"] * (len(prices) // 2)})
    assert torch.equal(german.encode({"price": 1.25}, 1), german.encode({"price": "1,25"}, 1))
    assert torch.equal(german.encode({"price": 1.234}, 1), german.encode({"price": 1.2340001}, 1))


def test_words_for_booleans():
    words = fit_conditions({"smokes": ["yes", "no"] * 5, "age": range(10)})
    assert torch.equal(words.encode({"smokes": True}, 1), words.encode({"smokes": "Yes"}, 1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"income": ">500K"}, r"condition 'income' is '>500K'; the data have the levels .*; did you mean '>50K'"),
        ({"income": 3}, "condition 'income' is 3; the data have the levels"),
        ({"size": "l"}, "condition 'size' is 'l'; the data have the levels 'm', 's'"),
        ({"incom": ">50K"}, r"condition names 'incom', but the columns that it can name .*Did you mean 'income'\?"),
        ("incom=>50K", r"names 'incom'.*Did you mean 'income'\?"),
        ("age=40,incom=>50K", r"names 'incom'.*Did you mean 'income'\?"),
        ("age=40,age=41", "names 'age' twice"),
        (">50K", "must name its columns, as in 'income="),
        ({"age": "old"}, "condition 'age' is 'old'; write a whole number"),
        ({"age": 4.5}, "condition 'age' is 4.5; write a whole number"),
        ({"age": float("inf")}, "condition 'age' is inf"),
        ({"age": ["40", "old"]}, "condition 'age' is 'old' in row 1"),
        ({"born": 40}, "condition 'born' is 40; write a datetime such as"),
        ({"born": "03.04.2020"}, "condition 'born' is '03.04.2020'; write a datetime such as '2020"),
        ({"age": [1, 2, 3]}, "condition 'age' has 3 values for 2 rows"),
        ([">50K", 3], "rows of 2 values; pass one for each of 'income', 'age'"),
        (table()[["age"]].rename(columns={"age": "years"}), "has the columns 'years', but not 'income'"),
    ],
)
def test_mistakes_are_named_with_what_to_write(encoder, values, message):
    with pytest.raises(ValueError, match=message):
        encoder.encode(values, 2)


def test_text_with_commas_and_equals_signs():
    assert named_values("income=>=50K, age=40", ["age", "income"]) == {"income": ">=50K", "age": "40"}
    assert named_values("city=Paris, France,age=3", ["age", "city"]) == {"city": "Paris, France", "age": "3"}
    assert named_values("a.b=1,a=2", ["a", "a.b"]) == {"a.b": "1", "a": "2"}
    assert named_values("income=a=b, c,age=", ["age", "income"]) == {"income": "a=b, c", "age": ""}
    assert named_values("formula=x, y=1", ["formula"], ["x, y=1"]) == {"formula": "x, y=1"}
    assert named_values("3", ["age"]) is None


def test_names_also_serve_labels_and_vectors():
    labels = fit_conditions(pd.DataFrame({"species": ["cat", "dog", "x=y"]}))
    assert labels.kind == "labels"
    for given in ("species=dog", {"species": "dog"}, pd.DataFrame({"species": ["dog"], "other": 1})):
        assert torch.equal(labels.encode(given, 2), labels.encode("dog", 2))
    assert torch.equal(labels.encode("x=y", 1), labels.encode(["x=y"], 1))
    vector = fit_conditions(pd.DataFrame({"a": [1.0, 2.0, 4.0], "b": [5.0, 1.0, 3.0]}))
    assert vector.kind == "vector"
    for given in ("b=1, a=2", {"b": 1, "a": 2}, "2, 1", pd.Series({"b": 1.0, "a": 2.0})):
        assert torch.equal(vector.encode(given, 2), vector.encode([2.0, 1.0], 2))
    for given in ("a=2", {"a": 2}):
        with pytest.raises(ValueError, match="the training conditions had no gaps"):
            vector.encode(given, 1)
    with pytest.raises(ValueError, match="trained on conditions without names; pass 2 numbers"):
        fit_conditions([[1.0, 2.0], [2.0, 5.0]]).encode({"a": 1}, 1)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pd.DataFrame({"a": [1, 2], "b": [True, False]}), "vector"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "table"),
        ([["x", 1.0], ["y", 2.0]], "table"),
        (np.array([["x", 1.0], ["y", 2.0]], dtype=object), "table"),
        (np.array([[None, 1.0], [1.0, 2.0]], dtype=object), "vector"),
        (pd.Series(pd.date_range("2020", periods=9)), "table"),
        (pd.Series(pd.date_range("2020", periods=9).date), "table"),
        (np.arange(9).astype("timedelta64[m]"), "table"),
        ([f"2020-01-{day:02}" for day in range(1, 21)], "labels"),
        (pd.Series([f"2020-01-{day:02}" for day in range(1, 22)]), "table"),
        (pd.Series([f"no {day:02}" for day in range(1, 22)]), "labels"),
    ],
)
def test_what_is_a_table(values, kind):
    encoder = fit_conditions(values)
    assert encoder.kind == kind
    rows = encoder.encode(values, len(values))
    assert len(rows.unique(dim=0)) == len(values)
    assert torch.equal(encoder.encode(encoder.plain(values), len(values)), rows)


def test_columns_that_say_nothing_about_new_rows_are_refused():
    names = [f"name {index}" for index in range(N)]
    with pytest.raises(ValueError, match=r"'name' has its own text in most rows .* or set columns=\{'name': 'category'\}"):
        fit_conditions({"name": names, "age": range(N)})
    with pytest.raises(ValueError, match="the same in every row"):
        fit_conditions({"a": ["x"] * 4, "b": [1.0] * 4})
    many = {"zip": [f"{index % 1200}z" for index in range(3000)], "age": range(3000)}
    with pytest.raises(ValueError, match="'zip' has 1,200 different levels, more than 1,000"):
        fit_conditions(many)


def test_types_can_be_set():
    frame = pd.DataFrame({"x": np.arange(40.0), "y": 0.5, "zip": np.arange(40) % 4, "age": np.arange(40)})
    frame.loc[0, "y"] = 1.0
    plain = open_data(frame, condition=["zip", "age"])
    typed = open_data(frame, condition=["zip", "age"], types={"zip": "category"})
    assert plain.condition_table is None
    assert [column.type for column in typed.condition_table.columns] == ["category", "integer"]
    alone = open_data(frame, condition="zip", types={"zip": "category", "x": "number"})
    assert [column.type for column in alone.condition_table.columns] == ["category"]
    assert alone.schema.table.names == ("x", "y", "age")


def test_draws_are_training_conditions_at_their_address():
    frame = table(gaps=True)[["income", "age"]]
    encoder = fit_conditions(frame)
    many = encoder.draw(20_000, seed=3)
    assert torch.equal(encoder.draw(5, seed=3, first=100), many[100:105])
    kinds, counts = encoder.encode(frame, N).unique(dim=0, return_counts=True)
    shares = [float((many == kind).all(1).double().mean()) for kind in kinds]
    assert sum(shares) == pytest.approx(1.0)
    np.testing.assert_allclose(shares, counts / N, atol=5 * (4 / N / 20_000) ** 0.5)


@pytest.mark.parametrize("gaps", [False, True])
def test_state_survives_json_and_safetensors(gaps):
    frame = table(gaps)
    encoder = fit_conditions(frame)
    facts, tensors = encoder.state()
    again = restored_conditions(json.loads(json.dumps(facts)), load(save(tensors)))
    assert torch.equal(again.encode(frame, N), encoder.encode(frame, N))
    assert torch.equal(again.draw(50, seed=1), encoder.draw(50, seed=1))
    assert again.plain(frame).tolist() == encoder.plain(frame).tolist()
    assert again.example == encoder.example
    assert torch.equal(again.encode(again.example, 1), encoder.encode(encoder.example, 1))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda facts, tensors: facts.update(table=None),
        lambda facts, tensors: facts.update(kind="vector"),
        lambda facts, tensors: facts.update(columns=["age", "income"]),
        lambda facts, tensors: facts["table"]["columns"][0].update(levels=["a", "b"]),
        lambda facts, tensors: tensors.update(rows=tensors["rows"][:, :1]),
        lambda facts, tensors: tensors["rows"][:, 0].add_(3),
        lambda facts, tensors: tensors["rows"][:, 0].sub_(0.5),
        lambda facts, tensors: tensors["rows"][:, 1].add_(torch.inf),
        lambda facts, tensors: tensors.update(mean=tensors["mean"][1:], scale=tensors["scale"][1:]),
    ],
)
def test_a_file_may_hold_anything(spoil):
    facts, tensors = fit_conditions(table(gaps=True)[["income", "age"]]).state()
    facts = json.loads(json.dumps(facts))
    restored_conditions(facts, tensors)
    spoil(facts, tensors)
    with pytest.raises(ValueError, match="condition|columns"):
        restored_conditions(facts, tensors)
