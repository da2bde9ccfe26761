r"""Two kinds of classifiers: from the laws of the classes (generative), or from labelled draws (discriminative).

A generative classifier knows p(x | k) and p(k) and applies Bayes' rule; no classifier has a lower error rate:

    p(k | x) = p(k) p(x | k) / sum_j p(j) p(x | j).

A discriminative one fits p(k | x) = softmax(W f(x) + b), a linear head on a feature extractor f, to labelled draws; it does
not model the law of x. Two Gaussians N(m_1, S_1) and N(m_0, S_0) have log-odds that are quadratic in x,

    log p(1 | x) / p(0 | x) = x^T Q x + w^T x + c,    Q = (S_0^-1 - S_1^-1) / 2,    w = S_1^-1 m_1 - S_0^-1 m_0,

and the boundary is their zero set: a line or plane if S_1 = S_0 = S, with w = S^-1 (m_1 - m_0).

References
----------
Andrew Y. Ng, Michael I. Jordan. On discriminative vs. generative classifiers: a comparison of logistic regression and naive
Bayes. NeurIPS 2001.
Christopher M. Bishop. Pattern recognition and machine learning, sections 1.5 and 4.2. Springer, 2006.
"""

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward.probability import noise
from pushforward.probability.arrays import ArrayLike, as_float_tensor
from pushforward.probability.divergence import Estimate, Law, as_probabilities
from pushforward.probability.laws.gaussian import Gaussian

__all__ = ["BayesClassifier", "Classifier", "LogisticClassifier", "QuadraticLogOdds", "fit_logistic", "gaussian_log_odds"]


class Classifier(abc.ABC):
    """Base of classifiers that compute log p(k | x) up to a term that does not depend on k."""

    @abc.abstractmethod
    def scores(self, x: Tensor) -> Tensor:
        """Return log p(k | x) + c(x): x (*, D) to (*, K)."""

    def posterior(self, x: Tensor) -> Tensor:
        """p(k | x): x (*, D) to (*, K)."""
        return self.scores(x).softmax(-1)

    def predict(self, x: Tensor) -> Tensor:
        """Return the most probable class: x (*, D) to int64 (*,)."""
        return self.scores(x).argmax(-1)

    def log_odds(self, x: Tensor, of: int = 1, against: int = 0) -> Tensor:
        """Return log p(of | x) - log p(against | x): x (*, D) to (*,); 0 on the boundary between these two classes."""
        scores = self.scores(x)
        return scores[..., of] - scores[..., against]


@dataclass(frozen=True, eq=False)
class BayesClassifier(Classifier):
    """The classifier of known laws p(x | k) and priors p(k): the one with the lowest error rate.

    Parameters
    ----------
    laws : sequence of K laws
        Anything with ``log_prob`` and ``sample``, all on one space.
    priors : array (K,), optional
        Positive, with sum one; by default equal.

    >>> classifier = BayesClassifier([Gaussian([-1.0], 1.0), Gaussian([1.0], 1.0)])
    >>> classifier.posterior(torch.tensor([[0.5]])).tolist()
    [[0.268..., 0.731...]]
    >>> estimate = classifier.error_rate(10_000, seed=0)  # exactly Phi(-1) = 0.1587
    >>> abs(estimate.value - 0.1587) < 3 * estimate.standard_error
    True
    """

    laws: tuple[Law, ...]
    priors: Tensor

    def __init__(self, laws: Sequence[Law], priors: ArrayLike | None = None) -> None:
        if len(laws) < 2:
            raise ValueError(f"a classifier needs at least 2 laws, but there are {len(laws)}")
        priors = as_probabilities([1 / len(laws)] * len(laws) if priors is None else priors, "priors")
        if priors.shape != (len(laws),):
            raise ValueError(f"priors must have the shape ({len(laws)},) to go with the laws, but has {tuple(priors.shape)}")
        if not bool((priors > 0).all()):
            raise ValueError(f"class {int(priors.argmin())} has the prior 0: omit it")
        object.__setattr__(self, "laws", tuple(laws))
        object.__setattr__(self, "priors", priors)

    def scores(self, x: Tensor) -> Tensor:
        """Return log p(k) + log p(x | k): x (*, D) to (*, K); its logsumexp is log p(x)."""
        log_likelihood = torch.stack([law.log_prob(x) for law in self.laws], -1)
        return log_likelihood + self.priors.log().to(log_likelihood)

    def sample(self, n: int, *, seed: int, first: int = 0) -> tuple[Tensor, Tensor]:
        """Draw rows ``first`` to ``first + n - 1`` of the labelled sample that ``seed`` names: x (n, D) and classes (n,)."""
        u = noise.uniform(
            (1,),
            seed=seed,
            purpose="class",
            rows=torch.arange(first, first + n),
            dtype=torch.float64,
            device=self.priors.device,
        )
        labels = torch.searchsorted(self.priors.double().cumsum(0), u[:, 0], right=True).clamp_(max=len(self.laws) - 1)
        # Every law draws every row, so that a row depends only on its own number.
        draws = [law.sample(n, seed=seed, first=first) for law in self.laws]
        labels = labels.to(draws[0].device)
        return torch.stack(draws)[labels, torch.arange(n, device=labels.device)], labels

    def error_rate(self, n: int, *, seed: int, of: Classifier | None = None) -> Estimate:
        """Estimate how often a classifier (this one by default) errs on draws of these laws: E[1 - p(predicted class | x)].

        The probability of an error given x is known exactly, so only x is drawn: the mean is that of counting errors, with a
        smaller variance.
        """
        x, _ = self.sample(n, seed=seed)
        predicted = (self if of is None else of).predict(x)
        return Estimate.of(1 - self.posterior(x).gather(-1, predicted[:, None])[:, 0])


@dataclass(frozen=True, eq=False)
class QuadraticLogOdds:
    """The function x^T matrix x + vector . x + constant, whose zeros are the boundary between two Gaussian classes.

    Parameters
    ----------
    matrix : Tensor (D, D)
        0 where the covariances are equal: the boundary is then a plane with the normal ``vector``.
    vector : Tensor (D,)
    constant : Tensor ()
    """

    matrix: Tensor
    vector: Tensor
    constant: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """Log-odds: x (*, D) to (*,)."""
        x = x.to(self.vector)
        return ((x @ self.matrix) * x).sum(-1) + x @ self.vector + self.constant


def gaussian_log_odds(one: Gaussian, zero: Gaussian, prior: float = 0.5) -> QuadraticLogOdds:
    """Return log p(one | x) - log p(zero | x) as a polynomial in x, where ``prior`` is the probability of ``one``.

    >>> odds = gaussian_log_odds(Gaussian([1.0, 0.0], 1.0), Gaussian([0.0, 0.0], 1.0))
    >>> odds.vector.tolist(), odds.matrix.abs().max().item(), odds(torch.tensor([0.5, 3.0])).item()
    ([1.0, 0.0], 0.0, 0.0)
    """
    if not 0 < prior < 1:
        raise ValueError(f"prior is the probability of the first law, in (0, 1), not {prior:g}")
    if len(one.mean) != len(zero.mean):
        raise ValueError(f"the laws live in {len(one.mean)} and {len(zero.mean)} dimensions")
    precision_1, precision_0 = _precision(one), _precision(zero).to(one.mean)
    mean_0 = zero.mean.to(one.mean)
    matrix = (precision_0 - precision_1) / 2
    vector = precision_1 @ one.mean - precision_0 @ mean_0
    constant = (
        (mean_0 @ precision_0 @ mean_0 - one.mean @ precision_1 @ one.mean) / 2
        + (precision_1.logdet() - precision_0.logdet()) / 2
        + torch.tensor(prior / (1 - prior), dtype=torch.float64).log().to(one.mean)
    )
    return QuadraticLogOdds(matrix, vector, constant)


@dataclass(frozen=True, eq=False)
class LogisticClassifier(Classifier):
    """p(k | x) = softmax(weights f(x) + biases): a linear head on the features f.

    Parameters
    ----------
    features : callable
        f: x (*, D) to (*, F).
    weights : Tensor (K, F)
    biases : Tensor (K,)
    """

    features: Callable[[Tensor], Tensor]
    weights: Tensor
    biases: Tensor

    def scores(self, x: Tensor) -> Tensor:
        """Return weights f(x) + biases: x (*, D) to (*, K)."""
        return self.features(x).to(self.weights) @ self.weights.T + self.biases


def fit_logistic(
    x: Tensor, labels: Tensor, *, features: Callable[[Tensor], Tensor] | None = None, penalty: float = 0.0
) -> LogisticClassifier:
    """Fit p(k | x) = softmax(W f(x) + b) to labelled rows by maximum likelihood (scikit-learn's logistic regression).

    Parameters
    ----------
    x : Tensor (n, D)
    labels : Tensor (n,)
        Classes 0 to K - 1, each of them present.
    features : callable, optional
        The extractor f: (n, D) to (n, F), by default x itself.
    penalty : float
        The sum of the negative log-likelihoods plus penalty / 2 times the sum of squared weights is minimized. With two
        classes only the second has weights.

    Raises
    ------
    ValueError
        If shapes do not fit, a class has no row, or the penalty is 0 and the features separate the classes without error,
        so that the likelihood grows without bound with the length of the weights.

    >>> truth = BayesClassifier([Gaussian([-1.0], 1.0), Gaussian([1.0], 1.0)])
    >>> fitted = fit_logistic(*truth.sample(2000, seed=0))
    >>> truth.error_rate(2000, seed=1).value <= truth.error_rate(2000, seed=1, of=fitted).value
    True
    """
    from sklearn.linear_model import LogisticRegression

    extract = _identity if features is None else features
    table = extract(x).detach().double()
    if table.ndim != 2 or labels.shape != (len(table),):
        raise ValueError(
            f"features must be (n, F) and labels (n,), but they are {tuple(table.shape)} and {tuple(labels.shape)}"
        )
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"penalty must be a number that is at least 0, not {penalty:g}")
    counts = _class_counts(labels)
    # Scaling features by their deviations conditions the search well, but a penalty applies to the weights as they are.
    scale = table.std(0, correction=0)
    scale = torch.ones_like(scale) if penalty else scale.where(scale > 0, 1.0)
    shift = table.mean(0)
    head = LogisticRegression(C=1 / penalty if penalty else float("inf"), tol=1e-10, max_iter=10_000)
    head.fit(((table - shift) / scale).cpu().numpy(), labels.cpu().numpy())
    weights, biases = as_float_tensor(head.coef_), as_float_tensor(head.intercept_)
    if len(counts) == 2:
        # scikit-learn returns the log-odds of class 1 only.
        weights, biases = torch.cat([torch.zeros_like(weights), weights]), torch.cat([torch.zeros_like(biases), biases])
    weights = weights.to(table) / scale
    fitted = LogisticClassifier(extract, weights, biases.to(table) - weights @ shift)
    if penalty == 0 and bool((fitted.predict(x) == labels).all()):
        raise ValueError(
            f"the features separate all {len(x)} rows without an error, so the likelihood has no maximum; "
            "give a penalty above 0, or fewer features, or more rows"
        )
    return fitted


def _class_counts(labels: Tensor) -> Tensor:
    if labels.is_floating_point():
        raise TypeError(f"labels must be integers, the numbers of the classes, not {labels.dtype}")
    if int(labels.min()) < 0:
        raise ValueError(f"labels must be 0 to K - 1, but one is {int(labels.min())}")
    counts = labels.long().bincount()
    if len(counts) < 2 or not bool((counts > 0).all()):
        raise ValueError(f"every class 0 to K - 1, K >= 2, needs a row, but the numbers of rows are {counts.tolist()}")
    return counts


def _precision(law: Gaussian) -> Tensor:
    dim = len(law.mean)
    full = law.cov if law.cov.ndim == 2 else torch.diag(law.cov.expand(dim))
    precision: Tensor = torch.linalg.inv(full)
    return (precision + precision.T) / 2


def _identity(x: Tensor) -> Tensor:
    return x
