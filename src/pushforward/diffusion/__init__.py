"""Diffusion: schedule, prediction, denoiser, sampler.

>>> import torch
>>> from pushforward import diffusion, probability
>>> law = probability.GaussianMixture([0.5, 0.5], [[-1.0], [1.0]], covs=[0.01, 0.01])
>>> denoiser = diffusion.ExactDenoiser(law, schedule=diffusion.LinearBeta())
>>> noise = torch.tensor([[-0.5], [0.5]])
>>> diffusion.DPMSolver(order=3).run(denoiser, noise, steps=20).sign().tolist()
[[-1.0], [1.0]]
"""

from pushforward.diffusion.condition import Guided, drop
from pushforward.diffusion.denoiser import AbstractDenoiser, Denoiser, ExactDenoiser, Weight
from pushforward.diffusion.grid import Grid, KarrasGrid, LogSNRGrid, PowerGrid, UniformGrid
from pushforward.diffusion.prediction import Prediction, convert, from_denoised, to_denoised, weight
from pushforward.diffusion.sampler import Sampler, Table
from pushforward.diffusion.schedule import Cosine, DiscreteBeta, Exploding, LinearBeta, Schedule, StraightLine, SubVP, widen
from pushforward.diffusion.solvers import DDIM, DDPM, RK4, DPMSolver, Euler, FittedVariance, Heun
from pushforward.diffusion.times import LogitNormalTimes, TimeLaw, UniformTimes, stratified

__all__ = [
    "DDIM",
    "DDPM",
    "RK4",
    "AbstractDenoiser",
    "Cosine",
    "DPMSolver",
    "Denoiser",
    "DiscreteBeta",
    "Euler",
    "ExactDenoiser",
    "Exploding",
    "FittedVariance",
    "Grid",
    "Guided",
    "Heun",
    "KarrasGrid",
    "LinearBeta",
    "LogSNRGrid",
    "LogitNormalTimes",
    "PowerGrid",
    "Prediction",
    "Sampler",
    "Schedule",
    "StraightLine",
    "SubVP",
    "Table",
    "TimeLaw",
    "UniformGrid",
    "UniformTimes",
    "Weight",
    "convert",
    "drop",
    "from_denoised",
    "stratified",
    "to_denoised",
    "weight",
    "widen",
]
