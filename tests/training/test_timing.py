import time

import pytest
import torch
from tiny_task import Tiny, equal_states, rows, small_net
from torch import Tensor

from pushforward.training import Batch, TrainingSettings, measure_overhead, measure_step_seconds, steps_for

SETTINGS = TrainingSettings(steps=100, batch_size=8, evaluations=10, checkpoint_every=50)


class Sleepy(Tiny):
    """Takes 10 ms a step, 20 ms a held-out chunk."""

    def forward(self, batch: Batch) -> Tensor:
        time.sleep(0.01)
        return super().forward(batch)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        time.sleep(0.02)
        return super().held_out(batch)


def test_a_step_takes_as_long_as_its_task_sleeps_and_the_task_stays_as_it_was() -> None:
    task = Sleepy(small_net(dropout=0.5, batch_norm=True))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    state = torch.get_rng_state()
    step = measure_step_seconds(task, rows(30), settings=SETTINGS, seconds=0.2)
    assert 0.01 <= step < 0.05
    assert equal_states(before, dict(task.state_dict()))
    assert torch.equal(state, torch.get_rng_state())


def test_overhead_counts_all_evaluations_and_checkpoints() -> None:
    task = Sleepy()
    task.coupled = True
    overhead = measure_overhead(task, rows(30), settings=SETTINGS, held_out=(rows(600, seed=1), None)).of(SETTINGS)
    # Ten evaluations of 600 rows in 75 chunks of 8, 20 ms each.
    assert 15.0 <= overhead < 40.0
    without = measure_overhead(Sleepy(), rows(30), settings=SETTINGS).of(SETTINGS)
    assert 0 < without < 5


def test_steps_fill_the_time_that_is_left() -> None:
    assert steps_for(100.0, 0.25, margin=0.0) == 400
    assert steps_for(100.0, 0.25, overhead_seconds=20.0, margin=0.1) == 280


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seconds": 1.0, "step_seconds": 2.0}, "No training step fits into 1 s"),
        ({"seconds": 10.0, "step_seconds": 1.0, "overhead_seconds": 9.5}, "samples 9.5 s"),
        ({"seconds": 10.0, "step_seconds": 0.0}, "above 0"),
        ({"seconds": 10.0, "step_seconds": 1.0, "margin": 1.0}, "margin in"),
        ({"seconds": float("nan"), "step_seconds": 1.0}, "No training step fits"),
    ],
)
def test_impossible_times_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        steps_for(**arguments)
