"""Plain networks ``network(x, t, condition)``: an MLP for vectors, or for small images, and a compact U-Net for images.

Every network maps ``x`` of shape (B, D) or (B, C, H, W), ``t`` of shape (B,) and ``condition`` of shape (B, K), or None, to a
tensor like ``x``. A network knows no schedule and no loss: what its output means is decided by whoever calls it. The last layer
starts at zero, so an untrained network returns zeros. A row of the output depends on that row of the inputs alone.

:class:`CoderSpec` makes encoders and decoders, ``network(x, condition)``, which take a row to a short code and back.

:class:`GANSpec` makes the generator and the critic of a generative adversarial network.

:class:`FlowSpec` makes normalizing flows, ``flow(x, condition)``: latents and log-determinants, and the way back.

:class:`TransformerSpec` makes transformers over tokens, ``network(tokens, condition)``, which give a law for each hidden token.

The frozen specifications :class:`MLPSpec` and :class:`UNetSpec` are the numbers that make a network; :func:`default_spec`
chooses one by the shape of the data.
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
