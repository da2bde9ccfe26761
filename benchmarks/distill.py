"""What distillation keeps: flow maps beside samplers at equal network calls.

    python benchmarks/distill.py laws [--laws ring uneven broad] [--steps 3000]
    python benchmarks/distill.py points runs/checkerboard runs/checkerboard-map
    python benchmarks/distill.py images runs/digits runs/digits-map --data digits

``laws`` trains a teacher on draws of each mixture of ``flow_laws.py`` and distills it, both for --steps. Reported is the root
mean square error per dimension to the exact flow from the same noises, in the units of the network, of the map, of the default
sampler, and of the teacher integrated in 100 steps, which is what the map is taught.

``points`` compares histograms of 64 x 64 cells of 1,000,000 samples of a run on the built-in checkerboard with its exact law:
the Kullback-Leibler divergence from the law to the samples, where every cell has one sample more than it was hit.

``images`` gives the Frechet distance to the data in the features of a classifier, as ``evaluate`` does for images with labels,
divided by that of the teacher with 20 calls. Samples have the labels of the data; there are twice as many of them.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from flow_laws import law

import pushforward as pf
from pushforward.diffusion import exact_flow
from pushforward.evaluation.features import ClassifierFeatures
from pushforward.metrics.frechet import frechet_distance
from pushforward.probability import GaussianMixture

CALLS = (1, 2, 4, 8)
ROWS, CELLS, SAMPLES = 20_000, 64, 1_000_000


def in_network_units(target: GaussianMixture, model: Any) -> GaussianMixture:
    shift, scale = model.space_.transform.shift.double(), model.space_.transform.scale.double()
    covs = target.components.full_covs / torch.outer(scale, scale)
    return GaussianMixture(target.weights, (target.means - shift) / scale, covs)


def compare_on(name: str, steps: int) -> None:
    target = law(name)
    X = target.sample(ROWS, seed=0).numpy()
    begin = time.process_time()
    teacher = pf.FlowMatching(train_steps=steps, random_state=0, device="cpu").fit(X)
    trained = time.process_time()
    fast = pf.distill(teacher, pf.FlowMap(train_steps=steps, random_state=0, device="cpu"))
    took = f"teacher {trained - begin:.0f} CPU s, map {time.process_time() - trained:.0f} CPU s"
    noise = torch.randn(1000, target.dim, generator=torch.Generator().manual_seed(0))
    exact = exact_flow(in_network_units(target, teacher), teacher.denoiser_.schedule, noise)

    def error(x: torch.Tensor) -> float:
        return float((x - exact).square().mean().sqrt())

    print(f"{name} in {target.dim} dimensions; {took}")
    print("  calls     " + "".join(f"{n:9d}" for n in (*CALLS, 100)))
    plain = [error(pf.default_sampler(n).run(teacher.denoiser_, noise, steps=n)) for n in (*CALLS, 100)]
    print("  sampler   " + "".join(f"{value:9.4f}" for value in plain))
    print("  map       " + "".join(f"{error(fast.denoiser_.sample(noise, steps=n)):9.4f}" for n in CALLS))
    if fast.density_error_:
        print("  log p     " + "".join(f"{fast.density_error_[n]:9.4f}" for n in CALLS) + "  nats, to the teacher")


def points(folders: list[Path], allowed: list[int]) -> None:
    edges = np.linspace(-2, 2, CELLS + 1)
    side = CELLS // 4
    dark = np.add.outer(np.arange(CELLS) // side, np.arange(CELLS) // side) % 2 == 0
    expected = dark / dark.sum()
    for folder in folders:
        model = pf.load(folder)
        for calls in allowed:
            x = model.sample(SAMPLES, steps=calls, seed=0, batch_size=16_384)
            counts = np.histogram2d(x[:, 0], x[:, 1], (edges, edges))[0] + 1
            share = counts / (SAMPLES + counts.size)
            kl = float((expected[dark] * np.log(expected[dark] / share[dark])).sum())
            print(f"{folder} with {calls} calls: KL {kl:.3f}, {1 - share[dark].sum():.3%} outside the squares", flush=True)


def images(teacher: Path, folders: list[Path], data: str, seeds: int) -> None:
    opened = pf.open_data(data)
    features = ClassifierFeatures.fit(opened.values, opened.condition)
    real, condition = features(opened.values), np.concatenate([opened.condition] * 2)

    def distance(model: Any, calls: int) -> tuple[float, float]:
        begin = time.process_time()
        made = [model.sample(len(condition), condition=condition, steps=calls, seed=seed) for seed in range(seeds)]
        seconds = (time.process_time() - begin) / seeds / len(condition) * 1000
        return math.fsum(frechet_distance(real, features(x), test=False).value for x in made) / seeds, seconds

    known, seconds = distance(pf.load(teacher), 20)
    print(f"{teacher} with 20 calls: {known:.4f}, {seconds:.2f} CPU s for 1,000", flush=True)
    for folder in folders:
        model = pf.load(folder)
        for calls in (1, 2, 4):
            value, seconds = distance(model, calls)
            print(f"{folder} with {calls} calls: {value:.4f}, {value / known:.2f} times, {seconds:.2f} CPU s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(dest="part", required=True)
    of_laws = parts.add_parser("laws")
    of_laws.add_argument("--laws", nargs="+", default=["broad", "ring", "uneven"])
    of_laws.add_argument("--steps", type=int, default=3000)
    of_points = parts.add_parser("points")
    of_points.add_argument("runs", nargs="+", type=Path)
    of_points.add_argument("--calls", nargs="+", type=int, default=[1, 2, 4])
    of_images = parts.add_parser("images")
    of_images.add_argument("teacher", type=Path)
    of_images.add_argument("runs", nargs="+", type=Path)
    of_images.add_argument("--data", default="digits")
    of_images.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    if options.part == "laws":
        for name in options.laws:
            compare_on(name, options.steps)
    elif options.part == "points":
        points(options.runs, options.calls)
    else:
        images(options.teacher, options.runs, options.data, options.seeds)


if __name__ == "__main__":
    main()
