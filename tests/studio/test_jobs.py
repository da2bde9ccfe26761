"""The queue: real processes, their ends, and a server that comes after the one that started them."""

import os
import signal
import threading
import time

import pytest

from pushforward.models.files.storage import read_card
from pushforward.studio import jobs
from pushforward.studio.jobs import Queue
from pushforward.studio.runs import facts_of
from pushforward.studio.workspace import Refused, Workspace

TINY = ["--model", "gan", "--set", "network.width=8", "--set", "training.batch_size=16", "--device", "cpu", "--seed", "1"]


def wait_for(found, seconds=90):
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.05)
    return value


def ended(queue, job):
    queue.poll()
    return job.state not in ("waiting", "running")


def test_a_run_is_stopped_found_again_and_resumed(tmp_path):
    place = Workspace(tmp_path)
    first, folder = Queue(place), place.runs / "a b ü"
    job = first.add(["train", "moons", *TINY, "--set", "train_steps=200000", "--out", "runs/a b ü"], folder)
    waiting = first.add(["train", "moons", "--out", "runs/c"], place.runs / "c")
    assert (job.state, waiting.state) == ("running", "waiting")
    with pytest.raises(Refused, match="is already waiting or running"):
        first.add(["train", "moons", "--out", "runs/c"], place.runs / "c")
    first.stop(waiting)
    assert waiting.state == "stopped"
    wait_for(lambda: facts_of(folder).done > 0)
    second = Queue(place)  # the first server is gone
    again = second.jobs[job.id]
    second.poll()
    assert again.state == "running"
    assert second.of(folder) is again
    second.stop(again)
    first._children[job.id].wait(60)
    assert ended(second, again)
    assert again.state == "stopped"
    facts = facts_of(folder)
    assert facts.problem == ""
    assert not facts.finished
    assert "Stopped after step" in second.log(again)
    assert read_card(folder)["status"] == "training"


def test_a_command_that_fails_says_why(tmp_path):
    place = Workspace(tmp_path)
    queue = Queue(place)
    job = queue.add(["no-such-verb"], place.runs / "x")
    wait_for(lambda: ended(queue, job))
    assert job.state == "failed"
    assert queue.said(job).startswith("No such command 'no-such-verb'")


def test_the_queue_has_an_end_and_survives_nonsense(tmp_path, monkeypatch):
    place = Workspace(tmp_path)
    queue = Queue(place, workers=0)
    for number in range(jobs.MOST_WAITING):
        queue.add(["train", "moons"], place.runs / str(number))
    with pytest.raises(Refused, match="no more fit"):
        queue.add(["train", "moons"], place.runs / "more")
    folder = place.notes / "jobs"
    (folder / "a.json").write_text("{")
    (folder / "b.json").write_text('{"id": "other", "words": ["train"], "folder": "x"}')
    assert len(Queue(place, workers=0).jobs) == jobs.MOST_WAITING


def test_the_number_of_a_process_alone_is_not_enough(tmp_path):
    """After a restart of the machine another process may have the number of the training."""
    place = Workspace(tmp_path)
    queue = Queue(place, workers=0)
    job = queue.add(["train", "moons", "--out", "runs/x"], place.runs / "x")
    job.state, job.pid, job.born = "running", os.getpid(), 1.0
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        queue.stop(job)  # must not reach this process
    finally:
        signal.signal(signal.SIGINT, handler)
    queue.poll()
    assert job.state == "stopped"


def test_a_job_is_started_once_though_two_threads_look_at_the_same_time(tmp_path, monkeypatch):
    begun = []

    class Child:
        def __init__(self, *_, **__):
            begun.append(self)
            time.sleep(0.2)
            self.pid = os.getpid()

        def poll(self):
            return None

    monkeypatch.setattr(jobs.subprocess, "Popen", Child)
    place = Workspace(tmp_path)
    queue = Queue(place, workers=0)
    queue.add(["train", "moons"], place.runs / "x")
    queue._workers = 1
    threads = [threading.Thread(target=queue.poll) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
