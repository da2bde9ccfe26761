"""Classifiers of known laws and fitted ones, against closed forms, scikit-learn and counting."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis

from pushforward.probability.divergence import total_variation
from pushforward.probability.estimation.classify import BayesClassifier, LogisticClassifier, fit_logistic, gaussian_log_odds
from pushforward.probability.laws.finite import FiniteLaw
from pushforward.probability.laws.gaussian import Gaussian
from pushforward.probability.laws.mixture import GaussianMixture

ONE = Gaussian([1.0, 0.5], [[1.0, 0.4], [0.4, 0.8]])
ZERO = Gaussian([-0.5, 0.0], [[0.7, -0.2], [-0.2, 1.5]])
SHARED = [[1.0, 0.3], [0.3, 0.5]]


def _quadratic(x):
    return torch.stack([x[..., 0], x[..., 1], x[..., 0] ** 2, x[..., 0] * x[..., 1], x[..., 1] ** 2], -1)


def test_posterior_is_bayes_rule_by_scipy():
    laws = [ZERO, ONE, GaussianMixture([0.5, 0.5], [[3.0, 0.0], [0.0, 3.0]], [1.0, 0.2])]
    priors = [0.2, 0.5, 0.3]
    classifier = BayesClassifier(laws, priors)
    x = torch.randn(4, 6, 2, dtype=torch.float64)
    joint = [p * law.log_prob(x).exp().numpy() for p, law in zip(priors, laws, strict=True)]
    joint[1] = 0.5 * stats.multivariate_normal(ONE.mean, ONE.cov).pdf(x)
    expected = np.stack(joint, -1) / sum(joint)[..., None]
    np.testing.assert_allclose(classifier.posterior(x), expected, rtol=1e-10)
    np.testing.assert_array_equal(classifier.predict(x), expected.argmax(-1))
    np.testing.assert_allclose(classifier.scores(x).logsumexp(-1).exp(), sum(joint), rtol=1e-10)
    np.testing.assert_allclose(classifier.log_odds(x, of=2, against=1), np.log(expected[..., 2] / expected[..., 1]), rtol=1e-9)


def test_posterior_holds_where_all_densities_underflow():
    classifier = BayesClassifier([Gaussian([0.0], 1.0), Gaussian([1.0], 1.0)])
    assert classifier.posterior(torch.tensor([[100.0]]))[0, 0].item() == pytest.approx(math.exp(-99.5), rel=1e-10)


@pytest.mark.parametrize("prior", [0.5, 0.9])
def test_log_odds_of_two_gaussians_are_quadratic(prior):
    x = torch.randn(5, 3, 2, dtype=torch.float64) * 3
    classifier = BayesClassifier([ZERO, ONE], [1 - prior, prior])
    odds = gaussian_log_odds(ONE, ZERO, prior)
    torch.testing.assert_close(odds(x), classifier.log_odds(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(odds(x), -classifier.log_odds(x, of=0, against=1), rtol=1e-10, atol=1e-10)
    # On a zero of the polynomial both classes are equally probable.
    root = optimize.brentq(lambda s: odds(torch.tensor([s, 0.3 * s])).item(), -3, 3)
    np.testing.assert_allclose(classifier.posterior(torch.tensor([[root, 0.3 * root]])), [[0.5, 0.5]], atol=1e-9)


@pytest.mark.parametrize("cov", [0.7, [0.5, 2.0], SHARED])
def test_equal_covariances_have_a_flat_boundary(cov):
    """w = S^-1 (m1 - m0); with equal priors it passes through the middle of the means."""
    one, zero = Gaussian([1.0, 2.0], cov), Gaussian([0.0, -1.0], cov)
    full = np.eye(2) * cov if np.ndim(cov) < 2 else np.array(cov)
    odds = gaussian_log_odds(one, zero)
    assert odds.matrix.abs().max() == 0
    np.testing.assert_allclose(odds.vector, np.linalg.solve(full, [1.0, 3.0]), rtol=1e-12)
    assert odds((one.mean + zero.mean) / 2).item() == pytest.approx(0, abs=1e-12)


def test_error_rate_of_two_gaussians_is_a_normal_tail():
    """Phi(-d / 2) for the Mahalanobis distance d; with unequal priors by the threshold of the log-odds."""
    one, zero = Gaussian([1.0, 0.5], SHARED), Gaussian([-0.5, 0.0], SHARED)
    delta = np.array([1.5, 0.5])
    d = math.sqrt(delta @ np.linalg.solve(SHARED, delta))
    for prior in (0.5, 0.8):
        shift = math.log(prior / (1 - prior)) / d
        exact = prior * stats.norm.cdf(-d / 2 - shift) + (1 - prior) * stats.norm.cdf(-d / 2 + shift)
        classifier = BayesClassifier([zero, one], [1 - prior, prior])
        estimates = [classifier.error_rate(500, seed=seed) for seed in range(200)]
        z = np.array([(e.value - exact) / e.standard_error for e in estimates])
        assert abs(z.mean()) < 4 / math.sqrt(200)
        assert 0.8 < z.std() < 1.2
        x, labels = classifier.sample(20_000, seed=5)
        wrong = (classifier.predict(x) != labels).double().mean().item()
        assert abs(wrong - exact) < 4 * math.sqrt(exact / 20_000)
        assert estimates[0].standard_error < 0.9 * math.sqrt(exact * (1 - exact) / 500)


def test_bayes_error_of_finite_laws_is_half_of_what_total_variation_leaves():
    p, q = [0.1, 0.2, 0.7], [0.5, 0.3, 0.2]
    classifier = BayesClassifier([FiniteLaw(p), FiniteLaw(q)])
    estimate = classifier.error_rate(20_000, seed=0)
    assert abs(estimate.value - (1 - total_variation(p, q).item()) / 2) < 4 * estimate.standard_error


def test_no_classifier_errs_less_than_bayes():
    truth = BayesClassifier([ZERO, ONE], [0.3, 0.7])
    best = truth.error_rate(4000, seed=2)
    for angle in np.linspace(0, 6, 13):
        weights = torch.tensor([[0.0, 0.0], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        other = LogisticClassifier(lambda x: x, weights, torch.zeros(2, dtype=torch.float64))
        assert truth.error_rate(4000, seed=2, of=other).value >= best.value
    x, labels = truth.sample(40_000, seed=3)
    wrong = (other.predict(x) != labels).double().mean().item()
    assert abs(truth.error_rate(4000, seed=2, of=other).value - wrong) < 0.03


def test_labelled_draws_are_addressed_and_follow_their_class():
    truth = BayesClassifier([ZERO, ONE], [0.3, 0.7])
    x, labels = truth.sample(20_000, seed=1)
    assert stats.chisquare(labels.bincount(), [6000, 14000]).pvalue > 0.01
    for k, law in enumerate((ZERO, ONE)):
        for axis in range(2):
            normal = stats.norm(law.mean[axis].item(), law.cov[axis, axis].sqrt().item())
            assert stats.kstest(x[labels == k, axis].numpy(), normal.cdf).pvalue > 0.01
    some, some_labels = truth.sample(10, seed=1, first=70)
    assert torch.equal(some, x[70:80])
    assert torch.equal(some_labels, labels[70:80])


@pytest.mark.parametrize("features", [None, _quadratic])
def test_the_fit_maximizes_the_likelihood(features):
    """Its conditions, and a general minimizer: for each class the mean of features is what the fitted p(k | x) expects."""
    laws = [ZERO, ONE, Gaussian([2.0, -2.0], 1.0)]
    x, labels = BayesClassifier(laws, [0.3, 0.4, 0.3]).sample(400, seed=0)
    fitted = fit_logistic(x, labels, features=features)
    off = torch.nn.functional.one_hot(labels) - fitted.posterior(x)
    table = x if features is None else features(x)
    np.testing.assert_allclose(off.T @ table / 400, 0, atol=1e-6)
    np.testing.assert_allclose(off.sum(0) / 400, 0, atol=1e-6)


def test_the_discriminative_fit_converges_to_the_flat_boundary():
    """Equal covariances: the error of the fitted w falls like 1 / sqrt(n), and so does linear discriminant analysis."""
    one, zero = Gaussian([1.0, 0.5], SHARED), Gaussian([-0.5, 0.0], SHARED)
    truth, odds = BayesClassifier([zero, one], [0.4, 0.6]), gaussian_log_odds(one, zero, 0.6)
    exact = np.append(odds.vector, odds.constant)
    for n in (400, 40_000):
        errors = []
        for seed in range(4):
            fitted = fit_logistic(*truth.sample(n, seed=seed))
            errors.append(np.append(fitted.weights[1] - fitted.weights[0], fitted.biases[1] - fitted.biases[0]) - exact)
        assert np.sqrt(np.mean(np.square(errors))) < 5 / math.sqrt(n)
    x, labels = truth.sample(40_000, seed=0)
    generative = LinearDiscriminantAnalysis().fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(generative.coef_[0], odds.vector, atol=0.06)


def test_quadratic_features_find_the_curved_boundary():
    truth, odds = BayesClassifier([ZERO, ONE]), gaussian_log_odds(ONE, ZERO)
    x, labels = truth.sample(40_000, seed=0)
    fitted = fit_logistic(x, labels, features=_quadratic)
    weights = (fitted.weights[1] - fitted.weights[0]).numpy()
    m = odds.matrix
    np.testing.assert_allclose(weights, [*odds.vector, m[0, 0], 2 * m[0, 1], m[1, 1]], atol=0.12)
    linear = fit_logistic(x, labels)
    best, curved, straight = (truth.error_rate(8000, seed=9, of=c).value for c in (None, fitted, linear))
    assert best <= curved < best + 1e-3
    assert straight > best + 5e-3
    peer = QuadraticDiscriminantAnalysis().fit(x.numpy(), labels.numpy())
    agree = (torch.as_tensor(peer.predict(x.numpy())) == fitted.predict(x)).double().mean()
    assert agree > 0.99


def test_scale_and_offset_of_a_feature_do_not_matter_without_a_penalty():
    x, labels = BayesClassifier([ZERO, ONE]).sample(300, seed=0)
    plain = fit_logistic(x, labels)
    moved = fit_logistic(x, labels, features=lambda x: x * torch.tensor([1e4, 1e-4]).double() + 7)
    torch.testing.assert_close(moved.posterior(x), plain.posterior(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("penalty", [0.1, 10.0])
def test_penalty_is_that_of_its_formula(penalty):
    x, labels = BayesClassifier([ZERO, ONE]).sample(200, seed=0)
    sign = 2.0 * labels.numpy() - 1

    def loss(w):
        return np.logaddexp(0, -sign * (x.numpy() @ w[:2] + w[2])).sum() + penalty / 2 * (w[:2] ** 2).sum()

    expected = optimize.minimize(loss, np.zeros(3), tol=1e-12).x
    fitted = fit_logistic(x, labels, penalty=penalty)
    np.testing.assert_allclose(fitted.weights[1] - fitted.weights[0], expected[:2], atol=1e-4)
    np.testing.assert_allclose(fitted.biases[1] - fitted.biases[0], expected[2], atol=1e-4)


def test_separable_classes_have_no_most_likely_boundary():
    x, labels = torch.tensor([[-2.0], [-1.0], [1.0], [3.0]]), torch.tensor([0, 0, 1, 1])
    with pytest.raises(ValueError, match=r"separate all 4 rows without an error.*give a penalty above 0"):
        fit_logistic(x, labels)
    assert fit_logistic(x, labels, penalty=1.0).predict(x).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: BayesClassifier([ONE]), r"at least 2 laws, but there are 1"),
        (lambda: BayesClassifier([ONE, ZERO], [0.5, 0.6]), r"priors must sum to 1, but it sums to 1\.1"),
        (lambda: BayesClassifier([ONE, ZERO], [0.5, 0.25, 0.25]), r"priors must have the shape \(2,\)"),
        (lambda: BayesClassifier([ONE, ZERO], [1.0, 0.0]), r"class 1 has the prior 0: omit it"),
        (lambda: gaussian_log_odds(ONE, ZERO, 1.0), r"in \(0, 1\), not 1"),
        (lambda: gaussian_log_odds(ONE, Gaussian([0.0], 1.0)), r"live in 2 and 1 dimensions"),
        (lambda: fit_logistic(torch.zeros(3), torch.zeros(3).long()), r"features must be \(n, F\) and labels \(n,\)"),
        (lambda: fit_logistic(torch.zeros(3, 1), torch.zeros(3).long(), penalty=-1.0), r"at least 0, not -1"),
        (lambda: fit_logistic(torch.zeros(3, 1), torch.tensor([0, 2, 2])), r"numbers of rows are \[1, 0, 2\]"),
        (lambda: fit_logistic(torch.zeros(3, 1), torch.tensor([0, -1, 1])), r"but one is -1"),
    ],
)
def test_mistakes_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_labels_are_integers():
    with pytest.raises(TypeError, match=r"labels must be integers.*torch\.float32"):
        fit_logistic(torch.zeros(3, 1), torch.zeros(3))
