"""Models on a hub: pushed with a card, loaded from there, and held to the rules of a stranger's folder."""

import json
import os

import numpy as np
import pytest
from command_line import TINY, done, refused
from hub_server import served

import pushforward as pf
from pushforward.evaluation import Figure, Measure

NAME = "someone/small-moons"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with an evaluated run that has a checkpoint."""
    at = tmp_path_factory.mktemp("runs")
    np.save(at / "moons.npy", pf.open_data("moons").values[:300])
    done("train", "moons.npy", *TINY, "--set", "training.steps=4", at=at)
    recall, floor = Measure(0.2, 0.1, 0.3, 500, p_value=0.001, side="below"), Measure(0.9, 0.8, 1.0, 500)
    figure = Figure("recall", "samples", recall, better="higher", floor=floor, reference="held-out")
    rows = {"held_out": np.zeros((3, 2))}
    pf.Evaluation((figure,), "FlowMatching", arrays=rows).save(at / "runs/moons/evaluation.json")
    assert (at / "runs/moons/checkpoint").is_dir()
    return at


@pytest.fixture
def hub(tmp_path):
    with served(tmp_path / "cache") as server:
        yield server


def test_a_pushed_run_comes_back_the_same_with_its_card_and_without_rows(runs, hub):
    said = done("push", "runs/moons", NAME, "--private", at=runs)
    assert f"pf.load('hf://{NAME}') loads it" in said
    files = hub.repositories[NAME]
    assert {"model.json", "weights.safetensors", "evaluation.json", "samples.png", "README.md"} <= set(files)
    assert not [path for path in files if path.endswith(".npz") or "checkpoint" in path]
    assert hub.private == {NAME}
    card = files["README.md"].decode()
    assert f"pf.load('hf://{NAME}')" in card
    for line in (
        "library_name: pushforward",
        "## Quality",
        "| recall | 0.20 | 0.10 to 0.30 | 0.90 | 500 | held-out | below the floor, p = 0.001 |",
        "## Limits",
    ):
        assert line in card
    ours, theirs = pf.load(runs / "runs/moons"), pf.load(f"hf://{NAME}")
    np.testing.assert_array_equal(theirs.sample(5, seed=3), ours.sample(5, seed=3))
    again = len(hub.requests)
    pf.load(f"hf://{NAME}@main")  # from the cache: no content is sent again
    assert not [request for request in hub.requests[again:] if request.startswith("GET") and "/resolve/" in request]


def test_a_strangers_model_is_held_to_the_rules_of_a_strangers_folder(runs, hub, tmp_path):
    done("push", "runs/moons", NAME, at=runs)
    files = hub.repositories[NAME]
    files["payload.py"] = b"raise SystemExit"
    pf.load(f"hf://{NAME}")
    assert not [request for request in hub.requests if "payload" in request or ("README" in request and "GET" in request)]
    sound = files["weights.safetensors"]
    files["weights.safetensors"] = sound[:-4] + b"evil"
    with pytest.raises(pf.RunError, match="checksum"):
        pf.load(f"hf://{NAME}")
    files["weights.safetensors"] = sound
    files["model.json"] = json.dumps(json.loads(files["model.json"]) | {"class": "os.system"}).encode()
    with pytest.raises(pf.RunError, match="names a model 'os.system'"):
        pf.load(f"hf://{NAME}")
    del files["model.json"]
    with pytest.raises(FileNotFoundError, match="is no model of pushforward: it has no model.json"):
        pf.load(f"hf://{NAME}")


def test_what_a_hub_refuses_is_said_in_a_sentence(runs, hub, monkeypatch):
    with pytest.raises(FileNotFoundError, match="has no model no/body"):
        pf.load("hf://no/body")
    with pytest.raises(ValueError, match="write hf://owner/name"):
        pf.load("hf://alone")
    assert "is no name of a model on a hub; write owner/name" in refused("push", "runs/moons", "alone", at=runs)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "refuses someone/small-moons with status 401; log in with" in refused("push", "runs/moons", NAME, at=runs)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="cannot be reached"):
        pf.load("hf://no/body2")


def test_a_card_without_an_evaluation_says_so_and_shows_a_strangers_words_as_they_are(runs, tmp_path):
    pf.GMM(n_components=1).fit([[0.0], [1.0], [3.0]]).save(tmp_path / "run")
    path = tmp_path / "run" / "model.json"
    card = json.loads(path.read_text())
    card["data"]["source"] = "/home/me/<img src=x>|[a](b)\x1b[31m.csv"
    path.write_text(json.dumps(card))
    said = done("inspect", "run", "--card", at=tmp_path)
    assert "Not evaluated." in said
    assert "\\[a\\](b)" in said
    assert "&lt;img src=x&gt;" in said
    assert not {"<img", "\x1b", "/home/me"} & {said[i : i + n] for n in (1, 4, 8) for i in range(len(said))}
    assert os.linesep.join(["```python", "import pushforward as pf"]) in said
    assert "give one of the two" in refused("inspect", "run", "--card", "--json", at=tmp_path)
