"""The embedding of time and condition, the second input of a network, as one vector per row.

With angular frequencies w_k spaced geometrically from 1 to 1000, condition c and learned matrices A, B, W,

    embedding(t, c) = silu(W silu(A [cos(w t), sin(w t)] + B c)).

The slowest wave does not repeat on [0, 1], and the fastest resolves times 1/1000 apart. B has no bias, so a condition of zeros
adds nothing: it is the null condition of classifier-free guidance.

References
----------
Ashish Vaswani et al. Attention is all you need. NeurIPS 2017. https://arxiv.org/abs/1706.03762
Ethan Perez et al. FiLM: visual reasoning with a general conditioning layer. AAAI 2018. https://arxiv.org/abs/1709.07871
"""

import torch
from torch import Tensor, nn

from pushforward.networks.checks import condition_layers

__all__ = ["Embedding"]

_FASTEST = 1000.0


class Embedding(nn.Module):
    """Embedding of time and condition, (B,) and (B, K) to (B, width).

    Parameters
    ----------
    width : int
        Length of the embedding, even and at least 2.
    condition_dim : int
        K, the length of a condition; 0 for a network without conditions.

    >>> Embedding(8, condition_dim=3)(torch.zeros(5), torch.zeros(5, 3)).shape
    torch.Size([5, 8])
    """

    frequencies: Tensor

    def __init__(self, width: int, condition_dim: int) -> None:
        super().__init__()
        self.condition_dim = condition_dim
        exponents = torch.linspace(0.0, 1.0, width // 2, dtype=torch.float64)
        self.register_buffer("frequencies", (_FASTEST**exponents).float(), persistent=False)
        self.time = nn.Linear(2 * (width // 2), width)
        self.condition = nn.Linear(condition_dim, width, bias=False) if condition_dim else None
        self.mix = nn.Linear(width, width)

    def forward(self, t: Tensor, condition: Tensor | None) -> Tensor:
        """Return the embedding; ``condition=None`` is the null condition and equals zeros."""
        phase = t.unsqueeze(-1) * self.frequencies
        hidden = self.time(torch.cat((phase.cos(), phase.sin()), dim=-1))
        if condition is not None:
            hidden = hidden + condition_layers(self.condition, condition)(condition)
        mixed: Tensor = nn.functional.silu(self.mix(nn.functional.silu(hidden)))
        return mixed
