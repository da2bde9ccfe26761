"""The codebook against a search by hand, how it learns, and what importing the library behind it leaves alone."""

import numpy as np
import pytest
import torch

from pushforward.networks.quantizer import Quantizer


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def codebook(quantizer):
    return quantizer.vectors(torch.arange(quantizer.size)).numpy()


def state(quantizer):
    return {name: value.clone() for name, value in quantizer.state_dict().items()}


def quantizer_of(size, width, *, least=0.0, seed=0):
    torch.manual_seed(seed)
    return Quantizer(size, width, least=least)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_nearest_code_by_angle_is_taken(dtype):
    quantizer, z = quantizer_of(7, 3).eval().to(dtype), torch.randn(40, 5, 3, dtype=dtype)
    before = state(quantizer)
    vectors, codes = quantizer(z)
    book = codebook(quantizer)
    np.testing.assert_allclose(np.linalg.norm(book, axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(codes.numpy(), (z.numpy() @ book.T).argmax(-1))
    np.testing.assert_allclose(vectors.numpy(), book[codes.numpy()], atol=1e-6)
    assert len(np.unique(codes)) == 7
    assert vectors.dtype == dtype
    assert all(torch.equal(value, before[name]) for name, value in quantizer.state_dict().items())


def test_codes_follow_the_mean_of_their_vectors_and_no_gradient():
    """After a step a code lies along 0.9 (sum so far) + 0.1 (sum of its vectors), here from a sum of the code itself."""
    quantizer, z = quantizer_of(4, 3), torch.randn(60, 2, 3)
    before = codebook(quantizer)
    _, codes = quantizer.train()(z)
    sums = np.stack([unit(z.numpy())[codes.numpy() == k].sum(0) for k in range(4)])
    np.testing.assert_allclose(codebook(quantizer), unit(0.9 * before + 0.1 * sums), atol=1e-5)
    assert not list(quantizer.parameters())


def test_gradients_reach_the_vectors_through_the_rotation_to_their_code():
    """The way back is the transposed map that takes z / |z| to its code, times what normalizing does to lengths."""
    quantizer, z = quantizer_of(5, 3).train(), torch.randn(1, 1, 3, requires_grad=True)
    book = codebook(quantizer)
    vectors, codes = quantizer(z)
    weight = torch.randn(3)
    (vectors[0, 0] @ weight).backward()
    u, e = unit(z[0, 0].detach().numpy().astype(float)), book[codes[0, 0]].astype(float)
    w = unit(u + e)
    rotation = np.eye(3) - 2 * np.outer(w, w) + 2 * np.outer(e, u)
    np.testing.assert_allclose(rotation @ u, e, atol=1e-6)
    jacobian = rotation @ (np.eye(3) - np.outer(u, u)) / np.linalg.norm(z[0, 0].detach().numpy())
    np.testing.assert_allclose(z.grad[0, 0].numpy(), weight.numpy() @ jacobian, atol=1e-5)


def test_a_code_that_nothing_is_near_to_is_put_where_vectors_are():
    around = torch.tensor([1.0, 0.0]) + 0.05 * torch.randn(300, 2)
    for least, moved in ((0.0, False), (1.0, True)):
        quantizer = quantizer_of(2, 2, least=least, seed=1).train()
        quantizer.codebook.codebook = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
        quantizer.codebook._codebook.embed_avg.copy_(quantizer.codebook._codebook.embed)
        for _ in range(5):
            quantizer(around[:, None])
        assert (codebook(quantizer)[:, 0] > 0.9).all() == moved


def test_all_buffers_can_be_copied_into_after_a_step():
    quantizer = quantizer_of(4, 3).train()
    quantizer(torch.randn(5, 2, 3, requires_grad=True))
    assert not any(buffer.requires_grad for buffer in quantizer.buffers())


FRESH = """
import random, sys
import numpy as np, torch
import pushforward.networks.quantizer
print("vector_quantize_pytorch" in sys.modules)
facts = lambda: (
    torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate(), torch.is_grad_enabled(),
    torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
    torch.distributions.Distribution._validate_args, sys.excepthook is sys.__excepthook__, np.geterr(),
)
before = facts()
import vector_quantize_pytorch
print(facts() == before)
"""
