"""A run of any trained family that was stopped and resumed ends with the bits of one that was not."""

import numpy as np
import pytest
import torch

import pushforward as pf

IMAGES = np.random.default_rng(0).integers(0, 3, (40, 6, 5)).astype(np.uint8)
POINTS = np.random.default_rng(1).normal(size=(60, 2))
CODER = pf.CoderSpec(width=8, depth=1)
TRANSFORMER = pf.TransformerSpec(width=8, depth=1, heads=2)
MLP = pf.MLPSpec(width=8, depth=1)
FAMILIES = {
    "autoencoder": (pf.Autoencoder(latent_dim=2, network=CODER), IMAGES),
    "vae": (pf.VAE(latent_dim=2, network=CODER), IMAGES),
    "hierarchical VAE": (pf.HierarchicalVAE(latent_dims=(1, 2), network=CODER), POINTS),
    "VQ-VAE": (pf.VQVAE(tokens=2, codebook_size=32, network=CODER, prior=TRANSFORMER), IMAGES),
    "GAN": (pf.GAN(latent_dim=2, network=pf.GANSpec(width=8, depth=1)), IMAGES),
    "normalizing flow": (pf.NormalizingFlow(network=pf.FlowSpec(width=8, steps=2, bins=4)), POINTS),
    "flow map": (pf.FlowMap(teacher=pf.FlowMatching(network=MLP, train_steps=6), trajectories=40), POINTS),
    "masked diffusion": (pf.MaskedDiffusion(network=TRANSFORMER), IMAGES),
    "sliced score matching": (pf.Diffusion(loss="sliced", network=MLP), POINTS),
}
LIKE_VAE = {"autoencoder", "hierarchical VAE"}  # the same task, and no state of their own


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[pytest.mark.full] if name in LIKE_VAE else []) for name in FAMILIES]
)
def test_a_run_that_was_stopped_ends_with_the_same_bits(family, tmp_path, monkeypatch):
    model, X = FAMILIES[family]
    settings = pf.TrainingSettings(steps=12, batch_size=16, learning_rate=0.01, checkpoint_every=4)
    model.set_params(training=settings, random_state=0, device="cpu")

    def stop(_, path):
        if path.name == "step-00000008.png":
            raise OSError("disk full")

    whole = pf.train(X, model, out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.plots.save", stop)
        with pytest.raises(OSError, match="disk full"):
            pf.train(X, model, out=tmp_path / "stopped")
    torch.manual_seed(99)  # random numbers come from the seed of the run, never from torch's generator
    resumed = pf.train(X, out=tmp_path / "stopped", resume=True)
    weights = [(one.run_ / "weights.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
