"""The specifications: what they accept, what they say when they do not, and what suits which data."""

import dataclasses

import pytest

from pushforward.networks import MLPSpec, NetworkSpec, UNetSpec, default_spec


@pytest.mark.parametrize("kind", [MLPSpec, UNetSpec])
def test_every_parameter_names_itself_when_out_of_range(kind):
    for field in dataclasses.fields(kind):
        for wrong in (-1, 10**9) if field.name == "middle" else (0, -1, 10**9):
            with pytest.raises(ValueError, match=f"^{field.name} must be .* got {wrong}$"):
                kind(**{field.name: wrong})
        for wrong in (2.0, "2", None, True):
            with pytest.raises(TypeError, match=f"^{field.name} must be an int"):
                kind(**{field.name: wrong})


@pytest.mark.parametrize("kind", [MLPSpec, UNetSpec])
def test_odd_width_is_refused(kind):
    with pytest.raises(ValueError, match="width must be an even int"):
        kind(width=33)


@pytest.mark.parametrize("shape", [(), (0,), (2, 3), (1, 0, 3), (1, 2, 3, 4)])
def test_mlp_takes_vectors_and_images_only(shape):
    with pytest.raises(ValueError, match="shape: MLPSpec"):
        MLPSpec().build(shape, 0)


@pytest.mark.parametrize("shape", [(8,), (8, 8), (0, 8, 8), (1, 2, 8, 8)])
def test_unet_takes_images_only(shape):
    with pytest.raises(ValueError, match="shape: UNetSpec"):
        UNetSpec().build(shape, 0)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 8), (1, 2, 3, 4)])
def test_default_refuses_what_is_neither_vector_nor_plot(shape):
    with pytest.raises(ValueError, match="shape: rows are vectors"):
        default_spec(shape)


def test_negative_condition_length_is_refused():
    with pytest.raises(ValueError, match="condition_dim must be"):
        MLPSpec().build((2,), -1)


def test_specs_are_frozen_and_satisfy_the_protocol():
    for spec in (MLPSpec(), UNetSpec()):
        assert isinstance(spec, NetworkSpec)
        with pytest.raises(dataclasses.FrozenInstanceError):
            spec.width = 2


@pytest.mark.parametrize("side", [1, 2, 7, 8, 15, 16, 28, 32, 33, 64, 65, 128])
@pytest.mark.parametrize("other", [1, 3, 8, 28, 64, 200])
def test_default_unet_never_pads_a_side_to_more_than_double(side, other):
    spec = default_spec((1, side, other))
    cell = spec.patch * 2 ** (spec.levels - 1)
    for length in (side, other):
        assert length + -length % cell <= 2 * length
