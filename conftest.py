"""Fixtures of the whole suite: no test may depend on, or disturb, a global random state; and what makes short runs short."""

import functools
import gc
import importlib
import os
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from blank import RENDER, blank_figures, of_run
from hypothesis import settings
from matplotlib.figure import Figure
from PIL import Image

from pushforward.data.kinds import images, vectors
from pushforward.data.space import RowSpace
from pushforward.diffusion import likelihood
from pushforward.metrics import classifier
from pushforward.metrics.mixed import trees
from pushforward.models.base import model
from pushforward.models.denoising import map_training

# Tests of properties name no number of examples, so that `.ci/full` can run them with many: --hypothesis-profile=fuzz.
settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("fuzz", max_examples=2000, deadline=None)
settings.load_profile("quick")

last_step = importlib.import_module("pushforward.diffusion.last_step")  # the module, not its function of the same name
COARSE = (
    (likelihood, "_DOUBLINGS", 0),
    (map_training, "_EXACT_STEPS", 2),
    (last_step, "_ITERATIONS", 4),
    (last_step, "_KRYLOV", 4),
)
FINE = [getattr(module, name) for module, name, _ in COARSE]
BOOSTED = [
    (module, name, getattr(module, name))
    for module in (classifier, trees)
    for name in ("HistGradientBoostingClassifier", "HistGradientBoostingRegressor")
    if hasattr(module, name)
]


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


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """Skip fsync, which matters to power cuts alone: a killed process loses nothing that it has written."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


PLOT = model.GenerativeModel._plot


def _blank_plot(self, prepared):
    """Draw the samples of a plot but, of vectors and images, not the plot."""
    if self.space_.schema.kind not in ("vectors", "images"):
        return PLOT(self, prepared)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RowSpace, "draw", lambda *_, **__: Image.new("RGB", (1, 1)))
        return PLOT(self, prepared)


@pytest.fixture(scope="session", autouse=True)
def _plots_of_runs_are_blank() -> Iterator[None]:
    """Blank the plots of runs, and draw few samples for them: both take most of a short run's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.GenerativeModel, "_plot", _blank_plot)
        patch.setattr(model, "_PER_CLASS", 1)
        patch.setattr(vectors.Vectors, "drawn_while_training", 30)
        patch.setattr(images.Images, "drawn_while_training", 4)
        yield from blank_figures(of_run)


@pytest.fixture(autouse=True)
def _plots_of_examples_are_blank(request) -> Iterator[None]:
    """Blank all figures of doctests, none of which looks at one."""
    if isinstance(request.node, pytest.DoctestItem):
        yield from blank_figures(lambda _: True)
    else:
        yield


@pytest.fixture
def blank() -> Iterator[None]:
    """Blank all figures, for a test that looks at none."""
    yield from blank_figures(lambda _: True)


@pytest.fixture
def rendered(monkeypatch) -> None:
    """Render all figures, for a test that looks at the plots of a run."""
    monkeypatch.setattr(Figure, "savefig", RENDER)
    monkeypatch.setattr(model.GenerativeModel, "_plot", PLOT)


@pytest.fixture(scope="session", autouse=True)
def _densities_are_not_refined() -> Iterator[None]:
    """Keep densities along the flow at their first number of steps, and at a coarse last step.

    The flow of a network after a few steps of training would always be refined to the end, at sixteen times the work.
    """
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in COARSE:
            patch.setattr(module, name, value)
        yield


@pytest.fixture
def refined(monkeypatch) -> None:
    """Compute densities along the flow as users do."""
    for (module, name, _), value in zip(COARSE, FINE, strict=True):
        monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="session", autouse=True)
def _boosting_is_short() -> Iterator[None]:
    """Train the classifiers of metrics for 20 rounds instead of 100, which take most of the time of an evaluation."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, whole in BOOSTED:
            patch.setattr(module, name, functools.partial(whole, max_iter=20))
        yield


@pytest.fixture
def boosted(monkeypatch) -> None:
    """Train the classifiers of metrics as users do."""
    for module, name, whole in BOOSTED:
        monkeypatch.setattr(module, name, whole)
