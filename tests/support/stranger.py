"""What a folder from a stranger must not do: run, write outside, take ten seconds or a gigabyte, or end in a traceback.

    python stranger.py MUTATIONS [FIRST]

does the mutations with the numbers FIRST, FIRST + 1, ... over all families, and prints what went wrong.
"""

import contextlib
import io
import os
import random
import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from forked import Forked
from mutations import Specimen, mutate, specimens
from watchdog import Pulse, Watchdog

import pushforward as pf
from pushforward.cli import main as command_line
from pushforward.training import RunError

SECONDS, BYTES = 10, 1 << 30


@dataclass
class Watch:
    """Whatever a stranger must not cause: writing outside a folder, or running something."""

    inside: Path | None = None
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "pickle.find_class", "socket.connect"):
            self.seen.append(f"{event} {arguments!r:.100}")
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            path, flags = os.fsdecode(arguments[0]), arguments[2] or 0
            writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) or (
                isinstance(arguments[1], str) and set(arguments[1]) & set("wax+")
            )
            real = Path(path).resolve() if writes and path not in ("/dev/null", "/dev/tty") else self.inside
            if writes and not real.is_relative_to(self.inside) and "__pycache__" not in path:
                self.seen.append(f"open {path} for writing")


WATCH = Watch()


# What a density that follows an ODE is asked for in nine of ten cases: by default it takes seconds, also of a sound model.
FAST: dict[str, dict[str, Any]] = {"guided": {"steps": 2}, "run": {"steps": 2}, "composed": {"samples": 1}}


def probe(specimen: Specimen, folder: Path, draw: random.Random) -> str:
    """Load a folder and call what a model has; return "refused" or "used", and raise what no user may meet."""
    if specimen.resumes and draw.random() < 0.5:
        pf.models.train(specimen.data, out=folder, resume=True)
        return "used"
    try:
        model = pf.load(folder)
    except (RunError, FileNotFoundError) as error:
        if problem := _wrong(error, folder):
            raise AssertionError(problem) from error
        raise
    verb = draw.choice(["sample", "score_samples", "transform", "log_prob", "impute", "save", "fit_classifier"])
    if specimen.name == "images" and verb in ("score_samples", "log_prob"):  # seconds, also of a sound model
        verb = "transform"
    X = specimen.data[:3]
    if verb == "save":
        model.save(folder)
    elif verb in ("sample", "fit_classifier"):
        if hasattr(model, "sample"):
            more = {"steps": 3} if specimen.name == "guided" else {}
            model.sample(2, seed=0, **more)
            if hasattr(model, "classifier_"):
                model.sample(2, seed=0, guidance=pf.Guidance(1.0, by="classifier"), condition=1)
    elif verb in ("score_samples", "log_prob") and specimen.name in FAST and draw.random() < 0.9:
        model.log_prob(X[:1], **FAST[specimen.name])
    elif hasattr(model, verb):
        getattr(model, verb)(X)
    return "used"


VERBS = [["inspect"], ["inspect", "--json"], ["sample", "-n", "2"], ["score", "rows.npy"], ["evaluate", "--data", "rows.npy"]]
VERBS += [
    ["calibrate", "--steps", "3"],
    ["export", "--to", "safetensors", "--overwrite"],
    ["train", "rows.npy", "--resume", "--out"],
]


def by_process(specimen: Specimen, seed: int, place: Path) -> str | None:
    """Do the mutation of a number and give the folder to a process of the command line; return what went wrong, if anything."""
    draw, folder = random.Random(seed), place / "run"
    said = mutate(specimen, folder, draw)
    (place / "sentinel").write_text("{}")
    np.save(place / "rows.npy", np.asarray(specimen.data)[:12])
    verb = draw.choice(VERBS)
    words = [*verb, "run"] if verb[0] == "train" else [verb[0], "run", *verb[1:]]
    child = Forked(_watched, str(folder), *words, at=place)
    if _sleeps(child):
        child.kill()
        return f"{seed} {specimen.name}, {said}, {words}: it waits for something that does not come"
    out, err = child.communicate()
    odd = [letter for letter in out + err if not (letter.isprintable() or letter in "\n\r")]
    if child.returncode not in (0, 2) or "Traceback" in err or odd or (place / "sentinel").read_text() != "{}":
        return f"{seed} {specimen.name}, {said}, {words}: {child.returncode} {odd[:3]} {err[-1500:]}"
    return None


def _sleeps(child: Forked) -> bool:
    """Wait for the end of a process, and return whether it slept for too long; what it computes is limited from inside."""
    pulse = Pulse(child.pid)
    while child.poll() is None and pulse.idle <= SECONDS:
        time.sleep(0.05)
        pulse.look(0.05)
    return child.poll() is None


def _watched(folder: str, *words: str) -> None:
    """Run the command line with limits of time and memory, and exit with 99 if it wrote outside the folder or ran something."""
    sys.argv = ["pushforward", *words]
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    sys.addaudithook(WATCH)
    WATCH.inside = Path(folder).resolve()
    code = 0
    with limited():
        try:
            command_line()
        except SystemExit as stop:
            code = int(stop.code or 0)
    WATCH.inside = None
    if WATCH.seen:
        sys.stderr.write(f"{WATCH.seen}\n")
    os._exit(99 if WATCH.seen else code)


class Fuzz:
    """Counts what came of mutations."""

    def __init__(self, models: list[Specimen], watchdog: Watchdog) -> None:
        self.models, self.counts, self.bad, self._watchdog = models, Counter[str](), list[str](), watchdog
        sys.addaudithook(WATCH)

    def run(self, seed: int) -> str | None:
        """Do the mutation of a number, and return what went wrong, if anything."""
        draw = random.Random(seed)
        specimen = draw.choice(self.models)
        with tempfile.TemporaryDirectory(prefix="stranger-") as place:
            folder, sentinel = Path(place).resolve() / "run", Path(place) / "sentinel"
            sentinel.write_text("{}")
            said = mutate(specimen, folder, draw)
            WATCH.inside, WATCH.seen = folder, []
            problem = None
            quiet = contextlib.redirect_stdout(io.StringIO())
            try:
                with warnings.catch_warnings(), limited(), quiet, self._watchdog.call(seed):
                    warnings.simplefilter("ignore")
                    came = probe(specimen, folder, draw)
            except (ValueError, FileNotFoundError) as error:  # a model that was loaded may refuse rows in its own words
                came, problem = "refused", _wrong(error, folder) if isinstance(error, RunError) else None
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                came, problem = "raised", traceback.format_exc(limit=-3)
            finally:
                WATCH.inside = None
            if WATCH.seen:
                problem = f"{problem or ''} {WATCH.seen[:3]}"
            if sentinel.read_text() != "{}":
                problem = f"{problem or ''} wrote through a link"
        self.counts[came if problem is None else "bad"] += 1
        if problem is None:
            return None
        self.bad.append(f"{seed} {specimen.name}, {said}: {problem}")
        return self.bad[-1]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Forbid this process to allocate a further gigabyte."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + BYTES, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _wrong(error: BaseException, folder: Path) -> str | None:
    """Return what is wrong with a refusal."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, MemoryError) or "can't allocate" in str(seen):
            return "over a gigabyte: " + "".join(traceback.format_exception(seen, limit=-3))
        seen = seen.__cause__ or seen.__context__
    if any(ord(letter) < 32 and letter != "\n" for letter in str(error)):
        return f"control characters in the message {str(error)!r}"
    if str(folder) not in str(error):
        return "names no file: " + "".join(traceback.format_exception(error, limit=-3))
    return None


def main() -> None:
    """Fuzz, and print the counts and the first of each kind of problem."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place, Watchdog(SECONDS, SECONDS) as watchdog:
        fuzz = Fuzz(specimens(Path(place)), watchdog)
        for seed in range(first, first + count):
            problem = fuzz.run(seed)
            if problem:
                sys.stdout.write(f"{problem}\n")
            if (seed - first + 1) % 100 == 0:
                sys.stdout.write(f"--- {seed - first + 1} mutations: {dict(fuzz.counts)}\n")
                sys.stdout.flush()
    sys.stdout.write(f"=== {count} mutations from {first}: {dict(fuzz.counts)}\n")


if __name__ == "__main__":
    main()
