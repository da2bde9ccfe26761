"""Fixtures of the whole suite: no test may depend on, or disturb, a global random state."""

import gc

import numpy as np
import pytest
import torch
from hypothesis import settings

# Tests of properties name no number of examples, so that `.ci/full` can run them with many: --hypothesis-profile=fuzz.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None)
settings.load_profile("quick")


def pytest_collection_finish() -> None:
    """Keep what collection made out of every later garbage collection, which measurements of memory ask for."""
    gc.freeze()


@pytest.fixture(autouse=True)
def _seeded(doctest_namespace):
    """Seed the global generators, so that doctests and tests that draw repeat exactly."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    doctest_namespace["torch"] = torch
    doctest_namespace["np"] = np
