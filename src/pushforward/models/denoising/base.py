"""The denoising families, diffusion and flow matching: one network, many samplers.

Both learn E[x | x_t] along a path x_t = alpha x + sigma z; :class:`FlowMatching` and :class:`Diffusion` differ in the paths
and sources they are named after, not in code. The part here turns a trained denoiser into rows of data.
"""

import copy
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from pushforward import diffusion, networks, training
from pushforward.data import Values
from pushforward.diffusion import AbstractDenoiser, Denoiser, Prediction, Sampler, Schedule, TimeLaw, Weight
from pushforward.diffusion.coupling import Coupling
from pushforward.models.base.model import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.denoising.calibration import DEFAULT_STEPS, CalibrationVerbs, checked_steps
from pushforward.models.denoising.classifier import ClassifierVerbs
from pushforward.models.denoising.density import FlowDensityVerbs
from pushforward.models.denoising.encoding import EncodingVerbs
from pushforward.models.denoising.guidance import Guidance, Guide
from pushforward.models.denoising.posterior import InverseVerbs
from pushforward.models.denoising.source import ArraySource, GaussianSource, Source, make_source
from pushforward.models.denoising.task import DenoisingTask
from pushforward.networks import NetworkSpec
from pushforward.training import TrainingSettings

__all__ = ["DenoisingModel", "Network"]

Network = NetworkSpec | nn.Module


class DenoisingModel(CalibrationVerbs, InverseVerbs, ClassifierVerbs, EncodingVerbs, FlowDensityVerbs, TrainedModel):
    """Base of the families that learn a denoiser.

    Parameters
    ----------
    schedule : Schedule, optional
        The noise scales along the path.
    prediction : Prediction
        What the network's raw output is.
    times : TimeLaw, optional
        Law of training times.
    weight : Weight, optional
        Space of the squared error.
    network : NetworkSpec or nn.Module, optional
        Its size, or a module ``network(x, t, condition)``, which is copied. Default by the shape of the data.
    sampler : Sampler, optional
        Used by :meth:`sample`; default :func:`~pushforward.diffusion.default_sampler`.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`; guidance needs ``condition_dropout``
    above 0.
    """

    fitted: ClassVar[tuple[str, ...]] = ("schedule", "times", "weight", "network", "sampler", *TrainedModel.fitted)
    core: ClassVar[str] = "denoiser_"

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
    data_std_: float = field(init=False)
    source_: Source = field(init=False)
    sample_sampler_: Sampler = field(init=False)

    def sample(
        self,
        n: int = 1,
        *,
        condition: Any = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        negative_condition: Any = None,
        guidance: Guidance = "condition",
        steps: int | None = None,
        sampler: Sampler | None = None,
        source: Any = None,
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        n : int
            Number of rows.
        condition : label, vector, or one of them per row, optional
            What the rows should be like. Without it a conditional model draws from the training conditions.
        guidance_scale : float
            w in uncond + w (cond - uncond): 1 is the conditional law, 0 ignores the condition, above 1 sharpens. Any value
            but 0 and 1 calls the network twice per step. The same w multiplies the gradient of a classifier or a reward.
        guidance_interval : (float, float), optional
            Noise levels sigma / alpha in (low, high] where the scale applies; elsewhere it is 1.
        negative_condition : label or vector, optional
            One condition for all rows, to move away from in place of "uncond".
        guidance : "condition", "classifier" or function, optional
            What the rows are guided by: their condition; the classifier that ``fit_classifier`` trained, whose labels
            ``condition`` then holds, on top of the law without a condition; or a reward, ``guidance(x)`` of rows x
            (B, *row) in the units of the data (images (B, C, H, W)), which returns (B,) and is differentiable.
        steps : int, optional
            Steps of the sampler; default 20.
        sampler : Sampler, optional
            Default the model's own, and if it was given none :func:`~pushforward.diffusion.default_sampler` for these steps
            and this scale; or the sampler that :meth:`calibrate` fitted to exactly these ``steps`` and this
            ``guidance_scale``, where both are given alone: no interval, no negative condition, no classifier, no reward.
            The sampler of the last call is kept as ``sample_sampler_``.
        source : rows, optional
            Rows to start from, n of them, for a model that was trained with its own source.
        seed : int, optional
            Names the sample; row i is the same whatever n and ``batch_size``. Without it a fresh seed is taken. The seed of
            the last call is kept as ``sample_seed_``.
        first : int
            Number of the first row: ``sample(5, seed=s, first=10)`` is rows 10 to 14 of ``sample(15, seed=s)``.
        batch_size : int
            Rows that go through the network at once.

        Returns
        -------
        array, tensor or DataFrame
            Rows in the layout, dtype and units of the training data.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
        >>> model.sample(3, condition=1, seed=0).shape
        (3, 2)
        """
        of_model = None if guidance == "classifier" else condition
        encoded, seed = self._begin_sampling(n, of_model, seed, first, batch_size)
        guide = Guide(guidance, guidance_scale, guidance_interval, negative_condition)
        denoiser = guide.denoiser(self)
        self.sample_sampler_ = sampler or self._sampler_of(steps, guide)
        starts = None if source is None else self._starts(source, n)
        z = self._draw(
            denoiser,
            n,
            guide.condition(self, condition, n, encoded),
            steps=DEFAULT_STEPS if steps is None else checked_steps(steps),
            sampler=self.sample_sampler_,
            starts=starts,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )
        return self.space_.schema.to_user(self.space_.transform.inverse(z))

    def _draw(
        self,
        denoiser: AbstractDenoiser,
        n: int,
        condition: Tensor | None,
        *,
        steps: int = DEFAULT_STEPS,
        sampler: Sampler,
        starts: Tensor | None = None,
        seed: int,
        first: int = 0,
        batch_size: int = 256,
    ) -> Tensor:
        """Return n scaled rows (n, *D) on the CPU, made in batches."""
        device = next(denoiser.parameters()).device
        lowered = self.training_.precision == "bfloat16"  # the network is called as it was trained
        made = []
        for begin in range(0, n, batch_size):
            end = min(begin + batch_size, n)
            rows = torch.arange(first + begin, first + end, device=device)
            z = self.source_.draw(rows, 0, seed, "sample") if starts is None else starts[begin:end].to(device)
            c = None if condition is None else condition[begin:end].to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowered):
                made.append(sampler.run(denoiser, z, steps=steps, condition=c, seed=seed, first=first + begin).cpu())
        return torch.cat(made)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        sampler = self.sampler_
        return self._draw(self.denoiser_, n, condition, sampler=sampler, seed=seed, first=first, batch_size=batch_size)

    def _starts(self, source: Any, n: int) -> Tensor:
        if isinstance(self.source_, GaussianSource):
            raise ValueError(
                "this model starts from Gaussian noise, which `seed` names; source=... is for models with their own"
            )
        rows = self.space_.transform.forward(self.space_.schema.to_internal(source, name="source"), dtype=torch.float32)
        if len(rows) != n:
            raise ValueError(f"source has {len(rows)} rows to start from, but n={n}; give n={len(rows)}")
        return rows

    def _defaults(self, prepared: Prepared) -> dict[str, Any]:
        shape = self.space_.transform.shape
        return {
            "schedule": diffusion.StraightLine(),
            "times": diffusion.LogitNormalTimes(uniform_share=0.1),
            "weight": "edm",
            "network": networks.default_spec(shape),
            "sampler": diffusion.default_sampler(DEFAULT_STEPS),
            "training": _default_training(shape, self.device),
        }

    def _fill_in(self, prepared: Prepared) -> None:
        super()._fill_in(prepared)
        self.source_ = make_source(getattr(self, "source", None), self.space_.schema, self.space_.transform)
        self.data_std_ = _data_std(prepared.x, self.space_.transform.dequantization)

    def _network(self) -> Denoiser:
        given = self.network_
        network = (
            copy.deepcopy(given)
            if isinstance(given, nn.Module)
            else given.build(self.space_.transform.shape, self._condition_dim)
        )
        coupling: Coupling = getattr(self, "coupling", "independent")
        return Denoiser(
            network,
            self.schedule_,
            prediction=self.prediction,
            data_std=self.data_std_,
            gaussian_source=isinstance(self.source_, GaussianSource) and coupling == "independent",
        )

    def _task(self, network: nn.Module, prepared: Prepared) -> DenoisingTask:
        assert isinstance(network, Denoiser)
        self._try(network, prepared)
        return DenoisingTask(
            network,
            source=self.source_,
            times=self.times_,
            weight=self.weight_,
            coupling=getattr(self, "coupling", "independent"),
            condition_dropout=self.condition_dropout,
            dequantization=self.space_.transform.dequantization,
            by=getattr(self, "loss", "denoising"),
        )

    def _try(self, denoiser: Denoiser, prepared: Prepared) -> None:
        """Call the network once, so that one that does not fit the data is named before training."""
        x, condition = prepared.x[:2], None if prepared.condition is None else prepared.condition[:2]
        if x.ndim > len(self.space_.transform.shape) + 1:  # pairs of data and source
            x = x[:, 0]
        try:
            with torch.no_grad():
                shape = denoiser.network(x, torch.full((len(x),), 0.5), condition).shape
        except Exception as error:
            raise ValueError(
                f"the network cannot be called on this data as network(x, t, condition) with x {tuple(x.shape)}, "
                f"t {(len(x),)} and condition {None if condition is None else tuple(condition.shape)}: {error}"
            ) from error
        if shape != x.shape:
            raise ValueError(f"the network must return a tensor like x, {tuple(x.shape)}, but returned {tuple(shape)}")

    def _adopt(self, network: nn.Module) -> None:
        super()._adopt(network)
        self._drop_classifier()
        self.calibrations_ = {}

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts, tensors = super()._state()
        if isinstance(self.source_, ArraySource):
            tensors["source.rows"] = self.source_.rows
        more_facts, more_tensors = self._classifier_state()
        return facts | {"data_std": self.data_std_} | more_facts, tensors | more_tensors

    def _restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], parts: Mapping[str, Any]) -> None:
        if "source.rows" in tensors:
            self.source_ = ArraySource(tensors["source.rows"])
        else:
            self.source_ = make_source(
                parts.get("source", getattr(self, "source", None)), self.space_.schema, self.space_.transform
            )
        self.data_std_ = facts["data_std"]
        super()._restore(facts, tensors, parts)
        self._restore_classifier(facts.get("classifier"), tensors)


def _default_training(shape: tuple[int, ...], device: str | None) -> TrainingSettings:
    """Return what did best on eight-by-eight and MNIST digits and on points in the plane, on two CPU cores."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0)
    if len(shape) == 1:
        return replace(common, steps=3000, batch_size=256, learning_rate=3e-3, ema=0.1)
    if min(shape[1:]) < 16:
        return replace(common, steps=1500, batch_size=64, learning_rate=2e-3, ema=0.1)
    precision = training.fast_precision(device)
    return replace(common, steps=6000, batch_size=64, learning_rate=3e-3, ema=0.05, precision=precision)


def _data_std(x: Tensor, width: Tensor) -> float:
    """Return the standard deviation of all scaled elements about their common mean, dequantization included."""
    return float((x.double().var(correction=0) + (width**2 / 12).mean()).sqrt())
