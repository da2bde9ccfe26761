"""Feature spaces of pretrained networks, from weights on disk. Nothing is downloaded.

``"dino"``: a vision transformer of DINO or DINOv2 (a state file such as ``dinov2_vits14_pretrain.pth``), with sizes read from
the file. It runs at 224 x 224 pixels and returns the class token after the last norm. ``"inception"``: the Inception network of
the Fréchet inception distance, through torchmetrics, from the state file that torch-fidelity publishes; 2,048 features.

Files are read as tensors only (safetensors, or ``torch.load`` with ``weights_only``), so they cannot run code.

References
----------
Mathilde Caron and others. Emerging properties in self-supervised vision transformers. 2021. https://arxiv.org/abs/2104.14294
Maxime Oquab and others. DINOv2: learning robust visual features without supervision. 2023. https://arxiv.org/abs/2304.07193
George Stein and others. Exposing flaws of generative model evaluation metrics. 2023 (why DINO). https://arxiv.org/abs/2306.04675
"""

import importlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from pushforward._messages import lacking
from pushforward.evaluation.features import checksum
from pushforward.metrics.arrays import as_rows

__all__ = ["PretrainedFeatures", "from_weights"]

_ROWS_AT_ONCE = 32
_SIDE = 224
_HEAD = 64  # length of an attention head in every DINO
_EPSILON = 1e-6
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class PretrainedFeatures:
    """Features of images (n, H, W) or (n, channels, H, W) by a network of three channels; a single channel is repeated.

    Parameters
    ----------
    network : callable
        Images (n, 3, H, W), float32 in [0, 1], to features (n, F).
    name : str
        Of the space; must hold a checksum of the weights.
    white : float
        Value of a full channel; 0 is black. Values outside are clipped.

    >>> mean = PretrainedFeatures(lambda x: x.mean((2, 3)), "mean", white=255.0)
    >>> mean(np.full((1, 8, 8), 51)).tolist()
    [[0.2..., 0.2..., 0.2...]]
    """

    def __init__(self, network: Callable[[Tensor], Tensor], name: str, white: float) -> None:
        self.network, self.name, self.white = network, name, white

    @torch.no_grad()
    def __call__(self, rows: Any, /) -> NDArray[np.float32]:
        """Return features (n, F)."""
        shape = np.shape(rows)
        if len(shape) not in (3, 4) or (len(shape) == 4 and shape[1] not in (1, 3)):
            raise ValueError(
                f"this space takes images (n, H, W) or (n, 1 or 3 channels, H, W), but these rows have the shape {shape}"
            )
        flat = torch.from_numpy(as_rows(rows).astype(np.float32, copy=False))
        images = flat.reshape(shape[0], *((1, *shape[1:]) if len(shape) == 3 else shape[1:]))
        parts = [
            self.network((part / self.white).clamp(0, 1).expand(-1, 3, -1, -1)) for part in torch.split(images, _ROWS_AT_ONCE)
        ]
        return torch.cat(parts).float().numpy()


def from_weights(kind: Literal["inception", "dino"], path: str | Path, *, white: float = 255.0) -> PretrainedFeatures:
    """Return the feature space of a known network from its weights on disk.

    Parameters
    ----------
    kind : {"inception", "dino"}
    path : path
        Of a ``.safetensors`` file, or of a state file of torch (``.pth``, ``.pt``).
    white : float
        Value of a full channel in the rows, such as 255 or 1.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the kind is unknown, or the file does not hold such a network.
    ImportError
        For "inception", without torchmetrics and torch-fidelity.

    >>> from_weights("dino", "nowhere.pth")
    Traceback (most recent call last):
    FileNotFoundError: nowhere.pth: there are no weights here; pushforward downloads none, so give the path of a file of yours
    """
    path = Path(path)
    if kind not in ("inception", "dino"):
        raise ValueError(f"kind must be 'inception' or 'dino', not {kind!r}")
    if not 0 < white < math.inf:
        raise ValueError(f"white must be positive and finite, but is {white:g}")
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: there are no weights here; pushforward downloads none, so give the path of a file of yours"
        )
    weights = _read(path)
    network = _Transformer(weights, path) if kind.startswith("dino") else _inception(path)
    return PretrainedFeatures(network, f"{kind} ({checksum(*(weights[key] for key in sorted(weights)))})", white)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path}: this file does not hold tensors by name, and nothing else is read ({error})") from error
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{path}: this file does not hold tensors by name; save the state_dict() of the network alone")
    return dict(state)


def _inception(path: Path) -> Callable[[Tensor], Tensor]:
    try:
        module = importlib.import_module("torchmetrics.image.fid")
        network = module.NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    except ImportError as error:  # a missing torch-fidelity shows when the network is made
        raise lacking("a network of Inception", "torchmetrics and torch-fidelity", "inception") from error
    return lambda x: network((x * 255).round().to(torch.uint8))


class _Transformer:
    """A vision transformer of DINO's layout, with sizes read from its tensors."""

    def __init__(self, weights: Mapping[str, Tensor], path: Path) -> None:
        self.weights = {name: value.float() for name, value in weights.items()}
        needed = ["cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.attn.qkv.weight", "norm.weight"]
        missing = [name for name in needed if name not in weights]
        if missing:
            raise ValueError(f"{path}: this is not a vision transformer of DINO, since it lacks {missing[0]!r}")
        self.patch = weights["patch_embed.proj.weight"].shape[-1]
        self.depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks."))
        self.positions = self._positions(_SIDE // self.patch)

    def __call__(self, x: Tensor) -> Tensor:
        """Return class tokens (n, D) of images (n, 3, H, W) in [0, 1]."""
        w = self.weights
        x = functional.interpolate(
            x, (_SIDE // self.patch * self.patch,) * 2, mode="bicubic", antialias=True, align_corners=False
        )
        x = (x.clamp(0, 1) - x.new_tensor(_MEAN)[:, None, None]) / x.new_tensor(_STD)[:, None, None]
        patches = functional.conv2d(x, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=self.patch)
        tokens = torch.cat([w["cls_token"].expand(len(x), -1, -1), patches.flatten(2).mT], 1) + self.positions
        for block in range(self.depth):
            tokens = self._block(tokens, f"blocks.{block}.")
        return self._norm(tokens[:, 0], "norm")

    def _block(self, tokens: Tensor, at: str) -> Tensor:
        """Add attention, then a perceptron, each of normalized tokens, in DINOv2 with a learned scale."""
        n, length, width = tokens.shape
        qkv = self._linear(self._norm(tokens, at + "norm1"), at + "attn.qkv")
        q, k, v = qkv.reshape(n, length, 3, width // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, length, width)
        one = tokens.new_ones(())
        tokens = tokens + self.weights.get(at + "ls1.gamma", one) * self._linear(mixed, at + "attn.proj")
        hidden = functional.gelu(self._linear(self._norm(tokens, at + "norm2"), at + "mlp.fc1"))
        return tokens + self.weights.get(at + "ls2.gamma", one) * self._linear(hidden, at + "mlp.fc2")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.weights[name + ".weight"], self.weights[name + ".bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.weights[name + ".weight"], self.weights[name + ".bias"], _EPSILON)

    def _positions(self, side: int) -> Tensor:
        """Return position embeddings of ``side`` x ``side`` patches, resized from those of the training images."""
        known = self.weights["pos_embed"]
        trained = math.isqrt(known.shape[1] - 1)
        if trained == side:
            return known
        grid = known[:, 1:].mT.reshape(1, -1, trained, trained)
        resized = functional.interpolate(grid, (side, side), mode="bicubic", antialias=True, align_corners=False)
        return torch.cat([known[:, :1], resized.flatten(2).mT], 1)
