"""What a stranger may put into a run folder: specimens of all families, and structured mutations of their files.

    python stranger.py MUTATIONS [SEED] [--processes N]

mutates every kind of file over all families, inside this process, then N of them by processes of their own, and prints what went
wrong. Nothing may be raised but errors that name what is wrong, no call may take over ten seconds or allocate a gigabyte, and
nothing may be written outside the folder or run.
"""

import contextlib
import copy
import faulthandler
import hashlib
import io
import json
import os
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import pushforward as pf

CARD, WEIGHTS, CALIBRATIONS = "model.json", "weights.safetensors", "calibrations.json"
SECONDS, BYTES = 10, 1 << 30
NUMBERS = [-1, 0, 1, 2, 3, 7, 1000, 10**6, 2**31, 10**9, 10**12, 2**63, 10**30, -(10**12), 0.5, -0.5, 1e-300, 1e308]
NUMBERS += [float("nan"), float("inf"), -float("inf")]
WORDS = ["", "x", "\x1b[31mred\x1b[0m", "../../escaped", "/etc/passwd", "float64", "images", "vectors", "tokens", "labels"]
WORDS += [
    "vector",
    "pandas",
    "torch",
    "numpy",
    "GMM",
    "PPCA",
    "FlowMatching",
    "Latent",
    "DDIM",
    "eval",
    "os.system",
    "x" * 9999,
]
OTHERS = [None, True, False, [], {}, [[]], [None], {"name": "GMM"}, {"part": "ndarray"}, {"part": "Evil"}, {"name": []}]
OTHERS += [{"tensor": "load", "values": "x"}, {"tensor": "float32", "values": [[1.0], [2.0, 3.0]]}]


@dataclass(frozen=True)
class Specimen:
    """A stored model: its name, its folder, data like those it learned from, and whether it is a run with checkpoints."""

    name: str
    folder: Path
    data: Any
    resumes: bool


def specimens(where: Path, names: set[str] | None = None) -> list[Specimen]:
    """Train and store small models of all families, the last ones as runs with checkpoints."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(40, 2)), np.arange(40) % 3
    frame = pd.DataFrame({"a": vectors[:, 0], "b": rng.integers(0, 5, 40)})
    grey = rng.integers(0, 17, (24, 8, 8)).astype(np.uint8)
    whole = rng.integers(0, 4, (40, 2))
    brief = pf.TrainingSettings(steps=3, batch_size=8)
    common = {"training": brief, "random_state": 0, "device": "cpu"}
    law, mlp = pf.TransformerSpec(width=8, depth=1, heads=2), pf.MLPSpec(width=8, depth=1)
    coder, flow = pf.CoderSpec(width=8, depth=1), pf.FlowSpec(width=4, steps=1, bins=4)
    made: dict[str, tuple[Any, Any, Any]] = {
        "ppca": (pf.PPCA(n_components=1, random_state=0), frame, None),
        "gmm": (pf.GMM(n_components=2, restarts=1, max_iterations=5, random_state=0), vectors, labels),
        "autoencoder": (pf.Autoencoder(network=coder, latent_dim=2, **common), vectors, None),
        "vae": (pf.VAE(network=pf.CoderSpec(width=4, depth=1), latent_dim=2, **common), grey, None),
        "hierarchical": (pf.HierarchicalVAE(network=coder, latent_dims=(1, 2), **common), vectors, labels),
        "vqvae": (pf.VQVAE(network=coder, prior=law, tokens=2, codebook_size=8, **common), vectors, None),
        "gan": (pf.GAN(network=pf.GANSpec(width=8, depth=1), latent_dim=3, **common), vectors, labels),
        "flow": (pf.NormalizingFlow(network=flow, **common), frame, ["x", "y"] * 20),
        "cnf": (pf.CNF(network=mlp, solver_steps=1, matching_steps=3, **common), vectors, None),
        "masked": (pf.MaskedDiffusion(network=law, **common), whole, labels),
        "latent": (pf.Latent(pf.PPCA(n_components=1), pf.GMM(n_components=1), random_state=0), vectors, None),
        "composed": (
            pf.Latent(
                pf.VAE(network=coder, latent_dim=2, training=brief),
                pf.Diffusion(network=mlp, training=brief),
                draws=1,
                random_state=0,
                device="cpu",
            ),
            vectors,
            labels,
        ),
        "guided": (pf.FlowMatching(network=mlp, **common), vectors, labels),
        "images": (pf.Diffusion(schedule=pf.LinearBeta(), network=pf.UNetSpec(width=4, levels=1), **common), grey, None),
        "run": (pf.FlowMatching(network=mlp, **common), vectors, None),
        "run of two": (
            pf.Latent(pf.PPCA(n_components=1), pf.NormalizingFlow(network=flow, training=brief), draws=1, random_state=0),
            vectors,
            None,
        ),
    }
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (model, X, condition) in made.items():
            if names is not None and name not in names:
                continue
            folder = where / name.replace(" ", "-")
            if name.startswith("run"):
                pf.models.train(X, model, condition=condition, out=folder)
            else:
                model.fit(X, condition=condition)
                if name == "guided":
                    model.fit_classifier(X, labels, training=brief)
                    model.calibrate(3, noises=8, iterations=1, seed=0)
                    model.calibrations_ = {(3, 1.0): model.calibrate(3, noises=8, iterations=1, seed=0)}
                model.save(folder)
            found.append(Specimen(name, folder, X, name.startswith("run")))
    return found


# ---- mutations: each changes one thing in a copy of a folder and says what


def mutate(specimen: Specimen, folder: Path, draw: random.Random) -> str:
    """Copy a specimen to ``folder``, change one thing in the copy, and return what."""
    shutil.copytree(specimen.folder, folder)
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    cards = [file for file in files if file.name == CARD]
    manifests = [file for file in files if file.name == "manifest.json"]
    tensors = [file for file in files if file.suffix == ".safetensors"]
    kinds: list[tuple[float, Callable[[], str]]] = [
        (6, lambda: _leaf(folder, draw.choice(cards), draw)),
        (3, lambda: _tensor(folder, draw.choice(tensors), draw)),
        (1.5, lambda: _file(folder, draw.choice(files), draw)),
    ]
    if manifests:
        kinds.append((4, lambda: _leaf(folder, draw.choice(manifests), draw)))
    if (folder / CALIBRATIONS).is_file():
        kinds.append((3, lambda: _leaf(folder, Path(CALIBRATIONS), draw)))
    return draw.choices([kind for _, kind in kinds], [weight for weight, _ in kinds])[0]()


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _leaves(value[key], (*path, key))


def _leaf(folder: Path, file: Path, draw: random.Random) -> str:
    facts = json.loads((folder / file).read_text())
    path = draw.choice([path for path in _leaves(facts) if path != ("sha256",)])
    holder = facts
    for key in path[:-1]:
        holder = holder[key]
    key, old = path[-1], holder[path[-1]]
    act = draw.choice(["change", "change", "change", "change", "remove", "rename", "repeat", "swap"])
    said = ""
    if act == "remove":
        del holder[key]
    elif act == "rename" and isinstance(holder, dict):
        holder[f"{key}x"] = holder.pop(key)
    elif act == "repeat" and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(old))
    elif act == "swap":
        other = draw.choice(
            [other for other in _leaves(facts) if other[: len(path)] != path and path[: len(other)] != other] or [path]
        )
        target = facts
        for step in other[:-1]:
            target = target[step]
        holder[key], target[other[-1]] = copy.deepcopy(target[other[-1]]), copy.deepcopy(old)
        said = f" and {other}"
    else:
        act, new = "change", _other_value(old, draw)
        holder[key], said = new, f" to {str(new)[:60]!r}"
    text = json.dumps(facts)
    if file.name == "manifest.json" and isinstance(facts, dict):
        text = _signed(facts)
    (folder / file).write_text(text)
    return f"{file}: {act} {path}{said}"


def _signed(manifest: dict[str, Any]) -> str:
    manifest.pop("sha256", None)
    manifest["sha256"] = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
    return json.dumps(manifest)


def _other_value(old: Any, draw: random.Random) -> Any:
    if isinstance(old, int | float) and not isinstance(old, bool) and draw.random() < 0.7:
        return draw.choice([*NUMBERS, old + 1, old - 1, -old, old * 2, old * 1000, float(old), str(old)])
    if isinstance(old, str) and draw.random() < 0.6:
        return draw.choice([*WORDS, f"{old}\x07", old[:-1], old.upper(), old * 2])
    deep: Any = []
    for _ in range(draw.choice([20, 200, 2000])):
        deep = [deep] if draw.random() < 0.5 else {"name": deep}
    try:
        json.dumps(deep)
    except RecursionError:
        deep = [[[]]]
    return draw.choice([*NUMBERS, *WORDS, *OTHERS, [old], {"name": old}, [old] * 50, deep])


def _tensor(folder: Path, file: Path, draw: random.Random) -> str:
    """Change a tensor and every checksum of its file, so that only its content is wrong."""
    tensors = load_file(folder / file)
    name = draw.choice(sorted(tensors)) if tensors else ""
    act = draw.choice(
        ["drop", "rename", "add", "shape", "grow", "dtype", "value", "value", "zeros", "huge", "swap", "empty", "scalar"]
    )
    if not tensors:
        act = "add"
    value = tensors.get(name)
    if act == "drop":
        del tensors[name]
    elif act == "rename":
        tensors[name + draw.choice(["x", ".x", "\x1b[31m", "../x"])] = tensors.pop(name)
    elif act == "add":
        tensors[draw.choice(["extra", "transform.extra", "denoiser.extra", "\x1b[31m", ""])] = torch.zeros(3)
    elif act == "shape":
        tensors[name] = value.flatten() if value.ndim != 1 else value[None]
    elif act == "grow":
        tensors[name] = torch.cat([value, value]) if value.ndim else value.expand(2).clone()
    elif act == "dtype":
        dtype = draw.choice([torch.float16, torch.bfloat16, torch.float64, torch.float32, torch.int64, torch.bool, torch.uint8])
        tensors[name] = value.to(dtype)
    elif act == "value" and value.numel():
        flat = value.clone().flatten()
        number = draw.choice([float("nan"), float("inf"), -float("inf"), 1e30, -1e30, -1.0, 0.0, 7.0])
        flat[draw.randrange(len(flat))] = number if flat.is_floating_point() else draw.choice([-1, 0, 1, 100])
        tensors[name] = flat.reshape(value.shape)
    elif act == "zeros":
        tensors[name] = torch.zeros_like(value)
    elif act == "huge":
        tensors[name] = (value.float() * 1e30).to(value.dtype)
    elif act == "swap":
        other = draw.choice(sorted(tensors))
        tensors[name], tensors[other] = tensors[other].clone(), value.clone()
    elif act == "empty":
        tensors[name] = torch.zeros(0, dtype=value.dtype)
    elif act == "scalar":
        tensors[name] = value.flatten()[:1].reshape(()).clone() if value.numel() else value
    save_file({key: item.contiguous() for key, item in tensors.items()}, folder / file)
    resign(folder / file)
    return f"{file}: {act} {name}"


def resign(path: Path) -> None:
    """Write the checksum of a tensor file wherever one is stored."""
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    manifest, card, calibrations = (path.with_name(name) for name in ("manifest.json", CARD, CALIBRATIONS))
    if manifest.is_file():
        facts = json.loads(manifest.read_text())
        facts["files"][path.name] = digest
        manifest.write_text(_signed(facts))
    elif path.name == WEIGHTS and card.is_file():
        facts = json.loads(card.read_text())
        facts["weights"] = digest
        card.write_text(json.dumps(facts))
        if calibrations.is_file():
            facts = json.loads(calibrations.read_text())
            facts["weights"] = [digest] if isinstance(facts["weights"], list) else digest
            calibrations.write_text(json.dumps(facts))


def _file(folder: Path, file: Path, draw: random.Random) -> str:
    path = folder / file
    content = path.read_bytes()
    acts: list[str] = [
        "fifo",
        "link out",
        "link device",
        "link loop",
        "folder",
        "empty",
        "cut",
        "bytes",
        "flip",
        "missing",
        "deep",
    ]
    acts += ["sparse", "header", "link of folder", "temporary link", "temporary fifo", "null"]
    act = draw.choice(acts)
    where = path if not act.startswith("temporary") else path.with_name(f".{path.name}.new")
    if act == "link of folder" and path.parent != folder:
        target = folder.parent / "elsewhere"
        shutil.move(path.parent, target)
        path.parent.symlink_to(target)
    elif act == "flip" and content:
        flipped = bytearray(content)
        flipped[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
    elif act == "cut":
        path.write_bytes(content[: draw.randrange(len(content) or 1)])
    elif act == "bytes":
        path.write_bytes(draw.randbytes(200))
    elif act == "empty":
        path.write_bytes(b"")
    elif act == "null":
        path.write_text("null")
    elif act == "deep":
        path.write_text(draw.choice(["[", '{"a":', "[" * 10]) * draw.choice([100, 10_000, 300_000]))
    elif act == "sparse":
        with path.open("r+b") as stream:
            stream.truncate(20 << 30)
    elif act == "header" and path.suffix == ".safetensors":
        path.write_bytes(struct.pack("<Q", draw.choice([0, 1, 2**31, 2**63, 10**7])) + content[8:])
    else:
        where.unlink(missing_ok=True)
        if "fifo" in act:
            os.mkfifo(where)
        elif act in ("link out", "temporary link"):
            where.symlink_to(folder.parent / "sentinel")
        elif act == "link device":
            where.symlink_to("/dev/zero")
        elif act == "link loop":
            where.symlink_to(where)
        elif act == "folder":
            where.mkdir()
    return f"{file}: {act}"


# ---- probes: what a user does with a folder


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


class TooSlow(BaseException):
    """A call that takes longer than ten seconds."""


def probe(specimen: Specimen, folder: Path, draw: random.Random) -> str:
    """Load a folder and call what a model has; return "refused" or "used", and raise what no user may meet."""
    if specimen.resumes and draw.random() < 0.5:
        pf.models.train(specimen.data, out=folder, resume=True)
        return "used"
    model = pf.load(folder)
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
    elif hasattr(model, verb):
        getattr(model, verb)(X)
    return "used"


VERBS = (
    ["inspect"],
    ["inspect", "--json"],
    ["sample", "-n", "2"],
    ["score"],
    ["evaluate", "--n", "8"],
    ["calibrate"],
    ["export"],
)


class Fuzz:
    """Counts what came of mutations."""

    def __init__(self, models: list[Specimen]) -> None:
        self.models, self.counts, self.bad = models, Counter[str](), list[str]()
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
            signal.signal(signal.SIGPROF, _too_slow)
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            faulthandler.dump_traceback_later(9 * SECONDS, exit=True)  # what blocks outside Python takes no signal
            try:
                with warnings.catch_warnings(), limited(), contextlib.redirect_stdout(io.StringIO()):
                    warnings.simplefilter("ignore")
                    came = probe(specimen, folder, draw)
            except (ValueError, OSError, TypeError) as error:
                came, problem = "refused", _wrong(error, folder)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                came, problem = "raised", traceback.format_exc(limit=-3)
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
                faulthandler.cancel_dump_traceback_later()
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


def _too_slow(*_: object) -> None:
    raise TooSlow


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
    if isinstance(error, TypeError) or type(error) is OSError:
        return "".join(traceback.format_exception(error, limit=-3))
    if any(ord(letter) < 32 and letter != "\n" for letter in str(error)):
        return f"control characters in the message {str(error)!r}"
    if str(folder) not in str(error):
        return "names no file: " + "".join(traceback.format_exception(error, limit=-3))
    return None


def main() -> None:
    """Fuzz, and print the counts and the first of each kind of problem."""
    count, first = int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        fuzz = Fuzz(specimens(Path(place)))
        for seed in range(first, first + count):
            problem = fuzz.run(seed)
            if problem:
                print(problem, flush=True)
            if (seed - first + 1) % 100 == 0:
                print(f"--- {seed - first + 1} mutations: {dict(fuzz.counts)}", flush=True)
    print(f"=== {count} mutations from {first}: {dict(fuzz.counts)}")


if __name__ == "__main__":
    main()
