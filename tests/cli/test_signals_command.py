"""Sounds and series through the command line: train, inspect, sample, score, impute, resume."""

import json
import os

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from command_line import TINY, call, done, refused
from safetensors.torch import load_file

SMALL = (*TINY, "--set", "network.levels=2", "--set", "training.steps=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with sounds of two classes and of different lengths, and a run on them."""
    at = tmp_path_factory.mktemp("signals")
    numbers = np.random.default_rng(0)
    for index in range(24):
        folder = at / "clips" / ("high" if index % 2 else "low")
        folder.mkdir(parents=True, exist_ok=True)
        wave = np.sin((0.7 if index % 2 else 0.2) * np.arange(1100 + 10 * index) + numbers.uniform(0, 6))
        soundfile.write(folder / f"{index}.flac", 0.3 * wave, 8000)
    done("train", "clips", *SMALL, "--out", "run", at=at)
    return at


@pytest.mark.usefixtures("blank")
def test_a_folder_of_sounds_is_trained_on_and_sampled(place):
    for told in (done("inspect", "run", at=place), done("train", "clips", *SMALL, "--dry-run", at=place)):
        assert "8,000 samples per second" in told
        assert "24 followed by silence" in " ".join(told.split())
    done("sample", "run", "-n", 4, "--condition", "high,low", "--seed", 1, "--steps", 3, "--out", "new/", at=place)
    files = sorted(path.relative_to(place / "new").as_posix() for path in (place / "new").rglob("*.flac"))
    assert files == ["high/00000.flac", "high/00002.flac", "low/00001.flac", "low/00003.flac"]
    clip, rate = soundfile.read(place / "new" / files[0])
    assert rate == 8000
    done("sample", "run", "-n", 4, "--condition", "high,low", "--seed", 1, "--steps", 3, "--out", "all.npy", at=place)
    same = np.load(place / "all.npy")[0]
    np.testing.assert_allclose(clip, same.clip(-1, 1)[: len(clip)], atol=1e-4)
    assert not same[len(clip) :].any()
    done("sample", "run", "-n", 2, "--seed", 1, "--steps", 3, "--out", "two.wav", at=place)
    assert soundfile.info(place / "two.wav").samplerate == 8000


def test_sounds_are_filled_and_not_scored(place):
    x = np.zeros((2, json.loads((place / "run/model.json").read_text())["schema"]["row_shape"][0]), dtype=np.float32)
    x[:, :400] = np.sin(0.2 * np.arange(400))
    x[:, 200:260] = np.nan
    np.save(place / "gaps.npy", x)
    assert "120 gaps filled" in done("impute", "run", "gaps.npy", "--steps", 2, at=place)
    filled = np.load(place / "gaps-filled.npy")
    np.testing.assert_array_equal(filled[~np.isnan(x)], x[~np.isnan(x)])
    assert not np.isnan(filled).any()
    assert "silent" in refused("score", "run", "clips", at=place)


def test_an_interrupted_run_on_sounds_is_resumed(place, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.measure_novelty", interrupt)
        said = call("train", "clips", *SMALL, "--out", "stopped", at=place)
    assert said.code == 130
    done("train", "clips", "--resume", "--out", "stopped", at=place)
    for key, weight in load_file(place / "run/weights.safetensors").items():
        assert torch.equal(weight, load_file(place / "stopped/weights.safetensors")[key]), key


def test_series_of_a_table_are_trained_on(place):
    x = np.random.default_rng(0).normal(size=(30, 6)).cumsum(1)
    frame = pd.DataFrame({"id": np.repeat(np.arange(30), 6), "day": np.tile(np.arange(6), 30), "x": x.ravel()})
    frame.to_csv(place / "series.csv", index=False)
    done("train", "series.csv", "--series", "id,day", "--model", "gmm", "--out", "law", at=place)
    done("sample", "law", "-n", 3, "--out", "three.csv", at=place)
    again = pd.read_csv(place / "three.csv")
    assert list(again) == ["id", "day", "x"]
    assert list(again["day"]) == [0, 1, 2, 3, 4, 5] * 3
    assert "nats per row" in done("score", "law", "series.csv", at=place)


@pytest.mark.parametrize(
    ("files", "options", "message"),
    [
        ({}, (), "no "),
        ({"a.wav": (500, 8000), "b.wav": (500, 4000)}, (), "mixes sample rates"),
        ({"a.wav": (500, 8000), "b.wav": None}, (), "b.wav"),
        ({"a.wav": (500, 8000)}, (), "1 "),
        ({"a.wav": (500, 8000), "b.wav": (500, 8000)}, ("--set", "rate=fast"), "rate"),
    ],
)
def test_what_is_wrong_with_a_folder_is_said_before_training(tmp_path, files, options, message):
    (tmp_path / "clips").mkdir()
    for name, size in files.items():
        if size is None:
            (tmp_path / "clips" / name).write_bytes(os.urandom(100))
        else:
            soundfile.write(tmp_path / "clips" / name, np.random.default_rng(0).normal(size=size[0]) / 9, size[1])
    assert message in refused("train", "clips", *SMALL, *options, at=tmp_path)
    assert not (tmp_path / "runs").exists()
