import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save
from torch import Tensor

from pushforward.data import Transform
from pushforward.probability import noise


def floats(n: int = 40, shape: tuple[int, ...] = (3,), seed: int = 0) -> Tensor:
    return noise.normal(shape, seed=seed, purpose="test", rows=n, dtype=torch.float64)


def integers(n: int, shape: tuple[int, ...], top: int, seed: int = 0) -> Tensor:
    return (noise.uniform(shape, seed=seed, purpose="test", rows=n, dtype=torch.float64) * (top + 1)).floor()


def vectors_with_everything() -> Tensor:
    """Columns: float, constant float, integer, constant integer, float with a large offset."""
    x = floats(50, (5,))
    return torch.stack((x[:, 0], x[:, 1] * 0 + 2.5, (x[:, 2] * 7).floor(), x[:, 3] * 0 + 4, 1e4 + 1e-2 * x[:, 4]), 1)


WHOLE = [False, False, True, True, False]


def images_with_constants(integer: bool) -> Tensor:
    x = integers(30, (2, 4, 3), 16) if integer else floats(30, (2, 4, 3))
    x[:, :, 0, :] = 5.0
    x[:, 1, 2, 1] = 3.0
    return x


@pytest.mark.parametrize("integer", [False, True])
def test_images_come_back_exactly(integer):
    x = images_with_constants(integer)
    transform = Transform.fit(x, integer=integer, kind="images")
    assert transform.shape == (2, 4, 3)
    assert transform.constants == 7
    torch.testing.assert_close(transform.inverse(transform.forward(x)), x, rtol=0, atol=1e-12)


def test_vectors_come_back_exactly_and_constants_leave_z():
    x = vectors_with_everything()
    transform = Transform.fit(x, integer=WHOLE, kind="vectors")
    z = transform.forward(x)
    assert z.shape == (50, 3)
    assert transform.shape == (3,)
    torch.testing.assert_close(transform.inverse(z), x, rtol=1e-15, atol=1e-12)
    assert torch.equal(transform.inverse(torch.zeros(4, 3))[:, [1, 3]], x[:4, [1, 3]].to(x.dtype))


def test_statistics_of_standardized_columns_count_the_dequantization():
    x = vectors_with_everything()
    transform = Transform.fit(x, integer=WHOLE, kind="vectors")
    z = transform.forward(x)
    width = transform.dequantization
    # E and Var of z + width u by the law of u, not by drawing.
    torch.testing.assert_close(z.mean(0) + width / 2, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-9)
    torch.testing.assert_close(z.var(0, correction=0) + width**2 / 12, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)
    assert (width > 0).tolist() == [False, True, False]


def test_integer_images_fill_minus_one_to_one():
    x = integers(200, (2, 3, 3), 16)
    x[:, 1] = 2 * x[:, 1] + 10
    transform = Transform.fit(x, integer=True, kind="images")
    z = transform.forward(x)
    assert z.amin((0, 2, 3)).tolist() == [-1.0, -1.0]
    # The upper edge of the highest integer's interval is 1.
    edge = (z + transform.dequantization).amax((0, 2, 3))
    torch.testing.assert_close(edge, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-15)


def test_float_images_fill_minus_one_to_one_without_dequantization():
    x = floats(20, (3, 4, 4)) * torch.tensor([1.0, 100.0, 1e-3]).reshape(3, 1, 1)
    transform = Transform.fit(x, integer=False, kind="images")
    z = transform.forward(x)
    torch.testing.assert_close(z.amin((0, 2, 3)), -torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)
    torch.testing.assert_close(z.amax((0, 2, 3)), torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-14)
    assert not transform.dequantization.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_dequantized_integers_round_back_over_the_whole_interval(kind, dtype):
    x = integers(300, (6,) if kind == "vectors" else (1, 2, 3), 255)
    x[:, ..., 0] *= 200 if kind == "vectors" else 1
    transform = Transform.fit(x, integer=True, kind=kind)
    z = transform.forward(x).to(dtype)
    for u in (0.0, 0.01, 0.5, 0.98):
        assert torch.equal(transform.inverse(z + (u * transform.dequantization).to(dtype)), x), u


def test_integers_stay_within_the_seen_range():
    x = integers(100, (2,), 9) + torch.tensor([0.0, 20.0])
    transform = Transform.fit(x, integer=True, kind="vectors")
    far = transform.inverse(torch.tensor([[-50.0, -50.0], [50.0, 50.0]]))
    assert far.tolist() == [[0.0, 20.0], [9.0, 29.0]]


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_log_det_is_that_of_the_jacobian(kind):
    x = vectors_with_everything() if kind == "vectors" else images_with_constants(False)
    transform = Transform.fit(x, integer=False, kind=kind)
    varies = ~transform.constant

    def moving(part: Tensor) -> Tensor:
        """Map the elements that vary to the elements of z that vary, the others held fixed."""
        row = torch.where(varies, torch.zeros_like(x[0]).masked_scatter(varies, part), x[0])
        z = transform.forward(row.unsqueeze(0))[0]
        return z if kind == "vectors" else z[varies]

    jacobian = torch.autograd.functional.jacobian(moving, x[1][varies])
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert math.isclose(transform.log_det, float(expected), rel_tol=1e-12)


def test_density_in_data_units_integrates_to_one():
    x = floats(500, (1,)) * 3 + 2
    transform = Transform.fit(x, integer=False, kind="vectors")
    grid = torch.linspace(-40, 40, 8001, dtype=torch.float64).unsqueeze(1)
    log_normal = -0.5 * transform.forward(grid)[:, 0] ** 2 - 0.5 * math.log(2 * math.pi)
    assert math.isclose(float(torch.trapezoid((log_normal + transform.log_det).exp(), grid[:, 0])), 1.0, abs_tol=1e-10)


@pytest.mark.parametrize("kind", ["vectors", "images"])
def test_state_survives_json_and_safetensors_bit_for_bit(kind):
    x = vectors_with_everything().float() if kind == "vectors" else images_with_constants(True).float()
    transform = Transform.fit(x, integer=WHOLE if kind == "vectors" else True, kind=kind)
    facts, tensors = transform.state()
    again = Transform.from_state(json.loads(json.dumps(facts)), load(save(tensors)))
    z = transform.forward(x)
    assert torch.equal(again.forward(x), z)
    assert torch.equal(again.inverse(z), transform.inverse(z))
    assert again.inverse(z).dtype == torch.float32
    assert torch.equal(again.dequantization, transform.dequantization)
    assert again.log_det == transform.log_det


def test_constant_pixels_ignore_what_new_data_hold_there():
    x = images_with_constants(True)
    transform = Transform.fit(x, integer=True, kind="images")
    other = x.clone()
    other[:, :, 0, :] = 0.0
    assert torch.equal(transform.forward(other), transform.forward(x))
    assert torch.equal(transform.inverse(torch.full_like(x, 0.3))[:, :, 0, :], x[:, :, 0, :])
    assert not transform.dequantization[transform.constant].any()


def test_a_channel_that_never_changes():
    x = floats(10, (2, 3, 3))
    x[:, 1] = 255.0
    transform = Transform.fit(x, integer=False, kind="images")
    z = transform.forward(x)
    assert bool(z.isfinite().all())
    assert torch.equal(transform.inverse(z)[:, 1], x[:, 1])
    assert math.isclose(transform.log_det, -9 * math.log(float(x[:, 0].max() - x[:, 0].min()) / 2), rel_tol=1e-12)


def test_constant_data_are_refused():
    with pytest.raises(ValueError, match="X is constant: all 5 rows are the same"):
        Transform.fit(torch.ones(5, 3), integer=False, kind="vectors")


def test_numbers_beyond_float64_are_refused():
    x = torch.tensor([[-1.7e308], [1.7e308]], dtype=torch.float64)
    with pytest.raises(ValueError, match="too large or too close"):
        Transform.fit(x, integer=False, kind="vectors")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(-1e9, 1e9, allow_subnormal=False), min_size=2, max_size=30),
    st.floats(1e-6, 1e6),
)
def test_round_trip_of_any_floats(values, unit):
    x = torch.tensor(np.array(values) * unit).unsqueeze(1)
    if float(x.max() - x.min()) <= max(1e-9 * float(x.abs().max()), 1e-300):
        return
    transform = Transform.fit(x, integer=False, kind="vectors")
    error = (transform.inverse(transform.forward(x)) - x).abs().max()
    assert float(error) <= 1e-14 * float(x.abs().max()) * 4


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(-(2**31), 2**31), min_size=2, max_size=30, unique=True))
def test_round_trip_of_any_integers(values):
    x = torch.tensor(values, dtype=torch.float64).unsqueeze(1)
    transform = Transform.fit(x, integer=True, kind="vectors")
    assert torch.equal(transform.inverse(transform.forward(x)), x)
