"""The contract of the families that learn signals."""

import numpy as np
import pytest
from check_model import check_model

import pushforward as pf
from pushforward.models import MODELS

NEURAL = {"log_prob", "score_samples", "score", "posterior", "impute", "transform", "inverse_transform"}
VERBS = {"FlowMatching": NEURAL, "Diffusion": NEURAL, "GMM": {*NEURAL} - {"transform", "inverse_transform"}, "PPCA": NEURAL}


def _make(name):
    model = MODELS[name](kind="signals", random_state=0, held_out=0.2)
    if name in ("FlowMatching", "Diffusion"):
        settings = pf.TrainingSettings(steps=4, batch_size=16, learning_rate=1e-3)
        network = pf.networks.UNet1dSpec(width=4, levels=2)
        model.set_params(network=network, training=settings, device="cpu")
    return model


@pytest.mark.parametrize(
    "name",
    ["FlowMatching", "GMM", pytest.param("Diffusion", marks=pytest.mark.full), pytest.param("PPCA", marks=pytest.mark.full)],
)
def test_contract_on_series(name, tmp_path):
    X = np.random.default_rng(0).normal(size=(60, 8, 2))
    check_model(lambda: _make(name), X, np.arange(60) % 2, verbs=VERBS[name], lossless=name != "PPCA", folder=tmp_path)


@pytest.mark.full
def test_contract_on_signals_with_coefficients(tmp_path):
    X = np.random.default_rng(0).normal(size=(24, 1024))
    check_model(lambda: _make("FlowMatching"), X, verbs=NEURAL, folder=tmp_path)
