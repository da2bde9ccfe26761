"""``pushforward score``: what it writes is what the model says, and what it refuses."""

import re

import numpy as np
import pandas as pd
import pytest
from command_line import TINY, done, refused

import pushforward as pf

QUICK = ("--set", "train_steps=3", *TINY)
FEW = ("--steps", 4, "--device", "cpu")


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs on points, on images with labels, and on a table with a condition among its columns."""
    folder = tmp_path_factory.mktemp("home")
    done("train", "swissroll", *QUICK, at=folder)
    done("train", "digits", *QUICK, at=folder)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(70, 3)), columns=list("abc"))
    frame["kind"] = ["x", "y"] * 35
    frame.to_csv(folder / "table.csv", index=False)
    frame[["c", "b", "a"]].to_csv(folder / "bare.csv", index=False)
    done("train", "table.csv", "--condition", "kind", *QUICK, at=folder)
    return folder


def model(home, name):
    return pf.load(home / "runs" / name)


def test_scores_of_points_as_parquet(home, tmp_path):
    out = tmp_path / "new" / "scores.parquet"
    said = done("score", "runs/swissroll", "swissroll", "--rows", 100, *FEW, "--out", out, at=home)
    written = pd.read_parquet(out)
    X = pf.open_data("swissroll").values[:100]
    result = model(home, "swissroll").log_prob(X, steps=4)
    assert list(written.columns) == ["log_prob", "standard_error", "numerical_error", "prior_mismatch"]
    np.testing.assert_allclose(written["log_prob"], result.values, rtol=1e-9)
    np.testing.assert_allclose(written["numerical_error"], result.numerical_error, atol=1e-9)
    assert re.match(r"100 scores in .*scores\.parquet\n", said)
    mean = re.search(r"mean log p (\S+) ± (\S+) nats per row \(100 rows, exact, (\d+) network calls per row", said)
    assert float(mean[1]) == pytest.approx(result.values.mean(), abs=1e-4)
    assert float(mean[2]) == pytest.approx(result.values.std(ddof=1) / 10, rel=0.05)
    assert int(mean[3]) == result.nfe


def test_rows_on_disk_have_the_scores_of_those_in_memory(home, tmp_path, monkeypatch):
    np.save(tmp_path / "rows.npy", pf.open_data("swissroll").values[:130])
    tables = []
    for memory in (10**9, 10):
        monkeypatch.setattr("pushforward.data.files.stored.memory_bytes", lambda memory=memory: memory)
        done("score", "runs/swissroll", tmp_path / "rows.npy", *FEW, "--out", tmp_path / f"{memory}.csv", at=home)
        tables.append((tmp_path / f"{memory}.csv").read_text())
    assert tables[0] == tables[1]


def test_bits_of_images_given_their_labels(home, tmp_path):
    out = tmp_path / "scores.csv"
    options = {"steps": 2, "draws": 2, "probes": 2}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    said = done(
        "score",
        "runs/digits",
        "digits",
        "--rows",
        5,
        "--bits-per-dim",
        *words,
        "--seed",
        3,
        "--device",
        "cpu",
        "--out",
        out,
        at=home,
    )
    data = pf.open_data("digits")
    result = model(home, "digits").log_prob(data.values[:5], condition=data.condition[:5], seed=3, bits_per_dim=True, **options)
    written = pd.read_csv(out)
    np.testing.assert_allclose(written["bits_per_dim"], result.values, rtol=1e-4)
    np.testing.assert_allclose(written["standard_error"], result.standard_error, rtol=1e-3)
    assert "bits per dimension (5 rows, lower bound" in said
    assert f"{result.constants} constant elements left out" in said


def test_the_bound(home, tmp_path):
    out = tmp_path / "scores.csv"
    said = done("score", "runs/swissroll", "swissroll", "--rows", 70, "--bound", *FEW, "--draws", 3, "--out", out, at=home)
    X = pf.open_data("swissroll").values[:70]
    bound = model(home, "swissroll").bound(X, steps=4, draws=3)
    written = pd.read_csv(out)
    assert list(written.columns) == ["log_prob", "standard_error"]
    np.testing.assert_allclose(written["log_prob"], bound.values, rtol=1e-6)
    assert "variational bound, 12 network calls per row" in said
    bits = done("score", "runs/swissroll", "swissroll", "--rows", 70, "--bound", "--bits-per-dim", *FEW, "--draws", 3, at=home)
    assert float(re.match(r"mean (\S+) ", bits)[1]) == pytest.approx(bound.bits_per_dim.mean(), abs=1e-4)


def test_tables_find_their_columns_and_conditions(home, tmp_path):
    frame = pd.read_csv(home / "table.csv")
    loaded = model(home, "table")
    out = tmp_path / "scores.csv"
    done("score", "runs/table", "table.csv", *FEW, "--out", out, "--overwrite", at=home)
    expected = loaded.log_prob(frame[["a", "b", "c"]], condition=frame["kind"], steps=4).values
    np.testing.assert_allclose(pd.read_csv(out)["log_prob"], expected, rtol=1e-9)
    done("score", "runs/table", "bare.csv", "--unconditional", *FEW, "--out", out, "--overwrite", at=home)
    expected = loaded.log_prob(frame[["a", "b", "c"]], steps=4).values
    np.testing.assert_allclose(pd.read_csv(out)["log_prob"], expected, rtol=1e-9)
    renamed = frame.rename(columns={"kind": "sort"})
    renamed.to_csv(home / "renamed.csv", index=False)
    done("score", "runs/table", "renamed.csv", "--condition", "sort", *FEW, "--out", out, "--overwrite", at=home)
    assert len(pd.read_csv(out)) == 70


def test_codes_per_row_lift_the_bound_of_a_coder(home):
    rows = np.random.default_rng(0).normal(size=(80, 3))
    np.save(home / "rows.npy", rows)
    vae = pf.VAE(latent_dim=2, train_steps=40, random_state=0, device="cpu").fit(rows)
    vae.save(home / "vae")
    said = done("score", "vae", "rows.npy", "--samples", 7, "--device", "cpu", at=home)
    shown, asked, one = (
        float(re.search(r"log p (\S+)", said)[1]),
        *(vae.log_prob(rows, samples=k).values.mean() for k in (7, 1)),
    )
    assert shown == pytest.approx(asked, abs=1e-3)
    assert asked > one + 0.01
    assert "--samples is no option of FlowMatching" in refused("score", "runs/swissroll", "swissroll", "--samples", 3, at=home)


def test_what_is_refused(home, tmp_path):
    assert "scores are written as .parquet or .csv" in refused(
        "score", "runs/swissroll", "swissroll", "--out", "scores.npy", at=home
    )
    assert "--rows must be at least 1, got 0" in refused("score", "runs/swissroll", "swissroll", "--rows", 0, at=home)
    assert "--probes belongs to the density of the flow" in refused(
        "score", "runs/swissroll", "swissroll", "--bound", "--probes", 2, at=home
    )
    assert "trained without conditions of its rows; omit --condition" in refused(
        "score", "runs/swissroll", "swissroll", "--condition", "a", at=home
    )
    assert "give one of the two" in refused(
        "score", "runs/table", "table.csv", "--condition", "kind", "--unconditional", at=home
    )
    assert "kind" in refused("score", "runs/table", "bare.csv", at=home)
    pf.FlowMatching(source=np.random.default_rng(0).normal(size=(50, 2)), train_steps=2, device="cpu").fit("moons").save(
        home / "own"
    )
    assert "a source without a known density" in refused("score", "own", "moons", at=home)
    pf.FlowMatching(coupling="optimal-transport", train_steps=2, device="cpu").fit("moons").save(home / "transported")
    assert "omit --bound" in refused("score", "transported", "moons", "--bound", at=home)
    assert "comes with none: name the columns" in refused("score", "transported", str(_unlabelled(tmp_path)), at=home)


def _unlabelled(folder):
    path = folder / "points.npy"
    np.save(path, np.zeros((4, 2)))
    return path
