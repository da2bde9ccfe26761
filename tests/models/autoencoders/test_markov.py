"""The Markov encoder against Gaussian algebra: on a chain of Gaussians its exact conditionals make the bound the density."""

import math

import numpy as np
import pytest
import torch
from check_model import check_model
from scipy import stats

import pushforward as pf

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(400, 3)) @ np.array([[1.0, 0.4, 0.0], [0.0, 1.1, 0.3], [0.0, 0.0, 0.7]]) + np.array([3.0, -1.0, 10.0])
COLUMN, STD = np.array([0.9, -0.6, 1.3]), 0.4  # the row is COLUMN z_3 + STD eps
STEPS, PRIOR_STDS = (0.8, -1.2), (0.7, 0.5)  # z_2 = STEPS[0] z_1 + PRIOR_STDS[0] eps, z_3 = STEPS[1] z_2 + PRIOR_STDS[1] eps
SMALL = {"network": pf.CoderSpec(width=3, depth=0), "random_state": 0, "device": "cpu", "held_out": 0.0}


def chain(steps=STEPS):
    """Return a chain z_1, z_2, z_3, x of Gaussians in float64 whose encoder is the exact posterior, and the joint covariance."""
    model = pf.HierarchicalVAE(latent_dims=(1, 1, 1), encoder="markov", train_steps=1, **SMALL).fit(DATA)
    coder = model.coder_.double()
    down = np.zeros((6, 6))  # the parents of (z_1, z_2, z_3, x)
    down[1, 0], down[2, 1], down[3:, 2] = *steps, COLUMN
    spread = np.diag([1.0, *np.square(PRIOR_STDS), *3 * [STD**2]])
    reach = np.linalg.inv(np.eye(6) - down)
    cov = reach @ spread @ reach.T

    def given(k, known):
        gain = np.linalg.solve(cov[np.ix_(known, known)], cov[known, k])
        return gain, 2 - math.log(
            math.expm1(2 - math.log(cov[k, k] - gain @ cov[known, k]) / 2)
        )  # log std = 2 - softplus(2 - raw)

    def put(layer, weight, bias):
        layer.weight.copy_(torch.as_tensor(np.reshape(weight, layer.weight.shape)))
        layer.bias.copy_(torch.as_tensor(np.reshape(bias, layer.bias.shape)))

    with torch.no_grad():
        gain, raw = given(2, [3, 4, 5])
        put(coder.encoder.linear, np.stack((gain, np.zeros(3))), [0, raw])
        for k in (0, 1):
            gain, raw = given(k, [k + 1])
            put(coder.steps[k].affine.linear, [gain[0], 0], [0, raw])
        for k, level in enumerate(coder.levels):  # level k writes its code into element k of the state
            put(level.into, np.eye(3)[k], np.zeros(3))
            if k:
                raw = 2 * math.atanh(math.log(PRIOR_STDS[k - 1]) / 2)  # log standard deviations of priors are 2 tanh(raw / 2)
                put(level.prior, np.stack((steps[k - 1] * np.eye(3)[k - 1], np.zeros(3))), [0, raw])
        put(coder.decoder.linear, np.outer(COLUMN, [0, 0, 1]), np.zeros(3))
        coder.likelihood.log_std.fill_(math.log(STD))
    return model, cov


def law_of(model, cov):
    shift, scale = model.space_.transform.shift.numpy(), model.space_.transform.scale.numpy()
    return stats.multivariate_normal(shift, scale[:, None] * cov[3:, 3:] * scale)


def test_with_exact_conditionals_every_draw_gives_the_density():
    model, cov = chain()
    for samples in (1, 4):
        found = model.log_prob(DATA[:20], samples=samples)
        np.testing.assert_allclose(found.values, law_of(model, cov).logpdf(DATA[:20]), rtol=1e-9)
        assert found.kind == "lower bound"


def test_with_exact_conditionals_the_loss_is_minus_the_log_density_of_every_row():
    model, cov = chain(steps=(3.0, -0.4))  # z_2 has more in common with z_1 than with z_3, so its term is negative
    task = model._task(model.coder_, None)
    eps = task.numbers(torch.arange(20), 20, torch.zeros(1, dtype=torch.int64), 0)[0][0].double()
    loss = task.loss(model.space_.transform.forward(torch.tensor(DATA[:20])), None, (eps, torch.ones(20)))
    np.testing.assert_allclose(-loss.detach(), law_of(model, cov).logpdf(DATA[:20]), rtol=1e-9)


def information(cov, a, b):
    """Return the mutual information of two groups of jointly Gaussian variables, in nats."""
    parts = [np.linalg.slogdet(cov[np.ix_(part, part)])[1] for part in (a, b, a + b)]
    return (parts[0] + parts[1] - parts[2]) / 2


def test_the_terms_of_the_levels_are_differences_of_information_and_sum_to_that_about_the_row():
    model, cov = chain()
    report = model.latent_report(law_of(model, cov).rvs(60_000, random_state=0))
    shared = [0.0, information(cov, [0], [1]), information(cov, [1], [2]), information(cov, [2], [3, 4, 5])]
    np.testing.assert_allclose(report.kl_by_level, np.diff(shared), atol=0.02)
    assert report.kl.sum() == pytest.approx(shared[-1], abs=0.02)
    np.testing.assert_allclose(report.aggregate_std, 1, atol=0.02)
    np.testing.assert_allclose(report.aggregate_mean, 0, atol=0.02)
    # The variance of E[z | x] as a share of that of z is the squared multiple correlation.
    explained = [cov[k, 3:] @ np.linalg.solve(cov[3:, 3:], cov[3:, k]) / cov[k, k] for k in range(3)]
    np.testing.assert_allclose(report.mean_variance, explained, rtol=0.05)


def test_a_level_that_is_independent_of_those_below_is_collapsed():
    model, cov = chain(steps=(0.0, -1.2))
    report = model.latent_report(law_of(model, cov).rvs(2000, random_state=0))
    assert report.collapsed == (0,)
    assert report.kl_by_level[0] == pytest.approx(0, abs=1e-12)


def test_codes_are_the_posterior_means_of_all_levels():
    model, cov = chain()
    scale = model.space_.transform.scale.numpy()
    z = model.transform(DATA[:5])
    expected = np.linalg.solve(cov[3:, 3:], cov[3:, :3]).T @ ((DATA[:5] - model.space_.transform.shift.numpy()) / scale).T
    np.testing.assert_allclose(z, expected.T, rtol=1e-9)
    np.testing.assert_allclose(model.inverse_transform(z), model.space_.transform.shift.numpy() + z[:, 2:] * COLUMN * scale)


def test_trained_by_its_bound_it_reaches_the_density():
    """The bound of the trained chain against the likelihood of the Gaussian with the moments of the data, the best there is."""
    settings = pf.TrainingSettings(steps=700, batch_size=200, learning_rate=0.04, ema=0.1)
    model = pf.HierarchicalVAE(latent_dims=(1, 2), encoder="markov", likelihood="diagonal", training=settings, **SMALL).fit(
        DATA
    )
    best = stats.multivariate_normal(DATA.mean(0), np.cov(DATA.T, bias=True)).logpdf(DATA).mean()
    assert best - 0.02 < model.log_prob(DATA, samples=1).values.mean() < best + 0.01


def test_it_keeps_the_contract(tmp_path):
    tiny = {
        "network": pf.CoderSpec(width=8, depth=1),
        "training": pf.TrainingSettings(steps=6, batch_size=16, learning_rate=0.02),
    }

    def make():
        return pf.HierarchicalVAE(latent_dims=(1, 3, 2), encoder="markov", random_state=0, device="cpu", **tiny)

    verbs = {"log_prob", "score_samples", "score", "transform", "inverse_transform"}
    check_model(make, DATA[:60], np.arange(60) % 3, verbs=verbs, lossless=False, folder=tmp_path)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"free_bits=0.1 needs encoder='ladder': with encoder='markov'"):
        pf.HierarchicalVAE(encoder="markov", free_bits=0.1).fit(DATA)
    with pytest.raises(ValueError, match=r"encoder='bottom-up' is not allowed: it should be 'ladder' or 'markov'"):
        pf.HierarchicalVAE(encoder="bottom-up").fit(DATA)
