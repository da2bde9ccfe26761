"""Laws of integers inside and beyond the range of the training data: total mass, tails, and closed ranges, in every family."""

import warnings

import numpy as np
import pytest

import pushforward as pf

MLP = pf.MLPSpec(width=8, depth=1)
FAMILIES = {
    "ppca": pf.PPCA(random_state=0),
    "gmm": pf.GMM(n_components=2, restarts=1, random_state=0),
    "flow matching": pf.FlowMatching(network=MLP, train_steps=20, random_state=0),
    "normalizing flow": pf.NormalizingFlow(network=pf.FlowSpec(width=8, steps=1, bins=4), train_steps=10, random_state=0),
    "cnf": pf.CNF(network=MLP, matching_steps=10, train_steps=1, random_state=0),
    "vae, logistic": pf.VAE(train_steps=20, random_state=0),
    "vae, gaussian": pf.VAE(likelihood="gaussian", train_steps=20, random_state=0),
    "hierarchical vae": pf.HierarchicalVAE(train_steps=20, random_state=0),
    "vqvae": pf.VQVAE(train_steps=20, random_state=0),
    "masked diffusion": pf.MaskedDiffusion(train_steps=20, random_state=0),
    "latent": pf.Latent(pf.PPCA(n_components=1), pf.GMM(n_components=1), random_state=0),
}
OPTIONS = {
    "flow matching": {"steps": 4},
    "cnf": {"steps": 4},
    "normalizing flow": {"draws": 16},
    "latent": {"draws": 16, "samples": 2},
    "hierarchical vae": {"samples": 16},
}
# Counts from 2 to 5: five of 40 rows are 2, and three are 5, so the ends give 1/7 and 1/5 of their mass to the values beyond.
COUNTS = np.array([2] * 5 + [3] * 20 + [4] * 12 + [5] * 3)[:, None]
WIDE = np.arange(-16, 24)[:, None]


@pytest.fixture(scope="module")
def fitted():
    """Each family fitted to the counts, when it is first asked for."""
    models = {}

    def get(name):
        if name not in models:
            models[name] = FAMILIES[name].set_params(held_out=0.0).fit(COUNTS)
        return models[name]

    return get


@pytest.mark.parametrize("name", FAMILIES)
def test_open_ranges_have_a_total_of_at_most_one_and_geometric_tails(fitted, name):
    model, options = fitted(name), OPTIONS.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        total = np.exp(model.log_prob(WIDE, **options).values).sum()
        # One row at a time, so that all have the random numbers of row 0.
        high, low = ([model.log_prob([[k]], **options).values[0] for k in ends] for ends in ((5, 8), (2, -1)))
    assert 0.1 < total < 1.03  # bounds from a few draws have an error
    # Where the encoder sees the integer itself, the bounds of different integers are not equally tight.
    tolerance = 0.3 if name in ("vae, logistic", "hierarchical vae", "vqvae") else 1e-6
    assert np.diff(high) == pytest.approx(-3 * np.log(5), abs=tolerance)
    assert np.diff(low) == pytest.approx(-3 * np.log(7), abs=tolerance)


def test_the_total_is_one_where_probabilities_are_exact(fitted):
    assert np.exp(fitted("masked diffusion").log_prob(WIDE).values).sum() == pytest.approx(1, abs=1e-6)
    assert np.exp(fitted("vae, logistic").log_prob(WIDE).values).sum() == pytest.approx(1, abs=0.03)


def test_the_variational_bound_follows_the_same_rule(fitted):
    model = fitted("flow matching")
    assert np.exp(model.bound(WIDE, steps=4, draws=100).values).sum() < 1.05
    values = [model.bound([[k]], steps=4).values[0] for k in (5, 8)]
    assert np.diff(values) == pytest.approx(-3 * np.log(5), abs=1e-6)


@pytest.mark.parametrize("family", [pf.PPCA, pf.VAE, pf.MaskedDiffusion, pf.NormalizingFlow])
def test_levels_of_images_are_a_closed_range_with_a_warning(family):
    rng = np.random.default_rng(0)
    images = rng.integers(2, 6, (40, 2, 2)).astype(np.uint8)
    steps = {} if family is pf.PPCA else {"train_steps": 2}
    model = family(random_state=0, **steps).fit(images)
    beyond = images[:4].copy()
    beyond[2, 0, 0] = 6
    with pytest.warns(UserWarning, match=r"1 of 4 rows, the first of them row 2, .* closed .* probability is 0"):
        values = model.log_prob(beyond).values
    assert np.isneginf(values).tolist() == [False, False, True, False]
    assert np.isfinite(model.log_prob(images).values).all()
    assert np.isfinite(model.training_result_.held_out_loss)


def test_levels_that_only_held_out_images_have_are_possible():
    images = np.random.default_rng(0).integers(0, 4, (40, 2, 2)).astype(np.uint8)
    for row in range(8):  # about half of them are held out
        x = images.copy()
        x[row, 0, 0] = 9
        model = pf.PPCA(held_out=0.5, random_state=0).fit(x)
        assert model.space_.transform.high.item() == 9
        assert np.isfinite(model.training_result_.held_out_loss)


def test_booleans_and_the_limits_of_a_dtype_are_closed():
    flags = np.random.default_rng(0).random((40, 2)) < 0.5
    transform = pf.PPCA(random_state=0).fit(flags).space_.transform
    assert transform.below.tolist() == transform.above.tolist() == [0, 0]
    bytes_ = np.array([[0], [3], [3], [200]], dtype=np.uint8)
    transform = pf.PPCA(held_out=0.0, random_state=0).fit(bytes_).space_.transform
    assert transform.below.tolist() == [0]
    np.testing.assert_allclose(transform.above, [1 / 3])


def test_samples_stay_in_the_range(fitted):
    for name in ("ppca", "vae, logistic", "masked diffusion"):
        drawn = np.asarray(fitted(name).sample(500, seed=0))
        assert (drawn.min(), drawn.max()) == (2, 5)
