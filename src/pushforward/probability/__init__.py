"""Closed forms: the laws every other room is tested against, and the random numbers every other room draws.

>>> import torch
>>> from pushforward.probability import GaussianMixture
>>> law = GaussianMixture(weights=[0.5, 0.5], means=[[-1.0], [1.0]], covs=[0.1, 0.1])
>>> round(law.log_prob(torch.ones(1, 1, dtype=torch.float64)).item(), 4)
-0.4608
"""

from pushforward.probability.gaussian import Gaussian
from pushforward.probability.mixture import GaussianMixture

__all__ = ["Gaussian", "GaussianMixture"]
