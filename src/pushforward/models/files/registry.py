"""The families by name: what ``model.json``, recipes and the command line may ask for."""

from collections.abc import Callable
from typing import TypeVar

from pushforward.models.autoencoders.autoencoder import Autoencoder
from pushforward.models.autoencoders.hierarchical import HierarchicalVAE
from pushforward.models.autoencoders.vae import VAE
from pushforward.models.autoencoders.vqvae import VQVAE
from pushforward.models.base.model import GenerativeModel
from pushforward.models.denoising.diffusion import Diffusion
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.flows.cnf import CNF
from pushforward.models.flows.normalizing_flow import NormalizingFlow
from pushforward.models.gan import GAN
from pushforward.models.gaussian.gmm import GMM
from pushforward.models.gaussian.ppca import PPCA
from pushforward.models.latent import Latent
from pushforward.models.tokens.masked_diffusion import MaskedDiffusion

__all__ = ["MODELS", "PRESETS", "register"]

M = TypeVar("M", bound=type[GenerativeModel])

MODELS: dict[str, type[GenerativeModel]] = {
    cls.__name__: cls
    for cls in (
        CNF,
        GAN,
        GMM,
        PPCA,
        Autoencoder,
        Diffusion,
        FlowMatching,
        HierarchicalVAE,
        Latent,
        MaskedDiffusion,
        NormalizingFlow,
        VAE,
        VQVAE,
    )
}

PRESETS: dict[str, Callable[..., GenerativeModel]] = {
    "ddpm": Diffusion.ddpm,
    "vp": Diffusion.vp,
    "sub-vp": Diffusion.sub_vp,
    "ve": Diffusion.ve,
    "flow": NormalizingFlow,
}
"""Other names: classical models, which are families with some arguments fixed, and short forms."""


def register(cls: M) -> M:
    """Make a family of one's own known by its name, so that its runs can be loaded; a decorator of the class.

    Raises
    ------
    TypeError
        If it is no subclass of :class:`GenerativeModel`.
    ValueError
        If another family has its name.
    """
    if not (isinstance(cls, type) and issubclass(cls, GenerativeModel)):
        raise TypeError(f"register takes a subclass of GenerativeModel, not {cls!r}")
    name, known = cls.__name__, MODELS.get(cls.__name__)
    if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"there is a family {name} already, {known.__module__}.{known.__qualname__}; give yours another name")
    MODELS[name] = cls
    return cls
