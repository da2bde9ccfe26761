"""``log_prob`` and ``bound`` of denoising models: log-densities in nats, in the units of the data, with their errors.

``log_prob`` integrates the probability flow and returns the density of the law that the flow generates, for any coupling and
any source with a density. ``bound`` returns DDPM's variational bound, term by term, if noise is Gaussian and independent; for
integers it uses the middle of the interval and the mass of a Gaussian on it instead of draws of u.

Constant elements have no density and are left out. In images they are inputs of the network, and are noised along the path.
"""

import functools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Transform
from pushforward.data.points import absent_points
from pushforward.diffusion import AbstractDenoiser, Denoiser, Grid, UniformGrid
from pushforward.diffusion.bound import Bound, Variance, variational_bound
from pushforward.diffusion.likelihood import DensityLaw, Divergence, StandardNoise, flow_log_prob
from pushforward.diffusion.log_prob import LogProb
from pushforward.diffusion.points import PresentPoints
from pushforward.models.base.available import in_data_units
from pushforward.models.base.batches import part_of
from pushforward.models.base.density import RowDensity
from pushforward.models.denoising.base import Denoising, has_score_in_data_units
from pushforward.models.denoising.source import GaussianSource, LawSource
from pushforward.probability.counts import check_count

__all__ = ["bound", "has_bound", "has_density", "log_prob"]


def has_density(model: Denoising) -> bool:
    """Whether the source has a density, in the units of the data."""
    if not in_data_units(model):
        return False
    if not hasattr(model, "source_"):
        source = model._source_argument
        return source is None or callable(getattr(source, "log_prob", None))
    return isinstance(model.source_, GaussianSource) or _law_of(model) is not None


def has_bound(model: Denoising) -> bool:
    """Whether the variational bound is one of rows in the units of the data, which all have the same elements."""
    space = vars(model).get("space_")
    return has_score_in_data_units(model) and (space is None or space.sizes is None)


def _law_of(model: Denoising) -> DensityLaw | None:
    """Return the source law if it determines the density of x_1: it has a density, no element is constant, and x_1 is z."""
    source = model.source_
    transform = model.space_.transform
    if not isinstance(source, LawSource) or transform.constants or transform.coding or not _ends_in_noise(model):
        return None
    return source.law if isinstance(source.law, DensityLaw) else None


def _ends_in_noise(model: Denoising) -> bool:
    """Whether alpha(1) = 0."""
    return abs(float(model.denoiser_.schedule.alpha(torch.ones((), dtype=torch.float64)))) < 1e-6


def log_prob(
    model: Denoising,
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
    divergence : {"exact", "hutchinson"}, optional
        Of the flow; default "exact" for rows of up to 32 elements. "hutchinson" is an estimate with a standard error.
    probes : int
        Random probes per row, for "hutchinson"; its standard error needs 2.
    steps : int, optional
        Runge-Kutta steps, of four network calls each; ``numerical_error`` shows whether they are enough. By default the steps
        of each row are doubled from 32, for images from 16, at most four times, until its numerical error is small: below
        0.01 nats, 0.001 nats per element, or a quarter of its standard error.

    Of a set of points this is the density of the array (P, D) given its number of points P. It is the same in every order of
    the points. As a set has P! orders, its density as a set is log P! nats more; and the probability of its size, which is not
    part of it, is that of training: sizes are drawn from the training sets.

    Other parameters and the errors are those of :meth:`pushforward.NormalizingFlow.log_prob`.
    ``draws`` also applies to images with constant elements, whose noise is random.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
    >>> result = model.log_prob(np.zeros((3, 2)))
    >>> result.kind, result.values.shape, result.dims
    ('exact', (3,), 2)
    """
    check_is_fitted(model)
    begin = model.space_.kind.solver_steps
    density = functools.partial(
        flow_log_prob, prior=_prior(model), divergence=divergence, probes=probes, steps=steps, first_steps=begin
    )
    if model._of_points:
        density = functools.partial(_of_present, model.space_.transform, density)
    result = model._score(X, condition, density, draws=draws, seed=seed, first=first, batch_size=batch_size)
    if not model.denoiser_.gaussian_source and not _ends_in_noise(model):
        result = replace(result, prior_mismatch=np.full(len(result.values), np.nan))
    return result.in_bits_per_dim() if bits_per_dim else result


def bound(
    model: Denoising,
    X: ArrayLike,
    *,
    condition: Condition = None,
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

    >>> import pushforward as pf
    >>> model = pf.Diffusion(train_steps=5, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
    >>> model.bound(np.zeros((3, 2)), steps=10).terms.shape
    (3, 10)
    """
    check_is_fitted(model)
    check_count("draws", draws)
    check_count("batch_size", batch_size)
    rows = model._rows(X, condition)
    if bool(rows.z.isnan().any()):
        raise ValueError("the bound needs sets of the size of the training sets; pass sets of that size, or use log_prob")
    times = (UniformGrid() if grid is None else grid)(model.denoiser_.schedule, steps)

    def bound_of(part: slice, denoiser: Denoiser, device: torch.device) -> Bound:
        bins = None if rows.bins is None else replace(rows.bins, low=rows.bins.low[part], high=rows.bins.high[part])
        return variational_bound(
            denoiser,
            rows.middle[part].to(device),
            times,
            condition=part_of(rows.condition, part, device),
            bins=bins,
            varies=rows.varies,
            variance=variance,
            draws=draws,
            seed=seed,
            first=first + part.start,
        )

    result = Bound.concatenate(model._in_batches(bound_of, len(rows.z), batch_size))
    result = result.shifted(rows.log_shares.numpy() + rows.log_det_of_reals)
    return replace(result, constants=model.space_.transform.constants)


def _of_present(transform: Transform, density: RowDensity, denoiser: AbstractDenoiser, z: Tensor, **options: Any) -> LogProb:
    """Return the log-density of the points that are present in scaled sets z (B, P, D), less log |dz/dx| of absent ones."""
    absent = absent_points(z)
    if not bool(absent.any()):
        return density(denoiser, z, **options)
    inner = PresentPoints(denoiser, ~absent)
    inside = z.nan_to_num(0.0)
    varying = transform.varies.any(0)
    scores = density(inner, inside, **options)
    extra = inner.absent_log_density(inside[..., varying.to(z.device)]).numpy()
    per_point = transform.log_det / transform.shape[0]
    scores = scores.shifted(-extra - absent.sum(1).cpu().numpy() * per_point)
    return replace(scores, dims=0)


def _prior(model: Denoising) -> DensityLaw | None:
    """Return the law of x_1, or None for independent Gaussian noise."""
    if model.denoiser_.gaussian_source:
        return None
    std = float(model.denoiser_.schedule.sigma(torch.ones((), dtype=torch.float64)))
    law = _law_of(model)
    return StandardNoise(std) if law is None else _SourcePrior(law, model.space_.transform, std)


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
