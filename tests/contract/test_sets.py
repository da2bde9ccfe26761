"""The contract of the families that learn sets of points."""

import numpy as np
import pytest
from check_model import check_model

import pushforward as pf
from pushforward.models import MODELS

VERBS = {"log_prob", "score_samples", "score", "posterior", "impute", "transform", "inverse_transform"}


@pytest.mark.parametrize("name", [pytest.param("FlowMatching"), pytest.param("Diffusion", marks=pytest.mark.full)])
def test_contract_on_sets(name, tmp_path):
    X = np.random.default_rng(0).normal(size=(40, 3, 2))
    settings = pf.TrainingSettings(steps=4, batch_size=16, learning_rate=1e-3)
    network = pf.SetSpec(width=8, depth=1, heads=2, states=2)

    def make():
        return MODELS[name](kind="sets", network=network, training=settings, random_state=0, held_out=0.2, device="cpu")

    check_model(make, X, np.arange(40) % 2, verbs=VERBS, folder=tmp_path)
