"""How often the stated numerical error of ``flow_log_prob`` covers the truth: all schedules, widths and dimensions.

    python benchmarks/flow_errors.py [--rows 10]

The denoisers are exact, of three Gaussians of random means whose standard deviations are w, 2 w and 0.5, so the density is
known. Each cell counts rows whose error is within the stated one, plus 1e-8 for rounding.
"""

import argparse
import sys

import numpy as np
import torch

from pushforward.diffusion import (
    Cosine,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    Schedule,
    StraightLine,
    SubVP,
    flow_log_prob,
)
from pushforward.probability import GaussianMixture

SCHEDULES: tuple[Schedule, ...] = (StraightLine(), Cosine(), LinearBeta(), SubVP(), DiscreteBeta(), Exploding())
WIDTHS, DIMENSIONS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0), (1, 2, 8)


def errors(schedule: Schedule, dim: int, width: float, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors and the stated errors of some rows of one law, in nats."""
    rng = np.random.default_rng([dim, round(1000 * width)])
    law = GaussianMixture(np.ones(3) / 3, rng.normal(size=(3, dim)), [width**2, (2 * width) ** 2, 0.25])
    x, last = law.sample(rows, seed=0), torch.tensor(1.0, dtype=torch.float64)
    alpha, sigma = schedule.alpha(last).item(), schedule.sigma(last).item()
    prior = law.noised(alpha, sigma) if alpha > 1e-12 else None
    result = flow_log_prob(ExactDenoiser(law, schedule), x, prior=prior)
    return np.abs(result.values - law.log_prob(x).numpy()), result.numerical_error + 1e-8


def main() -> None:
    """Print a line for each schedule and dimension, and the share of all rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10)
    rows, covered = parser.parse_args().rows, []
    torch.set_num_threads(1)
    for schedule in SCHEDULES:
        for dim in DIMENSIONS:
            cells = [errors(schedule, dim, width, rows) for width in WIDTHS]
            shares = [float(np.mean(error <= stated)) for error, stated in cells]
            worst = max(float(error.max()) for error, _ in cells)
            covered += shares
            listed = " ".join(f"{share:.2f}" for share in shares)
            sys.stdout.write(f"{type(schedule).__name__:12} dim {dim}: covered {listed}, largest error {worst:.1e}\n")
            sys.stdout.flush()
    sys.stdout.write(f"covered: {np.mean(covered):.4f} of {len(covered) * rows} rows\n")


if __name__ == "__main__":
    main()
