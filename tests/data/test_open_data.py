import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pushforward.data import open_data

COLORS = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 99, 199]], [[1, 2, 3], [4, 5, 6]]], dtype=np.uint8)


def image(mode: str = "L", seed: int = 0) -> Image.Image:
    """An image 3 wide and 2 high."""
    values = (np.arange(18) * 13 + seed) % 256
    rgb = Image.fromarray(values.reshape(2, 3, 3).astype(np.uint8))
    return rgb.convert(mode)


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="png")
    return stream.getvalue()


def table() -> pd.DataFrame:
    return pd.DataFrame({"a": [1, 2, 3, 4], "b": [0.5, 1.5, 2.5, 3.5], "name": ["x", "y", "x", None], "c": [7, 8, 9, 10]})


def test_a_csv_file_is_a_frame(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    data = open_data(tmp_path / "t.csv", columns=["b", "a"])
    pd.testing.assert_frame_equal(data.values, table()[["b", "a"]])
    assert data.condition is None
    assert data.schema.container == "pandas"
    assert data.source == str(tmp_path / "t.csv")
    assert len(data) == 4


def test_a_condition_column_leaves_the_data(tmp_path):
    table().to_csv(tmp_path / "t.csv", index=False)
    data = open_data(str(tmp_path / "t.csv"), condition="name")
    assert list(data.values.columns) == ["a", "b", "c"]
    assert data.condition[:3].tolist() == ["x", "y", "x"]
    vector = open_data(tmp_path / "t.csv", columns="b", condition=["c", "a"])
    assert list(vector.values.columns) == ["b"]
    np.testing.assert_array_equal(vector.condition, table()[["c", "a"]].to_numpy())
    assert open_data(tmp_path / "t.csv", columns="b", condition=["a"]).condition.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_and_missing_headers_of_csv_files(tmp_path, separator, mark):
    rows = ["1.5 2", "3 4", "5 6"]
    (tmp_path / "bare.csv").write_text(mark + "\n".join(rows).replace(" ", separator), encoding="utf-8")
    data = open_data(tmp_path / "bare.csv")
    assert data.values.to_numpy().tolist() == [[1.5, 2], [3, 4], [5, 6]]
    assert list(data.values.columns) == ["0", "1"]
    (tmp_path / "named.csv").write_text(mark + "\n".join(["u v", *rows]).replace(" ", separator), encoding="utf-8")
    assert list(open_data(tmp_path / "named.csv").values.columns) == ["u", "v"]


def test_a_parquet_table_is_a_frame(tmp_path):
    table().to_parquet(tmp_path / "t.parquet")
    data = open_data(tmp_path / "t.parquet", columns=["c", "b"], condition="name")
    pd.testing.assert_frame_equal(data.values, table()[["c", "b"]])
    assert data.condition.tolist()[:2] == ["x", "y"]
    assert open_data(tmp_path / "t.parquet", columns="a", condition=[0.1, 0.2, 0.3, 0.4]).condition.tolist() == [
        0.1,
        0.2,
        0.3,
        0.4,
    ]


def images_parquet(path, modes=("RGB", "RGB", "RGB")):
    cells = [{"bytes": png(image(mode, seed)), "path": None} for seed, mode in enumerate(modes)]
    pd.DataFrame({"image": cells, "label": [5, 6, 5], "size": [0.5, 1.0, 1.5]}).to_parquet(path)


def test_images_of_a_parquet_file_are_decoded(tmp_path):
    images_parquet(tmp_path / "p.parquet")
    data = open_data(tmp_path / "p.parquet")
    expected = np.stack([np.asarray(image("RGB", seed)) for seed in range(3)])
    np.testing.assert_array_equal(data.values, expected)
    assert data.values.dtype == np.uint8
    assert data.condition.tolist() == [5, 6, 5]
    assert open_data(tmp_path / "p.parquet", condition=False).condition is None
    assert open_data(tmp_path / "p.parquet", condition="size").condition.tolist() == [0.5, 1.0, 1.5]
    assert open_data(tmp_path / "p.parquet", columns="image", condition=["a", "b", "c"]).condition.tolist() == ["a", "b", "c"]
    # Its other columns are a table like any other.
    assert list(open_data(tmp_path / "p.parquet", columns="size").values.columns) == ["size"]


def test_images_beside_a_parquet_file_are_found(tmp_path):
    image("L").save(tmp_path / "one.png")
    cells = [{"bytes": None, "path": "one.png"}, {"bytes": png(image("L", 7)), "path": "one.png"}]
    pd.DataFrame({"image": cells}).to_parquet(tmp_path / "p.parquet")
    values = open_data(tmp_path / "p.parquet").values
    np.testing.assert_array_equal(values, np.stack([np.asarray(image("L")), np.asarray(image("L", 7))]))


def test_a_folder_of_classes(tmp_path):
    for name, seed in (("dog", 1), ("cat", 2), ("cat", 3)):
        (tmp_path / name / "deep").mkdir(parents=True, exist_ok=True)
        image("L", seed).save(tmp_path / name / "deep" / f"{seed}.png")
    (tmp_path / ".hidden.png").write_bytes(b"")
    data = open_data(tmp_path)
    assert data.condition.tolist() == ["cat", "cat", "dog"]
    np.testing.assert_array_equal(data.values, np.stack([np.asarray(image("L", seed)) for seed in (2, 3, 1)]))
    assert (data.schema.kind, data.schema.container, data.values.shape) == ("images", "numpy", (3, 2, 3))
    assert open_data(tmp_path, condition=[0.5, 0.25, 1.0]).condition.tolist() == [0.5, 0.25, 1.0]
    assert open_data(tmp_path, condition=False).condition is None


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg", ".webp", ".PNG"])
def test_a_folder_without_classes_in_any_format(tmp_path, suffix):
    flat = Image.new("RGB", (16, 8), (200, 40, 90))
    for name in "ab":
        flat.save(tmp_path / f"{name}{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    data = open_data(tmp_path)
    assert data.condition is None
    assert data.values.shape == (2, 8, 16, 3)
    assert np.abs(data.values.astype(int) - [200, 40, 90]).max() <= (2 if suffix == ".jpg" else 0)


@pytest.mark.parametrize(
    ("mode", "shape"),
    [("L", (2, 3)), ("1", (2, 3)), ("P", (2, 3, 3)), ("RGB", (2, 3, 3)), ("RGBA", (2, 3, 4)), ("LA", (2, 3, 4))],
)
def test_modes_of_images(tmp_path, mode, shape):
    for seed in range(2):
        image(mode, seed).save(tmp_path / f"{seed}.png")
    values = open_data(tmp_path).values
    assert values.shape[1:] == shape
    plain = {2: "L", 3: "RGB"}[len(shape)] if shape[-1] != 4 else "RGBA"
    np.testing.assert_array_equal(values[1], np.asarray(image(mode, 1).convert(plain)))


def test_sixteen_bits_stay(tmp_path):
    deep = (np.arange(6).reshape(2, 3) * 9000).astype(np.uint16)
    for name in "ab":
        Image.fromarray(deep).save(tmp_path / f"{name}.png")
    values = open_data(tmp_path).values
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values[0], deep)


def test_mixed_modes_become_the_richest_and_say_so(tmp_path):
    for name, mode in (("a", "L"), ("b", "RGB"), ("c", "RGBA")):
        image(mode).save(tmp_path / f"{name}.png")
    with pytest.warns(
        UserWarning, match=r"mixes 1 grey, 1 RGB and 1 RGBA images; all are read as RGBA \(converted: 'a.png', 'b.png'\)"
    ):
        values = open_data(tmp_path).values
    for row, mode in zip(values, ("L", "RGB", "RGBA"), strict=True):
        np.testing.assert_array_equal(row, np.asarray(image(mode).convert("RGBA")))


def test_numpy_files(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(6, 2)
    np.save(tmp_path / "x.npy", array)
    np.savez(tmp_path / "one.npz", only=array)
    np.savez(tmp_path / "two.npz", x=array, y=np.arange(6), z=array + 1)
    np.savez(tmp_path / "samples.npz", samples=array, condition=np.arange(6) * 0.5)
    np.testing.assert_array_equal(open_data(tmp_path / "x.npy").values, array)
    np.testing.assert_array_equal(open_data(tmp_path / "one.npz").values, array)
    chosen = open_data(tmp_path / "two.npz", columns="z", condition="y")
    np.testing.assert_array_equal(chosen.values, array + 1)
    assert chosen.condition.tolist() == list(range(6))
    assert open_data(tmp_path / "samples.npz").condition.tolist() == [0, 0.5, 1, 1.5, 2, 2.5]
    assert open_data(tmp_path / "x.npy", condition=list("aabbcc")).condition.tolist() == list("aabbcc")


def test_data_at_hand():
    array = np.arange(6.0).reshape(3, 2)
    assert open_data(array).values is array
    assert open_data(array.tolist()).values.tolist() == array.tolist()
    tensor = torch.from_numpy(array).requires_grad_()
    data = open_data(tensor, condition=torch.tensor([1, 2, 1]))
    assert (data.schema.container, data.source) == ("torch", "tensor")
    assert not data.values.requires_grad
    assert data.condition.tolist() == [1, 2, 1]
    shown = open_data(table().set_index("c"), columns=["a"], condition=pd.Series([1.0, 2.0, 3.0, 4.0], index=[9, 8, 7, 6]))
    assert shown.condition.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert list(shown.values.index) == [0, 1, 2, 3]
    # One label per row is not taken for names of columns.
    assert open_data(table()[["a", "b"]], condition=["a", "a", "b", "z"]).condition.tolist() == ["a", "a", "b", "z"]


def test_kind_reaches_the_schema():
    array = np.zeros((3, 4, 5), dtype=np.float32)
    array[0] = 1
    assert open_data(array, kind="images").to_internal().shape == (3, 1, 4, 5)
    assert open_data(array, kind="vectors").to_internal().shape == (3, 20)


def test_a_fingerprint_tells_contents_shapes_dtypes_and_conditions_apart():
    base = np.arange(12, dtype=np.int32).reshape(6, 2)
    same = [open_data(base), open_data(np.asfortranarray(base)), open_data(base.copy())]
    assert len({data.fingerprint for data in same}) == 1
    changed = base.copy()
    changed[5, 1] += 1
    others = [
        open_data(changed),
        open_data(base.astype(np.int64)),
        open_data(base.reshape(4, 3)),
        open_data(torch.from_numpy(base).long()),
        open_data(base, condition=[0, 1] * 3),
        open_data(base, condition=[1, 0] * 3),
        open_data(base, condition=["0", "1"] * 3),
        open_data(pd.DataFrame(base)),
        open_data(pd.DataFrame(base, columns=["u", "v"])),
    ]
    prints = {data.fingerprint for data in others} | {same[0].fingerprint}
    # An int64 array and an int64 tensor with the same numbers differ in dtype names alone.
    assert len(prints) == len(others) + 1
