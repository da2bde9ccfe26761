"""The training task of autoregressive models."""

from torch import Tensor

from pushforward.diffusion import MASKED
from pushforward.models.base.task import RowTask
from pushforward.models.tokens.decoding import next_log_probs, not_ended
from pushforward.models.tokens.tokens import (
    to_tokens,
)
from pushforward.networks import CausalTransformer

__all__ = ["NextTokenTask"]


class NextTokenTask(RowTask):
    """-log p of each row.

    Parameters
    ----------
    network : CausalTransformer
    free : bool Tensor (L,)
        Which tokens vary.
    end : int
        The end mark of texts, -1 for none.
    condition_dropout : float
        Share of rows whose condition is replaced by "no condition" in training.
    """

    def __init__(self, network: CausalTransformer, *, free: Tensor, end: int = MASKED, condition_dropout: float = 0.0) -> None:
        super().__init__(condition_dropout=condition_dropout)
        self.network, self.end = network, end
        self.free: Tensor
        self.register_buffer("free", free, persistent=False)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return -log P of each row in nats, (B,)."""
        tokens, _ = to_tokens(x, self.network.levels)
        return -(next_log_probs(self.network, tokens, condition) * (self.free & not_ended(tokens, self.end))).sum(1)
