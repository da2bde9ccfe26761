"""The base of denoising models: attributes, training, storage, and sampling in batches."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from pushforward import diffusion, networks, training
from pushforward.data import Facts
from pushforward.data.stream import AnyRows, moments, parts_of
from pushforward.diffusion import AbstractDenoiser, Denoiser, Prediction, Sampler, Schedule, TimeLaw, Weight
from pushforward.diffusion.coupling import Coupling
from pushforward.diffusion.points import PresentPoints
from pushforward.models.base.available import in_data_units
from pushforward.models.base.batches import batches, part_of
from pushforward.models.base.density import DensityModel
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.denoising.classifier import LabelClassifier
from pushforward.models.denoising.source import ArraySource, GaussianSource, Source, make_source, with_points
from pushforward.models.denoising.task import DenoisingTask, Loss
from pushforward.models.files.calibrations import CALIBRATIONS, Calibrations, read_calibrations, write_calibrations
from pushforward.models.files.storage import under
from pushforward.networks import NetworkSpec
from pushforward.training import TrainingSettings

__all__ = ["DEFAULT_STEPS", "Denoising", "Network", "WithDenoiser", "has_score", "has_score_in_data_units"]

DEFAULT_STEPS = 20
_COMMON = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0)
_TRAINING_OF_SETS = replace(_COMMON, steps=3000, batch_size=32, learning_rate=2e-3, ema=0.1)
Network = NetworkSpec | nn.Module


class WithDenoiser(DensityModel, TrainedModel):
    """A model with a denoiser of scaled rows and the source that its samples start from.

    Methods that need only E[x | x_t], such as ``posterior``, work with any of its subclasses.
    """

    core: ClassVar[str] = "denoiser_"

    denoiser_: AbstractDenoiser = field(init=False)
    data_std_: float = field(init=False)
    source_: Source = field(init=False)

    @property
    def _source_argument(self) -> object:
        """The argument for the law that sampling starts from; None is Gaussian noise."""
        return None

    @property
    def _coupling(self) -> Coupling:
        return "independent"

    @property
    def _classifier(self) -> LabelClassifier | None:
        return vars(self).get("classifier_")

    def _batched(
        self,
        run: Callable[[Tensor, slice, Tensor | None], Tensor],
        n: int,
        condition: Tensor | None,
        *,
        first: int,
        batch_size: int,
    ) -> Tensor:
        """Return n rows on the CPU from ``run(rows, part, condition)``: sample numbers, slice and conditions of a batch."""
        device, results = self._device, []
        for part in batches(n, batch_size):
            rows = torch.arange(first + part.start, first + part.stop, device=device)
            results.append(run(rows, part, part_of(condition, part, device)).cpu())
        return torch.cat(results)

    def _training_precision(self) -> torch.autocast:
        """Return the autocast context of the training precision."""
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self.training_.precision == "bfloat16")

    @property
    def _device(self) -> torch.device:
        return next(self.denoiser_.parameters()).device


class Denoising(WithDenoiser):
    """A model with a denoiser; :class:`~pushforward.models.denoising.model.DenoisingModel` adds its public methods.

    Parameters
    ----------
    schedule : Schedule, optional
        The noise scales along the path.
    prediction : Prediction
        The meaning of the network's raw output.
    times : TimeLaw, optional
        Law of training times.
    weight : Weight, optional
        Space of the squared error.
    network : NetworkSpec or nn.Module, optional
        Its size, or a module ``network(x, t, condition)``, which is copied. The default depends on the shape of the data.
    sampler : Sampler, optional
        Used by :meth:`sample`; default :func:`~pushforward.diffusion.default_sampler`.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`; guidance needs ``condition_dropout``
    above 0.

    Attributes
    ----------
    calibrations_ : dict
        :class:`~pushforward.diffusion.Calibration` by (steps, guidance scale); emptied by ``fit``.
    classifier_ : LabelClassifier
        The classifier of noisy rows, after ``fit_classifier``.
    classifier_loss_ : float
        Its held-out cross-entropy in nats; None without held-out rows.
    """

    fitted: ClassVar[tuple[str, ...]] = ("schedule", "times", "weight", "network", "sampler", *TrainedModel.fitted)
    takes_points: ClassVar[bool] = True
    image_conditions: ClassVar[bool] = True
    takes_series: ClassVar[bool] = True
    beside: ClassVar[tuple[str, ...]] = (CALIBRATIONS,)

    schedule: Schedule | None = None
    prediction: Prediction = "edm"
    times: TimeLaw | None = None
    weight: Weight | None = None
    network: Network | None = None
    sampler: Sampler | None = None

    schedule_: Schedule = field(init=False)
    network_: Network = field(init=False)
    sampler_: Sampler = field(init=False)
    times_: TimeLaw = field(init=False)
    weight_: Weight = field(init=False)
    denoiser_: Denoiser = field(init=False)
    sample_sampler_: Sampler = field(init=False)
    calibrations_: Calibrations = field(init=False)
    classifier_: LabelClassifier = field(init=False)
    classifier_loss_: float | None = field(init=False)

    @property
    def _loss(self) -> Loss:
        return "denoising"

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        sampler, sizes = self.sampler_, self._drawn_sizes(n, condition, seed, first)
        z = self._draw(
            self.denoiser_, n, condition, sampler=sampler, sizes=sizes, seed=seed, first=first, batch_size=batch_size
        )
        missing = 0 if sizes is None else self.space_.transform.shape[0] - z.shape[1]
        return nn.functional.pad(z, (0, 0, 0, missing), value=torch.nan) if missing else z

    def _drawn_sizes(self, n: int, condition: Tensor | None, seed: int, first: int) -> Tensor | None:
        """Return the numbers of points of n new sets, as in training; None if all are the same, or rows are no sets."""
        law = self.space_.sizes
        return None if law is None else law.draw(condition, n, encoder=self.space_.conditions, seed=seed, first=first)

    def _draw(
        self,
        denoiser: AbstractDenoiser,
        n: int,
        condition: Tensor | None,
        *,
        steps: int = DEFAULT_STEPS,
        sampler: Sampler,
        starts: Tensor | None = None,
        sizes: Tensor | None = None,
        seed: int,
        first: int = 0,
        batch_size: int = 256,
    ) -> Tensor:
        """Draw n scaled rows (n, *D) on the CPU, in batches; ``sizes`` are the numbers of points of sets."""
        points = 0 if sizes is None else int(sizes.max())

        def run(rows: Tensor, part: slice, c: Tensor | None) -> Tensor:
            z = self.source_.draw(rows, 0, seed, "sample") if starts is None else starts[part].to(rows.device)
            if sizes is None:
                with self._training_precision():
                    return sampler.run(denoiser, z, steps=steps, condition=c, seed=seed, first=first + part.start)
            z = with_points(z, points, rows=rows, seed=seed)
            present = torch.arange(points) < sizes[part, None]
            with self._training_precision():
                inner = PresentPoints(denoiser, present.to(z.device))
                x = sampler.run(inner, z, steps=steps, condition=c, seed=seed, first=first + part.start)
            return torch.where(present[..., None].to(x.device), x, torch.nan)

        return self._batched(run, n, condition, first=first, batch_size=batch_size)

    def _defaults(self, prepared: Prepared) -> Facts:
        shape = self.space_.transform.shape
        return {
            "schedule": diffusion.StraightLine(),
            "times": _default_times(shape, coded=self.space_.transform.coding is not None),
            "weight": "edm",
            "network": networks.SetSpec() if self._of_points else networks.default_spec(shape),
            "sampler": diffusion.default_sampler(DEFAULT_STEPS),
            "training": _TRAINING_OF_SETS if self._of_points else _default_training(shape, self.device),
        }

    @property
    def _of_points(self) -> bool:
        """Whether rows are sets of points."""
        return self.space_.kind.structure == "points"

    def _fill_in(self, prepared: Prepared) -> None:
        super()._fill_in(prepared)
        if self._of_points and (self._source_argument is not None or self._coupling != "independent"):
            raise ValueError(
                "sets of points start from independent Gaussian noise, which is the same in every order of the points; omit "
                "source and coupling"
            )
        if self.space_.sizes is not None and self._loss != "denoising":
            raise ValueError(f"loss={self._loss!r} needs sets of one size; use loss='denoising'")
        self.source_ = make_source(self._source_argument, self.space_.schema, self.space_.transform)
        self.data_std_ = _data_std(prepared.x, self.space_.transform.dequantization)

    def _network(self) -> Denoiser:
        spec = self.network_
        network = copy.deepcopy(spec).to(self.row_dtype) if isinstance(spec, nn.Module) else self._built(spec)
        return Denoiser(
            network,
            self.schedule_,
            prediction=self.prediction,
            data_std=self.data_std_,
            gaussian_source=isinstance(self.source_, GaussianSource) and self._coupling == "independent",
            bounds=self._bounds(),
        )

    def _bounds(self) -> tuple[Tensor, Tensor]:
        """Return the range of scaled rows; of sets that of any point, since they may have fewer points than the largest."""
        low, high = (end.to(self.row_dtype) for end in self.space_.transform.bounds)  # some devices have no float64
        return (low[:1], high[:1]) if self._of_points else (low, high)

    def _task(self, network: nn.Module, prepared: Prepared) -> DenoisingTask:
        assert isinstance(network, Denoiser)
        self._try(network, prepared)
        return DenoisingTask(
            network,
            source=self.source_,
            times=self.times_,
            weight=self.weight_,
            coupling=self._coupling,
            condition_dropout=self.condition_dropout,
            dequantization=self.space_.transform.dequantization,
            masked=self._masked_size,
            by=self._loss,
        )

    @property
    def _masked_size(self) -> tuple[int, int] | None:
        """Height and width of images whose visible part is their condition."""
        encoder = self.space_.conditions
        return encoder.image[1:] if encoder is not None and encoder.image is not None and encoder.has_masks else None

    def _try(self, denoiser: Denoiser, prepared: Prepared) -> None:
        """Call the network once, so that a network that does not fit the data raises before training."""
        x, condition = prepared.x[:2], None if prepared.condition is None else prepared.condition[:2]
        if x.ndim > len(self.space_.transform.shape) + 1:  # pairs of data and source
            x = x[:, 0]
        try:
            with torch.no_grad():
                shape = denoiser.network(x, torch.full((len(x),), 0.5, dtype=x.dtype), condition).shape
        except Exception as error:
            raise ValueError(
                f"the network cannot be called on these data as network(x, t, condition) with x {tuple(x.shape)}, "
                f"t {(len(x),)} and condition {None if condition is None else tuple(condition.shape)}: {error}"
            ) from error
        if shape != x.shape:
            raise ValueError(f"the network must return a tensor like x, {tuple(x.shape)}, but returned {tuple(shape)}")

    def _adopt(self, network: nn.Module) -> None:
        super()._adopt(network)
        self.calibrations_ = {}
        for name in ("classifier_", "classifier_loss_"):  # they belong to the noise levels and scaling of the old fit
            self.__dict__.pop(name, None)

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        facts, tensors = super()._state()
        if isinstance(self.source_, ArraySource):
            tensors["source.rows"] = self.source_.rows
        facts["data_std"] = self.data_std_
        if self._classifier is not None:
            classifier_facts, classifier_tensors = self._classifier.state()
            facts["classifier"] = classifier_facts | {"loss": self.classifier_loss_}
            tensors |= {f"classifier.{name}": value for name, value in classifier_tensors.items()}
        return facts, tensors

    def _write_beside(self, folder: Path, weights: list[str]) -> None:
        write_calibrations(folder, self.calibrations_, weights)

    def _read_beside(self, folder: Path, weights: str) -> None:
        self.calibrations_ = read_calibrations(folder, weights, self.denoiser_.schedule)

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        if "source.rows" in tensors:
            self.source_ = ArraySource(tensors["source.rows"])
        else:
            self.source_ = make_source(parts.get("source", self._source_argument), self.space_.schema, self.space_.transform)
        self.data_std_ = facts["data_std"]
        super()._restore(facts, tensors, parts)
        if "classifier" in facts:
            own = under(tensors, "classifier.")
            self.classifier_ = LabelClassifier.from_state(facts["classifier"], own, self.denoiser_, self.space_.transform.shape)
            self.classifier_loss_ = facts["classifier"]["loss"]


def has_score(model: WithDenoiser) -> bool:
    """Whether noise is Gaussian and independent of the data, so that the denoiser determines the score."""
    if hasattr(model, "denoiser_"):
        return model.denoiser_.gaussian_source
    return model._source_argument is None and model._coupling == "independent"


def has_score_in_data_units(model: WithDenoiser) -> bool:
    """Whether the denoiser determines the score of rows in the units of the data."""
    return has_score(model) and in_data_units(model)


def _is_small(shape: tuple[int, ...]) -> bool:
    """Whether rows are images of fewer than 16 pixels in height or width."""
    return len(shape) == 3 and min(shape[1:]) < 16


def _default_times(shape: tuple[int, ...], *, coded: bool) -> diffusion.LogitNormalTimes:
    """Return the law of training times.

    Small images need less noise, as their few pixels have to be exact. The coefficients of long signals need more: noise one to
    five times as strong as they are decides which word a sound says.

    References
    ----------
    Patrick Esser et al. Scaling rectified flow transformers for high-resolution image synthesis. ICML 2024, section 5.3.2.
    https://arxiv.org/abs/2403.03206
    """
    mean, std = (0.8, 1.0) if coded else (-0.8, 0.9) if _is_small(shape) else (0.0, 1.0)
    return diffusion.LogitNormalTimes(mean, std, uniform_share=0.1)


def _default_training(shape: tuple[int, ...], device: str | None) -> TrainingSettings:
    """Return the settings that performed best on 8x8 digits, MNIST and points in the plane, on two CPU cores."""
    common = _COMMON
    if len(shape) == 1:
        return replace(common, steps=3000, batch_size=256, learning_rate=3e-3, ema=0.1)
    if len(shape) == 2:
        return replace(common, steps=3000, batch_size=64, learning_rate=2e-3, ema=0.1)
    if _is_small(shape):
        return replace(common, steps=1500, batch_size=32, learning_rate=2e-3, ema=0.1)
    precision = training.fast_precision(device)
    return replace(common, steps=6000, batch_size=64, learning_rate=3e-3, ema=0.05, precision=precision)


def _data_std(x: AnyRows, width: Tensor) -> float:
    """Return the standard deviation of all scaled elements about their common mean, dequantization included."""
    _, variance = moments(part[~part.isnan()].double() for part in parts_of(x))
    return float((variance + (width**2 / 12).mean()).sqrt())
