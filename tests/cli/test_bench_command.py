"""``pushforward bench samplers`` as a user types it."""

import csv
import re
from unittest import mock

import numpy as np
import pytest
from command_line import call, done, refused
from PIL import Image

from pushforward.diffusion import DDIM, Heun, VPGrid, default_sampler
from pushforward.diffusion.samplers.benchmark import Problem, benchmark_law, benchmark_samplers
from pushforward.diffusion.samplers.calibration import calibrate

SMALL = ("--law", "broad", "--steps", "8,5", "--sampler", "heun", "--sampler", "ddim:grid=VPGrid")


def table(folder):
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    return folder, done("bench", "samplers", *SMALL, at=folder)


def test_it_writes_what_the_library_measures(bench):
    folder, _ = bench
    rows = table(folder / "bench/samplers-broad")
    problem = Problem.of_law(benchmark_law("broad"))
    samplers = {"default": default_sampler, "heun": lambda _: Heun(), "ddim:grid=VPGrid": lambda _: DDIM(grid=VPGrid())}
    assert [(row["solver"], row["calls"]) for row in rows] == [(name, calls) for name in samplers for calls in "58"]
    for row in rows:
        calls = int(row["calls"])
        cell = problem.measure(row["solver"], samplers[row["solver"]](calls), calls)
        assert row["law"] == "broad"
        assert (int(row["steps"]), int(row["nfe"])) == (cell.steps, cell.nfe)
        assert float(row["error"]) == pytest.approx(cell.error, rel=1e-9)
        assert float(row["median"]) == pytest.approx(cell.median, rel=1e-9)


def test_it_shows_the_table_with_the_best_of_each_column(bench):
    folder, said = bench
    rows = table(folder / "bench/samplers-broad")
    for calls in "58":
        best = min((row for row in rows if row["calls"] == calls), key=lambda row: float(row["error"]))
        (line,) = [line for line in said.splitlines() if line.split()[:1] == [best["solver"]]]
        assert f"*{float(best['error']):.4f}" in line
    assert said.count("*0.") == 2
    (heun,) = [line for line in said.splitlines() if line.split()[:1] == ["heun"]]
    assert re.search(r"heun +0\.\d{4} +0\.\d{4} \(7\)", heun)  # eight calls are allowed, four steps make seven
    assert "root mean square error per dimension, broad in 2 dimensions" in said
    assert f"the default with 8 calls is {default_sampler(8)}" in said
    assert "bench/samplers-broad/table.csv and bench/samplers-broad/samplers.png" in said


def test_it_draws_the_plot(bench):
    with Image.open(bench[0] / "bench/samplers-broad/samplers.png") as image:
        assert image.width > 900
        red, green, blue = np.moveaxis(np.asarray(image.convert("RGB")).astype(int), 2, 0)
    assert ((red < 60) & (green > 70) & (green < 130) & (blue > 200)).sum() > 500


def test_the_median_and_another_seed_show_other_figures(bench, tmp_path):
    said = done("bench", "samplers", *SMALL, "--median", "--seed", 1, "--out", "mine", at=tmp_path)
    row = table(tmp_path / "mine")[0]
    assert f"{float(row['median']):.4f}" in said
    assert "median error of a row" in said
    assert row["error"] != table(bench[0] / "bench/samplers-broad")[0]["error"]


def test_calibrated_tables_are_fitted_on_request(tmp_path):
    words = ["--law", "broad", "--steps", "1,2,30", "--sampler", "ddim", "--calibrate", "--out", "mine"]
    with mock.patch.dict(calibrate.__kwdefaults__, {"iterations": 60, "fine_steps": 30}):
        said = done("bench", "samplers", *words, at=tmp_path)
    rows = {(row["solver"], row["calls"]): float(row["error"]) for row in table(tmp_path / "mine")}
    assert [key for key in rows if key[0] == "calibrated"] == [("calibrated", "2")]
    assert rows["calibrated", "2"] < rows["default", "2"]
    assert f"*{rows['calibrated', '2']:.4f}" in said


def test_help_shows_the_verbs_and_examples(tmp_path):
    assert "samplers" in call("bench", at=tmp_path).err + call("bench", "--help", at=tmp_path).out
    assert "  pushforward bench samplers --steps 5,8,10 --calibrate\n" in done("bench", "samplers", "--help", at=tmp_path)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--law", "digit"], "there is no law 'digit' to compare samplers on; use one of digits, photos, broad, spiky"),
        (["--steps", "5,x"], "--steps is a list of whole numbers such as 5,8,10, not '5,x'"),
        (["--steps", "0,5"], "--steps must be at least 1 each, got 0"),
        (["--sampler", "dimm"], "there is no sampler 'dimm'"),
        (["--sampler", "ddim:eta=1"], "draws noise, so its results cannot be compared one by one"),
        (["--sampler", "adaptive"], "chooses its own number of calls"),
        (["--out", "x.csv"], "--out is a folder for a table and an image, not the file 'x.csv'; write --out x/"),
        (["--steps", "20,30", "--calibrate"], "--calibrate fits tables of 2 to 15 steps, but --steps asks for 20,30"),
    ],
)
def test_mistakes_are_answered_before_the_work(words, message, tmp_path):
    assert message in refused("bench", "samplers", *words, at=tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_default_list_is_the_library_s(tmp_path):
    done("bench", "samplers", "--law", "broad", "--steps", "3", "--out", "mine", at=tmp_path)
    assert [row["solver"] for row in table(tmp_path / "mine")] == ["default", *benchmark_samplers()]
