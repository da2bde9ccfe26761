"""Time of one EM iteration beside scikit-learn's, in one run: 200,000 rows of 32 columns, 32 full covariances.

Both start from the same law and do the same work: responsibilities of all rows, then new weights, means and covariances.

    OMP_NUM_THREADS=2 python benchmarks/gmm_speed.py
"""

import argparse
import time

import numpy as np
import torch
from sklearn.mixture import GaussianMixture as Peer

from pushforward.probability import GaussianMixture, noise
from pushforward.probability.estimation.mixture_em import fit_mixture


def main() -> None:
    """Print the seconds per iteration of both, their ratio, and how far their laws are apart."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--columns", type=int, default=32)
    parser.add_argument("--components", type=int, default=32)
    parser.add_argument("--iterations", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    x = _rows(args.rows, args.columns, args.components)
    means = x[:: len(x) // args.components][: args.components].clone()
    covs = torch.cov(x.mT).expand(args.components, -1, -1)
    start = GaussianMixture(torch.full((args.components,), 1 / args.components, dtype=x.dtype), means, covs)
    print(f"{args.rows:,} x {args.columns}, {args.components} full components, {torch.get_num_threads()} threads")
    ours, theirs, gap = [], [], 0.0
    for _ in range(args.rounds):
        seconds, law = _our_iteration(x, start, args.iterations)
        ours.append(seconds)
        seconds, peer = _their_iteration(x, start, args.iterations)
        theirs.append(seconds)
        gap = float(np.abs(law.means.numpy() - peer.means_).max())
    pairs = ", ".join(f"{a / b:.1f}" for a, b in zip(theirs, ours, strict=True))
    print(f"pushforward  {min(ours):.3f} s per iteration")
    print(f"scikit-learn {min(theirs):.3f} s per iteration")
    print(f"ratio {min(theirs) / min(ours):.2f} (rounds: {pairs}); means differ by {gap:.1e}")


def _our_iteration(x: torch.Tensor, start: GaussianMixture, iterations: int) -> tuple[float, GaussianMixture]:
    begin = time.perf_counter()
    found = fit_mixture(x, start, tolerance=0.0, max_iterations=iterations)
    # The last law is scored too, one E-step more than the peer makes here; it is counted against us.
    return (time.perf_counter() - begin) / found.iterations, found.parameters


def _their_iteration(x: torch.Tensor, start: GaussianMixture, iterations: int) -> tuple[float, Peer]:
    values, precisions = x.numpy(), torch.linalg.inv(start.covs).numpy()
    given = {"weights_init": start.weights.numpy(), "means_init": start.means.numpy(), "precisions_init": precisions}
    peer = Peer(len(start.weights), reg_covar=0.0, init_params="random_from_data", **given)
    peer._initialize_parameters(values, np.random.RandomState(0))
    begin = time.perf_counter()
    for _ in range(iterations):
        _, log_responsibilities = peer._e_step(values)
        peer._m_step(values, log_responsibilities)
    return (time.perf_counter() - begin) / iterations, peer


def _rows(rows: int, columns: int, components: int) -> torch.Tensor:
    """Rows around random centers, each with its own random covariance."""
    centers = 3 * noise.normal((columns,), seed=0, purpose="centers", rows=components, dtype=torch.float64)
    turns = noise.normal((columns, columns), seed=0, purpose="turns", rows=components, dtype=torch.float64) / columns**0.5
    z = noise.normal((columns,), seed=0, purpose="rows", rows=rows, dtype=torch.float64)
    which = torch.arange(rows) % components
    x = torch.empty_like(z)
    for k in range(components):
        mine = which == k
        x[mine] = centers[k] + z[mine] @ turns[k].mT
    return x


if __name__ == "__main__":
    main()
