"""What a model draws is finite, or the model says that it is not."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(60, 2))


def broken(family, data, part=""):
    """A model whose weights, or those of a part of its network, have diverged."""
    model = family(train_steps=2, random_state=0, device="cpu").fit(data)
    with torch.no_grad():
        for name, parameter in getattr(model, model.core).named_parameters():
            if name.startswith(part):
                parameter.fill_(math.nan)
    return model


@pytest.mark.parametrize(
    ("family", "part"),
    [(pf.FlowMatching, ""), (pf.VAE, ""), (pf.VQVAE, "decoder"), (pf.VQVAE, "prior"), (pf.GAN, ""), (pf.NormalizingFlow, "")],
)
def test_a_model_that_draws_rows_that_are_not_finite_says_what_to_do(family, part, rows):
    with pytest.raises(ValueError, match=r"NaN.* training diverged: train it again with a lower learning rate"):
        broken(family, rows, part).sample(20, seed=0)


def test_integers_are_checked_before_they_are_clipped_to_their_range():
    counts = np.random.default_rng(0).integers(0, 9, (60, 2))
    for family in (pf.VAE, pf.MaskedDiffusion):
        with pytest.raises(ValueError, match="training diverged"):
            broken(family, counts).sample(20, seed=0)
    gaps = np.where(np.arange(2) == 1, np.nan, counts[:5])
    with pytest.raises(ValueError, match="training diverged"):
        broken(pf.MaskedDiffusion, counts).impute(gaps, seed=0)


@pytest.mark.parametrize("container", ["array", "tensor", "frame"])
def test_narrow_floats_near_their_limit_stay_finite(container):
    x = (60_000 + 2000 * np.random.default_rng(0).normal(size=(200, 2))).clip(0, 65_000).astype(np.float16)
    data = {"array": x, "tensor": torch.from_numpy(x), "frame": pd.DataFrame(x, columns=["a", "b"])}[container]
    drawn = pf.PPCA(random_state=0).fit(data).sample(5000, seed=0)
    values = np.asarray(drawn)
    assert values.dtype == np.float16
    assert np.isfinite(values).all()
    assert values.max() == np.finfo(np.float16).max
