r"""Continuous normalizing flows: rows that a learned vector field carries to noise.

A row x is the state at t = 0 of the ordinary differential equation

    dx/dt = f(x, t, condition),          z = x_1,          d log p_t(x_t) / dt = - tr df/dx,

so that log p(x) = log N(z; 0, I) + int_0^1 tr df/dx dt, and a draw is z ~ N(0, I) carried back from t = 1 to 0. No structure
is asked of f, but its trace must be found: exactly by one pullback per element, or without bias by v^T (df/dx) v with random
signs v.

The loss is -log p(x), in the mean over rows and signs, with two penalties that keep the paths straight and so the steps few,

    kinetic * int |f|^2 dt + jacobian * int |v^T df/dx|^2 dt,

the squared length of the paths and, in the mean over v, the squared Frobenius norm of the Jacobian. The equation is solved by a
fixed number of Runge-Kutta steps of order 4, with gradients through all of them. What these few steps make of a field that is
too rough for them looks better than it is, so the held-out loss, densities and samples take twice as many.

A step of this training calls the network dozens of times. So the field is first trained by flow matching, whose step calls it
once: on the straight lines x_t = (1 - t) x + t z from rows to noise it learns z - x, and its least squared error is that of
E[z - x | x_t], a field that carries the data to N(0, I). Maximum likelihood then starts near its goal, and few steps of it
make good what is left: the errors of the solver, and of the regression where they cost likelihood.
:mod:`pushforward.models.flows.ode` has the two losses.

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
from annotated_types import Ge
from torch import Tensor, nn

from pushforward import training
from pushforward.data import ArrayLike, Condition
from pushforward.diffusion.likelihood import EXACT_UP_TO, Divergence, LogProb
from pushforward.diffusion.trace import rademacher
from pushforward.models.base.model import OUTSIDE_RUNS, Prepared, RunOptions
from pushforward.models.base.trained import Trainable, TrainedModel
from pushforward.models.files.params import Count
from pushforward.models.flows.base import InvertibleModel, standard_log_prob
from pushforward.models.flows.ode import REFINED, LikelihoodTask, MatchingTask, ODEFlow
from pushforward.networks import MLPSpec, UNetSpec, default_spec
from pushforward.probability.counts import check_count
from pushforward.training import Task, TrainingSettings

__all__ = ["CNF"]

_CONVOLVED_FROM = 32  # side of images, without matching
_LARGE_FROM = 16  # side of images; for these nothing has been tuned
_POWER_OF_IMAGES = 2.0  # of the times of the solver's steps, after matching
_MATCHING_SHARE = 0.6  # of the time for steps, at most, if there is a limit
_EPOCHS_IN_TIME = 2  # times as many epochs of matching, at most, where the time allows it
_MATCHING_BATCH_OF_VECTORS, _MATCHING_BATCH_OF_IMAGES = 256, 64


class CNF(InvertibleModel):
    r"""Continuous normalizing flow: a vector field that carries data to noise, trained by the density itself.

    A step of training by the density solves the equation, with many calls of the network. So by default the field is first
    trained by flow matching, which calls it once a step and solves nothing, with noise dealt to the rows of each batch so that
    the paths are short; the steps by the density, which come last, are then few.

    Parameters
    ----------
    network : MLPSpec or UNetSpec, optional
        Size of the field's network. Default by the shape of the data, and smaller without matching.
    matching_steps : int, optional
        Steps of flow matching before those of maximum likelihood, whose number is ``train_steps``; 0 for none, which is plain
        FFJORD. Default by shape and number of the rows; with ``max_time`` by the time, of which they get a
        fixed share, or less where rows are so few that they would be learned by heart.
    solver_steps : int
        Runge-Kutta steps in training by likelihood; all else takes twice as many. Of images, after matching, they are short
        near the data; all others are of one length.
    kinetic, jacobian : float, optional
        Weights of the squared speed and of the squared Jacobian along the paths. Default 0.001, and 0.03 without matching,
        where nothing else keeps the paths straight.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`; ``training`` and ``train_steps`` are
    about maximum likelihood. Matching takes them over but for batch size, learning rate, average and number of evaluations,
    which are its own.

    Attributes
    ----------
    network_, matching_steps_, kinetic_, jacobian_, training_
        The arguments with their defaults filled in.
    flow_ : ODEFlow
        The trained field, solved in the steps that densities and samples take.
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
    >>> X = pf.open_data("moons").values
    >>> model = pf.CNF(matching_steps=2, train_steps=2, random_state=0).fit(X)
    >>> model.sample(4, seed=0).shape, model.transform(X[:3]).shape, model.log_prob(X[:3]).kind
    ((4, 2), (3, 2), 'exact')
    """

    fitted: ClassVar[tuple[str, ...]] = ("network", "matching_steps", "kinetic", "jacobian", *TrainedModel.fitted)
    core: ClassVar[str] = "flow_"

    network: MLPSpec | UNetSpec | None = None
    matching_steps: Annotated[int, Ge(0)] | None = None
    solver_steps: Count = 6
    kinetic: Annotated[float, Ge(0)] | None = None
    jacobian: Annotated[float, Ge(0)] | None = None

    flow_: ODEFlow = field(init=False)
    network_: MLPSpec | UNetSpec = field(init=False)
    matching_steps_: int = field(init=False)
    kinetic_: float = field(init=False)
    jacobian_: float = field(init=False)

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
        >>> model = pf.CNF(matching_steps=2, train_steps=2, random_state=0).fit("moons")
        >>> model.log_prob(np.zeros((3, 2)), divergence="hutchinson").kind
        'estimate'
        """
        if divergence not in (None, "exact", "hutchinson"):
            raise ValueError(f"divergence must be 'exact', 'hutchinson' or None (by the size of a row), got {divergence!r}")
        check_count("probes", probes)
        steps = REFINED * self.solver_steps if steps is None else steps
        check_count("steps", steps, 2)
        density = functools.partial(self._log_prob, divergence=divergence, probes=probes, steps=steps)
        found = self._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return found.in_bits_per_dim() if bits_per_dim else found

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
        found = self._found(z, fine.mean(0), nfe=4 * (steps + steps // 2))
        found = replace(found, numerical_error=np.abs((fine - coarse).mean(0)))
        if exact:
            return found
        unknown = np.full(len(z), np.nan)
        spread = fine.std(0, ddof=1) / math.sqrt(probes) if probes > 1 else unknown
        return replace(found, kind="estimate" if found.is_exact else found.kind, standard_error=spread)

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
        """Width (*D) of the noise that makes the law of rows continuous, in scaled units."""
        return self.space_.transform.dequantization + self._constant_width

    @property
    def _matching_settings(self) -> TrainingSettings:
        """Settings of flow matching: those of the likelihood, but for batches, rate, average and evaluations."""
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
        """Train the field by flow matching, in a folder of its own, and then by likelihood; what is done is not done again."""
        assert isinstance(resolved, Trainable)
        if self.matching_steps_ == 0:
            super()._learn(prepared, resolved, run)
            return
        own = None if run.folder is None else run.folder / "matching"
        task = self._matching_task(resolved.network)
        first = self._train(task, prepared, self._matching_settings, purpose="matching", folder=own, resume=run.resume)
        super()._learn(prepared, resolved, run)
        self.training_result_ = first.followed_by(self.training_result_)

    def _fit_steps(self, task: Task, network: nn.Module, prepared: Prepared) -> None:
        if self.matching_steps_ == 0:
            super()._fit_steps(task, network, prepared)
            return
        self.matching_steps_, steps = training.agreed(lambda: self._steps_of_both(task, network, prepared))
        self.training_ = replace(self.training_, steps=steps, warmup_steps=None)

    def _steps_of_both(self, task: Task, network: nn.Module, prepared: Prepared) -> tuple[int, int]:
        """Return the steps of matching and of likelihood that fit into ``max_time``, matching no longer than the rows bear."""
        matching, seconds = self._matching_task(network), self._trial_seconds / 2
        brief, overhead = self._costs(matching, prepared, self._matching_settings, seconds=seconds)
        long, more = self._costs(task, prepared, self.training_, seconds=seconds)
        alone = self._in_time(long, overhead + more + training.GRIDS * self._plot_seconds(network))
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
        step, overhead = self._costs(self._matching_task(resolved.network), prepared, self._matching_settings)
        return likelihood + step * self.matching_steps_ + overhead


def _default_network(shape: tuple[int, ...]) -> MLPSpec | UNetSpec:
    if len(shape) == 1:
        return MLPSpec(width=128 if shape[0] <= 32 else 256, depth=2)
    spec = default_spec(shape)
    assert isinstance(spec, UNetSpec)
    return replace(spec, width=32)


def _default_matching_steps(shape: tuple[int, ...], rows: int, most: int | None = None) -> int:
    """Return what did well on points in the plane, on a table of 142 rows and on eight-by-eight digits, or up to ``most``.

    Few rows are soon learned by heart, which the squared error shows late: they are seen for so many epochs and no more.
    """
    batch, usual, epochs = _MATCHING_BATCH_OF_IMAGES, 4000, 80
    if len(shape) == 1:
        batch, usual, epochs = _MATCHING_BATCH_OF_VECTORS, 3000, 140
    elif max(shape[1:]) < _LARGE_FROM:
        usual = 1600
    return min(usual if most is None else most, math.ceil(epochs * rows / batch))


def _plain_network(shape: tuple[int, ...]) -> MLPSpec | UNetSpec:
    """Return a network that can be called thousands of times: by likelihood alone a U-Net takes too long for 8 x 8 pixels."""
    if len(shape) == 1 or max(shape[1:]) < _CONVOLVED_FROM:
        return MLPSpec(width=64 if math.prod(shape) <= 8 else 256, depth=2)
    return default_spec(shape)


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return what did well after matching on points in the plane and on eight-by-eight digits, on one CPU core."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0, ema=0.1)
    if len(shape) == 1:
        return replace(common, steps=50, batch_size=256, learning_rate=2e-4, ema=0.15, evaluations=2)
    return replace(common, steps=24, batch_size=64, learning_rate=4e-4, evaluations=1)


def _plain_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return what did well by likelihood alone on points in the plane and, for a minute or two, on eight-by-eight digits."""
    common = TrainingSettings(weight_decay=0.0, betas=(0.9, 0.99), gradient_clip=1.0)
    if len(shape) == 1:
        return replace(common, steps=600, batch_size=128, learning_rate=5e-3, ema=0.1, evaluations=10)
    return replace(common, steps=600, batch_size=64, learning_rate=4e-3, ema=0.1, evaluations=10)
