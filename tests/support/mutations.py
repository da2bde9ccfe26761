"""Specimens of all families as run folders, and structured mutations of their files, as a stranger may make them."""

import copy
import hashlib
import json
import os
import random
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file

import pushforward as pf

CARD, WEIGHTS, CALIBRATIONS = "model.json", "weights.safetensors", "calibrations.json"
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


def made_models(brief: pf.TrainingSettings) -> dict[str, tuple[Any, Any, Any]]:
    """Return small unfitted models of all families, with data and conditions."""
    rng = np.random.default_rng(0)
    vectors, labels = rng.normal(size=(40, 2)), np.arange(40) % 3
    frame = pd.DataFrame({"a": vectors[:, 0], "b": rng.integers(0, 5, 40)})
    grey = rng.integers(0, 17, (24, 8, 8)).astype(np.uint8)
    whole = rng.integers(0, 4, (40, 2))
    common = {"training": brief, "random_state": 0, "device": "cpu"}
    law, mlp = pf.TransformerSpec(width=8, depth=1, heads=2), pf.MLPSpec(width=8, depth=1)
    coder, flow = pf.CoderSpec(width=8, depth=1), pf.FlowSpec(width=4, steps=1, bins=4)
    return {
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
        "map": (
            pf.FlowMap(teacher=pf.FlowMatching(network=mlp, training=brief), guidance=2.0, trajectories=12, **common),
            vectors,
            labels,
        ),
        "images": (pf.Diffusion(schedule=pf.LinearBeta(), network=pf.UNetSpec(width=4, levels=1), **common), grey, None),
        "run": (pf.FlowMatching(network=mlp, **common), vectors, None),
        "run of two": (
            pf.Latent(pf.PPCA(n_components=1), pf.NormalizingFlow(network=flow, training=brief), draws=1, random_state=0),
            vectors,
            None,
        ),
    }


def specimens(where: Path, names: set[str] | None = None) -> list[Specimen]:
    """Train and store small models of all families, the last ones as runs with checkpoints."""
    brief, found = pf.TrainingSettings(steps=3, batch_size=8), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, (model, X, condition) in made_models(brief).items():
            if names is not None and name not in names:
                continue
            folder = where / name.replace(" ", "-")
            if name.startswith("run"):
                pf.models.train(X, model, condition=condition, out=folder)
            else:
                model.fit(X, condition=condition)
                if name == "guided":
                    model.fit_classifier(X, condition, training=brief)
                    model.calibrate(3, noises=8, iterations=1, seed=0)
                    model.calibrations_ = {(3, 1.0): model.calibrate(3, noises=8, iterations=1, seed=0)}
                model.save(folder)
            found.append(Specimen(name, folder, X, name.startswith("run")))
    return found


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
        facts["weights"] = {"bytes": path.stat().st_size, "sha256": digest}
        card.write_text(json.dumps(facts))
        if calibrations.is_file():
            facts = json.loads(calibrations.read_text())
            facts["weights"] = [digest]
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
