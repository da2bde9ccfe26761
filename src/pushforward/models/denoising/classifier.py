r"""The classifier of noisy rows that classifier guidance needs, trained beside a denoiser on the same schedule.

It learns log p(label | x_t) by the cross-entropy at x_t = alpha x + sigma eps, with t uniform (stratified over the batch) and
eps standard normal, addressed as in the training of the denoiser. Rows whose label is missing are passed over.

The network sees (alpha s^2 / S) x_t with S = alpha^2 s^2 + sigma^2 and s the standard deviation of the data: the best linear
guess of x. Towards pure noise its gradient then vanishes like alpha, as that of log p(label | x_t) does, and the step of
guidance (sigma^2 / alpha) grad log p stays bounded, whatever the errors of the network.

References
----------
Prafulla Dhariwal, Alex Nichol. Diffusion models beat GANs on image synthesis. 2021. https://arxiv.org/abs/2105.05233
"""

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeVar

import torch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward import diffusion
from pushforward.data import ConditionEncoder, RowSpace, open_data, split_rows
from pushforward.diffusion import ClassifierGuided, Denoiser
from pushforward.models.base.task import RowTask, uniform
from pushforward.models.denoising.posterior import knows_score
from pushforward.networks.classifier import NoisyClassifier
from pushforward.probability import noise
from pushforward.training import Batch, TrainingSettings, train
from pushforward.training.generators import fresh_module

__all__ = ["DEFAULT_TRAINING", "ClassifierTask", "ClassifierVerbs", "LabelClassifier"]

DEFAULT_TRAINING = TrainingSettings(steps=1000, batch_size=256, learning_rate=2e-3, weight_decay=0.01, ema=0.1)

Verb = TypeVar("Verb", bound=Callable[..., Any])


def _with_score(verb: Verb) -> Verb:
    found: Verb = available_if(knows_score)(verb)
    return found


class LabelClassifier(nn.Module):
    """A trained classifier of noisy rows with the labels that its classes stand for.

    Parameters
    ----------
    network : NoisyClassifier
    encoder : ConditionEncoder
        Of labels.
    denoiser : Denoiser
        Whose schedule and standard deviation of the data it shares.

    Attributes
    ----------
    classes : tuple
        The labels, in the order of the logits.
    """

    def __init__(self, network: NoisyClassifier, encoder: ConditionEncoder, denoiser: Denoiser) -> None:
        super().__init__()
        self.network = network
        self.encoder = encoder
        self.schedule = denoiser.schedule
        self.data_std = denoiser.data_std

    @property
    def classes(self) -> tuple[Any, ...]:
        """The labels, in the order of the logits."""
        return self.encoder.classes

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits (B, C) of scaled noisy rows x_t (B, *D) at t, () or (B,)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        guess = alpha * self.data_std**2 / ((alpha * self.data_std) ** 2 + sigma**2)
        logits: Tensor = self.network(diffusion.widen(guess.to(x_t.dtype), x_t) * x_t, t)
        return logits

    def index(self, label: Any, n: int = 1) -> Tensor:
        """Return the numbers (n,) of the classes of one label, or of one per row."""
        encoded = self.encoder.encode(label, n)
        if not bool(encoded[:, 0].all()):
            raise ValueError(f"label {label!r} says nothing; give one of {', '.join(map(str, self.classes))}")
        return encoded[:, 1:].argmax(1)


class ClassifierTask(RowTask):
    """Training of a classifier of noisy rows.

    Parameters
    ----------
    classifier : LabelClassifier
    dequantization : Tensor (*D)
        Width of one integer in scaled units, 0 where the data are not integers.
    """

    def __init__(self, classifier: LabelClassifier, dequantization: Tensor) -> None:
        super().__init__(dequantization=dequantization)
        self.classifier = classifier
        self.schedule = classifier.schedule
        self.shape = tuple(dequantization.shape)

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return times (S, B) and noise (S, B, *D)."""
        t = diffusion.stratified(uniform((), rows, steps, seed, "time"), rows, total).clamp(self.schedule.t_min, 1.0)
        eps = noise.normal(self.shape, seed=seed, purpose="noise", rows=rows, step=steps[:, None], device=rows.device)
        return t, eps

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the cross-entropy of each row in nats, (B,); 0 where there is no label."""
        if condition is None:
            raise ValueError("a classifier is trained with labels")
        t, eps = numbers
        x_t = diffusion.widen(self.schedule.alpha(t), x) * x + diffusion.widen(self.schedule.sigma(t), x) * eps
        # A row without a label is all zeros, and so is its loss.
        logits: Tensor = self.classifier(x_t, t)
        return -(logits.log_softmax(1) * condition[:, 1:]).sum(1)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the same, and the time of each row."""
        x, condition, numbers = self._rows(batch, batch.condition)
        return self.loss(x, condition, numbers), numbers[0]


class ClassifierVerbs:
    """The verbs ``fit_classifier`` and ``guided_by_classifier`` of models with a denoiser of independent Gaussian noise."""

    space_: RowSpace
    denoiser_: Denoiser
    held_out: float
    device: str | None
    seed_: int
    verbose: bool
    classifier_: LabelClassifier

    @_with_score
    def fit_classifier(
        self, X: Any, labels: Any = None, *, width: int | None = None, training: TrainingSettings | None = None
    ) -> Self:
        """Train a classifier of noisy rows for classifier guidance; it is stored with the model.

        Parameters
        ----------
        X : anything that ``fit`` takes
            Rows like the training data.
        labels : array, column name or None
            A label for each row; by default what comes with the data.
        width : int, optional
            Size of the network; default 128 for vectors, 32 channels for images.
        training : TrainingSettings, optional
            Default 1,000 steps.

        Returns
        -------
        self
            With ``classifier_``; ``classifier_loss_`` is its held-out cross-entropy in nats, the mean over all times.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons", condition=False)
        >>> model = model.fit_classifier("moons", training=pf.TrainingSettings(steps=5))
        >>> model.classifier_.classes
        (0, 1)
        """
        check_is_fitted(self)
        dataset = open_data(X, condition=labels, kind=self.space_.schema.kind)
        if dataset.condition is None:
            raise ValueError("a classifier needs labels, and none came with the data; write fit_classifier(X, labels)")
        encoder = ConditionEncoder.fit(dataset.condition)
        if encoder.kind != "labels":
            raise ValueError("a classifier needs labels, but these are numbers; give text or integers that count as classes")
        x = self.space_.transform.forward(
            self.space_.schema.to_internal(dataset.values, name=type(self).__name__), dtype=torch.float32
        )
        encoded = encoder.encode(dataset.condition, len(x))
        rows, aside = split_rows(len(x), self.held_out, noise.derive(self.seed_, "classifier held-out"))
        width = width or (128 if len(self.space_.transform.shape) == 1 else 32)
        task = ClassifierTask(self._new_classifier(encoder, width), self.space_.transform.dequantization)
        result = train(
            task,
            x[rows],
            encoded[rows],
            held_out=(x[aside], encoded[aside]) if len(aside) else None,
            settings=training or DEFAULT_TRAINING,
            seed=noise.derive(self.seed_, "classifier"),
            device=self.device,
            progress=self.verbose,
        )
        self.classifier_ = task.classifier.eval()
        self.classifier_loss_ = result.held_out_loss
        return self

    @_with_score
    def guided_by_classifier(self, label: Any, scale: float = 1.0) -> ClassifierGuided:
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
            If no classifier was trained, or it does not know the label.
        """
        check_is_fitted(self)
        if not hasattr(self, "classifier_"):
            raise ValueError("this model has no classifier of noisy rows yet; train one with fit_classifier(X, labels)")
        device = next(self.denoiser_.parameters()).device
        classifier = self.classifier_.to(device)
        return ClassifierGuided(self.denoiser_, classifier, int(classifier.index(label)[0]), scale)

    def _new_classifier(self, encoder: ConditionEncoder, width: int) -> LabelClassifier:
        shape, classes = self.space_.transform.shape, len(encoder.classes)
        network = fresh_module(lambda: NoisyClassifier(shape, classes, width), noise.derive(self.seed_, "classifier"))
        return LabelClassifier(network, encoder, self.denoiser_)

    def _drop_classifier(self) -> None:
        """Forget a classifier of noise levels and scales that are no longer this model's."""
        for name in ("classifier_", "classifier_loss_"):
            if hasattr(self, name):
                delattr(self, name)

    def _classifier_state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the classifier as plain data under the key "classifier" and tensors; nothing if there is none."""
        if not hasattr(self, "classifier_"):
            return {}, {}
        classifier = self.classifier_
        facts, encoder = classifier.encoder.state()
        tensors = {f"classifier.network.{name}": value for name, value in classifier.network.state_dict().items()}
        tensors |= {f"classifier.encoder.{name}": value for name, value in encoder.items()}
        return {"classifier": {"width": classifier.network.width, "loss": self.classifier_loss_, "encoder": facts}}, tensors

    def _restore_classifier(self, facts: Mapping[str, Any] | None, tensors: Mapping[str, Tensor]) -> None:
        """Take back what :meth:`_classifier_state` returned under that key."""
        if facts is None:
            return
        under = {
            part: {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
            for part in ("classifier.network.", "classifier.encoder.")
        }
        encoder = ConditionEncoder.from_state(facts["encoder"], under["classifier.encoder."])
        self.classifier_ = self._new_classifier(encoder, facts["width"]).eval()
        self.classifier_.network.load_state_dict(under["classifier.network."])
        self.classifier_loss_ = facts["loss"]
