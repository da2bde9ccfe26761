r"""The log-density of held-out rows under a model, and whether rows rank among its samples as samples do.

Held-out rows. The mean log-density of rows that training never saw, in nats and in bits per dimension,

    nats = 1/n sum_i log p(x_i),        bits per dimension = -nats / (dims log 2),

is -KL(q || p) up to the entropy of the data's law q, which is the same for all models. Rows are independent, so the mean has a
normal interval of 1.96 standard errors. The random numbers of an estimate are independent between rows, so their noise is part
of the spread of the rows. The error of a numerical integration does not average out and is added to both ends.

Rank calibration. Let u(x) = P(log p(X') < log p(x)) for X' ~ p, the probability-integral transform of the log-density. If x ~ p
too, u is uniform on [0, 1], whatever p. Samples stand for X', and the largest distance between the distribution function of u
and that of the uniform law is then that between the log-densities of rows and of samples,

    D = sup_t |F_rows(t) - F_samples(t)|,

the statistic of Kolmogorov and Smirnov. If rows rank below most samples (u near 0), the model is too narrow or lacks a mode; if
they rank above (u near 1), it is too wide. D = 0 does not mean that the laws are equal: only one number per row is compared.

References
----------
Jim Matheson, Robert Winkler. Scoring rules for continuous probability distributions. 1976.
Pascal Massart. The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality. 1990.
Lucas Theis, Aäron van den Oord, Matthias Bethge. A note on the evaluation of generative models. 2016.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from pushforward.diffusion.log_prob import Kind
from pushforward.evaluation.parts.rows import Inputs
from pushforward.metrics.measure import Measure

__all__ = ["HeldOutDensity", "affordable_rows", "held_out_density", "rank_calibration", "ranks"]

_LEAST_RANKS = 20
_WORK, _ELEMENTS = 5_000_000, 100  # budget of network calls times elements; every call costs as much as 100 elements more


@dataclass(frozen=True, eq=False)
class HeldOutDensity:
    """The mean log-density of rows, and how to read it.

    Attributes
    ----------
    nats : Measure
        Mean of log p(x), higher is better.
    bits_per_dim : Measure
        Mean of -log2 p(x) / dims, lower is better.
    kind : {"exact", "estimate", "lower bound"}
        How ``nats`` relates to the log-density; a lower bound in nats is an upper bound in bits.
    dims, constants : int
        Number of elements of a row that the density counts, and of those that never change and were left out.
    integer : bool
        Whether any element is an integer and has a probability: compare bits per dimension only with those of integers.
    standard_error : float
        Of ``nats``, over rows.
    numerical_error : float
        Change of the mean when the steps of the integration were halved; part of the interval.
    prior_mismatch : float
        In nats, see :class:`~pushforward.diffusion.likelihood.LogProb`; NaN where it is unknown.
    nfe : int
        Network calls per row.
    rows : array (n,)
        The log-density of each row, in nats.
    """

    nats: Measure
    bits_per_dim: Measure | None
    kind: Kind
    dims: int
    constants: int
    integer: bool
    standard_error: float
    numerical_error: float
    prior_mismatch: float
    nfe: int
    rows: NDArray[np.float64]

    @property
    def note(self) -> str:
        """What a reader of the numbers must know."""
        remarks = [self.kind, f"{self.dims} dimensions" if self.dims > 1 else "1 dimension"]
        if self.integer:
            remarks.append("of probabilities of integers")
        if self.constants:
            remarks.append(f"{self.constants} constant elements left out")
        impossible = int(np.isneginf(self.rows).sum())
        if impossible:
            remarks.append(f"{impossible} rows have density 0")
        return ", ".join(remarks)


def held_out_density(model: Any, X: Any, *, condition: Any = None, seed: int = 0, batch_size: int = 256) -> HeldOutDensity:
    """Return the mean log-density of rows that training never saw, under a fitted model that has a density.

    Parameters
    ----------
    model : fitted model with ``log_prob``
    X : array, tensor or DataFrame
        Rows like the training data, at least 2.
    condition : label, vector, or one of them per row, optional
        Gives log p(x | condition).
    seed : int
        Names the random numbers of an estimate.
    batch_size : int
        Rows per call of the network.

    Raises
    ------
    TypeError
        If the model has no density.
    ValueError
        If there is a single row, or X does not fit the training data.

    >>> import pushforward as pf
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = pf.PPCA(n_components=1, held_out=0, random_state=0).fit(X[:100])
    >>> density = held_out_density(model, X[100:])
    >>> density.kind, density.note, density.nats.low < -2.84 < density.nats.high  # the law's own mean log-density is -2.84
    ('exact', 'exact, 2 dimensions', True)
    """
    if not hasattr(model, "log_prob"):
        raise TypeError(f"{type(model).__name__} has no log_prob, so rows have no density under it; omit this figure")
    log_prob = model.log_prob(X, condition=condition, seed=seed, batch_size=batch_size)
    values = np.asarray(log_prob.values, dtype=np.float64)
    if len(values) < 2:
        raise ValueError(f"an interval needs at least 2 rows, but X has {len(values)}; give more held-out rows")
    numerical = abs(float(np.mean(log_prob.numerical_error)))
    nats = _mean(values, numerical)
    bits = log_prob.dims * math.log(2)
    transform = model.space_.transform
    return HeldOutDensity(
        nats=nats,
        bits_per_dim=Measure(-nats.value / bits, -nats.high / bits, -nats.low / bits, nats.n) if bits else None,
        kind=log_prob.kind,
        dims=log_prob.dims,
        constants=log_prob.constants,
        integer=bool((transform.integer & ~transform.constant).any()),
        standard_error=float(values.std(ddof=1)) / math.sqrt(len(values)) if np.isfinite(values).all() else math.inf,
        numerical_error=numerical,
        prior_mismatch=float(np.mean(log_prob.prior_mismatch)),
        nfe=log_prob.nfe,
        rows=values,
    )


def ranks(log_p_rows: ArrayLike, log_p_samples: ArrayLike) -> NDArray[np.float64]:
    """Return the share of samples with a smaller log-density than each row, (n,) in [0, 1]; ties count half.

    >>> ranks([0.0, 5.0], [-1.0, 0.0, 1.0]).tolist()
    [0.5, 1.0]
    """
    rows, samples = _log_densities("log_p_rows", log_p_rows, 1), np.sort(_log_densities("log_p_samples", log_p_samples, 1))
    below, up_to = (np.searchsorted(samples, rows, side=side) for side in ("left", "right"))
    return np.asarray((below + up_to) / (2 * len(samples)))


def rank_calibration(log_p_rows: ArrayLike, log_p_samples: ArrayLike) -> Measure:
    """Return the Kolmogorov distance of rows' ranks among samples from uniform, with the p-value of "the laws are equal".

    Parameters
    ----------
    log_p_rows : array (n,)
        Log-densities of rows under a law, in any unit, at least 20. -inf is allowed.
    log_p_samples : array (m,)
        Log-densities of samples of that law, by the same method, at least 20. For a law that is known:
        ``rank_calibration(law.log_prob(rows), law.log_prob(law.sample(m, seed=0)))``.

    Returns
    -------
    Measure
        Distance in [0, 1], 0 if calibrated. The p-value is that of the two-sample Kolmogorov-Smirnov test, exact for few rows
        without ties. The interval is Massart's: each empirical distribution function is within sqrt(log(4 / 0.05) / 2n) of the
        true one with probability 97.5 %, for every law and n. It is always valid and a little too wide.

    >>> import pushforward as pf
    >>> law, narrow = pf.probability.Gaussian([0.0], 4.0), pf.probability.Gaussian([0.0], 1.0)
    >>> rows = law.sample(500, seed=1)
    >>> rank_calibration(law.log_prob(rows), law.log_prob(law.sample(500, seed=2))).p_value > 0.05
    True
    >>> rank_calibration(narrow.log_prob(rows), narrow.log_prob(narrow.sample(500, seed=2))).p_value < 1e-6
    True
    """
    rows = _log_densities("log_p_rows", log_p_rows, _LEAST_RANKS)
    samples = _log_densities("log_p_samples", log_p_samples, _LEAST_RANKS)
    test = stats.ks_2samp(rows, samples, method="auto" if len(np.unique(rows)) == len(rows) else "asymp")
    distance, half = float(test.statistic), sum(math.sqrt(math.log(4 / 0.05) / (2 * n)) for n in (len(rows), len(samples)))
    return Measure(distance, max(distance - half, 0.0), min(distance + half, 1.0), len(rows), float(test.pvalue))


def _mean(values: NDArray[np.float64], numerical: float) -> Measure:
    """Average log-densities and widen the interval by the numerical error; a row of density 0 makes all three -inf."""
    if not np.isfinite(values).all():
        return Measure.exact(float(values.mean()), len(values))
    mean = Measure.of_mean(values)
    return Measure(mean.value, mean.low - numerical, mean.high + numerical, mean.n)


def _log_densities(name: str, values: ArrayLike, least: int) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) < least:
        raise ValueError(
            f"{name} must be one log-density per row, (n,) with n at least {least}, but its shape is {array.shape}"
        )
    bad = int((np.isnan(array) | np.isposinf(array)).sum())
    if bad:
        raise ValueError(f"{name} has {bad} values that are NaN or +inf, which cannot be ranked; omit those rows, and say so")
    return array


def affordable_rows(inputs: Inputs) -> int:
    """Return the number of rows to score: fewer if a row costs many network calls."""
    few = inputs.test.some(2, inputs.seed, "trial")
    calls = max(int(inputs.model.log_prob(few.user, condition=few.condition).nfe), 1)
    elements = int(np.prod(inputs.schema.internal_shape))
    return int(np.clip(_WORK // (calls * (elements + _ELEMENTS)), 50, 2000))
