"""Quality of sets of points after a given training time: 1-nearest-neighbor accuracy against fresh sets, with its floor.

    python benchmarks/sets.py shapes
    python benchmarks/sets.py mnist_train.parquet --test mnist_test.parquet

``shapes`` is the built-in data set; its fresh sets are further draws of its law. A Parquet file of images, as of MNIST, becomes
sets of 128 points in the plane: pixels drawn in proportion to their ink, each at a uniform place inside the pixel. The model is
the default of ``pushforward train``. Accuracies are those of ``pushforward evaluate``, of equally many samples and fresh sets,
by Chamfer distance and by optimal matching; the floor is that of training sets instead of samples. 0.5 is perfect.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

import pushforward as pf
from pushforward.data.shapes import shapes
from pushforward.metrics.sets import set_figures

POINTS = 128


def ink(path, rows, seed):
    """Return sets (N, 128, 2) of points on the ink of the first images of a Parquet file, and their labels."""
    data = pf.open_data(path)
    images, labels = data.values[:rows].astype(float), data.condition[:rows]
    generator = np.random.default_rng(seed)
    flat = images.reshape(len(images), -1)
    ends = np.cumsum(flat, axis=1)
    u = generator.random((len(flat), POINTS)) * ends[:, -1:]
    pixels = np.stack([np.searchsorted(end, draws, side="right") for end, draws in zip(ends, u, strict=True)])
    row, column = np.divmod(pixels, images.shape[2])
    points = np.stack((column, images.shape[1] - 1 - row), 2) + generator.random((*pixels.shape, 2))
    return points.astype(np.float32), labels


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="'shapes', or a Parquet file of images")
    parser.add_argument("--test", help="Parquet file of images that were not trained on")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--rows", type=int, default=20_000, help="images to train on")
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("runs/sets"))
    arguments = parser.parse_args()
    if arguments.data == "shapes":
        (train, labels), (fresh, _) = shapes(), shapes(arguments.samples, seed=1)
    else:
        train, labels = ink(arguments.data, arguments.rows, 0)
        fresh = ink(arguments.test or arguments.data, None, 1)[0][-arguments.samples :]
    begin = time.process_time()
    model = pf.FlowMatching(kind="sets", train_steps=arguments.steps, random_state=0).fit(train, condition=labels)
    seconds = time.process_time() - begin
    model.save(arguments.out)
    print(json.dumps({"cpu_seconds": round(seconds), "parameters": model.training_result_.parameters}), flush=True)
    samples = model.sample(arguments.samples, seed=1)
    np.savez(arguments.out / "arrays.npz", samples=samples, fresh=fresh, train=train[: arguments.samples])
    measure(samples, train[: arguments.samples], fresh)


def measure(samples, train, fresh):
    """Print the accuracies and their floors."""
    figures, floors = set_figures(samples, fresh), set_figures(train, fresh)
    for key, value in figures.items():
        floor = floors[key]
        print(
            f"{key[0]} ({key[1]}): {value.value:.3f} ({value.low:.3f} to {value.high:.3f}), "
            f"floor {floor.value:.3f} ({floor.low:.3f} to {floor.high:.3f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
