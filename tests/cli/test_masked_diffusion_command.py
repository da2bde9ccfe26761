"""A table of integers with gaps, from the command line: learned, drawn, scored, filled."""

import numpy as np
import pandas as pd
from command_line import done, refused

import pushforward as pf

SMALL = ("--set", "network.width=8", "--set", "network.depth=1", "--set", "train_steps=3")


def test_a_table_of_integers_is_learned_drawn_scored_and_filled(tmp_path):
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"a": rng.integers(0, 4, 60), "b": rng.integers(5, 30, 60)})
    table.to_csv(tmp_path / "table.csv", index=False)
    done("train", "table.csv", "--model", "masked-diffusion", "--seed", "1", *SMALL, at=tmp_path)
    done("sample", "runs/table", "-n", "20", "--steps", "1", "--seed", "0", "--out", "drawn.csv", at=tmp_path)
    drawn = pd.read_csv(tmp_path / "drawn.csv")
    assert drawn.dtypes.tolist() == [np.int64, np.int64]
    assert drawn["a"].between(0, 3).all()
    assert drawn["b"].between(5, 29).all()
    table.loc[0, "a"] = 9
    table.to_csv(tmp_path / "other.csv", index=False)
    said = done("score", "runs/table", "other.csv", at=tmp_path)
    assert "lower bound" in said
    assert " of probability 0" not in said  # 9 is no value of training, but a possible one
    known = table.tail(8).reset_index(drop=True)
    gaps = known.astype("Int64")
    gaps.loc[2, "b"] = pd.NA
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    done("impute", "runs/table", "gaps.csv", "--seed", "0", "--out", "filled.csv", at=tmp_path)
    filled = pd.read_csv(tmp_path / "filled.csv")
    assert filled.drop(index=2).equals(known.drop(index=2))
    assert 5 <= filled.loc[2, "b"] <= 29
    assert "MaskedDiffusion" in done("inspect", "runs/table", at=tmp_path)


def test_the_guidance_scale_reaches_sample_and_impute(tmp_path):
    rng = np.random.default_rng(0)
    group = rng.integers(0, 2, 80)
    table = pd.DataFrame({"a": rng.integers(0, 2, 80) + group, "b": rng.integers(0, 2, 80) + group, "group": group})
    table.to_csv(tmp_path / "table.csv", index=False)
    settings = ("--set", "training.learning_rate=0.01", "--set", "network.width=8", "--set", "network.depth=1")
    options = ("--model", "masked-diffusion", "--condition", "group", "--set", "train_steps=60", *settings)
    done("train", "table.csv", *options, "--seed", 1, at=tmp_path)
    model, wanted = pf.load(tmp_path / "runs/table"), {"condition": "1", "guidance": 4.0}
    words = ("--condition", 1, "--guidance-scale", 4, "--seed", 0)
    done("sample", "runs/table", "-n", 40, *words, "--out", "drawn.csv", at=tmp_path)
    drawn = pd.read_csv(tmp_path / "drawn.csv")[["a", "b"]]
    assert drawn.equals(model.sample(40, seed=0, **wanted))
    assert not drawn.equals(model.sample(40, seed=0, condition="1"))
    gaps = table[["a", "b"]].astype("Int64")
    gaps["b"] = pd.NA
    gaps.to_csv(tmp_path / "gaps.csv", index=False)
    done("impute", "runs/table", "gaps.csv", *words, "--out", "filled.csv", at=tmp_path)
    filled = pd.read_csv(tmp_path / "filled.csv")
    assert filled.equals(model.impute(gaps, seed=0, **wanted))
    assert not filled.equals(model.impute(gaps, seed=0, condition="1"))
    said = refused("impute", "runs/table", "gaps.csv", "--guidance-scale", 2, at=tmp_path)
    assert "a guidance scale of 2 needs a condition" in said
