"""Pages whose code is held to more than that it runs."""

import importlib
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from check_model import check_model
from sklearn.utils.estimator_checks import check_estimator
from thin import thinned

import pushforward as pf
from pushforward.models import register

GUIDES = Path(__file__).parents[2] / "docs/guides"


@pytest.mark.full  # ten seconds; the tests of interop call the same functions
def test_the_page_on_pretrained_models_runs(tmp_path, monkeypatch):
    """The site is built without diffusers, so its blocks run here."""
    page = GUIDES / "pretrained.md"
    pytest.importorskip("diffusers")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 8
    names = {}
    for block in blocks:
        # A thousand steps are tested elsewhere against the pipeline's own.
        exec(compile(block.replace("steps=1000", "steps=20"), page.name, "exec"), names)
    assert names["x"].shape == names["filled"].shape == (2, 1, 8, 8)
    assert np.isfinite(names["result"].values).all()
    assert names["x_t"].shape == (4, 1, 8, 8)
    assert 0.1 < names["x_t"].std() < 3
    assert names["images"].shape[:3] == (2, 8, 8)


@pytest.fixture
def affine_flow(monkeypatch, tmp_path_factory):
    """The family that the page on adding one builds, as a file of one's own, registered for the time of a test."""
    text = (GUIDES / "add-a-family.md").read_text(encoding="utf-8")
    folder = tmp_path_factory.mktemp("own")
    (folder / "affine.py").write_text(re.findall(r"^```python[^\n]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[0])
    monkeypatch.setattr("pushforward.models.files.registry._added", {})
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "affine", raising=False)
    return importlib.import_module("affine").AffineFlow


@thinned(together=1, kind=["vectors", "images"], condition=[None, "labels", "vectors"])
def test_the_family_of_the_page_keeps_the_contract(affine_flow, kind, condition, tmp_path):
    numbers = np.random.default_rng(0)
    X = numbers.normal(size=(60, 3)) if kind == "vectors" else numbers.integers(0, 9, (60, 4, 4)).astype(np.uint8)
    given = {None: None, "labels": np.arange(60) % 3, "vectors": numbers.normal(size=(60, 2))}[condition]
    settings = pf.TrainingSettings(steps=6, batch_size=16, learning_rate=0.02)

    def make():
        return affine_flow(training=settings, random_state=0, device="cpu")

    check_model(make, X, given, verbs={"score_samples", "score", "log_prob"}, folder=tmp_path)


@pytest.mark.full  # what the contract's tests check of families on the same base
def test_the_family_of_the_page_is_a_scikit_learn_estimator(affine_flow):
    check_estimator(affine_flow(train_steps=5, random_state=0, device="cpu"), on_skip=None)


def test_the_family_of_the_page_learns_the_mean_and_spread_of_each_label(affine_flow):
    numbers = np.random.default_rng(1)
    label = numbers.integers(0, 2, 3000)
    X = numbers.normal(np.where(label, 3.0, -1.0)[:, None], [0.5, 2.0], size=(3000, 2))
    model = affine_flow(train_steps=800, condition_dropout=0.0, random_state=0, device="cpu").fit(X, condition=label)
    rows = model.sample(4000, condition=1, seed=0)
    np.testing.assert_allclose(rows.mean(0), [3.0, 3.0], atol=0.25)
    np.testing.assert_allclose(rows.std(0), [0.5, 2.0], rtol=0.1)
    exact = -np.log([0.5, 2.0]).sum() - np.log(2 * np.pi) - 1
    assert model.score(X, condition=label) == pytest.approx(exact, abs=0.08)


def test_a_family_of_ones_own_has_a_name_of_its_own(affine_flow):
    assert register(affine_flow) is affine_flow
    with pytest.raises(TypeError, match="register takes a subclass of GenerativeModel, not <class 'int'>"):
        register(int)
    with pytest.raises(
        ValueError, match=r"a family VAE already exists, pushforward\.models\.autoencoders\.vae\.VAE; rename yours"
    ):
        register(type("VAE", (affine_flow,), {}))
