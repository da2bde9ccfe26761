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
from pushforward.models.latent import Latent
from pushforward.models.masked_diffusion import MaskedDiffusion
from pushforward.models.ppca import PPCA
from pushforward.models.registry import MODELS, register
from pushforward.models.run import train
from pushforward.models.storage import load
from pushforward.models.vae import VAE
from pushforward.models.vqvae import VQVAE

__all__ = [
    "CNF",
    "GAN",
    "GMM",
    "MODELS",
    "PPCA",
    "VAE",
    "VQVAE",
    "Autoencoder",
    "Diffusion",
    "FlowMatching",
    "GenerativeModel",
    "HierarchicalVAE",
    "Latent",
    "MaskedDiffusion",
    "NormalizingFlow",
    "load",
    "register",
    "train",
]
