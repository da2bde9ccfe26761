r"""Continuous normalizing flows: a learned vector field transports rows to noise.

A row x is the state at t = 0 of the ordinary differential equation

    dx/dt = f(x, t, condition),          z = x_1,          d log p_t(x_t) / dt = - tr df/dx,

so log p(x) = log N(z; 0, I) + int_0^1 tr df/dx dt, and to sample, z ~ N(0, I) is integrated back from t = 1 to 0. The network f
can have any structure; its trace is computed exactly by one pullback per element, or without bias by v^T (df/dx) v with random
signs v.

The loss is the mean of -log p(x) over rows and signs, with two penalties that keep the paths straight, so that few steps
suffice,

    kinetic * int |f|^2 dt + jacobian * int |v^T df/dx|^2 dt,

the squared speed along the paths and, on average over v, the squared Frobenius norm of the Jacobian. The equation is solved by
a fixed number of Runge-Kutta steps of order 4, with gradients through all of them. Few steps on a rough field overestimate the
likelihood, so the held-out loss, densities and samples use twice as many.

A step of this training calls the network dozens of times. The field is therefore first trained by flow matching, which calls it
once per step: on the straight lines x_t = (1 - t) x + t z from rows to noise it learns z - x, and the squared error is minimal
for E[z - x | x_t], a field that transports the data to N(0, I). A few steps of maximum likelihood then correct the errors of
the solver, and those of the regression that lower the likelihood. :mod:`pushforward.models.flows.ode` defines the two losses.

References
----------
Ricky T. Q. Chen et al. Neural ordinary differential equations. 2018. https://arxiv.org/abs/1806.07366
Chris Finlay et al. How to train your neural ODE: the world of Jacobian and kinetic regularization. 2020.
https://arxiv.org/abs/2002.02798
"""

import functools
import math
from dataclasses import field, replace
from typing import Annotated, ClassVar

import numpy as np
import torch
from annotated_types import Ge, Le
from torch import Tensor, nn

from pushforward import training
from pushforward.data import ArrayLike, Condition
from pushforward.diffusion.likelihood import EXACT_UP_TO, Divergence
from pushforward.diffusion.log_prob import LogProb
from pushforward.diffusion.trace import rademacher
from pushforward.models.base.available import available_if, in_data_units
from pushforward.models.base.model import OUTSIDE_RUNS, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import Trainable, TrainedModel
from pushforward.models.flows.base import InvertibleModel, standard_log_prob
from pushforward.models.flows.ode import REFINED, LikelihoodTask, MatchingTask, ODEFlow
from pushforward.networks import MLPSpec, UNetSpec, default_spec
from pushforward.probability.counts import check_count, check_steps
from pushforward.training import TrainingSettings

__all__ = ["CNF"]

_CONVOLVED_FROM = 32  # side of images, without matching
_LARGE_FROM = 16  # side of images; the defaults are not tuned for these
_POWER_OF_IMAGES = 2.0  # of the times of the solver's steps, after matching
_MATCHING_SHARE = 0.6  # largest share of matching in the time for steps
_EPOCHS_IN_TIME = 2  # with a time limit, matching takes at most this many times the default epochs
_MATCHING_BATCH_OF_VECTORS, _MATCHING_BATCH_OF_IMAGES = 256, 64


class CNF(InvertibleModel):
    r"""Continuous normalizing flow: a vector field that transports data to noise, trained by maximum likelihood.

    A step of maximum likelihood solves the equation, with many calls of the network. By default the field is first trained by
    flow matching, which calls it once per step, with noise assigned to the rows of each batch so that paths are short; then few
    steps of maximum likelihood suffice.

    Parameters
    ----------
    network : MLPSpec or UNetSpec, optional
        Size of the field's network. The default depends on the shape of the data, and is smaller without matching.
    matching_steps : int, optional
        Steps of flow matching before the ``train_steps`` steps of maximum likelihood; 0 for none, which is plain FFJORD. The
        default depends on the shape and the number of the rows; with ``max_time`` it is a fixed share of the time, or less if
        there are so few rows that the field would overfit.
    solver_steps : int
        Runge-Kutta steps in training by maximum likelihood; densities and samples use twice as many. For images after matching
        the steps are short near the data, otherwise of equal length.
    kinetic, jacobian : float, optional
        Weights of the squared speed and of the squared Jacobian along the paths. Default 0.001, and 0.03 without matching,
        where nothing else keeps the paths straight.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`; ``training`` and ``train_steps`` apply
    to maximum likelihood. Matching uses the same settings except for batch size, learning rate, weight average and number of
    evaluations.

    Attributes
    ----------
    network_, matching_steps_, kinetic_, jacobian_, training_
        The resolved arguments.
    flow_ : ODEFlow
        The trained field, with the steps of densities and samples.
    training_result_ : TrainingResult
        Steps and seconds of both parts; the held-out loss is that of maximum likelihood.

    References
    ----------
    Will Grathwohl et al. FFJORD: free-form continuous dynamics for scalable reversible generative models. 2019.
    https://arxiv.org/abs/1810.01367
    Yaron Lipman et al. Flow matching for generative modeling. 2023. https://arxiv.org/abs/2210.02747
    Alexander Tong et al. Improving and generalizing flow-based generative models with minibatch optimal transport. 2024.
    https://arxiv.org/abs/2302.00482

    >>> import pushforward as pf
    >>> X = pf.open_data("moons").values[:60]
    >>> model = pf.CNF(matching_steps=2, train_steps=2, solver_steps=2, random_state=0).fit(X)
    >>> model.sample(4, seed=0).shape, model.transform(X[:3]).shape, model.log_prob(X[:3]).kind
    ((4, 2), (3, 2), 'exact')
    """

    fitted: ClassVar[tuple[str, ...]] = ("network", "matching_steps", "kinetic", "jacobian", *TrainedModel.fitted)
    core: ClassVar[str] = "flow_"

    network: MLPSpec | UNetSpec | None = None
    matching_steps: Annotated[int, Ge(0)] | None = None
    solver_steps: Annotated[int, Ge(1), Le(1000)] = 6
    kinetic: Annotated[float, Ge(0)] | None = None
    jacobian: Annotated[float, Ge(0)] | None = None

    flow_: ODEFlow = field(init=False)
    network_: MLPSpec | UNetSpec = field(init=False)
    matching_steps_: int = field(init=False)
    kinetic_: float = field(init=False)
    jacobian_: float = field(init=False)

    @available_if(in_data_units)
    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        divergence: Divergence | None = None,
        probes: int = 2,
        steps: int | None = None,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return the log-density of each row in nats, in data units, with its kind, errors and cost.

        Parameters
        ----------
        X, condition, draws, seed, first, batch_size, bits_per_dim
            As in :meth:`pushforward.NormalizingFlow.log_prob`.
        divergence : {"exact", "hutchinson"}, optional
            Default "exact" for rows of up to 32 elements. "hutchinson" is an estimate with a standard error.
        probes : int
            Random probes per row, for "hutchinson"; its standard error needs 2.
        steps : int, optional
            Runge-Kutta steps, at least 2, of four network calls each; half as many more measure ``numerical_error``. Default
            twice ``solver_steps``.

        >>> import pushforward as pf
        >>> X = pf.open_data("moons").values[:60]
        >>> model = pf.CNF(matching_steps=2, train_steps=2, solver_steps=2, random_state=0).fit(X)
        >>> model.log_prob(X[:3], divergence="hutchinson", steps=4).kind
        'estimate'
        """
        if divergence not in (None, "exact", "hutchinson"):
            raise ValueError(f"divergence must be 'exact', 'hutchinson' or None (by the size of a row), got {divergence!r}")
        check_count("probes", probes)
        steps = REFINED * self.solver_steps if steps is None else steps
        check_steps(steps, 2)
        density = functools.partial(self._log_prob, divergence=divergence, probes=probes, steps=steps)
        scores = self._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return scores.in_bits_per_dim() if bits_per_dim else scores

    @torch.no_grad()
    def _log_prob(
        self,
        learned: object,
        z: Tensor,
        *,
        condition: Tensor | None,
        varies: Tensor | None,
        seed: int,
        first: int,
        divergence: Divergence | None = None,
        probes: int = 2,
        steps: int = 16,
    ) -> LogProb:
        assert isinstance(learned, ODEFlow)
        z = self._filled(z, varies, seed, first)
        exact = (divergence or ("exact" if z[0].numel() <= EXACT_UP_TO else "hutchinson")) == "exact"
        signs = None if exact else rademacher(z, probes, seed=seed, first=first)
        fine, coarse = (
            (standard_log_prob(latent) + log_det).cpu().double().reshape(-1, len(z)).numpy()
            for latent, log_det in (learned.with_traces(z, condition, signs, steps=n) for n in (steps, steps // 2))
        )
        scores = self._scored(z, fine.mean(0), nfe=4 * (steps + steps // 2))
        scores = replace(scores, numerical_error=np.abs((fine - coarse).mean(0)))
        if exact:
            return scores
        unknown = np.full(len(z), np.nan)
        spread = fine.std(0, ddof=1) / math.sqrt(probes) if probes > 1 else unknown
        return replace(scores, kind="estimate" if scores.is_exact else scores.kind, standard_error=spread)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape, plain = self.space_.transform.shape, self.matching_steps == 0
        penalty = 0.03 if plain else 0.001
        return {
            "network": _plain_network(shape) if plain else _default_network(shape),
            "matching_steps": _default_matching_steps(shape, len(prepared.x)),
            "kinetic": penalty,
            "jacobian": penalty,
            "training": _plain_training(shape) if plain else _default_training(shape),
        }

    def _network(self) -> ODEFlow:
        field = self.network_.build(self.space_.transform.shape, self._condition_dim)
        power = _POWER_OF_IMAGES if self.matching_steps_ and len(self.space_.transform.shape) > 1 else 1.0
        return ODEFlow(field, REFINED * self.solver_steps, power)

    def _task(self, network: nn.Module, prepared: Prepared) -> LikelihoodTask:
        assert isinstance(network, ODEFlow)
        return LikelihoodTask(
            ODEFlow(network.network, self.solver_steps, network.power),
            self.space_.transform.shape,
            kinetic=self.kinetic_,
            jacobian=self.jacobian_,
            offset=self._offset(),
            condition_dropout=self.condition_dropout,
            width=self._width,
        )

    def _matching_task(self, network: nn.Module) -> MatchingTask:
        assert isinstance(network, ODEFlow)
        return MatchingTask(network, self.space_.transform.shape, condition_dropout=self.condition_dropout, width=self._width)

    @property
    def _width(self) -> Tensor:
        """Width (*D) of the dequantization noise, in scaled units."""
        return self.space_.transform.dequantization + self._constant_width

    @property
    def _matching_settings(self) -> TrainingSettings:
        """Settings of flow matching: those of maximum likelihood, except for batches, rate, average and evaluations."""
        return replace(
            self.training_,
            steps=self.matching_steps_,
            warmup_steps=None,
            batch_size=_MATCHING_BATCH_OF_VECTORS if len(self.space_.transform.shape) == 1 else _MATCHING_BATCH_OF_IMAGES,
            learning_rate=3e-3,
            ema=0.1,
            evaluations=10,
        )

    def _learn(self, prepared: Prepared, resolved: object, run: RunOptions = OUTSIDE_RUNS) -> None:
        """Train the field by flow matching, in its own folder, then by maximum likelihood; finished parts are not repeated."""
        assert isinstance(resolved, Trainable)
        if self.matching_steps_ == 0:
            super()._learn(prepared, resolved, run)
            return
        matching_folder = None if run.folder is None else run.folder / "matching"
        task, settings = self._matching_task(resolved.network), self._matching_settings
        first = self._train(task, prepared, settings, purpose="matching", folder=matching_folder, resume=run.resume)
        super()._learn(prepared, resolved, run)
        self.training_result_ = first.followed_by(self.training_result_)

    def _fit_steps(self, trainable: Trainable, prepared: Prepared) -> None:
        if self.matching_steps_ == 0:
            super()._fit_steps(trainable, prepared)
            return
        self.matching_steps_, steps = training.agreed(lambda: self._steps_of_both(trainable, prepared))
        self.training_ = replace(self.training_, steps=steps, warmup_steps=None)

    def _steps_of_both(self, trainable: Trainable, prepared: Prepared) -> tuple[int, int]:
        """Return the steps of matching, limited by overfitting, and of maximum likelihood that fit into ``max_time``."""
        matching, seconds = self._matching_task(trainable.network), self._trial_seconds / 2
        brief, overhead = self._costs(matching, prepared, self._matching_settings, seconds=seconds)
        long, more = self._costs(trainable.task, prepared, self.training_, seconds=seconds)
        alone = self._in_time(long, overhead.of(self._matching_settings) + more.of(self.training_), trainable)
        affordable = max(1, int(_MATCHING_SHARE * alone * long / brief))
        shape, rows = self.space_.transform.shape, len(prepared.x)
        steps = min(affordable, _EPOCHS_IN_TIME * _default_matching_steps(shape, rows, most=affordable))
        return steps, max(1, int(alone - steps * brief / long))

    @property
    def _steps(self) -> int:
        return self.matching_steps_ + super()._steps

    def _seconds(self, resolved: object, prepared: Prepared) -> float:
        assert isinstance(resolved, Trainable)
        likelihood = super()._seconds(resolved, prepared)
        if self.matching_steps_ == 0:
            return likelihood
        settings = self._matching_settings
        step, overhead = self._costs(self._matching_task(resolved.network), prepared, settings)
        return likelihood + step * self.matching_steps_ + overhead.of(settings)


def _default_network(shape: tuple[int, ...]) -> MLPSpec | UNetSpec:
    if len(shape) == 1:
        return MLPSpec(width=128 if shape[0] <= 32 else 256, depth=2)
    spec = default_spec(shape)
    assert isinstance(spec, UNetSpec)
    return replace(spec, width=32)


def _default_matching_steps(shape: tuple[int, ...], rows: int, most: int | None = None) -> int:
    """Return steps tuned on points in the plane, a table of 142 rows and 8x8 digits; ``most`` replaces their usual limit.

    Epochs are limited too: few rows are soon overfitted, and the squared error shows this late.
    """
    batch, usual, epochs = _MATCHING_BATCH_OF_IMAGES, 4000, 80
    if len(shape) == 1:
        batch, usual, epochs = _MATCHING_BATCH_OF_VECTORS, 3000, 140
    elif max(shape[1:]) < _LARGE_FROM:
        usual = 1600
    return min(usual if most is None else most, math.ceil(epochs * rows / batch))


def _plain_network(shape: tuple[int, ...]) -> MLPSpec | UNetSpec:
    """Return a network that is fast enough for maximum likelihood alone; a U-Net is too slow even for 8x8 pixels."""
    if len(shape) == 1 or max(shape[1:]) < _CONVOLVED_FROM:
        return MLPSpec(width=64 if math.prod(shape) <= 8 else 256, depth=2)
    spec = default_spec(shape)
    assert isinstance(spec, MLPSpec | UNetSpec)  # no signals
    return spec


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return settings tuned after matching on points in the plane and 8x8 digits, on one CPU core."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0, ema=0.1)
    if len(shape) == 1:
        return replace(common, steps=50, batch_size=256, learning_rate=2e-4, ema=0.15, evaluations=2)
    return replace(common, steps=24, batch_size=64, learning_rate=4e-4, evaluations=1)


def _plain_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return settings tuned without matching on points in the plane and, for a minute or two, on 8x8 digits."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0)
    if len(shape) == 1:
        return replace(common, steps=600, batch_size=128, learning_rate=5e-3, ema=0.1, evaluations=10)
    return replace(common, steps=600, batch_size=64, learning_rate=4e-3, ema=0.1, evaluations=10)
