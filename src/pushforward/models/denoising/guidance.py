"""What new rows are guided by: their condition, the classifier of noisy rows, or a reward.

All are denoisers around the model's denoiser (:mod:`pushforward.diffusion.guidance`), so every sampler follows them:

- "condition": away + w (cond - away), where away is the law under the negative condition, or without any;
- "classifier": score + w grad log p(label | x_t), where the score is that of the law without a condition;
- a reward of rows in the units of the data: score + w grad reward(denoised(x_t)).

Models that uncover tokens are guided by their condition alone, by a network around their network
(:mod:`pushforward.diffusion.masked`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from pushforward._messages import Argument, naming
from pushforward.data import ConditionEncoder, Transform
from pushforward.diffusion import (
    AbstractDenoiser,
    ClassifierGuided,
    Guided,
    GuidedTokens,
    RewardGuided,
    TokenNetwork,
)

__all__ = ["Guidance", "Guide", "check_null", "check_towards", "guided_tokens", "in_units"]

Guidance = Literal["condition", "classifier"] | Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Guide:
    """The arguments of ``sample`` that guide, checked against a fitted model.

    Parameters
    ----------
    by : "condition", "classifier" or function
    scale : float
    interval : (float, float) or None
        Noise levels.
    negative : label, vector or None

    Raises
    ------
    TypeError, ValueError
        By :meth:`denoiser`, if they contradict each other or the model has not learned what they need.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> Guide("condition", 2.0, (0.1, 5.0), None).denoiser(model).calls
    2
    """

    by: Guidance
    scale: float
    interval: tuple[float, float] | None
    negative: Any

    def denoiser(self, model: Any) -> AbstractDenoiser:
        """Return the guided denoiser of a model."""
        if self.by == "condition":
            return self._by_condition(model)
        if self.interval is not None or self.negative is not None:
            raise ValueError(
                "guidance_interval and negative_condition belong to guidance by the condition; leave them out, or leave out "
                f"guidance={self.by!r}"
            )
        if self.by == "classifier":
            return _by_classifier(model, self.scale)
        if not callable(self.by):
            raise ValueError(
                f"guidance must be 'condition', 'classifier' or a function that gives each row a reward, got {self.by!r}"
            )
        reward, transform = self.by, model.space_.transform
        return RewardGuided(model.denoiser_, lambda z: reward(in_units(z, transform)), self.scale)

    def condition(self, model: Any, condition: Any, n: int, encoded: Tensor | None) -> Tensor | None:
        """Return what the guided denoiser takes as its condition; ``encoded`` is that of the model."""
        if self.by != "classifier":
            return encoded
        encoder: ConditionEncoder = model.classifier_.encoder
        labels = encoder.encode(condition, n)
        if not bool(labels[:, 0].all()):
            raise ValueError(
                "guidance='classifier' needs a label to guide each row to; pass condition=..., one of "
                + ", ".join(map(str, encoder.classes))
            )
        return labels

    def _by_condition(self, model: Any) -> AbstractDenoiser:
        denoiser: AbstractDenoiser = model.denoiser_
        if self.scale == 1:
            if self.interval is not None or self.negative is not None:
                raise ValueError(
                    "guidance_interval and negative_condition change nothing at a guidance scale of 1, which is the "
                    "conditional law itself; give guidance_scale=2, say, or leave them out"
                )
            return denoiser
        encoder = _needed_encoder(model, self.scale)
        if self.negative is None:
            check_null(encoder, model.condition_dropout, negative=True)
        negative = None if self.negative is None else _one(encoder, self.negative)
        return Guided(denoiser, self.scale, negative=negative, interval=self.interval)


class _ByLabel(AbstractDenoiser):
    """A denoiser guided to one class per row, which comes in as the condition: the encoded label of the classifier."""

    def __init__(self, denoiser: AbstractDenoiser, classifier: Any, scale: float) -> None:
        super().__init__()
        self.guided = ClassifierGuided(denoiser, classifier, 0, scale)
        self.schedule, self.calls = denoiser.schedule, self.guided.calls

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]."""
        assert condition is not None
        guided = self.guided
        to_labels = ClassifierGuided(guided.denoiser, guided.classifier, condition[:, 1:].argmax(1), guided.scale)
        denoised: Tensor = to_labels(x_t, t)
        return denoised


def _by_classifier(model: Any, scale: float) -> AbstractDenoiser:
    classifier = getattr(model, "classifier_", None)
    guided = _ByLabel(model.denoiser_, classifier, scale)  # refuses a source that no classifier could help
    if classifier is None:
        verb = Argument("fit_classifier", call="model.fit_classifier(X, labels)")
        message = "guidance='classifier' needs a classifier of noisy rows, and this model has none yet; train one with "
        raise naming(ValueError(f"{message}{verb}"), verb)
    if model.space_.conditions is not None:
        check_null(model.space_.conditions, model.condition_dropout)
    return guided


def guided_tokens(model: Any, network: TokenNetwork, scale: float) -> TokenNetwork:
    """Return a network of tokens of a model, guided by its condition unless ``scale`` is 1.

    Raises
    ------
    ValueError
        If the model was trained without conditions or always saw them, or the scale is not finite.
    """
    if scale == 1:
        return network
    encoder = _needed_encoder(model, scale)
    check_null(encoder, model.condition_dropout)
    return GuidedTokens(network, scale)


def check_towards(condition: Tensor | None, scale: float) -> None:
    """Raise if a scale is given, but no condition to guide towards."""
    if condition is None and scale != 1:
        raise ValueError(
            f"guidance_scale={scale} needs a condition to guide towards, but none was given; pass "
            "condition=..., or leave guidance_scale out"
        )


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


def _needed_encoder(model: Any, scale: float) -> ConditionEncoder:
    encoder: ConditionEncoder | None = model.space_.conditions
    if encoder is None:
        raise ValueError(f"guidance_scale={scale} needs a model trained with conditions, but this one has none; leave it out")
    return encoder


def _one(encoder: ConditionEncoder, negative: Any) -> Tensor:
    try:
        return encoder.encode(negative, 1)
    except ValueError as error:
        raise ValueError(f"negative_condition={negative!r} is not one condition for all rows: {error}") from None


def in_units(z: Tensor, transform: Transform) -> Tensor:
    """Return scaled rows in the units of the data, (B, *row) with channels first, without rounding; differentiable.

    >>> transform = Transform.fit(torch.tensor([[1.0, 7.0], [3.0, 7.0]]), integer=False, kind="vectors")
    >>> in_units(torch.tensor([[0.5]]), transform)  # the second column is constant
    tensor([[2.5000, 7.0000]])
    """
    shift, scale = transform.shift.to(z), transform.scale.to(z)
    value, constant = transform.value.to(z), transform.constant.to(z.device)
    if transform.kind != "vectors":
        return torch.where(constant, value, shift + scale * z)
    varies = (~constant).nonzero()[:, 0]
    return value.repeat(len(z), 1).index_copy(1, varies, shift[varies] + scale[varies] * z)
