r"""Guidance: what new rows are guided by, how strongly, and at which noise levels.

Families that denoise are guided by denoisers around their denoiser (:mod:`pushforward.models.denoising.guidance`), families of
tokens by a network around their network (:mod:`pushforward.diffusion.masked`).
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from torch import Tensor

from pushforward.data import Condition, ConditionEncoder
from pushforward.diffusion import GuidedTokens, TokenNetwork
from pushforward.diffusion.guidance import check_interval, finite_scale
from pushforward.models.base.trained import TrainedModel

__all__ = ["Guidance", "check_null", "guided_tokens", "needed_encoder", "scale_of"]

Reward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Guidance:
    """How ``sample``, ``posterior`` and ``impute`` are guided; a plain number in its place is the scale.

    Parameters
    ----------
    scale : float
        w in away + w (cond - away): 1 is the conditional law, 0 ignores the condition, above 1 sharpens. Any value but 0 and 1
        calls the network twice per step. The same w multiplies the gradient of a classifier or a reward.
    by : "condition", "classifier" or function
        What rows are guided by: their condition; the classifier that ``fit_classifier`` trained, whose labels ``condition``
        then holds, on top of the law without a condition; or a reward, ``by(x)`` of rows x (B, *row) in the units of the data
        (images (B, C, H, W)), which returns (B,) and is differentiable.
    interval : (float, float), optional
        Noise levels sigma / alpha in (low, high] where the scale applies; elsewhere it is 1.
    negative : label or vector, optional
        One condition for all rows, to move away from in place of the law without a condition.

    Raises
    ------
    TypeError, ValueError
        If an argument is out of range, or two of them contradict each other.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> model.sample(3, condition=1, guidance=2.0, steps=2).shape
    (3, 2)
    >>> model.sample(3, condition=1, guidance=pf.Guidance(2.0, negative=0, interval=(0.1, 5.0)), steps=2).shape
    (3, 2)
    """

    scale: float = 1.0
    _: KW_ONLY
    by: Literal["condition", "classifier"] | Reward = "condition"
    interval: tuple[float, float] | None = None
    negative: Condition = None

    def __post_init__(self) -> None:
        finite_scale(self.scale)
        if self.interval is not None:
            check_interval(self.interval)
        if self.by not in ("condition", "classifier") and not callable(self.by):
            raise ValueError(
                f"by must be 'condition', 'classifier' or a function that gives each row a reward, got {self.by!r}"
            )
        if self.interval is None and self.negative is None:
            return
        if self.by != "condition":
            raise ValueError(
                f"interval and negative belong to guidance by the condition; leave them out, or leave out by={self.by!r}"
            )
        if self.scale == 1:
            raise ValueError(
                "interval and negative change nothing at a guidance scale of 1, which is the conditional law itself; give a "
                "scale of 2, say, or leave them out"
            )

    @classmethod
    def of(cls, guidance: "Guidance | float") -> "Guidance":
        """Return the guidance that an argument means; a number is the scale."""
        if isinstance(guidance, Guidance):
            return guidance
        if isinstance(guidance, bool) or not hasattr(guidance, "__float__"):
            raise TypeError(
                f"guidance must be a number or a pushforward.Guidance, got {guidance!r}; write guidance=2.0, or "
                "guidance=pf.Guidance(2.0, by='classifier')"
            )
        return cls(float(guidance))

    @property
    def only_scales(self) -> bool:
        """Whether the scale says all: guidance by the condition, the same at all noise levels."""
        return self.by == "condition" and self.interval is None and self.negative is None

    def check_condition(self, condition: Tensor | None) -> None:
        """Raise if rows are to be guided by their condition, and none was given."""
        if condition is None and self.by == "condition" and self.scale != 1:
            raise ValueError(
                f"a guidance scale of {self.scale:g} needs a condition to guide towards, but none was given; pass "
                "condition=..., or leave guidance out"
            )


def scale_of(guidance: Guidance | float, refusing: str) -> float:
    """Return the scale of guidance that has nothing else; ``refusing`` names what takes nothing else.

    >>> scale_of(2, "a VQVAE")
    2.0
    """
    guidance = Guidance.of(guidance)
    if not guidance.only_scales:
        raise ValueError(
            f"{refusing} is guided by the condition alone, with one scale; leave by, interval and negative out of {guidance}"
        )
    return float(guidance.scale)


def guided_tokens(model: TrainedModel, network: TokenNetwork, scale: float) -> TokenNetwork:
    """Return a network of tokens of a model, guided by its condition unless ``scale`` is 1.

    Raises
    ------
    ValueError
        If the model was trained without conditions or always saw them.
    """
    if scale == 1:
        return network
    check_null(needed_encoder(model, scale), model.condition_dropout)
    return GuidedTokens(network, scale)


def check_null(encoder: ConditionEncoder, dropout: float, *, negative: bool = False) -> None:
    """Raise unless a conditional model has learned the law without a condition, which guidance moves away from.

    ``negative`` says whether a negative condition could take its place.
    """
    if dropout == 0 and not encoder.gaps:
        raise ValueError(
            "guidance needs the law without a condition, but this model always saw its condition in training "
            "(condition_dropout=0); train with condition_dropout=0.1"
            + (", or name a negative condition to move away from" if negative else "")
        )


def needed_encoder(model: TrainedModel, scale: float) -> ConditionEncoder:
    """Return the encoder of a model's conditions; raise if it has none."""
    encoder: ConditionEncoder | None = model.space_.conditions
    if encoder is None:
        raise ValueError(
            f"a guidance scale of {scale:g} needs a model trained with conditions, but this one has none; leave guidance out"
        )
    return encoder
