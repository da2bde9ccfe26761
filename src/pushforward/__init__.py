"""Train, sample, score and compare generative models of every family on any data, under one contract.

>>> import numpy as np
>>> import pushforward as pf
>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> model = pf.FlowMatching(train_steps=20, random_state=0).fit(X)
>>> model.sample(5, seed=1).shape
(5, 2)

Everything named here is imported when it is first used, so ``import pushforward`` costs next to nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pushforward import data, diffusion, dynamics, gallery, networks, plots, probability, training
    from pushforward.data import open_data
    from pushforward.diffusion import (
        DDIM,
        DDPM,
        RK4,
        Cosine,
        Denoiser,
        DiscreteBeta,
        DPMSolver,
        Euler,
        Exploding,
        Guided,
        Heun,
        KarrasGrid,
        LinearBeta,
        LogitNormalTimes,
        LogSNRGrid,
        PowerGrid,
        StraightLine,
        SubVP,
        UniformGrid,
        UniformTimes,
    )
    from pushforward.models import Diffusion, FlowMatching, load, train
    from pushforward.networks import MLPSpec, UNetSpec
    from pushforward.training import TrainingSettings

_ROOMS = ("data", "diffusion", "dynamics", "gallery", "networks", "plots", "probability", "training")
_HOMES = {
    "data": ("open_data",),
    "diffusion": (
        "DDIM",
        "DDPM",
        "RK4",
        "Cosine",
        "DPMSolver",
        "Denoiser",
        "DiscreteBeta",
        "Euler",
        "Exploding",
        "Guided",
        "Heun",
        "KarrasGrid",
        "LinearBeta",
        "LogSNRGrid",
        "LogitNormalTimes",
        "PowerGrid",
        "StraightLine",
        "SubVP",
        "UniformGrid",
        "UniformTimes",
    ),
    "models": ("Diffusion", "FlowMatching", "load", "train"),
    "networks": ("MLPSpec", "UNetSpec"),
    "training": ("TrainingSettings",),
}
_HOME_OF = {name: room for room, names in _HOMES.items() for name in names}

__all__ = [
    "DDIM",
    "DDPM",
    "RK4",
    "Cosine",
    "DPMSolver",
    "Denoiser",
    "Diffusion",
    "DiscreteBeta",
    "Euler",
    "Exploding",
    "FlowMatching",
    "Guided",
    "Heun",
    "KarrasGrid",
    "LinearBeta",
    "LogSNRGrid",
    "LogitNormalTimes",
    "MLPSpec",
    "PowerGrid",
    "StraightLine",
    "SubVP",
    "TrainingSettings",
    "UNetSpec",
    "UniformGrid",
    "UniformTimes",
    "data",
    "diffusion",
    "dynamics",
    "gallery",
    "load",
    "networks",
    "open_data",
    "plots",
    "probability",
    "train",
    "training",
]


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for (PEP 562) and keep it."""
    if name in _HOME_OF:
        value = getattr(importlib.import_module(f"pushforward.{_HOME_OF[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"pushforward.{name}")
    else:
        raise AttributeError(f"module 'pushforward' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, also those not imported yet."""
    return sorted(__all__)
