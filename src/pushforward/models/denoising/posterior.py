"""Inverse problems with a trained model: rows given a measurement, and tables and images with their gaps filled.

Measurements act on rows in the units and the layout of the data; inside, rows are z with x = shift + scale z, so A x is the
measurement (A scale) z + A shift. An integer k is seen as x = k + u, u uniform on [0, 1), as in training: y = A k + noise is
then y + A u = A x + noise, with u drawn anew for each row.

A conditional model without a condition uses the law that it learned with its condition dropped.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import RowSpace, Values
from pushforward.diffusion import (
    MMPS,
    AbstractDenoiser,
    Denoiser,
    Observation,
    PosteriorMethod,
    observe,
)
from pushforward.models.base.arguments import check_count, encoded_condition
from pushforward.models.base.measurement import Layout, Scaled, known_of, like_frame, origin, with_gaps
from pushforward.models.denoising.guidance import Guidance, Guide, check_towards
from pushforward.probability import noise as random
from pushforward.training import TrainingSettings

__all__ = ["InverseVerbs", "knows_score"]

_STEPS = 20
Verb = TypeVar("Verb", bound=Callable[..., Any])


def knows_score(model: Any) -> bool:
    """Whether noise is Gaussian and independent of the data."""
    if hasattr(model, "denoiser_"):
        return bool(model.denoiser_.gaussian_source)
    return getattr(model, "source", None) is None and getattr(model, "coupling", "independent") == "independent"


def _with_score(verb: Verb) -> Verb:
    found: Verb = available_if(knows_score)(verb)
    return found


class InverseVerbs:
    """The verbs ``posterior`` and ``impute`` of models with a denoiser, where its noise is Gaussian and independent."""

    space_: RowSpace
    condition_dropout: float
    denoiser_: Denoiser
    training_: TrainingSettings
    sample_seed_: int

    @_with_score
    def posterior(
        self,
        A: Any,
        y: Any,
        noise: Any,
        *,
        b: Any = None,
        n: int = 1,
        method: PosteriorMethod | None = None,
        steps: int = _STEPS,
        condition: Any = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        negative_condition: Any = None,
        guidance: Guidance = "condition",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw rows x given the measurement y = A x + b + noise, all in the units of the data.

        Parameters
        ----------
        A : array (M, D), function or LinearOperator
            A matrix acts on the flattened row and a function on tensors (B, *row) of rows, both in the layout of the training
            data; ``diffusion.Mask`` has the shape of a row. ``Downsample``, ``Blur``, ``Projection`` and operators of one's
            own act on images (B, C, H, W).
        y : array
            One measurement, in the shape that A gives a row (images in the layout of the data) or flat.
        noise : float, array or Gaussian
            Its standard deviation (one, or one per entry of y; 0 is allowed), or its law.
        b : array, optional
            Shaped as y.
        n : int
            Number of rows to draw.
        method : PosteriorMethod, optional
            Default ``MMPS(iterations=3)``, the best over the problems of ``benchmarks/inverse_problems.py``.
        steps : int
            Steps of the method's sampler.
        condition : label, vector, or one of them per row, optional
        guidance_scale, guidance_interval, negative_condition, guidance
            As in :meth:`sample`: the guided law takes the place of the model's.
        seed, first, batch_size
            As in :meth:`sample`.

        Returns
        -------
        array, tensor or DataFrame
            n rows in the layout, dtype and units of the training data.

        Raises
        ------
        ValueError, TypeError
            If a shape does not fit, the noise is negative, A is not linear, or the model has not learned what guides.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
        >>> model.posterior([[1.0, 1.0]], [0.5], noise=0.1, n=3, steps=2, seed=0).shape
        (3, 2)
        """
        check_is_fitted(self)
        check_count("first", first, least=0)
        seed = self._named_seed(seed)
        guide = Guide(guidance, guidance_scale, guidance_interval, negative_condition)
        denoiser, encoded = self._asked(guide, condition, n)
        layout = Layout(self.space_.schema)
        operator, measured, dtype = layout.measurement(A, y)
        in_data = observe(operator, measured, noise, self.space_.schema.internal_shape, b, dtype=dtype)
        at_zero, whole = origin(self.space_.transform), self.space_.transform.integer & ~self.space_.transform.constant

        def given(rows: Tensor) -> Observation:
            seen = in_data.y - in_data.measure(at_zero[None].to(dtype)).double()
            if bool(whole.any()):
                u = random.uniform(tuple(whole.shape), seed=seed, purpose="dequantization", rows=rows, dtype=dtype)
                seen = seen + in_data.measure(u * whole).double()
            return Observation(Scaled(in_data.operator, self.space_.transform), seen, in_data.std, in_data.whitening)

        z = self._solve(given, n, encoded, _How(denoiser, method, steps, seed, first, batch_size))
        return self.space_.schema.to_user(self.space_.transform.inverse(z))

    @_with_score
    def impute(
        self,
        X: Any,
        *,
        mask: Any = None,
        n: int = 1,
        method: PosteriorMethod | None = None,
        steps: int = _STEPS,
        condition: Any = None,
        guidance_scale: float = 1.0,
        guidance_interval: tuple[float, float] | None = None,
        negative_condition: Any = None,
        guidance: Guidance = "condition",
        seed: int | None = None,
        batch_size: int = 256,
    ) -> Any:
        """Fill the gaps of rows by draws from their law given the rest of the row.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data, with NaN (or what pandas writes for it) in the gaps.
        mask : bool array, optional
            Like X, True where a value is known: for integers, which have no NaN.
        n : int
            Number of draws; they differ as the law leaves room.
        method, steps, condition, guidance_scale, guidance_interval, negative_condition, guidance, batch_size
            As in :meth:`posterior`.
        seed : int, optional
            Names the draw; the k-th row with gaps depends on (seed, k) alone.

        Returns
        -------
        array, tensor or DataFrame, or a list of n of them where n > 1
            Rows in the dtype of the training data. Known values are kept bit for bit.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
        >>> filled = model.impute(np.array([[0.5, np.nan], [np.nan, np.nan]]), steps=2, seed=0)
        >>> filled[0, 0].item(), np.isnan(filled).any().item()
        (0.5, False)
        """
        check_is_fitted(self)
        seed = self._named_seed(seed)
        check_count("n", n)
        x, known = with_gaps(X, mask, self.space_.schema, type(self).__name__)
        transform = self.space_.transform
        guide = Guide(guidance, guidance_scale, guidance_interval, negative_condition)
        denoiser, encoded = self._asked(guide, condition, len(x))
        gaps = (~known & ~transform.constant).flatten(1).any(1).nonzero()[:, 0]
        drawn = []
        for copy in range(n):
            named = seed if copy == 0 else random.derive(seed, "copy", copy)
            how = _How(denoiser, method, steps, named, 0, batch_size)
            filled = torch.where(known | ~transform.constant, x, transform.value.to(x.dtype))
            if len(gaps):
                given = known_of(transform, x[gaps], known[gaps], how.seed)
                z = self._solve(given, len(gaps), None if encoded is None else encoded[gaps], how)
                filled[gaps] = torch.where(known[gaps], x[gaps], transform.inverse(z).to(x.dtype))
            drawn.append(like_frame(X, self.space_.schema.to_user(filled)))
        return drawn[0] if n == 1 else drawn

    def _solve(self, given: Callable[[Tensor], Observation], n: int, condition: Tensor | None, how: "_How") -> Tensor:
        """Return n scaled rows on the CPU; ``given(rows)`` is what is known of rows with these sample numbers."""
        method = MMPS() if how.method is None else how.method
        if not isinstance(method, PosteriorMethod):
            raise TypeError(f"method must be an object such as pushforward.diffusion.MMPS(), got {method!r}")
        check_count("batch_size", how.batch_size)
        device = next(self.denoiser_.parameters()).device
        lowered = self.training_.precision == "bfloat16"
        made = []
        for start in range(0, n, how.batch_size):
            first, stop = how.first + start, how.first + min(start + how.batch_size, n)
            rows = torch.arange(first, stop, device=device)
            z = random.normal(self.space_.transform.shape, seed=how.seed, purpose="sample", rows=rows, device=device)
            c = None if condition is None else condition[start : start + how.batch_size].to(device)
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowered):
                x = method.run(how.denoiser, given(rows.cpu()), z, steps=how.steps, condition=c, seed=how.seed, first=first)
            made.append(x.cpu())
        return torch.cat(made)

    def _asked(self, guide: Guide, condition: Any, n: int) -> tuple[AbstractDenoiser, Tensor | None]:
        """Return the guided denoiser and one encoded condition per row, or None for the law without a condition."""
        check_count("n", n)
        of_model = None if guide.by == "classifier" else condition
        encoded = encoded_condition(self.space_.conditions, of_model, n, self.condition_dropout)
        if guide.by == "condition":
            check_towards(encoded, guide.scale)
        denoiser = guide.denoiser(self)
        return denoiser, guide.condition(self, condition, n, encoded)

    def _named_seed(self, seed: int | None) -> int:
        self.sample_seed_ = random.fresh_seed() if seed is None else seed
        return self.sample_seed_


@dataclass(frozen=True)
class _How:
    """How rows are drawn, whatever is known of them."""

    denoiser: AbstractDenoiser
    method: PosteriorMethod | None
    steps: int
    seed: int
    first: int
    batch_size: int
