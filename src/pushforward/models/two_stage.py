"""Training of two models in turn: a coder of rows, then a prior of its codes.

Both are planned before either is trained, so that invalid arguments raise at once; the prior is planned on noise of the shape
of the codes. In a run folder each part has its own run, ``coder`` and ``prior``, which can be resumed. Both hold out the same
rows.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import NamedTuple, Protocol, TypeGuard, TypeVar, runtime_checkable

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from pushforward import training
from pushforward.data import ArrayLike, Condition, Dataset, Facts, Limits, Schema, Transform, Values
from pushforward.data.rows import Rows
from pushforward.data.stream import AnyRows
from pushforward.models.autoencoders.vae import VAE
from pushforward.models.autoencoders.vqvae import VQVAE
from pushforward.models.base.codes import CodeModel, RandomCodes
from pushforward.models.base.model import OUTSIDE_RUNS, GenerativeModel, RunOptions
from pushforward.models.base.plan import Plan, plan
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import Trainable, TrainedModel
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.files.params import Count, DeviceName, Seconds, check_params
from pushforward.models.files.storage import CARD, load, pack, parts_of, read_card, under, unpack
from pushforward.probability import noise
from pushforward.training.record.files import inside

__all__ = ["Coder", "NewPrior", "TwoStageModel", "has_random_codes"]

_CODES, _MOST_DRAWS = 20_000, 32  # codes to train a prior on, if rows are fewer
_CODER_SHARE = 0.6  # of steps and time, if both parts are trained by gradients
_LEAST_SHARE = 0.1  # of the time: the prior's, however long the coder took
_BATCH = 256

T = TypeVar("T")


@runtime_checkable
class Coder(Protocol):
    """The methods that a coder needs."""

    def transform(self, X: ArrayLike, *, batch_size: int = ...) -> Values:
        """Return the codes of rows."""

    def inverse_transform(self, Z: ArrayLike, *, batch_size: int = ...) -> Values:
        """Return the rows of codes."""


class RandomCoder(Protocol):
    """The part of a coder with random codes that is used here."""

    @property
    def _code_length(self) -> int: ...
    def _rows(self, X: ArrayLike, condition: Condition) -> Rows: ...
    def _code_sampler(self, learned: object, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]: ...
    def _in_batches(self, score: Callable[[slice, object, torch.device], T], rows: int, batch_size: int) -> list[T]: ...


def has_random_codes(model: GenerativeModel) -> TypeGuard[RandomCoder]:
    """Whether a model has a random encoder q(z | x) and decoder p(x | z), and therefore densities of rows."""
    return isinstance(model, RandomCodes)


@dataclass(frozen=True, eq=False)
class _Prepared(Prepared):
    """Scaled rows, and their data set, which the coder prepares itself."""

    dataset: Dataset


class _Plans(NamedTuple):
    """The plans of the coder and, on noise in the shape of the codes, of the prior; the time by which both must be trained."""

    coder: Plan
    prior: Plan | None
    end: float = math.inf


class NewPrior(NamedTuple):
    """The plan of another prior for a coder that is trained."""

    prior: Plan


class TwoStageModel(GenerativeModel):
    """Base of models with two parts: ``fit`` trains ``coder_`` on rows, then ``prior_`` on their codes."""

    coder: GenerativeModel | None = field(default=None, kw_only=False)
    prior: GenerativeModel | None = field(default=None, kw_only=False)
    draws: Count | None = None
    train_steps: Count | None = None
    max_time: Seconds | None = None
    device: DeviceName | None = None

    coder_: GenerativeModel = field(init=False)
    prior_: GenerativeModel = field(init=False)

    def _prepare(self, dataset: Dataset) -> Prepared:
        """Prepare rows with the coder's scaling, and fix the held-out rows for both parts."""
        prepared = super()._prepare(dataset)
        split = replace(dataset, held_out=prepared.held_out_rows)
        return _Prepared(**{field.name: getattr(prepared, field.name) for field in fields(prepared)}, dataset=split)

    def _scaling(self, x: AnyRows, schema: Schema, limits: Limits | None) -> Transform:
        scaling: Transform = (self.coder or VAE())._scaling(x, schema, limits)
        return scaling

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        return {"coder": VAE(), "prior": FlowMatching()}

    def _resolve(self, prepared: Prepared) -> _Plans:
        assert isinstance(prepared, _Prepared)
        end = math.inf if self.max_time is None else prepared.began + self.max_time
        self._set_parts(prepared)
        check_params(type(self.prior_), self.prior_.get_params(deep=False))
        coder = plan(replace(prepared.dataset, condition=None), self.coder_)
        self.coder_, prior = coder.model, None
        if isinstance(self.prior_, TrainedModel):
            prior = plan(self._placeholder_codes(prepared.dataset, coder), self.prior_)
            self.prior_ = _unfitted(self.prior_)
        return _Plans(coder, prior, end)

    def _set_parts(self, prepared: Prepared) -> None:
        """Set ``coder_`` and ``prior_``, unfitted, with seed, device and budget where they are None."""
        self._fill_in(prepared)
        for name, methods in (("coder", ("transform", "inverse_transform")), ("prior", ("sample",))):
            part = getattr(self, f"{name}_")
            missing = [method for method in methods if not hasattr(part, method)]
            if missing:
                raise ValueError(
                    f"{name}={type(part).__name__}(...) has no {missing[0]}: a {name} needs {' and '.join(methods)}, as "
                    f"{'VAE() has' if name == 'coder' else 'FlowMatching() has'}"
                )
        if isinstance(self.coder_, VQVAE):
            raise ValueError("coder=VQVAE(...) has integer codes and its own prior of them; train it alone, or use VAE()")
        for name in ("coder", "prior"):
            part = clone(getattr(self, f"{name}_"))
            params = part.get_params(deep=False)
            defaults: dict[str, object] = {"random_state": noise.derive(self.seed_, name), "device": self.device}
            if self.max_time is not None:
                defaults["max_time"] = self.max_time * self._share(name, "max_time")
            if self.train_steps is not None and params.get("training") is None:
                defaults["train_steps"] = max(1, round(self.train_steps * self._share(name, "train_steps")))
            part.set_params(**{key: value for key, value in defaults.items() if key in params and params[key] is None})
            setattr(self, f"{name}_", part.set_params(verbose=self.verbose or part.verbose))

    def _share(self, name: str, budget: str) -> float:
        """Return a part's share of a budget: all of it if the other part does not take one."""
        both = all(budget in part.get_params(deep=False) for part in (self.coder_, self.prior_))
        return 1.0 if not both else _CODER_SHARE if name == "coder" else 1 - _CODER_SHARE

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        if isinstance(resolved, NewPrior):
            prior = resolved.prior
        else:
            assert isinstance(prepared, _Prepared)
            assert isinstance(resolved, _Plans)
            self.coder_ = self._train("coder", resolved.coder, replace(run, on_grid=None))
            codes = self._codes(prepared.dataset)
            own = None if self.prior is None else self.prior.get_params(deep=False).get("max_time")
            if resolved.end < math.inf and own is None and isinstance(self.prior_, TrainedModel):
                left = max(resolved.end - time.perf_counter(), _LEAST_SHARE * float(self.max_time or 0))
                self.prior_.set_params(max_time=left)
            prior = plan(codes, self.prior_)
        self.prior_ = prior.model
        self.prior_ = self._train("prior", prior, run)
        self.space_ = self.space_.with_conditions(self.prior_.space_.conditions)
        first, second = self.coder_.training_result_, self.prior_.training_result_
        self.training_result_ = replace(first.followed_by(second), parameters=first.parameters + second.parameters)

    def _train(self, name: str, part: Plan, run: RunOptions) -> GenerativeModel:
        """Train a part in its folder inside the run, and return it; load it if it is finished."""
        if run.folder is None:
            part.model._learn(part.prepared, part.resolved)
            return part.model
        place = inside(run.folder, name)
        status = training.agreed(lambda: read_card(place)["status"] if run.resume and (place / CARD).is_file() else None)
        if status == "finished":
            finished: GenerativeModel = load(place, parts=parts_of(part.model))
            return finished
        return part.start(place, resume=status is not None, on_grid=run.on_grid)

    def _codes(self, dataset: Dataset) -> Dataset:
        """Return the codes of all rows; random codes are drawn several times, one draw of all rows after the other."""
        values, coder = dataset.values, self.coder_
        if not has_random_codes(coder):
            assert isinstance(coder, Coder)
            return _as_dataset(coder.transform(values), dataset, 1)
        draws = self._draws(len(values))
        rows, codes = coder._rows(values, None), []
        for draw in range(draws):
            seed = noise.derive(self.seed_, "codes", draw)
            codes.append(self._draw_codes(rows, 1, seed, 0, _BATCH, shared=False)[0][0])
        return _as_dataset(np.asarray(torch.cat(codes)), dataset, draws)

    def _placeholder_codes(self, dataset: Dataset, coder: Plan) -> Dataset:
        """Return noise with the shape and the number of the codes, which are known before the coder is trained."""
        model, draws, shape = coder.model, 1, dataset.schema.row_shape
        if isinstance(model, TrainedModel):
            assert isinstance(coder.resolved, Trainable)
            model._adopt(coder.resolved.network)
        if isinstance(model, CodeModel):
            shape = (model._code_length,)
        if isinstance(model, RandomCodes):
            draws = self._draws(len(dataset))
        z = noise.normal(shape, seed=self.seed_, purpose="codes to be", rows=draws * len(dataset))
        return _as_dataset(np.asarray(z), dataset, draws)

    def _draws(self, rows: int) -> int:
        return self.draws or min(_MOST_DRAWS, math.ceil(_CODES / rows))

    def _data_of(self, part: str, dataset: Dataset) -> Dataset:
        whole = replace(dataset, condition=None)
        if part == "coder":
            return whole
        prepared = self._prepare(dataset)
        self._set_parts(prepared)
        return self._placeholder_codes(dataset, plan(whole, self.coder_))

    def with_new_prior(self, prior: Plan) -> Plan:
        """Return the plan of a model with this one's coder, which is trained, and another prior of its codes."""
        made = type(self)(**self.get_params(deep=False) | {"prior": _unfitted(prior.model)})
        for name in ("space_", "data_", "coder_"):
            setattr(made, name, getattr(self, name))
        made.seed_, made.prior_ = prior.model.seed_, prior.model
        made._name_features()
        n = self.space_.kind.drawn_while_training
        drawn = self._generate(n, self._conditions_for_sampling(None, n, made.seed_), seed=made.seed_)
        return Plan(made, Prepared(drawn, None, None, torch.arange(n), torch.arange(0)), NewPrior(prior))

    def _size(self, resolved: object) -> int | None:
        if isinstance(resolved, NewPrior):
            return resolved.prior.parameters
        assert isinstance(resolved, _Plans)
        sizes = [None if part is None else part.parameters for part in resolved[:2]]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def _seconds(self, resolved: object, prepared: Prepared) -> float | None:
        assert isinstance(resolved, _Plans)
        return sum(part.seconds() or 0.0 for part in resolved[:2] if part is not None)

    def _resolved(self) -> Facts:
        parts = {"coder": _unfitted(self.coder_), "prior": _unfitted(self.prior_)}
        return super()._resolved() | parts | {"train_steps": None, "max_time": None}

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        facts: Facts = {}
        tensors: dict[str, Tensor] = {}
        for name, part in (("coder", self.coder_), ("prior", self.prior_)):
            facts[name], part_tensors = pack(part)
            tensors |= {f"{name}.{key}": value for key, value in part_tensors.items()}
        return facts, tensors

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        for name in ("coder", "prior"):
            fitted = unpack(facts[name], under(tensors, f"{name}."), under(parts, f"{name}__"))
            setattr(self, f"{name}_", fitted)
        if not torch.equal(self.coder_.space_.transform.constant, self.space_.transform.constant):
            raise ValueError("transform.constant is not that of the coder")
        if isinstance(self.coder_, CodeModel) and self.prior_.space_.transform.data_shape != (self.coder_._code_length,):
            raise ValueError("the prior is not one of the codes of the coder")

    def _draw_codes(
        self, rows: Rows, samples: int, seed: int, first: int, batch_size: int, *, shared: bool
    ) -> tuple[Tensor, Tensor]:
        """Draw codes z ~ q(z | x) (samples, N, K) of rows, integers as x + u; with log p(x | z) / q(z | x) (samples, N)."""
        coder = self.coder_
        assert has_random_codes(coder)

        def draw_part(part: slice, learned: object, device: torch.device) -> tuple[Tensor, Tensor]:
            x = rows.dequantized(part, seed, first + part.start).to(device)
            numbers = torch.arange(first + part.start, first + part.start + len(x), device=device) * (not shared)
            draw, pairs = coder._code_sampler(learned, x), []
            for k in range(samples):
                shape = (coder._code_length,)
                pairs.append(
                    draw(noise.normal(shape, seed=seed, purpose="latent", rows=numbers, step=k, dtype=x.dtype, device=device))
                )
            return torch.stack([z for z, _ in pairs]).cpu(), torch.stack([ratio for _, ratio in pairs]).cpu()

        with torch.no_grad():
            parts = coder._in_batches(draw_part, len(rows.z), batch_size)
        return torch.cat([z for z, _ in parts], dim=1), torch.cat([ratio for _, ratio in parts], dim=1)


def _unfitted(model: GenerativeModel) -> GenerativeModel:
    """Return an unfitted model with the same arguments, resolved if they have been."""
    return type(model)(**model._resolved()) if hasattr(model, "seed_") else clone(model)


def _as_dataset(codes: Values, dataset: Dataset, draws: int) -> Dataset:
    """Return codes, ``draws`` per row of the data set, as a data set with its conditions and held-out rows."""
    schema = Schema.infer(codes, "vectors" if codes.ndim == 2 else dataset.schema.kind)
    condition = dataset.condition
    if condition is not None:
        condition = np.concatenate([condition] * draws)
    held_out = dataset.held_out
    if held_out is not None:
        held_out = torch.cat([held_out + draw * len(dataset) for draw in range(draws)])
    return Dataset(codes, condition, schema, "codes", held_out, dataset.condition_columns, dataset.condition_table)
