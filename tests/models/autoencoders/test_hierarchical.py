"""The ladder of codes against Gaussian algebra: with the exact posterior of every level the bound is the density."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import pushforward as pf

RNG = np.random.default_rng(0)
LOADINGS = np.array([[1.0, 0.6], [-0.5, 1.2], [0.8, 0.0]])
DATA = RNG.normal(size=(600, 2)) @ LOADINGS.T + 0.5 * RNG.normal(size=(600, 3)) + np.array([3.0, -1.0, 10.0])
AFFINE = {"network": pf.CoderSpec(width=2, depth=0), "random_state": 0, "device": "cpu", "held_out": 0.0}
TINY = {"network": pf.CoderSpec(width=8, depth=1), "random_state": 0, "device": "cpu"}
A, STD, PRIOR_STD, CHAIN = np.array([[0.9, 0.4], [-0.6, 0.8], [0.2, 1.1]]), 0.5, 0.8, -0.7


def linear_gaussian():
    """Return a ladder of two codes of length 1, z_2 | z_1 ~ N(c z_1, s^2), whose encoder is the exact posterior, and its law.

    The state is h = (z_1, z_2) and the row A h + std eps. All is worked out from the joint law of (z_1, z_2, x).
    """
    model = pf.HierarchicalVAE(latent_dims=(1, 1), train_steps=1, **AFFINE).fit(DATA)
    coder = model.coder_
    first, second = coder.levels
    prior = np.array([[1.0, CHAIN], [CHAIN, CHAIN**2 + PRIOR_STD**2]])
    cov = A @ prior @ A.T + STD**2 * np.eye(3)
    joint = np.block([[prior, prior @ A.T], [A @ prior, cov]])
    # z_1 | x, and z_2 | z_1, x, by the formula of conditional Gaussians.
    gain_1 = joint[0, 2:] @ np.linalg.inv(cov)
    var_1 = joint[0, 0] - gain_1 @ joint[2:, 0]
    known = np.r_[0, 2:5]
    gain_2 = joint[1, known] @ np.linalg.inv(joint[np.ix_(known, known)])
    var_2 = joint[1, 1] - gain_2 @ joint[known, 1]

    def put(layer, weight, bias):
        layer.weight.copy_(torch.as_tensor(np.atleast_2d(weight)))
        layer.bias.copy_(torch.as_tensor(np.atleast_1d(bias)))

    raw = 2 * math.atanh(math.log(PRIOR_STD) / 2)  # log standard deviations of priors are 2 tanh(raw / 2)
    with torch.no_grad():
        put(coder.encoder.linear, np.stack((gain_1, gain_2[1:])), np.zeros(2))
        put(first.posterior, [[0, 0, 1, 0], [0, 0, 0, 0]], [0, math.log(var_1) / 2])
        put(first.into, [[1], [0]], [0, 0])
        put(second.prior, [[CHAIN, 0], [0, 0]], [0, raw])
        put(
            second.posterior,
            [[(gain_2[0] - CHAIN) / PRIOR_STD, 0, 0, 1 / PRIOR_STD], [0, 0, 0, 0]],
            [0, math.log(var_2) / 2 - math.log(PRIOR_STD)],
        )
        put(second.into, [[0], [1]], [0, 0])
        put(coder.decoder.linear, A, np.zeros(3))
        coder.likelihood.log_std.fill_(math.log(STD))
    shift, scale = model.space_.transform.shift.numpy(), model.space_.transform.scale.numpy()
    law = stats.multivariate_normal(shift, scale[:, None] * cov * scale)
    return model, law, {"gain": gain_1, "var": (var_1, var_2), "prior": prior}


def test_with_the_exact_posterior_one_draw_gives_the_density():
    model, law, _ = linear_gaussian()
    for samples in (1, 4):
        found = model.log_prob(DATA[:20], samples=samples)
        np.testing.assert_allclose(found.values, law.logpdf(DATA[:20]), atol=1e-5)
        assert found.kind == "lower bound"


def test_trained_by_its_bound_it_reaches_the_density():
    """The bound of the trained chain against the likelihood of the Gaussian with the moments of the data, the best there is."""
    settings = pf.TrainingSettings(steps=700, batch_size=300, learning_rate=0.04, ema=0.1)
    model = pf.HierarchicalVAE(latent_dims=(1, 1), likelihood="diagonal", training=settings, **AFFINE).fit(DATA)
    best = stats.multivariate_normal(DATA.mean(0), np.cov(DATA.T, bias=True)).logpdf
    for samples, rows in ((1, DATA), (50, DATA[:100])):
        assert model.log_prob(rows, samples=samples).values.mean() == pytest.approx(best(rows).mean(), abs=0.01)


def test_the_terms_of_the_bound_are_the_information_of_the_levels():
    model, law, truth = linear_gaussian()
    report = model.latent_report(law.rvs(40_000, random_state=0))
    assert report.levels == (1, 1)
    # On data of its own law the mean KL of a level is what the row tells of it, given the levels above.
    expected = [-math.log(truth["var"][0]) / 2, math.log(PRIOR_STD) - math.log(truth["var"][1]) / 2]
    np.testing.assert_allclose(report.kl_by_level, expected, rtol=0.03)
    np.testing.assert_allclose(report.aggregate_std, 1, atol=0.02)
    assert "KL by level, top first" in str(report)


def test_the_loss_is_the_negative_bound():
    model, law, _ = linear_gaussian()
    task = model._task(model.coder_, None)
    x = model.space_.transform.forward(torch.tensor(DATA[:1])).float().repeat(20_000, 1)
    eps = task.numbers(torch.arange(20_000), 20_000, torch.zeros(1, dtype=torch.int64), 0)[0][0]
    loss = task.loss(x, None, (eps, torch.ones(20_000))).detach()
    assert float(loss.mean()) == pytest.approx(-law.logpdf(DATA[0]), abs=5 * float(loss.std()) / math.sqrt(20_000))


def test_samples_have_the_law_of_the_chain():
    model, law, _ = linear_gaussian()
    drawn = model.sample(40_000, seed=0, batch_size=40_000)
    np.testing.assert_allclose(drawn.mean(0), law.mean, atol=5 * np.sqrt(np.diag(law.cov) / 40_000).max())
    np.testing.assert_allclose(np.cov(drawn.T), law.cov, atol=0.03 * np.diag(law.cov).max())


def test_codes_are_the_posterior_means_down_the_ladder():
    model, law, truth = linear_gaussian()
    x = model.space_.transform.forward(torch.tensor(DATA[:5])).numpy()
    z = model.transform(DATA[:5])
    cov = A @ truth["prior"] @ A.T + STD**2 * np.eye(3)
    both = truth["prior"] @ A.T @ np.linalg.solve(cov, x.T)  # E[z_1, z_2 | x]: with z_1 at its mean, so is z_2
    np.testing.assert_allclose(z, both.T, atol=1e-5)
    back = model.inverse_transform(z)
    np.testing.assert_allclose(back, law.mean + (both.T @ A.T) * model.space_.transform.scale.numpy(), atol=1e-4)


@pytest.mark.parametrize("encoder", ["ladder", "markov"])
def test_long_chains_start_with_finite_bounds(encoder):
    """Codes that are drawn by exponentials of codes, which are drawn by exponentials, overflow."""
    X = np.where(RNG.random(300) < 0.4, -1.2, 0.8)[:, None] + 0.3 * RNG.normal(size=(300, 1))
    settings = {"network": pf.CoderSpec(width=32, depth=1), "train_steps": 1, "device": "cpu"}
    for seed in range(3):
        model = pf.HierarchicalVAE(latent_dims=8 * (1,), encoder=encoder, random_state=seed, **settings).fit(X)
        assert model.log_prob(X, samples=1).values.min() > -1000


@pytest.mark.parametrize(("encoder", "steps"), [("ladder", 20), ("markov", 200)])
@pytest.mark.parametrize("dims", [pytest.param((2,), marks=pytest.mark.full), (1, 2, 3)])
def test_probabilities_of_all_rows_sum_to_one(dims, encoder, steps):
    X = RNG.integers(0, 2, (60, 3)).astype(bool)
    model = pf.HierarchicalVAE(latent_dims=dims, encoder=encoder, train_steps=steps, **TINY).fit(X)
    rows = np.array(np.meshgrid(*3 * [[0, 1]])).reshape(3, -1).T.astype(bool)
    found = model.log_prob(rows, samples=400)
    error = np.linalg.norm(found.standard_error * np.exp(found.values))
    assert np.exp(found.values).sum() == pytest.approx(1, abs=4 * error + 1e-4)


def test_defaults_have_three_levels_and_conditions_count():
    X = np.concatenate([DATA, DATA + 6.0])
    labels = np.repeat(["low", "high"], 600)
    settings = pf.TrainingSettings(steps=120, batch_size=128, learning_rate=0.01)
    model = pf.HierarchicalVAE(training=settings, condition_dropout=0.2, **TINY).fit(X, condition=labels)
    assert model.latent_dims_ == (1, 1, 3)
    high, low = (model.sample(300, condition=label, seed=0).mean(0) for label in ("high", "low"))
    assert (high - low > 3).all()
    with pytest.raises(ValueError, match=r"latent_dims=\(\) is not allowed"):
        pf.HierarchicalVAE(latent_dims=()).fit(DATA)
