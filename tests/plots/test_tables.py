"""Plots of tables: what is drawn are the shares of the rows, and all that is written can be read."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from pushforward.plots import association_maps, columns_compared, gap_patterns_chart

LONG = "a name that somebody wrote without a thought of those who have to draw it, number {}"


def written(chart):
    """Every text of a figure that is shown, with its place in pixels."""
    canvas = FigureCanvasAgg(chart)
    canvas.draw()
    found, unseen = [], set()
    for axes in chart.axes:  # matplotlib keeps ticks beyond the axes too, and does not draw them
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, sorted(axes.get_ylim()))):
            unseen |= {id(tick.label1) for tick in axis.get_major_ticks() if not low <= tick.get_loc() <= high}
    for text in chart.findobj(lambda artist: hasattr(artist, "get_text") and artist.get_visible() and artist.get_text()):
        if id(text) not in unseen:
            found.append((text.get_text(), text.get_window_extent(canvas.get_renderer())))
    return found, chart.bbox


def inside(chart):
    """Whether no text stands out of the figure."""
    texts, frame = written(chart)
    return all(box.x0 > -1 and box.y0 > -1 and box.x1 < frame.x1 + 1 and box.y1 < frame.y1 + 1 for _, box in texts)


def bars(axes):
    """Lengths of the bars of the data and of the samples."""
    return [[patch.get_width() for patch in group] for group in axes.containers]


def test_bars_are_shares_of_all_rows_and_rare_levels_stand_together():
    data = np.concatenate([np.repeat(np.arange(30.0), np.arange(30) + 1), np.full(35, np.nan)])[:, None]
    samples = np.where(np.arange(100) < 60, 29.0, 0.0)[:, None]
    chart = columns_compared(samples, data, names=["x"], levels=[[f"level {k}" for k in range(30)]])
    [axes] = chart.axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    of_data, of_samples = bars(axes)
    assert names[0] == "level 29"
    assert names[-2:] == ["21 others", "(gap)"]
    assert of_data == pytest.approx([(30 - k) / 500 for k in range(9)] + [sum(range(1, 22)) / 500, 35 / 500])
    assert of_samples == pytest.approx([0.6] + [0] * 8 + [0.4, 0])


def test_a_spike_stands_apart_from_the_histogram_of_the_other_values():
    rng = np.random.default_rng(0)
    data, samples = (np.where(rng.random(1000) < share, 0.0, rng.normal(size=1000))[:, None] for share in (0.9, 0.5))
    [axes] = columns_compared(samples, data, names=["x"], levels=[None]).axes
    shares = [100 * (rows == 0).mean() for rows in (data, samples)]
    assert [text.get_text() for text in axes.texts] == ["0: {:.3g} % | {:.3g} %".format(*shares)]
    filled, outline = (patch.get_data().values for patch in axes.patches)
    assert filled.sum() == pytest.approx((data != 0).mean())
    assert outline.sum() == pytest.approx((samples != 0).mean())
    assert axes.get_ylim()[1] < 0.5  # the rest is not flattened by the spike


@pytest.mark.parametrize("column", [np.arange(1000.0) % 3, np.round(np.arange(1000.0) % 97 / 10, 1)], ids=["few", "coarse"])
def test_a_column_of_few_or_coarse_values_has_no_spikes(column):
    [axes] = columns_compared(column[:, None], column[:, None], names=["x"], levels=[None]).axes
    assert not axes.texts


def test_dates_are_written_as_the_caller_writes_them():
    rows = np.linspace(0.0, 10.0, 50)[:, None]
    [axes] = columns_compared(rows, rows, names=["x"], levels=[None], formats=["day {:.0f}".format]).axes
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels[1] == "day 5"
    assert all(label.startswith("day ") for label in labels)


def hard(width):
    rng = np.random.default_rng(0)
    kinds = [
        lambda: rng.integers(0, 300, 200).astype(float),
        lambda: np.exp(3 * rng.normal(size=200)),
        lambda: np.full(200, np.nan),
        lambda: np.full(200, 1e12),
        lambda: np.where(rng.random(200) < 0.7, 0.0, rng.normal(size=200) * 1e-9),
    ]
    rows = np.stack([kinds[j % 5]() for j in range(width)], axis=1)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    return rows, [[LONG.format(k) for k in range(300)] if j % 5 == 0 else None for j in range(width)]


@pytest.mark.parametrize("width", [2, pytest.param(5, marks=pytest.mark.full), pytest.param(40, marks=pytest.mark.full)])
def test_long_names_many_levels_and_empty_columns_are_read(width):
    rows, levels = hard(width)
    names = [LONG.format(j) for j in range(width)]
    assert inside(columns_compared(rows[:100], rows, names=names, levels=levels))
    maps = np.corrcoef(np.random.default_rng(0).normal(size=(width, 5))).reshape(width, width)
    assert inside(association_maps(maps, np.where(maps > 0.5, np.nan, maps), names=names))
    chart = gap_patterns_chart(rows[:100], rows, names=names)
    assert inside(chart)
    ends = {text[-2:] for text, _ in written(chart)[0]}
    assert {f" {j}"[-2:] for j in range(width)} <= ends  # shortened names still tell columns apart


def test_the_number_of_columns_that_are_left_out_is_written():
    rows = np.zeros((5, 9))
    texts = [text for text, _ in written(columns_compared(rows, rows, names=range(9), levels=[None] * 9, limit=2))[0]]
    assert "the first 2 of 9 columns" in texts
    apart = np.eye(9)
    apart[3, 7] = apart[7, 3] = 0.5
    chart = association_maps(apart, np.eye(9), names=[f"column {j}" for j in range(9)], limit=2)
    texts = [text for text, _ in written(chart)[0]]
    assert "data, the 2 of 9 columns that differ most" in texts
    assert {"column 3", "column 7"} <= set(texts)


def test_patterns_of_gaps_are_drawn_with_their_shares():
    data = np.zeros((100, 3))
    data[:30, :2], data[30:40, 2] = np.nan, np.nan
    samples = np.zeros((50, 3))
    samples[:10, 0] = np.nan
    top, below, beside, note = gap_patterns_chart(samples, data, names=["a", "b", "c"]).axes
    assert [[patch.get_height() for patch in group] for group in top.containers] == [[0.3, 0.3, 0.1], [0.2, 0, 0]]
    assert [text.get_text().strip() for text in beside.texts] == ["30 % | 0 %", "0 % | 20 %", "10 % | 0 %"]
    assert note.texts[0].get_text() == "rows without a gap:\n60 % of the data\n80 % of the samples"
    marked = below.collections[1].get_offsets()
    assert np.asarray(marked).tolist() == [[0, 0], [1, 0], [0, 1], [2, 2]]
    [alone] = gap_patterns_chart(np.zeros((2, 2)), np.zeros((2, 2)), names=["a", "b"]).axes
    assert "no gaps" in alone.texts[0].get_text()


@pytest.mark.parametrize(("titles", "word"), [(("samples", "data"), "samples"), (("data", ""), "data")])
def test_rows_alone_are_drawn_once_and_called_what_they_are(titles, word):
    numbers = np.concatenate([np.linspace(0, 1, 60), np.full(40, 7.0)])
    rows = np.stack([numbers, np.arange(100) % 2], 1)
    rows[:10, 1] = np.nan
    chart = columns_compared(rows, names=["x", "kind"], levels=[None, ["a", "b"]], titles=titles)
    [key] = chart.legends
    assert [text.get_text() for text in key.get_texts()] == [word]
    histogram, bars_of = chart.axes
    assert [text.get_text() for text in histogram.texts] == ["7: 40 %"]
    assert len(histogram.patches) == 1
    assert bars(bars_of) == [pytest.approx([0.45, 0.45, 0.1])]
    assert [patch.get_y() + patch.get_height() / 2 for patch in bars_of.patches] == pytest.approx([0, 1, 2])
