"""Cost of one sampling step over the denoiser itself, beside diffusers if that is installed.

    python benchmarks/sampler_step.py

A step of every sampler is timed against a bare loop that only calls the same ``Denoiser`` on its own last output with a
ready time tensor; what is left is the cost of the sampler. The cost of the ``Denoiser`` over its network is shown beside it.
Loops are interleaved and the median of the differences is taken, so that a change of the machine's speed hits both alike.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

import pushforward as pf
from pushforward.diffusion import Denoiser, StraightLine
from pushforward.diffusion.samplers.table import Sampler


class Small(nn.Module):
    """A perceptron with one hidden layer, so that the network does not drown what is measured."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(features, 64), nn.Linear(64, features)

    def forward(self, x: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return a tensor like x; the time is added to the hidden layer."""
        return self.last(nn.functional.silu(self.first(x) + t[:, None]))


def microseconds(action: Callable[[], object], base: Callable[[], object], steps: int, rounds: int) -> float:
    """Median over rounds of the difference between two loops of ``steps`` steps each, in microseconds per step."""
    differences = []
    for _ in range(rounds):
        times = []
        for run in (base, action):
            begin = time.perf_counter()
            run()
            times.append(time.perf_counter() - begin)
        differences.append((times[1] - times[0]) / steps * 1e6)
    return statistics.median(differences)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Small(options.features).eval()
    schedule = StraightLine()
    denoiser = Denoiser(network, schedule).eval()
    noise = torch.randn(options.batch, options.features)
    times = pf.UniformGrid()(schedule, options.steps)[:-1].unbind()
    rows = torch.full((options.batch,), 0.5)

    with torch.no_grad():

        def bare_network() -> None:
            x = noise
            for _ in range(options.steps):
                x = network(x, rows, None)

        def bare() -> None:
            x = noise
            for t in times:
                x = denoiser(x, t)

        bare(), bare_network()
        print(
            f"batch {options.batch} x {options.features}, one thread, {options.steps} steps, "
            f"median of {options.rounds} rounds\n"
        )
        begin = time.perf_counter()
        bare_network()
        print(f"{'network call':42s}{(time.perf_counter() - begin) / options.steps * 1e6:8.1f} us")
        print(f"{'Denoiser over its network':42s}{microseconds(bare, bare_network, options.steps, options.rounds):8.1f} us")
        print("\ncost of one step over the bare Denoiser call:")
        samplers: list[Sampler] = [pf.DPMSolver(order=k) for k in (1, 2, 3)]
        samplers += [pf.default_sampler(options.steps), pf.UniPC(), pf.DDIM(), pf.Euler(), pf.DDIM(eta=1.0)]
        for sampler in samplers:

            def run(sampler: Sampler = sampler) -> None:
                sampler.run(denoiser, noise, steps=options.steps, seed=0)

            run()
            cost = microseconds(run, bare, options.steps, options.rounds)
            name = type(sampler).__name__ + (f" order {sampler.order}" if isinstance(sampler, pf.DPMSolver) else "")
            name += " eta=1 (draws noise)" if isinstance(sampler, pf.DDIM) and sampler.eta else ""
            print(f"  {name:40s}{cost:8.1f} us")
        _peer(options, network, noise)


def _peer(options: argparse.Namespace, network: nn.Module, noise: Tensor) -> None:
    """Time diffusers' DPM-Solver++ 2M over a bare loop of the network."""
    try:
        from diffusers import DPMSolverMultistepScheduler
    except ImportError:
        print("  (diffusers is not installed: pip install diffusers to see it here)")
        return
    scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2)

    def run() -> None:
        scheduler.set_timesteps(options.steps)
        x = noise
        for time_step in scheduler.timesteps:
            rows = torch.full((options.batch,), float(time_step) / 1000)
            x = scheduler.step(network(x, rows, None), time_step, x).prev_sample

    def bare() -> None:
        x, rows = noise, torch.full((options.batch,), 0.5)
        for _ in range(options.steps):
            x = network(x, rows, None)

    run()
    cost = microseconds(run, bare, options.steps, max(5, options.rounds // 4))
    print(f"  {'diffusers DPMSolverMultistep (over network)':44s}{cost:4.1f} us")


if __name__ == "__main__":
    main()
