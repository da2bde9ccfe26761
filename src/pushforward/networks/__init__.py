"""Plain networks: ``network(x, t, condition)``, an MLP for vectors or small images, compact U-Nets for images and signals.

Every such network maps ``x`` (B, D), (B, C, T) or (B, C, H, W), ``t`` (B,) and ``condition`` (B, K), or None, to a tensor like
``x``. A network knows no schedule and no loss; its caller defines what its output means. The last layer starts at zero, so an
untrained network returns zeros. A row of the output depends only on that row of the inputs.

For sets of points x is (B, P, D); permuted points give permuted outputs, and a point that is NaN is absent.

The frozen specifications :class:`MLPSpec`, :class:`UNetSpec`, :class:`UNet1dSpec` and :class:`SetSpec` hold the sizes of a
network; :func:`default_spec` chooses one for a shape of data. :class:`CoderSpec` builds encoders and decoders,
``network(x, condition)``, from a row to a short code and back; :class:`GANSpec` the generator and the critic of a generative
adversarial network; :class:`FlowSpec` normalizing flows, ``flow(x, condition)`` to latents and log-determinants, and their
inverse; :class:`TransformerSpec` transformers over tokens, ``network(tokens, condition)``, which return a law for each masked
token, as :class:`TokenMLP` and :class:`TokenUNet` do, or for each token given those before it (:class:`CausalTransformer`).
"""

from pushforward.networks import causal, embedding, mlp, sets, spec, token_mlp, tokens, transformer, unet, unet_1d
from pushforward.networks.adversarial import GANSpec
from pushforward.networks.causal import *
from pushforward.networks.coder import CoderSpec
from pushforward.networks.embedding import *
from pushforward.networks.flows import FlowSpec, default_flow
from pushforward.networks.mlp import *
from pushforward.networks.sets import *
from pushforward.networks.spec import *
from pushforward.networks.token_mlp import *
from pushforward.networks.tokens import *
from pushforward.networks.transformer import *
from pushforward.networks.unet import *
from pushforward.networks.unet_1d import *

__all__ = ["CoderSpec", "FlowSpec", "GANSpec", "default_flow"]
__all__ += causal.__all__ + embedding.__all__ + mlp.__all__ + sets.__all__ + spec.__all__
__all__ += token_mlp.__all__ + tokens.__all__ + transformer.__all__ + unet.__all__ + unet_1d.__all__
