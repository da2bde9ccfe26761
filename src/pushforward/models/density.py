"""Densities of denoising models: how probable is a row, in nats, in the units of the data, and how sure is that.

Two answers. ``log_prob`` follows the probability flow and gives the density of the law that the flow generates, whatever the
source and coupling, as long as the source has a density. ``bound`` gives DDPM's variational bound, term by term, where noise
is Gaussian and independent. The scaling of the data is part of both: log p(x) = log p(z) + log |dz/dx|.

Integers. The law of an integer k is what its density gives to [k, k + 1), and by Jensen

    log P(k) = log E_u p(k + u) >= E_u log p(k + u),         u uniform on [0, 1),

so the mean of log-densities over draws of u is a lower bound of the log-probability, and so it is named. The bound of a chain
needs no u: it takes the middle of the interval and the mass of a Gaussian on it.

Constant elements have no density and are left out. In pictures, whose networks see them, they are noised along the way.

References
----------
Lucas Theis, Aäron van den Oord, Matthias Bethge. A note on the evaluation of generative models. 2016.
"""

import contextlib
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ConditionEncoder, Schema, Transform
from pushforward.diffusion import Denoiser, Grid, UniformGrid
from pushforward.diffusion.bound import Bins, Bound, Variance, variational_bound
from pushforward.diffusion.likelihood import DensityLaw, Divergence, Kind, LogProb, StandardNoise, flow_log_prob
from pushforward.models.arguments import check_count, encoded_condition
from pushforward.models.source import LawSource
from pushforward.models.task import GaussianSource
from pushforward.networks import NetworkSpec
from pushforward.probability import noise

__all__ = ["DensityVerbs"]

T = TypeVar("T")
Verb = TypeVar("Verb", bound=Callable[..., Any])


def _verb_if(keeps: Callable[[Any], bool]) -> Callable[[Verb], Verb]:
    """Let a model have a verb exactly when it can keep its promise."""
    found: Callable[[Verb], Verb] = available_if(keeps)
    return found


def _has_density(model: Any) -> bool:
    """Whether the source of a model has a density."""
    if not hasattr(model, "source_"):
        given = getattr(model, "source", None)
        return given is None or callable(getattr(given, "log_prob", None))
    source = model.source_
    return isinstance(source, GaussianSource) or (isinstance(source, LawSource) and _law_prior_exists(source, model))


def _law_prior_exists(source: LawSource, model: Any) -> bool:
    """Whether a law in data units gives a density of x_1: it has one, of elements that all vary, and x_1 is z alone."""
    return callable(getattr(source.law, "log_prob", None)) and not model.transform_.constants and _ends_in_noise(model)


def _ends_in_noise(model: Any) -> bool:
    """Whether alpha(1) = 0."""
    return abs(float(model.denoiser_.schedule.alpha(torch.ones((), dtype=torch.float64)))) < 1e-6


def _has_bound(model: Any) -> bool:
    """Whether noise is Gaussian and independent of the data."""
    if hasattr(model, "denoiser_"):
        return bool(model.denoiser_.gaussian_source)
    return getattr(model, "source", None) is None and getattr(model, "coupling", "independent") == "independent"


class DensityVerbs:
    """The verbs ``log_prob``, ``score_samples``, ``score`` and ``bound`` of models with a denoiser."""

    schema_: Schema
    transform_: Transform
    condition_encoder_: ConditionEncoder | None
    condition_dropout: float
    denoiser_: Denoiser
    source_: Any
    network_: Any

    @_verb_if(_has_density)
    def log_prob(
        self,
        X: Any,
        *,
        condition: Any = None,
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
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Gives log p(x | condition). Without it a conditional model uses what it learned with its condition dropped.
        divergence : {"exact", "hutchinson"}, optional
            Of the flow; default "exact" for rows of up to 32 elements. "hutchinson" is an estimate with a standard error.
        probes : int
            Random probes per row, for "hutchinson"; its standard error needs 2.
        steps : int, optional
            Runge-Kutta steps, of four network calls each; ``numerical_error`` tells whether they are enough. Default 32, for
            pictures 16.
        draws : int
            For integers, draws of u in [0, 1) whose log-densities of x + u are averaged: a lower bound of the
            log-probability. Not used for real numbers, except where pictures have constant elements, whose noise is drawn.
        seed, first : int
            Name the random numbers: those of row i of X depend on (seed, first + i) alone.
        batch_size : int
            Rows that go through the network at once.
        bits_per_dim : bool
            Whether the result is in bits per dimension, -log2 p / dims, instead of nats.

        Returns
        -------
        LogProb

        Raises
        ------
        ValueError
            If X does not fit the training data, or the model has learned no law without a condition and none is given.

        Examples
        --------
        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
        >>> result = model.log_prob(np.zeros((3, 2)))
        >>> result.kind, result.values.shape, result.dims
        ('exact', (3,), 2)
        """
        check_is_fitted(self)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = _Rows.of(self, X, condition)
        if steps is None:
            steps = 16 if self.transform_.kind == "pictures" else 32
        random = rows.integer or rows.varies is not None
        results = [
            self._flow(rows, draw, seed, first, batch_size, {"divergence": divergence, "probes": probes, "steps": steps})
            for draw in range(draws if random else 1)
        ]
        kind: Kind = "lower bound" if rows.integer else "estimate"
        found = LogProb.average(results, kind) if random else results[0]
        found = found.shifted(self.transform_.log_det)
        found = replace(found, constants=self.transform_.constants)
        if not self.denoiser_.gaussian_source and not _ends_in_noise(self):
            found = replace(found, prior_mismatch=np.full(len(found.values), np.nan))
        return found.in_bits_per_dim() if bits_per_dim else found

    @_verb_if(_has_density)
    def score_samples(self, X: Any, *, condition: Any = None) -> np.ndarray:
        """Return the log-density of each row in nats, in data units, (N,); :meth:`log_prob` says how sure that is."""
        return self.log_prob(X, condition=condition).values

    @_verb_if(_has_density)
    def score(self, X: Any, y: Any = None, *, condition: Any = None) -> float:
        """Return the mean log-density of the rows in nats, in data units; ``y`` is ignored."""
        return float(self.score_samples(X, condition=condition).mean())

    @_verb_if(_has_bound)
    def bound(
        self,
        X: Any,
        *,
        condition: Any = None,
        steps: int = 200,
        grid: Grid | None = None,
        variance: Variance | None = None,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
    ) -> Bound:
        """Return DDPM's variational bound of the log-probability of each row, term by term, in data units.

        Parameters
        ----------
        X, condition, seed, first, batch_size
            As in :meth:`log_prob`.
        steps : int
            Length of the chain; each step calls the network ``draws`` times.
        grid : Grid, optional
            Where the steps are; default uniform in t. With ``DiscreteBeta`` and as many steps as betas it is DDPM's chain.
        variance : "beta", "beta-tilde" or FittedVariance, optional
            That of the reverse steps; default the best one for standard normal data.
        draws : int
            Draws of noise per term; the standard error needs 2.

        Returns
        -------
        Bound

        Examples
        --------
        >>> import pushforward as pf
        >>> model = pf.Diffusion(train_steps=5, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
        >>> model.bound(np.zeros((3, 2)), steps=10).terms.shape
        (3, 10)
        """
        check_is_fitted(self)
        check_count("draws", draws)
        check_count("batch_size", batch_size)
        rows = _Rows.of(self, X, condition)
        times = (UniformGrid() if grid is None else grid)(self.denoiser_.schedule, steps)

        def of(part: slice, denoiser: Denoiser, device: torch.device) -> Bound:
            bins = None if rows.bins is None else replace(rows.bins, low=rows.bins.low[part], high=rows.bins.high[part])
            return variational_bound(
                denoiser,
                rows.middle[part].to(device),
                times,
                condition=None if rows.condition is None else rows.condition[part].to(device),
                bins=bins,
                varies=rows.varies,
                variance=variance,
                draws=draws,
                seed=seed,
                first=first + part.start,
            )

        found = Bound.concatenate(_in_batches(self, of, len(rows.z), batch_size)).shifted(rows.log_det_of_reals)
        return replace(found, constants=self.transform_.constants)

    def _flow(self, rows: "_Rows", draw: int, seed: int, first: int, batch_size: int, options: dict[str, Any]) -> LogProb:
        """Return log p(z) of rows, dequantized by one draw."""
        prior = self._prior()

        def of(part: slice, denoiser: Denoiser, device: torch.device) -> LogProb:
            start = first + part.start
            return flow_log_prob(
                denoiser,
                rows.dequantized(part, noise.derive(seed, "dequantization", draw), start).to(device),
                condition=None if rows.condition is None else rows.condition[part].to(device),
                prior=prior,
                varies=rows.varies,
                seed=noise.derive(seed, "flow", draw),
                first=start,
                **options,
            )

        return LogProb.concatenate(_in_batches(self, of, len(rows.z), batch_size))

    def _prior(self) -> DensityLaw | None:
        """Return the law of x_1 where it is not that of independent noise."""
        if self.denoiser_.gaussian_source:
            return None
        std = float(self.denoiser_.schedule.sigma(torch.ones((), dtype=torch.float64)))
        if isinstance(self.source_, GaussianSource):
            return StandardNoise(std)
        return _SourcePrior(self.source_.law, self.transform_, std)


@dataclass(frozen=True, eq=False)
class _SourcePrior:
    """The law of sigma(1) z for z drawn from a law in data units."""

    law: DensityLaw
    transform: Transform
    std: float

    def log_prob(self, x: Tensor) -> Tensor:
        z = x.cpu().double() / self.std
        shift, scale = self.transform.shift.flatten(), self.transform.scale.flatten()
        log_prob = torch.as_tensor(self.law.log_prob(shift + scale * z)).double()
        return log_prob - self.transform.log_det - z.shape[1] * float(np.log(self.std))


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows to be scored, scaled, on the CPU.

    Attributes
    ----------
    z : Tensor (N, *D)
    condition : Tensor (N, K) or None
    width : Tensor (*D)
        Of one integer; 0 for real numbers.
    bins : Bins or None
        The interval of each element, where any is an integer.
    varies : bool Tensor (*D) or None
        Where pictures are not constant.
    log_det_of_reals : float
        log |dz/dx| over the elements that are real numbers.
    """

    z: Tensor
    condition: Tensor | None
    width: Tensor
    bins: Bins | None
    varies: Tensor | None
    log_det_of_reals: float

    @classmethod
    def of(cls, model: Any, X: Any, condition: Any) -> "_Rows":
        transform: Transform = model.transform_
        x = model.schema_.to_internal(X, name=type(model).__name__)
        counted = ~transform.constant
        integer = transform.integer & counted
        _refuse_fractions(x, integer)
        dtype = torch.float64 if _in_float64(model) else torch.float32
        bins = _edges(transform, x, integer, dtype) if bool(integer.any()) else None
        return cls(
            z=transform.forward(x, dtype=dtype),
            condition=_encode(model, condition, len(x), dtype),
            width=transform.dequantization.to(dtype),
            bins=bins,
            varies=counted if transform.kind == "pictures" and transform.constants else None,
            log_det_of_reals=-float(transform.scale[counted & ~transform.integer].log().sum()),
        )

    @property
    def integer(self) -> bool:
        return self.bins is not None

    @property
    def middle(self) -> Tensor:
        """Rows with integers in the middle of their interval."""
        return self.z + self.width / 2

    def dequantized(self, part: slice, seed: int, first: int) -> Tensor:
        """Return rows with uniform noise added to integers; that of row i depends on (seed, first + i) alone."""
        z = self.z[part]
        if not self.integer:
            return z
        numbers = torch.arange(first, first + len(z))
        u = noise.uniform(z.shape[1:], seed=seed, purpose="dequantization", rows=numbers, dtype=z.dtype)
        return z + self.width * u


def _edges(transform: Transform, x: Tensor, integer: Tensor, dtype: torch.dtype) -> Bins:
    """Return the interval of each element in units of z, open at the ends of the range seen in training."""
    top, bottom = transform.high.expand_as(transform.shift), transform.low.expand_as(transform.shift)
    wide = x.double()
    low = torch.where(integer & (wide <= bottom), -torch.inf, (wide - transform.shift) / transform.scale)
    high = torch.where(integer & (wide >= top), torch.inf, (wide + integer.double() - transform.shift) / transform.scale)
    if transform.kind == "vectors":
        low, high = low[:, ~transform.constant], high[:, ~transform.constant]
    return Bins(low.to(dtype), high.to(dtype), transform.dequantization.to(dtype))


def _refuse_fractions(x: Tensor, integer: Tensor) -> None:
    broken = integer & (x != x.round())
    if bool(broken.any()):
        row = int(broken.flatten(1).any(1).int().argmax())
        value = float(x[row][broken[row]][0])
        raise ValueError(
            f"X has the value {value:g} in row {row}, where the training data are integers: the model gives probabilities to "
            "integers there, so score integers, or train on floats"
        )


def _encode(model: Any, condition: Any, n: int, dtype: torch.dtype) -> Tensor | None:
    """Return an encoded condition per row; rows of zeros, "no condition", if there is none."""
    encoder = model.condition_encoder_
    encoded = encoded_condition(encoder, condition, n, model.condition_dropout)
    if encoded is None and encoder is not None:
        encoded = encoder.encode(None, n)
    return None if encoded is None else encoded.to(dtype)


def _in_float64(model: Any) -> bool:
    """Whether the network is evaluated in float64: for vectors it is cheap, and divergences lose nothing to rounding."""
    return model.transform_.kind == "vectors" and isinstance(model.network_, NetworkSpec)


def _in_batches(model: Any, of: Callable[[slice, Denoiser, torch.device], T], rows: int, batch_size: int) -> list[T]:
    """Return ``of(part, denoiser, device)`` for each batch, with the network as it is called for densities."""
    denoiser = model.denoiser_
    if _in_float64(model):
        denoiser = copy.deepcopy(denoiser).double()
    device = next((parameter.device for parameter in denoiser.parameters()), torch.device("cpu"))
    with _evaluating(denoiser), torch.autocast(device.type, enabled=False):
        return [of(slice(begin, min(begin + batch_size, rows)), denoiser, device) for begin in range(0, rows, batch_size)]


@contextlib.contextmanager
def _evaluating(denoiser: Denoiser) -> Iterator[None]:
    """Put a network in eval mode for a while."""
    modes = [(module, module.training) for module in denoiser.modules()]
    denoiser.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
