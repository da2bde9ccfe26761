"""Samplers: most are a table of calls and coefficients, run by one loop."""

from pushforward.diffusion.samplers.adaptive import Adaptive, AdaptiveResult
from pushforward.diffusion.samplers.ancestral import DDIM, DDPM, FittedVariance
from pushforward.diffusion.samplers.calibrated import CalibratedSampler
from pushforward.diffusion.samplers.calibration import Calibration, calibrate
from pushforward.diffusion.samplers.default import default_sampler
from pushforward.diffusion.samplers.grid import *
from pushforward.diffusion.samplers.multistep import DEIS, AngleSolver, DPMSolver, UniPC
from pushforward.diffusion.samplers.quality import exact_flow, flow_error
from pushforward.diffusion.samplers.runge_kutta import RK4, Euler, Heun
from pushforward.diffusion.samplers.stochastic import AnnealedLangevin, PredictorCorrector, ReverseSDE, StochasticDPMSolver
from pushforward.diffusion.samplers.table import Sampler, Table, TableSampler

__all__ = [
    "DDIM",
    "DDPM",
    "DEIS",
    "RK4",
    "Adaptive",
    "AdaptiveResult",
    "AngleSolver",
    "AnnealedLangevin",
    "CalibratedSampler",
    "Calibration",
    "ChainGrid",
    "DPMSolver",
    "Euler",
    "FittedVariance",
    "FixedGrid",
    "Grid",
    "Heun",
    "KarrasGrid",
    "LevelGrid",
    "LogSNRGrid",
    "PowerGrid",
    "PredictorCorrector",
    "ReverseSDE",
    "Sampler",
    "SinhGrid",
    "StochasticDPMSolver",
    "Table",
    "TableSampler",
    "UniPC",
    "UniformGrid",
    "VPGrid",
    "calibrate",
    "default_sampler",
    "exact_flow",
    "flow_error",
]
