"""The queue of a studio: verbs of the command line as processes of their own, which continue when the server ends.

A job is a JSON file in ``.studio/jobs``, with the words of its command, its process and its outcome. A server that is started
again finds the processes of the last one by their number and start time, and reads the outcome of the others from the folders
that they write.
"""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import psutil

from pushforward.models.files.storage import read_card
from pushforward.studio.workspace import Refused, Workspace

__all__ = ["MOST_WAITING", "Job", "Queue"]

State = Literal["waiting", "running", "done", "failed", "stopped"]
MOST_WAITING = 12
_MOST_KEPT = 60
_LOG_BYTES = 1 << 16


@dataclass
class Job:
    """One command: ``words`` after ``pushforward``, and the ``folder`` that it writes, relative to the workspace."""

    id: str
    words: list[str]
    folder: str
    state: State = "waiting"
    pid: int | None = None
    born: float | None = None
    made: float = 0.0
    ended: float | None = None

    @property
    def verb(self) -> str:
        """The verb of the command line."""
        return self.words[0]

    @property
    def command(self) -> str:
        """The command as it is typed."""
        return shlex.join(["pushforward", *self.words])

    @property
    def name(self) -> str:
        """Name of the folder."""
        return Path(self.folder).name


class Queue:
    """Starts jobs one after the other; :meth:`poll` is to be called about twice per second, by any thread."""

    def __init__(self, workspace: Workspace, workers: int = 1) -> None:
        self._workspace, self._workers = workspace, workers
        self._folder, self._lock = workspace.notes / "jobs", threading.RLock()
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self.jobs: dict[str, Job] = {}
        for path in sorted(self._folder.glob("*.json")):
            with contextlib.suppress(OSError, ValueError, TypeError):
                job = Job(**json.loads(path.read_text(encoding="utf-8")))
                if job.id == path.stem:
                    self.jobs[job.id] = job

    def add(self, words: list[str], folder: Path) -> Job:
        """Put a command into the queue; Refused if too many wait, or one for the same folder does."""
        with self._lock:
            waiting = [job for job in self.jobs.values() if job.state in ("waiting", "running")]
            if len(waiting) >= MOST_WAITING:
                raise Refused(
                    f"{len(waiting)} commands are already waiting, and no more fit. Stop one, or wait until one has ended."
                )
            place = os.path.relpath(folder, self._workspace.root)
            if any(job.folder == place and job.verb == words[0] for job in waiting):
                raise Refused(f"A command for {place} is already waiting or running. Open it on the page Watch.")
            job = Job(uuid.uuid4().hex[:12], words, place, made=time.time())
            self.jobs[job.id] = job
            self._store(job)
            self._forget_old()
            self.poll()
            return job

    def taken(self, folder: Path) -> bool:
        """Whether a job that waits or runs writes into a folder."""
        place = os.path.relpath(folder, self._workspace.root)
        return any(job.folder == place and job.state in ("waiting", "running") for job in self.jobs.values())

    def of(self, folder: Path) -> Job | None:
        """Return the newest job that writes into a folder."""
        place = os.path.relpath(folder, self._workspace.root)
        return max((job for job in self.jobs.values() if job.folder == place), key=lambda job: job.made, default=None)

    def stop(self, job: Job) -> None:
        """Stop a job: one that runs as by Ctrl-C, after its step, so that it can be resumed."""
        with self._lock:
            if job.state == "waiting":
                self._end(job, "stopped")
            elif job.state == "running" and self._alive(job):
                assert job.pid is not None
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job.pid, signal.SIGINT)

    def log(self, job: Job) -> str:
        """Return the end of what a job has printed."""
        try:
            with self._log_file(job).open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - _LOG_BYTES))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def said(self, job: Job) -> str:
        """Return the last message of a job that failed, in one paragraph."""
        text = self.log(job)
        return " ".join((text.rpartition("Error: ")[2] if "Error: " in text else text[-400:]).split())

    def poll(self) -> None:
        """See which jobs have ended, and start those that can run."""
        with self._lock:
            for job in list(self.jobs.values()):
                if job.state == "running" and not self._alive(job):
                    self._end(job, self._outcome(job))
            for job in sorted(self.jobs.values(), key=lambda job: job.made):
                running = sum(other.state == "running" for other in self.jobs.values())
                if job.state == "waiting" and running < self._workers:
                    self._start(job)

    def _start(self, job: Job) -> None:
        cores = os.cpu_count() or 1
        # One core is left to the page, so that watching does not slow down training.
        environment = {"OMP_NUM_THREADS": str(max(1, cores - 1))} | os.environ | {"NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}
        with self._log_file(job).open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "pushforward", *job.words],
                cwd=self._workspace.root,
                env=environment | {"COLUMNS": "200"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._children[job.id] = child
        job.state, job.pid = "running", child.pid
        with contextlib.suppress(psutil.Error):
            job.born = psutil.Process(child.pid).create_time()
        self._store(job)

    def _alive(self, job: Job) -> bool:
        child = self._children.get(job.id)
        if child is not None:
            return child.poll() is None
        try:
            process = psutil.Process(job.pid)
            return (
                job.born is not None and abs(process.create_time() - job.born) < 1 and process.status() != psutil.STATUS_ZOMBIE
            )
        except (psutil.Error, ValueError, TypeError):
            return False

    def _outcome(self, job: Job) -> State:
        """Return the outcome of an ended job: by its exit code if this server started it, otherwise by what it wrote."""
        child = self._children.pop(job.id, None)
        if child is not None:
            return "done" if child.returncode == 0 else "stopped" if child.returncode in (130, -2, -9, -15) else "failed"
        folder = self._workspace.root / job.folder
        try:
            if job.verb == "train":
                return "done" if read_card(folder)["status"] == "finished" else "stopped"
            report = folder / "report.html"
            return "done" if report.stat().st_mtime >= job.made else "stopped"
        except (OSError, ValueError):
            return "failed" if "Error: " in self.log(job) else "stopped"

    def _end(self, job: Job, state: State) -> None:
        job.state, job.ended = state, time.time()
        self._store(job)

    def _forget_old(self) -> None:
        ended = [job for job in self.jobs.values() if job.state not in ("waiting", "running")]
        for job in sorted(ended, key=lambda job: job.made)[: max(0, len(ended) - _MOST_KEPT)]:
            del self.jobs[job.id]
            for path in (self._folder / f"{job.id}.json", self._log_file(job)):
                path.unlink(missing_ok=True)

    def _store(self, job: Job) -> None:
        self._workspace.note(self._folder / f"{job.id}.json", asdict(job))

    def _log_file(self, job: Job) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"{job.id}.log"
