"""Diffusion: schedule, prediction, denoiser, sampler.

>>> import torch
>>> from pushforward import diffusion, probability
>>> law = probability.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[0.01, 0.01])
>>> denoiser = diffusion.ExactDenoiser(law, schedule=diffusion.LinearBeta())
>>> noise = torch.tensor([[-0.5], [0.5]])
>>> diffusion.DPMSolver(order=3).run(denoiser, noise, steps=20).sign().tolist()
[[-1.0], [1.0]]
"""

from pushforward.diffusion import masked, samplers, schedule, score_matching, times
from pushforward.diffusion.bound import Bins, Bound, variational_bound
from pushforward.diffusion.denoiser import AbstractDenoiser, Denoiser, ExactDenoiser, Weight
from pushforward.diffusion.guidance import ClassifierGuided, Guided, RewardGuided
from pushforward.diffusion.likelihood import StandardNoise, flow_log_prob
from pushforward.diffusion.log_prob import LogProb
from pushforward.diffusion.masked import *
from pushforward.diffusion.posterior import DPS, MMPS, DiffPIR, Exact, PiGDM, PosteriorMethod, Replacement
from pushforward.diffusion.posterior.operators import (
    Blur,
    Downsample,
    Linear,
    LinearOperator,
    Mask,
    Matrix,
    Observation,
    Projection,
    observe,
)
from pushforward.diffusion.prediction import Prediction, convert, from_denoised, to_denoised, weight
from pushforward.diffusion.samplers import *
from pushforward.diffusion.schedule import *
from pushforward.diffusion.score_matching import *
from pushforward.diffusion.times import *

__all__ = [
    "DPS",
    "MMPS",
    "AbstractDenoiser",
    "Bins",
    "Blur",
    "Bound",
    "ClassifierGuided",
    "Denoiser",
    "DiffPIR",
    "Downsample",
    "Exact",
    "ExactDenoiser",
    "Guided",
    "Linear",
    "LinearOperator",
    "LogProb",
    "Mask",
    "Matrix",
    "Observation",
    "PiGDM",
    "PosteriorMethod",
    "Prediction",
    "Projection",
    "Replacement",
    "RewardGuided",
    "StandardNoise",
    "Weight",
    "convert",
    "flow_log_prob",
    "from_denoised",
    "observe",
    "to_denoised",
    "variational_bound",
    "weight",
]
__all__ += masked.__all__ + samplers.__all__ + schedule.__all__ + score_matching.__all__ + times.__all__
