"""One estimator per family of generative models, all under one contract."""

from pushforward.models.autoencoders.autoencoder import Autoencoder
from pushforward.models.autoencoders.hierarchical import HierarchicalVAE
from pushforward.models.autoencoders.vae import VAE
from pushforward.models.autoencoders.vqvae import VQVAE
from pushforward.models.base.guidance import Guidance
from pushforward.models.base.model import GenerativeModel
from pushforward.models.denoising.diffusion import Diffusion
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.files.registry import MODELS, register
from pushforward.models.files.storage import load
from pushforward.models.flows.cnf import CNF
from pushforward.models.flows.normalizing_flow import NormalizingFlow
from pushforward.models.gan import GAN
from pushforward.models.gaussian.gmm import GMM
from pushforward.models.gaussian.ppca import PPCA
from pushforward.models.latent import Latent
from pushforward.models.run import train
from pushforward.models.tokens.masked_diffusion import MaskedDiffusion

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
    "Guidance",
    "HierarchicalVAE",
    "Latent",
    "MaskedDiffusion",
    "NormalizingFlow",
    "load",
    "register",
    "train",
]
