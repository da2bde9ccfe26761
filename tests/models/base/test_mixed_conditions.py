"""Models of rows given columns of several types: conditional means against least squares, parts, dropping of parts, folders."""

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf
from pushforward.data import RowSpace, Transform, fit_conditions, open_data
from pushforward.models import run
from pushforward.models.base.task import RowTask
from pushforward.training import Batch, TrainingSettings

N = 600


def table():
    rng = np.random.default_rng(0)
    sex, age = rng.choice(["f", "m", "x"], N), rng.integers(17, 90, N)
    shift = pd.Series(sex).map({"f": 0.0, "m": 2.0, "x": -3.0}).to_numpy()
    noise = rng.multivariate_normal([0, 0], [[1.0, 0.6], [0.6, 0.5]], N)
    return pd.DataFrame({"sex": sex, "x": shift + 0.1 * age, "age": age, "y": 1 - shift}) + pd.DataFrame(
        {"sex": "", "x": noise[:, 0], "age": 0, "y": noise[:, 1]}
    )


def least_squares(regressors, at):
    """Return the mean of (x, y) at a point by least squares on a constant and these regressors."""
    A = np.column_stack([np.ones(N), *regressors])
    coefficients = np.linalg.lstsq(A, table()[["x", "y"]].to_numpy(), rcond=None)[0]
    return np.array([1.0, *at]) @ coefficients


@pytest.fixture(scope="module")
def ppca():
    return pf.PPCA(n_components=1, held_out=0, random_state=0).fit(table(), condition=["sex", "age"])


SEX = [(table()["sex"] == level).to_numpy(dtype=float) for level in ("m", "x")]
AGE = table()["age"].to_numpy(dtype=float)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ({"sex": "m", "age": 40}, least_squares([*SEX, AGE], [1, 0, 40])),
        ({"age": 40}, least_squares([AGE], [40])),
        ({"sex": "x"}, least_squares(SEX, [0, 1])),
        ({}, table()[["x", "y"]].mean().to_numpy()),
    ],
    ids=["all", "a number", "a level", "nothing"],
)
def test_means_given_any_part_are_those_of_least_squares(ppca, given, wanted):
    rows = ppca.sample(4000, condition=given, seed=1)
    assert list(rows.columns) == ["x", "y"]
    np.testing.assert_array_less(np.abs(rows.mean() - wanted), 4.5 * rows.std() / 4000**0.5)
    if len(given) == 2:
        at_zero = ppca.inverse_transform(np.zeros((1, 1)), condition=given)
        np.testing.assert_allclose(at_zero.to_numpy()[0], wanted, atol=1e-4)


def test_rows_are_scored_given_a_frame_in_any_order(ppca):
    frame = table()
    score = ppca.score_samples(frame[["x", "y"]], condition=frame[["age", "sex", "x"]])
    one = ppca.score_samples(frame[["x", "y"]].iloc[:1], condition={"sex": frame["sex"][0], "age": frame["age"][0]})
    np.testing.assert_allclose(score[:1], one)
    assert score.mean() > ppca.score(frame[["x", "y"]], condition=frame[["age"]]) > ppca.score(frame[["x", "y"]])


def test_a_row_whose_condition_has_gaps_keeps_its_other_parts():
    frame, gone = table(), np.arange(N) % 3 == 0
    frame["age"] = frame["age"].astype("Int64")
    frame.loc[gone, "age"] = None
    model = pf.PPCA(n_components=1, held_out=0, random_state=0).fit(frame, condition=["sex", "age"])
    rows = model.sample(4000, condition={"sex": "x"}, seed=1)
    wanted = table().loc[table()["sex"] == "x", ["x", "y"]].mean()
    np.testing.assert_array_less(np.abs(rows.mean() - wanted), 5 * rows.std() / 4000**0.5)


def test_a_folder_keeps_the_columns(ppca, tmp_path):
    ppca.save(tmp_path)
    again = pf.load(tmp_path)
    for given in ("sex=m,age=40", {"age": [20, 30, 40]}, None):
        pd.testing.assert_frame_equal(again.sample(3, condition=given, seed=1), ppca.sample(3, condition=given, seed=1))


class _Conditions(RowTask):
    """A task whose loss is the condition that it is given."""

    def loss(self, x, condition, numbers):
        return condition


def test_training_drops_whole_conditions_and_single_columns():
    encoder = fit_conditions(table()[["sex", "age"]])
    n, p = 40_000, 0.3
    task = _Conditions(condition_dropout=p)
    task.drop_parts(encoder.parts)
    draws = tuple(draw[0] for draw in task.draw(torch.arange(n), n, torch.tensor([7]), 1))
    whole = encoder.encode({"sex": "m", "age": 40}, n)
    rows = task(Batch(torch.zeros(n, 1), whole, draws))
    forms = {("m", 40): 0.0, ("m", None): 0.0, (None, 40): 0.0, (None, None): 0.0}
    for sex, age in forms:
        forms[sex, age] = float((rows == encoder.encode({"sex": sex, "age": age}, n)).all(1).float().mean())
    part = p * (1 - p) / 4
    wanted = [(1 - p) ** 2 + part, part, part, p + part]
    assert sum(forms.values()) == pytest.approx(1)
    np.testing.assert_allclose(list(forms.values()), wanted, atol=5 * (0.25 / n) ** 0.5)
    assert torch.equal(task.held_out(Batch(torch.zeros(n, 1), whole, draws))[0], whole)


def test_a_network_gets_the_parts_and_without_dropping_has_no_law_without_one():
    frame, options = table(), {"network": pf.MLPSpec(width=8, depth=1), "training": TrainingSettings(steps=2, batch_size=32)}
    flow = pf.FlowMatching(**options, random_state=0).fit(frame, condition=["sex", "age"])
    full, part = (flow.sample(3, condition=given, seed=1, steps=2) for given in ("sex=m,age=40", {"sex": "m"}))
    assert not full.equals(part)
    assert np.isfinite(flow.sample(2, condition={"sex": "m"}, guidance=2.0, seed=1, steps=2).to_numpy()).all()
    flow.condition_dropout = 0
    assert len(flow.sample(3, condition="sex=m,age=40", seed=1, steps=2)) == 3
    with pytest.raises(ValueError, match=r"condition lacks 'age', .* give it, or train with condition_dropout=0.1"):
        flow.sample(3, condition={"sex": ["m", "f", "x"], "age": [40, None, 20]})
    with pytest.raises(ValueError, match="condition lacks 'sex'"):
        flow.score(frame[["x", "y"]], condition=frame[["age"]])


def test_columns_of_the_data_are_given_by_name():
    frame = table()
    space = pf.PPCA(held_out=0).fit(frame[["x", "y"]]).space_
    x = space.partial({"y": [1.5, float("nan")]}, 2)
    assert x.dtype == torch.float64
    assert x.nan_to_num(-9).tolist() == [[-9, 1.5], [-9, -9]]
    assert space.split("x=2, y=-1e3") == (None, {"x": "2", "y": "-1e3"})
    assert space.partial({"x": "2", "y": "-1e3"}, 3).tolist() == [[2, -1000]] * 3
    for name in ({"z": 1}, "z=1"):
        with pytest.raises(ValueError, match=r"names 'z', but the columns that it can name are 'x', 'y'"):
            space.split(name)
    with pytest.raises(ValueError, match="names 'sex'"):
        space.split(frame.iloc[0])
    with pytest.raises(ValueError, match="'x' has 3 values for 2 rows"):
        space.partial({"x": [1, 2, 3]}, 2)
    with pytest.raises(ValueError, match="'x' is 'low'; write a number"):
        space.partial({"x": "low"}, 2)
    unnamed = pf.PPCA(held_out=0).fit(frame[["x", "y"]].to_numpy())
    with pytest.raises(ValueError, match="without conditions"):
        unnamed.sample(2, condition={"x": 1})


def test_columns_of_a_table_are_given_by_name():
    data = open_data(table())
    internal = data.to_internal()
    space = RowSpace(data.schema, Transform.in_data_units(internal, integer=data.schema.integer, kind="tables", limits=None))
    x = space.partial({"sex": "M", "age": [30, 40]}, 2)
    assert x.nan_to_num(-9)[:, [0, 2]].tolist() == [[1, 30], [1, 40]]
    assert x.isnan().any(0).tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="'sex' is 'q'; the data have the levels 'f', 'm', 'x'"):
        space.partial({"sex": "q"}, 2)
    with pytest.raises(ValueError, match=r"'age' is 300, but its values in training are \d+ to \d+"):
        space.partial({"age": 300}, 2)


def test_a_run_is_opened_again_with_the_types_that_were_set(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"x": rng.normal(size=90), "y": rng.normal(size=90), "zip": rng.integers(0, 4, 90)})
    frame.to_csv(tmp_path / "t.csv", index=False)
    model = pf.PPCA(columns={"zip": "category"}, held_out=0, random_state=0)
    model = pf.train(tmp_path / "t.csv", model, out=tmp_path / "run", condition="zip")
    assert model.space_.conditions.example == f"zip={frame['zip'][0]}"
    assert run.reopen(tmp_path / "t.csv", tmp_path / "run").model.columns == (("zip", "category"),)
    again = model.space_.open(tmp_path / "t.csv", {"condition": "zip"})
    assert again.fingerprint == model.data_["fingerprint"]
    assert again.condition_table == model.space_.conditions.table


@pytest.mark.parametrize(
    "model",
    [
        pf.Circuit(n_states=8, n_trees=1, shrinkage=0.3, random_state=0),
        pf.GMM(n_components=4, random_state=0),
        pf.MaskedDiffusion(network=pf.MLPSpec(width=32, depth=1), train_steps=500, condition_dropout=0.5, random_state=0),
    ],
    ids=lambda model: type(model).__name__,
)
def test_given_columns_without_the_condition_of_training_average_over_it(model):
    """Two columns are independent given the condition, so that one tells of the other only by way of it."""
    rng = np.random.default_rng(0)
    condition = rng.integers(0, 2, 600)
    columns = {name: np.array(["no", "yes"])[np.where(rng.random(600) < 0.1, 1 - condition, condition)] for name in "ab"}
    frame = pd.DataFrame(columns)
    model.fit(frame, condition=condition)
    drawn = model.sample(1000, condition={"a": "yes"}, seed=0)
    share = (frame["b"][frame["a"] == "yes"] == "yes").mean()
    assert (drawn["b"] == "yes").mean() == pytest.approx(share, abs=0.07)
    with pytest.raises(ValueError, match="gaps must be 'keep' or 'fill', not 'some'"):
        model.sample(2, condition={"a": "yes"}, gaps="some")
