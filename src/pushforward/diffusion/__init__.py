"""Diffusion: schedule, prediction, denoiser, sampler.

>>> import torch
>>> from pushforward import diffusion, probability
>>> law = probability.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[0.01, 0.01])
>>> denoiser = diffusion.ExactDenoiser(law, schedule=diffusion.LinearBeta())
>>> noise = torch.tensor([[-0.5], [0.5]])
>>> diffusion.DPMSolver(order=3).run(denoiser, noise, steps=20).sign().tolist()
[[-1.0], [1.0]]
"""

from pushforward.diffusion.absorbing import HIDDEN, TokenNetwork, hidden_loss, hide, masked_bound, unmask
from pushforward.diffusion.adaptive import Adaptive, AdaptiveResult
from pushforward.diffusion.ancestral import DDIM, DDPM, FittedVariance
from pushforward.diffusion.bound import Bins, Bound, variational_bound
from pushforward.diffusion.calibrated_sampler import CalibratedSampler
from pushforward.diffusion.calibration import Calibration, calibrate
from pushforward.diffusion.condition import drop
from pushforward.diffusion.default import default_sampler
from pushforward.diffusion.denoiser import AbstractDenoiser, Denoiser, ExactDenoiser, Weight
from pushforward.diffusion.grid import (
    ChainGrid,
    FixedGrid,
    Grid,
    KarrasGrid,
    LevelGrid,
    LogSNRGrid,
    PowerGrid,
    SinhGrid,
    UniformGrid,
    VPGrid,
)
from pushforward.diffusion.guidance import ClassifierGuided, Guided, RewardGuided
from pushforward.diffusion.likelihood import LogProb, StandardNoise, flow_log_prob
from pushforward.diffusion.multistep import DEIS, AngleSolver, DPMSolver, UniPC
from pushforward.diffusion.operators import (
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
from pushforward.diffusion.posterior import DPS, MMPS, DiffPIR, Exact, PiGDM, PosteriorMethod, Replacement
from pushforward.diffusion.prediction import Prediction, convert, from_denoised, to_denoised, weight
from pushforward.diffusion.quality import exact_flow, flow_error
from pushforward.diffusion.runge_kutta import RK4, Euler, Heun
from pushforward.diffusion.sampler import Sampler, Table, TableSampler
from pushforward.diffusion.schedule import Cosine, DiscreteBeta, Exploding, LinearBeta, Schedule, StraightLine, SubVP, widen
from pushforward.diffusion.score_matching import (
    denoising_score_matching,
    explicit_score_matching,
    implicit_score_matching,
    sliced_score_matching,
)
from pushforward.diffusion.stochastic import AnnealedLangevin, PredictorCorrector, ReverseSDE, StochasticDPMSolver
from pushforward.diffusion.times import LogitNormalTimes, TimeLaw, UniformTimes, stratified
from pushforward.diffusion.token_guidance import GuidedTokens

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "DPS",
    "HIDDEN",
    "MMPS",
    "RK4",
    "AbstractDenoiser",
    "Adaptive",
    "AdaptiveResult",
    "AngleSolver",
    "AnnealedLangevin",
    "Bins",
    "Blur",
    "Bound",
    "CalibratedSampler",
    "Calibration",
    "ChainGrid",
    "ClassifierGuided",
    "Cosine",
    "DPMSolver",
    "Denoiser",
    "DiffPIR",
    "DiscreteBeta",
    "Downsample",
    "Euler",
    "Exact",
    "ExactDenoiser",
    "Exploding",
    "FittedVariance",
    "FixedGrid",
    "Grid",
    "Guided",
    "GuidedTokens",
    "Heun",
    "KarrasGrid",
    "LevelGrid",
    "Linear",
    "LinearBeta",
    "LinearOperator",
    "LogProb",
    "LogSNRGrid",
    "LogitNormalTimes",
    "Mask",
    "Matrix",
    "Observation",
    "PiGDM",
    "PosteriorMethod",
    "PowerGrid",
    "Prediction",
    "PredictorCorrector",
    "Projection",
    "Replacement",
    "ReverseSDE",
    "RewardGuided",
    "Sampler",
    "Schedule",
    "SinhGrid",
    "StandardNoise",
    "StochasticDPMSolver",
    "StraightLine",
    "SubVP",
    "Table",
    "TableSampler",
    "TimeLaw",
    "TokenNetwork",
    "UniPC",
    "UniformGrid",
    "UniformTimes",
    "VPGrid",
    "Weight",
    "calibrate",
    "convert",
    "default_sampler",
    "denoising_score_matching",
    "drop",
    "exact_flow",
    "explicit_score_matching",
    "flow_error",
    "flow_log_prob",
    "from_denoised",
    "hidden_loss",
    "hide",
    "implicit_score_matching",
    "masked_bound",
    "observe",
    "sliced_score_matching",
    "stratified",
    "to_denoised",
    "unmask",
    "variational_bound",
    "weight",
    "widen",
]
