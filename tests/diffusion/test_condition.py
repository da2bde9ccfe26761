"""Conditions as tensors."""

import torch

from pushforward.diffusion import drop


def test_drop_makes_rows_that_say_nothing():
    condition = torch.tensor([[1.0, 1, 0], [1, 0, 1], [1, 1, 0], [0, 0, 0]], dtype=torch.float64)
    dropped = drop(condition, torch.tensor([True, False, True, True]))
    assert torch.equal(dropped[1], torch.zeros(3, dtype=torch.float64))
    assert torch.equal(dropped[[0, 2, 3]], condition[[0, 2, 3]])
