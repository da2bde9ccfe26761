import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from pushforward.data import Schema, check_target, open_data, write_samples


def images(channels: int | None = None, dtype: str = "uint8") -> np.ndarray:
    shape = (4, 3, 5) if channels is None else (4, 3, 5, channels)
    return (np.arange(np.prod(shape)) * 7 % 256).reshape(shape).astype(dtype)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".csv", ".parquet"])
def test_vectors_are_read_back_as_they_were(tmp_path, suffix):
    array = np.array([[0.1, 2.0], [1 / 3, -4.0], [1e-8, 7.0]])
    path = write_samples(tmp_path / "new" / f"x{suffix}", array, Schema.infer(array))
    np.testing.assert_array_equal(np.asarray(open_data(path).values), array)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_frames_keep_names_and_dtypes(tmp_path, suffix):
    frame = pd.DataFrame({"age": [1, 2, 3], "pay": [0.5, 0.25, 0.125], "ok": [True, False, True]})
    path = write_samples(tmp_path / f"x{suffix}", frame, Schema.infer(frame))
    pd.testing.assert_frame_equal(open_data(path).values, frame)


def test_frames_become_arrays(tmp_path):
    frame = pd.DataFrame({"age": [1.0, 2.0], "pay": [0.5, 0.25]})
    path = write_samples(tmp_path / "x.npy", frame, Schema.infer(frame))
    np.testing.assert_array_equal(np.load(path), frame.to_numpy())


@pytest.mark.parametrize("channels", [None, 1, 3, 4])
@pytest.mark.parametrize("target", ["folder", "slash.d/", "p.parquet"])
def test_eight_bit_images_are_read_back_as_they_were(tmp_path, channels, target):
    array = images(channels)
    path = write_samples(f"{tmp_path}/{target}", array, Schema.infer(array))
    expected = array[..., 0] if channels == 1 else array
    np.testing.assert_array_equal(open_data(path).values, expected)


def test_tensors_are_written_channels_last(tmp_path):
    array = images(3)
    tensor = torch.from_numpy(array.transpose(0, 3, 1, 2).copy())
    path = write_samples(tmp_path / "f", tensor, Schema.infer(tensor))
    np.testing.assert_array_equal(open_data(path).values, array)
    exact = write_samples(tmp_path / "t.npy", tensor, Schema.infer(tensor))
    np.testing.assert_array_equal(np.load(exact), tensor.numpy())
    half = tensor.to(torch.bfloat16)
    np.testing.assert_array_equal(np.load(write_samples(tmp_path / "h.npy", half, Schema.infer(half))), half.float().numpy())


def test_labels_become_sub_folders_that_stay_inside(tmp_path):
    array = images()
    path = write_samples(tmp_path / "f", array, Schema.infer(array), condition=["cat", "../dog", ".hid", "cat"])
    data = open_data(path)
    assert data.condition.tolist() == ["__dog", "_hid", "cat", "cat"]
    np.testing.assert_array_equal(data.values, array[[1, 2, 0, 3]])
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["f"]


def test_floats_are_spread_over_the_bits_of_a_png(tmp_path):
    array = np.linspace(-1, 1, 8, dtype=np.float32).reshape(2, 2, 2)
    schema = Schema.infer(array, "images")
    own = open_data(write_samples(tmp_path / "own", array, schema)).values
    np.testing.assert_array_equal(own, np.round((array + 1) / 2 * 255))
    given = open_data(write_samples(tmp_path / "given", array, schema, scale=(-2, 2))).values
    np.testing.assert_array_equal(given, np.round((array + 2) / 4 * 255))


def test_sixteen_bits_stay(tmp_path):
    array = images(dtype="uint16") * 200
    np.testing.assert_array_equal(open_data(write_samples(tmp_path / "f", array, Schema.infer(array))).values, array)


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_conditions_stand_beside_the_samples(tmp_path, suffix):
    array = np.arange(6.0).reshape(3, 2)
    path = write_samples(tmp_path / f"x{suffix}", array, Schema.infer(array), condition=["a", "b", "a"])
    data = open_data(path, condition=None if suffix == ".npz" else "label")
    np.testing.assert_array_equal(np.asarray(data.values), array)
    assert data.condition.tolist() == ["a", "b", "a"]


def test_a_condition_does_not_overwrite_a_column(tmp_path):
    frame = pd.DataFrame({"label": [1.0, 2.0]})
    written = pd.read_csv(write_samples(tmp_path / "x.csv", frame, Schema.infer(frame), condition=[5, 6]))
    assert written.to_dict("list") == {"label": [1.0, 2.0], "condition": [5, 6]}


@pytest.mark.parametrize("columns", [2, 3, 1])
def test_an_overview_of_vectors_is_a_plot(tmp_path, columns):
    array = np.random.default_rng(0).normal(size=(50, columns))
    with Image.open(write_samples(tmp_path / "x.png", array, Schema.infer(array))) as image:
        colors = image.convert("RGB").getcolors(1 << 20)
    assert min(image.size) > 250
    assert len(colors) > 20


def test_an_overview_of_images_holds_their_pixels(tmp_path):
    array = images(3)
    path = write_samples(tmp_path / "x.png", array, Schema.infer(array), condition=[1, 2, 3, 4], scale=(0, 255))
    with Image.open(path) as image:
        colors = {tuple(color) for row in array for color in row.reshape(-1, 3).tolist()}
        assert colors <= {color for _, color in image.getcolors(1 << 20)}


VECTORS, GREY, FIVE = (
    Schema.infer(array) for array in (np.zeros((2, 3)), np.zeros((2, 3, 4), np.uint8), np.zeros((2, 8, 9, 5), np.uint8))
)


@pytest.mark.parametrize(
    ("target", "schema", "message"),
    [
        (
            "x.gif",
            GREY,
            r"x.gif ends in .gif, which is not supported; use one of .png, .npy, .npz, .csv, .parquet, .txt, or no ending",
        ),
        ("x", VECTORS, "means a folder of images, but the samples are vectors; use .csv"),
        ("x.csv", GREY, "a CSV file does not hold images"),
        ("x", FIVE, "a PNG holds 1, 3 or 4 channels, but the samples have 5; use .npy"),
        ("x.parquet", FIVE, "the samples have 5"),
        ("x.parquet", Schema.infer(np.zeros((2, 3, 4), np.int32)), "a PNG holds uint8 or uint16, but the samples are int32"),
    ],
)
def test_targets_are_refused_before_sampling(tmp_path, target, schema, message):
    with pytest.raises(ValueError, match=message):
        check_target(tmp_path / target, schema)
    assert not list(tmp_path.iterdir())


def test_a_folder_in_use_is_not_mixed_with(tmp_path):
    (tmp_path / "used").mkdir()
    assert check_target(tmp_path / "used", GREY) == tmp_path / "used"
    (tmp_path / "used" / "a.png").write_text("")
    with pytest.raises(ValueError, match=re.escape("used already holds files; choose a new folder")):
        check_target(tmp_path / "used", GREY)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="file is a file"):
        check_target(tmp_path / "file", GREY)


def test_wrong_samples_are_refused(tmp_path):
    with pytest.raises(ValueError, match="condition has 3 entries for 2 samples"):
        write_samples(tmp_path / "x.npz", np.zeros((2, 3)), VECTORS, condition=[1, 2, 3])
    with pytest.raises(ValueError, match="there is no sample to write"):
        write_samples(tmp_path / "x.png", np.zeros((0, 3)), VECTORS)
