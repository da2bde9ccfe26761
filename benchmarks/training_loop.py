"""Overhead of the training loop over a hand-written loop with the same network, batch, optimizer, clipping and average.

Both loops alternate in short rounds in one process, in random order, and the figure is the ratio of their times: its
median over the rounds. With one thread the time is the processor's, which other programs on the machine disturb least.
The hand-written loop does what a careful script does: data on the device, indices by ``torch.randperm`` once per epoch,
noise by ``torch.randn``, AdamW (fused), clipping, foreach average, warm-up and cosine. The library's loop does in addition
what the hand-written one leaves out: numbers addressed by row and step, the guard, the mean loss, the log. Held-out
evaluations and checkpoints are left out of both.

"same draws" gives the library's loop a task whose numbers come from ``torch.randn`` too: the overhead of the loop
alone. "addressed draws" is what a user gets.

    python benchmarks/training_loop.py --rounds 15 --threads 1
"""

import argparse
import math
import random
import statistics
import time
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from pushforward.probability.noise import normal, uniform
from pushforward.training import Batch, Task, TrainingSettings
from pushforward.training.feed import Feed
from pushforward.training.process.generators import ModuleGenerators
from pushforward.training.process.interrupt import StopRequest
from pushforward.training.process.world import World
from pushforward.training.record.progress import Progress
from pushforward.training.run import Run

GAMMA = 16.97


class Convnet(nn.Module):
    """A small image network: 28 x 28 pixels, 32 channels, time as a second channel."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2, 32, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(32, 32, 3, padding=1, stride=2),
            nn.SiLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.SiLU(),
            nn.ConvTranspose2d(64, 32, 2, stride=2),
            nn.SiLU(),
            nn.Conv2d(32, 1, 3, padding=1),
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at x and t."""
        return self.layers(torch.cat((x, t.view(-1, 1, 1, 1).expand_as(x)), dim=1))


class MLP(nn.Module):
    """Three layers of 64 on plane vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2)
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Return the velocity at x and t."""
        return self.layers(torch.cat((x, t.unsqueeze(1)), dim=1))


def velocity_loss(network: nn.Module, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    wide = t.view(-1, *[1] * (x.ndim - 1))
    return (network(torch.lerp(x, eps, wide), t) - (eps - x)).square().flatten(1).mean(1)


class Velocity(Task):
    """Flow matching, the same loss as the hand-written loop's."""

    def __init__(self, network: nn.Module, shape: tuple[int, ...], addressed: bool) -> None:
        super().__init__()
        self.network, self.shape, self.addressed = network, shape, addressed

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return noise and times."""
        if not self.addressed:
            return torch.randn(len(steps), len(rows), *self.shape), torch.rand(len(steps), len(rows))
        step = steps.unsqueeze(1)
        return normal(self.shape, seed=seed, purpose="eps", rows=rows, step=step), uniform(
            (), seed=seed, purpose="t", rows=rows, step=step
        )

    def forward(self, batch: Batch) -> Tensor:
        """Return the loss of each row."""
        return velocity_loss(self.network, batch.x, *batch.draws)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        """Return loss and time of each row."""
        return self(batch), batch.draws[1]


def by_hand(network: nn.Module, x: Tensor, settings: TrainingSettings) -> Iterator[None]:
    """Train one step per ``next``."""
    parameters = list(network.parameters())
    average = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay, fused=True
    )
    order, used = torch.randperm(len(x)), 0
    for step in range(settings.steps):
        if used + settings.batch_size > len(x):
            order, used = torch.randperm(len(x)), 0
        rows = x[order[used : used + settings.batch_size]]
        used += settings.batch_size
        if step < settings.warmup:
            rate = settings.learning_rate * (step + 1) / settings.warmup
        else:
            part = (step - settings.warmup) / (settings.steps - settings.warmup)
            rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * part))
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad(set_to_none=True)
        velocity_loss(network, rows, torch.randn_like(rows), torch.rand(len(rows))).mean().backward()
        nn.utils.clip_grad_norm_(parameters, settings.gradient_clip, foreach=True)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, parameters, 1 - (1 - 1 / (step + 1)) ** (GAMMA + 1))
        yield


class Ours:
    """The library's loop, driven in pieces by its own parts so that it can alternate with the other."""

    def __init__(self, task: Task, x: Tensor, settings: TrainingSettings) -> None:
        self.run = Run(task, (x, None), settings=settings, seed=0, held_out=None, folder=None, world=World("cpu"), on_grid=None)
        self.line, self.stop = Progress(settings.steps, 0, visible=False), StopRequest()
        self.run._start(resume=False)

    def steps(self, count: int, generators: ModuleGenerators) -> None:
        """Do some more steps."""
        until = self.run.at.step + count
        while self.run.at.step < until:
            self.run._train_on(generators, self.stop, self.line)
            self.run._do_what_is_due(self.line)


def compare(name: str, network: type[nn.Module], shape: tuple[int, ...], batch: int, rounds: int) -> None:
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    block = Feed(
        Velocity(network(), shape, False), torch.zeros(2, *shape), None, batch_size=batch, share=slice(0, batch), seed=0
    ).block
    settings = TrainingSettings(
        steps=block * (rounds + 2) * 2, batch_size=batch, log_every=block, checkpoint_every=10**9, evaluations=1
    )
    x = torch.randn(4096, *shape)
    ours = {
        label: Ours(Velocity(network(), shape, label == "addressed draws"), x, settings)
        for label in ("same draws", "addressed draws")
    }
    hand = by_hand(network(), x, settings)
    times: dict[str, list[float]] = {"by hand": [], **{label: [] for label in ours}}
    with ModuleGenerators(torch.device("cpu")) as generators:
        for number in range(rounds + 2):
            for label in random.sample(list(times), len(times)):
                started = clock()
                if label == "by hand":
                    for _ in range(block):
                        next(hand)
                else:
                    ours[label].steps(block, generators)
                if number >= 2:
                    times[label].append((clock() - started) / block)
    for label in ours:
        ratios = [a / b for a, b in zip(times[label], times["by hand"], strict=True)]
        low, _, high = statistics.quantiles(ratios, n=4)
        ours_ms, hand_ms = 1e3 * statistics.median(times[label]), 1e3 * statistics.median(times["by hand"])
        print(
            f"{name}, {label}: {statistics.median(ratios):.3f} times by hand (quartiles {low:.3f} to {high:.3f}); "
            f"{ours_ms:.3f} ms against {hand_ms:.3f} ms a step"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    compare("convnet, 64 x 1 x 28 x 28", Convnet, (1, 28, 28), 64, arguments.rounds)
    compare("MLP, 256 x 2", MLP, (2,), 256, arguments.rounds)


if __name__ == "__main__":
    main()
