r"""Guidance: its source, its strength and its range of noise levels.

Families that denoise wrap their denoiser (:mod:`pushforward.models.denoising.guidance`), families of tokens wrap their network
(:mod:`pushforward.diffusion.masked`).
"""

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

from torch import Tensor

from pushforward._fields import CheckedFields
from pushforward.data import Condition, ConditionEncoder
from pushforward.diffusion import GuidedTokens, TokenNetwork
from pushforward.diffusion.guidance import check_interval, finite_scale
from pushforward.models.base.trained import TrainedModel

__all__ = ["Guidance", "check_null", "guided_tokens", "needed_encoder", "scale_of"]

Reward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Guidance(CheckedFields):
    """Guidance of ``sample``, ``posterior`` and ``impute``, which also accept a plain number as the scale.

    Parameters
    ----------
    scale : float
        w in away + w (cond - away): 1 is the conditional law, 0 ignores the condition, above 1 sharpens. Values other than 0
        and 1 call the network twice per step. The same w multiplies the gradient of a classifier or a reward.
    by : "condition", "classifier" or function
        The source of guidance: the condition; the classifier that ``fit_classifier`` trained, added to the law without a
        condition (``condition`` then holds its labels); or a reward ``by(x)``, a differentiable function of rows x (B, *row)
        in the units of the data (images (B, C, H, W)) that returns (B,).
    interval : (float, float), optional
        Noise levels sigma / alpha in (low, high] where the scale applies; elsewhere it is 1.
    negative : label or vector, optional
        One condition for all rows, to move away from instead of the law without a condition.

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
                f"by must be 'condition', 'classifier' or a function that returns a reward per row, got {self.by!r}"
            )
        if self.interval is None and self.negative is None:
            return
        if self.by != "condition":
            raise ValueError(
                f"interval and negative apply only to guidance by the condition; omit them, or omit by={self.by!r}"
            )
        if self.scale == 1:
            raise ValueError(
                "interval and negative have no effect at a guidance scale of 1, which is the conditional law; set another "
                "scale, such as 2, or omit them"
            )

    @classmethod
    def of(cls, guidance: "Guidance | float") -> "Guidance":
        """Return an argument as guidance; a number is the scale."""
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
        """Whether guidance is by the condition alone, with one scale at all noise levels."""
        return self.by == "condition" and self.interval is None and self.negative is None

    def check_condition(self, condition: Tensor | None) -> None:
        """Raise if guidance is by the condition and there is none."""
        if condition is None and self.by == "condition" and self.scale != 1:
            raise ValueError(f"a guidance scale of {self.scale:g} needs a condition; pass condition=..., or omit guidance")


def scale_of(guidance: Guidance | float, refusing: str) -> float:
    """Return the scale of guidance; raise if it sets anything else, which ``refusing`` does not support.

    >>> scale_of(2, "a VQVAE")
    2.0
    """
    guidance = Guidance.of(guidance)
    if not guidance.only_scales:
        raise ValueError(
            f"{refusing} supports guidance by the condition with one scale only; omit by, interval and negative in {guidance}"
        )
    return float(guidance.scale)


def guided_tokens(model: TrainedModel, network: TokenNetwork, scale: float) -> TokenNetwork:
    """Return a network of tokens, guided by the model's condition unless ``scale`` is 1.

    Raises
    ------
    ValueError
        If the model was trained without conditions, or without dropping them.
    """
    if scale == 1:
        return network
    check_null(needed_encoder(model, scale), model.condition_dropout)
    return GuidedTokens(network, scale)


def check_null(encoder: ConditionEncoder, dropout: float, *, negative: bool = False) -> None:
    """Raise unless a conditional model has learned the law without a condition, which guidance moves away from.

    ``negative`` is True if a negative condition can replace that law.
    """
    if dropout == 0 and not encoder.gaps:
        raise ValueError(
            "guidance needs the law without a condition, but this model was trained without dropping conditions "
            "(condition_dropout=0); train with condition_dropout=0.1" + (", or set a negative condition" if negative else "")
        )


def needed_encoder(model: TrainedModel, scale: float) -> ConditionEncoder:
    """Return the encoder of a model's conditions; raise if it has none."""
    encoder: ConditionEncoder | None = model.space_.conditions
    if encoder is None:
        raise ValueError(
            f"a guidance scale of {scale:g} needs a model trained with conditions, but this one has none; omit guidance"
        )
    return encoder
