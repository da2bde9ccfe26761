"""How good the samples of the first command are, and what they cost: the default model of the digits.

    python benchmarks/digits.py [--seeds 3]

Trains the default on the 8 x 8 digits with one thread and draws 500 digits of given classes. A forest tells them from 500 real
ones (right in half of all cases would be perfect; two sets of real digits give the floor), and a support vector machine that
knows all real digits says how many are of their class.
"""

import argparse
import time

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC

import pushforward as pf

ROWS = 500


def told_apart(a: np.ndarray, b: np.ndarray) -> float:
    """Return the share of rows that a forest assigns to the right one of two sets, by cross-validation."""
    rows, labels = np.concatenate([a, b]).reshape(len(a) + len(b), -1), np.repeat([0, 1], [len(a), len(b)])
    order = np.random.default_rng(0).permutation(len(rows))
    forest = RandomForestClassifier(300, random_state=0)
    return float(cross_val_score(forest, rows[order], labels[order], cv=5).mean())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    digits = pf.open_data("digits")
    images, labels = np.asarray(digits.values), np.asarray(digits.condition)
    judge = SVC(gamma=0.001).fit(images.reshape(len(images), -1), labels)
    print("| seed | CPU seconds | forest | floor | of their class |")
    print("|---|---|---|---|---|")
    for seed in range(given.seeds):
        order = np.random.default_rng(seed).permutation(len(images))
        real, other, classes = images[order[:ROWS]], images[order[ROWS : 2 * ROWS]], labels[order[ROWS : 2 * ROWS]]
        began = time.process_time()
        model = pf.FlowMatching(random_state=seed, device="cpu").fit(images, condition=labels)
        seconds = time.process_time() - began
        drawn = np.asarray(model.sample(ROWS, condition=classes, seed=seed))
        right = (judge.predict(drawn.reshape(ROWS, -1)) == classes).mean()
        floor = told_apart(other, real)
        print(f"| {seed} | {seconds:.0f} | {told_apart(drawn, real):.3f} | {floor:.3f} | {right:.3f} |", flush=True)


if __name__ == "__main__":
    main()
