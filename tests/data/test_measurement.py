"""Masks as measurements: they are laid out like a row, and one of pixels may stand for all channels."""

import numpy as np
import pytest

from pushforward.data import Schema
from pushforward.data.measurement import measurement
from pushforward.diffusion import Mask

VECTORS, COLOR = Schema.infer(np.zeros((5, 4))), Schema.infer(np.zeros((5, 6, 4, 3), dtype=np.uint8))


def test_a_mask_of_pixels_stands_for_all_channels():
    pixels = np.arange(24).reshape(6, 4) % 2 == 0
    operator, _, _ = measurement(COLOR, Mask(pixels), np.zeros((6, 4, 3)))
    np.testing.assert_array_equal(np.asarray(operator.seen), np.stack([pixels] * 3))


@pytest.mark.parametrize(("schema", "shape"), [(VECTORS, (2, 2)), (COLOR, (3, 6, 4))])
def test_a_mask_of_another_shape_is_refused_although_it_has_as_many_elements(schema, shape):
    with pytest.raises(ValueError, match=r"the mask has shape .*, but a row has shape"):
        measurement(schema, Mask(np.ones(shape, dtype=bool)), np.zeros(shape))
