"""``pushforward compare`` as a real process: stopped and gone on with, its files, its errors."""

import signal
import time

import pandas as pd
import pytest
from command_line import ended, process

WORDS = ("compare", "rows.csv", "--models", "ppca,gan", "--seeds", "1", "--n", "40")


@pytest.fixture
def here(tmp_path):
    from sklearn.datasets import load_iris

    table = load_iris(as_frame=True).frame
    table.drop(columns="target").to_csv(tmp_path / "rows.csv", index=False)
    return tmp_path


@pytest.mark.slow  # two whole comparisons in processes of their own
def test_a_comparison_that_was_stopped_goes_on(here):
    child = process(*WORDS, "--steps", "1500", at=here)
    run_folder = here / "compare" / "rows" / "gan" / "seed-0"
    deadline = time.monotonic() + 100
    while not (run_folder / "metrics.jsonl").is_file():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    child.send_signal(signal.SIGINT)
    said = ended(child)
    assert said.code == 130
    assert "finished parts are kept. Repeat the command to continue" in said.out
    first = here / "compare" / "rows" / "ppca" / "seed-0" / "evaluation.json"
    before = first.stat().st_mtime_ns

    said = ended(process(*WORDS, "--steps", "1500", at=here))
    assert said.code == 0, said.err
    assert first.stat().st_mtime_ns == before
    assert (run_folder / "evaluation.json").is_file()
    table = pd.read_csv(here / "compare" / "rows" / "table.csv")
    assert sorted(table["model"]) == ["gan", "ppca"]
    assert "has the best samples" in said.out
    assert "report.html" in said.out
    page = (here / "compare" / "rows" / "report.html").read_text(encoding="utf-8")
    assert "http" not in page.replace("http-equiv", "")
