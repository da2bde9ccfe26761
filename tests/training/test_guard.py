"""Steps that are not finite: skipped, undone, or the end."""

import math
from pathlib import Path

import pytest
import torch
from tiny_task import Tiny, equal_states, rows, small_net
from torch import Tensor, nn

from pushforward.probability.noise import derive
from pushforward.training import Batch, Task, TrainingDiverged, TrainingSettings, train
from pushforward.training.feed import Feed
from pushforward.training.learner import Learner

SEED = 6


class Poisoned(Tiny):
    """Gives NaN at chosen steps; in the first attempt only, or in all."""

    def __init__(self, bad: set[int], net: nn.Module | None = None, only_first: bool = False, what: float = math.nan) -> None:
        super().__init__(net)
        self.bad, self.only_first, self.what = bad, only_first, what

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        eps, t, step = super().draw(rows, total, steps, seed)
        first = seed == derive(SEED, "draws", 0)
        return eps, t, step if first or not self.only_first else torch.full_like(step, -1)

    def forward(self, batch: Batch) -> Tensor:
        loss = super().forward(batch)
        return loss * self.what if int(batch.draws[2][0]) in self.bad else loss


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**({"steps": 24, "batch_size": 8, "learning_rate": 0.01, "checkpoint_every": 6} | changes))  # type: ignore[arg-type]


def learner(task: Tiny, masked: bool) -> tuple[Learner, Feed]:
    chosen = settings()
    made = Learner(task, task, chosen, device=torch.device("cpu"), masked=masked)
    return made, Feed(task, rows(30), None, batch_size=8, share=slice(0, 8), seed=SEED)


def copies(made: Learner) -> dict[str, Tensor]:
    return {f"{file}.{name}": value.clone() for file, tensors in made.state().items() for name, value in tensors.items()}


@pytest.mark.parametrize("masked", [False, True], ids=["checked", "masked"])
@pytest.mark.parametrize("what", [math.nan, math.inf])
def test_a_bad_step_leaves_weights_averages_moments_and_buffers_as_they_were(masked: bool, what: float) -> None:
    made, feed = learner(Poisoned({3}, small_net(batch_norm=True), what=what), masked)
    for step in range(3):
        made.step(feed.batch(step), step, 0.01)
    before = copies(made)
    made.step(feed.batch(3), 3, 0.01)
    made.settle()
    assert (made.streak, made.skipped, made.last_bad) == (1, 1, 3)
    assert equal_states(before, copies(made))
    made.step(feed.batch(4), 4, 0.01)
    made.settle()
    assert (made.streak, made.skipped) == (0, 1)
    changed = {name for name, value in copies(made).items() if not torch.equal(value, before[name])}
    assert {
        "weights.net.0.weight",
        "ema.net.0.weight",
        "optimizer.exp_avg.net.0.weight",
        "weights.net.1.running_mean",
    } <= changed


def test_masked_steps_equal_checked_steps() -> None:
    made = {masked: learner(Poisoned({3, 7, 8}, small_net(batch_norm=True)), masked) for masked in (False, True)}
    for one, feed in made.values():
        for step in range(12):
            one.step(feed.batch(step), step, 0.01)
        one.settle()
    (checked, _), (masked, _) = made[False], made[True]
    assert (checked.streak, checked.skipped, checked.last_bad) == (masked.streak, masked.skipped, masked.last_bad) == (0, 3, 8)
    assert checked.take_losses() == pytest.approx(masked.take_losses(), rel=1e-6)
    for name, value in copies(checked).items():
        torch.testing.assert_close(copies(masked)[name], value, rtol=1e-5, atol=1e-7)


def test_masked_steps_change_nothing_once_three_in_a_row_were_bad() -> None:
    made, feed = learner(Poisoned({2, 3, 4}), masked=True)
    for step in range(5):
        made.step(feed.batch(step), step, 0.01)
    before = copies(made)
    for step in range(5, 9):
        made.step(feed.batch(step), step, 0.01)
    made.settle()
    assert (made.streak, made.skipped, made.last_bad) == (3, 3, 4)
    assert equal_states(before, copies(made))


def test_a_run_with_one_bad_batch_ends_with_the_weights_of_a_loop_without_that_step() -> None:
    task = Poisoned({5})
    result = train(task, rows(30), settings=settings(), seed=SEED)
    assert (result.skipped, result.attempts) == (1, 1)
    twin, chosen = Tiny(), settings()
    made, feed = learner(twin, masked=False)
    for step in range(24):
        if step != 5:
            made.step(feed.batch(step), step, chosen.rate(step))
    assert equal_states(made.averaged(), dict(task.state_dict()))


def test_a_bad_loss_with_a_finite_gradient_is_skipped_too() -> None:
    class Constant(Poisoned):
        def forward(self, batch: Batch) -> Tensor:
            return Tiny.forward(self, batch) + (math.inf if int(batch.draws[2][0]) in self.bad else 0.0)

    assert train(Constant({4, 9}), rows(30), settings=settings(), seed=SEED).skipped == 2


@pytest.mark.parametrize("to_folder", [False, True], ids=["memory", "folder"])
def test_three_bad_steps_in_a_row_go_back_and_halve_the_rate(to_folder: bool, tmp_path: Path) -> None:
    task = Poisoned({14, 15, 16}, only_first=True)
    with pytest.warns(RuntimeWarning, match="up to step 17 were not finite.*back to step 12.*0.5 times"):
        result = train(task, rows(30), settings=settings(), seed=SEED, folder=tmp_path if to_folder else None)
    assert (result.attempts, result.skipped) == (2, 3)
    # The same by hand: twelve steps of attempt 0, then attempt 1 at half the rate.
    twin, chosen = Tiny(), settings()
    made, feed = learner(twin, masked=False)
    again = Feed(twin, rows(30), None, batch_size=8, share=slice(0, 8), seed=SEED, attempt=1)
    for step in range(24):
        first = step < 12
        made.step((feed if first else again).batch(step), step, chosen.rate(step) * (1.0 if first else 0.5))
    assert equal_states(made.averaged(), dict(task.state_dict()))


def test_a_run_stopped_after_going_back_resumes_in_its_second_attempt(tmp_path: Path) -> None:
    def stop(_: Task, step: int) -> None:
        if step == 20:
            raise RuntimeError("stopped here")

    whole, task = (Poisoned({14, 15, 16}, only_first=True) for _ in range(2))
    with pytest.warns(RuntimeWarning, match="goes back"):
        expected = train(whole, rows(30), settings=settings(checkpoint_every=3), seed=SEED)
    with pytest.warns(RuntimeWarning, match="goes back"), pytest.raises(RuntimeError, match="stopped here"):
        train(task, rows(30), settings=settings(checkpoint_every=3), seed=SEED, folder=tmp_path, on_grid=stop)
    resumed = Poisoned({14, 15, 16}, only_first=True)
    result = train(resumed, rows(30), settings=settings(checkpoint_every=3), seed=SEED, folder=tmp_path, resume=True)
    assert (result.attempts, result.skipped) == (expected.attempts, expected.skipped) == (2, 3)
    assert equal_states(dict(whole.state_dict()), dict(resumed.state_dict()))


def test_two_bad_steps_in_a_row_do_not_go_back() -> None:
    assert train(Poisoned({3, 4, 6, 7}), rows(30), settings=settings(), seed=SEED).attempts == 1


class NaNLayer(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.nan


class NaNGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * math.nan


class NaNBackward(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return NaNGradient.apply(x)


@pytest.mark.filterwarnings("ignore:3 steps in a row:RuntimeWarning")
@pytest.mark.parametrize(
    ("layer", "place"),
    [(NaNLayer(), "the output of layer 'net.1' (NaNLayer)"), (NaNBackward(), "the gradient of parameter 'net.0.weight'")],
)
def test_training_that_always_fails_names_the_first_bad_place(layer: nn.Module, place: str) -> None:
    net = nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3))
    with pytest.raises(TrainingDiverged, match="in each of 3 attempts") as caught:
        train(Tiny(net), rows(30), settings=settings(), seed=SEED)
    assert caught.value.place == place
    assert place in str(caught.value)


@pytest.mark.filterwarnings("ignore:3 steps in a row:RuntimeWarning")
def test_a_loss_that_always_fails_blames_the_data_or_the_loss() -> None:
    with pytest.raises(TrainingDiverged) as caught:
        train(Poisoned(set(range(24))), rows(30), settings=settings(), seed=SEED)
    assert caught.value.place == "the data or the loss"
