"""VQ-VAE: a small one's law is added up over all the codes there are, and everything else is held against that."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.svm import SVC

import pushforward as pf
from pushforward import diffusion
from pushforward.models.autoencoders.reports import CodeReport
from pushforward.training import TrainingSettings, train

RNG = np.random.default_rng(0)
LAW = pf.TransformerSpec(width=8, depth=1, heads=2)
TINY = {"network": pf.CoderSpec(width=8, depth=1), "prior": LAW, "random_state": 0, "device": "cpu"}
ANGLES = RNG.uniform(0, 2 * np.pi, 400)
RING = np.column_stack([3 * np.cos(ANGLES) + 5, np.sin(ANGLES)]) + 0.1 * RNG.normal(size=(400, 2))


def small(tokens=2, size=4, data=RING, **options):
    """Return a VQ-VAE that was trained for a moment, with a law of the codes that is far from even."""
    model = pf.VQVAE(tokens=tokens, codebook_size=size, train_steps=20, held_out=0.0, **TINY | options).fit(data)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.coder_.prior.parameters():
            parameter.add_(0.4 * torch.randn_like(parameter))
    return model


def law_of_codes(model):
    """Return all codes (C, L), and log P of each in each order of uncovering (C, L!)."""
    size, tokens = model.codebook_size_, model.tokens_
    codes = np.array(list(itertools.product(range(size), repeat=tokens)))
    prior, found = model.coder_.prior.double(), []
    for order in itertools.permutations(range(tokens)):
        seen, total = torch.full(codes.shape, -1), np.zeros(len(codes))
        for position in order:
            with torch.no_grad():
                logits = prior(seen)[:, position].numpy()
            shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            total += np.log(shares[np.arange(len(codes)), codes[:, position]])
            seen[:, position] = torch.from_numpy(codes[:, position])
        found.append(total)
    model.coder_.prior.float()
    return codes, np.stack(found, axis=1)


def log_density_given(model, X, codes):
    """Return log p(x | codes) of each row given each code, (N, C), for the Gaussian likelihood."""
    std = model.space_.transform.scale.numpy() * math.exp(model.coder_.likelihood.log_std.item())
    return stats.norm(model.inverse_transform(codes)[None], std).logpdf(X[:, None]).sum(2)


@pytest.mark.parametrize("tokens", [1, 2])
def test_the_bound_is_the_one_that_is_added_up_and_below_the_density(tokens):
    model, X = small(tokens), RING[:40]
    codes, log_p = law_of_codes(model)
    np.testing.assert_allclose(np.exp(log_p).sum(0), 1, atol=1e-9)
    inside, given = log_density_given(model, X, codes), model.transform(X)
    mine = (given[:, None] == codes[None]).all(2).argmax(1)
    wanted = inside[np.arange(40), mine] + log_p.mean(1)[mine]
    found = model.log_prob(X, samples=64)
    assert (found.kind, found.dims) == ("lower bound", 2)
    if tokens == 1:
        np.testing.assert_allclose(found.values, wanted, atol=1e-5)
        np.testing.assert_allclose(model.score_samples(X), wanted, atol=1e-5)
    assert (np.abs(found.values - wanted) < 5 * found.standard_error + 1e-5).all()
    assert np.ptp(wanted) > 1
    density = np.log((np.exp(inside) * np.exp(log_p).mean(1)).sum(1))
    assert (wanted < density + 1e-9).all()


def test_rows_are_drawn_from_the_law_that_is_bounded():
    model = small()
    codes, log_p = law_of_codes(model)
    p, middles = np.exp(log_p).mean(1), model.inverse_transform(codes)
    std = model.space_.transform.scale.numpy() * math.exp(model.coder_.likelihood.log_std.item())
    mean = p @ middles
    cov = (middles - mean).T @ (p[:, None] * (middles - mean)) + np.diag(std**2)
    rows = model.sample(8000, seed=0)
    assert (np.abs(rows.mean(0) - mean) < 5 * np.sqrt(np.diag(cov) / 8000)).all()
    np.testing.assert_allclose(np.cov(rows.T), cov, atol=0.1 * np.diag(cov).max())
    np.testing.assert_allclose(rows[300:350], model.sample(50, seed=0, first=300), atol=1e-5)


def test_scores_do_not_depend_on_the_place_or_the_batch():
    model = small(3)
    whole = model.score_samples(RING[:300])
    np.testing.assert_allclose(model.score_samples(RING[280:300]), whole[280:], atol=1e-6)
    values = model.log_prob(RING[:20]).values
    np.testing.assert_allclose(model.log_prob(RING[:20], batch_size=7).values, values, atol=1e-6)
    np.testing.assert_allclose(model.log_prob(RING[5:20], first=5).values, values[5:], atol=1e-6)
    assert not np.allclose(model.log_prob(RING[:20], seed=1).values, values)


def test_the_loss_is_the_negative_bound_in_data_units():
    model = small()
    codes, log_p = law_of_codes(model)
    task = model._task(model.coder_, None).eval()
    x = model.space_.transform.forward(torch.tensor(RING[:1])).float().repeat(4000, 1)
    numbers = task.numbers(torch.arange(4000), 4000, torch.zeros(1, dtype=torch.int64), 0)
    assert [tuple(part.shape) for part in numbers] == [(1, 4000, 2), (1, 4000)]
    loss = task.loss(x, None, tuple(part[0] for part in numbers)).detach()
    mine = (model.transform(RING[:1]) == codes).all(1).argmax()
    wanted = log_density_given(model, RING[:1], codes)[0, mine] + log_p.mean(1)[mine]
    assert float(loss.mean()) == pytest.approx(-wanted, abs=5 * float(loss.std()) / math.sqrt(4000))


@pytest.mark.parametrize("likelihood", ["logistic", pytest.param("gaussian", marks=pytest.mark.full)])
def test_probabilities_of_integers_are_bounded_by_the_loss_that_is_trained(likelihood):
    X = RNG.choice([0, 1, 2, 5], (200, 1))
    model = small(1, data=X, likelihood=likelihood)
    there = np.arange(6)[:, None]
    found = model.log_prob(there, draws=40)
    assert 0.2 < np.exp(found.values).sum() < 1
    task = model._task(model.coder_, None).eval()
    x, draws = model.space_.transform.forward(torch.tensor(there).double()).float(), (torch.zeros(6, 1), torch.zeros(6))
    if likelihood == "logistic":
        np.testing.assert_allclose(task.loss(x, None, draws).detach(), -found.values, atol=1e-5)
        return
    u = model.space_.transform.dequantization.float() * (torch.arange(100.0)[:, None, None] + 0.5) / 100
    loss = torch.stack([task.loss(x + part, None, draws) for part in u]).mean(0).detach().numpy()
    assert (np.abs(loss + found.values) < 5 * found.standard_error).all()
    assert (found.standard_error < 0.1 * np.abs(loss)).all()


def test_in_training_the_distance_to_the_codes_is_added():
    model, x = small(), torch.randn(50, 2)
    numbers = (torch.rand(50, 2), torch.rand(50))
    coder = model.coder_
    z = coder.encoder(x, None).unflatten(1, (2, -1))
    codes = coder.encode(x, None)
    unit = z / z.norm(dim=2, keepdim=True)
    distance = (unit - coder.quantizer.vectors(codes)).square().sum((1, 2))
    weights = list(coder.encoder.parameters())
    wanted = torch.autograd.grad(distance.sum(), weights, retain_graph=True)
    twin = copy.deepcopy(coder).train()
    given = torch.autograd.grad(twin.quantize(x, None).distance.sum(), list(twin.encoder.parameters()))
    for one, two in zip(given, wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)
    distance = distance.detach()
    plain = model._task(coder, None).eval().loss(x, None, numbers).detach()
    model.set_params(commitment=0.7)
    torch.testing.assert_close(
        model._task(coder, None).train().loss(x, None, numbers).detach() - plain, 0.7 * distance, rtol=1e-3, atol=1e-4
    )


def test_coder_and_law_each_get_the_gradient_of_their_own_part():
    model, x = small(), torch.randn(50, 2)
    numbers = (torch.rand(50, 2), torch.rand(50))

    def gradients(coder):
        model._task(coder, None).train().loss(x, None, numbers).mean().backward()
        return {name: p.grad for name, p in coder.named_parameters()}

    first = gradients(copy.deepcopy(model.coder_))
    other = copy.deepcopy(model.coder_)
    codes = other.encode(x, None)
    diffusion.masked_loss(other.prior, codes, diffusion.mask_tokens(*numbers)).mean().backward()
    with torch.no_grad():
        for p in model.coder_.prior.parameters():
            p.mul_(-2.0)
    second = gradients(model.coder_)
    for name, p in other.named_parameters():
        if name.startswith("prior."):
            torch.testing.assert_close(first[name], p.grad)
            assert not torch.allclose(first[name], second[name])
        else:
            assert p.grad is None
            assert first[name].any()
            torch.testing.assert_close(first[name], second[name])


@pytest.mark.full  # loss and gradients are exact above; a page of the site trains one too
def test_it_learns_a_ring_and_uses_its_codes():
    """Rows of an ellipse with noise of 0.1 across; 32 codes of a row tell the angle well."""
    settings = TrainingSettings(steps=400, batch_size=128, learning_rate=4e-3, ema=0.1)
    options = TINY | {"network": pf.CoderSpec(width=32, depth=1), "training": settings}
    model = pf.VQVAE(tokens=2, codebook_size=16, **options).fit(RING)
    back = model.inverse_transform(model.transform(RING))
    assert np.sqrt(((back - RING) ** 2).sum(1).mean()) < 0.35
    rows = model.sample(1000, seed=0)
    radius = np.hypot((rows[:, 0] - 5) / 3, rows[:, 1])
    assert abs(np.median(radius) - 1) < 0.1
    assert np.quantile(np.abs(radius - 1), 0.9) < 0.35
    report = model.code_report(RING)
    assert report.used >= 12
    assert report.perplexity > 8


def test_codes_are_integers_in_the_container_of_the_data():
    model = small(3, 5)
    codes = model.transform(RING[:50])
    assert (codes.dtype, codes.shape) == (np.int64, (50, 3))
    assert codes.min() >= 0
    assert codes.max() < 5
    np.testing.assert_array_equal(model.inverse_transform(codes.astype(float)), model.inverse_transform(codes))
    images = torch.from_numpy(RNG.random((30, 1, 6, 5)))
    other = pf.VQVAE(tokens=2, codebook_size=4, train_steps=2, **TINY).fit(images)
    assert other.transform(images).dtype == torch.int64
    assert other.inverse_transform(other.transform(images[:3])).shape == (3, 1, 6, 5)


@pytest.mark.parametrize("wrong", [0.5, -1, 4])
def test_numbers_that_are_no_codes_are_refused(wrong):
    with pytest.raises(ValueError, match=rf"codes are integers from 0 to 3.*but Z has the value {wrong:g}"):
        small().inverse_transform([[0, wrong]])


def test_the_report_counts_codes():
    model = small(2, 4)
    codes = model.transform(RING)
    report = model.code_report(RING)
    for position in range(2):
        np.testing.assert_array_equal(report.counts[position], [(codes[:, position] == k).sum() for k in range(4)])
    assert (report.size, report.used) == (4, len(np.unique(codes)))
    shares = np.bincount(codes.ravel(), minlength=4) / codes.size
    assert report.perplexity == pytest.approx(math.exp(stats.entropy(shares)))
    assert f"{report.used} of 4 codes used by 400 rows" in str(report)
    even = CodeReport.of(np.arange(12)[:, None].repeat(9, axis=1) % 6, 8)
    np.testing.assert_allclose(even.perplexity_by_position, 6)
    assert str(even).endswith("6.0, 6.0, ...")


def test_defaults_by_the_data():
    for X, tokens, size, likelihood in (
        (RING, 2, 16, "gaussian"),
        (RNG.normal(size=(40, 20)), 8, 64, "gaussian"),
        (RNG.integers(0, 9, (40, 8, 8)).astype(np.uint8), 4, 64, "logistic"),
        (RNG.integers(0, 2, (10, 28, 28)).astype(np.uint8), 16, 256, "bernoulli"),
    ):
        model = pf.VQVAE(train_steps=1, **TINY).fit(X)
        even = model.training_.batch_size * tokens / size
        assert model.coder_.quantizer.codebook._codebook.threshold_ema_dead_code == pytest.approx(even / 20)
        assert (model.tokens_, model.codebook_size_, model.likelihood_) == (tokens, size, likelihood)


def test_larger_images_get_a_small_law_of_codes_and_larger_steps():
    small, large = (
        pf.VQVAE(network=TINY["network"], train_steps=1).fit(RNG.integers(0, 9, (20, side, side))) for side in (8, 28)
    )
    assert (small.prior_, small.training_.learning_rate) == (pf.TransformerSpec(width=64, depth=2), 2e-3)
    assert (large.prior_, large.training_.learning_rate) == (pf.TransformerSpec(width=96, depth=2), 2e-3)


def test_a_step_that_is_not_finite_leaves_the_codebook_as_it_was():
    model = small()
    x = torch.randn(40, 2)
    x[7] = math.inf
    task = model._task(model.coder_, None)
    result = train(task, x, settings=TrainingSettings(steps=12, batch_size=4), seed=0, device="cpu")
    assert 1 <= result.skipped < 12
    assert all(value.isfinite().all() for value in task.state_dict().values())


def test_arguments_that_do_not_fit_are_named():
    for options, message in (
        ({"tokens": 0}, r"tokens=0 is not allowed"),
        ({"codebook_size": 0}, r"codebook_size=0 is not allowed"),
        ({"commitment": -1.0}, r"commitment=-1.0 is not allowed"),
        ({"likelihood": "bernoulli"}, r"likelihood='bernoulli' is for elements with two neighboring integers"),
    ):
        with pytest.raises(ValueError, match=message):
            pf.VQVAE(**options, **TINY).fit(RING)


@pytest.mark.slow  # trains a real model: more than a minute on a core
def test_digits_are_of_the_class_asked_for_and_all_codes_are_used():
    digits = pf.open_data("digits")
    judge = SVC(gamma=0.001).fit(digits.values.reshape(-1, 64), digits.condition)
    model = pf.VQVAE(random_state=0).fit("digits")
    labels = np.arange(300) % 10
    samples = model.sample(300, condition=labels, seed=0)
    assert (judge.predict(samples.reshape(-1, 64)) == labels).mean() > 0.85
    report = model.code_report(digits.values, condition=digits.condition)
    assert report.used >= 60
    assert report.perplexity > 48
