"""The denoising families, diffusion and flow matching: one network, many samplers.

Both learn E[x | x_t] along a path x_t = alpha x + sigma z; :class:`FlowMatching` and :class:`Diffusion` differ in the paths
and sources they are named after, not in code. The part here turns a trained denoiser into rows of data.
"""

import copy
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge, Gt, Lt
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward import diffusion, networks, training
from pushforward.data import Values
from pushforward.diffusion import Denoiser, Prediction, Sampler, Schedule, TimeLaw, Weight
from pushforward.models.arguments import check_count, encoded_condition
from pushforward.models.base import GenerativeModel, Prepared, fresh_module
from pushforward.models.classify import ClassifierVerbs
from pushforward.models.density import DensityVerbs
from pushforward.models.inverse import InverseVerbs
from pushforward.models.source import ArraySource, make_source
from pushforward.models.task import Coupling, DenoisingTask, GaussianSource, Source
from pushforward.networks import NetworkSpec
from pushforward.probability import noise
from pushforward.training import TrainingSettings

__all__ = ["PICTURE_ROWS", "Count", "DenoisingModel", "Network", "Seconds", "Share"]

Count = Annotated[int, Ge(1)]
Seconds = Annotated[float, Gt(0)]
Share = Annotated[float, Ge(0), Lt(1)]
Network = NetworkSpec | nn.Module

DEFAULT_STEPS = 20
PICTURE_ROWS = 100


class DenoisingModel(InverseVerbs, ClassifierVerbs, DensityVerbs, GenerativeModel):
    """Base of the families that learn a denoiser."""

    fitted: ClassVar[tuple[str, ...]] = ("schedule", "times", "weight", "network", "sampler")

    schedule: Schedule | None
    prediction: Prediction
    times: TimeLaw | None
    weight: Weight | None
    network: Network | None
    sampler: Sampler | None
    condition_dropout: float

    schedule_: Schedule
    network_: Network
    sampler_: Sampler
    times_: TimeLaw
    weight_: Weight
    denoiser_: Denoiser
    source_: Source

    def sample(
        self,
        n: int = 1,
        *,
        condition: Any = None,
        guidance_scale: float = 1.0,
        steps: int = DEFAULT_STEPS,
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
            but 0 and 1 calls the network twice per step.
        steps : int
            Steps of the sampler.
        sampler : Sampler, optional
            Another one than ``sampler_``.
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
        check_is_fitted(self)
        check_count("n", n, 1)
        check_count("first", first, 0)
        check_count("batch_size", batch_size, 1)
        self.sample_seed_ = seed = noise.fresh_seed() if seed is None else seed
        encoded = self._encode(condition, n, seed, first)
        starts = None if source is None else self._starts(source, n)
        z = self._draw(
            self.denoiser_,
            n,
            encoded,
            guidance_scale=guidance_scale,
            steps=steps,
            sampler=sampler or self.sampler_,
            starts=starts,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )
        return self.schema_.to_user(self.transform_.inverse(z))

    def _encode(self, condition: Any, n: int, seed: int, first: int) -> Tensor | None:
        """Return one encoded condition per row, or None for an unconditional model."""
        if condition is None and self.condition_encoder_ is not None:
            return self.condition_encoder_.draw(n, seed=seed, first=first)
        return encoded_condition(self.condition_encoder_, condition, n, self.condition_dropout)

    def _draw(
        self,
        denoiser: Denoiser,
        n: int,
        condition: Tensor | None,
        *,
        guidance_scale: float = 1.0,
        steps: int = DEFAULT_STEPS,
        sampler: Sampler,
        starts: Tensor | None = None,
        seed: int,
        first: int = 0,
        batch_size: int = 256,
    ) -> Tensor:
        """Return n scaled rows (n, *D) on the CPU, made in batches."""
        if condition is None and guidance_scale != 1:
            raise ValueError(
                f"guidance_scale={guidance_scale} needs a model trained with conditions, but this one has none; leave it out"
            )
        guided = denoiser if condition is None or guidance_scale == 1 else diffusion.Guided(denoiser, guidance_scale)
        device = next(denoiser.parameters()).device
        lowered = self.training_.precision == "bfloat16"  # the network is called as it was trained
        made = []
        for begin in range(0, n, batch_size):
            end = min(begin + batch_size, n)
            rows = torch.arange(first + begin, first + end, device=device)
            z = self.source_.draw(rows, 0, seed, "sample") if starts is None else starts[begin:end].to(device)
            c = None if condition is None else condition[begin:end].to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowered):
                made.append(sampler.run(guided, z, steps=steps, condition=c, seed=seed, first=first + begin).cpu())
        return torch.cat(made)

    def _picture_seconds(self, task: DenoisingTask, prepared: Prepared) -> float:
        few, steps = 16, 4
        condition = None if prepared.condition is None else prepared.condition[:1].expand(few, -1)
        begin = time.perf_counter()
        self._draw(task.denoiser, few, condition, steps=steps, sampler=self.sampler_, seed=0)
        return (time.perf_counter() - begin) * (PICTURE_ROWS / few) * (DEFAULT_STEPS / steps)

    def _starts(self, source: Any, n: int) -> Tensor:
        if isinstance(self.source_, GaussianSource):
            raise ValueError(
                "this model starts from Gaussian noise, which `seed` names; source=... is for models with their own"
            )
        rows = self.transform_.forward(self.schema_.to_internal(source, name="source"), dtype=torch.float32)
        if len(rows) != n:
            raise ValueError(f"source has {len(rows)} rows to start from, but n={n}; give n={len(rows)}")
        return rows

    def _defaults(self, prepared: Prepared) -> dict[str, Any]:
        shape = self.transform_.shape
        return {
            "schedule": diffusion.StraightLine(),
            "times": diffusion.LogitNormalTimes(uniform_share=0.1),
            "weight": "edm",
            "network": networks.default_spec(shape),
            "sampler": diffusion.default_sampler(DEFAULT_STEPS),
            "training": _default_training(shape, self.device),
        }

    def _task(self, prepared: Prepared) -> DenoisingTask:
        coupling: Coupling = getattr(self, "coupling", "independent")
        given = getattr(self, "source", None)
        self.source_ = make_source(given, self.schema_, self.transform_)
        if isinstance(self.network_, nn.Module):
            network = copy.deepcopy(self.network_)
        else:
            network = self._build(self.network_, None if prepared.condition is None else prepared.condition.shape[1])
        denoiser = Denoiser(
            network,
            self.schedule_,
            prediction=self.prediction,
            data_std=_data_std(prepared.x, self.transform_.dequantization),
            gaussian_source=isinstance(self.source_, GaussianSource) and coupling == "independent",
        )
        self._try(denoiser, prepared)
        return DenoisingTask(
            denoiser,
            source=self.source_,
            times=self.times_,
            weight=self.weight_,
            coupling=coupling,
            condition_dropout=self.condition_dropout,
            dequantization=self.transform_.dequantization,
        )

    def _build(self, spec: NetworkSpec, condition_dim: int | None) -> nn.Module:
        return spec.build(self.transform_.shape, condition_dim or 0)

    def _try(self, denoiser: Denoiser, prepared: Prepared) -> None:
        """Call the network once, so that one that does not fit the data is named before training."""
        x, condition = prepared.x[:2], None if prepared.condition is None else prepared.condition[:2]
        if x.ndim > len(self.transform_.shape) + 1:  # pairs of data and source
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

    def _adopt(self, task: DenoisingTask) -> None:
        self.denoiser_ = task.denoiser.eval()
        self._drop_classifier()

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        tensors = {f"network.{name}": value for name, value in self.denoiser_.network.state_dict().items()}
        if isinstance(self.source_, ArraySource):
            tensors["source.rows"] = self.source_.rows
        facts = {"data_std": self.denoiser_.data_std, "gaussian_source": self.denoiser_.gaussian_source}
        more_facts, more_tensors = self._classifier_state()
        return facts | more_facts, tensors | more_tensors

    def _restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], parts: Mapping[str, Any]) -> None:
        if "source.rows" in tensors:
            self.source_ = ArraySource(tensors["source.rows"])
        else:
            self.source_ = make_source(parts.get("source", getattr(self, "source", None)), self.schema_, self.transform_)
        if isinstance(self.network_, nn.Module):
            network = copy.deepcopy(self.network_)
        else:
            spec, dim = self.network_, self.condition_encoder_.dim if self.condition_encoder_ is not None else None
            network = fresh_module(lambda: self._build(spec, dim), 0)
        weights = {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}
        network.load_state_dict(weights)
        facts = dict(facts)
        classifier = facts.pop("classifier", None)
        self.denoiser_ = Denoiser(network, self.schedule_, prediction=self.prediction, **facts).eval()
        self._restore_classifier(classifier, tensors)


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
