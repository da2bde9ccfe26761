"""Laws in closed form, against which the rest of the library is tested, and the random numbers that it draws.

Laws, and what is known of them exactly, are classes here. Functions stand in modules: ``divergence`` (surprise, entropy, KL,
maximum entropy), ``draw`` (Box-Muller, inverse CDF, rejection, importance), ``estimate`` (maximum likelihood, EM), ``gaps``
(rows with missing entries), ``limits`` (large numbers, central limit, random walk), ``linear_latent`` (probabilistic PCA),
``mixture_em`` (EM for mixtures), ``noise`` (addressed random numbers).

>>> import torch
>>> from pushforward.probability import GaussianMixture
>>> law = GaussianMixture(weights=[0.5, 0.5], means=[[-1.0], [1.0]], covs=[0.1, 0.1])
>>> round(law.log_prob(torch.ones(1, 1, dtype=torch.float64)).item(), 4)
-0.4608
"""

from pushforward.probability import divergence, draw, expectations, limits, noise
from pushforward.probability.estimation import estimate, linear_latent, mixture_em
from pushforward.probability.estimation.classify import (
    BayesClassifier,
    Classifier,
    LogisticClassifier,
    fit_logistic,
    gaussian_log_odds,
)
from pushforward.probability.estimation.estimate import CoinMixture
from pushforward.probability.laws import gaps
from pushforward.probability.laws.energy import EnergyLaw
from pushforward.probability.laws.finite import FiniteLaw, bayes
from pushforward.probability.laws.gaussian import Gaussian
from pushforward.probability.laws.geometry import PrincipalAxes, Shell
from pushforward.probability.laws.markov import MarkovChain
from pushforward.probability.laws.mixture import GaussianMixture
from pushforward.probability.laws.text import MarkovText
from pushforward.probability.laws.uniform import TabulatedDensity, Uniform

__all__ = [
    "BayesClassifier",
    "Classifier",
    "CoinMixture",
    "EnergyLaw",
    "FiniteLaw",
    "Gaussian",
    "GaussianMixture",
    "LogisticClassifier",
    "MarkovChain",
    "MarkovText",
    "PrincipalAxes",
    "Shell",
    "TabulatedDensity",
    "Uniform",
    "bayes",
    "divergence",
    "draw",
    "estimate",
    "expectations",
    "fit_logistic",
    "gaps",
    "gaussian_log_odds",
    "limits",
    "linear_latent",
    "mixture_em",
    "noise",
]
