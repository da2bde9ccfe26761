"""One estimator per family of generative models, all under one contract."""

from pushforward.models.autoencoder import Autoencoder
from pushforward.models.base import GenerativeModel
from pushforward.models.cnf import CNF
from pushforward.models.diffusion import Diffusion
from pushforward.models.flow import NormalizingFlow
from pushforward.models.flow_matching import FlowMatching
from pushforward.models.gan import GAN
from pushforward.models.gmm import GMM
from pushforward.models.hierarchical import HierarchicalVAE
from pushforward.models.ppca import PPCA
from pushforward.models.registry import MODELS
from pushforward.models.run import train
from pushforward.models.storage import load
from pushforward.models.vae import VAE

__all__ = [
    "CNF",
    "GAN",
    "GMM",
    "MODELS",
    "PPCA",
    "VAE",
    "Autoencoder",
    "Diffusion",
    "FlowMatching",
    "GenerativeModel",
    "HierarchicalVAE",
    "NormalizingFlow",
    "load",
    "train",
]
