"""Trains the tiny task in a process of its own, which can be told to kill itself.

    python train_child.py FOLDER [--kill-at STEP] [--kill-in-write NAME] [--slow] [--plain] [--batch-size N]

Saves the final weights in FOLDER/final.safetensors. Exit status 3 means interrupted.
"""

import argparse
import os
import signal
import sys
import time
from pathlib import Path

import torch
from accelerate import PartialState
from safetensors.torch import save_file
from tiny_task import Tiny, rows, small_net
from torch import Tensor

from pushforward.training import Batch, Interrupted, TrainingSettings, train
from pushforward.training.record import checkpoint


class Child(Tiny):
    """Kills its process in the middle of a step, or takes its time."""

    kill_at = -1
    slow = False

    def forward(self, batch: Batch) -> Tensor:
        step = int(batch.draws[2][0])
        if step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.slow:
            if step == 5:
                sys.stdout.write("running\n")
                sys.stdout.flush()
            time.sleep(0.02)
        return super().forward(batch)


def kill_in_write(name: str) -> None:
    """Make the writer of checkpoints die after half the bytes of a file whose path contains ``name``."""
    write_all = checkpoint.write_file

    def write_half(path: Path, content: bytes | str) -> None:
        if name in str(path):
            whole = content.encode() if isinstance(content, str) else content
            with path.open("wb") as file:
                file.write(whole[: len(whole) // 2])
                file.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        write_all(path, content)

    checkpoint.write_file = write_half


def main(*words: str) -> None:
    """Train as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kill-at", type=int, default=-1)
    parser.add_argument("--kill-in-write")
    parser.add_argument("--slow", action="store_true")
    parser.add_argument("--plain", action="store_true", help="no dropout, no running statistics")
    parser.add_argument("--batch-size", type=int, default=10)
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    if arguments.kill_in_write:
        kill_in_write(arguments.kill_in_write)
    noisy = {} if arguments.plain else {"dropout": 0.3, "batch_norm": True}
    task = Child(small_net(condition=2, **noisy))
    task.kill_at, task.slow = arguments.kill_at, arguments.slow
    x, condition = rows(37), rows(37, seed=1, dim=2)
    settings = TrainingSettings(
        steps=60, batch_size=arguments.batch_size, checkpoint_every=15, log_every=4, evaluations=7, learning_rate=0.02
    )
    held_out = (rows(20, seed=2), rows(20, seed=3, dim=2))
    try:
        train(task, x, condition, settings=settings, seed=11, held_out=held_out, folder=arguments.folder, resume=True)
    except Interrupted as stopped:
        sys.stdout.write(f"stopped after {stopped.step} of {stopped.steps}: {stopped}\n")
        sys.exit(3)
    if int(os.environ.get("RANK", "0")) == 0:
        (arguments.folder / "processes").write_text(str(PartialState().num_processes))
        save_file(dict(task.state_dict()), arguments.folder / "final.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:])
