"""The processes of a run: which one writes, their rows, and sums over all of them. The only module that uses accelerate.

The ``Accelerator`` has its default settings, because its state belongs to the whole Python process: so several fits with
different settings can follow each other. Choices such as the precision belong to the loop.

Several processes are started by ``accelerate launch`` or ``torchrun`` on GPUs. On CPUs accelerate needs two settings:
``ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 program.py``.
"""

import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pushforward.training.process.devices import check_device
from pushforward.training.task import Task

__all__ = ["World", "agreed", "is_main_process"]

T = TypeVar("T")

# accelerate sets the address of a main process whenever more than one process is asked for.
_STARTED_ONE = (
    "accelerate was asked for several processes but started only this one, because it found no GPU; training continues in one "
    "process. For several on CPUs: ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 ..."
)


def is_main_process() -> bool:
    """Return whether this process is the one that writes files; works before any setup."""
    return os.environ.get("RANK", "0") == "0"


def agreed(make: Callable[[], T]) -> T:
    """Return the main process's value of ``make()`` in every process: for new seeds, measured times, new folders."""
    if "RANK" not in os.environ:
        return make()
    world = World()
    value: T = world.from_main(make() if world.is_main else None)
    return value


class World:
    """All processes that train one model.

    Parameters
    ----------
    device : torch.device, str or None
        Device of this process; None means accelerate's choice, the only one allowed with several processes.
    tracker : str or None
        Name of one of accelerate's trackers.
    folder : Path or None
        Folder for a tracker that writes files.

    Attributes
    ----------
    size, rank : int
        Number of processes, and the number of this one.
    device : torch.device
        Device of this process.
    """

    def __init__(
        self, device: torch.device | str | None = None, tracker: str | None = None, folder: Path | None = None
    ) -> None:
        if tracker is not None:
            _check_tracker(tracker, folder)
        self._accelerator = _accelerator(log_with=tracker, project_dir=folder)
        self._tracked = tracker is not None
        self.size: int = self._accelerator.num_processes
        self.rank: int = self._accelerator.process_index
        if device is not None:
            check_device(device)
        self.device = torch.device(device) if device is not None else self._accelerator.device
        if self.device.type == "cpu":
            self.device = torch.device("cpu")
        if self.device.type == "cuda" and self.device.index is None:
            self.device = torch.device("cuda", torch.cuda.current_device())
        self._check_launch()

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def share(self, total: int) -> slice:
        """Return this process's positions in a global batch of ``total`` rows: contiguous, sizes differ by at most 1."""
        return slice(total * self.rank // self.size, total * (self.rank + 1) // self.size)

    def prepare(self, task: Task) -> nn.Module:
        """Return the module to call for the training loss; with several processes its backward pass averages the gradients."""
        return task if self.size == 1 else self._accelerator.prepare_model(task)

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, the same in each of them."""
        return values if self.size == 1 else self._accelerator.reduce(values.clone(), reduction="sum")

    def sum_numbers(self, *values: float) -> list[float]:
        """Return sums of plain numbers over all processes."""
        if self.size == 1:
            return list(values)
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return self.sum(torch.tensor(values, dtype=dtype, device=self.device)).tolist()

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return flag if self.size == 1 else self.sum_numbers(float(flag))[0] > 0

    def from_main(self, value: Any) -> Any:
        """Return the main process's value in every process."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return broadcast_object_list([value])[0]

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in order."""
        if self.size == 1:
            return [value]
        from accelerate.utils import gather_object

        values: list[Any] = gather_object([value])
        return values

    def wait(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            self._accelerator.wait_for_everyone()

    def start_tracking(self, config: dict[str, Any]) -> None:
        """Start the tracker, if there is one."""
        if self._tracked:
            plain = {k: v if isinstance(v, int | float | str) else repr(v) for k, v in config.items()}
            self._accelerator.init_trackers("pushforward", config=plain)

    def track(self, values: dict[str, float], step: int) -> None:
        """Send metrics to the tracker, if there is one."""
        if self._tracked:
            self._accelerator.log(values, step=step)

    def track_plot(self, plot: object, step: int) -> None:
        """Send a plot, the path of an image, to the tracker, if there is one that takes images."""
        if not (self._tracked and isinstance(plot, Path)):
            return
        from PIL import Image

        with Image.open(plot) as image:
            pixels = np.asarray(image.convert("RGB"))
        for tracker in self._accelerator.trackers:
            if hasattr(tracker, "log_images"):
                layout = {"dataformats": "NHWC"} if tracker.name == "tensorboard" else {}
                tracker.log_images({"samples": pixels[None]}, step=step, **layout)

    def stop_tracking(self) -> None:
        """Stop the tracker, but not by ``end_training``, which would end the process group for the next fit too."""
        if self._tracked:
            for tracker in self._accelerator.trackers:
                tracker.finish()

    def _check_launch(self) -> None:
        if self.size == 1:
            launched = os.environ.get("WORLD_SIZE", "1") if "RANK" in os.environ else "1"
            if launched != "1":
                raise ValueError(
                    f"{launched} processes were launched, but accelerate found no way to join them, so each would train alone "
                    f"and overwrite the others. To train on CPUs set the environment variable ACCELERATE_USE_CPU=true."
                )
            if "ACCELERATE_MIXED_PRECISION" in os.environ and "MASTER_ADDR" in os.environ and "RANK" not in os.environ:
                warnings.warn(_STARTED_ONE, stacklevel=1)  # once, whoever asks
            return
        if self.device.type != self._accelerator.device.type:
            raise ValueError(
                f"device={str(self.device)!r}, but the {self.size} processes run on {self._accelerator.device.type!r}. "
                f"Leave device=None, or launch on the CPU: ACCELERATE_USE_CPU=true accelerate launch --multi_gpu "
                f"--num_processes {self.size} ..."
            )
        if self._accelerator.mixed_precision != "no":
            raise ValueError(
                f"accelerate was launched with mixed_precision={self._accelerator.mixed_precision!r}, which would act on top "
                f"of the settings. Launch with --mixed_precision no and write TrainingSettings(precision='bfloat16')."
            )


def _accelerator(**options: Any) -> Any:
    """Return an ``Accelerator``. Its import loads progress bars, which warn in a notebook without ipywidgets; none is shown."""
    if "accelerate" not in sys.modules:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "IProgress not found")
            import accelerate  # noqa: F401
    from accelerate import Accelerator

    return Accelerator(**options)


def _check_tracker(tracker: str, folder: Path | None) -> None:
    """Raise if a tracker is missing, before anything is trained; accelerate only logs it."""
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    known = sorted(str(name) for name in LOGGER_TYPE_TO_CLASS)
    if tracker not in known:
        raise ValueError(f"tracker={tracker!r} is not one that accelerate knows. Choose one of {known}, or None.")
    installed = {str(getattr(name, "value", name)) for name in get_available_trackers()}
    if tracker not in installed:
        raise ValueError(
            f"tracker={tracker!r} needs a package that is not installed. Install it (python -m pip install {tracker}), "
            f"or write tracker=None: metrics.jsonl in the run's folder holds the same numbers."
        )
    if LOGGER_TYPE_TO_CLASS[tracker].requires_logging_directory and folder is None:
        raise ValueError(
            f"tracker={tracker!r} writes files and needs a folder to put them in: pass folder=..., or tracker=None."
        )
