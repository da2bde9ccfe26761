"""Error of samplers against the exact flow of known laws, beside diffusers, k-diffusion and azula where these are installed.

    python benchmarks/sampler_quality.py --law digits --calls 5 8 10 15 20 30 50

The laws are those of ``flow_laws.py``, the schedule is DDPM's. Of the noises of spikes a few lie between two of them, and
whether these end in the right one decides on the error: --noises and --seed are by default those that ``flow_laws.py`` gives
for each law, thousands for spikes, and the figures that the documentation quotes are of these.

Reported is the root mean square error per dimension over all noises to a float64 reference from the same noises
(Runge-Kutta down to the noise level 1e-4, then denoised), for each of our samplers and for the best that the peers have: all
their deterministic multistep and single-step solvers on all their grids, by the number of calls that they really make. With
--calibrate the table fitted to the denoiser on 2,048 other noises is measured as well.
"""

import argparse
import importlib.util
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from flow_laws import LAWS, law, normal
from torch import Tensor

from pushforward.diffusion import (
    DEIS,
    AngleSolver,
    DiscreteBeta,
    DPMSolver,
    ExactDenoiser,
    Heun,
    KarrasGrid,
    Sampler,
    UniPC,
    VPGrid,
    calibrate,
    default_sampler,
)
from pushforward.diffusion.samplers.quality import exact_flow, flow_error
from pushforward.probability import GaussianMixture

SCHEDULE = DiscreteBeta()
BETAS = np.linspace(1e-4, 0.02, 1000)
START = SCHEDULE.sigma(torch.ones((), dtype=torch.float64)).item()

Solver = Callable[[Tensor, int], tuple[Tensor, int]]
"""Noise and a number of calls to samples and the calls made."""


def diffusers_solvers(target: GaussianMixture) -> Iterator[tuple[str, Solver]]:
    import diffusers

    grids: list[dict[str, object]] = [{"timestep_spacing": kind} for kind in ("linspace", "trailing", "leading")]
    grids += [{key: True} for key in ("use_karras_sigmas", "use_exponential_sigmas", "use_lu_lambdas", "use_beta_sigmas")]
    ends = [{"final_sigmas_type": kind} for kind in ("zero", "sigma_min")]
    orders = [{"solver_order": order} for order in (2, 3)]
    families: list[tuple[str, list[dict[str, object]]]] = [
        (
            "DPMSolverMultistepScheduler",
            [o | e | {"solver_type": kind} for o in orders for e in ends for kind in ("midpoint", "heun")],
        ),
        ("UniPCMultistepScheduler", [o | e | {"solver_type": kind} for o in orders for e in ends for kind in ("bh1", "bh2")]),
        ("DEISMultistepScheduler", [o | {"lower_order_final": low} for o in orders for low in (True, False)]),
        ("EulerDiscreteScheduler", [{}]),
        ("LMSDiscreteScheduler", [{}]),
        ("HeunDiscreteScheduler", [{}]),
    ]
    for family, choices in families:
        for choice in choices:
            for grid in grids:
                if "use_lu_lambdas" in grid and not family.startswith("DPM"):
                    continue
                made = {"num_train_timesteps": 1000, "trained_betas": BETAS, **choice, **grid}

                def solve(
                    noise: Tensor, calls: int, family: str = family, made: dict[str, object] = made
                ) -> tuple[Tensor, int]:
                    scheduler = getattr(diffusers, family)(**made)
                    scheduler.set_timesteps((calls + 1) // 2 if family.startswith("Heun") else calls)
                    x = noise * (float(scheduler.sigmas[0]) if family.endswith("DiscreteScheduler") else START)
                    for time in scheduler.timesteps:
                        t = (torch.as_tensor(time, dtype=torch.float64) + 1) / 1000
                        alpha, sigma = SCHEDULE.alpha(t).item(), SCHEDULE.sigma(t).item()
                        scaled = scheduler.scale_model_input(x, time).double()
                        eps = (scaled - alpha * target.denoised(scaled, alpha, sigma)) / sigma
                        if family.startswith("UniPC"):  # mixes its own float32 into the sums
                            eps, x = eps.float(), x.float()
                        x = scheduler.step(eps, time, x).prev_sample
                    return x.double(), len(scheduler.timesteps)

                yield f"diffusers {family} {choice} {grid}", solve


def azula_solvers(target: GaussianMixture) -> Iterator[tuple[str, Solver]]:
    from azula import noise as kernels
    from azula import sample
    from azula.denoise import Denoiser, DiracPosterior

    class Ours(kernels.Schedule):  # type: ignore[misc]
        def __call__(self, t: Tensor) -> tuple[Tensor, Tensor]:
            return SCHEDULE.alpha(t), SCHEDULE.sigma(t)

    class Oracle(Denoiser):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.schedule = Ours()

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: object) -> DiracPosterior:
            return DiracPosterior(target.denoised(x_t, *self.schedule(t)))

    for name in ("DDIMSampler", "HeunSampler", "zABSampler", "vABSampler", "zEABSampler", "xEABSampler", "REABSampler"):
        for stop in (0.0, 1e-3, 1e-2):
            for order in (1, 2, 3, 4) if "AB" in name else (0,):

                def solve(
                    noise: Tensor, calls: int, name: str = name, stop: float = stop, order: int = order
                ) -> tuple[Tensor, int]:
                    extra: dict[str, object] = {"order": order} if order else {"eta": 0.0} if name == "DDIMSampler" else {}
                    steps = calls // 2 if name == "HeunSampler" else calls
                    sampler = getattr(sample, name)(Oracle(), steps=steps, stop=stop, silent=True, dtype=torch.float64, **extra)
                    return sampler(noise * START), steps * (2 if name == "HeunSampler" else 1)

                yield f"azula {name} {order or ''} to t={stop:g}", solve


def k_diffusion_solvers(target: GaussianMixture) -> Iterator[tuple[str, Solver]]:
    from k_diffusion import sampling

    ends = SCHEDULE.noise_level(torch.tensor([1e-3, 1.0], dtype=torch.float64)).tolist()
    grids: dict[str, Callable[[int], Tensor]] = {
        "karras": lambda n: sampling.get_sigmas_karras(n, *ends),
        "exponential": lambda n: sampling.get_sigmas_exponential(n, *ends),
        "polyexponential": lambda n: sampling.get_sigmas_polyexponential(n, *ends, rho=0.7),
        "vp": lambda n: sampling.get_sigmas_vp(n),
    }
    for name, cost in (("euler", 1), ("heun", 2), ("dpm_2", 2), ("lms", 1), ("dpmpp_2m", 1), ("dpmpp_2s_ancestral", 2)):
        for label, grid in grids.items():

            def solve(
                noise: Tensor, calls: int, name: str = name, cost: int = cost, grid: Callable[[int], Tensor] = grid
            ) -> tuple[Tensor, int]:
                made = 0

                def model(x: Tensor, sigma: Tensor, **kwargs: object) -> Tensor:
                    nonlocal made
                    made += 1
                    return target.denoised(x, 1.0, float(sigma[0]))

                levels = grid((calls + 1) // cost).double()
                extra = {"eta": 0.0} if "ancestral" in name else {}
                x = getattr(sampling, f"sample_{name}")(model, noise * levels[0], levels, disable=True, **extra)
                return x, made

            yield f"k-diffusion {name} {label}", solve


PEERS = {"diffusers": diffusers_solvers, "azula": azula_solvers, "k_diffusion": k_diffusion_solvers}


def best_peer(target: GaussianMixture, noise: Tensor, exact: Tensor, calls: int) -> tuple[float, str, int]:
    """Return the least error of all installed peers, whose it is, and how many solvers were tried."""
    best, whose, tried = math.inf, "no peer is installed", 0
    for package, solvers in PEERS.items():
        if importlib.util.find_spec(package) is None:
            continue
        try:
            listed = list(solvers(target))
        except ImportError as error:
            print(f"({package} is left out: {error})")
            continue
        for label, solve in listed:
            try:
                made, used = solve(noise, calls)
            except (ValueError, IndexError, RuntimeError, AssertionError):  # some grids of theirs do not exist at some lengths
                continue
            error = (made - exact).square().mean().sqrt().item()
            if used <= calls and math.isfinite(error):
                tried += 1
                if error < best:
                    best, whose = error, label
    return best, whose, tried


def ours() -> dict[str, Sampler]:
    grid = VPGrid()
    return {
        "AngleSolver(order=4)": AngleSolver(order=4),
        "UniPC(order=3)": UniPC(order=3, grid=grid),
        "DPMSolver(order=2)": DPMSolver(order=2, grid=grid),
        "DPMSolver(order=3)": DPMSolver(order=3, grid=grid),
        "DEIS(order=3)": DEIS(order=3, grid=grid),
        "DPMSolver(order=2), Karras": DPMSolver(order=2, grid=KarrasGrid()),
        "DPMSolver(order=2), uniform": DPMSolver(order=2),
        "Heun, half the steps": Heun(grid=grid),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--law", choices=LAWS, default="digits")
    parser.add_argument("--calls", type=int, nargs="+", default=[5, 8, 10, 15, 20, 30, 50])
    parser.add_argument("--noises", type=int)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--data", type=Path, default=Path(), help="folder of mnist_train.parquet and cifar10_train.parquet")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--calibrate", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    target, (noises, seed) = law(options.law, options.data), LAWS[options.law]
    noises, seed = noises if options.noises is None else options.noises, seed if options.seed is None else options.seed
    noise = normal(noises, target.dim, seed)
    exact = exact_flow(target, SCHEDULE, noise)
    print(f"{options.law}: {target.dim} dimensions, {len(target.weights)} components, {noises} noises\n")
    print(f"{'calls':30s}" + "".join(f"{calls:>9d}" for calls in options.calls))

    def line(name: str, sampler: Callable[[int], Sampler], share: int = 1) -> list[float]:
        errors = [
            flow_error(sampler(n), target, SCHEDULE, noise, steps=(n + share - 1) // share, exact=exact) for n in options.calls
        ]
        print(f"{name:30s}" + "".join(f"{error:9.5f}" for error in errors), flush=True)
        return errors

    errors = line("default_sampler", default_sampler)
    for name, sampler in ours().items():
        line(name, lambda _, sampler=sampler: sampler, 2 if isinstance(sampler, Heun) else 1)  # type: ignore[misc]
    if options.calibrate:
        made = normal(2048, target.dim, seed + 1)
        oracle = ExactDenoiser(target, SCHEDULE)
        line("calibrated", lambda n: calibrate(oracle, made, steps=n).sampler)
    if options.no_peers:
        return
    found = [best_peer(target, noise, exact, calls) for calls in options.calls]
    print(f"{f'best of {found[0][2]} solvers of peers':30s}" + "".join(f"{error:9.5f}" for error, _, _ in found))
    print(f"{'default over best peer':30s}" + "".join(f"{e / b:9.2f}" for e, (b, _, _) in zip(errors, found, strict=True)))
    for calls, (_, whose, _) in zip(options.calls, found, strict=True):
        print(f"  {calls:3d} calls: {whose}")


if __name__ == "__main__":
    main()
