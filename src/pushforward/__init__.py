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
    from pushforward import data, diffusion, dynamics, evaluation, gallery, networks, plots, probability, training
    from pushforward.data import open_data
    from pushforward.diffusion import (
        DDIM,
        DDPM,
        DEIS,
        DPS,
        MMPS,
        RK4,
        Adaptive,
        AngleSolver,
        AnnealedLangevin,
        Blur,
        ChainGrid,
        ClassifierGuided,
        Cosine,
        Denoiser,
        DiffPIR,
        DiscreteBeta,
        Downsample,
        DPMSolver,
        Euler,
        Exploding,
        FixedGrid,
        Guided,
        Heun,
        KarrasGrid,
        LevelGrid,
        LinearBeta,
        LogitNormalTimes,
        LogSNRGrid,
        Mask,
        PiGDM,
        PowerGrid,
        PredictorCorrector,
        Projection,
        Replacement,
        ReverseSDE,
        RewardGuided,
        SinhGrid,
        StochasticDPMSolver,
        StraightLine,
        SubVP,
        UniformGrid,
        UniformTimes,
        UniPC,
        VPGrid,
        default_sampler,
    )
    from pushforward.evaluation import Evaluation, compare, evaluate
    from pushforward.models import (
        CNF,
        GAN,
        GMM,
        PPCA,
        VAE,
        VQVAE,
        Autoencoder,
        Diffusion,
        FlowMatching,
        Guidance,
        HierarchicalVAE,
        Latent,
        MaskedDiffusion,
        NormalizingFlow,
        load,
        train,
    )
    from pushforward.networks import CoderSpec, FlowSpec, GANSpec, MLPSpec, TransformerSpec, UNetSpec
    from pushforward.training import TrainingSettings

_ROOMS = ("data", "diffusion", "dynamics", "evaluation", "gallery", "networks", "plots", "probability", "training")
_HOMES = {
    "data": ("open_data",),
    "diffusion": (
        "Adaptive",
        "AngleSolver",
        "AnnealedLangevin",
        "Blur",
        "ChainGrid",
        "ClassifierGuided",
        "Cosine",
        "DDIM",
        "DDPM",
        "DEIS",
        "DPMSolver",
        "DPS",
        "Denoiser",
        "DiffPIR",
        "DiscreteBeta",
        "Downsample",
        "Euler",
        "Exploding",
        "FixedGrid",
        "Guided",
        "Heun",
        "KarrasGrid",
        "LevelGrid",
        "LinearBeta",
        "LogSNRGrid",
        "LogitNormalTimes",
        "MMPS",
        "Mask",
        "PiGDM",
        "PowerGrid",
        "PredictorCorrector",
        "Projection",
        "RK4",
        "Replacement",
        "ReverseSDE",
        "RewardGuided",
        "SinhGrid",
        "StochasticDPMSolver",
        "StraightLine",
        "SubVP",
        "UniPC",
        "UniformGrid",
        "UniformTimes",
        "VPGrid",
        "default_sampler",
    ),
    "evaluation": ("Evaluation", "compare", "evaluate"),
    "models": (
        "Autoencoder",
        "CNF",
        "Diffusion",
        "FlowMatching",
        "GAN",
        "GMM",
        "Guidance",
        "HierarchicalVAE",
        "Latent",
        "MaskedDiffusion",
        "NormalizingFlow",
        "PPCA",
        "VAE",
        "VQVAE",
        "load",
        "train",
    ),
    "networks": ("CoderSpec", "FlowSpec", "GANSpec", "MLPSpec", "TransformerSpec", "UNetSpec"),
    "training": ("TrainingSettings",),
}
_HOME_OF = {name: room for room, names in _HOMES.items() for name in names}

__all__ = [
    "CNF",
    "DDIM",
    "DDPM",
    "DEIS",
    "DPS",
    "GAN",
    "GMM",
    "MMPS",
    "PPCA",
    "RK4",
    "VAE",
    "VQVAE",
    "Adaptive",
    "AngleSolver",
    "AnnealedLangevin",
    "Autoencoder",
    "Blur",
    "ChainGrid",
    "ClassifierGuided",
    "CoderSpec",
    "Cosine",
    "DPMSolver",
    "Denoiser",
    "DiffPIR",
    "Diffusion",
    "DiscreteBeta",
    "Downsample",
    "Euler",
    "Evaluation",
    "Exploding",
    "FixedGrid",
    "FlowMatching",
    "FlowSpec",
    "GANSpec",
    "Guidance",
    "Guided",
    "Heun",
    "HierarchicalVAE",
    "KarrasGrid",
    "Latent",
    "LevelGrid",
    "LinearBeta",
    "LogSNRGrid",
    "LogitNormalTimes",
    "MLPSpec",
    "Mask",
    "MaskedDiffusion",
    "NormalizingFlow",
    "PiGDM",
    "PowerGrid",
    "PredictorCorrector",
    "Projection",
    "Replacement",
    "ReverseSDE",
    "RewardGuided",
    "SinhGrid",
    "StochasticDPMSolver",
    "StraightLine",
    "SubVP",
    "TrainingSettings",
    "TransformerSpec",
    "UNetSpec",
    "UniPC",
    "UniformGrid",
    "UniformTimes",
    "VPGrid",
    "compare",
    "data",
    "default_sampler",
    "diffusion",
    "dynamics",
    "evaluate",
    "evaluation",
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
