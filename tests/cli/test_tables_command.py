"""Every command on a table with columns of all types and gaps, by the default model."""

import numpy as np
import pandas as pd
import pytest
from command_line import done, refused

import pushforward as pf

pytestmark = pytest.mark.filterwarnings("ignore:not learned, and not in samples. 'name'")
QUICK = ("--set", "n_states=4", "--set", "n_trees=1", "--set", "shrinkage=3")
N = 300


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with a table and a run on it."""
    folder, rng = tmp_path_factory.mktemp("home"), np.random.default_rng(0)
    sex, age = rng.choice(["f", "m"], N), rng.integers(18, 80, N)
    debt = np.where(rng.random(N) < 0.6, 0, rng.lognormal(5, 1, N)).round(2)
    since = (pd.Timestamp("2024-12-31") - pd.to_timedelta(rng.integers(1, 9000, N), unit="D")).strftime("%d.%m.%Y")
    table = pd.DataFrame({"name": [f"n{i}" for i in range(N)], "sex": sex, "age": age, "debt": debt, "since": since})
    table.loc[::9, "debt"] = None
    table.loc[::11, "sex"] = "?"
    table.to_csv(folder / "people.csv", index=False)
    folder.joinpath("said.txt").write_text(done("train", "people.csv", *QUICK, at=folder))
    return folder


def test_the_plan_shows_the_columns(home):
    said = done("train", "people.csv", "--dry-run", "--set", "columns.age=category", at=home)
    assert "model: circuit" in said
    for line in ("sex: category, 'f', 'm', with gaps", "age: category", "debt: number, from 0, 2 decimals, often exactly 0"):
        assert f"# column {line}" in said
    assert "# column name: left out" in said


def test_samples_come_back_as_the_table_was(home):
    done("sample", "runs/people", "-n", 400, "--seed", 0, "--out", "drawn.csv", at=home)
    table = pd.read_csv(home / "people.csv").drop(columns="name")
    drawn = pd.read_csv(home / "drawn.csv")
    assert list(drawn.columns) == list(table.columns)
    assert set(drawn["sex"]) == {"f", "m", "?"}
    assert abs((drawn["debt"] == 0).mean() - (table["debt"] == 0).mean()) < 0.1
    assert abs(drawn["debt"].isna().mean() - 1 / 9) < 0.05
    assert (drawn["debt"].dropna() >= 0).all()
    assert drawn["since"].str.fullmatch(r"\d\d\.\d\d\.\d{4}").all()


def test_any_columns_can_be_given(home):
    done("sample", "runs/people", "-n", 30, "--condition", "sex=f,age=40", "--gaps", "fill", "--out", "given.csv", at=home)
    given = pd.read_csv(home / "given.csv")
    assert (given["sex"] == "f").all()
    assert (given["age"] == 40).all()
    assert not given.isna().any().any()
    assert "names 'sax'" in refused("sample", "runs/people", "--condition", "sax=f", at=home)
    assert "training are 18 to 79" in refused("sample", "runs/people", "--condition", "age=7", at=home)


def test_scores_and_fills(home):
    done("score", "runs/people", "people.csv", "--out", "scores.csv", at=home)
    table = pd.read_csv(home / "people.csv")
    scores = pf.load(home / "runs/people").log_prob(table)
    assert scores.kind == "exact"
    np.testing.assert_allclose(pd.read_csv(home / "scores.csv")["log_prob"], scores.values, rtol=1e-12)
    done("impute", "runs/people", "people.csv", "--out", "filled.csv", "--seed", 0, at=home)
    filled = pd.read_csv(home / "filled.csv")
    assert filled["debt"].notna().all()
    assert set(filled["sex"]) == {"f", "m"}
    known = table["debt"].notna()
    np.testing.assert_array_equal(filled["debt"][known], table["debt"][known])


def test_the_report_shows_the_columns(home):
    said = done("evaluate", "runs/people", at=home)
    for figure in ("Shape of debt", "Trend", "detection", "pattern of gaps"):
        assert figure in said
    page = (home / "runs/people/report.html").read_text()
    assert "How columns go together" in page
    assert "Which cells are empty" in page
