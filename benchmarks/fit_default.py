"""Fit the tables of the default sampler for few calls: one for each number of them, for any law.

    python benchmarks/fit_default.py 5 --minutes 10 --data FOLDER --runs runs/digits runs/checkerboard

With few calls no formula for grid and coefficients is good everywhere, and a table can be fitted (``calibration.py``). Here it
is fitted to many laws at once instead of to one model:

* the laws of ``flow_laws.py``, whose errors are measured against the best that other libraries reach there (``PEERS``, as
  ``sampler_quality.py`` prints it), and other noises of some of them;
* mixtures drawn at random: narrow and wide spikes, laws on a subspace, spectra that fall by a power (``drawn``);
* trained models, given as run folders, against their own fine solution.

Minimized is the mean logarithm of the error over a reference - the best peer's, or the error of the formula that serves more
calls - and, much more strongly, every excess of such a ratio over --aim. The table is written into the package, to four
decimals. The laws of ``held`` take no part and are only shown. The tables of the package took several runs: those for 5 and 8
calls were made with --rows 8192 --aim 0.95, that for 8 with --again from a first one.
"""

import argparse
import contextlib
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from flow_laws import LAWS, law, normal
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import softplus

import pushforward
from pushforward.diffusion import RK4, CalibratedSampler, DiscreteBeta, ExactDenoiser, Sampler, VPGrid
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.samplers import default
from pushforward.diffusion.samplers.calibration import TableFit
from pushforward.diffusion.samplers.quality import exact_flow
from pushforward.probability import GaussianMixture

SCHEDULE = DiscreteBeta()
TABLES = Path(default.__file__).with_name("default_tables.json")
_HINGE, _SOFTNESS = 2.0, 0.02

# Error of the best of 212 solvers of diffusers, k-diffusion and azula, by law and calls.
PEERS: dict[str, dict[int, float]] = {
    "digits": {2: 0.2344, 3: 0.1771, 4: 0.1561, 5: 0.1315, 6: 0.1052, 7: 0.08129, 8: 0.06343, 9: 0.05246, 10: 0.0443},
    "photos": {2: 0.3534, 3: 0.204, 4: 0.1502, 5: 0.1075, 6: 0.0855, 7: 0.0724, 8: 0.06222, 9: 0.0509, 10: 0.04236},
    "broad": {2: 0.2916, 3: 0.156, 4: 0.1232, 5: 0.1069, 6: 0.08771, 7: 0.06982, 8: 0.05401, 9: 0.04216, 10: 0.02764},
    "mnist40": {2: 0.38, 3: 0.2659, 4: 0.2103, 5: 0.1717, 6: 0.1483, 7: 0.1279, 8: 0.113, 9: 0.09666, 10: 0.08349},
    "cifar": {2: 0.2011, 3: 0.1493, 4: 0.114, 5: 0.1017, 6: 0.0815, 7: 0.06941, 8: 0.05969, 9: 0.04865, 10: 0.03611},
    "ring": {2: 0.08939, 3: 0.3019, 4: 0.1521, 5: 0.05184, 6: 0.03265, 7: 0.01307, 8: 0.004887, 9: 0.008444, 10: 0.004781},
    "uneven": {2: 0.4213, 3: 0.3381, 4: 0.2601, 5: 0.2, 6: 0.1605, 7: 0.1341, 8: 0.114, 9: 0.09797, 10: 0.08553},
    "spiky": {2: 0.428, 3: 0.3355, 4: 0.234, 5: 0.167, 6: 0.1296, 7: 0.1092, 8: 0.09225, 9: 0.08353, 10: 0.07917},
    "spiky32": {2: 0.433, 3: 0.232, 4: 0.1621, 5: 0.1433, 6: 0.1232, 7: 0.1119, 8: 0.1003, 9: 0.0959, 10: 0.08264},
}


@dataclass(eq=False)
class Target:
    """A denoiser, noises, where the flow carries them, and the error to compare with; tables are fitted to the first rows."""

    denoiser: AbstractDenoiser
    noise: Tensor
    exact: Tensor
    condition: Tensor | None = None
    fitted: int | None = None
    reference: float = math.nan  # of all rows, and of those that tables are fitted to
    fitted_reference: float = math.nan

    def compare_with(self, sampler: Sampler, steps: int, peers: float | None) -> None:
        """Set the reference to that of the peers, or where there is none to the error of this sampler."""
        made = sampler.run(self.denoiser, self.noise, steps=steps, condition=self.condition)
        error = self.error(made)
        self.reference = peers or error.item()
        self.fitted_reference = self.reference * (self.error(made[: self.fitted]) / error).item()

    def error(self, made: Tensor) -> Tensor:
        return (made.double() - self.exact[: len(made)].double()).square().mean().sqrt()

    def ratio(self, sampler: Sampler, steps: int) -> float:
        made = sampler.run(self.denoiser, self.noise, steps=steps, condition=self.condition)
        return self.error(made).item() / self.reference

    def fitted_ratio(self, fit: TableFit) -> Tensor:
        condition = None if self.condition is None else self.condition[: self.fitted]
        made = fit.chain(self.denoiser, self.noise[: self.fitted], condition)
        return self.error(made) / self.fitted_reference


def spikes(seed: int, count: int, dim: int, variance: float) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    return GaussianMixture(rng.dirichlet(np.full(count, 3.0)), rng.normal(size=(count, dim)), np.full(count, variance))


def spectrum(seed: int, count: int, dim: int, most: float, least: float, within: float) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    axes, variances = np.linalg.qr(rng.normal(size=(dim, dim)))[0], np.geomspace(most, least, dim)
    means = rng.normal(size=(count, dim)) * np.sqrt(variances) @ axes.T
    return GaussianMixture(rng.dirichlet(np.full(count, 5.0)), means, np.stack([axes * (variances * within) @ axes.T] * count))


def subspace(seed: int, count: int, dim: int, rank: int, variance: float) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(dim, rank)))[0].T * math.sqrt(dim / rank)
    return GaussianMixture(np.full(count, 1 / count), rng.normal(size=(count, rank)) @ axes, np.full(count, variance))


def drawn() -> list[GaussianMixture]:
    """Return the random laws that tables are fitted to."""
    sizes = [(20, 16, 4e-3), (6, 3, 2e-3), (12, 8, 1e-3), (16, 8, 0.03), (10, 64, 1e-2), (9, 2, 0.05), (4, 4, 0.3)]
    laws = [spikes(11 + i, *size) for i, size in enumerate(sizes)]
    return [*laws, spectrum(18, 5, 16, 4.0, 0.02, 0.3), spectrum(19, 12, 32, 8.0, 0.01, 0.15), subspace(20, 9, 32, 4, 0.01)]


def held() -> list[GaussianMixture]:
    """Return random laws that take no part."""
    sizes = [(20, 16, 4e-3), (6, 3, 1e-3), (12, 8, 1e-3), (12, 32, 1e-2), (16, 8, 0.02), (10, 64, 1e-2), (6, 5, 0.15)]
    laws = [spikes(1 + i, *size) for i, size in enumerate(sizes)]
    return [*laws, spectrum(8, 5, 16, 4.0, 0.02, 0.3), spectrum(9, 6, 24, 8.0, 0.02, 0.2), subspace(10, 9, 32, 4, 0.01)]


def of_law(target: GaussianMixture, count: int, seed: int, fitted: int | None = None) -> Target:
    noise = normal(count, target.dim, seed)
    return Target(ExactDenoiser(target, SCHEDULE), noise, exact_flow(target, SCHEDULE, noise), fitted=fitted)


def of_run(folder: Path, count: int, seed: int) -> Target:
    model = pushforward.load(folder)
    noise = torch.randn(count, *model.space_.transform.shape, generator=torch.Generator().manual_seed(seed))
    condition = None if model.space_.conditions is None else model._conditions_for_sampling(None, count, 0)
    exact = RK4(grid=VPGrid()).run(model.denoiser_, noise, steps=100, condition=condition)
    return Target(model.denoiser_, noise, exact, condition, fitted=10 if noise[0].numel() > 50 else 64)


def targets(options: argparse.Namespace) -> dict[str, Target]:
    """Return all targets by name, from a cache where there is one."""
    if options.cache and options.cache.exists():
        kept: dict[str, Target] = torch.load(options.cache, weights_only=False)
        return kept
    known = {name: law(name, options.data) for name in LAWS if name != "mnist"}
    found = {name: of_law(target, *LAWS[name]) for name, target in known.items()}
    fresh = ("digits", "photos", "broad", "mnist40", "cifar")
    found |= {f"fresh {name}": of_law(known[name], 512, 9, 96) for name in fresh}
    found |= {f"drawn {i}": of_law(target, 512, 7, 192) for i, target in enumerate(drawn())}
    found |= {f"held {i}": of_law(target, 1024, 8) for i, target in enumerate(held())}
    found |= {f"run {folder.name}": of_run(folder, 100 if i == 0 else 400, 1) for i, folder in enumerate(options.runs)}
    if options.cache:
        torch.save(found, options.cache)
    return found


def show(ratios: dict[str, float]) -> str:
    kinds: dict[str, list[float]] = {}
    for name, ratio in ratios.items():
        kinds.setdefault("peers" if name in LAWS else name.split()[0], []).append(ratio)
    return "; ".join(
        f"{kind} {math.exp(np.log(values).mean()):.2f}, at most {max(values):.2f}"
        + (f" ({' '.join(f'{value:.2f}' for value in values)})" if kind in ("peers", "run") else "")
        for kind, values in kinds.items()
    )


class _TimeIsUpError(Exception):
    pass


def fit(steps: int, known: dict[str, Target], start: CalibratedSampler, minutes: float, aim: float) -> CalibratedSampler:
    """Return the best table that the quasi-Newton method of Broyden, Fletcher, Goldfarb and Shanno meets."""
    part = [target for name, target in known.items() if not name.startswith("held")]
    table, begin, tries = TableFit(SCHEDULE, start), time.monotonic(), 0
    free = table.free()
    best, least = start, math.inf

    def objective(values: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best, least, where, tries
        if time.monotonic() - begin > 60 * minutes:
            raise _TimeIsUpError
        _assign(free, values)
        logs = torch.stack([target.fitted_ratio(table).log() for target in part])
        over = softplus((logs - math.log(aim)) / _SOFTNESS) * _SOFTNESS
        loss = logs.mean() + _HINGE * over.sum()
        gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, free)])
        tries += 1
        if loss.item() < least:
            best, least, where = table.sampler(), loss.item(), values.copy()
            print(f"{steps} calls, {tries} tables tried: {least:.3f}, worst ratio {logs.max().exp().item():.2f}", flush=True)
        return (loss.item(), gradient.numpy()) if math.isfinite(loss.item()) else (1e3, np.zeros(len(values)))

    where = torch.cat([parameter.detach().flatten() for parameter in free]).numpy()
    with contextlib.suppress(_TimeIsUpError):
        while True:  # where a row changes its mode the search along a line may fail: begin again from the best
            minimize(objective, where, jac=True, method="BFGS", options={"maxiter": 1000})
    return rounded(best)


def rounded(sampler: CalibratedSampler) -> CalibratedSampler:
    """Return a table of four decimals, whose rows sum to 1 as far as these go."""
    rows = [[round(weight, 4) for weight in row[:-1]] for row in sampler.weights]
    levels = tuple(float(f"{level:.4g}") for level in sampler.levels)
    kept = tuple(round(value, 4) for value in sampler.kept)
    return CalibratedSampler(levels, kept, tuple((*row, round(1 - sum(row), 4)) for row in rows))


def equivariant(sampler: CalibratedSampler) -> CalibratedSampler:
    """Return a table whose rows sum to 1, so that shifted data give shifted samples; the first call pays for it."""
    rows = tuple((row[0] + 1 - sum(row), *row[1:]) for row in sampler.weights)
    return CalibratedSampler(sampler.levels, (*sampler.kept[:-1], 0.0), rows)


def _assign(free: list[Tensor], values: np.ndarray) -> None:
    ends = np.cumsum([parameter.numel() for parameter in free])[:-1]
    with torch.no_grad():
        for parameter, part in zip(free, np.split(values, ends), strict=True):
            parameter.copy_(torch.from_numpy(part))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("steps", type=int, nargs="+")
    parser.add_argument("--minutes", type=float, default=10.0, help="for each number of steps")
    parser.add_argument("--data", type=Path, default=Path(), help="folder of mnist_train.parquet and cifar10_train.parquet")
    parser.add_argument("--runs", type=Path, nargs="*", default=[], help="run folders of trained models; the first of images")
    parser.add_argument("--cache", type=Path, help="file to keep the exact solutions in")
    parser.add_argument("--rows", type=int, default=2048, help="most noises of a law in the fit")
    parser.add_argument("--aim", type=float, default=0.93, help="ratio to the best peer that is enough")
    parser.add_argument("--again", action="store_true", help="begin with the table that is there")
    options = parser.parse_args()
    torch.set_num_threads(1)
    known = targets(options)
    for steps in options.steps:
        formula = default.formula(steps)
        for name, target in known.items():
            target.fitted = options.rows if name in LAWS else target.fitted
            target.compare_with(formula, steps, PEERS.get(name, {}).get(steps))
        begin = default.default_sampler(steps) if options.again else formula
        start = equivariant(CalibratedSampler.of(begin, SCHEDULE, steps))
        best = fit(steps, known, start, options.minutes, options.aim)
        print(f"{steps} calls, at the end: {show({name: target.ratio(best, steps) for name, target in known.items()})}")
        tables = json.loads(TABLES.read_text()) if TABLES.exists() else {}
        tables[str(steps)] = {"levels": best.levels, "kept": best.kept, "weights": best.weights}
        lines = [f'"{n}": {json.dumps(tables[n])}' for n in sorted(tables, key=int)]
        TABLES.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
