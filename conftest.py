"""Fixtures of the whole suite: no test may depend on, or disturb, a global random state."""

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _seeded(doctest_namespace):
    """Seed the global generators, so that doctests and tests that draw repeat exactly."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np
