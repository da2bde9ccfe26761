"""Sets of points: what opens as them, their files, their scaling, and what is refused."""

import numpy as np
import pytest
import torch

from pushforward.data import RowSpace, Schema, Transform, open_data, write_samples
from pushforward.data.files.points import read_points
from pushforward.data.points import PointSets
from pushforward.data.shapes import shapes
from pushforward.data.sizes import SizeLaw, checked_sizes

NUMBERS = np.random.default_rng(0)
NAMES = ("x", "y", "z", "red")


def ragged():
    return [NUMBERS.normal(size=(size, 2)) for size in (3, 1, 5, 4)]


def ply(form, count=3):
    """A .ply file with an element before the vertices, written by hand, and its points."""
    points = np.array([[0.5, -1.25, 3.0, 255], [1e-3, 2.0, -0.5, 0], [7.0, 8.0, 9.0, 17]])[:count]
    types = {"x": "f4", "y": "f4", "z": "f8", "red": "u1"}
    words = {"f4": "float", "f8": "double", "u1": "uchar"}
    lines = ["ply", f"format {form} 1.0", "comment by hand", f"element vertex {count}"]
    lines += [f"property {words[kind]} {name}" for name, kind in types.items()]
    lines += ["element face 1", "property list uchar int vertex_indices", "end_header", ""]
    order = {"binary_little_endian": "<", "binary_big_endian": ">"}.get(form)
    if order is None:
        body = "\n".join(" ".join(f"{number:g}" for number in point) for point in points) + "\n3 0 1 2\n"
        return "\n".join(lines).encode() + body.encode(), points
    table = np.empty(count, dtype=[(name, order + kind) for name, kind in types.items()])
    for name, column in zip(types, points.T, strict=True):
        table[name] = column
    return "\n".join(lines).encode() + table.tobytes() + b"\x03", points


def test_arrays_and_lists_are_sets_if_the_kind_says_so():
    assert open_data(np.zeros((4, 3, 2)) + NUMBERS.normal(size=(4, 1, 1)), kind="sets").schema.internal_shape == (3, 2)
    data = open_data(ragged(), kind="sets")
    assert data.schema.internal_shape == (5, 2)
    assert data.schema.sizes_differ
    with pytest.raises(ValueError, match=r"ambiguous: set .*kind='sets' if each row is a set of points in no order"):
        open_data(np.zeros((4, 3, 2)))
    with pytest.raises(ValueError, match="rows are sets of points: set kind='sets'"):
        open_data(ragged())


def test_sets_of_different_sizes_come_back_as_they_were():
    sets = open_data(ragged(), kind="sets").values
    schema = Schema.infer(sets)
    rows = schema.to_internal(sets)
    assert rows.isnan().all(2).sum(1).tolist() == [2, 4, 0, 1]
    for got, wanted in zip(schema.to_user(rows), sets, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert Schema.from_json(schema.to_json()) == schema


def test_all_points_share_one_scaling():
    sets = PointSets(ragged())
    schema = Schema.infer(sets)
    x = schema.to_internal(sets)
    transform = Transform.fit(x, integer=False, kind="sets")
    points = np.concatenate(sets)
    np.testing.assert_allclose(transform.shift, np.tile(points.mean(0), (5, 1)))
    np.testing.assert_allclose(transform.scale, np.tile(points.std(0), (5, 1)))
    np.testing.assert_allclose(transform.inverse(transform.forward(x)), x)
    space = RowSpace(schema, transform)
    assert space.of_rows(torch.zeros(1, 9, 2)).transform.shape == (9, 2)


@pytest.mark.parametrize("form", ["ascii", "binary_little_endian", "binary_big_endian"])
def test_ply_files_are_read(form, tmp_path):
    content, points = ply(form)
    (tmp_path / "a.ply").write_bytes(content)
    got, names = read_points(tmp_path / "a.ply")
    assert names == NAMES
    np.testing.assert_allclose(got, points, rtol=1e-6)


def test_xyz_files_are_read(tmp_path):
    (tmp_path / "a.xyz").write_text("2\nby hand\n1 2 3\n4,5 , 6\n")
    got, names = read_points(tmp_path / "a.xyz")
    assert names is None
    np.testing.assert_array_equal(got, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("ending", ["npz", "ply", "xyz"])
def test_what_is_written_opens_to_the_same_sets(ending, tmp_path):
    # The third number counts as a color only in files with names.
    sets = PointSets(
        [NUMBERS.integers(0, 255, size=(size, 4)) / 1.0 for size in (3, 1, 5, 4)], NAMES if ending == "ply" else None
    )
    labels = ["a", "a", "b", "b"]
    schema = Schema.infer(sets)
    target = tmp_path / ("out.npz" if ending == "npz" else "out")
    write_samples(target, sets, schema, condition=labels)
    data = open_data(target, kind="sets")
    assert list(data.condition) == labels
    assert data.schema.coordinates == schema.coordinates
    for got, wanted in zip(data.values, sets, strict=True):
        np.testing.assert_array_equal(got, wanted)
    if ending != "npz":
        assert {path.suffix for path in target.rglob("*.*")} == {f".{ending}"}


def test_broken_files_are_named(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.ply").write_bytes(ply("binary_little_endian")[0])
    (tmp_path / "c.ply").write_bytes(ply("binary_little_endian")[0][:-30])
    (tmp_path / "d.ply").write_bytes(b"no")
    (tmp_path / "e.xyz").write_text("1 2 3\n1 2\n")
    (tmp_path / "f.xyz").write_text("1 2 nan\n")
    (tmp_path / "g.ply").write_bytes(ply("ascii", 0)[0])
    with pytest.raises(ValueError, match="has 5 broken among 7 point clouds") as caught:
        open_data(tmp_path)
    for said in (
        r"c.ply (it ends before its 3 points do)",
        r"d.ply (it does not begin with 'ply')",
        r"e.xyz (line 2 has 2 numbers, but the first point has 3)",
        r"f.xyz (point 0 has a number that is not finite)",
        r"g.ply (it has no points)",
    ):
        assert said in str(caught.value)


def test_folders_that_are_no_data_set_are_refused(tmp_path):
    with pytest.raises(ValueError, match="hold no image"):
        open_data(tmp_path)
    (tmp_path / "a.xyz").write_text("1 2 3\n")
    with pytest.raises(ValueError, match=r"has 1 sample\(s\) while a minimum of 2"):
        open_data(tmp_path)
    (tmp_path / "b.xyz").write_text("1 2\n")
    with pytest.raises(ValueError, match=r"a.xyz has points of 3 coordinates, but b.xyz of 2 coordinates"):
        open_data(tmp_path)
    (tmp_path / "b.xyz").unlink()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.xyz").write_text("1 2 3\n")
    with pytest.raises(ValueError, match="put all files into sub-folders, or none"):
        open_data(tmp_path)


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ([np.ones((3, 2)), np.ones((2, 3))], "set 1 has points of 3 coordinates, but set 0 of 2"),
        ([np.ones((3, 2)), np.ones(2)], r"set 1 has shape \(2,\)"),
        ([np.ones((3, 2)), np.ones((0, 2))], r"set 1 has shape \(0, 2\)"),
        ([np.ones((3, 2)), np.array([[1.0, np.inf]])], "set 1 contains 0 NaN and 1 infinities, the first in point 0"),
    ],
)
def test_lists_that_are_no_sets_are_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        open_data(sets, kind="sets")


def test_sizes_are_drawn_given_the_label():
    law = SizeLaw(torch.tensor([3, 3, 5]), torch.tensor([-1, -1, -1]))
    sizes = law.draw(None, 3000, seed=0)
    assert (sizes == 5).float().mean().item() == pytest.approx(1 / 3, abs=0.03)
    assert torch.equal(law.draw(None, 10, seed=0, first=90), sizes[90:100])
    with pytest.raises(TypeError, match="size must be a number of points"):
        checked_sizes(2.5, 3)
    with pytest.raises(ValueError, match="one for each of the 3 sets"):
        checked_sizes([1, 2], 3)


def test_shapes_lie_on_the_surfaces_of_their_law():
    """Boxes: a face is hit by its share of the area. Tori: the mean distance from the axis is R + r^2 / (2 R)."""
    sets, names = shapes(60, points=4000)
    again = shapes(20, points=4000)[0]
    np.testing.assert_array_equal(again, sets[:20])
    torus = sets[names == "torus"][0].astype(float)
    reach, height = np.hypot(torus[:, 0], torus[:, 1]), torus[:, 2]
    small = np.abs(height).max()
    large = (reach.max() + reach.min()) / 2
    np.testing.assert_allclose((reach - large) ** 2 + height**2, small**2, rtol=0.02)
    assert reach.mean() == pytest.approx(large + small**2 / (2 * large), abs=4 * reach.std() / 4000**0.5)
    box = sets[names == "box"][0].astype(float)
    top = np.abs(box[:, 2]).max()
    on_top = np.isclose(np.abs(box[:, 2]), top, rtol=1e-5)
    corners = np.hypot(box[:, 0], box[:, 1]).max()
    sides = np.linalg.norm(box[~on_top][:, :2], axis=1).min()  # the nearer side
    other = (corners**2 - sides**2) ** 0.5
    share = other * sides / (other * sides + top * (other + sides))
    assert on_top.mean() == pytest.approx(share, abs=4 * (share / 4000) ** 0.5 + 0.005)
