import io

import pytest
from rich.console import Console
from tiny_task import Tiny, rows

from pushforward.training import TrainingSettings, train
from pushforward.training.record import progress as progress_module
from pushforward.training.record.progress import Progress

SETTINGS = TrainingSettings(steps=30, batch_size=8, log_every=10)


def test_quiet_by_default(capfd: pytest.CaptureFixture[str]) -> None:
    train(Tiny(), rows(30), settings=SETTINGS, seed=0)
    assert capfd.readouterr() == ("", "")


def test_plain_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    train(Tiny(), rows(30), settings=SETTINGS, seed=0, progress=True, held_out=(rows(9), None))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    last = output.strip().splitlines()[-1]
    for part in ("step 30 of 30", "loss ", "held-out loss ", "rows/s ", "0 s left"):
        assert part in last
    assert len(output.splitlines()) <= 3


def test_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    terminal = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("rich.console.Console", lambda **_: terminal)
    monkeypatch.setattr(progress_module, "LIVE_SECONDS", 0.0)
    with Progress(5, 2, visible=True) as line:
        line.note(loss=0.123456, held_out_loss=0.5, rows_per_second=4321.0)
        line.tick(3)
    shown = screen.getvalue()
    assert "step 3 of 5 · loss 0.1235 · held-out loss 0.5 · rows/s 4,321" in shown
    assert "\x1b[" in shown


def test_time_left_is_the_pace_so_far_times_the_steps_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress_module.time, "perf_counter", lambda: now[0])
    line = Progress(110, 10, visible=False)
    now[0] = 130.0
    assert line._line(20).endswith("4 min 30 s left")
