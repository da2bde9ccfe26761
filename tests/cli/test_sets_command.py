"""Folders of point clouds through the command line: train, inspect, sample, score, impute, resume."""

import numpy as np
import pytest
import torch
from command_line import TINY, call, done, refused
from safetensors.torch import load_file

from pushforward.data import open_data

SMALL = ("--set", "network.depth=1", "--set", "network.heads=2", "--set", "network.states=2", "--set", "training.steps=4")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with point clouds of two classes, as .xyz, and a run on them."""
    at = tmp_path_factory.mktemp("sets")
    numbers = np.random.default_rng(0)
    for index in range(40):
        folder = at / "clouds" / ("near" if index % 2 else "far")
        folder.mkdir(parents=True, exist_ok=True)
        np.savetxt(folder / f"{index}.xyz", numbers.normal(size=(2 + index % 3, 3)))
    done("train", "clouds", *SMALL, *TINY, "--out", "run", at=at)
    return at


@pytest.mark.usefixtures("blank")
def test_a_folder_of_clouds_is_trained_on_and_sampled(place):
    assert "sets of at most 4 points in 3 coordinates" in done("inspect", "run", at=place)
    assert "sets of at most 4 points in 3 coordinates" in done("train", "clouds", *SMALL, *TINY, "--dry-run", at=place)
    done("sample", "run", "-n", 6, "--condition", "near,far", "--seed", 1, "--steps", 3, "--out", "new/", at=place)
    files = sorted(path.relative_to(place / "new").as_posix() for path in (place / "new").rglob("*.xyz"))
    assert files[0].startswith("far/")
    assert len(files) == 6
    done("sample", "run", "-n", 3, "--size", 7, "--steps", 3, "--out", "seven.npz", at=place)
    assert [points.shape for points in open_data(place / "seven.npz", kind="sets").values] == [(7, 3)] * 3
    assert "a table does not hold sets of points" in refused("sample", "run", "--out", "new.csv", at=place)


def test_an_interrupted_run_on_sets_is_resumed(place, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.measure_novelty", interrupt)
        said = call("train", "clouds", *SMALL, *TINY, "--out", "stopped", at=place)
    assert said.code == 130
    done("train", "clouds", "--resume", "--out", "stopped", at=place)
    weights = load_file(place / "run/weights.safetensors")
    assert weights
    for key, weight in weights.items():
        assert torch.equal(weight, load_file(place / "stopped/weights.safetensors")[key]), key


def test_sets_are_scored_and_filled(place):
    assert "nats per row" in done("score", "run", "clouds", "--rows", 2, "--steps", 2, at=place)
    points = np.array([[0.0, 1, 2], [np.nan, np.nan, np.nan], [1, np.nan, 0], [2, 2, 2]])
    np.savez(place / "gaps.npz", samples=points, sizes=[2, 2])
    assert "4 gaps filled" in done("impute", "run", "gaps.npz", "--steps", 2, at=place)
    filled = open_data(place / "gaps-filled.npz", kind="sets").values
    np.testing.assert_array_equal(np.concatenate(filled)[~np.isnan(points)], points[~np.isnan(points)])
    assert not np.isnan(np.concatenate(filled)).any()
