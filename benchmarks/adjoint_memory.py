"""Memory and time of a Neural ODE's two gradients against the number of calls of its network.

    python benchmarks/adjoint_memory.py

dopri5 crosses one interval at ever finer tolerances. Every cell is a process of its own. ``kept`` is what autograd holds
between the forward and the backward pass; ``peak`` is by how much the process's resident memory grew from just before the
forward pass to its peak over both passes. The last line compares the growth of each gradient from the first row to the last.
"""

import argparse
import json
import resource
import subprocess
import sys
import time

import torch
from torch import Tensor, nn

from pushforward.dynamics.neural_ode import Autonomous, NeuralODE

MIB = 2**20


def build(gradient: str, tolerance: float, width: int) -> NeuralODE:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(2, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
    return NeuralODE(Autonomous(body), gradient=gradient, rtol=tolerance, atol=tolerance).double()


def measure(gradient: str, tolerance: float, batch: int, width: int) -> dict[str, float]:
    """Run one cell in this process."""
    torch.set_num_threads(1)
    times = torch.tensor([0.0, 20.0])
    build(gradient, 1e-3, width)(torch.ones(2, 2, dtype=torch.float64), times).states.sum().backward()
    model = build(gradient, tolerance, width)
    x = torch.randn(batch, 2, dtype=torch.float64)
    calls, kept = 0, {}

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    model.network.register_forward_hook(count)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        solution = model(x, times)
    solution.states[-1].square().mean().backward()
    seconds = time.perf_counter() - begin
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return {"forward": solution.evaluations, "all": calls, "kept": sum(kept.values()), "peak": peak, "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-3, 1e-5, 1e-7, 1e-9, 1e-11])
    parser.add_argument("--cell", nargs=2, metavar=("GRADIENT", "TOLERANCE"), help="run one cell and print it as JSON")
    options = parser.parse_args()
    if options.cell:
        print(json.dumps(measure(options.cell[0], float(options.cell[1]), options.batch, options.width)))
        return
    print(f"batch {options.batch}, two hidden layers of {options.width}, float64, one thread\n")
    print("gradient  tolerance  calls forward  calls in all  kept MiB  peak MiB       s")
    ratios = {}
    for gradient in ("unroll", "adjoint"):
        cells = []
        for tolerance in options.tolerances:
            command = [sys.executable, __file__, "--cell", gradient, str(tolerance)]
            command += ["--batch", str(options.batch), "--width", str(options.width)]
            cell = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            cells.append(cell)
            print(
                f"{gradient:8s}{tolerance:11.0e}{cell['forward']:15d}{cell['all']:14d}{cell['kept'] / MIB:10.2f}"
                f"{cell['peak'] / MIB:10.1f}{cell['seconds']:8.2f}"
            )
        ratios[gradient] = [cells[-1][key] / cells[0][key] for key in ("forward", "kept")]
    print(
        "\nfrom the first row to the last: " + "; ".join(f"{g}: calls x{a:.1f}, kept x{b:.2f}" for g, (a, b) in ratios.items())
    )


if __name__ == "__main__":
    main()
