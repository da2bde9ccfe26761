"""Error of each posterior method on laws whose exact posterior is known, at equal numbers of passes through the network.

    python benchmarks/inverse_problems.py [--passes 40 120] [--rows 2000] [--methods DDPM PiGDM]

Sliced Wasserstein-2 distance to rows of the exact posterior, times sqrt(D), in units of the posterior's own spread (root of
the total variance), and the geometric mean over the problems; ``floor`` is the distance between two exact samples of that
size. A pass is one way through the network, forward or back.
"""

import argparse
import math

import torch
from sklearn import mixture
from sklearn.datasets import load_digits

from pushforward.diffusion import (
    DDIM,
    DPS,
    MMPS,
    DiffPIR,
    Downsample,
    Exact,
    ExactDenoiser,
    LinearBeta,
    Mask,
    Matrix,
    PiGDM,
    Projection,
    Replacement,
    observe,
)
from pushforward.probability import GaussianMixture, noise


def random_law(dim, count, spread, seed):
    """Return a mixture with unit variance overall and components of about ``spread`` in standard deviation."""
    g = torch.Generator().manual_seed(seed)
    means = torch.randn(count, dim, generator=g, dtype=torch.float64)
    roots = torch.randn(count, dim, dim, generator=g, dtype=torch.float64) / math.sqrt(dim)
    covs = spread**2 * (roots @ roots.mT + 0.05 * torch.eye(dim, dtype=torch.float64))
    return GaussianMixture(torch.full((count,), 1 / count, dtype=torch.float64), means, covs)


def digits_law():
    """Ten Gaussians on the 64 pixels of scikit-learn's digits, scaled to [-1, 1]."""
    X = load_digits().data / 8 - 1
    em = mixture.GaussianMixture(10, random_state=0, reg_covar=5e-3).fit(X)
    return GaussianMixture(torch.tensor(em.weights_), torch.tensor(em.means_), torch.tensor(em.covariances_))


def problems():
    """Yield (name, law, operator, y, noise, shape)."""
    g = torch.Generator().manual_seed(7)
    plane = GaussianMixture([0.5, 0.5], [[-1.0, 1.0], [1.0, -1.0]], [0.05, 0.05])
    yield "plane, sum seen: two modes", plane, Matrix([[1.0, 1.0]]), [0.1], 0.05, (2,)
    one = random_law(8, 1, 1.0, 1)
    half = torch.tensor([True] * 4 + [False] * 4)
    yield "8-D, one Gaussian, half seen exactly", one, Mask(half), half * one.sample(1, seed=5)[0], 0.0, (8,)
    broad = random_law(8, 6, 0.8, 2)
    yield "8-D, broad mixture, half seen exactly", broad, Mask(half), half * broad.sample(1, seed=5)[0], 0.0, (8,)
    yield "8-D, broad mixture, half seen, noise 0.5", broad, Mask(half), half * broad.sample(1, seed=5)[0], 0.5, (8,)
    spiky = random_law(8, 6, 0.2, 3)
    three = Matrix(torch.randn(2, 8, generator=g, dtype=torch.float64) / math.sqrt(8))
    yield "8-D, spiky mixture, 2 projections, noise 0.3", spiky, three, three(spiky.sample(1, seed=4))[0], 0.3, (8,)
    digits, shape = digits_law(), (1, 8, 8)
    x = digits.sample(1, seed=3).reshape(1, *shape)
    upper = torch.arange(8)[:, None].expand(8, 8)[None] < 4
    yield "digits, upper half seen exactly", digits, Mask(upper), upper * x[0], 0.0, shape
    yield "digits, upper half seen, noise 0.3", digits, Mask(upper), upper * x[0], 0.3, shape
    yield "digits, 4 x 4 means, noise 0.1", digits, Downsample(2), Downsample(2)(x)[0], 0.1, shape
    yield "digits, sums of columns, noise 0.3", digits, Projection("height"), Projection("height")(x)[0], 0.3, shape


def sliced(a, b, count=256):
    """Sliced Wasserstein-2 distance of two samples of one size."""
    a, b = a.flatten(1), b.flatten(1)
    directions = noise.normal((a.shape[1],), seed=0, purpose="slices", rows=count, dtype=a.dtype)
    directions /= directions.norm(dim=1, keepdim=True)
    gaps = (a @ directions.mT).sort(0).values - (b @ directions.mT).sort(0).values
    return gaps.square().mean().sqrt().item() * math.sqrt(a.shape[1])


def methods():
    found = {f"MMPS, {k} iteration{'s' if k > 1 else ''}": MMPS(iterations=k) for k in (1, 3, 5, 10)}
    found["MMPS, 3 iterations, DDPM"] = MMPS(iterations=3, sampler=DDIM(eta=1.0))
    found["PiGDM"] = PiGDM()
    found |= {f"DiffPIR, pull={pull:g}": DiffPIR(pull=pull) for pull in (1.0, 4.0)}
    found |= {f"DPS, strength={s:g}": DPS(strength=s) for s in (0.3, 1.0, 3.0)}
    found |= {f"RePaint, {r} repeat{'s' if r > 1 else ''}": Replacement(repeats=r) for r in (1, 3, 10)}
    return found


def steps_for(method, passes):
    """Return the most steps that cost at most ``passes``."""
    steps = 1
    while method.passes(steps + 1) <= passes:
        steps += 1
    return steps


def error(law, operator, y, std, shape, method, *, passes, rows):
    """Return the error of one method, and the floor."""
    seen, denoiser = observe(operator, y, std, shape), ExactDenoiser(law, LinearBeta())
    z = noise.normal(shape, seed=0, purpose="start", rows=rows, dtype=torch.float64)
    truth, other = (Exact().run(denoiser, seen, z, steps=1, seed=seed) for seed in (1, 2))
    unit = truth.flatten(1).var(0).sum().sqrt()
    if method is None:
        return sliced(truth, other) / unit
    made = method.run(denoiser, seen, z, steps=steps_for(method, passes), seed=0)
    return sliced(truth, made) / unit


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--passes", type=int, nargs="+", default=[30, 100])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--methods", nargs="+", default=[""], help="parts of the names of the methods to run; all without it")
    arguments = parser.parse_args()
    listed = list(problems())
    for k, (name, *_) in enumerate(listed, 1):
        print(f"P{k}: {name}")
    for passes in arguments.passes:
        print(f"\n{passes} passes".ljust(31) + "".join(f"{f'P{k}':>8}" for k in range(1, len(listed) + 1)) + f"{'mean':>8}")
        wanted = {name: method for name, method in methods().items() if any(part in name for part in arguments.methods)}
        for name, method in {"floor": None, **wanted}.items():
            found = [error(*problem[1:], method, passes=passes, rows=arguments.rows) for problem in listed]
            mean = math.exp(sum(math.log(max(float(value), 1e-9)) for value in found) / len(found))
            print(name.ljust(30) + "".join(f"{value:8.3f}" for value in found) + f"{mean:8.3f}", flush=True)


if __name__ == "__main__":
    main()
