r"""The classifier of noisy rows for classifier guidance, trained on the schedule of a denoiser.

It learns log p(label | x_t) by the cross-entropy at x_t = alpha x + sigma eps, with t uniform (stratified over the batch) and
eps standard normal, seeded as in the training of the denoiser. Rows without a label are ignored.

The input of the network is (alpha s^2 / S) x_t with S = alpha^2 s^2 + sigma^2 and s the standard deviation of the data: the
best linear estimate of x. Its gradient then vanishes like alpha towards pure noise, as that of log p(label | x_t) does, so the
guidance step (sigma^2 / alpha) grad log p stays bounded for any error of the network.

References
----------
Prafulla Dhariwal, Alex Nichol. Diffusion models beat GANs on image synthesis. 2021. https://arxiv.org/abs/2105.05233
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from pushforward import diffusion
from pushforward.data import Condition, ConditionEncoder, Facts, restored_conditions
from pushforward.diffusion import Denoiser
from pushforward.models.base.task import RowTask, uniform
from pushforward.networks.classifier import NoisyClassifier
from pushforward.probability import noise
from pushforward.training import Batch, TrainingSettings
from pushforward.training.process.generators import fresh_module
from pushforward.training.process.size import check_size

__all__ = ["DEFAULT_TRAINING", "ClassifierTask", "LabelClassifier"]

DEFAULT_TRAINING = TrainingSettings(steps=1000, batch_size=256, learning_rate=2e-3, weight_decay=0.01, ema=0.1)


class LabelClassifier(nn.Module):
    """A trained classifier of noisy rows, with the labels of its classes.

    Parameters
    ----------
    network : NoisyClassifier
    encoder : ConditionEncoder
        Of labels.
    denoiser : Denoiser
        Provides the schedule and the standard deviation of the data.

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

    @classmethod
    def fresh(
        cls, encoder: ConditionEncoder, width: int, denoiser: Denoiser, shape: tuple[int, ...], *, seed: int
    ) -> "LabelClassifier":
        """Return an untrained classifier of rows of ``shape``."""

        def build() -> NoisyClassifier:
            return NoisyClassifier(shape, len(encoder.classes), width)

        check_size(build)
        return cls(fresh_module(build, seed), encoder, denoiser)

    def state(self) -> tuple[Facts, dict[str, Tensor]]:
        """Return the classifier as plain data and tensors."""
        facts, encoder = self.encoder.state()
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"encoder.{name}": value for name, value in encoder.items()}
        return {"width": self.network.width, "encoder": facts}, tensors

    @classmethod
    def from_state(
        cls, facts: Facts, tensors: Mapping[str, Tensor], denoiser: Denoiser, shape: tuple[int, ...]
    ) -> "LabelClassifier":
        """Return the classifier from the output of :meth:`state`."""
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "encoder": {}}
        for name, value in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = value
        encoder = restored_conditions(facts["encoder"], parts["encoder"])
        classifier = cls.fresh(encoder, facts["width"], denoiser, shape, seed=0)
        classifier.network.load_state_dict(parts["network"])
        return classifier.eval()

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Return logits (B, C) of scaled noisy rows x_t (B, *D) at t, () or (B,)."""
        alpha, sigma = self.schedule.alpha(t), self.schedule.sigma(t)
        gain = alpha * self.data_std**2 / ((alpha * self.data_std) ** 2 + sigma**2)
        logits: Tensor = self.network(diffusion.widen(gain.to(x_t.dtype), x_t) * x_t, t)
        return logits

    def index(self, label: Condition, n: int = 1) -> Tensor:
        """Return the class indices (n,) of one label, or of one per row."""
        encoded = self.encoder.encode(label, n)
        if not bool(encoded[:, 0].all()):
            raise ValueError(f"label {label!r} is missing; pass one of {', '.join(map(str, self.classes))}")
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
        # The condition of a row without a label is all zeros, so its loss is 0.
        logits: Tensor = self.classifier(x_t, t)
        return -(logits.log_softmax(1) * condition[:, 1:]).sum(1)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the cross-entropy and the time of each row."""
        x, condition, numbers = self._rows(batch, batch.condition)
        return self.loss(x, condition, numbers), numbers[0]
