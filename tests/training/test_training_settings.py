import math

import pytest

from pushforward.training.calendar import Calendar
from pushforward.training.settings import TrainingSettings


def test_learning_rate_is_a_line_and_then_half_a_cosine() -> None:
    settings = TrainingSettings(steps=50, warmup_steps=10, learning_rate=0.3)
    for step in range(50):
        expected = 0.3 * (step + 1) / 10 if step < 10 else 0.3 * math.cos(0.5 * math.pi * (step - 10) / 40) ** 2
        assert settings.rate(step) == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_learning_rate_without_warm_up_starts_at_its_peak() -> None:
    settings = TrainingSettings(steps=3, warmup_steps=0, learning_rate=0.2)
    assert [settings.rate(step) for step in range(3)] == pytest.approx([0.2, 0.15, 0.05], rel=1e-12)


def test_a_run_that_is_all_warm_up_ends_at_the_peak() -> None:
    settings = TrainingSettings(steps=4, warmup_steps=4, learning_rate=1.0)
    assert [settings.rate(step) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("steps", [1, 2, 7, 20, 999, 1000])
@pytest.mark.parametrize("evaluations", [1, 3, 20])
def test_calendar_spreads_evenly_and_stops_at_every_due_step(steps: int, evaluations: int) -> None:
    calendar = Calendar.of(TrainingSettings(steps=steps, evaluations=evaluations))
    every = range(1, steps + 1)
    evaluated = [step for step in every if calendar.evaluates(step - 1, step)]
    assert evaluated == sorted({math.ceil(steps * k / evaluations) for k in range(1, evaluations + 1)})
    grids = [step for step in every if calendar.draws_grid(step - 1, step)]
    assert grids == sorted({math.ceil(steps * k / 5) for k in range(1, 5)} - {steps})
    saves = [step for step in every if calendar.saves(step - 1, step)]
    assert saves[-1] == steps
    assert len(saves) == calendar.checkpoints_after(0)
    due = [step for step in every if step in evaluated or step in grids or calendar.logs(step - 1, step) or step in saves]
    stops, step = [], 0
    while step < steps:
        step = calendar.next_stop(step)
        stops.append(step)
    assert stops == due


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 2.5}, TypeError, "steps must be an integer"),
        ({"steps": True}, TypeError, "steps must be an integer"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be a finite number above 0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate must be a finite number"),
        ({"learning_rate": math.inf}, ValueError, "learning_rate must be a finite number"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number"),
        ({"warmup_steps": 11, "steps": 10}, ValueError, "never reach its peak"),
        ({"weight_decay": -1.0}, ValueError, "weight_decay must be a finite number at least 0"),
        ({"betas": 0.9}, TypeError, "pair of numbers"),
        ({"betas": (0.9, 1.0)}, ValueError, "below 1"),
        ({"gradient_clip": 0}, ValueError, "gradient_clip must be a finite number above 0"),
        ({"ema": 0.3}, ValueError, "ema must be a finite number above 0 and below 0.2887"),
        ({"evaluations": 0}, ValueError, "evaluations must be at least 1"),
        ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be at least 1"),
        ({"log_every": "often"}, TypeError, "log_every must be an integer"),
        ({"precision": "float16"}, ValueError, "'float32' or 'bfloat16'"),
        ({"compile": 1}, TypeError, "compile must be True or False"),
        ({"tracker": 3}, TypeError, "name of a tracker"),
    ],
)
def test_wrong_settings_are_refused_with_a_reason(changes: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TrainingSettings(**changes)  # type: ignore[arg-type]


def test_betas_from_json_become_a_pair() -> None:
    assert TrainingSettings(betas=[0.8, 0.9]).betas == (0.8, 0.9)  # type: ignore[arg-type]
