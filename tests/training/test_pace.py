"""The pace of a run: its plans, their files, and a budget that holds when the machine becomes slower or faster."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pushforward.training import Budget, Interrupted, RunError, Task, TrainingSettings, train
from pushforward.training.pace import Pace
from pushforward.training.run import Run

X = torch.randn(64, 2, generator=torch.Generator().manual_seed(0))


class Line(Task):
    """A regression on two numbers; by its own clock step k takes ``seconds(k)``."""

    def __init__(self, seconds=lambda step: 0.0):
        super().__init__()
        self.weight, self.seconds, self.done, self.clock = nn.Parameter(torch.zeros(2)), seconds, 0, 0.0

    def draw(self, rows, total, steps, seed):
        return ()

    def forward(self, batch):
        self.clock += self.seconds(self.done)
        self.done += 1
        return ((batch.x - self.weight) ** 2).sum(1)

    def held_out(self, batch):
        return ((batch.x - self.weight) ** 2).sum(1), None


def _train(task, seconds, steps=400, folder=None, **options):
    settings = TrainingSettings(steps=steps, batch_size=8, evaluations=4)
    budget = None if seconds is None else Budget(seconds)
    return train(task, X, settings=settings, seed=1, held_out=(X, None), folder=folder, device="cpu", budget=budget, **options)


def test_positions_of_several_plans():
    pace = Pace(100, Budget(1.0))
    assert [pace.position(step) for step in (0, 1, 99, 100)] == [0.0, 1.0, 99.0, 100.0]
    pace.replan(10, 40)  # 30 steps for 90 positions
    pace.replan(20, 80)  # at position 40: 60 steps for 60 positions
    assert [pace.position(step) for step in (10, 11, 20, 21, 79, 80)] == pytest.approx([10, 13, 40, 41, 99, 100])
    for place in range(100):
        step = pace.first_step(0, place + 1)
        assert step == 10 or (pace.position(step) >= place + 1 > pace.position(step - 1)) or step in (10, 20)
    pace.forget_after(15)
    assert (pace.steps, pace.position(20)) == (40, 40.0)


@pytest.fixture
def timed(monkeypatch):
    """Return a task by whose clock the runs of a test are timed."""

    def make(seconds):
        task = Line(seconds)
        monkeypatch.setattr("pushforward.training.run.time", SimpleNamespace(perf_counter=lambda: task.clock))
        return task

    return make


@pytest.mark.parametrize(
    ("factor", "after", "steps"), [(4.0, 100, 175), (0.25, 100, 1300), (4.0, 390, 393), (1.0, 0, 400), (1.01, 0, 400)]
)
def test_a_budget_holds_when_the_speed_changes(timed, factor, after, steps):
    """400 steps of 0.1 s are planned, but after some of them they take longer, or less long."""
    task = timed(lambda step: 0.1 * (1.0 if step < after else factor))
    result = _train(task, 40.0)
    assert abs(task.clock / 40 - 1) < 0.03
    assert abs(result.steps / steps - 1) < 0.03
    assert factor not in (1.0, 1.01) or result.steps == 400  # a plan that is good enough is kept


def test_what_is_due_is_counted_in(timed):
    """Plots that take 2 s each, four of them: 320 of the 400 steps fit."""
    task = timed(lambda step: 0.1)

    def plot(_, step):
        task.clock += 2.0

    settings = TrainingSettings(steps=400, batch_size=8)
    result = train(task, X, settings=settings, seed=1, device="cpu", budget=Budget(40.0, grid_seconds=2.0), on_grid=plot)
    assert abs(task.clock / 40 - 1) < 0.03
    assert abs(result.steps - 320) < 8


def test_without_a_budget_there_is_one_plan(tmp_path):
    assert _train(Line(lambda step: 0.002 * (step > 5)), None, steps=20, folder=tmp_path).steps == 20
    assert not (tmp_path / "pace.json").exists()


def test_the_rate_falls_to_zero_at_the_last_step_of_the_last_plan(timed, tmp_path):
    _train(timed(lambda step: 0.1 * (1.0 if step < 100 else 4.0)), 40.0, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    plans = json.loads((tmp_path / "pace.json").read_text())["plans"]
    assert len(plans) > 1
    assert lines[-1]["step"] == plans[-1][2] < 200
    assert lines[-1]["learning_rate"] < 0.001 * max(line["learning_rate"] for line in lines)
    assert sum("held_out_loss" in line for line in lines) == 4


class Killed(BaseException):
    """What stops a run as a kill does: nothing is saved."""


def test_a_resumed_run_follows_the_written_plans_bit_for_bit(tmp_path, monkeypatch):
    """Killed beyond its last checkpoint and its last plan, a run makes the same weights as the one that was not killed."""
    plans = iter([None] * 3 + [320, None, 310] + [None] * 1000)
    monkeypatch.setattr(Pace, "better_plan", lambda *_: next(plans))
    whole = Line()
    result = _train(whole, 100.0, folder=tmp_path / "whole")
    assert result.steps == 310
    plans = iter([None] * 3 + [320, None, 310] + [None] * 1000)
    evaluate, first = Run._keep_pace, Line()

    def kill(run, line):
        evaluate(run, line)
        if len(run.pace._legs) == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Run, "_keep_pace", kill)
        with pytest.raises(Killed):
            _train(first, 100.0, folder=tmp_path / "killed")
    second = Line()
    assert _train(second, None, folder=tmp_path / "killed", resume=True).steps == 310
    assert torch.equal(second.weight, whole.weight)
    assert (tmp_path / "killed/pace.json").read_text() == (tmp_path / "whole/pace.json").read_text()


def test_the_learning_rate_depends_on_the_plan():
    """With half of the steps each moves twice as far along the cosine."""
    pace, settings = Pace(100, Budget(1.0)), TrainingSettings(steps=100, warmup_steps=0, learning_rate=1.0)
    pace.replan(50, 75)
    expected = [0.5 * (1 + math.cos(math.pi * (50 + 2 * k) / 100)) for k in range(25)]
    assert [settings.rate(pace.position(50 + k)) for k in range(25)] == pytest.approx(expected)


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "[" * 100_000,
        '{"seconds": 1, "plans": []}',
        '{"seconds": NaN, "plans": [[0, 0.0, 20]]}',
        '{"seconds": 1, "plans": [[0, 0.0, 20], [5, 5.0, 4]]}',
        '{"seconds": 1, "plans": [[0, 0.0, 20], [5, 25.0, 30]]}',
        '{"seconds": 1, "plans": [[0, 0.0, 20], [5, 5.0, 1e400]]}',
        '{"seconds": 1, "plans": [[0, 0.0, 21]]}',
    ],
)
def test_plans_of_strangers_are_refused(tmp_path, content):
    def stop(task, step):
        raise Interrupted(step, 20, tmp_path)

    with pytest.raises(Interrupted):
        _train(Line(), 5.0, steps=20, folder=tmp_path, on_grid=stop)
    (tmp_path / "pace.json").write_text(content)
    with pytest.raises(RunError, match=r"pace\.json holds no plans of this run"):
        _train(Line(), None, steps=20, folder=tmp_path, resume=True)
