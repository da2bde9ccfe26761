"""Plain networks: ``network(x, t, condition)``, an MLP for vectors or small images and a compact U-Net for images, and others.

Every such network maps ``x`` (B, D) or (B, C, H, W), ``t`` (B,) and ``condition`` (B, K), or None, to a tensor like ``x``. A
network knows no schedule and no loss; its caller defines what its output means. The last layer starts at zero, so an untrained
network returns zeros. A row of the output depends only on that row of the inputs.

The frozen specifications :class:`MLPSpec` and :class:`UNetSpec` hold the sizes of a network; :func:`default_spec` chooses one
for a shape of data. :class:`CoderSpec` builds encoders and decoders, ``network(x, condition)``, from a row to a short code and
back; :class:`GANSpec` the generator and the critic of a generative adversarial network; :class:`FlowSpec` normalizing flows,
``flow(x, condition)`` to latents and log-determinants, and their inverse; :class:`TransformerSpec` transformers over tokens,
``network(tokens, condition)``, which return a law for each masked token.
"""

from pushforward.networks.adversarial import GANSpec
from pushforward.networks.coder import CoderSpec
from pushforward.networks.embedding import Embedding
from pushforward.networks.flows import FlowSpec, default_flow
from pushforward.networks.mlp import MLP
from pushforward.networks.spec import MLPSpec, NetworkSpec, UNetSpec, default_spec
from pushforward.networks.tokens import TokenUNet
from pushforward.networks.transformer import TokenTransformer, TransformerSpec, default_transformer
from pushforward.networks.unet import UNet

__all__ = [
    "MLP",
    "CoderSpec",
    "Embedding",
    "FlowSpec",
    "GANSpec",
    "MLPSpec",
    "NetworkSpec",
    "TokenTransformer",
    "TokenUNet",
    "TransformerSpec",
    "UNet",
    "UNetSpec",
    "default_flow",
    "default_spec",
    "default_transformer",
]
