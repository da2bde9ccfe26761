"""The default recipe on real digits, judged by a classifier that has seen only real ones."""

import numpy as np
import pytest
from sklearn.svm import SVC

import pushforward as pf
from pushforward.models.files.storage import read_card


@pytest.mark.slow  # trains a real model: about half a minute on two cores
def test_digits_are_of_the_class_asked_for_and_no_copies(tmp_path):
    digits = pf.open_data("digits")
    judge = SVC(gamma=0.001).fit(digits.values.reshape(-1, 64), digits.condition)
    model = pf.train("digits", pf.FlowMatching(train_steps=700, random_state=0), out=tmp_path / "digits")
    labels = np.arange(300) % 10
    samples = model.sample(300, condition=labels, guidance=2.0, seed=0)
    assert (judge.predict(samples.reshape(-1, 64)) == labels).mean() > 0.95
    card = read_card(tmp_path / "digits")
    assert card["novelty"]["ratio"] > 0.8
    # Pixel by pixel the samples have the mean of the data, to the error of a few hundred samples.
    unguided = model.sample(1000, seed=1).reshape(1000, 64).mean(0)
    assert np.abs(unguided - digits.values.reshape(-1, 64).mean(0)).mean() < 0.6
