"""Probabilistic principal component analysis: :class:`PPCA`."""

import math
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from pushforward.data import Facts
from pushforward.models.base.codes import CodeModel, RandomCodes
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import Count
from pushforward.models.gaussian import posterior as posteriors
from pushforward.models.gaussian.base import Features, FittedLaw, LawModel, Tolerance
from pushforward.probability import GaussianMixture, gaps, noise
from pushforward.probability.estimation.linear_latent import (
    LinearLatent,
    best_latent_dim,
    fit_linear_latent,
    fit_linear_latent_by_em,
    random_start,
)

__all__ = ["PPCA"]

Method = Literal["closed-form", "em"]
_LEAST_VARIANCE = 1e-9  # of the standardized numbers of a condition, which may depend on each other


class PPCA(RandomCodes, CodeModel, LawModel):
    """Probabilistic PCA: a Gaussian with a few free directions and equal noise in all others, x = mean + S (W z + e).

    S is diagonal with the standard deviations of the columns, so the law does not depend on their units; the elements of images
    have one unit and share one number. z ~ N(0, I_q) are the latents, and e ~ N(0, s2 I) is noise, so a row has the law
    N(mean, S (W W^T + s2 I) S); :meth:`transform` returns E[z | x]. A condition shifts the mean: by a constant per
    label, linearly in numbers; W and s2 are shared. (For a separate law per label use
    :class:`~pushforward.models.gaussian.gmm.GMM` with one component.)

    Covariances are divided by n - 1, as in scikit-learn's ``PCA``, so that ``score_samples`` equals its density of standardized
    columns, in the units of the data; maximum likelihood would divide by n. Rows may have gaps (NaN): the fit then uses EM, and
    :meth:`impute` fills them.

    Parameters
    ----------
    n_components : int, optional
        q, from 1 to the number of varying elements; by default the Bayesian information criterion is minimized.
    method : {"closed-form", "em"}, optional
        Eigenvectors of the covariance, or EM, which supports gaps; default EM if there are gaps.
    tolerance : float
        EM ends when an iteration gains at most this many nats per row.
    max_iterations : int
        Maximal number of iterations of EM.

    Other parameters are those of :class:`~pushforward.models.base.preparing.Preparing`.

    Attributes
    ----------
    latent_ : LinearLatent
        Mean and effects of conditions, S W, and the noise variances s2 S^2 of the elements, in the units of the data.
    law_ : Gaussian or GaussianMixture
        The law of the elements that vary, without a condition.
    n_components_, method_
        The resolved arguments.
    training_result_ : TrainingResult
        ``steps`` are iterations of EM, 0 in closed form; ``held_out_loss`` is the mean of -log p(x) in nats.

    References
    ----------
    Michael E. Tipping, Christopher M. Bishop. Probabilistic principal component analysis. JRSS B, 1999.

    >>> import pushforward as pf
    >>> model = pf.PPCA(n_components=1, random_state=0).fit([[0.0, 0.1], [1.0, 0.9], [2.0, 2.1], [3.0, 2.9], [4.0, 4.1]])
    >>> model.impute([[2.5, np.nan]], seed=0).round(1).tolist()
    [[2.5, 2.5]]
    """

    fitted: ClassVar[tuple[str, ...]] = ("n_components", "method")

    n_components: Count | None = None
    method: Method | None = None
    tolerance: Tolerance = 1e-6
    max_iterations: Count = 1000

    n_components_: int = field(init=False)
    method_: Method = field(init=False)
    latent_: LinearLatent = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        x = self._training_rows(prepared)
        has_gaps = bool(x.isnan().any())
        if has_gaps and self.method == "closed-form":
            raise ValueError(
                f"X has {int(x.isnan().sum())} gaps, but the closed form needs complete rows; omit method, or set method='em'"
            )
        if self.n_components is not None and self.n_components > x.shape[1]:
            raise ValueError(
                f"n_components={self.n_components} is more than the {x.shape[1]} elements of a row that vary; "
                f"set n_components={x.shape[1]} or less, or omit it"
            )
        columns = self._columns(self._features(prepared.condition, len(x)))
        best = best_latent_dim(x / self._scale(x), columns) if self.n_components is None else None
        return {"n_components": best, "method": "em" if has_gaps else "closed-form"}

    posterior = posteriors.posterior

    def _fit_law(self, x: Tensor, features: Features) -> FittedLaw:
        columns, scale = self._columns(features), self._scale(x)
        iterations, unitless = 0, x / scale
        if self.method_ == "closed-form":
            law = fit_linear_latent(unitless, self.n_components_, columns)
        else:
            start = random_start(unitless, self.n_components_, columns, seed=noise.derive(self.seed_, "start"))
            with self._progress(self.max_iterations) as show:
                result = fit_linear_latent_by_em(
                    unitless, start, columns, tolerance=self.tolerance, max_iterations=self.max_iterations, on_iteration=show
                )
            law, iterations = result.parameters, result.iterations
        self.latent_ = law.scaled(scale).unbiased(len(x), columns)
        q, size = self.n_components_, x.shape[1]
        numbers = columns.shape[1] * size + q * size - q * (q - 1) // 2 + 1
        value = float(self.latent_.log_prob(x, columns).mean())
        return FittedLaw(*self._joint(features, columns), iterations, numbers, value)

    def _scale(self, x: Tensor) -> Tensor:
        """Return the unit of each element, (d,): the standard deviation of a column, or of all elements with a common unit."""
        variance = (x - x.nanmean(0)).square().nanmean(0)
        return (variance if self.space_.kind.has_columns else variance.mean().expand_as(variance)).sqrt()

    def _joint(self, features: Features, columns: Tensor) -> tuple[GaussianMixture, Tensor]:
        """Return the law of (x, c), and the label of each of its components."""
        law, cov = self.latent_, self.latent_.covariance
        if features.numbers.shape[1]:
            c = columns[:, 1:]
            spread = c.mT.cov(correction=0).reshape(c.shape[1], -1) + _LEAST_VARIANCE * torch.eye(c.shape[1]).to(c)
            effect = law.coefficients[1:]
            cross = effect.mT @ spread
            whole = torch.cat([torch.cat([cov + cross @ effect, cross], 1), torch.cat([cross.mT, spread], 1)])
            mean = torch.cat([law.coefficients[0] + c.mean(0) @ effect, c.mean(0)])
            return GaussianMixture([1.0], mean[None], 0.5 * (whole + whole.mT)[None]), torch.tensor([-1])
        label, counts = torch.unique(features.label, return_counts=True)
        means = self._columns(Features(label, features.numbers[: len(label)])) @ law.coefficients
        owner = label if self.space_.conditions is None else label.where(label >= 0, len(self.space_.conditions.classes))
        weights = counts.double() / len(features.label)
        return GaussianMixture(weights, means, cov.expand(len(label), -1, -1)), owner

    def _columns(self, features: Features) -> Tensor:
        """Return the regressors of the mean, (N, F): 1, and one column for each label or number."""
        one = torch.ones(len(features.label), 1, dtype=torch.float64)
        encoder = self.space_.conditions
        if encoder is not None and encoder.has_classes:
            count = len(encoder.classes)
            chosen = torch.nn.functional.one_hot(features.label.where(features.label >= 0, count), count + 1)[:, :-1]
            return torch.cat([one, chosen.double()], 1)
        return torch.cat([one, features.numbers.nan_to_num()], 1)

    def _through(self, method: str, rows: Tensor, condition: Tensor | None, batch_size: int, *more: Tensor) -> Tensor:
        """Encode rows, or decode codes; without a condition by its posterior given the row, or by its mean."""
        features = self._features(condition, len(rows))
        if method == "decode":
            return self._whole(self.latent_.decode(rows.double(), self._mean_columns(features)))
        parts = [slice(begin, begin + batch_size) for begin in range(0, len(rows), batch_size)]
        x = self.thresholds_(self._flat(rows))
        return torch.cat([self._encoded(x[part], Features(features.label[part], features.numbers[part])) for part in parts])

    def _encoded(self, x: Tensor, features: Features) -> Tensor:
        """Return E[z | x, condition], (N, q)."""
        if features.numbers.shape[1]:
            whole = torch.cat([x, features.numbers], 1)
            middle = gaps.fill(self.joint_, whole, torch.zeros(len(x), dtype=torch.int64), torch.zeros_like(whole))
            return self.latent_.encode(x, self._columns(Features(features.label, middle[:, x.shape[1] :])))
        chances, z = self._joint_of(x, features).softmax(1), torch.zeros(len(x), self.n_components_, dtype=torch.float64)
        for k, label in enumerate(self.owner_):
            columns = self._columns(Features(label.expand(len(x)), features.numbers))
            z = z + chances[:, k, None] * self.latent_.encode(x, columns)
        return z

    def _code_sampler(self, learned: object, x: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
        law, rows = self.latent_, self.thresholds_(self._flat(x))
        log_slope = self.thresholds_.log_slope(self._flat(x))
        columns = self._columns(self._features(None, len(rows)))
        mean, factor = law.encode(rows, columns), torch.linalg.cholesky(law.posterior_covariance)

        def draw(eps: Tensor) -> tuple[Tensor, Tensor]:
            code = mean + eps.double() @ factor.mT
            square = (rows - law.decode(code, columns)).square() / law.noise_variance
            log_p = log_slope - (square + (2 * math.pi * law.noise_variance).log()).sum(1) / 2
            minus_log_q = (eps.double().square() + math.log(2 * math.pi)).sum(1) / 2 + factor.diagonal().log().sum()
            return code, log_p + minus_log_q

        return draw

    def _draw_given(self, z: Tensor, rows: Tensor, seed: int) -> Tensor:
        mean = self.latent_.decode(z.double(), self._mean_columns(self._features(None, len(z))))
        eps = noise.normal((mean.shape[1],), seed=seed, purpose="decoder", rows=rows, dtype=torch.float64)
        return self._whole(mean + self.latent_.noise_variance.sqrt() * eps)

    def _mean_columns(self, features: Features) -> Tensor:
        """Return the regressors of the mean; their average for rows without a condition."""
        columns = self._columns(features)
        encoder = self.space_.conditions
        if encoder is None or not encoder.has_classes:
            return columns
        unlabeled = torch.full_like(self.owner_, -1)
        label = self.owner_.where(self.owner_ < len(encoder.classes), unlabeled)
        average = self.joint_.weights @ self._columns(Features(label, torch.empty(len(label), 0, dtype=torch.float64)))
        return torch.where(features.label[:, None] < 0, average, columns)

    @property
    def _code_length(self) -> int:
        return self.n_components_

    @property
    def _coder_dtype(self) -> torch.dtype:
        return torch.float64

    def _state(self) -> tuple[Facts, dict[str, Tensor]]:
        latent, joint = self.latent_, self.joint_
        facts, tensors = super()._state()
        tensors |= {
            "latent.coefficients": latent.coefficients,
            "latent.loadings": latent.loadings,
            "latent.noise_variance": latent.noise_variance,
            "joint.weights": joint.weights,
            "joint.means": joint.means,
        }
        if joint.dim > len(latent.loadings):
            tensors["joint.covs"] = joint.covs
        return facts, tensors

    def _restore(self, facts: Facts, tensors: dict[str, Tensor], parts: Mapping[str, object]) -> None:
        super()._restore(facts, tensors, parts)
        self.latent_ = LinearLatent(*(tensors[f"latent.{name}"] for name in ("coefficients", "loadings", "noise_variance")))
        weights = tensors["joint.weights"]
        covs = tensors.get("joint.covs")
        covs = self.latent_.covariance.expand(len(weights), -1, -1) if covs is None else covs
        joint = GaussianMixture(weights, tensors["joint.means"], covs)
        self._check_law(joint, tensors["owner"])
        self._check_latent()
        self._adopt(joint, tensors["owner"])

    def _check_latent(self) -> None:
        """Raise a ValueError if a latent law that was read is not one of rows like those of the space."""
        latent, dim = self.latent_, int((~self.space_.transform.constant).sum())
        columns = self._columns(self._features(None, 1)).shape[1]
        shapes = {"loadings": (dim, self.n_components_), "coefficients": (columns, dim), "noise_variance": (dim,)}
        for name, shape in shapes.items():
            value = getattr(latent, name)
            if value.shape != shape or value.dtype != torch.float64:
                raise ValueError(f"latent.{name} is {value.dtype} of shape {tuple(value.shape)}, not float64 of shape {shape}")
        if not bool((latent.noise_variance > 0).all()):
            raise ValueError("latent.noise_variance must be above 0")
