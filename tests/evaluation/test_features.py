"""Spaces keep their names and numbers: equal names are equal spaces, on every machine for random weights."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA

from pushforward.evaluation.features import (
    ClassifierFeatures,
    PrincipalComponents,
    RandomConvolutions,
    Raw,
    Standardized,
    default_features,
)
from pushforward.metrics.frechet import frechet_distance
from pushforward.training import TrainingSettings

FEW = TrainingSettings(steps=40, batch_size=64, learning_rate=5e-3)


@pytest.fixture(scope="module")
def digits():
    found = load_digits()
    return found.images.astype(np.float32), found.target


@pytest.fixture(scope="module")
def classifier(digits):
    return ClassifierFeatures.fit(*digits, training=FEW)


def test_rows_and_standardized_columns(digits):
    images, _ = digits
    assert np.array_equal(Raw()(images), images.reshape(-1, 64))
    space = Standardized.fit(images)
    found = space(images)
    constant = images.reshape(-1, 64).std(0) == 0
    assert constant.any()
    assert np.allclose(found.mean(0), 0, atol=1e-5)
    assert np.allclose(found.std(0)[~constant], 1, atol=1e-5)
    assert np.all(found[:, constant] == 0)
    assert space.name == Standardized.fit(images).name != Standardized.fit(images + 1).name
    with pytest.raises(ValueError, match="rows must have 64 columns as in this space, but have 2"):
        space(np.zeros((3, 2)))


def test_principal_components_are_those_of_scikit_learn(digits):
    rows = digits[0].reshape(-1, 64)
    space = PrincipalComponents.fit(rows, 10)
    theirs = PCA(10).fit_transform(rows.astype(float))
    assert np.allclose(np.abs(space(rows)), np.abs(theirs), atol=1e-3)
    assert space.name.startswith("10 principal components (")
    assert all(column[np.abs(column).argmax()] > 0 for column in space.directions.T)
    assert PrincipalComponents.fit(rows[:, :3], 10).directions.shape == (3, 2)  # the first pixel of digits is constant
    with pytest.raises(ValueError, match="all rows are equal"):
        PrincipalComponents.fit(np.ones((4, 2)))
    with pytest.raises(ValueError, match="count must be at least 1, but is 0"):
        PrincipalComponents.fit(rows, 0)


def test_random_convolutions_are_the_same_everywhere_and_told_apart_by_name():
    assert RandomConvolutions((3, 28, 28)).name == RandomConvolutions((3, 28, 28), 0).name
    names = {RandomConvolutions(*args).name for args in (((8, 8),), ((8, 8), 1), ((3, 8, 8),), ((9, 8),))}
    names.add(RandomConvolutions((8, 8), spread=2.0).name)
    assert len(names) == 5
    weights = torch.cat([f.flatten() for f in RandomConvolutions((8, 8)).filters])
    assert len(weights.unique()) > 0.99 * len(weights)
    assert abs(float(weights.mean())) < 0.02


@pytest.mark.parametrize("shape", [(8, 8), (3, 28, 28), (1, 1), (2, 5, 3)])
def test_random_convolutions_of_any_image_do_not_depend_on_the_batch(monkeypatch, shape):
    images = np.random.default_rng(0).random((9, *shape))
    space = RandomConvolutions(shape)
    found = space(images)
    assert found.shape == (9, 112)
    assert found.dtype == np.float32
    monkeypatch.setattr("pushforward.evaluation.features._ROWS_AT_ONCE", 2)
    assert np.allclose(space(images), found, atol=1e-6)
    assert np.allclose(space(2 * images), 2 * found, atol=1e-5)
    fitted = RandomConvolutions.fit(images)
    assert np.allclose(fitted(images), (found - fitted.center) / fitted.spread, atol=1e-4)
    assert np.allclose(fitted(images).mean(0), 0, atol=1e-3)
    spread = fitted(images).std(0)
    own = found.std(0)
    assert np.allclose(spread[own >= np.median(own)], 1, atol=1e-3)
    assert np.all(spread < 1 + 1e-3)
    assert np.allclose(RandomConvolutions.fit(2 * images)(2 * images), fitted(images), atol=1e-3)


def test_no_filter_outshouts_the_others_on_fresh_rows(digits):
    images, _ = digits
    space = RandomConvolutions.fit(images[:600])
    # Some filters are woken by one of these 600 rows, and by several of the others.
    assert np.abs(space(images[600:])).max() < 15


def test_random_convolutions_see_what_pixel_shuffling_destroys(digits):
    images, _ = digits
    shuffled = images.reshape(-1, 64)[:, np.random.default_rng(0).permutation(64)].reshape(-1, 8, 8)
    space = RandomConvolutions.fit(images)
    floor = frechet_distance(space(images[::2]), space(images[1::2])).value
    assert frechet_distance(space(images[::2]), space(shuffled[1::2])).value > 20 * floor


def test_the_classifier_learns_and_its_features_hold_the_classes(digits, classifier):
    images, labels = digits
    found = classifier(images)
    assert found.shape == (len(images), 64)
    assert classifier.accuracy > 0.7
    even = np.arange(len(images)) % 2 == 0
    floor = frechet_distance(found[even], found[~even]).value
    assert frechet_distance(found[even & (labels != 3)], found[~even]).value > 5 * floor  # a class that is missing


def test_the_classifier_depends_on_seed_and_rows_alone(digits, classifier):
    before = torch.random.get_rng_state()
    again = ClassifierFeatures.fit(digits[0][:, None], digits[1].astype(str), training=FEW)
    assert again.name == classifier.name
    assert torch.equal(torch.random.get_rng_state(), before)
    assert ClassifierFeatures.fit(digits[0][:500], digits[1][:500], training=TrainingSettings(steps=1)).name != classifier.name


def test_a_classifier_of_vectors_with_a_constant_column():
    generator = np.random.default_rng(0)
    labels = np.repeat(["a", "b"], 100)
    rows = np.column_stack([generator.normal(size=200) + 5 * (labels == "a"), np.full(200, 3.0)])
    space = ClassifierFeatures.fit(rows, labels, training=FEW)
    assert space.accuracy == 1.0
    assert np.isfinite(space(rows)).all()


def test_spaces_by_the_kind_of_rows(digits):
    images, labels = digits
    assert [type(space) for space in default_features(images)] == [RandomConvolutions]
    assert [type(space) for space in default_features(images.reshape(-1, 64))] == [Standardized]
    both = default_features(images[:60].reshape(60, 64), labels[:60])
    assert [type(space) for space in both] == [Standardized, ClassifierFeatures]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: RandomConvolutions((3,)), r"shape must be \(channels, H, W\) or \(H, W\) of an image, but is \(3,\)"),
        (lambda: RandomConvolutions((8, 8))(np.zeros((2, 7, 8))), r"shape \(n, 1, 8, 8\) of this space, but have \(2, 7, 8\)"),
        (lambda: ClassifierFeatures.fit(np.zeros((20, 2)), np.zeros(20)), "at least 2 classes.*but 20 labels are of 1 classes"),
        (lambda: ClassifierFeatures.fit(np.zeros((20, 2)), np.arange(20)), "20 labels are of 20 classes"),
        (lambda: ClassifierFeatures.fit(np.zeros((20, 2)), [0, 1]), r"labels must have the shape \(20,\).*have \(2,\)"),
        (lambda: ClassifierFeatures.fit(np.zeros((20, 2, 2, 2, 2)), [0, 1] * 10), "rows must be vectors"),
    ],
    ids=["shape", "other", "one", "numbers", "count", "dims"],
)
def test_what_is_no_space_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_accuracy_is_that_of_rows_the_classifier_never_saw():
    generator = np.random.default_rng(0)
    rows, labels = generator.normal(size=(400, 20)), generator.integers(0, 2, 400)  # nothing to learn but the rows by heart
    training = TrainingSettings(steps=150, batch_size=128, learning_rate=1e-2)
    assert ClassifierFeatures.fit(rows, labels, training=training).accuracy < 0.75
