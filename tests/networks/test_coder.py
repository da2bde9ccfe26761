"""Encoders and decoders: shapes, conditions, the affine limit, and that rows do not mix."""

import pytest
import torch
from thin import thinned

import pushforward as pf
from pushforward.networks.coder import ImageDecoder, ImageEncoder

SHAPES = [(1,), (5,), (1, 8, 8), (3, 9, 20), (2, 1, 7), (1, 28, 28)]


@thinned(depth=[0, 1, 2], shape=SHAPES, condition_dim=[0, 3], dense=[False, True])
def test_there_and_back_have_the_shapes_asked_for(shape, depth, condition_dim, dense):
    spec = pf.CoderSpec(width=4, depth=depth, dense=dense)
    x = torch.rand(3, *shape)
    condition = torch.rand(3, condition_dim) if condition_dim else None
    z = spec.encoder(shape, 6, condition_dim)(x, condition)
    assert z.shape == (3, 6)
    assert spec.decoder(6, shape, condition_dim)(z, condition).shape == (3, *shape)


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_condition_of_zeros_is_no_condition_and_others_count(shape, depth):
    torch.manual_seed(0)
    spec = pf.CoderSpec(width=4, depth=depth)
    for network, row in ((spec.encoder(shape, 2, 3), torch.rand(4, *shape)), (spec.decoder(2, shape, 3), torch.rand(4, 2))):
        torch.testing.assert_close(network(row, torch.zeros(4, 3)), network(row, None))
        assert (network(row, torch.ones(4, 3)) - network(row, None)).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
@pytest.mark.parametrize("depth", [0, 1])
def test_a_condition_that_the_network_was_not_built_for_is_refused(shape, depth):
    spec = pf.CoderSpec(width=4, depth=depth)
    with pytest.raises(ValueError, match=r"built with condition_dim=0.*build it with condition_dim=3"):
        spec.encoder(shape, 2)(torch.rand(4, *shape), torch.ones(4, 3))


@pytest.mark.parametrize("shape", [(5,), (2, 9, 8)])
@pytest.mark.parametrize("dense", [False, True])
def test_rows_do_not_mix(shape, dense):
    torch.manual_seed(0)
    spec = pf.CoderSpec(width=4, depth=1, dense=dense)
    encoder, decoder = (network.double() for network in (spec.encoder(shape, 2), spec.decoder(2, shape)))
    x = torch.rand(6, *shape, dtype=torch.float64)
    z = encoder(x)
    torch.testing.assert_close(encoder(x[2:4]), z[2:4], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(decoder(z[2:4]), decoder(z)[2:4], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (2, 3, 3)])
def test_depth_0_is_affine(shape):
    torch.manual_seed(0)
    encoder = pf.CoderSpec(depth=0).encoder(shape, 3, 2).double()
    x, y = torch.randn(2, 5, *shape, dtype=torch.float64)
    c, d = torch.randn(2, 5, 2, dtype=torch.float64)
    middle = encoder((x + y) / 2, (c + d) / 2)
    torch.testing.assert_close(middle, (encoder(x, c) + encoder(y, d)) / 2)
    assert (encoder(x, c) - encoder(y, c)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("size", "cells"), [((8, 8), (4, 4)), ((28, 28), (4, 4)), ((3, 40), (1, 3)), ((4, 4), (4, 4)), ((17, 17), (3, 3))]
)
def test_images_are_halved_until_no_side_has_more_than_four_cells(size, cells):
    encoder = ImageEncoder((1, *size), 2, 0, width=2, depth=1)
    grid = encoder.grid(torch.rand(1, 1, *size))
    assert tuple(grid.shape[2:]) == cells
    decoder = ImageDecoder(2, (1, *size), 0, width=2, depth=1)
    assert decoder.from_grid(grid).shape == (1, 1, *size)


def test_every_pixel_is_seen_and_every_pixel_is_made():
    torch.manual_seed(0)
    spec = pf.CoderSpec(width=4, depth=1)
    x = torch.rand(1, 1, 9, 18, requires_grad=True)
    spec.encoder((1, 9, 18), 3)(x).sum().backward()
    assert (x.grad != 0).all()
    decoder = spec.decoder(3, (1, 9, 18))
    z = torch.rand(2, 3)
    assert (decoder(z)[0] != decoder(z)[1]).all()


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"width must be an int from 1 to 65536, got 0"):
        pf.CoderSpec(width=0)
    with pytest.raises(TypeError, match=r"depth must be an int, got 1.5"):
        pf.CoderSpec(depth=1.5)
    with pytest.raises(TypeError, match=r"dense must be True or False, got 'yes'"):
        pf.CoderSpec(dense="yes")
    with pytest.raises(TypeError, match=r"depth must be an int, got True"):
        pf.CoderSpec(depth=True)
    with pytest.raises(ValueError, match=r"vectors \(D,\) or images \(C, H, W\)"):
        pf.CoderSpec().encoder((2, 2), 1)
    with pytest.raises(ValueError, match=r"vectors \(D,\) or images \(C, H, W\)"):
        pf.CoderSpec().decoder(1, (0,))
