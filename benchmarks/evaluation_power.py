"""What the figures of an evaluation can see: the smallest defect that each test finds in 80 % of draws, by the number of rows.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_power.py --out src/pushforward/evaluation/report/power.json

The law is a mixture of ten Gaussians on a circle, six standard deviations apart, with a label each. Its samples are spoiled in
four ways: one component is left out, a share of the samples are copies of training rows, all samples are blurred, or a share of
them have a wrong label. Each size of a defect is drawn ``--draws`` times; the size that is found in 80 % of draws is read off
between two sizes, on a logarithmic scale.

    OMP_NUM_THREADS=1 python benchmarks/evaluation_power.py --level mixed --rows 200 --draws 200

instead evaluates fresh draws of a law, and prints how often each figure and the headline are off the floor: at the 5 % level,
in at most 5 % of the draws.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

import pushforward as pf
from pushforward.evaluation.features import default_features
from pushforward.evaluation.figure import Figure, off_floor, standing
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.parts import parts_of
from pushforward.evaluation.parts.rows import gather_inputs, with_samples
from pushforward.metrics.associations import correlation_gap
from pushforward.metrics.classifier import sequential_test
from pushforward.metrics.coverage import density_coverage, precision_recall
from pushforward.metrics.frechet import frechet_distance, kernel_distance
from pushforward.metrics.measure import Measure
from pushforward.metrics.memorization import memorization
from pushforward.metrics.relabel import two_sided
from pushforward.metrics.two_sample import energy_distance, mmd, sliced_wasserstein, wasserstein_columns

COMPONENTS, RADIUS, POWER, LEVEL = 10, 10.0, 0.8, 0.05
SIZES = {  # at 500 rows, and the power of 500 / n by which they are multiplied
    "dropped mode": ((0.01, 0.025, 0.06, 0.15), 0.5),
    "copied share": ((0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64), 0.0),
    "blur": ((0.15, 0.35, 0.8), 0.25),
    "wrong labels": ((0.005, 0.01, 0.02, 0.04, 0.08), 0.5),
}
CHEAP = 5  # times as many draws of the last two defects
UNTESTED = ("C2ST", "log-density", "train on samples", "latent space", "speed", "rows to look at")
Rows = np.ndarray


def law(share: float, *, without: bool = False) -> pf.probability.GaussianMixture:
    """Return the mixture whose first component has this share, or the rest of it."""
    angle = 2 * np.pi * np.arange(COMPONENTS) / COMPONENTS
    means = RADIUS * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    weights = np.full(COMPONENTS, (1 - share) / (COMPONENTS - 1))
    weights[0] = 0.0 if without else share
    kept = weights > 0
    return pf.probability.GaussianMixture(weights[kept] / weights.sum(), means[kept], np.ones(kept.sum()))


def p_values(samples: Rows, held: Rows, train: Rows, seed: int, *, near: bool) -> dict[str, float]:
    """Return the p-value of each figure; ``near`` for those that look at training rows."""
    if near:
        found = memorization(samples, train, held, seed=seed)
        measures = {"near copies": found.near_copies, "closer than held-out": found.closer, "distance ratio": found.ratio}
    else:
        center, scale = train.mean(0), train.std(0)
        P, Q = (((rows - center) / scale).astype(np.float32) for rows in (samples, held))
        measures = {
            "C2ST": Measure.exact(0.0, len(P)).tested(*sequential_test(P, Q, seed=seed)),
            "MMD²": mmd(P, Q, seed=seed),
            "energy distance": energy_distance(P, Q, seed=seed),
            "sliced Wasserstein": sliced_wasserstein(P, Q, seed=seed),
            "Fréchet distance": frechet_distance(P, Q, seed=seed),
            "kernel distance": kernel_distance(P, Q, seed=seed),
            "correlation gap": correlation_gap(samples, held, seed=seed),
            "Wasserstein of a column": wasserstein_columns(samples, held, seed=seed)[0],
        }
        measures |= dict(zip(("precision", "recall"), precision_recall(P, Q, seed=seed), strict=True))
        measures |= dict(zip(("density", "coverage"), density_coverage(P, Q, seed=seed), strict=True))
    return {name: float(measure.p_value) for name, measure in measures.items()}


def wrong_labels(share: float, n: int, seed: int) -> dict[str, float]:
    """Return the p-value of "labels followed" for the best classifier of the law."""
    mixture, generator = law(1 / COMPONENTS), np.random.default_rng(seed)
    right = []
    for wrong in (share, 0.0):
        label = generator.integers(0, COMPONENTS, n)
        rows = mixture.means[label] + torch.from_numpy(generator.normal(size=(n, 2)))
        answer = torch.cdist(rows, mixture.means).argmin(1).numpy()
        asked = np.where(generator.random(n) < wrong, (label + generator.integers(1, COMPONENTS, n)) % COMPONENTS, label)
        right.append(int((answer == asked).sum()))
    among = stats.hypergeom(2 * n, sum(right), n)
    return {"labels followed": two_sided(float(among.sf(right[0] - 1)), float(among.cdf(right[0])))[0]}


def tested(defect: str, size: float, n: int, seed: int) -> dict[str, float]:
    """Return the p-values of the figures for samples with a defect of this size."""
    if defect == "wrong labels":
        return wrong_labels(size, n, seed)
    share = size if defect == "dropped mode" else 1 / COMPONENTS
    mixture, generator = law(share), np.random.default_rng(seed)
    held, train, fresh = (mixture.sample(n, seed=3 * seed + part).numpy() for part in range(3))
    if defect == "dropped mode":
        fresh = law(share, without=True).sample(n, seed=3 * seed + 2).numpy()
    if defect == "copied share":
        copied = generator.random(n) < size
        fresh[copied] = train[generator.integers(0, n, copied.sum())] + 0.01 * generator.normal(size=(copied.sum(), 2))
    if defect == "blur":
        fresh = fresh + size * generator.normal(size=fresh.shape)
    return p_values(fresh, held, train, seed, near=defect == "copied share")


def smallest(sizes: list[float], found: list[float]) -> float | None:
    """Return the size from which 80 % of the defects are found, None if that takes more than the largest."""
    for place in range(len(sizes) - 1, -1, -1):
        if found[place] < POWER:
            if place == len(sizes) - 1:
                return None
            low, high = found[place], found[place + 1]
            part = (POWER - low) / (high - low)
            return rounded(np.exp(np.log(sizes[place]) + part * np.log(sizes[place + 1] / sizes[place])))
    return rounded(sizes[0])


def rounded(value: float) -> float:
    """Return three significant digits."""
    return float(f"{value:.3g}")


def power(n: int, draws: int) -> dict[str, dict[str, float | None]]:
    """Return the smallest defect that each figure finds with n rows."""
    table: dict[str, dict[str, float | None]] = {}
    for defect, (at_500, exponent) in SIZES.items():
        many = draws * (CHEAP if defect in ("copied share", "wrong labels") else 1)
        found: dict[str, list[float]] = defaultdict(list)
        used: list[float] = []
        for size in (one * (500 / n) ** exponent for one in at_500):
            p = [tested(defect, size, n, seed) for seed in range(many)]
            used.append(size)
            for name in p[0]:
                found[name].append(float(np.mean([one[name] <= LEVEL for one in p])))
            print(n, defect, size, {name: shares[-1] for name, shares in found.items()}, flush=True)
            if all(shares[-1] == 1 for shares in found.values()):
                break
        table[defect] = {name: smallest(used, shares) for name, shares in found.items()}
    return table


class Replay(pf.PPCA):
    """A model that knows the law: its samples are rows that it was given."""

    def sample(self, n: int = 1, *, condition: Any = None, seed: int | None = None, first: int = 0, **_: Any) -> Rows:
        """Return the next rows."""
        rows: Rows = self.rows[first : first + n]
        return rows


def circle(n: int, seed: int) -> Rows:
    """Return rows of ten Gaussians on a circle."""
    return law(1 / COMPONENTS).sample(n, seed=seed).numpy()


def mixed(n: int, seed: int) -> Rows:
    """Return rows of a table: two numbers with heavy tails, one that is rounded and often 0, counts, and two booleans."""
    generator = np.random.default_rng(seed)
    first = generator.standard_t(3, n)
    second = 0.7 * first + generator.standard_t(3, n)
    rounded = np.maximum(np.round(first), 0)
    many = generator.poisson(3, n)
    return np.stack([first, second, rounded, many, generator.random(n) < 0.05, second > generator.normal(size=n)], axis=1)


def digits(n: int, seed: int) -> Rows:
    """Return 3 n of the 1,797 digits in random order: samples, held-out and training rows are all real."""
    values: Rows = pf.open_data("digits").values
    return values[np.random.default_rng(seed).permutation(len(values))[: 3 * n]]


LAWS = {"circle": circle, "mixed": mixed, "digits": digits}


def level(name: str, n: int, draws: int) -> None:
    """Print how often fresh draws of a law are off the floor, for each figure and for the headline of an evaluation."""
    off: dict[str, list[bool]] = defaultdict(list)
    for seed in range(draws):
        rows = digits(n, seed) if name == "digits" else LAWS[name](3 * n, seed)
        samples, held, train = np.split(rows, 3)
        model = Replay(n_components=1, random_state=0).fit(train)
        model.rows = samples
        inputs = with_samples(gather_inputs(model, held, train, None, None, None, seed), lambda _: None)
        results = Results()
        for part in parts_of(inputs, default_features(inputs.floor.x.numpy())):
            if part.name not in UNTESTED:
                part.run(inputs, results)
        for reference, rows in (("held-out", inputs.held), ("train", inputs.train)):
            judged = (inputs.scaling(part.x).astype(np.float32) for part in (inputs.samples, rows))
            measure = Measure.exact(0.5, n).tested(*sequential_test(*judged, seed=seed))
            results.figures.append(Figure("C2ST", "samples", measure, better="lower", reference=reference, floor=measure))
        tested = [figure for figure in results.figures if standing(figure)]
        for figure in tested:
            off[f"{figure.name}, {figure.reference}"].append(standing(figure) != "at")
        off["of all"] += [standing(figure) != "at" for figure in tested]
        off["headline"].append(bool(off_floor(tested)))
    print(f"{name}, {n} rows")
    for figure, found in off.items():
        # Figures of one draw depend on each other, so those of all have no binomial interval.
        low, high = stats.binomtest(sum(found), len(found)).proportion_ci(0.95)
        interval = "" if figure == "of all" else f" ({low:.3f} to {high:.3f})"
        print(f"{figure:40} {sum(found):4} of {len(found)}: {np.mean(found):.3f}{interval}", flush=True)


def main() -> None:
    """Measure what is asked for, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("power.json"))
    parser.add_argument("--rows", default="200,500,1000,5000")
    parser.add_argument("--draws", type=int, default=40)
    parser.add_argument("--level", choices=list(LAWS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    for n in map(int, options.rows.split(",")):
        if options.level:
            level(options.level, n, options.draws)
            continue
        found = power(n, options.draws)
        known = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
        table = dict(sorted((known | {str(n): found}).items(), key=lambda item: int(item[0])))
        text = json.dumps(table, indent=1, ensure_ascii=False)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
