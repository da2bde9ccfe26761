r"""The cost of samples: time, network calls, memory.

- *Seconds per 1,000 samples.* After two runs that are not timed, the same sample is drawn six times. The value is the median of
  the six times, and the interval goes from the smallest to the largest: it holds the median of all such times with probability
  1 - 2 / 2^6 = 96.9 %, whatever their law. The time depends on the machine, its threads and its load; compare models in one
  session only.
- *Network calls per sample (NFE).* Counted by hooks on all networks of the model, not computed from settings. A call of b rows
  of a module with a share w of the parameters counts b w; shares are of all modules that were called. A generator counts 1, a
  sampler of 20 steps with one call each 20, or 40 with guidance, which calls twice, and a network whose modules are called one
  after the other 1. A model without a network counts 0.
- *Peak memory.* The largest growth of the memory of the process while it draws the samples (on a GPU: of the GPU's memory). On
  Linux the kernel records the largest resident size and lets it be reset, so no peak is missed; freed memory is returned to the
  system first, so that its reuse is seen. Elsewhere the memory is sampled every few milliseconds. Neither counts what earlier
  calls keep, such as the buffers of a matrix library. (``tracemalloc`` does not see tensors.)
"""

import ctypes
import gc
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pushforward.metrics.measure import Measure
from pushforward.models.base.model import GenerativeModel

__all__ = ["count_calls", "peak_memory", "speed"]

_RUNS = 6
_INTERVAL = 2e-3
_RESET_PEAK = "5"


def speed(
    model: Any, n: int = 256, *, condition: Any = None, seed: int = 0, batch_size: int = 256, **options: Any
) -> dict[str, Measure]:
    """Measure the cost of samples that ``model.sample`` draws.

    Parameters
    ----------
    model : fitted model with ``sample``
    n : int
        Samples of each run.
    condition : label, vector, or one of them per row, optional
        As for ``model.sample``.
    seed : int
        Of the sample.
    batch_size : int
        Rows that are drawn at once. Memory grows with it, and speed up to a point.
    **options
        For ``model.sample``, such as ``steps``, ``sampler`` or ``guidance``.

    Returns
    -------
    dict of Measure
        ``seconds`` per 1,000 samples, network ``calls`` per sample, and ``memory`` in bytes. Calls are exact; memory is of one
        run and has no interval.

    Raises
    ------
    TypeError, ValueError
        If the model does not sample or does not take an option, or n is below 1.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> cost = speed(model, 50, steps=4)
    >>> sorted(cost), cost["calls"].value == model.sample_sampler_.nfe(4)
    (['calls', 'memory', 'seconds'], True)
    """
    if not hasattr(model, "sample"):
        raise TypeError(f"{type(model).__name__} learns no law to draw from, so it has no speed of sampling; omit this figure")
    if n < 1:
        raise ValueError(f"n must be at least 1, but is {n}; the default is 256")

    def draw() -> None:
        model.sample(n, condition=condition, seed=seed, batch_size=batch_size, **options)

    device = _device(model)
    with count_calls(model) as calls:
        draw()
    memory = peak_memory(draw, device)
    times = sorted(_timed(draw, device) * 1000 / n for _ in range(_RUNS))
    return {
        "seconds": Measure(statistics.median(times), times[0], times[-1], n),
        "calls": Measure.exact(calls() / n, n),
        "memory": Measure.exact(float(memory), n),
    }


@contextmanager
def count_calls(model: Any) -> Iterator[Callable[[], float]]:
    """Count the rows that go through the networks of a model inside the context.

    Yields
    ------
    function
        Returns the count so far: rows times the share of the parameters that they went through, as described above.

    >>> import types
    >>> net = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    >>> with count_calls(types.SimpleNamespace(network_=net)) as calls:
    ...     _ = net(torch.zeros(5, 2)), net(torch.zeros(7, 2))
    >>> calls()
    12.0
    """
    rows: dict[str, int] = {}
    sizes: dict[str, int] = {}
    inside: list[str] = []  # names of the watched modules that are being called, outermost first

    def watch(name: str, module: nn.Module) -> list[RemovableHandle]:
        size = sum(parameter.numel() for parameter in module.parameters())
        if not size:
            return []

        def enter(module: nn.Module, args: tuple[object, ...]) -> None:
            inside.append(name)

        def leave(module: nn.Module, args: tuple[object, ...], result: object) -> None:
            inside.pop()
            if not inside:
                rows[name] = rows.get(name, 0) + _batch(result, args)
                sizes[name] = size

        return [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]

    handles = [
        handle
        for key, network in _networks(model)
        for name, module in network.named_modules()
        for handle in watch(f"{key}.{name}", module)
    ]
    try:
        # The shares depend on the modules that have been called by now.
        yield lambda: sum(rows[name] * sizes[name] for name in rows) / max(sum(sizes.values()), 1)
    finally:
        for handle in handles:
            handle.remove()


def peak_memory(action: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Return the largest growth of memory in bytes while ``action`` ran: of the process, or of a GPU.

    >>> 90e6 < peak_memory(lambda: torch.ones(25_000_000)) < 120e6
    True
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        action()
        torch.cuda.synchronize(device)
        return max(torch.cuda.max_memory_allocated(device) - before, 0)
    gc.collect()
    _release_memory()
    return _recorded_peak(action) if _reset_peak() else _sampled_peak(action)


def _recorded_peak(action: Callable[[], object]) -> int:
    before = _status("VmRSS")
    action()
    return max(_status("VmHWM") - before, 0)


def _sampled_peak(action: Callable[[], object]) -> int:
    process, done = psutil.Process(), threading.Event()
    before = most = process.memory_info().rss

    def sample() -> None:
        nonlocal most
        while not done.wait(_INTERVAL):
            most = max(most, process.memory_info().rss)

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    try:
        action()
    finally:
        done.set()
        sampling.join()
    return int(max(most, process.memory_info().rss) - before)


def _reset_peak() -> bool:
    """Reset the kernel's record of the largest resident size, and return whether that worked."""
    try:
        Path("/proc/self/clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return _status("VmHWM") > 0


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _release_memory() -> None:
    """Return freed memory to the system, where the C library can."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _timed(action: Callable[[], object], device: torch.device) -> float:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    begin = time.perf_counter()
    action()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - begin


def _networks(model: Any) -> Iterator[tuple[str, nn.Module]]:
    for name, value in vars(model).items():
        if isinstance(value, nn.Module):
            yield name, value
        elif isinstance(value, GenerativeModel):
            yield from ((f"{name}.{inner}", network) for inner, network in _networks(value))


def _device(model: Any) -> torch.device:
    for _, network in _networks(model):
        for parameter in network.parameters():
            return parameter.device
    return torch.device("cpu")


def _batch(result: object, args: tuple[object, ...]) -> int:
    """Return the number of rows of a call: the leading size of its result, or of its arguments."""
    for value in (*(result if isinstance(result, tuple | list) else (result,)), *args):
        if isinstance(value, Tensor) and value.ndim:
            return len(value)
    return 1
