"""Run folders that a stranger made: each is used as it is or refused in one sentence, and nothing else happens."""

import hashlib
import json
import os
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mutations import CARD, WEIGHTS, resign, specimens
from safetensors.torch import load_file, save_file
from stranger import SECONDS, Fuzz, by_process
from watchdog import Watchdog

import pushforward as pf

QUICK = {"ppca", "gmm", "guided", "run"}
X = np.random.default_rng(0).normal(size=(40, 2))


@pytest.fixture(scope="module")
def watchdog():
    with Watchdog(SECONDS, SECONDS) as watchdog:
        yield watchdog


@pytest.fixture(scope="module")
def fuzz(tmp_path_factory, watchdog):
    return Fuzz(specimens(tmp_path_factory.mktemp("quick"), QUICK), watchdog)


@pytest.fixture(scope="module")
def all_families(tmp_path_factory, watchdog):
    return Fuzz(specimens(tmp_path_factory.mktemp("all")), watchdog)


@pytest.fixture
def passed(request, tmp_path):
    """A file to touch at the end of a piece of a long run, by which .ci/full knows that it has passed for the same files."""
    file = Path(os.environ.get("PASSED_PIECES", tmp_path)) / request.node.name
    if file.exists():
        pytest.skip("has passed for the same files")
    return file


@pytest.fixture
def run(fuzz, tmp_path):
    """A copy of a run with checkpoints, beside a file that nothing may touch."""
    (tmp_path / "sentinel").write_text("{}")
    folder = tmp_path / "run"
    shutil.copytree(next(model.folder for model in fuzz.models if model.name == "run"), folder)
    yield folder
    assert (tmp_path / "sentinel").read_text() == "{}"


def _change(path, change):
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))


def _sign(manifest, change=lambda facts: None):
    facts = json.loads(manifest.read_text())
    change(facts)
    facts.pop("sha256", None)
    facts["sha256"] = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps(facts))


def _resume(folder):
    """Resume the run of the fixture, whose last checkpoint is of step 3, as if it had not finished."""
    _change(folder / CARD, lambda card: card.update(status="training"))
    return pf.train(X, out=folder, resume=True)


@pytest.mark.parametrize("first", range(0, 80, 40))
def test_mutations(first, fuzz):
    problems = [fuzz.run(seed) for seed in range(first, first + 40)]
    assert not any(problems), "\n\n".join(filter(None, problems))


@pytest.mark.full
@pytest.mark.parametrize("first", range(0, 100_000, 1000))
def test_a_hundred_thousand_mutations_of_all_families(first, all_families, passed):
    problems = [all_families.run(seed) for seed in range(first, first + 1000)]
    assert not any(problems), "\n\n".join(filter(None, problems))
    passed.touch()


@pytest.mark.full
@pytest.mark.parametrize("first", range(0, 1000, 50))
def test_a_thousand_mutations_given_to_the_command_line(first, all_families, passed):
    problems = []
    for seed in range(first, first + 50):
        with tempfile.TemporaryDirectory() as place:
            problems.append(by_process(all_families.models[seed % len(all_families.models)], seed, Path(place)))
    assert not any(problems), "\n\n".join(filter(None, problems))
    passed.touch()


@pytest.mark.parametrize("name", [CARD, WEIGHTS])
@pytest.mark.parametrize("kind", ["link", "device", "pipe", "folder"])
def test_only_plain_files_are_read(name, kind, run):
    path = run / name
    path.unlink()
    if kind == "link":
        path.symlink_to(run.parent / "sentinel")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    begin = time.monotonic()
    with pytest.raises(pf.RunError, match=name) as refusal:
        pf.load(run)
    assert time.monotonic() - begin < 5
    assert ";" in str(refusal.value)


@pytest.mark.parametrize("name", ["checkpoint", "samples", "metrics.jsonl", "samples.png"])
def test_no_link_is_followed_on_write(name, run):
    outside = run.parent / "outside"
    shutil.move(run / name, outside)
    before = {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()}
    (run / name).symlink_to(outside)
    if name != "checkpoint":
        shutil.rmtree(run / "checkpoint")  # so that there is something to do
    with pytest.raises(pf.RunError, match=f"{name} is a symbolic link"):
        _resume(run)
    assert {path: path.read_bytes() for path in [outside, *outside.rglob("*")] if path.is_file()} == before


def test_a_link_where_a_new_file_is_staged_is_replaced(run):
    staged = run / f".{CARD}.new"
    staged.symlink_to(run.parent / "sentinel")
    pf.load(run).save(run)
    assert not staged.exists()
    pf.load(run)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../model.json", "a/b.safetensors", "\x1b[31m.safetensors"])
def test_a_manifest_lists_only_files_of_its_folder(name, run):
    for manifest in run.glob("checkpoint/*/manifest.json"):
        _sign(manifest, lambda facts: facts["files"].update({name: "0"}))
    with pytest.warns(RuntimeWarning, match="lists") as said:
        _resume(run)
    assert all(str(warning.message).isprintable() for warning in said)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", -100),
        ("step", 10**12),
        ("attempt", 9),
        ("rate_scale", 1e9),
        ("seconds", "x"),
        ("trained", -1),
        ("skipped", None),
    ],
)
def test_a_checkpoint_at_an_impossible_place_is_refused(key, value, run):
    for manifest in run.glob("checkpoint/*/manifest.json"):
        _sign(manifest, lambda facts: facts["state"].update({key: value}))
    with pytest.raises(pf.RunError, match=r"checkpoint/step-\d+ cannot be resumed from.*; delete this checkpoint"):
        _resume(run)


@pytest.mark.parametrize("fault", ["shape", "missing", "NaN", "negative"])
@pytest.mark.parametrize("file", ["optimizer", "weights"])
def test_tensors_of_a_checkpoint_fit_the_run(file, fault, run):
    for path in run.glob(f"checkpoint/*/{file}.safetensors"):
        tensors = load_file(path)
        name = next(name for name in sorted(tensors) if file == "weights" or name.startswith("exp_avg_sq"))
        if fault == "missing":
            del tensors[name]
        elif fault == "shape":
            tensors[name] = torch.cat([tensors[name], tensors[name]])
        else:
            tensors[name] = tensors[name] * 0 + (torch.nan if fault == "NaN" else -1.0)
        save_file(tensors, path)
        resign(path)
    if (file, fault) == ("weights", "negative"):
        return  # numbers like any others
    with pytest.raises(pf.RunError, match=r"cannot be resumed from"):
        _resume(run)


def test_a_network_larger_than_the_weights_is_refused_before_it_is_built(run):
    def grow(card):
        for part in ("params", "resolved"):
            card[part]["network"] = {"name": "MLPSpec", "width": 65_536, "depth": 20}

    _change(run / CARD, grow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for use in (pf.load, _resume):
        with pytest.raises(pf.RunError, match=r"network of [\d,]{10,} bytes"):
            use(run)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


@pytest.fixture
def told(monkeypatch):
    """What a tracker, which the run of the fixture may name, was told."""
    from accelerate import tracking

    begun = []

    class Tracker(tracking.GeneralTracker):
        name, requires_logging_directory, main_process_only, tracker = "memory", False, True, None

        def __init__(self, run_name, **_):
            super().__init__()
            begun.append(run_name)

        def store_init_configuration(self, values): ...
        def log(self, values, step, **_): ...

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "memory", Tracker)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["memory"])
    return begun


def _name_tracker(card):
    for part in ("params", "resolved"):
        card[part]["training"]["tracker"] = "memory"


def test_a_folder_starts_no_tracker(told, run):
    _change(run / CARD, _name_tracker)
    assert pf.load(run).training.tracker is None
    shutil.rmtree(run / "checkpoint")  # so that there is something to do
    with pytest.warns(
        UserWarning, match="names the tracker 'memory', but a folder never starts one; .*training.tracker=memory"
    ):
        _resume(run)
    assert told == []


def test_the_user_starts_the_tracker_again(told, run):
    shutil.rmtree(run / "checkpoint")
    _change(run / CARD, lambda card: (_name_tracker(card), card.update(status="training")))
    pf.train(X, pf.FlowMatching(training=pf.TrainingSettings(tracker="memory")), out=run, resume=True)
    assert told == ["pushforward"]


@pytest.mark.parametrize("text", ["[" * 300_000, '{"a":' * 300_000, "", "null", "\x00", '{"format": 2}'])
def test_a_card_that_is_no_card(text, run):
    (run / CARD).write_text(text)
    with pytest.raises(pf.RunError, match=r"model.json .*; "):
        pf.load(run)


def test_what_fit_resolves_is_never_empty(run):
    """An argument may be None, for a default; a model whose training resolved to None would fail when it draws."""
    _change(run / CARD, lambda card: card["resolved"].update(training=None))
    with pytest.raises(pf.RunError, match="resolved has no training"):
        pf.load(run)


def test_weights_are_those_of_the_card_and_finite(run):
    path, whole = run / WEIGHTS, (run / WEIGHTS).read_bytes()
    for content in (whole[:-1], whole[:-8] + b"\x00" * 8, b"", b"\xff" * 8):
        path.write_bytes(content)
        with pytest.raises(pf.RunError, match="checksum is not the one in model.json"):
            pf.load(run)
    path.write_bytes(whole[: len(whole) // 2])
    resign(path)
    with pytest.raises(pf.RunError, match="weights.safetensors is damaged"):
        pf.load(run)
    path.write_bytes(whole)
    tensors = load_file(path)
    name = sorted(tensors)[0]
    save_file(tensors | {name: tensors[name] * torch.nan}, path)
    resign(path)
    with pytest.raises(pf.RunError, match="has NaN or infinite numbers in"):
        pf.load(run)


def test_a_kill_between_card_and_weights_leaves_a_model_that_loads(run, monkeypatch):
    """The new weights are written first, then the card, and then they take their place."""
    from pushforward.models.files import storage

    model, other = pf.load(run), pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), train_steps=2, random_state=7).fit(X)
    before = model.sample(3, seed=0)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    for name in ("write_card", "commit_file"):
        with monkeypatch.context() as patch:
            patch.setattr(storage, name, kill)
            with pytest.raises(Killed):
                other.save(run)
        expected = before if name == "write_card" else other.sample(3, seed=0)
        assert np.array_equal(pf.load(run).sample(3, seed=0), expected)
    model.save(run)
    assert np.array_equal(pf.load(run).sample(3, seed=0), before)
