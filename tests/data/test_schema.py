import json

import numpy as np
import pandas as pd
import pytest
import torch

from pushforward.data import Schema, clean_values


def ramp(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return (np.arange(np.prod(shape)) % 251).reshape(shape).astype(dtype)


ARRAYS = {
    "grey": (ramp((4, 5, 3)), (1, 5, 3)),
    "rgb": (ramp((4, 5, 6, 3)), (3, 5, 6)),
    "five channels": (ramp((4, 5, 6, 5), "float32"), (5, 5, 6)),
    "one channel": (ramp((4, 5, 6, 1), "uint16"), (1, 5, 6)),
    "bits": (ramp((4, 5, 3)) % 2 == 0, (1, 5, 3)),
    "vectors": (ramp((4, 7), "float64"), (7,)),
    "half": (ramp((4, 7), "float16"), (7,)),
    "counts": (ramp((4, 7), "int64"), (7,)),
    "other byte order": (ramp((4, 7), ">f4"), (7,)),
    "integers of other byte order": (ramp((4, 5, 3), ">i2"), (1, 5, 3)),
}


@pytest.mark.parametrize("name", list(ARRAYS))
def test_arrays_go_in_and_come_back_unchanged(name):
    array, internal = ARRAYS[name]
    schema = Schema.infer(array)
    rows = schema.to_internal(array)
    assert tuple(rows.shape) == (4, *internal)
    assert schema.internal_shape == internal
    back = schema.to_user(rows)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(4, 3, 5, 6), (4, 7)])
def test_tensors_go_in_and_come_back_unchanged(shape, dtype):
    tensor = torch.from_numpy(ramp(shape) % 128).to(dtype)
    schema = Schema.infer(tensor)
    rows = schema.to_internal(tensor)
    assert tuple(rows.shape) == shape
    back = schema.to_user(rows)
    assert back.dtype == dtype
    assert torch.equal(back, tensor)


def test_channels_stand_where_the_container_has_them():
    array = ramp((2, 4, 5, 3))
    rows = Schema.infer(array).to_internal(array)
    # Independent truth: one value followed by hand.
    assert float(rows[1, 2, 3, 4]) == array[1, 3, 4, 2]
    tensor = torch.from_numpy(array.transpose(0, 3, 1, 2).copy())
    assert torch.equal(Schema.infer(tensor).to_internal(tensor), rows)
    # A model trained on arrays takes tensors in the layout of tensors.
    assert torch.equal(Schema.infer(array).to_internal(tensor), rows)


def test_kinds_follow_shape_and_dtype():
    assert Schema.infer(ramp((3, 4), "float32")).kind == "vectors"
    assert Schema.infer(ramp((3, 4, 4))).kind == "images"
    assert Schema.infer(ramp((3, 4, 4, 2), "float32")).kind == "images"
    for array in (ramp((3, 4, 4), "float32"), ramp((3, 2, 2, 2, 2))):
        with pytest.raises(ValueError, match="are ambiguous: set .*kind='vectors'"):
            Schema.infer(array)
    assert Schema.infer(ramp((3, 4, 4), "float32"), "images").internal_shape == (1, 4, 4)


def test_rows_of_more_dimensions_are_flattened_and_restored():
    array = ramp((3, 2, 4, 5), "float32")
    schema = Schema.infer(array, "vectors")
    rows = schema.to_internal(array)
    assert rows.shape == (3, 40)
    np.testing.assert_array_equal(schema.to_user(rows), array)


def test_wrong_kinds_are_refused():
    with pytest.raises(ValueError, match=r"kind='images' needs 3 or 4 dimensions, .* but the shape is \(3, 4\)"):
        Schema.infer(ramp((3, 4)), "images")
    with pytest.raises(ValueError, match="a DataFrame has no height and width"):
        Schema.infer(pd.DataFrame({"a": [1, 2]}), "images")
    with pytest.raises(ValueError, match="kind must be 'images', 'vectors', 'sets', 'signals', 'tables', 'tokens' or None"):
        Schema.infer(ramp((3, 4)), "meshes")


def frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": np.array([30, 40, 55], dtype="int64"),
            "height": [1.5, 1.75, 2.0],
            "member": [True, False, True],
            "small": np.array([1.5, 2.5, 3.5], dtype="float32"),
            "children": pd.array([1, 2, 0], dtype="Int64"),
            "score": pd.array([0.5, 0.25, 0.125], dtype="Float64"),
            7: np.array([1, 2, 3], dtype="uint8"),
        }
    )


def test_frames_come_back_with_names_and_dtypes():
    schema = Schema.infer(frame())
    assert schema.integer == (True, False, True, False, True, False, True)
    rows = schema.to_internal(frame())
    assert rows.dtype == torch.float64
    pd.testing.assert_frame_equal(schema.to_user(rows), frame())
    assert list(schema.to_user(rows[:0]).columns) == list(frame().columns)


def test_frames_of_another_order_or_names_are_refused_in_the_words_of_scikit_learn():
    schema = Schema.infer(frame())
    columns = list(frame().columns)
    with pytest.raises(
        ValueError, match=r"should match those that were passed during fit\.\nFeature names must be in the same order"
    ):
        schema.to_internal(frame()[columns[::-1]])
    with pytest.raises(
        ValueError, match=r"unseen at fit time:\n- years\nFeature names seen at fit time, yet now missing:\n- age\n"
    ):
        schema.to_internal(frame().rename(columns={"age": "years"}))
    # Arrays have no names to disagree.
    assert schema.to_internal(frame().to_numpy(dtype=float)).shape == (3, 7)


def test_new_data_of_another_size_are_refused():
    with pytest.raises(ValueError, match="X has 1 features, but Diffusion is expecting 7 features as input"):
        Schema.infer(ramp((4, 7))).to_internal(ramp((4, 1)), name="Diffusion")
    with pytest.raises(
        ValueError, match="X holds images of 6×5 with 1 channel, but GMM was trained on images of 5×5 with 3 channels"
    ):
        Schema.infer(ramp((4, 5, 5, 3))).to_internal(ramp((4, 6, 5)), name="GMM")


def test_one_channel_may_have_an_axis_or_not():
    schema = Schema.infer(ramp((4, 5, 6)))
    assert torch.equal(schema.to_internal(ramp((4, 5, 6, 1))), schema.to_internal(ramp((4, 5, 6))))
    # Integers given as floats are the same numbers.
    assert torch.equal(schema.to_internal(ramp((4, 5, 6), "float32")), schema.to_internal(ramp((4, 5, 6))))


@pytest.mark.parametrize("value", [ramp((4, 5, 3)), torch.zeros(2, 3, 4, 4), frame(), ramp((3, 2, 2, 2), "float32")])
def test_json_round_trip(value):
    schema = Schema.infer(value)
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


def test_integers_are_rounded_and_kept_within_their_dtype():
    schema = Schema.infer(ramp((2, 3)))
    assert schema.to_user(torch.tensor([[-4.0, 2.6, 300.0]])).tolist() == [[0, 3, 255]]
    wide = Schema.infer(np.array([[1], [2]], dtype="int64"))
    assert int(wide.to_user(torch.tensor([[1e30]], dtype=torch.float64))[0, 0]) > 9.2e18
    with pytest.raises(ValueError, match="1 values are NaN or infinite and have no integer value"):
        schema.to_user(torch.tensor([[1.0, float("nan"), 2.0]]))


def test_rows_of_another_shape_are_not_returned():
    with pytest.raises(ValueError, match=r"rows have shape \(3,\), but this schema expects \(1, 5, 3\)"):
        Schema.infer(ramp((4, 5, 3))).to_user(torch.zeros(2, 3))


def test_float32_only_where_it_is_exact():
    big = np.array([[2**24 + 1], [2**31]], dtype="int64")
    schema = Schema.infer(big)
    np.testing.assert_array_equal(schema.to_user(schema.to_internal(big)), big)
    assert Schema.infer(ramp((4, 2))).internal_dtype == torch.float32
    assert Schema.infer(ramp((4, 2), "float64")).internal_dtype == torch.float64


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (8, 1, 28, 28)])
def test_a_layout_that_looks_swapped_is_pointed_out(shape):
    with pytest.warns(UserWarning, match="read channels last, as images of"):
        Schema.infer(ramp(shape))
    with pytest.warns(UserWarning, match="read channels first, as images of"):
        Schema.infer(torch.from_numpy(ramp((8, *shape[2:], shape[1]))))


def test_the_users_data_are_not_written_to_and_read_only_memory_is_fine(tmp_path):
    np.save(tmp_path / "x.npy", ramp((4, 3), "float32"))
    array = np.load(tmp_path / "x.npy", mmap_mode="r")
    rows = Schema.infer(array).to_internal(array)
    rows += 1
    np.testing.assert_array_equal(array, ramp((4, 3), "float32"))


def test_own_memory_is_not_shared_with_the_users():
    array = ramp((4, 3), "float32")
    tensor = torch.from_numpy(array.copy())
    for values in (array, tensor):
        rows = Schema.infer(values).to_internal(values)
        rows += 1
    np.testing.assert_array_equal(array, ramp((4, 3), "float32"))
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_lists_and_objects_of_numbers_are_arrays():
    assert clean_values([[1, 2], [3, 4]]).dtype.kind == "i"
    assert clean_values(np.array([[1, 2.5]], dtype=object)).tolist() == [[1.0, 2.5]]
    assert Schema.infer(clean_values(pd.DataFrame({"a": np.array([1, 2.5], dtype=object)}))).dtypes == ("float64",)
