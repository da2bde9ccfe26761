"""The loop against loops written by hand, and what it leaves behind."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_task import Tiny, equal_states, rows, small_net
from torch import Tensor, nn

from pushforward.probability.noise import derive, permutation
from pushforward.training import Batch, Task, TrainingSettings, train
from pushforward.training.feed import Feed
from pushforward.training.held_out import HeldOut
from pushforward.training.process.world import World


def settings(**changes: object) -> TrainingSettings:
    return TrainingSettings(**({"steps": 30, "batch_size": 8, "learning_rate": 0.02} | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize("clip", [None, 0.5])
def test_weights_equal_a_hand_written_loop_bit_for_bit(clip: float | None, tmp_path: Path) -> None:
    chosen = settings(gradient_clip=clip, weight_decay=0.1, betas=(0.8, 0.95), warmup_steps=4, ema=0.1)
    x, task, twin = rows(30), Tiny(), Tiny()
    feed = Feed(twin, x, None, batch_size=8, share=slice(0, 8), seed=9)
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.02, betas=(0.8, 0.95), weight_decay=0.1, fused=True)
    average = [weight.detach().clone() for weight in twin.parameters()]
    # The width 0.1 is (g + 2)^2 (g + 3) = 100 (g + 1), written out as a cubic.
    gamma = float(np.roots([1.0, 7.0, 16.0 - 100.0, 12.0 - 100.0]).real.max())
    clipped = 0
    for step in range(30):
        optimizer.param_groups[0]["lr"] = (
            0.02 * (step + 1) / 4 if step < 4 else 0.02 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 26))
        )
        optimizer.zero_grad()
        twin(feed.batch(step)).mean().backward()
        if clip is not None:
            clipped += int(nn.utils.clip_grad_norm_(twin.parameters(), clip) > clip)
        optimizer.step()
        with torch.no_grad():
            beta = (1 - 1 / (step + 1)) ** (gamma + 1)
            average = [kept * beta + weight * (1 - beta) for kept, weight in zip(average, twin.parameters(), strict=True)]
    folder = tmp_path / "run"
    train(task, x, settings=chosen, seed=9, folder=folder)
    assert clip is None or 0 < clipped < 30
    for kept, weight in zip(average, task.parameters(), strict=True):
        torch.testing.assert_close(weight.detach(), kept, rtol=1e-5, atol=1e-6)
    saved = load_file(folder / "checkpoint" / "step-00000030" / "weights.safetensors")
    assert equal_states(saved, {name: weight.detach() for name, weight in twin.named_parameters()})


def test_linear_regression_finds_the_least_squares_solution() -> None:
    class Line(Task):
        def __init__(self) -> None:
            super().__init__()
            self.slope = nn.Parameter(torch.zeros(2))

        def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
            return ()

        def forward(self, batch: Batch) -> Tensor:
            return (batch.x[:, :2] @ self.slope - batch.x[:, 2]).square()

        def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
            return self(batch), None

    x = rows(40)
    task = Line()
    chosen = TrainingSettings(steps=400, batch_size=40, learning_rate=0.1, gradient_clip=None)
    result = train(task, x, settings=chosen, seed=0, held_out=(x, None))
    exact = torch.linalg.lstsq(x[:, :2].double(), x[:, 2:].double())
    torch.testing.assert_close(task.slope.detach().double(), exact.solution[:, 0], rtol=1e-3, atol=1e-4)
    residual = (x[:, :2].double() @ exact.solution - x[:, 2:].double()).square().mean()
    assert result.held_out_loss == pytest.approx(float(residual), rel=1e-4)
    assert result.held_out_by_level is None
    assert result.parameters == 2


def test_the_average_with_the_best_held_out_loss_is_left_in_the_task(tmp_path: Path) -> None:
    x, held_out = rows(12), -2 * rows(15, seed=7)
    seen: dict[int, dict[str, Tensor]] = {}

    def keep(task: Task, step: int) -> None:
        seen[step] = {name: value.clone() for name, value in task.state_dict().items()}

    # Held-out rows of another law: their loss turns up again before the end.
    task = Tiny(small_net(width=64))
    chosen = settings(steps=300, evaluations=5, learning_rate=0.02, log_every=300)
    result = train(task, x, settings=chosen, seed=1, held_out=(held_out, None), folder=tmp_path, on_grid=keep)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["held_out_loss"] for line in lines}
    assert list(seen) == [60, 120, 180, 240]
    assert list(losses) == [60, 120, 180, 240, 300]
    best = min(losses, key=losses.__getitem__)
    assert best < 300
    assert (result.held_out_step, result.held_out_loss) == (best, losses[best])
    assert equal_states(dict(task.state_dict()), seen[best])
    # The number itself, from the definition.
    found = HeldOut(task, held_out, None, world=World("cpu"), seed=1, batch_size=1000).loss()
    assert found.mean == pytest.approx(result.held_out_loss, rel=1e-6)
    assert found.by_level == pytest.approx(result.held_out_by_level, rel=1e-6)


@pytest.mark.parametrize(("n", "pairs"), [(1, 512), (100, 600), (511, 1022), (513, 513), (3000, 1024)])
def test_held_out_loss_is_the_mean_over_fixed_pairs(n: int, pairs: int) -> None:
    x, task = rows(n), Tiny()
    held_out = HeldOut(task, x, None, world=World("cpu"), seed=3, batch_size=100)
    assert held_out.pairs == pairs
    seed = derive(3, "held-out")
    chosen = permutation(n, seed=seed, purpose="rows")[:1024].repeat(-(-512 // min(n, 1024)))
    eps, t, step = task.draw(torch.arange(pairs), pairs, torch.zeros(1, dtype=torch.int64), seed)
    with torch.no_grad():
        loss = task.loss(Batch(x[chosen], None, (eps[0], t[0], step[0]))).double()
    found = held_out.loss()
    assert found.mean == pytest.approx(float(loss.mean()), rel=1e-6)
    expected = [float(loss[(t[0] >= k / 5) & (t[0] < (k + 1) / 5)].mean()) for k in range(5)]
    assert found.by_level == pytest.approx(expected, rel=1e-6)
    assert held_out.loss() == found


@pytest.mark.parametrize(
    ("coupled", "width", "size", "calls"),
    [(False, 2, 1, 1), (False, 1024, 1, 4), (False, 1024, 300, 2), (True, 2, 128, 4)],
)
def test_small_batches_are_merged_for_the_held_out_loss(coupled: bool, width: int, size: int, calls: int) -> None:
    task = Tiny(small_net(dim=width))
    task.coupled = coupled
    held_out = HeldOut(task, torch.zeros(512, width), None, world=World("cpu"), seed=0, batch_size=size)
    seen: list[int] = []
    loss = task.held_out
    task.held_out = lambda batch: (seen.append(len(batch.x)), loss(batch))[1]  # type: ignore[method-assign]
    held_out.loss()
    assert (len(seen), sum(seen)) == (calls, 512)


def test_metrics_have_a_line_per_log_step_and_evaluation(tmp_path: Path) -> None:
    chosen = settings(steps=20, log_every=8, evaluations=2)
    task = Tiny()
    result = train(task, rows(30), settings=chosen, seed=2, held_out=(rows(9), None), folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [8, 10, 16, 20]
    assert ["held_out_loss" in line for line in lines] == [False, True, False, True]
    assert [line["learning_rate"] for line in lines] == [chosen.rate(step - 1) for step in (8, 10, 16, 20)]
    assert all(line["rows_per_second"] > 0 and math.isfinite(line["loss"]) for line in lines)
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert result.seconds >= seconds[-1]


def test_logged_loss_is_the_mean_since_the_line_before(tmp_path: Path) -> None:
    class Counting(Tiny):
        def forward(self, batch: Batch) -> Tensor:
            return super().forward(batch) * 0.0 + batch.draws[2]

    train(Counting(), rows(30), settings=settings(steps=10, log_every=4), seed=2, folder=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [1.5, 5.5, 8.5]


def test_samples_on_the_way_see_averaged_weights_in_evaluation_mode_and_change_nothing() -> None:
    seen = []

    def disturb(task: Task, step: int) -> None:
        seen.append((step, task.training))
        torch.rand(3)

    plain, watched = Tiny(small_net(dropout=0.5)), Tiny(small_net(dropout=0.5))
    train(plain, rows(30), settings=settings(), seed=2)
    train(watched, rows(30), settings=settings(), seed=2, on_grid=disturb)
    assert seen == [(6, False), (12, False), (18, False), (24, False)]
    assert equal_states(dict(plain.state_dict()), dict(watched.state_dict()))
    assert not watched.training


def test_global_generator_is_neither_read_nor_changed() -> None:
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        task = Tiny(small_net(dropout=0.5))
        train(task, rows(30), settings=settings(), seed=2)
        assert torch.equal(before, torch.get_rng_state())
        results.append(dict(task.state_dict()))
    assert equal_states(*results)


def test_seed_changes_the_run_and_dropout_changes_with_the_step() -> None:
    masks: list[Tensor] = []

    class Watching(Tiny):
        def forward(self, batch: Batch) -> Tensor:
            masks.append(nn.functional.dropout(torch.ones(50), 0.5))
            return super().forward(batch)

    one, two = Watching(), Tiny()
    train(one, rows(30), settings=settings(), seed=1)
    train(two, rows(30), settings=settings(), seed=2)
    assert not equal_states(dict(one.state_dict()), dict(two.state_dict()))
    assert len({tuple(mask.tolist()) for mask in masks}) == 30


def test_fits_with_different_settings_follow_each_other() -> None:
    for precision in ("bfloat16", "float32"):
        task = Tiny()
        result = train(task, rows(30), settings=settings(precision=precision), seed=1, device="cpu")
        assert result.steps == 30
        assert {weight.dtype for weight in task.parameters()} == {torch.float32}


def test_bfloat16_runs_the_forward_pass_in_bfloat16_and_ends_near_float32() -> None:
    kinds: set[torch.dtype] = set()
    task, twin = Tiny(), Tiny()
    task.net[0].register_forward_hook(lambda module, _, output: kinds.add(output.dtype))
    train(task, rows(30), settings=settings(precision="bfloat16"), seed=1)
    train(twin, rows(30), settings=settings(), seed=1)
    assert kinds == {torch.bfloat16}
    for one, two in zip(task.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0.1, atol=0.05)
        assert not torch.equal(one, two)


def test_frozen_weights_stay() -> None:
    task = Tiny()
    task.net[0].requires_grad_(False)
    before = task.net[0].weight.clone()
    result = train(task, rows(30), settings=settings(weight_decay=0.5), seed=1)
    assert torch.equal(before, task.net[0].weight)
    assert result.parameters == sum(weight.numel() for weight in task.net[3].parameters())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"x": torch.zeros(4, 3, dtype=torch.uint8)}, TypeError, "floating-point tensor, got torch.uint8"),
        ({"x": torch.zeros(0, 3)}, ValueError, "at least one row"),
        ({"x": torch.zeros(4)}, ValueError, "shape .N, .D."),
        ({"condition": torch.zeros(3, 2)}, ValueError, r"must have shape \(4, K\)"),
        ({"held_out": (torch.zeros(4, 2), None)}, ValueError, "Held-out rows have shape"),
        ({"held_out": (torch.zeros(4, 3), torch.zeros(4, 1))}, ValueError, "both have"),
        ({"resume": True}, ValueError, "needs the folder"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, object], error: type[Exception], message: str) -> None:
    arguments = {"x": torch.zeros(4, 3)} | arguments
    with pytest.raises(error, match=message):
        train(Tiny(), settings=settings(), seed=0, **arguments)  # type: ignore[arg-type]


def test_a_task_without_weights_is_refused() -> None:
    task = Tiny().requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        train(task, rows(30), settings=settings(), seed=0)


@pytest.mark.parametrize(("name", "message"), [("tensorbored", "Choose one of"), ("tensorboard", "not installed")])
def test_a_tracker_that_cannot_work_is_refused(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(ValueError, match=message):
        train(Tiny(), rows(30), settings=settings(tracker=name), seed=0)


def test_a_tracker_gets_the_metrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import tracking

    logged: list[tuple[int, dict[str, float]]] = []
    finished: list[bool] = []

    class Tracker(tracking.GeneralTracker):
        name = "memory"
        requires_logging_directory = False
        main_process_only = True
        tracker = None

        def __init__(self, run_name: str, **_: object) -> None:
            super().__init__()

        def store_init_configuration(self, values: dict[str, object]) -> None:
            assert values["batch_size"] == 8

        def log(self, values: dict[str, float], step: int | None, **_: object) -> None:
            assert step is not None
            logged.append((step, values))

        def finish(self) -> None:
            finished.append(True)

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "memory", Tracker)
    monkeypatch.setattr(tracking, "get_available_trackers", lambda: ["memory"])
    train(Tiny(), rows(30), settings=settings(tracker="memory", log_every=15, evaluations=1), seed=0, held_out=(rows(5), None))
    assert [step for step, _ in logged] == [15, 30]
    assert "held_out_loss" in logged[1][1]
    assert "held_out_loss" not in logged[0][1]
    assert finished == [True]
