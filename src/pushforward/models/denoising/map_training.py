"""What a flow map learns from, and how: a fitted teacher, or one that is trained first, and a pool of its trajectories.

A run of ``fit`` has the run of the teacher in the folder ``teacher`` inside its own. A distilled run only names its teacher.
"""

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, Any, ClassVar, NamedTuple, cast

import numpy as np
import torch
from annotated_types import Ge
from pydantic import AllowInfNan
from sklearn.base import clone
from torch import Tensor, nn

from pushforward import networks, training
from pushforward.data import Dataset, Facts
from pushforward.diffusion import Schedule
from pushforward.diffusion.coupling import Coupling
from pushforward.diffusion.flow_map import FlowMapNetwork, WithFeatures, map_features
from pushforward.diffusion.likelihood import EXACT_UP_TO, StandardNoise, flow_log_prob
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.available import in_data_units
from pushforward.models.base.guidance import check_null, needed_encoder
from pushforward.models.base.model import OUTSIDE_RUNS, GenerativeModel, RunOptions
from pushforward.models.base.plan import Plan
from pushforward.models.base.preparing import Prepared, seed_of
from pushforward.models.base.trained import Trainable, TrainedModel
from pushforward.models.denoising.base import Denoising, WithDenoiser
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.denoising.map_pool import STATES, Pool, pool_angles
from pushforward.models.denoising.map_task import FlowMapTask
from pushforward.models.denoising.map_teacher import inherit, trained_teacher, unfitted
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.denoising.source import ArraySource, GaussianSource, make_source
from pushforward.models.files.params import Count, check_params
from pushforward.networks import NetworkSpec
from pushforward.probability import noise
from pushforward.training.process.generators import fresh_module

__all__ = ["JUMPS", "MapTraining", "has_density"]

JUMPS = 4  # network calls of a sample by default
_TRAJECTORIES, _FEWEST, _POOL_SHARE = 16_384, 256, 0.25
_MOST_NUMBERS = 1 << 27  # of all trajectories
_TEACHER_SHARE = 0.5  # of the time, when the teacher is trained too
_LENGTH = 2  # default steps, in those of the teacher
_ASIDE = 0.05  # share of the trajectories that are held out
_STATED = (1, 2, 4, 8)  # numbers of calls whose error of the density is measured
_SCORED = 256
_ELEMENTS = 8192
_EXACT_STEPS = 32  # of the teacher's density
_TRIED, _TRIAL, _PLANNED = 8, 0.3, 64


class _Planned(NamedTuple):
    """The training of the map on trajectories like ``rows``, and that of the teacher if it is not yet trained."""

    own: Trainable
    rows: Prepared
    teacher: Plan | None


def has_density(model: "MapTraining") -> bool:
    """Whether a map returns log-densities; before ``fit``, whether it may learn them."""
    if not in_data_units(model):
        return False
    learned = vars(model).get("denoiser_")
    return model.density is not False if learned is None else learned.head is not None


class MapTraining(WithDenoiser):
    """Base of :class:`~pushforward.models.denoising.flow_map.FlowMap`: its arguments, its training and its files."""

    image_conditions: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("teacher", "network", "trajectories", "density", *TrainedModel.fitted)

    teacher: GenerativeModel | None = None
    guidance: Annotated[float, Ge(1), AllowInfNan(False)] = 1.0
    trajectories: Count | None = None
    density: bool | None = None
    network: NetworkSpec | None = None

    teacher_: Denoising = field(init=False)
    network_: NetworkSpec = field(init=False)
    trajectories_: int = field(init=False)
    density_: bool = field(init=False)
    denoiser_: FlowMapNetwork = field(init=False)
    schedule_: Schedule = field(init=False)
    density_error_: dict[int, float] = field(init=False)

    @property
    def _source_argument(self) -> object:
        return self._teacher_arguments._source_argument

    @property
    def _coupling(self) -> Coupling:
        return self._teacher_arguments._coupling

    @property
    def _teacher_arguments(self) -> Denoising:
        return cast(Denoising, vars(self).get("teacher_") or self.teacher or FlowMatching())

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        return self._jumps(n, condition, steps=JUMPS, scale=1.0, seed=seed, first=first, batch_size=batch_size)

    def _jumps(
        self, n: int, condition: Tensor | None, *, steps: int, scale: float, seed: int, first: int, batch_size: int
    ) -> Tensor:
        """Draw n scaled rows (n, *D) on the CPU, in batches."""

        def run(rows: Tensor, part: slice, c: Tensor | None) -> Tensor:
            z = self.source_.draw(rows, 0, seed, "sample")
            with self._training_precision():
                return self.denoiser_.sample(z, steps=steps, condition=c, scale=scale)

        return self._batched(run, n, condition, first=first, batch_size=batch_size)

    def _score_rows(
        self,
        learned: FlowMapNetwork,
        z: Tensor,
        *,
        condition: Tensor | None,
        varies: Tensor | None,
        seed: int,
        first: int,
        steps: int,
    ) -> LogProb:
        eps, integral = learned.encode(z, steps=steps, condition=condition)
        assert integral is not None
        counted = torch.ones(z.shape[1:], dtype=torch.bool) if varies is None else varies
        dims = int(counted.sum())
        scales = np.log(learned.data_std) + np.log(np.sin(learned.high))
        values = StandardNoise(1.0).log_prob(eps.cpu()[:, counted]) + integral.cpu().double() - dims * scales
        known = [number for number in self.density_error_ if number <= steps] or list(self.density_error_)
        error = self.density_error_[max(known)] if known else np.nan
        one, zero = torch.ones((), dtype=torch.float64), np.zeros(len(z))
        ratio = float(learned.schedule.alpha(one) / learned.schedule.sigma(one))
        square = (z.cpu().double() * counted).square().flatten(1).sum(1).numpy()
        return LogProb(
            values=values.numpy(),
            kind="estimate",
            standard_error=zero,
            numerical_error=zero + error,
            prior_mismatch=ratio**2 * square / 2,
            nfe=steps,
            dims=dims,
            constants=z[0].numel() - dims,
        )

    def _defaults(self, prepared: Prepared) -> Facts:
        teacher, shape = self.teacher_, self.space_.transform.shape
        if "training_" not in vars(teacher):  # for a recipe, before anything is planned
            teacher._fill_in(prepared)
            self._take_over()
        network = teacher.network_ if isinstance(teacher.network_, NetworkSpec) else networks.default_spec(shape)
        dims = int(self.space_.transform.varies.sum())
        settings = replace(teacher.training_, steps=_LENGTH * teacher.training_.steps, warmup_steps=None, tracker=None)
        return {
            "teacher": self.teacher or FlowMatching(),
            "network": network,
            "trajectories": min(_TRAJECTORIES, _MOST_NUMBERS // (math.prod(shape) * (STATES + 1))),
            "density": dims <= EXACT_UP_TO and not self._no_density(self.network or network),
            "training": settings,
        }

    @property
    def _knows_null(self) -> bool:
        return self.condition_dropout > 0 and bool(self._teacher_arguments.condition_dropout > 0)

    def distilling(self, teacher: Denoising, began: float | None = None) -> Plan:
        """Return the plan that distills a fitted teacher into this model, which is not yet fitted."""
        check_params(type(self), self.get_params(deep=False))
        self._check_kind(teacher.space_.kind)
        self._check_masks(teacher)
        self.seed_ = seed_of(self.random_state)
        self.space_, self.data_ = teacher.space_, teacher.data_
        self._name_features()
        self.teacher, self.teacher_ = unfitted(teacher), teacher
        if self.device is not None:
            teacher.to(self.device)
        n = self.space_.kind.drawn_while_training
        drawn = teacher._generate(n, teacher._conditions_for_sampling(None, n, self.seed_), seed=self.seed_)
        prepared = Prepared(drawn, None, None, torch.arange(n), torch.arange(0))
        return Plan(self, prepared, _Planned(*self._plan_map(began), None))

    def _prepare(self, dataset: Dataset) -> Prepared:
        prepared = super()._prepare(dataset)
        teacher = clone(self.teacher or FlowMatching())
        if not isinstance(teacher, DenoisingModel):
            raise ValueError(f"teacher must be a FlowMatching or a Diffusion, whose flow a map can learn, not {teacher!r}")
        check_params(type(teacher), teacher.get_params(deep=False))
        given: Facts = {"random_state": noise.derive(self.seed_, "teacher"), "device": self.device}
        if self.max_time is not None:
            given["max_time"] = self.max_time * _TEACHER_SHARE
        teacher.set_params(**{name: value for name, value in given.items() if getattr(teacher, name) is None})
        self.teacher_ = teacher.set_params(verbose=self.verbose or teacher.verbose)
        rows = teacher._prepare(replace(dataset, held_out=prepared.held_out_rows))
        self._check_masks(teacher)
        self.space_ = teacher.space_
        return rows

    def _check_masks(self, teacher: Denoising) -> None:
        if teacher._masked_size is not None:
            raise ValueError(
                "a FlowMap learns from what its teacher draws, which has no visible part for the masks of this teacher; fill "
                "images with the teacher itself, or distill a model without condition='mask'"
            )

    def _clean(self, x: Tensor) -> Tensor:
        return self.teacher_._clean(x) if isinstance(self.teacher_, FlowMatching) else x

    def _resolve(self, prepared: Prepared) -> Any:
        teacher = self.teacher_
        trainable = teacher._resolve(prepared)
        teacher._adopt(trainable.network)
        return _Planned(*self._plan_map(None), Plan(teacher, prepared, trainable))

    def _plan_map(self, began: float | None) -> tuple[Trainable, Prepared]:
        """Plan the training on trajectories, whose shape is known before they are drawn."""
        self._take_over()
        if self.guidance > 1:
            check_null(needed_encoder(self, self.guidance), self.condition_dropout if self._knows_null else 0.0)
        self._fill_in(Prepared(torch.zeros(0), None, None, torch.arange(0), torch.arange(0)))
        self._check_density()
        width = math.prod(self.space_.transform.shape) + self.density_
        x = torch.zeros(_PLANNED, STATES + 1, width)
        given = self._condition_dim + (self.guidance > 1)
        condition = torch.ones(_PLANNED, given) if given else None
        rows = torch.arange(_PLANNED)
        alike = Prepared(x, condition, (x, condition), rows, rows)
        alike = alike if began is None else replace(alike, began=began)
        return super()._resolve(alike), alike

    def _take_over(self) -> None:
        """Store what a map has in common with its teacher."""
        teacher = self.teacher_
        self.source_, self.data_std_, self.schedule_ = teacher.source_, teacher.data_std_, teacher.schedule_

    def _size(self, resolved: object) -> int:
        assert isinstance(resolved, _Planned)
        return super()._size(resolved.own)

    def _seconds(self, resolved: object, prepared: Prepared) -> float:
        assert isinstance(resolved, _Planned)
        own = super()._seconds(resolved.own, resolved.rows) + self.trajectories_ * self._seconds_per_trajectory()
        return own + (0.0 if resolved.teacher is None else resolved.teacher.seconds() or 0.0)

    def _fill_in(self, prepared: Prepared) -> None:
        teacher = self.teacher_
        super()._fill_in(prepared)
        self.teacher_ = teacher

    def _check_density(self) -> None:
        lacking = self._no_density(self.network_)
        if self.density_ and lacking:
            raise ValueError(f"the density of a flow map needs {lacking}; omit density=True")

    def _no_density(self, network: NetworkSpec) -> str:
        """Return what a density needs that is not there, or ""."""
        if not self._gaussian:
            return "Gaussian noise that is independent of the data"
        if not in_data_units(self):
            return "columns that are no categories"
        built = fresh_module(lambda: network.build(self.space_.transform.shape, 0), 0)
        return "" if isinstance(built, WithFeatures) else "a network with `features` and `readout`, such as MLPSpec() builds"

    @property
    def _gaussian(self) -> bool:
        return isinstance(self.source_, GaussianSource) and self._coupling == "independent"

    def _fit_steps(self, trainable: Trainable, prepared: Prepared) -> None:
        """Set the number of trajectories and of steps by ``max_time``."""
        trained = self.teacher_.__sklearn_is_fitted__()
        whole = float(self.max_time or 0) * (1.0 if trained else 1 - _TEACHER_SHARE)
        one = training.agreed(self._seconds_per_trajectory)
        if self.trajectories is None:
            self.trajectories_ = min(max(int(_POOL_SHARE * whole / one), _FEWEST), self.trajectories_)

        def steps() -> int:
            step, overhead = self._costs(trainable.task, prepared, self.training_, seconds=self._trial_seconds)
            beside = overhead.of(self.training_) + self.trajectories_ * one + training.GRIDS * trainable.plot_seconds
            return training.steps_for(whole, step, overhead_seconds=beside, margin=0.05)

        self.training_ = replace(self.training_, steps=training.agreed(steps), warmup_steps=None)

    def _seconds_per_trajectory(self) -> float:
        """Measure on ever more trajectories, because a few are dominated by the overhead of a call."""
        count, seconds = _TRIED, 0.0
        while True:
            begin = time.perf_counter()
            self._draw_pool(count)
            seconds = time.perf_counter() - begin
            if seconds > _TRIAL or count >= 512:
                return seconds / count
            count *= 4

    def _draw_pool(self, count: int, purpose: str = "pool", *, plain: bool = False) -> Pool:
        """Return trajectories of the teacher, row i the same whatever their number; ``plain``: no guidance, no integrals."""
        varies = self.space_.transform.varies
        exact = int(varies.sum()) <= EXACT_UP_TO
        return Pool.of(
            self.teacher_,
            count,
            seed=noise.derive(self.seed_, purpose),
            max_guidance=1.0 if plain else float(self.guidance),
            dropout=self.condition_dropout if self._knows_null else 0.0,
            probes=(0 if exact else 1) if self.density_ and not plain else None,
            varies=varies,
        )

    def _network(self) -> FlowMapNetwork:
        extra = map_features(self.guidance)
        return FlowMapNetwork(
            self._built(self.network_, extra),
            self.schedule_,
            condition_dim=self._condition_dim,
            data_std=self.data_std_,
            max_guidance=self.guidance,
            gaussian_source=self._gaussian,
            density=self.density_,
            states=STATES + 1,
        )

    def _task(self, network: nn.Module, prepared: Prepared) -> FlowMapTask:
        assert isinstance(network, FlowMapNetwork)
        angles = pool_angles(self.teacher_)
        network.angles.copy_(angles)
        return FlowMapTask(network, angles, self.space_.transform.shape)

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        assert isinstance(resolved, _Planned)
        if resolved.teacher is not None:
            self.teacher_ = trained_teacher(resolved.teacher, run)
        teacher, begin = self.teacher_, time.perf_counter()
        pool, aside = self._draw_pool(self.trajectories_).split(max(1, int(_ASIDE * self.trajectories_)))
        drawing = time.perf_counter() - begin
        assert isinstance(resolved.own.network, FlowMapNetwork)
        if self.network_ == teacher.network_:
            inherit(resolved.own.network.network, teacher.denoiser_.network, whole=teacher.prediction == "edm")
        rows = torch.arange(len(pool.rows))
        own = Prepared(pool.rows, pool.condition, (aside.rows, aside.condition), rows, torch.arange(len(aside.rows)))
        self.density_error_ = {}
        super()._learn(own, resolved.own, run)
        if self.density_:
            self.density_error_ = self._measure_density()
        result = replace(self.training_result_, seconds=self.training_result_.seconds + drawing)
        self.training_result_ = result if resolved.teacher is None else teacher.training_result_.followed_by(result)
        self.teacher_ = unfitted(teacher)

    def _measure_density(self) -> dict[int, float]:
        """Return the root mean square difference to the teacher's log-densities, on rows that the teacher draws, by calls."""
        varies, shape, dtype = self.space_.transform.varies, self.space_.transform.shape, self._density_dtype
        count = max(16, min(_SCORED, _ELEMENTS // int(varies.sum())))
        drawn = self._draw_pool(count, "density", plain=True)
        x = (self.data_std_ * drawn.rows[:, -1]).reshape(-1, *shape).to(dtype)
        given = None if drawn.condition is None else drawn.condition.to(dtype)
        learned = copy.deepcopy(self.denoiser_).to(dtype).cpu()
        original = copy.deepcopy(self.teacher_.denoiser_).to(dtype).cpu()
        counted = None if bool(varies.all()) else varies
        steps = min(_EXACT_STEPS, self.space_.kind.solver_steps)
        exact = flow_log_prob(original, x, condition=given, varies=counted, steps=steps, probes=2, seed=self.seed_).values
        errors = {}
        for calls in _STATED:
            found = self._score_rows(learned, x, condition=given, varies=counted, seed=0, first=0, steps=calls).values
            errors[calls] = float(np.sqrt(np.mean((found - exact) ** 2)))
        return errors

    def _resolved(self) -> Facts:
        return super()._resolved() | {"teacher": unfitted(self.teacher_)}

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        facts, tensors = super()._state()
        if isinstance(self.source_, ArraySource):
            tensors["source.rows"] = self.source_.rows
        errors = {str(calls): error for calls, error in self.density_error_.items()}
        return facts | {"data_std": self.data_std_, "density_error": errors}, tensors

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        argument = parts.get("teacher__source", self._source_argument)
        rows = tensors.get("source.rows")
        self.source_ = make_source(argument, self.space_.schema, self.space_.transform) if rows is None else ArraySource(rows)
        self.data_std_ = facts["data_std"]
        if self.teacher_.schedule is None:
            raise ValueError("resolved.teacher has no schedule")
        self.schedule_ = self.teacher_.schedule
        self.density_error_ = {int(calls): float(error) for calls, error in facts["density_error"].items()}
        super()._restore(facts, tensors, parts)
