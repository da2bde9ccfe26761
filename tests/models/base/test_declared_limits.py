"""Declared limits of integers: no mass is beyond them, and what is within sums to one."""

import numpy as np
import pandas as pd
import pytest
from thin import thinned

import pushforward as pf

BRIEF = {"training": pf.TrainingSettings(steps=3, batch_size=16), "random_state": 0, "device": "cpu"}
LIMITS = {"n": "integer from 0 to 9"}
OPTIONS = {"flow": {"steps": 4, "draws": 16}, "spline": {"draws": 16}}
MODELS = {
    "circuit": lambda **more: pf.Circuit(random_state=0, **more),
    "gmm": lambda **more: pf.GMM(n_components=2, restarts=1, max_iterations=5, random_state=0, **more),
    "masked": lambda **more: pf.MaskedDiffusion(network=pf.TransformerSpec(width=8, depth=1, heads=2), **BRIEF, **more),
    "autoregressive": lambda **more: pf.Autoregressive(network=pf.TransformerSpec(width=8, depth=1, heads=2), **BRIEF, **more),
    "flow": lambda **more: pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), **BRIEF, **more),
    "vae": lambda **more: pf.VAE(network=pf.CoderSpec(width=8, depth=1), latent_dim=1, **BRIEF, **more),
    "spline": lambda **more: pf.NormalizingFlow(network=pf.FlowSpec(width=4, steps=1, bins=4), **BRIEF, **more),
}


def frame(rows=60):
    """Integers from 2 to 7 that reach neither limit, and a word."""
    rng = np.random.default_rng(0)
    n = 2 + rng.binomial(5, 0.5, rows)
    return pd.DataFrame({"n": np.r_[2, 7, n], "w": np.where(rng.random(rows + 2) < 0.4, "x", "y")})


def rows(form):
    """Data whose second column has a closed range, its values, and the types of both columns."""
    X = frame()
    if form == "mixed":
        return X, ["x", "y"], LIMITS | {"w": "category"}
    X["w"] = 2 + (X["n"] > 4)
    return X, [2, 3], LIMITS | {"w": "integer from 2 to 3"}


@thinned(name=MODELS, form=["alone", "mixed"], together=1)
def test_no_mass_is_beyond_declared_limits(name, form, tmp_path):
    X, values, types = rows(form)
    model = MODELS[name](columns=types).fit(X)
    if not hasattr(model, "log_prob"):
        pytest.skip("has no density of mixed rows")
    grid = pd.DataFrame([(n, value) for n in (-30, *range(-2, 13), 40) for value in values], columns=["n", "w"])
    possible = grid["n"].between(0, 9).to_numpy()
    model.save(tmp_path)
    with pytest.warns(UserWarning, match="values beyond a closed range"):
        scores = pf.load(tmp_path).log_prob(grid, **OPTIONS.get(name, {}))
    assert np.array_equal(np.isfinite(scores.values), possible)
    total = np.exp(scores.values).sum()
    if scores.kind == "exact":
        assert total == pytest.approx(1, abs=1e-6)
    else:
        assert total < 1.15  # bounds from a few draws have an error, and those of untrained networks are loose
