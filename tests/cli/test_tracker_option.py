"""``train --tracker tensorboard``: what its event file holds."""

import json

import numpy as np
import pytest
from command_line import TINY, done

import pushforward as pf


@pytest.mark.usefixtures("rendered")
@pytest.mark.filterwarnings("ignore")  # those of tensorboard about its own imports
def test_tensorboard_gets_losses_settings_and_plots_of_samples(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    np.save(tmp_path / "moons.npy", pf.open_data("moons").values[:200])
    settings = ("--set", "training.steps=8", "--set", "training.log_every=2", "--tracker", "tensorboard")
    done("train", "moons.npy", *TINY, *settings, at=tmp_path)
    run = tmp_path / "runs/moons"
    read = EventAccumulator(str(run / "pushforward")).Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "held_out_loss"):
        told = {event.step: event.value for event in read.Scalars(name)}
        assert told == pytest.approx({line["step"]: line[name] for line in lines if line.get(name) is not None}, rel=1e-6)
    plots = {int(path.stem.removeprefix("step-")) for path in (run / "samples").glob("*.png")}
    assert plots
    assert {event.step for event in read.Images("samples")} == plots
    assert "batch_size: 32" in next(run.rglob("hparams.yml")).read_text()
