"""Classifier guidance of models: the classifier learns the exact posterior of the class, guides, and is stored."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest, norm
from torch import nn

import pushforward as pf
from pushforward.data import fit_conditions
from pushforward.diffusion import Denoiser
from pushforward.models.denoising.classifier import ClassifierTask, LabelClassifier
from pushforward.networks.classifier import NoisyClassifier
from pushforward.probability import GaussianMixture
from pushforward.training import Batch, TrainingSettings

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 2, "random_state": 0, "device": "cpu"}
LAW = GaussianMixture([0.5, 0.5], [[1.0, 0.0], [3.0, 0.0]], [0.25, 0.25])
SETTINGS = TrainingSettings(steps=400, batch_size=256, learning_rate=3e-3, ema=0.1)
QUICK = TrainingSettings(steps=3, batch_size=32)


def rows(n):
    """Rows of the mixture and the label of the component that each came from."""
    x = torch.cat([GaussianMixture([1.0], LAW.means[k : k + 1], [0.25]).sample(n // 2, seed=k) for k in (0, 1)])
    order = torch.randperm(n)
    return x[order].numpy(), np.array(["left", "right"])[(order >= n // 2).long().numpy()]


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    X, labels = rows(4000)
    model = pf.FlowMatching(network=pf.MLPSpec(width=48, depth=2), training=SETTINGS, random_state=0, device="cpu").fit(X)
    return model.fit_classifier(X, labels, training=SETTINGS, width=64)


def scaled(model, law):
    shift, scale = model.space_.transform.shift, model.space_.transform.scale
    return GaussianMixture(law.weights, (law.means - shift) / scale, law.covs[:, None] / scale**2)


def test_learns_the_exact_posterior_of_the_class(trained):
    law, schedule = scaled(trained, LAW), trained.schedule_
    assert trained.classifier_.classes == ("left", "right")
    for t in (0.05, 0.4, 0.8):
        t = torch.tensor(t, dtype=torch.float64)
        noised = law.noised(schedule.alpha(t).item(), schedule.sigma(t).item())
        x_t = noised.sample(500, seed=3)
        got = trained.classifier_(x_t.float(), t).softmax(1)
        gap = (got.double() - noised.responsibilities(x_t)).abs()
        assert gap.mean() < 0.03
        assert gap.max() < 0.25
    assert 0.1 < trained.classifier_loss_ < 0.69


def test_guided_samples_are_of_the_class(trained):
    for k, label in enumerate(("left", "right")):
        denoiser = trained.guided_by_classifier(label, 1.0)
        z = trained._draw(denoiser, 1000, None, steps=20, sampler=trained.sampler_, seed=0)
        x = trained.space_.transform.inverse(z).numpy()
        np.testing.assert_allclose(x.mean(0), LAW.means[k], atol=0.15)
        np.testing.assert_allclose(x.std(0), 0.5, atol=0.12)
        assert kstest(x[:, 0], norm(LAW.means[1 - k][0], 0.5).cdf).pvalue < 1e-9


def test_gaps_are_filled_by_the_class(trained):
    """Without a label the first column is of either class, with one of that; the labels of rows with gaps are theirs."""
    gaps = np.full((600, 2), [np.nan, 0.0])
    gaps[::3] = 5.0  # nothing to fill
    labels = np.array(["left", "right"])[(np.arange(600) % 2)]
    filled = trained.impute(gaps, guidance=pf.Guidance(by="classifier"), condition=list(labels), seed=0)
    assert (filled[::3] == 5.0).all()
    asked = np.arange(600) % 3 != 0
    for k, label in enumerate(("left", "right")):
        x = filled[asked & (labels == label), 0]
        np.testing.assert_allclose(x.mean(), LAW.means[k][0], atol=0.2)
        np.testing.assert_allclose(x.std(), 0.5, atol=0.15)
    assert trained.impute(gaps[1:2].repeat(300, 0), seed=0)[:, 0].std() > 0.9


def test_loss_is_the_cross_entropy_of_noisy_rows():
    """Against scikit-free arithmetic; a row without a label adds nothing."""
    width = torch.tensor([0.5, 0.0], dtype=torch.float64)
    denoiser = Denoiser(nn.Identity(), pf.Cosine(), data_std=0.7)
    task = ClassifierTask(LabelClassifier(NoisyClassifier((2,), 3, 8), fit_conditions(list("abc")), denoiser), width)
    draws = tuple(part[0] for part in task.draw(torch.arange(6), 6, torch.tensor([2]), 7))
    u, t, eps = draws
    assert torch.equal((t * 6).floor(), torch.arange(6.0))
    x = torch.randn(6, 2)
    condition = torch.cat((torch.ones(6, 1), torch.eye(3).repeat(2, 1)), 1)
    condition[4] = 0
    loss, level = task.held_out(Batch(x, condition, draws))
    alpha, sigma = torch.cos(t * torch.pi / 2)[:, None], torch.sin(t * torch.pi / 2)[:, None]
    x_t = alpha * (x + width.float() * u) + sigma * eps
    logits = task.classifier.network(x_t * alpha * 0.49 / (alpha**2 * 0.49 + sigma**2), t)
    expected = torch.nn.functional.cross_entropy(logits, condition[:, 1:].argmax(1), reduction="none")
    expected[4] = 0
    torch.testing.assert_close(loss, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(level, t)
    part = task.draw(torch.tensor([3]), 6, torch.tensor([1, 2]), 7)
    for one, whole in zip(part, draws, strict=True):
        assert torch.equal(one[1, 0], whole[3])


def test_saved_and_loaded_with_the_model(trained, tmp_path):
    trained.save(tmp_path / "run")
    loaded = pf.load(tmp_path / "run")
    assert loaded.classifier_.classes == trained.classifier_.classes
    assert loaded.classifier_loss_ == trained.classifier_loss_
    x, t = torch.randn(5, 2), torch.tensor(0.3)
    assert torch.equal(loaded.classifier_(x, t), trained.classifier_(x, t))
    assert torch.equal(loaded.guided_by_classifier("left", 2.0)(x, t), trained.guided_by_classifier("left", 2.0)(x, t))


def test_a_new_fit_forgets_the_classifier():
    X, labels = rows(60)
    model = pf.FlowMatching(**TINY).fit(X).fit_classifier(X, labels, training=QUICK)
    state = torch.get_rng_state()
    twin = pf.FlowMatching(**TINY).fit(X).fit_classifier(X, labels, training=QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    x, t = torch.randn(5, 2), torch.tensor([0.1, 0.2, 0.5, 0.7, 0.9])
    assert torch.equal(model.classifier_(x, t), twin.classifier_(x, t))
    model.fit(X)
    assert not hasattr(model, "classifier_")
    with pytest.raises(ValueError, match=r"no classifier of noisy rows; train one with fit_classifier\(X, labels\)"):
        model.guided_by_classifier("left")


@pytest.mark.parametrize("shape", [(3,), (1, 8, 8), (2, 28, 20), (3, 2, 2)])
def test_networks_of_each_shape(shape):
    network = NoisyClassifier(shape, 5, 16)
    x = torch.randn(4, *shape)
    together = network(x, torch.tensor([0.1, 0.5, 0.7, 1.0]))
    assert together.shape == (4, 5)
    torch.testing.assert_close(network(x[1:2], torch.tensor(0.5)), together[1:2])
    assert not torch.allclose(network(x, torch.tensor(0.1)), network(x, torch.tensor(0.9)))


def test_images_with_their_own_labels():
    digits = pf.open_data("digits")
    model = pf.Diffusion(network=pf.UNetSpec(width=8, levels=1), train_steps=1, random_state=0, device="cpu")
    model.fit(digits.values[:200], condition=digits.condition[:200])
    model.fit_classifier(digits.values[:200], digits.condition[:200], training=QUICK, width=8)
    assert model.classifier_.classes == tuple(range(10))
    assert model.guided_by_classifier("7").label.item() == 7


def test_errors():
    X, labels = rows(60)
    model = pf.FlowMatching(**TINY).fit(X)
    with pytest.raises(ValueError, match=r"needs labels, but these data have none; use fit_classifier\(X, labels\)"):
        model.fit_classifier(X)
    with pytest.raises(ValueError, match="needs labels, but these are numbers"):
        model.fit_classifier(X, X[:, 0])
    with pytest.raises(ValueError, match="tells at least 2 classes apart, got 1"):
        model.fit_classifier(X, ["a"] * 60)
    with pytest.raises(ValueError, match="X has 1 features, but FlowMatching is expecting 2"):
        model.fit_classifier(X[:, :1], labels)
    model.fit_classifier(X, labels, training=QUICK)
    with pytest.raises(ValueError, match="'up' is not a label of the training data"):
        model.guided_by_classifier("up")
    with pytest.raises(ValueError, match="label None is missing; pass one of left, right"):
        model.guided_by_classifier(None)
    with pytest.raises(ValueError, match="guidance scale must be a finite number, got nan"):
        model.guided_by_classifier("left", float("nan"))
