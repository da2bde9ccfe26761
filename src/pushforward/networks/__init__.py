"""Plain networks ``network(x, t, condition)``: an MLP for vectors and a compact U-Net for pictures.

Every network maps ``x`` of shape (B, D) or (B, C, H, W), ``t`` of shape (B,) and ``condition`` of shape (B, K), or
None, to a tensor
like ``x``. A network knows no schedule and no loss: what its output means is decided by whoever calls it. The last layer
starts at zero, so an untrained network returns zeros. A row of the output depends on that row of the inputs alone.

The frozen specifications :class:`MLPSpec` and :class:`UNetSpec` are the numbers that make a network; :func:`default_spec`
chooses one by the shape of the data.
"""

from pushforward.networks.embedding import Embedding
from pushforward.networks.mlp import MLP
from pushforward.networks.spec import MLPSpec, NetworkSpec, UNetSpec, default_spec
from pushforward.networks.unet import UNet

__all__ = ["MLP", "Embedding", "MLPSpec", "NetworkSpec", "UNet", "UNetSpec", "default_spec"]
