import sys

import numpy as np
import pytest
from PIL import Image

from pushforward.plots import columns_grid, error_curves, figure, film, image_grid, learning_curve, panel, save, scatter_grid


def tiles(grid: Image.Image, height: int, across: int, columns: int, lines: int) -> list[np.ndarray]:
    """Cut a grid into its plots again, from its white gaps alone, and shrink them to one pixel each."""
    pixels = np.asarray(grid).astype(int)
    ink = (pixels != 255).any(2)
    spans = []
    for axis, parts in ((1, lines), (0, columns)):
        on = ink.any(axis)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], on.astype(int), [0]))))
        assert len(edges) == 2 * parts
        spans.append(edges.reshape(-1, 2))
    found = []
    for top, bottom in spans[0]:
        for left, right in spans[1]:
            assert (bottom - top) % height == 0
            assert (bottom - top) // height == (right - left) // across
            block = pixels[top:bottom, left:right]
            factor = (bottom - top) // height
            squares = block.reshape(height, factor, across, factor, 3)
            assert (squares == squares[:, :1, :, :1]).all()
            found.append(squares[:, 0, :, 0])
    return found


def test_every_pixel_becomes_a_square_of_its_own_value():
    images = (np.arange(6 * 8 * 8) % 17).reshape(6, 8, 8).astype(np.uint8)
    grid = image_grid(images, columns=3, scale=(0, 20))
    assert 800 <= grid.width <= 900
    expected = np.round(images / 20 * 255).astype(int)
    found = tiles(grid, 8, 8, 3, 2)
    assert len(found) == 6
    for plot, want in zip(found, expected, strict=True):
        np.testing.assert_array_equal(plot, np.repeat(want[:, :, None], 3, axis=2))


def test_color_and_transparency():
    rgb = np.array([[[[10, 20, 30], [200, 100, 0]]]], dtype=np.uint8)
    (found,) = tiles(image_grid(rgb, scale=(0, 255)), 1, 2, 1, 1)
    np.testing.assert_array_equal(found, rgb[0])
    rgba = np.array([[[[10, 20, 30, 255], [200, 100, 0, 51]]]], dtype=np.uint8)
    (found,) = tiles(image_grid(rgba, scale=(0, 255)), 1, 2, 1, 1)
    # A fifth of the color, four fifths of white.
    np.testing.assert_array_equal(found[0], [[10, 20, 30], [244, 224, 204]])


def test_other_channels_stand_side_by_side():
    images = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5) / 240.0
    found = tiles(image_grid(images, columns=1, scale=(0, 1)), 3, 4, 5, 2)
    for plot in range(2):
        for channel in range(5):
            want = np.round(images[plot, :, :, channel] * 255)
            np.testing.assert_array_equal(found[5 * plot + channel][..., 0], want)


def test_the_range_is_that_of_the_plots_unless_given():
    images = np.array([[[3.0, 5.0]], [[4.0, 3.0]]])
    grid = np.asarray(image_grid(images, columns=1))
    assert set(np.unique(grid)) == {0, 128, 255}
    assert set(np.unique(np.asarray(image_grid(images, columns=1, scale=(3, 4))))) == {0, 255}
    assert np.unique(np.asarray(image_grid(np.zeros((2, 3, 3)), scale=(0, 0)))).tolist() == [0, 255]


def test_grids_are_about_square_and_captions_take_room():
    images = np.zeros((64, 8, 8))
    grid = image_grid(images)
    assert abs(grid.width - grid.height) < 20
    assert len(tiles(grid, 8, 8, 8, 8)) == 64
    assert len(tiles(image_grid(images[:3], columns=10), 8, 8, 3, 1)) == 3
    named = image_grid(images, labels=range(64))
    assert named.height > grid.height + 8 * 10
    caption = np.asarray(image_grid(images[:1] + 1, labels=["x"], scale=(0, 1)))[-40:]
    assert (caption < 128).any()


def test_wrong_plots_are_refused():
    with pytest.raises(ValueError, match=r"images must be .* not of shape \(0, 3, 3\)"):
        image_grid(np.zeros((0, 3, 3)))
    with pytest.raises(ValueError, match=r"scale must be \(black, white\)"):
        image_grid(np.zeros((1, 3, 3)), scale=(1, 0))


def test_points_are_shown_on_equal_axes_beside_the_data():
    rng = np.random.default_rng(0)
    data = rng.normal(size=(3000, 2)) * [1, 4]
    samples = np.vstack((data[:100], [[1e6, 0]]))
    figure = scatter_grid(samples, data, names=["u", "v"], limit=2000)
    left, right = figure.axes
    assert (left.get_title(), right.get_title()) == ("samples", "data")
    np.testing.assert_array_equal(left.collections[0].get_offsets(), samples)
    np.testing.assert_array_equal(right.collections[0].get_offsets(), data[:2000])
    assert left.get_xlim() == right.get_xlim()
    assert left.get_aspect() == 1.0
    # One runaway sample does not squeeze the plot.
    assert right.get_xlim()[1] - right.get_xlim()[0] < 40
    assert (left.get_xlabel(), left.get_ylabel()) == ("u", "v")
    assert len(scatter_grid(samples).axes) == 1


def test_histograms_are_densities_over_the_same_bins():
    rng = np.random.default_rng(0)
    data, samples = rng.normal(size=(4000, 3)), rng.normal(size=(300, 3))
    figure = columns_grid(samples, data, names=["a", "b", "c"])
    assert [axes.get_title() for axes in figure.axes] == ["a", "b", "c"]
    for index, axes in enumerate(figure.axes):
        density, edges, _ = axes.patches[0].get_data()
        assert abs(density @ np.diff(edges) - 1) < 1e-9
        outline = axes.patches[-1].get_xy()
        assert abs(outline[:, 0].min() - edges[0]) < 1e-9
        inside = np.clip(samples[:, index], edges[0] + 1e-9, edges[-1] - 1e-9)
        assert abs(outline[:, 1].max() - np.histogram(inside, edges, density=True)[0].max()) < 1e-9


@pytest.mark.parametrize(("top", "width"), [(16, 1), (90, 3), (400, 10)])
def test_bins_of_integers_hold_equally_many(top, width):
    data = np.arange(top + 1).repeat(3).astype(float)[:, None]
    _, edges, _ = columns_grid(data, data).axes[0].patches[0].get_data()
    assert set(np.diff(edges).round(9)) == {width}
    assert edges[0] % 1 == 0.5


def test_only_so_many_columns_are_shown():
    figure = columns_grid(np.random.default_rng(0).normal(size=(20, 30)), limit=5)
    assert len(figure.axes) == 5
    assert figure.get_suptitle() == "the first 5 of 30 columns"


def test_learning_curves():
    metrics = [
        {"step": 1, "loss": 4.0},
        {"step": 10, "loss": 1.0, "held_out_loss": 1.2},
        {"step": 20, "loss": float("nan"), "held_out_loss": 0.9},
        {"step": 30, "loss": None, "held_out_loss": 1.0},
    ]
    axes = learning_curve(metrics).axes[0]
    loss, held_out, best = axes.lines
    assert loss.get_xydata().tolist() == [[1, 4], [10, 1]]
    assert held_out.get_xydata().tolist() == [[10, 1.2], [20, 0.9], [30, 1.0]]
    assert best.get_xydata().tolist() == [[20, 0.9]]
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "best: 0.9 at step 20" in [text.get_text() for text in axes.get_legend().get_texts()]
    flat = learning_curve([{"step": 100, "loss": -1.0}, {"step": 200, "loss": 2.0}]).axes[0]
    assert (flat.get_xscale(), flat.get_yscale()) == ("linear", "linear")
    assert not learning_curve([]).axes[0].lines


def test_saving_needs_no_display_and_no_global_state(tmp_path):
    # The object interface alone: pyplot would keep every figure alive and look for a screen.
    loaded = "matplotlib.pyplot" in sys.modules
    for name, drawn in (("a", scatter_grid(np.eye(2))), ("b", image_grid(np.zeros((1, 2, 2)))), ("c", learning_curve([]))):
        path = save(drawn, tmp_path / "deep" / f"{name}.png")
        with Image.open(path) as image:
            assert image.format == "PNG"
    assert ("matplotlib.pyplot" in sys.modules) == loaded


def test_a_film_shows_its_frames_in_order_with_a_rest_at_the_end(tmp_path):
    def frames():
        for color in ("red", "lime", "blue"):
            canvas = figure(2, 1)
            panel(canvas, 1, 1, 1).set_facecolor(color)
            yield canvas

    path = film(frames(), tmp_path / "new" / "colors.gif", seconds=0.2)
    with Image.open(path) as found:
        assert found.n_frames == 3
        seen = []
        for index in range(3):
            found.seek(index)
            plot = found.convert("RGB")
            seen.append((plot.getpixel((plot.width // 2, plot.height // 2)), found.info["duration"]))
    assert seen == [((255, 0, 0), 200), ((0, 255, 0), 200), ((0, 0, 255), 2000)]


def test_a_film_needs_frames_and_a_gif(tmp_path):
    with pytest.raises(ValueError, match=r"written to a .gif file, not to 'x.png'; write x.gif"):
        film([figure(1, 1)], tmp_path / "x.png")
    with pytest.raises(ValueError, match="at least one figure"):
        film([], tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_names_at_the_ends_of_lines_stand_apart_in_the_order_of_the_ends():
    ends = {"a": 0.011, "b": 0.01, "c": 0.0101, "d": 1.0, "e": 0.0001}
    drawn = error_curves({name: [(5, 2.0), (10, end)] for name, end in ends.items()}, bold="d")
    (axes,) = drawn.axes
    heights = {text.get_text(): text.xyann[1] for text in axes.texts}
    assert sorted(heights, key=heights.get) == sorted(ends, key=ends.get)
    assert np.diff(sorted(heights.values())).min() > 0.037
    middle = (np.log(0.0101) - np.log(axes.get_ylim()[0])) / np.diff(np.log(axes.get_ylim())).item()
    assert abs(np.mean([heights[name] for name in "abc"]) - middle) < 0.01
    assert {text.get_text(): text.get_fontweight() for text in axes.texts}["d"] == "bold"


def test_curves_are_drawn_as_given_and_marks_make_no_line():
    drawn = error_curves(
        {"a": [(10, 0.1), (5, 0.3), (20, 0.0), (30, float("nan"))], "b": [(5, float("inf"))]},
        marks={"fitted": [(5, 0.02), (8, 0.01)]},
        labels=("calls", "miss"),
    )
    (axes,) = drawn.axes
    line, mark = axes.lines
    assert line.get_xydata().tolist() == [[5, 0.3], [10, 0.1]]
    assert mark.get_xydata().tolist() == [[5, 0.02], [8, 0.01]]
    assert (line.get_linestyle(), mark.get_linestyle()) == ("-", "None")
    assert [text.get_text() for text in axes.texts] == ["fitted", "a"]
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel(), axes.get_ylabel()) == ("log", "log", "calls", "miss")
