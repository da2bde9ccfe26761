"""What an evaluation could have seen: read off the benchmark's table, between its numbers of rows."""

import math

import pytest

from pushforward.evaluation.report import power

TABLE = {
    100: {"dropped mode": {"recall": 0.08, "C2ST": 0.2}, "copied share": {"near copies": None}, "blur": {"density": 1.0}},
    400: {"dropped mode": {"recall": 0.02, "C2ST": 0.1}, "copied share": {"near copies": 0.01}, "blur": {"density": 0.25}},
}


@pytest.fixture(autouse=True)
def _table(monkeypatch):
    monkeypatch.setattr(power, "_table", lambda: TABLE)


def test_sizes_are_interpolated_on_logarithmic_scales_and_the_most_sensitive_figure_counts():
    middle = power.could_have_seen(200, ["C2ST", "recall"])
    assert "a missing mode of 4.0 % of the rows" in middle  # the geometric mean of 2 and 8 %
    assert "copies" not in middle
    assert "With 4,000 rows" in power.could_have_seen(4000, ["density"])
    assert "noise of 0.25 standard deviations" in power.could_have_seen(4000, ["density"])


def test_what_was_not_found_is_not_claimed():
    assert "copies" not in power.could_have_seen(200, ["near copies", "recall"])
    assert "copies that are 1.0 % of the samples" in power.could_have_seen(400, ["near copies"])
    assert power.could_have_seen(99, ["recall"]) == power.could_have_seen(200, ["speed"]) == ""


def test_the_table_of_the_benchmark_is_whole(monkeypatch):
    monkeypatch.undo()
    table = power._table()
    assert {defect for defects in table.values() for defect in defects} == set(power._WORDS)
    sizes = [table[n]["dropped mode"]["recall"] for n in sorted(table)]
    assert sizes == sorted(sizes, reverse=True)  # more rows see more
    assert all(math.isfinite(size) for size in sizes)
