"""What cannot be learned from is refused before training, by a message that names the place and the way out."""

import io
import re

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import sparse

from pushforward.data import clean_values, open_data

NAN, INF = float("nan"), float("inf")


def grey(path, size=(3, 2), value=7):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, value).save(path)


def refused(message, *args, error=ValueError, **kwargs):
    with pytest.raises(error, match=message):
        open_data(*args, **kwargs)


def test_unknown_names_and_files(tmp_path):
    refused(
        "'digit' is not a file, a folder or a built-in data set .*Did you mean 'digits'",
        "digit",
        error=FileNotFoundError,
    )
    (tmp_path / "faces.csv").write_text("a\n1\n2\n")
    close = re.escape(str(tmp_path / "faces.csv"))
    refused(f"Did you mean '{close}'", tmp_path / "face.csv", error=FileNotFoundError)
    (tmp_path / "x.mat").write_text("")
    refused(
        r"x.mat ends in .mat, which is not supported; use one of .npy, .npz, .csv, .tsv, .parquet, .txt, or a folder",
        tmp_path / "x.mat",
    )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((1, 3)), r"X has 1 sample\(s\) \(shape=\(1, 3\)\) while a minimum of 2 is required"),
        (np.zeros((0, 3)), r"X has 0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 2 is required"),
        (np.zeros((12, 0)), r"0 feature\(s\) \(shape=\(12, 0\)\) while a minimum of 1 is required\."),
        (np.zeros((3, 0, 4)), "rows without elements"),
        (np.zeros(5), r"Expected 2D array, got 1D array instead: X has shape \(5,\)\. Reshape your data"),
        ([1.0, 2.0], "got 1D array instead"),
        (torch.zeros(5), "got 1D array instead"),
        (pd.Series([1.0, 2.0]), "got 1D array instead"),
        (np.float64(3), "X is a single value"),
        (np.ones((3, 2)) * 1j, "Complex data not supported"),
        (torch.ones(3, 2) * 1j, "Complex data not supported"),
        ([[1, 2], [3]], "rows of different lengths"),
        (np.array([["1", "2"], ["3", "x"]]), r"X holds text \(dtype <U1\) instead of numbers"),
        (np.array([["2020-01-01"]] * 2, dtype="datetime64[D]"), "X holds dates"),
        (np.zeros(3, dtype=[("a", "f4")]).reshape(3, 1), "X holds records"),
        (
            np.array([[1, "two"], [3, 4]], dtype=object),
            "with entries that are not numbers: could not convert string to float: 'two'",
        ),
        (np.ma.masked_greater(np.array([[1.0, 2.0], [3.0, 4.0]]), 3.5), "masked array with 1 masked entries"),
        (np.array([[0.0, 1.0], [NAN, 2.0], [NAN, INF]]), r"X contains 2 NaN and 1 infinities, the first at row 1, column 0"),
        (torch.tensor([[0.0, INF], [1.0, 2.0]]), r"X contains 1 infinities, the first at row 0, column 1"),
        (np.full((2, 3, 3, 1), NAN), r"X contains 18 NaN, the first at row 0, element \(0, 0, 0\)"),
        (pd.DataFrame({"a": [1.0, INF], "b": [1.0, NAN]}), "column 'a' contains 1 infinities, the first in row 1"),
        (pd.DataFrame({"a": [NAN, None], "b": [None, None]}), "no column is left to learn: 'a' is empty in every row; 'b'"),
    ],
)
def test_arrays_without_a_law(values, message):
    refused(message, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (sparse.csr_array(np.eye(3)), r"Sparse data was passed as X, but dense data is required: pass X.toarray\(\)"),
        (torch.eye(3).to_sparse(), "sparse tensor"),
        (np.array([[{"foo": 1}, 2]], dtype=object), "argument must be a string or a real number, not 'dict'"),
        ({"a": [1, 2]}, "not dict"),
        (None, "not NoneType"),
    ],
)
def test_types_that_are_no_data(values, message):
    refused(message, values, error=TypeError)


def test_one_row_is_enough_for_new_data():
    assert clean_values([[1.0, 2.0]]).shape == (1, 2)
    with pytest.raises(ValueError, match=r"0 sample\(s\) \(shape=\(0, 2\)\) while a minimum of 1 is required\."):
        clean_values(np.zeros((0, 2)))


def test_text_as_vectors(tmp_path):
    (tmp_path / "t.csv").write_text("age,job,sex,pay\n30,cook,f,5\n40,smith,m,6\n")
    refused(
        r"t.csv: columns 'job', 'sex' hold text \(or dates\) instead of numbers\. Choose the numeric columns: "
        r"columns=\['age', 'pay'\]\. .*condition='job'",
        tmp_path / "t.csv",
        kind="vectors",
    )
    refused("There is no numeric column", pd.DataFrame({"job": ["cook", "smith"]}), kind="vectors")


def test_names_of_columns(tmp_path):
    (tmp_path / "t.csv").write_text("age,pay\n30,5\n40,6\n")
    refused(
        "there is no column 'agee' in .*t.csv, which has 'age', 'pay'. Did you mean 'age'", tmp_path / "t.csv", columns="agee"
    )
    refused("condition 'payy' is not a column of .*Did you mean 'pay'", tmp_path / "t.csv", condition="payy")
    refused("condition 'height' is not a column", tmp_path / "t.csv", columns="age", condition=["pay", "height", "x"])
    refused("no column is left as data if 'age', 'pay' is the condition", tmp_path / "t.csv", condition=["age", "pay"])
    refused("columns is empty", tmp_path / "t.csv", columns=[])
    refused("more than one column called 'a'", pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    refused("neither text nor integers", pd.DataFrame([[1.0], [2.0]], columns=[(1, 2)]), error=TypeError)
    refused("selects columns of a table or arrays of an .npz file, but the data are an array", np.eye(3), columns="a")
    refused("the data are the built-in moons", "moons", columns="a")
    table = pd.DataFrame({"u": [1, 2], "v": [1, 2], "w": ["a", "b"]})
    refused("column 'v' is one of the data and cannot also be a condition", table, columns=["u", "v"], condition=["v", "w"])
    refused("'v' is a column of the data and of the condition; .* name it with condition='v'", table, condition=table["v"])
    refused(r"name it with condition=\['v', 'w'\]", table, condition=table[["v", "w"]])


def test_conditions_of_another_length(tmp_path):
    refused(r"condition has shape \(4,\), but the data have 3 rows", np.eye(3), condition=[1, 2, 3, 4])
    refused("condition='label' names a column, but X has no columns", np.eye(3), condition="label")
    refused("condition='label' names a column, but moons has no columns", "moons", condition="label")
    refused(r"shape \(2, 2, 2, 2, 2\)", np.eye(2), condition=np.zeros((2, 2, 2, 2, 2)))
    refused("real numbers or labels", np.eye(2), condition=np.array([1j, 2j]))


def test_kind_is_asked_for_where_it_is_open():
    refused(r"data of shape \(3, 4, 5\) and dtype float64 are ambiguous: set kind='images'", np.ones((3, 4, 5)))


def test_folders_without_images(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "readme.md").write_text("nothing")
    refused("empty and its sub-folders hold no image", tmp_path / "empty")
    grey(tmp_path / "one" / "a.png")
    refused(r"one has 1 sample\(s\)", tmp_path / "one")
    grey(tmp_path / "mixed" / "a.png")
    grey(tmp_path / "mixed" / "cat" / "b.png")
    refused(r"holds images directly \(a.png\) and in sub-folders \(cat/b.png\)", tmp_path / "mixed")


def test_images_of_different_sizes(tmp_path):
    for name, size in (("a", (3, 2)), ("b", (3, 2)), ("c", (4, 2)), ("d", (3, 5))):
        grey(tmp_path / f"{name}.png", size)
    refused(r"a.png is 3×2 \(width×height\), c.png is 4×2; 2 of 4 differ from the first", tmp_path)


def test_broken_images_are_named(tmp_path):
    for index in range(12):
        grey(tmp_path / f"{index:02d}.png", size=(40, 40))
    (tmp_path / "05.png").write_bytes(b"nothing like an image")
    whole = (tmp_path / "07.png").read_bytes()
    (tmp_path / "07.png").write_bytes(whole[: len(whole) // 2])
    refused(
        r"has 2 broken among 12 images: 05.png \(not an image that Pillow can read\); 07.png \(.*\)\. Remove or replace them",
        tmp_path,
    )


def test_depths_are_not_mixed(tmp_path):
    grey(tmp_path / "a.png")
    Image.fromarray(np.zeros((2, 3), dtype=np.uint16)).save(tmp_path / "b.png")
    refused("mixes bit depths: b.png is uint16, a.png is uint8", tmp_path)


def png_bytes() -> bytes:
    stream = io.BytesIO()
    Image.new("L", (2, 2)).save(stream, format="png")
    return stream.getvalue()


def test_parquet_files(tmp_path):
    path = tmp_path / "p.parquet"
    path.write_bytes(b"not parquet at all, but long enough")
    refused("p.parquet is not a Parquet file", path)
    good = {"bytes": png_bytes(), "path": None}
    pd.DataFrame({"audio": [{"bytes": b"RIFF....WAVE", "path": None}] * 9}).to_parquet(path)
    refused("column 'audio' of .* does not hold sounds: row 0", path)
    pd.DataFrame({"image": [good, {"bytes": None, "path": None}, good]}).to_parquet(path)
    refused(r"has 1 broken among 3 images: row 1 \(missing\)", path)
    pd.DataFrame({"left": [good, good], "right": [good, good]}).to_parquet(path)
    refused("has 2 columns of bytes, 'left', 'right'; choose one with columns='left'", path)
    refused("there is no column 'middle'", path, columns="middle")
    refused("images and sounds cannot be combined with other columns", path, columns=["left", "right"])


def test_numpy_files(tmp_path):
    np.save(tmp_path / "o.npy", np.array([{}, {}], dtype=object), allow_pickle=True)
    refused("o.npy holds Python objects", tmp_path / "o.npy")
    (tmp_path / "cut.npy").write_bytes(b"")
    refused("cut.npy cannot be read as a NumPy file", tmp_path / "cut.npy")
    np.savez(tmp_path / "two.npz", x=np.eye(3), y=np.eye(3))
    refused("holds the arrays 'x', 'y'; choose one of them with columns='x'", tmp_path / "two.npz")
    refused("there is no column 'w' in .*two.npz", tmp_path / "two.npz", columns="w")


def test_csv_files(tmp_path):
    (tmp_path / "e.csv").write_text("")
    refused("e.csv is empty", tmp_path / "e.csv")
    (tmp_path / "ragged.csv").write_text("a,b\n1,2\n3,4,5,6\n")
    refused("ragged.csv is not a regular table", tmp_path / "ragged.csv")
    (tmp_path / "gap.csv").write_text("a,b\n1,2\n,4\n3,\n")
    refused("gap.csv contains 2 NaN, the first at row 1, column 'a'", tmp_path / "gap.csv", kind="vectors")
