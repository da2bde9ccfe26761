"""Variational autoencoders against Gaussian algebra, and against laws that are added up over all rows there are."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.svm import SVC

import pushforward as pf
from pushforward.models.autoencoders.bound import importance_bound, kl_to_standard
from pushforward.models.base.codes import arc

RNG = np.random.default_rng(0)
W = np.array([[2.0, 0.5], [1.0, -1.0], [0.0, 0.3]])
DATA = RNG.normal(size=(500, 2)) @ W.T + 0.5 * RNG.normal(size=(500, 3)) + np.array([3.0, -1.0, 10.0])
AFFINE = {"network": pf.CoderSpec(depth=0), "random_state": 0, "device": "cpu", "held_out": 0.0}
TINY = {"network": pf.CoderSpec(width=8, depth=1), "random_state": 0, "device": "cpu"}


def linear_gaussian(loadings=((1.2, 0.3), (0.9, -0.4), (0.0, 0.7)), std=0.6, exact=True):
    """Return a VAE whose weights are set by hand, and its law N(mean, cov) in data units.

    The loadings are made orthogonal, so that the posterior given a row has a diagonal covariance and the encoder can be it.
    """
    model = pf.VAE(latent_dim=2, train_steps=1, **AFFINE).fit(DATA)
    q, r = np.linalg.qr(np.array(loadings))
    A = torch.tensor(q * np.diag(r))
    precision = 1 + (A.square().sum(0)) / std**2
    coder = model.coder_
    with torch.no_grad():
        coder.decoder.linear.weight.copy_(A)
        coder.decoder.linear.bias.fill_(0.2)
        coder.likelihood.log_std.fill_(math.log(std))
        gain = (A / std**2 / precision).T
        if not exact:
            gain = gain + 0.1
        coder.encoder.linear.weight.copy_(torch.cat((gain, torch.zeros(2, 3))))
        coder.encoder.linear.bias.copy_(torch.cat((-0.2 * gain.sum(1), -precision.log() / 2)))
    shift, scale = model.space_.transform.shift.numpy(), model.space_.transform.scale.numpy()
    cov = (A @ A.T).numpy() + std**2 * np.eye(3)
    return model, stats.multivariate_normal(shift + 0.2 * scale, scale[:, None] * cov * scale), A.numpy(), std


def test_with_the_exact_posterior_one_draw_gives_the_density():
    model, law, _, _ = linear_gaussian()
    for samples in (1, 3):
        found = model.log_prob(DATA[:20], samples=samples)
        np.testing.assert_allclose(found.values, law.logpdf(DATA[:20]), atol=2e-6)
        assert (found.kind, found.dims, found.constants, found.nfe) == ("lower bound", 3, 0, samples + 1)
    np.testing.assert_allclose(found.standard_error, 0, atol=2e-6)
    np.testing.assert_allclose(model.score_samples(DATA[:20]), law.logpdf(DATA[:20]), atol=2e-6)
    bits = model.log_prob(DATA[:20], bits_per_dim=True)
    np.testing.assert_allclose(bits.values, -law.logpdf(DATA[:20]) / 3 / math.log(2), atol=2e-6)


def test_with_another_posterior_the_gap_is_its_divergence_and_closes():
    model, law, A, std = linear_gaussian(exact=False)
    rows = np.repeat(DATA[:2], 4000, axis=0)
    x = model.space_.transform.forward(torch.tensor(DATA[:2])).numpy()
    precision = 1 + (A**2).sum(0) / std**2
    off = (0.1 * (x - 0.2).sum(1, keepdims=True)) * np.ones((1, 2))
    divergence = (off**2 * precision).sum(1) / 2
    for samples, gap in ((1, divergence), (500, 0.0)):
        n = 4000 if samples == 1 else 20
        values = model.log_prob(rows.reshape(2, 4000, 3)[:, :n].reshape(-1, 3), samples=samples).values.reshape(2, n)
        error = 5 * values.std(1) / math.sqrt(n) + 2e-3 * (samples > 1)
        assert (np.abs(law.logpdf(DATA[:2]) - gap - values.mean(1)) < error).all()


def test_the_stated_error_is_the_scatter():
    model, _, _, _ = linear_gaussian(exact=False)
    rows = np.repeat(DATA[:1], 2000, axis=0)
    found = model.log_prob(rows, samples=32)
    assert found.standard_error.mean() == pytest.approx(found.values.std(), rel=0.15)
    assert np.isnan(model.log_prob(DATA[:2], samples=1).standard_error).all()


def test_the_loss_is_the_negative_bound_in_data_units():
    model, law, _, _ = linear_gaussian()
    task = model._task(model.coder_, None)
    x = model.space_.transform.forward(torch.tensor(DATA[:1])).float().repeat(20_000, 1)
    numbers = task.numbers(torch.arange(20_000), 20_000, torch.zeros(1, dtype=torch.int64), 0)
    assert numbers[0].shape == (1, 20_000, 2)
    loss = task.loss(x, None, (numbers[0][0], torch.ones(20_000))).detach()
    assert float(loss.mean()) == pytest.approx(-law.logpdf(DATA[0]), abs=5 * float(loss.std()) / math.sqrt(20_000))


def test_beta_weighs_the_divergence_and_free_bits_are_a_floor_in_training():
    model, _, _, _ = linear_gaussian()
    coder, x, eps = model.coder_, torch.randn(50, 3), torch.randn(50, 2)
    mean, log_std = coder.encoder(x, None).chunk(2, dim=1)
    kl = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(torch.zeros(50, 2), 1.0)
    ).detach()

    def loss(training=True, share=1.0, **changes):
        model.set_params(**{"beta": 1.0, "free_bits": 0.0} | changes)
        return model._task(coder, None).train(training).loss(x, None, (eps, torch.full((50,), share))).detach()

    plain = loss()
    torch.testing.assert_close(loss(beta=3.0) - plain, 2 * kl.sum(1), rtol=1e-4, atol=1e-4)
    between = float(kl.mean(0).mean())
    floor = torch.where(kl.mean(0) > between, kl, torch.full_like(kl, between))
    torch.testing.assert_close(loss(free_bits=between) - plain, (floor - kl).sum(1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss(training=False, free_bits=between, share=0.0), plain)
    torch.testing.assert_close(loss(share=0.3) - plain, -0.7 * kl.sum(1), rtol=1e-4, atol=1e-4)


def test_the_divergence_comes_into_force_step_by_step():
    model = pf.VAE(latent_dim=2, train_steps=40, **AFFINE).fit(DATA)
    assert model.kl_warmup_ == 10
    rows, steps = torch.arange(3), torch.tensor([0, 4, 10, 30])
    share = model._task(model.coder_, None).numbers(rows, 3, steps, 0)[1]
    torch.testing.assert_close(share, torch.tensor([1 / 11, 5 / 11, 1.0, 1.0])[:, None].expand(4, 3))
    model.set_params(kl_warmup=0).fit(DATA)
    assert (model._task(model.coder_, None).numbers(rows, 3, steps, 0)[1] == 1).all()


def test_divergence_is_torchs():
    mean, log_std = torch.randn(2, 100, dtype=torch.float64)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, log_std.exp()), torch.distributions.Normal(0.0, 1.0)
    )
    torch.testing.assert_close(kl_to_standard(mean, log_std), expected, rtol=1e-10, atol=1e-12)


def test_importance_bound_is_the_log_of_the_mean_weight():
    weights = torch.tensor([[0.5, 1e-300], [1.5, 3e-300]], dtype=torch.float64)
    found = importance_bound(weights.log(), nfe=3, dims=1)
    np.testing.assert_allclose(found.values, [0.0, math.log(2e-300)], atol=1e-12)
    np.testing.assert_allclose(found.standard_error, [0.5, 0.5], rtol=1e-10)  # std 1/sqrt(2), over sqrt(2), over the mean 1


def test_samples_have_the_mean_and_covariance_of_the_law():
    model, law, _, _ = linear_gaussian()
    drawn = model.sample(40_000, seed=0, batch_size=40_000)
    np.testing.assert_allclose(drawn.mean(0), law.mean, atol=5 * np.sqrt(np.diag(law.cov) / 40_000).max())
    np.testing.assert_allclose(np.cov(drawn.T), law.cov, atol=0.03 * np.diag(law.cov).max())


def test_codes_are_posterior_means_and_lead_to_the_mean_row():
    model, law, A, std = linear_gaussian()
    x = model.space_.transform.forward(torch.tensor(DATA[:5])).numpy() - 0.2
    expected = np.linalg.solve(A.T @ A + std**2 * np.eye(2), A.T @ x.T).T
    z = model.transform(DATA[:5])
    np.testing.assert_allclose(z, expected, atol=1e-6)
    scale = model.space_.transform.scale.numpy()
    np.testing.assert_allclose(model.inverse_transform(z), law.mean + (expected @ A.T) * scale, atol=1e-5)
    with pytest.raises(ValueError, match=r"X has 3 features, but VAE is expecting 2 features"):
        model.inverse_transform(np.zeros((2, 3)))


def test_linear_vae_reaches_ppca():
    X = (DATA - DATA.mean(0)) / DATA.std(0)
    settings = pf.TrainingSettings(steps=400, batch_size=250, learning_rate=0.05, ema=0.1)
    model = pf.VAE(latent_dim=1, training=settings, **AFFINE).fit(X)
    assert model.likelihood_ == "gaussian"
    assert model.log_prob(X).values.mean() == pytest.approx(PCA(1).fit(X).score(X), abs=0.05)


@pytest.mark.parametrize(
    ("likelihood", "top"),
    [
        pytest.param("bernoulli", 1, marks=pytest.mark.full),
        pytest.param("logistic", 1, marks=pytest.mark.full),
        ("logistic", 3),
    ],
)
def test_probabilities_of_all_rows_sum_to_one(likelihood, top):
    X = RNG.integers(0, top + 1, (80, 2)).astype(np.uint8)
    X = np.column_stack([X, np.full(80, 7, dtype=np.uint8)])
    model = pf.VAE(latent_dim=2, likelihood=likelihood, train_steps=60, **TINY).fit(X)
    rows = np.array([(a, b, 7) for a, b in itertools.product(range(top + 1), repeat=2)], dtype=np.uint8)
    found = model.log_prob(rows, samples=600)
    total = np.exp(found.values).sum()
    assert total == pytest.approx(1, abs=4 * np.linalg.norm(found.standard_error * np.exp(found.values)) + 1e-4)
    assert (found.dims, found.constants) == (2, 1)
    drawn = model.sample(5000, seed=0)
    for row, value in zip(rows, np.exp(found.values), strict=True):
        assert (drawn == row).all(1).mean() == pytest.approx(value, abs=0.03)


def test_a_density_integrates_to_one():
    X = RNG.normal(size=(100, 1)) * 3 + 2
    model = pf.VAE(latent_dim=1, train_steps=30, **TINY).fit(X)
    grid = np.linspace(-40, 40, 801)[:, None]
    density = np.exp(model.log_prob(grid, samples=200).values)
    assert np.trapezoid(density, grid[:, 0]) == pytest.approx(1, abs=0.02)


def test_integers_of_a_gaussian_decoder_are_taken_as_intervals():
    """With everything Gaussian, log P(k) >= E_u log p(k + u), which is known."""
    X = RNG.integers(0, 9, (100, 2)).astype(np.int64)
    model = pf.VAE(latent_dim=1, likelihood="gaussian", train_steps=1, **AFFINE).fit(X)
    with torch.no_grad():
        for parameter in model.coder_.parameters():
            parameter.zero_()
    shift, scale = model.space_.transform.shift.numpy(), model.space_.transform.scale.numpy()
    u = (np.arange(2000) + 0.5) / 2000
    expected = sum(stats.norm(shift[j], scale[j]).logpdf(3 + u).mean() for j in range(2))
    found = model.log_prob(np.full((1, 2), 3), samples=1, draws=150)
    assert found.values[0] == pytest.approx(expected, abs=5 * found.standard_error[0])
    assert found.kind == "lower bound"


def test_a_row_does_not_depend_on_its_batch():
    model, _, _, _ = linear_gaussian(exact=False)
    whole = model.log_prob(DATA[:7], samples=3, seed=5).values
    np.testing.assert_allclose(model.log_prob(DATA[:7], samples=3, seed=5, batch_size=2).values, whole, rtol=1e-9)
    np.testing.assert_allclose(model.log_prob(DATA[4:7], samples=3, seed=5, first=4).values, whole[4:], rtol=1e-9)
    assert np.abs(model.log_prob(DATA[:7], samples=3, seed=6).values - whole).max() > 1e-3


def test_conditions_change_codes_and_rows():
    labels = np.repeat([0, 1], 250)
    X = DATA[:, :2] + 20.0 * labels[:, None]
    settings = pf.TrainingSettings(steps=300, batch_size=128, learning_rate=0.05, ema=0.1)
    model = pf.VAE(latent_dim=1, condition_dropout=0.2, training=settings, **AFFINE).fit(X, condition=labels)
    high, low = (model.sample(500, condition=label, seed=0).mean(0) for label in (1, 0))
    np.testing.assert_allclose(high - low, 20, atol=3)
    right, wrong = (model.log_prob(X[:20], condition=label).values.mean() for label in (0, 1))
    assert right > wrong + 1
    np.testing.assert_array_equal(
        model.inverse_transform([[0.0]], condition=1) > model.inverse_transform([[0.0]], condition=0), True
    )


def test_a_condition_moves_the_code_and_the_bound_stays_a_density():
    model = pf.VAE(latent_dim=1, train_steps=1, **AFFINE).fit(DATA[:, :1], condition=np.arange(500) % 2)
    coder = model.coder_
    with torch.no_grad():
        for parameter in coder.parameters():
            parameter.zero_()
        coder.region.weight[:, 2] = torch.tensor([1.5, 0.4])  # of label 1: h ~ N(1.5, exp(2 log s))
        coder.decoder.linear.weight.fill_(2.0)
        coder.encoder.linear.bias.copy_(torch.tensor([0.7, -0.2]))
    s = math.exp(2 * math.tanh(0.2))
    shift, scale = float(model.space_.transform.shift), float(model.space_.transform.scale)
    for label, mean, std in ((0, 0.0, 1.0), (1, 1.5, s), (None, 0.0, 1.0)):
        law = stats.norm(shift + 2 * mean * scale, scale * math.sqrt(4 * std**2 + 1))
        found = model.log_prob(np.full((200, 1), DATA[0, 0]), condition=label, samples=500)
        error = 5 * found.values.std() / math.sqrt(200) + 5e-3
        assert found.values.mean() == pytest.approx(law.logpdf(DATA[0, 0]), abs=error)
        np.testing.assert_allclose(model.transform(DATA[:1, :1], condition=label), (0.7 - mean) / std, atol=1e-6)
        decoded = model.inverse_transform([[0.3]], condition=label)
        np.testing.assert_allclose(decoded, shift + scale * 2 * (mean + std * 0.3), atol=1e-5)
        if label is not None:
            drawn = model.sample(20_000, condition=label, seed=0, batch_size=20_000)
            assert drawn.mean() == pytest.approx(law.mean(), abs=5 * law.std() / math.sqrt(20_000))
            assert drawn.std() == pytest.approx(law.std(), rel=0.03)


def test_the_arc_keeps_its_distance_and_its_pace():
    a, b = torch.tensor([3.0, 0.0, 0.0]).double(), torch.tensor([0.0, 1.8, 2.4]).double()
    points = arc(a, b, torch.linspace(0, 1, 7, dtype=torch.float64))
    torch.testing.assert_close(points.norm(dim=1), torch.full((7,), 3.0, dtype=torch.float64))
    torch.testing.assert_close(points[[0, -1]], torch.stack((a, b)))
    angles = torch.acos((points[1:] * points[:-1]).sum(1) / 9)
    torch.testing.assert_close(angles, torch.full((6,), math.pi / 12, dtype=torch.float64))
    for end in (a, -a, 0 * a):
        line = arc(a, end, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
        torch.testing.assert_close(line, torch.stack((a, (a + end) / 2, end)))


def test_interpolation_and_traversal_decode_the_codes_that_they_name():
    model, _, _, _ = linear_gaussian()
    a, b = DATA[0], DATA[1]
    way = model.interpolate(a, b, 5)
    ends = model.inverse_transform(model.transform(np.stack((a, b))))
    np.testing.assert_allclose(way[[0, -1]], ends, atol=1e-6)
    assert way.shape == (5, 3)
    np.testing.assert_allclose(model.interpolate(a[None], b[None], 5), way)
    z = model.transform(a[None]).repeat(3, axis=0)
    z[:, 1] = [-2.0, 0.0, 2.0]
    np.testing.assert_allclose(model.traverse(1, 3, reach=2.0, around=a), model.inverse_transform(z), atol=1e-6)
    z[:, 0], z[:, 1] = [-2.5, 0.0, 2.5], 0.0
    np.testing.assert_allclose(model.traverse(0, 3), model.inverse_transform(z), atol=1e-6)
    with pytest.raises(ValueError, match=r"dimension must be below 2, the length of a code, got 2"):
        model.traverse(2)
    with pytest.raises(ValueError, match=r"n must be at least 2"):
        model.interpolate(a, b, 1)


def test_the_report_names_collapsed_elements():
    model, law, A, std = linear_gaussian(loadings=((1.2, 0.0), (0.9, 1e-6), (0.0, 0.0)))
    X = law.rvs(20_000, random_state=1)
    report = model.latent_report(X)
    assert report.collapsed == (1,)
    assert report.active.tolist() == [True, False]
    precision = 1 + (A[:, 0] ** 2).sum() / std**2
    # On data of its own law the aggregate posterior is the prior, and the mean KL is the information of the channel.
    assert report.kl[0] == pytest.approx(math.log(precision) / 2, rel=0.02)
    assert report.kl[1] == pytest.approx(0, abs=1e-6)
    assert report.mean_variance[0] == pytest.approx(1 - 1 / precision, rel=0.03)
    np.testing.assert_allclose(report.aggregate_std, 1, atol=0.02)
    np.testing.assert_allclose(report.aggregate_mean, 0, atol=0.03)
    assert str(report).startswith("1 of 2 elements active, 1 collapsed: 1")


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"likelihood='bernoulli' is for elements with two neighboring integers"):
        pf.VAE(likelihood="bernoulli", **TINY).fit(DATA)
    with pytest.raises(ValueError, match=r"beta=0 is not allowed"):
        pf.VAE(beta=0).fit(DATA)
    with pytest.raises(ValueError, match=r"free_bits=-1 is not allowed"):
        pf.VAE(free_bits=-1).fit(DATA)
    with pytest.raises(ValueError, match=r"likelihood='poisson' is not allowed"):
        pf.VAE(likelihood="poisson").fit(DATA)
    model, _, _, _ = linear_gaussian()
    with pytest.raises(ValueError, match=r"samples must be at least 1"):
        model.log_prob(DATA[:2], samples=0)


@pytest.mark.slow  # trains a real model: about 40 seconds on a core
@pytest.mark.parametrize("family", [pf.VAE, pf.HierarchicalVAE])
def test_digits_are_of_the_class_asked_for(family):
    digits = pf.open_data("digits")
    judge = SVC(gamma=0.001).fit(digits.values.reshape(-1, 64), digits.condition)
    model = family(random_state=0).fit("digits")
    labels = np.arange(300) % 10
    samples = model.sample(300, condition=labels, seed=0)
    assert (judge.predict(samples.reshape(-1, 64)) == labels).mean() > 0.85


def test_the_bounds_of_all_rows_of_a_table_sum_to_at_most_one():
    rng = np.random.default_rng(0)
    first = rng.choice(["a", "b", "c"], 400, p=[0.5, 0.3, 0.2])
    frame = pd.DataFrame({"first": first, "second": np.where(rng.random(400) < 0.8, first == "a", first != "a")})
    frame.loc[::8, "first"] = None
    model = pf.VAE(latent_dim=2, train_steps=300, network=pf.CoderSpec(width=16, depth=1), random_state=0).fit(frame)
    rows = pd.DataFrame([(a, b) for a in ("a", "b", "c", None) for b in (False, True)], columns=["first", "second"])
    shares = np.exp(model.log_prob(rows, samples=500).values)
    seen = [
        ((frame["first"].isna() if pd.isna(a) else frame["first"] == a) & (frame["second"] == b)).mean() for a, b in rows.values
    ]
    assert 0.9 < shares.sum() < 1.01
    np.testing.assert_allclose(shares, seen, atol=0.06)
