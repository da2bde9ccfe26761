"""Every family at its default settings, on digits and on eight Gaussians: time to train, time to sample, held-out density.

    OMP_NUM_THREADS=2 python benchmarks/families.py --out figures

A fifth of the rows is held out from all. Densities are in nats per row, the mean of held-out rows with its standard error, in
the units of the data, constant pixels left out. Digits are integers: a density is that of x + U[0, 1), a bound that of the
integers, to which that of x + U is a lower bound, so that the two may be compared. Labels are seen in training; densities are
without and with them. scikit-learn's mixture and kernel density, on the same x + U, are the yardsticks; for eight Gaussians it
is the law itself. A density that follows an ODE is measured on ``--few`` images held out. ``FOLDER/DATA-FAMILY.png``
shows samples, ``FOLDER/families.json`` has the figures. Families that were measured before are not measured again.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as PeerMixture
from sklearn.neighbors import KernelDensity

import pushforward as pf
from pushforward import plots, probability
from pushforward.evaluation.parts.speed import speed
from pushforward.models import MODELS

DATA = ("digits", "eight-gaussians")
ODES = ("CNF", "Diffusion", "FlowMatching", "Latent")
Rows = tuple[np.ndarray, np.ndarray]


def main() -> None:
    """Train, measure and draw what is asked for, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    parser.add_argument("--data", default=",".join(DATA))
    parser.add_argument("--families", default=",".join(sorted(MODELS)))
    parser.add_argument("--few", type=int, default=60)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "families.json"
    found: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.is_file() else {}
    for data in options.data.split(","):
        rows, aside = split(data)
        for name in options.families.split(","):
            key = f"{data}-{name}"
            if key not in found and not (name == "MaskedDiffusion" and data != "digits"):
                found[key] = measured(name, rows, aside, options.out / f"{key}.png", options.few)
                kept.write_text(json.dumps(found, indent=1))
                print(line(name, found[key]), flush=True)
    for data in options.data.split(","):
        print(f"\n{data}, {torch.get_num_threads()} threads\n")
        print("| family | train, s | 1,000 samples, s | calls | nats, held out | given the label | rows | kind |")
        print("|---|---|---|---|---|---|---|---|")
        for key, figures in found.items():
            if key.startswith(f"{data}-"):
                print(line(key.removeprefix(f"{data}-"), figures))
        for name, value in yardsticks(data, *split(data)):
            print(f"| {name} | | | | {value} | | | |")


def split(data: str) -> tuple[Rows, Rows]:
    """Return four fifths of the rows with their labels, and the rest."""
    whole = pf.open_data(data)
    order = np.random.default_rng(0).permutation(len(whole))
    parts = order[len(whole) // 5 :], order[: len(whole) // 5]
    first, second = ((whole.values[part], whole.condition[part]) for part in parts)
    return first, second


def measured(name: str, rows: Rows, aside: Rows, image: Path, few: int) -> dict[str, Any]:
    """Train a family and return its figures; a plot of samples is written on the way."""
    model = MODELS[name](random_state=0)
    begin = time.perf_counter()
    model.fit(rows[0], condition=rows[1])
    figures: dict[str, Any] = {"train": time.perf_counter() - begin, "steps": model.training_result_.steps}
    if hasattr(model, "sample"):
        cost = speed(model, 1000)
        figures |= {"sample": cost["seconds"].value, "calls": cost["calls"].value}
        plots.save(drawn(model), image)
    if hasattr(model, "log_prob"):
        values, labels = (part[: few if name in ODES and model.space_.schema.kind == "images" else None] for part in aside)
        for key, condition in (("nats", None), ("given", labels)):
            try:
                result = model.log_prob(values, condition=condition)
            except ValueError:  # the family learns no law without a condition
                continue
            figures |= {"kind": result.kind, "rows": len(values), key: float(result.values.mean())}
            figures[f"{key} error"] = float(result.values.std() / np.sqrt(len(values)))
    return figures


def drawn(model: Any) -> Any:
    """Return a grid of images, ten of each class, or a cloud of points."""
    if model.space_.schema.kind == "images":
        labels = np.repeat(np.arange(10), 10)
        return plots.image_grid(model.sample(100, condition=labels, seed=0), columns=10)
    (rows, _), _ = split("eight-gaussians")
    return plots.scatter_grid(np.asarray(model.sample(2000, seed=0)), rows[:2000])


def yardsticks(data: str, rows: Rows, aside: Rows) -> Iterator[tuple[str, str]]:
    """Return what held-out rows come to under laws that are not ours."""
    if data == "eight-gaussians":
        angle = 2 * np.pi * torch.arange(8, dtype=torch.float64) / 8
        means = 2 * torch.stack([angle.cos(), angle.sin()], 1)
        law = probability.GaussianMixture(torch.full((8,), 1 / 8).double(), means, torch.full((8, 2), 0.04).double())
        yield "the law itself", spread(law.log_prob(torch.tensor(aside[0]).double()).numpy())
        return
    generator = np.random.default_rng(0)
    flat = [values.reshape(len(values), -1) for values, _ in (rows, aside)]
    varies = flat[0].std(0) > 0
    x, y = (part[:, varies] + generator.random((len(part), varies.sum())) for part in flat)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mixtures = [PeerMixture(k, covariance_type="full", reg_covar=0.1, random_state=0).fit(x) for k in (1, 5, 10, 20)]
    best = max(mixtures, key=lambda law: law.score(y))
    yield f"scikit-learn GaussianMixture({best.n_components})", spread(best.score_samples(y))
    kernels = [KernelDensity(bandwidth=width).fit(x) for width in np.linspace(0.6, 2.4, 10)]
    widest = max(kernels, key=lambda law: law.score(y))
    yield f"scikit-learn KernelDensity({widest.bandwidth:.1f})", spread(widest.score_samples(y))


def spread(values: np.ndarray) -> str:
    """Return mean and standard error."""
    return f"{values.mean():.2f} ± {values.std() / np.sqrt(len(values)):.2f}"


def line(name: str, figures: dict[str, Any]) -> str:
    """Return the row of a table."""

    def shown(key: str, form: str) -> str:
        return format(figures[key], form) if key in figures else ""

    def density(key: str) -> str:
        return f"{figures[key]:.2f} ± {figures[f'{key} error']:.2f}" if key in figures else ""

    cells = (name, shown("train", ".1f"), shown("sample", ".3g"), shown("calls", ".3g"), density("nats"), density("given"))
    return "| " + " | ".join((*cells, shown("rows", "d"), shown("kind", ""))) + " |"


if __name__ == "__main__":
    main()
