r"""A codebook: each vector is replaced by the nearest of K codes, and stored as its number from 0 to K - 1.

Vectors are normalized to length one, so that near means a small angle, and no code is far from all vectors:

    k = argmax_j <z / |z|, e_j>,          |e_j| = 1.

Training uses the library vector-quantize-pytorch. The codes are not trained by gradients: each is a moving average of the
vectors nearest to it, and a code that is nearest to almost no vector is moved to a vector of the current batch. Gradients pass
the choice as they pass the rotation from z / |z| to e_k.

References
----------
Aaron van den Oord, Oriol Vinyals, Koray Kavukcuoglu. Neural discrete representation learning. 2017.
https://arxiv.org/abs/1711.00937
Jiahui Yu et al. Vector-quantized image modeling with improved VQGAN. 2022. https://arxiv.org/abs/2110.04627
Christopher Fifty et al. Restructuring vector quantization with the rotation trick. 2024. https://arxiv.org/abs/2410.06424
"""

import torch
from torch import Tensor, nn

__all__ = ["Quantizer"]

_DECAY = 0.9


class Quantizer(nn.Module):
    """A codebook that learns from the vectors that pass it in training.

    Parameters
    ----------
    size : int
        K, the number of codes.
    width : int
        W, the length of a vector.
    least : float
        Vectors per batch, as a moving average, below which a code is moved.

    >>> quantizer = Quantizer(4, 2, least=0.1)
    >>> vectors, codes = quantizer(torch.rand(5, 3, 2))
    >>> vectors.shape, codes.shape, bool(torch.allclose(quantizer.eval().vectors(codes).norm(dim=2), torch.ones(5, 3)))
    (torch.Size([5, 3, 2]), torch.Size([5, 3]), True)
    """

    def __init__(self, size: int, width: int, *, least: float) -> None:
        super().__init__()
        from vector_quantize_pytorch import VectorQuantize  # slow to import, and no other model needs it

        self.size = size
        self.codebook = VectorQuantize(
            dim=width,
            codebook_size=size,
            decay=_DECAY,
            use_cosine_sim=True,
            threshold_ema_dead_code=least,
            commitment_weight=0.0,
            sync_codebook=False,
        )

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the codes' vectors, through which gradients reach z (B, L, W), and the code numbers (B, L)."""
        vectors, codes, _ = self.codebook(z)
        self.codebook.zero.requires_grad_(False)  # the library leaves it requiring gradients, which copying forbids
        return vectors, codes

    def vectors(self, codes: Tensor) -> Tensor:
        """Return the vectors (B, L, W) of codes (B, L)."""
        return torch.as_tensor(self.codebook.codebook[codes])
