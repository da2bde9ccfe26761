r"""The latent space of a model, measured by ``transform`` and ``inverse_transform`` alone.

- *Reconstruction error*: root of the mean squared difference between a row and inverse_transform(transform(row)), over rows and
  elements, in the units of the data; and the share of the rows' variance that is lost. Autoencoders lose what does not fit into
  the code, invertible models only the error of their integration.
- *Active dimensions*: elements of the code whose variance over rows is above 0.01, where the law of the codes has variance 1
  (Burda and others); without a law of the codes the threshold is 0.01 of the largest variance.
- *Effective dimensions*: (sum l)^2 / sum l^2 over the eigenvalues l of the codes' covariance, which rotations of the code do
  not change: K if all are equal, 1 if all codes lie on a line.
- *Path length*: a path joins the codes a, b of two rows; it is decoded at s + 1 points x_0 .. x_s and seen in features f:

      length = sum_k |f(x_k+1) - f(x_k)| / |f(x_s) - f(x_0)|,        largest step = s max_k |f(x_k+1) - f(x_k)| / sum_k |...|.

  Length 1 is a straight line; detours are longer. A largest step near 1 means even steps, near s a single jump. In the space
  of the rows the straight line is a cross-fade, which is not a good path for images: features say more.

Paths. Codes of a standard normal law are joined by cos(w) a + sin(w) b, w from 0 to pi/2: every point has the same law if both
ends have, whereas the middle of a straight line would be shorter than any code. Codes without a law are joined by the straight
line.

References
----------
Yuri Burda, Roger Grosse, Ruslan Salakhutdinov. Importance weighted autoencoders. 2016.
Tero Karras, Samuli Laine, Timo Aila. A style-based generator architecture for generative adversarial networks. 2019.
"""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pushforward.evaluation.parts.rows import Scaling, take_rows
from pushforward.metrics.arrays import as_rows
from pushforward.metrics.measure import Measure, bootstrap_mean
from pushforward.models.base.model import GenerativeModel
from pushforward.models.denoising.source import GaussianSource
from pushforward.probability import noise

__all__ = ["LatentFigures", "latent_figures"]

_ACTIVE = 0.01
_RESAMPLES = 200
_LEAST = 10
_RTOL = 1e-3  # for models whose codes are found by integration; their default is finer and several times slower


@dataclass(frozen=True, eq=False)
class LatentFigures:
    """Figures of the latent space of a model. A figure is None if the model lacks the verbs for it.

    Attributes
    ----------
    reconstruction : Measure or None
        Root mean squared error in the units of the data.
    lost : Measure or None
        Share of the rows' variance that the reconstruction loses, columns of vectors counting alike: 0 is perfect, 1 no better
        than the mean row.
    active, effective : Measure or None
        Dimensions; the intervals are of 200 bootstrap resamples of the rows, and of the jackknife.
    dims : int
        Elements of a code.
    path_length, largest_step : Measure or None
        Means over pairs of rows, with bootstrap intervals over the pairs.
    codes : array (n, K)
        Codes of the rows, for maps; n random codes if the model has no ``transform``.
    reconstructed : array (n, D) or None
        The decoded codes of the rows.
    """

    reconstruction: Measure | None
    lost: Measure | None
    active: Measure | None
    effective: Measure | None
    dims: int
    path_length: Measure | None
    largest_step: Measure | None
    codes: NDArray[np.float64]
    reconstructed: NDArray[np.floating[Any]] | None


def latent_figures(
    model: Any,
    X: Any,
    *,
    condition: Any = None,
    features: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    pairs: int = 32,
    steps: int = 8,
    seed: int = 0,
) -> LatentFigures:
    """Measure the latent space of a fitted model on rows, preferably rows that training never saw.

    Parameters
    ----------
    model : fitted model with ``inverse_transform``
        Without ``transform`` (as a GAN) only paths between random codes are measured.
    X : array, tensor or DataFrame
        At least 10 rows like the training data. For diffusion and flow matching a row costs about a hundred network calls, and
        a path ``steps`` + 1 times as many.
    condition : one per row, or one for all, optional
        For both verbs. A path is decoded under the condition of its first row.
    features : function, optional
        From rows (n, D) or (n, C, H, W) in data units to features (n, F), such as a space of
        :mod:`pushforward.evaluation.features`; default the rows themselves, columns of vectors in units of their spread.
    pairs : int
        Paths, each from one row to another; no more than half of the rows.
    steps : int
        Of a path.
    seed : int

    Raises
    ------
    TypeError
        If the model has no latent space.
    ValueError
        If there are fewer than 10 rows, or X does not fit the training data.

    >>> import pushforward as pf
    >>> rows = pf.open_data("digits").values
    >>> figures = latent_figures(pf.PPCA(n_components=8, random_state=0).fit(rows[:500]), rows[500:600])
    >>> figures.dims, figures.active.value, round(figures.lost.value, 1), round(figures.path_length.value, 2)
    (8, 8.0, 0.5, 1.39)
    """
    if not hasattr(model, "inverse_transform"):
        raise TypeError(f"{type(model).__name__} has no inverse_transform, so no latent space; omit these figures")
    rows = as_rows(_internal(model, X), "X", least=_LEAST)
    if pairs < 2 or steps < 2:
        raise ValueError(f"pairs and steps must be at least 2, but are {pairs} and {steps}; the defaults are 32 and 8")
    unit = Scaling.fit(torch.from_numpy(rows), columns=model.space_.schema.rules.has_columns).scale
    paths = _Paths(model, features or (lambda x: x.reshape(len(x), -1) / unit), pairs, steps)
    if not hasattr(model, "transform"):
        size = model.latent_dim_
        codes = noise.normal((size,), seed=seed, purpose="latent figures", rows=len(rows), dtype=torch.float64)
        return LatentFigures(None, None, None, None, size, *paths.between(codes, condition), codes.numpy(), None)
    codes = _call(model.transform, X, condition)
    decoded = as_rows(_internal(model, _call(model.inverse_transform, codes, condition)), "reconstructed rows")
    flat = as_rows(codes, "codes").astype(np.float64)
    return LatentFigures(
        _root(Measure.of_mean(((rows - decoded) ** 2).mean(axis=1))),
        _lost(rows / unit, decoded / unit),
        _active(flat, _has_law(model), seed),
        _effective(flat),
        flat.shape[1],
        *paths.between(codes, condition),
        flat,
        decoded,
    )


@dataclass(frozen=True)
class _Paths:
    """Paths between codes, seen in features."""

    model: Any
    features: Callable[[NDArray[Any]], NDArray[Any]]
    pairs: int
    steps: int

    def between(self, codes: Any, condition: Any) -> tuple[Measure | None, Measure | None]:
        """Return the mean path length and the mean largest step of paths from row i to row i + n, n the number of paths."""
        if not np.issubdtype(np.asarray(codes).dtype, np.floating):
            return None, None  # there are no paths between codes of a codebook
        count, steps = min(self.pairs, len(codes) // 2), self.steps
        start, end, own = codes[:count], codes[count : 2 * count], _first(condition, count, len(codes))
        stops = []
        for share in np.linspace(0.0, 1.0, steps + 1):
            angle = share * math.pi / 2
            of_start, of_end = (math.cos(angle), math.sin(angle)) if _has_law(self.model) else (1 - share, share)
            decoded = _call(self.model.inverse_transform, of_start * start + of_end * end, own)
            stops.append(as_rows(self.features(_internal(self.model, decoded)), "features").astype(np.float64))
        points = np.stack(stops)
        leaps = np.linalg.norm(np.diff(points, axis=0), axis=2)
        straight, length = np.linalg.norm(points[-1] - points[0], axis=1), leaps.sum(axis=0)
        moved = straight > 0
        if moved.sum() < 2:
            return None, None
        return (
            bootstrap_mean(length[moved] / straight[moved]),
            bootstrap_mean(steps * leaps.max(axis=0)[moved] / length[moved]),
        )


def _active(codes: NDArray[Any], has_law: bool, seed: int) -> Measure:
    """Count the active dimensions of codes (n, K), with the percentile interval of resamples of the rows."""

    def of(weights: NDArray[Any]) -> int:
        variance = weights @ (codes - weights @ codes) ** 2
        return int((variance > _ACTIVE * (1.0 if has_law else variance.max())).sum())

    n = len(codes)
    generator, equal = np.random.default_rng(noise.derive(seed, "active")), np.full(n, 1 / n)
    value = of(equal)
    low, high = np.quantile([of(generator.multinomial(n, equal) / n) for _ in range(_RESAMPLES)], (0.025, 0.975))
    return Measure(float(value), min(float(low), value), max(float(high), value), n)


def _effective(codes: NDArray[Any]) -> Measure:
    """Return (tr C)^2 / tr C^2 of the covariance C of codes (n, K), with the interval of the jackknife.

    tr C^2 is estimated by the variance of z_i . z_j over pairs of different rows; products of rows with themselves would add
    (tr C)^2 / n. As the rows are centered on their own mean, the products have the mean -tr C / n.
    """
    n = len(codes)
    centered = codes - codes.mean(axis=0)
    products = centered @ centered.T
    own = np.diag(products).copy()
    np.fill_diagonal(products, 0.0)
    others = (products**2).sum(axis=1)
    if not others.any():
        return Measure.exact(0.0, n)

    def of(trace: Any, square: Any, rows: int) -> Any:
        pairs = rows * (rows - 1)
        return (trace / rows) ** 2 / (square / pairs - (trace / pairs) ** 2)

    value = float(of(own.sum(), others.sum(), n))
    without = of(own.sum() - own, others.sum() - 2 * others, n - 1)
    return Measure.normal(value, math.sqrt((n - 1) * float(without.var())), n, least=0.0)


def _lost(rows: NDArray[Any], decoded: NDArray[Any]) -> Measure:
    """Return the ratio of the mean squared error to the variance, with the interval of its linearization."""
    error, spread = ((rows - decoded) ** 2).sum(axis=1), ((rows - rows.mean(axis=0)) ** 2).sum(axis=1)
    mean = max(float(spread.mean()), 1e-300)
    value = float(error.mean()) / mean
    around = Measure.of_mean((error - value * spread) / mean)
    return Measure(value, max(value + around.low, 0.0), value + around.high, len(rows))


def _has_law(model: Any) -> bool:
    """Whether codes of the data would be standard normal for a perfect model."""
    coder, source = getattr(model, "coder_", None), getattr(model, "source_", None)
    if isinstance(coder, GenerativeModel):
        return _has_law(coder)
    return bool(model.generates) and (source is None or isinstance(source, GaussianSource))


def _call(verb: Callable[..., Any], rows: Any, condition: Any) -> Any:
    known = inspect.signature(verb).parameters
    return verb(rows, condition=condition, **({"rtol": _RTOL} if "rtol" in known else {}))


def _first(condition: Any, count: int, n: int) -> Any:
    """Return the conditions of the first rows; one condition for all rows is returned unchanged."""
    if condition is None or isinstance(condition, str) or not hasattr(condition, "__len__") or len(condition) != n:
        return condition
    return take_rows(condition, slice(count))


def _internal(model: Any, values: Any) -> NDArray[Any]:
    """Return rows in the library's layout, (n, D) or (n, C, H, W), in data units."""
    return np.asarray(model.space_.schema.to_internal(values, name=type(model).__name__), dtype=np.float64)


def _root(mean: Measure) -> Measure:
    value, low, high = (math.sqrt(max(number, 0.0)) for number in (mean.value, mean.low, mean.high))
    return Measure(value, low, high, mean.n)
