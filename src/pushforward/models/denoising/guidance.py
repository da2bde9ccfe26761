"""Guidance of denoising models: wrappers of the model's denoiser, which work with every sampler.

- by the condition: away + w (cond - away), where away is the law under the negative condition, or without a condition;
- by the classifier of noisy rows: score + w grad log p(label | x_t), where the score is that of the law without a condition;
- by a reward of rows in the units of the data: score + w grad reward(denoised(x_t)).

:mod:`pushforward.diffusion.guidance` derives the formulas and the sampled laws.
"""

from typing import TypeVar

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward._messages import Argument, naming
from pushforward.data import Condition, ConditionEncoder, Data, fit_conditions, open_data, split_rows
from pushforward.diffusion import AbstractDenoiser, ClassifierGuided, Guided, RewardGuided
from pushforward.models.base.guidance import Guidance, check_null, needed_encoder
from pushforward.models.denoising.base import Denoising, WithDenoiser
from pushforward.models.denoising.classifier import DEFAULT_TRAINING, ClassifierTask, LabelClassifier
from pushforward.probability import noise
from pushforward.training import TrainingSettings, train

__all__ = ["by_condition", "fit_classifier", "guided", "guided_by_classifier", "model_condition"]

Model = TypeVar("Model", bound=Denoising)


def model_condition(guidance: Guidance, condition: Condition) -> Condition:
    """Return the condition of the model itself: None if ``condition`` holds labels for the classifier."""
    return None if guidance.by == "classifier" else condition


def guided(
    model: WithDenoiser, guidance: Guidance, condition: Condition, n: int, encoded: Tensor | None
) -> tuple[AbstractDenoiser, Tensor | None]:
    """Return the guided denoiser of a model, and its condition for n rows.

    ``encoded`` is the encoded :func:`model_condition`.

    Raises
    ------
    ValueError
        If the model lacks the classifier, or the law without a condition, that this guidance needs.
    """
    if guidance.by == "condition":
        return by_condition(model, guidance), encoded
    if guidance.by == "classifier":
        classifier = _needed_classifier(model)
        return _ByLabel(model.denoiser_, classifier, guidance.scale), _labels(classifier, condition, n)
    if model.space_.sizes is not None:
        raise ValueError("a reward is a function of sets of one size, but the sizes of these sets differ; guide by a condition")
    reward, space = guidance.by, model.space_
    return RewardGuided(model.denoiser_, lambda z: reward(space.of_rows(z).transform.in_units(z)), guidance.scale), encoded


def by_condition(model: WithDenoiser, guidance: Guidance) -> AbstractDenoiser:
    """Return the denoiser of a model, guided by its condition."""
    if guidance.scale == 1:
        return model.denoiser_
    encoder = needed_encoder(model, guidance.scale)
    if guidance.negative is None:
        check_null(encoder, model.condition_dropout, negative=True)
        return Guided(model.denoiser_, guidance.scale, interval=guidance.interval)
    negative = _one(encoder, guidance.negative)
    return Guided(model.denoiser_, guidance.scale, negative=negative, interval=guidance.interval)


def _one(encoder: ConditionEncoder, negative: Condition) -> Tensor:
    try:
        return encoder.encode(negative, 1)
    except ValueError as error:
        raise ValueError(f"negative={negative!r} is not one condition for all rows: {error}") from None


def _needed_classifier(model: WithDenoiser) -> LabelClassifier:
    ClassifierGuided.check_source(model.denoiser_)
    if model._classifier is None:
        call = Argument("fit_classifier", call="model.fit_classifier(X, labels)")
        message = "guidance by the classifier needs a classifier of noisy rows, but this model has none; train one with "
        raise naming(ValueError(f"{message}{call}"), call)
    if model.space_.conditions is not None:
        check_null(model.space_.conditions, model.condition_dropout)
    return model._classifier


def _labels(classifier: LabelClassifier, condition: Condition, n: int) -> Tensor:
    labels = classifier.encoder.encode(condition, n)
    if not bool(labels[:, 0].all()):
        raise ValueError(
            "guidance by the classifier needs a label for each row; pass condition=..., one of "
            + ", ".join(map(str, classifier.classes))
        )
    return labels


class _ByLabel(AbstractDenoiser):
    """A denoiser guided to one class per row; its condition is the encoded label."""

    def __init__(self, denoiser: AbstractDenoiser, classifier: LabelClassifier, scale: float) -> None:
        super().__init__()
        self.guided = ClassifierGuided(denoiser, classifier, 0, scale)
        self.schedule, self.calls, self.data_std = denoiser.schedule, self.guided.calls, denoiser.data_std

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return the guided E[x | x_t]."""
        assert condition is not None
        guided = self.guided
        to_labels = ClassifierGuided(guided.denoiser, guided.classifier, condition[:, 1:].argmax(1), guided.scale)
        denoised: Tensor = to_labels(x_t, t)
        return denoised


def fit_classifier(
    model: Model, X: Data, labels: Condition = None, *, width: int | None = None, training: TrainingSettings | None = None
) -> Model:
    """Train a classifier of noisy rows for classifier guidance; it is stored with the model.

    Parameters
    ----------
    X : anything that ``fit`` takes
        Rows like the training data.
    labels : array, column name or None
        A label for each row; by default the labels of the data.
    width : int, optional
        Size of the network; default 128 for vectors, 32 channels for images.
    training : TrainingSettings, optional
        Default 1,000 steps.

    Returns
    -------
    self
        With ``classifier_``; ``classifier_loss_`` is its held-out cross-entropy in nats, the mean over all times, or None
        without held-out rows.

    Raises
    ------
    ValueError
        If rows are sets of points, or the labels are missing or do not count as classes.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons", condition=False)
    >>> model = model.fit_classifier("moons", training=pf.TrainingSettings(steps=5))
    >>> model.classifier_.classes
    (0, 1)
    """
    check_is_fitted(model)
    schema = model.space_.schema
    if schema.rules.structure == "points":
        raise ValueError(
            "there is no classifier of sets of points; train the model with conditions instead, fit(X, condition=labels)"
        )
    dataset = open_data(X, condition=labels, kind=schema.kind, **schema.rules.reopening(schema.internal_shape))
    if dataset.condition is None:
        raise ValueError("a classifier needs labels, but these data have none; use fit_classifier(X, labels)")
    encoder = fit_conditions(dataset.condition, columns=dataset.condition_columns, table=dataset.condition_table)
    if not encoder.has_classes:
        raise ValueError(
            "a classifier needs labels, but these are numbers or several columns; pass text or integers that count as classes"
        )
    space = model.space_
    x = space.transform.forward(space.schema.to_internal(dataset.values, name=type(model).__name__), dtype=torch.float32)
    encoded = encoder.encode(dataset.condition, len(x))
    rows, aside = split_rows(len(x), model.held_out, noise.derive(model.seed_, "classifier held-out"))
    shape, seed = space.transform.shape, noise.derive(model.seed_, "classifier")
    width = width or (32 if len(shape) == 3 else 128)
    classifier = LabelClassifier.fresh(encoder, width, model.denoiser_, shape, seed=seed)
    result = train(
        ClassifierTask(classifier, space.transform.dequantization),
        x[rows],
        encoded[rows],
        held_out=(x[aside], encoded[aside]) if len(aside) else None,
        settings=training or DEFAULT_TRAINING,
        seed=seed,
        device=model.device,
        progress=model.verbose,
    )
    model.classifier_ = classifier.eval()
    model.classifier_loss_ = result.held_out_loss
    return model


def guided_by_classifier(model: Denoising, label: Condition, scale: float = 1.0) -> ClassifierGuided:
    """Return the denoiser of this model guided towards a label by ``classifier_``.

    Parameters
    ----------
    label : label
        One of ``classifier_.classes``.
    scale : float
        w in score + w grad log p(label | x_t); 1 is the conditional law.

    Raises
    ------
    ValueError
        If no classifier was trained, or the label is not one of its classes.
    """
    check_is_fitted(model)
    if model._classifier is None:
        raise ValueError("this model has no classifier of noisy rows; train one with fit_classifier(X, labels)")
    classifier = model._classifier.to(model._device)
    return ClassifierGuided(model.denoiser_, classifier, int(classifier.index(label)[0]), scale)
