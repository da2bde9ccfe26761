"""``posterior`` and ``impute`` of denoising models: draws given a measurement, or given the rest of a row.

Measurements act on rows in the units and the layout of the data; the model's rows are z with x = shift + scale z, so A x is the
measurement (A scale) z + A shift. An integer k is dequantized as x = k + u, u uniform on [0, 1), as in training:
y = A k + noise becomes y + A u = A x + noise, with u drawn anew for each row.

A conditional model without a condition uses the law that it learned with its condition dropped.

A model of images that was trained with masks has learned the law of the hidden pixels given the visible ones. Its ``impute``
draws from this law, without an approximation, unless a method is named or only some channels of a pixel are known.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Values
from pushforward.data.conditions import with_visible
from pushforward.data.filling import Gaps
from pushforward.data.measurement import CodedOperator, Noise, Operator, ScaledOperator, known_elements, measurement
from pushforward.diffusion import MMPS, AbstractDenoiser, Observation, PosteriorMethod, observe
from pushforward.diffusion.points import PresentPoints
from pushforward.models.base.guidance import Guidance
from pushforward.models.denoising.base import DEFAULT_STEPS, Denoising, WithDenoiser
from pushforward.models.denoising.guidance import guided, model_condition
from pushforward.probability.counts import check_count, check_steps
from pushforward.probability.noise import normal, uniform

__all__ = ["impute", "posterior"]


def posterior(
    model: WithDenoiser,
    A: Operator,
    y: ArrayLike,
    noise: Noise,
    *,
    b: ArrayLike | None = None,
    n: int = 1,
    method: PosteriorMethod | None = None,
    steps: int = DEFAULT_STEPS,
    condition: Condition = None,
    guidance: Guidance | float = 1.0,
    seed: int | None = None,
    first: int = 0,
    batch_size: int = 256,
) -> Values:
    """Draw rows x given the measurement y = A x + b + noise, all in the units of the data.

    Parameters
    ----------
    A : array (M, D), function or LinearOperator
        A matrix acts on the flattened row and a function on tensors (B, *row) of rows, both in the layout of the training
        data; ``diffusion.Mask`` has the shape of a row. ``Downsample``, ``Blur``, ``Projection`` and your own operators
        act on images (B, C, H, W).
    y : array
        One measurement, in the shape that A gives a row (images in the layout of the data) or flat.
    noise : float, array or Gaussian
        Its standard deviation (one, or one per entry of y; 0 is allowed), or its law.
    b : array, optional
        Shaped as y.
    n : int
        Number of rows to draw; sets of points have the largest size of training.
    method : PosteriorMethod, optional
        Default ``MMPS()``, the best over the problems of ``benchmarks/inverse_problems.py``.
    steps : int
        Steps of the method.
    condition : label, vector, or one of them per row, optional
    guidance : float or Guidance
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
        If a shape does not fit, the noise is negative, A is not linear, no row satisfies the noiseless entries of y, or the
        model has not learned what the guidance needs.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> model.posterior([[1.0, 1.0]], [0.5], noise=0.1, n=3, steps=2, seed=0).shape
    (3, 2)
    """
    check_is_fitted(model)
    check_count("first", first, least=0)
    seed = model._keep_seed(seed)
    denoiser, encoded = _guided(model, guidance, condition, n)
    space = model.space_
    operator, measured, dtype = measurement(space.schema, A, y)
    in_data = observe(operator, measured, noise, space.schema.internal_shape, b, dtype=dtype)
    origin, integer = space.transform.origin, space.transform.integer & ~space.transform.constant

    def observation(rows: Tensor) -> Observation:
        if space.transform.coding is not None:
            return replace(in_data, operator=CodedOperator(in_data.operator, space.transform))
        values = in_data.y - in_data.measure(origin[None].to(dtype)).double()
        if bool(integer.any()):
            u = uniform(tuple(integer.shape), seed=seed, purpose="dequantization", rows=rows, dtype=dtype)
            values = values + in_data.measure(u * integer).double()
        return Observation(ScaledOperator(in_data.operator, space.transform), values, in_data.std, in_data.whitening)

    z = _solve(
        model, denoiser, observation, n, encoded, method=method, steps=steps, seed=seed, first=first, batch_size=batch_size
    )
    return space.to_user(z)


def impute(
    model: WithDenoiser,
    X: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    n: int = 1,
    method: PosteriorMethod | None = None,
    steps: int = DEFAULT_STEPS,
    condition: Condition = None,
    guidance: Guidance | float = 1.0,
    seed: int | None = None,
    batch_size: int = 256,
) -> Values | list[Values]:
    """Fill the gaps of rows by draws from their law given the rest of the row.

    Parameters
    ----------
    X : array, tensor or DataFrame
        Rows like the training data, with NaN (or what pandas writes for it) in the gaps.
    mask : bool array, optional
        Like X, True where a value is known: for integers, which have no NaN.
    n : int
        Number of draws for each row.
    method, steps, condition, guidance, batch_size
        As in :meth:`posterior`. Without a method a model that was trained with masks draws from the law that it has learned,
        and ``guidance`` is by the known pixels.
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
    check_is_fitted(model)
    seed = model._keep_seed(seed)
    check_count("n", n)
    gaps = Gaps.of(X, mask, model.space_, type(model).__name__)
    if isinstance(model, Denoising) and method is None and (visible := _visible(model, gaps)) is not None:
        model.space_.encode(condition, len(gaps.x))
        drawn = _given_visible(model, visible, Guidance.of(guidance), steps, batch_size)
        return gaps.filled(drawn, n=n, seed=seed)
    denoiser, encoded = _guided(model, guidance, condition, len(gaps.x))
    rows = gaps.rows
    encoded = None if encoded is None else encoded[rows]

    absent = model.space_.kind.absent(gaps.x[rows])
    known = gaps.known[rows] if absent is None else gaps.known[rows] & ~absent
    x = gaps.x[rows] if absent is None else torch.where(absent, 0.0, gaps.x[rows])

    def draw(seed: int) -> Tensor:
        observation = known_elements(model.space_.transform, x, known, seed)
        return _solve(
            model,
            denoiser,
            observation,
            len(rows),
            encoded,
            method=method,
            steps=steps,
            seed=seed,
            batch_size=batch_size,
            absent=absent,
        )

    return gaps.filled(draw, n=n, seed=seed)


def _visible(model: Denoising, gaps: Gaps) -> Tensor | None:
    """Return the encoded visible part of the rows with gaps; None for a model without masks, or if pixels are known in part."""
    encoder, known = model.space_.conditions, gaps.known[gaps.rows]
    if encoder is None or not encoder.has_masks or not bool((known == known[:, :1]).all()):
        return None
    return with_visible(model.space_.transform.forward(gaps.x[gaps.rows], dtype=torch.float32), known[:, :1])


def _given_visible(
    model: Denoising, visible: Tensor, guidance: Guidance, steps: int, batch_size: int
) -> Callable[[int], Tensor]:
    """Return the function from seeds to scaled rows given their encoded visible parts."""
    if guidance.by == "classifier":
        raise ValueError(
            "the condition of this model is the visible part of the image, beside which it takes no labels; omit by"
        )
    check_count("batch_size", batch_size)
    n, denoiser = len(visible), guided(model, guidance, None, len(visible), visible)[0]
    return lambda seed: model._draw(
        denoiser, n, visible, steps=check_steps(steps), sampler=model.sampler_, seed=seed, batch_size=batch_size
    )


def _guided(
    model: WithDenoiser, guidance: Guidance | float, condition: Condition, n: int
) -> tuple[AbstractDenoiser, Tensor | None]:
    """Return the guided denoiser and one encoded condition per row, or None for the law without a condition."""
    check_count("n", n)
    guidance = Guidance.of(guidance)
    encoded = model.space_.encode(model_condition(guidance, condition), n, null=model._knows_null)
    guidance.check_condition(encoded)
    return guided(model, guidance, condition, n, encoded)


def _solve(
    model: WithDenoiser,
    denoiser: AbstractDenoiser,
    observation: Callable[[Tensor], Observation],
    n: int,
    condition: Tensor | None,
    *,
    method: PosteriorMethod | None,
    steps: int,
    seed: int,
    first: int = 0,
    batch_size: int,
    absent: Tensor | None = None,
) -> Tensor:
    """Draw n scaled rows on the CPU; ``observation`` maps sample numbers to the observations of their rows.

    ``absent`` (n, P, D) says which points of sets do not exist.
    """
    solver = MMPS() if method is None else method
    if not isinstance(solver, PosteriorMethod):
        raise TypeError(f"method must be an object such as pushforward.diffusion.MMPS(), got {method!r}")
    check_count("batch_size", batch_size)

    def run(rows: Tensor, part: slice, c: Tensor | None) -> Tensor:
        z = normal(model.space_.transform.shape, seed=seed, purpose="sample", rows=rows, device=rows.device)
        with model._training_precision():
            y = observation(rows.cpu())
            inner = denoiser
            if absent is not None and bool(absent[part].any()):
                inner = PresentPoints(denoiser, ~absent[part][..., 0].to(z.device))
            return solver.run(inner, y, z, steps=steps, condition=c, seed=seed, first=first + part.start)

    return model._batched(run, n, condition, first=first, batch_size=batch_size)
