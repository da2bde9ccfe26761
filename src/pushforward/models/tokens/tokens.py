"""Conversion of rows to tokens.

The token of an integer is the integer minus the lowest value of its column or image channel. Columns with similar ranges, the
smallest being at least half of their union, share that union, as grey values and letters do; otherwise each column has its own
range. The same holds for the channels of images. A gap (NaN) is a masked token.

The tokens of a cell of a table, and its place in a bin, are those of :mod:`pushforward.data.columns.bins`. There a gap has a
token of its own, except in a column without gaps in the data, where it is a masked token.
"""

from dataclasses import replace

import torch
from torch import Tensor

from pushforward import diffusion
from pushforward.data import Limits, RowSpace, Transform
from pushforward.data.columns.bins import in_token
from pushforward.data.columns.elements import Bins
from pushforward.data.ends import end_shares
from pushforward.data.kinds import kind_named
from pushforward.diffusion import TokenNetwork
from pushforward.networks import CausalTransformer, TokenMLP, TokenTransformer, TokenUNet
from pushforward.probability import noise

__all__ = [
    "MOST_VALUES",
    "Predictor",
    "PresentTokens",
    "constant_rows",
    "drawn_rows",
    "levels_of",
    "refuse_fractions",
    "refuse_unknown",
    "sampled_dtype",
    "start_from_marginals",
    "to_tokens",
    "token_scaling",
]

Predictor = TokenMLP | TokenTransformer | TokenUNet

MOST_VALUES = 1024
"""Largest number of integers that a range may have."""


def token_scaling(x: Tensor, kind: str, limits: Limits | None) -> Transform:
    """Return the scaling of rows of integers x (N, *D), of which ``limits`` are possible, to tokens.

    Raises
    ------
    ValueError
        If a value has a fraction, or a range has more than 1,024 values.
    """
    refuse_fractions(x)
    whole = Transform.in_data_units(x, integer=True, kind=kind, limits=limits)
    low, high = _ranges(whole)
    below, above = end_shares(x, low, high, (whole.least, whole.most))
    if kind_named(kind).learns_constants:
        none, nothing = torch.zeros_like(whole.constant), torch.zeros_like(whole.value)
        whole = replace(whole, constant=none, value=nothing)
    return replace(whole, shift=low.expand_as(whole.shift).clone(), low=low, high=high, below=below, above=above)


def to_tokens(z: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the int64 tokens (B, L) of scaled rows, -1 for masked ones, and which are observed."""
    z = z.flatten(1)
    top = (levels - 1).to(z)
    return torch.minimum(z.clamp(min=0), top).nan_to_num(diffusion.MASKED).long(), ~z.isnan()


def levels_of(space: RowSpace) -> list[int]:
    """Return the number of values of each token of a row.

    Raises
    ------
    ValueError
        If a token has more than 1,024 values.
    """
    transform, elements = space.transform, space.schema.elements
    if elements is None:
        levels = transform.pick((transform.high - transform.low + 1).expand(transform.shift.shape)).long().flatten()
        where = "a column"
    else:
        each = elements.tokens
        levels = transform.pick(each)
        where = f"column {space.schema.named_columns[int(each.argmax())].name!r}"
    if int(levels.max()) > MOST_VALUES:
        raise ValueError(
            f"{where} has {int(levels.max()):,} values, but models of tokens take at most {MOST_VALUES:,}: omit the column, "
            "join its rare values, or use FlowMatching"
        )
    counts: list[int] = levels.tolist()
    return counts


class PresentTokens:
    """A network of tokens that gives gaps of a table probability 0, for filling them.

    Parameters
    ----------
    network : TokenNetwork
    space : RowSpace
        Of a table with tokens.
    """

    def __init__(self, network: TokenNetwork, space: RowSpace) -> None:
        self.network = network
        assert space.schema.elements is not None
        gaps = torch.tensor([isinstance(part, Bins) and part.gap for part in space.schema.elements.parts])
        self.gaps = space.transform.pick(gaps)

    def __call__(self, tokens: Tensor, condition: Tensor | None) -> Tensor:
        """Return logits (B, L, K)."""
        logits = self.network(tokens, condition)
        first = torch.arange(logits.shape[2], device=logits.device) == 0  # the token of a gap
        return logits.masked_fill(self.gaps.to(logits.device)[:, None] & first, -torch.inf)


def _ranges(transform: Transform) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest value of each column or channel, or those of all if their ranges are similar.

    Raises
    ------
    ValueError
        If a range has more than 1,024 values.
    """
    low, high = transform.low, transform.high
    kind = kind_named(transform.kind)
    varies = ~transform.constant if kind.has_columns else torch.ones_like(low, dtype=torch.bool)
    size = high - low + 1
    widest = int(size[varies].max())
    if widest > MOST_VALUES:
        where = "" if not kind.has_columns else f" in column {int((size * varies).argmax())}"
        raise ValueError(
            f"X ranges over {widest:,} integers{where}, but models of tokens take at most {MOST_VALUES:,}: "
            "use a larger unit, such as X // 10, or use FlowMatching or NormalizingFlow, which dequantize integers"
        )
    bottom, top = low[varies].min(), high[varies].max()
    if 2 * size[varies].min() < top - bottom + 1:
        return low, high
    return torch.where(varies, bottom, low), torch.where(varies, top, high)


def refuse_fractions(x: Tensor) -> None:
    """Raise if a value has a fraction."""
    broken = (x != x.round()) & ~x.isnan()
    if bool(broken.any()):
        raise ValueError(
            f"models of tokens learn laws of integers, but X has the value {float(x[broken][0]):g}: for real numbers use "
            'FlowMatching or NormalizingFlow, round X if its values lie on a scale, or pass a DataFrame with kind="tables", '
            "which puts real numbers into bins"
        )


def refuse_unknown(x: Tensor, observed: Tensor, transform: Transform) -> None:
    """Raise if an observed value has a fraction or lies outside the range of the training data."""
    wrong = observed & ((x < transform.low) | (x > transform.high) | (x != x.round()))
    if bool(wrong.any()):
        raise ValueError(
            f"X has the observed value {float(x[wrong][0]):g}, but the training data have integers from "
            f"{int(transform.low.min())} to {int(transform.high.max())}, each column within its own range; write NaN there"
        )


def drawn_rows(tokens: Tensor, like: Tensor, space: RowSpace, *, seed: int, first: int) -> Tensor:
    """Return drawn tokens (n, L) as scaled rows, in the dtype and shape of ``like``; in tables the place in each is drawn."""
    drawn = tokens.reshape(like.shape).to(like.dtype)
    if space.schema.elements is None:
        return drawn
    rows = torch.arange(first, first + len(drawn))
    return in_token(drawn, noise.uniform(drawn.shape[1:], seed=seed, purpose="inside", rows=rows, dtype=drawn.dtype))


def sampled_dtype(space: RowSpace) -> torch.dtype:
    """Return the dtype of drawn scaled rows: float64 where the place in a bin matters."""
    return torch.float32 if space.schema.elements is None else torch.float64


def constant_rows(space: RowSpace, n: int) -> Tensor:
    """Return n scaled rows (n, *D) with the constant elements at their values."""
    transform = space.transform
    row = transform.forward(transform.value[None].to(sampled_dtype(space)))
    return row.expand(n, *transform.shape)


def start_from_marginals(network: Predictor | CausalTransformer, x: Tensor) -> None:
    """Initialize an untrained network with the frequency of each value at each position, with one added to each count."""
    tokens, observed = to_tokens(x, network.levels.to(x.device))
    counts = torch.ones_like(network.bias).scatter_add_(1, tokens.clamp(min=0).T, observed.T.to(network.bias))
    with torch.no_grad():
        network.bias.copy_((counts / counts.sum(1, keepdim=True)).log())
