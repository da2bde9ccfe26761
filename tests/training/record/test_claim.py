"""Claims on a folder: one holder at a time, over processes and threads, and none that outlives its process."""

import os
import threading
from pathlib import Path

import pytest
from command_line import process

from pushforward.training.record.claim import FolderInUse, claimed, is_vacant


def test_a_claim_is_held_once_and_released_at_the_end(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    with claimed(folder):
        with pytest.raises(FolderInUse, match=rf"run is in use by process {os.getpid()} on .*; wait until it has ended"):
            claimed(folder).__enter__()
        assert is_vacant(folder)
        (folder / "model.json").touch()
    assert [path.name for path in folder.iterdir()] == ["model.json"]
    with claimed(folder):
        assert not is_vacant(folder)


def test_a_claim_removes_only_what_it_created(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "a/b/c"):
        with claimed(folder):
            assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]


def test_the_claim_of_a_killed_process_is_free(tmp_path: Path) -> None:
    """Its file stays, and counts neither as a claim nor as content."""
    child = process("train", "moons", "--out", "run", "--set", "train_steps=100000", "--device", "cpu", at=tmp_path)
    while not (tmp_path / "run/checkpoint").exists():
        assert child.poll() is None, child.communicate()
    with pytest.raises(FolderInUse):
        claimed(tmp_path / "run").__enter__()
    child.kill()
    child.communicate(10)
    assert (tmp_path / "run/.lock").is_file()
    with claimed(tmp_path / "run"):
        pass


def test_claims_that_come_and_go_at_once_never_overlap(tmp_path: Path) -> None:
    """Threads claim a folder that each end removes: the file is opened, locked, removed and created in every order."""
    inside, most, done = [0], [0], [0]

    def work() -> None:
        for _ in range(200):
            try:
                with claimed(tmp_path / "run"):
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                    done[0] += 1
                    inside[0] -= 1
            except FolderInUse:
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], inside[0]) == (1, 0)
    assert done[0] > 100


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="nothing can be written into .*run"):
        claimed(tmp_path / "run").__enter__()
    assert (tmp_path / "precious").read_text() == "text"
