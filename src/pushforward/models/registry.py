"""The families by name: what ``model.json``, recipes and the command line may ask for."""

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
from pushforward.models.vae import VAE

__all__ = ["MODELS"]

MODELS: dict[str, type[GenerativeModel]] = {
    cls.__name__: cls
    for cls in (CNF, GAN, GMM, PPCA, Autoencoder, Diffusion, FlowMatching, HierarchicalVAE, NormalizingFlow, VAE)
}
