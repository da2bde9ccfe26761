"""Conditional models of MNIST against posterior sampling with an unconditional one: 7 x 7 to 28 x 28, and half-masked digits.

    python benchmarks/image_conditions.py mnist_train.parquet --steps 1500 --images 100

Three models of one size are trained for the same number of steps: without a condition, given the means of 4 x 4 pixels, and
given the visible part under random masks. For held-out digits, each draws 4 images given the small image, and given the upper
half. Reported, in grey levels from 0 to 1:

- ``error``: root mean square difference between a draw and the truth, over the pixels that are not given;
- ``best``: the same for the mean of the draws, which is least at the conditional mean;
- ``spread``: root mean square difference between two draws; for the exact law it is equal to ``error``;
- ``off``: difference between the given pixels or means and those of the draws;
- ``calls``: network passes per draw, forward and back.
"""

import argparse
import time
from pathlib import Path

import numpy as np

import pushforward as pf
from pushforward.diffusion import MMPS

DRAWS, SAMPLER_STEPS = 4, 20


def pooled(images: np.ndarray) -> np.ndarray:
    return images.reshape(-1, 7, 4, 7, 4).mean((2, 4)).astype(np.float32)


def figures(draws: np.ndarray, truth: np.ndarray, hidden: np.ndarray) -> dict[str, float]:
    """Return the figures of draws (DRAWS, N, 28, 28) of the hidden pixels."""
    drawn, true = draws[..., hidden] / 255, truth[..., hidden] / 255
    return {
        "error": np.sqrt(((drawn - true) ** 2).mean()),
        "best": np.sqrt(((drawn.mean(0) - true) ** 2).mean()),
        "spread": np.sqrt(((drawn[:-1] - drawn[1:]) ** 2).mean()),
    }


def report(name: str, calls: int, draws: np.ndarray, truth: np.ndarray, hidden: np.ndarray, off: float, seconds: float) -> None:
    shown = "".join(f"{value:8.3f}" for value in figures(draws, truth, hidden).values())
    print(f"{name:34s}{shown}{off:8.3f}{calls:7d}{seconds:9.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--images", type=int, default=100)
    options = parser.parse_args()
    whole = pf.open_data(str(options.train)).values
    X, truth = whole[: -options.images], whole[-options.images :]
    small, given = pooled(X), pooled(truth)
    models = {}
    for name, condition in (("whole", False), ("small", small), ("mask", "mask")):
        begin = time.perf_counter()
        settings = {"network": pf.UNetSpec(width=options.width), "train_steps": options.steps, "random_state": 0}
        models[name] = pf.FlowMatching(**settings).fit(X, condition=condition)
        print(f"trained {name:6s} in {time.perf_counter() - begin:6.0f} s", flush=True)
    print(f"\n{'':34s}{'error':>8}{'best':>8}{'spread':>8}{'off':>8}{'calls':>7}{'seconds':>9}")
    everything, method = np.ones((28, 28), dtype=bool), MMPS()

    begin = time.perf_counter()
    draws = [models["small"].sample(len(truth), condition=given, steps=SAMPLER_STEPS, seed=k) for k in range(DRAWS)]
    compared = np.stack(draws).astype(float)
    off = np.abs(pooled(compared).reshape(DRAWS, -1, 7, 7) - given).mean() / 255
    report("7 x 7, conditional model", SAMPLER_STEPS, compared, truth, everything, off, time.perf_counter() - begin)

    begin = time.perf_counter()
    each = [models["whole"].posterior(pf.Downsample(4), y, noise=2.0, n=DRAWS, steps=SAMPLER_STEPS, seed=0) for y in given]
    compared = np.stack(each, 1).astype(float)
    off = np.abs(pooled(compared).reshape(DRAWS, -1, 7, 7) - given).mean() / 255
    passes = method.passes(SAMPLER_STEPS)
    report("7 x 7, posterior", passes, compared, truth, everything, off, time.perf_counter() - begin)

    upper = np.broadcast_to(np.arange(28)[:, None] < 14, (28, 28))
    mask = np.broadcast_to(upper, truth.shape)
    for title, model, calls in (("half, model with masks", "mask", SAMPLER_STEPS), ("half, posterior", "whole", passes)):
        begin = time.perf_counter()
        filled = models[model].impute(truth, mask=mask, n=DRAWS, steps=SAMPLER_STEPS, seed=0)
        compared = np.stack(filled).astype(float)
        off = np.abs(compared - truth)[..., upper].mean() / 255
        report(title, calls, compared, truth, ~upper, off, time.perf_counter() - begin)


if __name__ == "__main__":
    main()
