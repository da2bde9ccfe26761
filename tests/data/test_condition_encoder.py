import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load, save

import pushforward as pf
from pushforward.data import fit_conditions, restored_conditions

NAN = float("nan")


def test_labels_are_one_hot_behind_the_flag_in_sorted_order():
    encoder = fit_conditions(["dog", "cat", "cow", "cat"])
    assert (encoder.kind, encoder.classes, encoder.dim) == ("labels", ("cat", "cow", "dog"), 4)
    expected = [[1, 0, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert encoder.encode(["dog", "cat", None], 3).tolist() == expected
    assert encoder.encode("cow", 2).tolist() == [[1, 0, 1, 0]] * 2
    assert encoder.encode(None, 2).tolist() == [[0, 0, 0, 0]] * 2
    assert encoder.encode("cow", 2).dtype == torch.float32


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([3, 1, 2] * 5, "labels"),
        (np.arange(20), "labels"),
        (np.arange(21) * 5, "vector"),
        (np.repeat(np.arange(100), 10), "labels"),
        (np.repeat(np.arange(100), 9), "vector"),
        (np.repeat(np.arange(1, 101), 10), "vector"),
        (np.repeat(np.r_[-7, 1:30], 10), "vector"),
        ([True, False], "labels"),
        ([0.0, 1.0], "vector"),
        (np.array([[0, 1], [1, 0]]), "vector"),
        (pd.Series(["a", "b"], dtype="category"), "labels"),
        (pd.Series([*range(0, 300, 3), None], dtype="Int64"), "vector"),
        ([*range(0, 300, 3), NAN], "vector"),
        ([0.5, 1.0, NAN], "vector"),
        (torch.tensor([4, 5, 4]), "labels"),
        (np.array([["a"], ["b"]]), "labels"),
        (np.array([1.5, None, 2.5], dtype=object), "vector"),
    ],
)
def test_kind_follows_the_documented_rule(values, kind):
    assert fit_conditions(values).kind == kind


@pytest.mark.parametrize(
    "values",
    [
        [0, 1, NAN, 7],
        [0, 1, None, 7],
        np.array([0.0, 1.0, NAN, 7.0], dtype=np.float32),
        torch.tensor([0.0, 1.0, NAN, 7.0]),
        pd.Series([0, 1, None, 7]),
        pd.Series([0, 1, None, 7], dtype="Int64"),
        pd.DataFrame({"label": [0, 1, None, 7]}),
    ],
)
def test_a_missing_label_leaves_the_others_classes(values):
    encoder = fit_conditions(values)
    assert (encoder.kind, encoder.classes) == ("labels", (0, 1, 7))
    assert encoder.encode(values, 4).tolist() == [[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]]
    with pytest.raises(ValueError, match=r"not 1\.37"):
        encoder.encode(1.37, 1)


def test_a_missing_boolean_leaves_the_others_booleans():
    encoder = fit_conditions(pd.Series([True, None, False], dtype="boolean"))
    assert encoder.classes == (False, True)
    assert encoder.encode("true", 1).tolist() == [[1, 0, 1]]


def test_whole_numbers_beyond_float64_stay_apart():
    big = 2**53
    assert fit_conditions(pd.Series([big, big + 1, None], dtype="Int64")).classes == (big, big + 1)


def test_a_frame_is_read_by_the_names_of_its_columns():
    frame = pd.DataFrame({"size": [1.0, 2.0, 4.0], "age": [50.0, 10.0, 30.0]})
    encoder = fit_conditions(frame)
    facts, tensors = encoder.state()
    expected = encoder.encode(frame.to_numpy(), 3)
    for own in (encoder, restored_conditions(json.loads(json.dumps(facts)), tensors)):
        assert torch.equal(own.encode(frame[["age", "size"]].assign(more=0.0), 3), expected)
        assert torch.equal(own.encode(frame.iloc[0][["age", "size"]], 3), expected[[0, 0, 0]])
        assert torch.equal(own.encode(pd.Series([1.0, 50.0]), 3), expected[[0, 0, 0]])
        with pytest.raises(
            ValueError, match=r"has the columns 'size', 'years', but not 'age', with which the model was trained"
        ):
            own.encode(frame.rename(columns={"age": "years"}), 3)
    # Numbers instead of names say nothing about the order.
    assert torch.equal(fit_conditions(frame.to_numpy()).encode(frame, 3), expected)


@pytest.mark.parametrize("condition", [["size", "age"], "frame"])
def test_models_and_data_keep_the_names_of_condition_columns(condition):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(60, 2)) * [1, 9], columns=["size", "age"])
    table = frame.assign(x=frame["size"] + rng.normal(size=60), y=frame["age"] + rng.normal(size=60))
    named = condition != "frame"
    data = table if named else table[["x", "y"]]
    model = pf.PPCA(n_components=1).fit(data, condition=condition if named else frame)
    swapped = frame[["age", "size"]]
    assert model.score(table[["x", "y"]], condition=swapped) == model.score(table[["x", "y"]], condition=frame.to_numpy())
    assert model.space_.open(table[["x", "y"]], {}, condition=swapped).condition.tolist() == frame.to_numpy().tolist()


def test_kind_can_be_overridden():
    assert fit_conditions(np.array([1.0, 2.0, 2.0]), kind="labels").classes == (1, 2)
    assert fit_conditions(np.array([1, 2, 2]), kind="vector").kind == "vector"


@pytest.mark.parametrize("value", [3, "3", " 3", 3.0, np.int64(3), np.float32(3), torch.tensor(3)])
def test_a_label_matches_in_whatever_type_it_comes(value):
    encoder = fit_conditions([1, 3, 5, 3])
    assert encoder.encode(value, 1).tolist() == [[1, 0, 1, 0]]


def test_other_types_of_labels_match_text_too():
    booleans = fit_conditions(np.array([True, False]))
    assert booleans.encode("true", 1).tolist() == booleans.encode(True, 1).tolist() == [[1, 0, 1]]
    assert fit_conditions(["0", "1"]).encode(1, 1).tolist() == [[1, 0, 1]]
    # Exact text wins over text that differs in case.
    assert fit_conditions(["A", "a"]).encode("a", 1).tolist() == [[1, 0, 1]]


def test_an_unknown_label_is_answered_with_the_known_ones():
    encoder = fit_conditions(["cat", "dog"])
    with pytest.raises(ValueError, match=r"'catt' is not a label of the training data \('cat', 'dog'\)\. Did you mean 'cat'\?"):
        encoder.encode("catt", 1)
    with pytest.raises(ValueError, match="condition 7 is not a label of the training data \\(1, 3"):
        fit_conditions([1, 3]).encode([1, 7], 2)


def test_vectors_are_standardized():
    values = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0]])
    encoder = fit_conditions(values)
    assert (encoder.kind, encoder.dim) == ("vector", 3)
    rows = encoder.encode(values, 3).double().numpy()
    expected = (values - values.mean(0)) / values.std(0)
    np.testing.assert_allclose(rows, np.column_stack((np.ones(3), expected)), atol=1e-6)
    assert torch.equal(encoder.encode([3.0, 20.0], 4), encoder.encode([[3.0, 20.0]] * 4, 4))
    assert torch.equal(encoder.encode("3.0, 20", 1), encoder.encode([3.0, 20.0], 1))


def test_one_number_per_row_or_one_for_all():
    encoder = fit_conditions([0.0, 2.0])
    assert encoder.encode(3.0, 2).tolist() == [[1, 2], [1, 2]]
    assert encoder.encode("3", 1).tolist() == [[1, 2]]
    assert encoder.encode([3.0, 1.0], 2).tolist() == encoder.encode([[3.0], [1.0]], 2).tolist() == [[1, 2], [1, 0]]


def test_gaps_are_zero_features_with_a_flag():
    values = np.array([[1.0, NAN], [3.0, 4.0], [NAN, 8.0], [NAN, NAN]])
    encoder = fit_conditions(values)
    assert encoder.dim == 5
    rows = encoder.encode(values, 4).tolist()
    # Means 2 and 6, standard deviations 1 and 2, of the entries that are there.
    assert rows == [[1, -1, 0, 1, 0], [1, 1, -1, 1, 1], [1, 0, 1, 0, 1], [0, 0, 0, 0, 0]]


def test_gaps_without_gaps_in_training_are_refused():
    encoder = fit_conditions([[1.0, 2.0], [2.0, 5.0]])
    assert encoder.dim == 3
    with pytest.raises(ValueError, match="the training conditions had no gaps"):
        encoder.encode([NAN, 2.0], 1)


def test_a_constant_number_beside_others_keeps_its_place():
    encoder = fit_conditions([[1.0, 7.0], [2.0, 7.0]])
    assert encoder.encode([2.0, 7.0], 1).tolist() == [[1, 1, 0]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, float("inf")], "contains 1 infinities"),
        ([2.5, 2.5], "same number in every row"),
        ([[1.0, NAN], [2.0, NAN]], "column 1 is missing in every row"),
        ([None, None], "has no label"),
        ([f"name {i}" for i in range(1001)], "1001 different labels"),
        (np.array([1j, 2j]), "real numbers or labels"),
    ],
)
def test_conditions_that_say_nothing_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fit_conditions(values)


@pytest.mark.parametrize(
    ("fitted", "values", "n", "message"),
    [
        (["a", "b"], ["a", "b", "a"], 2, "3 labels for 2 rows"),
        ([0.0, 1.0], [0.0, 1.0, 2.0], 2, r"shape \(3,\) for 2 rows; pass a number, or a number per row"),
        ([[0.0, 1.0], [1.0, 0.0]], 1.0, 2, "pass 2 numbers"),
        ([0.0, 1.0], "big", 1, "'big' is not a number"),
        ([0.0, 1.0], float("inf"), 1, "infinities"),
    ],
)
def test_wrong_conditions_for_sampling_are_refused(fitted, values, n, message):
    with pytest.raises(ValueError, match=message):
        fit_conditions(fitted).encode(values, n)


@pytest.mark.parametrize("values", [["a", "b", "b", None, "b", "b", "b", "b"], [[1.0, 2.0], [NAN, 5.0], [2.0, 2.0]]])
def test_draws_follow_the_training_conditions_at_their_address(values):
    encoder = fit_conditions(values)
    many = encoder.draw(20_000, seed=3)
    assert torch.equal(encoder.draw(5, seed=3, first=100), many[100:105])
    assert not torch.equal(encoder.draw(100, seed=4), many[:100])
    trained = encoder.encode(values, len(values))
    kinds, counts = trained.unique(dim=0, return_counts=True)
    for kind, count in zip(kinds, counts, strict=True):
        share = (many == kind).all(1).double().mean()
        p = float(count) / len(values)
        assert abs(float(share) - p) < 5 * (p * (1 - p) / 20_000) ** 0.5


def test_missing_labels_are_drawn_as_null_rows_and_nothing_else():
    encoder = fit_conditions(["a", None, None, None])
    rows = encoder.draw(500, seed=0)
    assert set(map(tuple, rows.tolist())) == {(0.0, 0.0), (1.0, 1.0)}


@pytest.mark.parametrize("values", [[2, 1, 2], ["x", None, "y"], [True, False], [[1.0, NAN], [3.0, 2.0], [0.1, 9.0]]])
def test_state_survives_json_and_safetensors(values):
    encoder = fit_conditions(values)
    facts, tensors = encoder.state()
    again = restored_conditions(json.loads(json.dumps(facts)), load(save(tensors)))
    assert again.classes == encoder.classes
    assert [type(label) for label in again.classes] == [type(label) for label in encoder.classes]
    assert torch.equal(again.encode(values, len(values)), encoder.encode(values, len(values)))
    assert torch.equal(again.draw(50, seed=1), encoder.draw(50, seed=1))


def test_many_training_conditions_are_thinned_evenly():
    values = np.arange(200_000) / 1000.0
    encoder = fit_conditions(values)
    assert len(encoder.rows) == 65_536
    drawn = encoder.draw(4000, seed=0)[:, 1]
    # Uniform on (-sqrt 3, sqrt 3) once standardized.
    assert abs(float(drawn.mean())) < 0.08
    assert abs(float(drawn.abs().max()) - 3**0.5) < 0.01
