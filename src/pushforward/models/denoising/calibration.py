"""``calibrate`` and ``calibration`` of denoising models: samplers fitted to one model for few steps.

A calibration is valid for one model, one guidance scale and one number of steps. ``sample`` uses it for exactly these if no
sampler is passed. :mod:`pushforward.models.files.calibrations` stores calibrations in a file.
"""

import contextlib
import warnings

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward import diffusion
from pushforward.diffusion import Calibration, Sampler
from pushforward.models.base.guidance import Guidance, scale_of
from pushforward.models.denoising.base import DEFAULT_STEPS, Denoising
from pushforward.models.denoising.guidance import by_condition
from pushforward.models.denoising.source import ArraySource
from pushforward.probability import noise
from pushforward.probability.counts import check_count, check_steps
from pushforward.training.record.progress import Progress

__all__ = ["calibrate", "calibration", "sampler_for", "starts_to_fit"]


def calibrate(
    model: Denoising,
    steps: int = 8,
    *,
    guidance: Guidance | float = 1.0,
    noises: int = 1024,
    iterations: int = 300,
    batch_size: int = 64,
    seed: int | None = None,
) -> Calibration:
    """Fit a table of times and coefficients for ``steps`` steps to this model, for :meth:`sample` to use.

    The table is fitted to the model's own fine-step solution from ``noises`` noises, a quarter of which are held out.
    Conditional models use conditions drawn from the training data. If the table has a lower error on held-out noises than the
    sampler that ``sample`` would use, it is stored in ``calibrations_``, and ``sample(steps=..., guidance=...)`` uses it for
    exactly these steps and this scale if no sampler is passed.

    Parameters
    ----------
    steps : int
        Number of network calls, at least 2.
    guidance : float or Guidance
        The guidance scale.
    noises : int
        At least 2. An array source provides each of its distinct rows at most once.
    iterations : int
        Steps of the optimizer, each with ``steps`` forward and backward calls on ``batch_size`` rows.
    batch_size : int
    seed : int, optional
        Seed of the noises and conditions; a fresh one by default, which the result contains.

    Returns
    -------
    Calibration
        The errors before and after on held-out noises, in scaled units, and their ratio ``gain``. If it is not above 1, a
        warning is emitted and the table is not stored.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, guidance is set for a model without conditions, or the model's own sampler is stochastic.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=50, random_state=0).fit("moons")
    >>> calibration = model.calibrate(4, noises=128, iterations=20, seed=0)
    >>> calibration.gain > 1, calibration.held_out, model.sample(3, steps=4).shape
    (True, 32, (3, 2))
    """
    check_is_fitted(model)
    steps = check_steps(steps)
    for name, count, least in (("noises", noises, 2), ("iterations", iterations, 0), ("batch_size", batch_size, 1)):
        check_count(name, count, least)
    scale = scale_of(guidance, "a calibrated sampler")
    denoiser = by_condition(model, Guidance(scale))
    seed = noise.fresh_seed() if seed is None else seed
    default = _uncalibrated(model, steps, scale)
    z, condition = starts_to_fit(model, noises, noise.derive(seed, "calibration"))
    shown, lines = contextlib.ExitStack(), list[Progress]()

    def show(done: int, loss: float) -> None:
        if not lines:  # starts its clock after the fine-step solution
            lines.append(shown.enter_context(Progress(iterations, done, visible=True)))
        lines[0].note(loss=loss)
        lines[0].tick(done)

    with shown, model._training_precision():
        result = diffusion.calibrate(
            denoiser,
            z.to(model._device),
            steps=steps,
            condition=None if condition is None else condition.to(model._device),
            iterations=iterations,
            batch_size=batch_size,
            default=default,
            seed=seed,
            on_iteration=show if model.verbose else None,
        )
    if result.gain > 1:
        model.calibrations_ = {**model.calibrations_, (steps, scale): result}
    else:
        warnings.warn(
            f"the table fitted to {steps} steps is no better than {default} on the {result.held_out} held-out noises "
            f"(gain {result.gain:.3g}), so it is discarded; calibrate with more noises or iterations, or for fewer steps",
            stacklevel=2,
        )
    return result


def calibration(model: Denoising, steps: int, guidance: Guidance | float = 1.0) -> Calibration | None:
    """Return the calibration that ``sample`` uses for this number of steps and this guidance, or None.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=2, random_state=0).fit("moons")
    >>> model.calibration(8) is None
    True
    """
    check_is_fitted(model)
    guidance = Guidance.of(guidance)
    return model.calibrations_.get((check_steps(steps), guidance.scale)) if guidance.only_scales else None


def sampler_for(model: Denoising, steps: int | None, guidance: Guidance) -> Sampler:
    """Return the sampler to use if none is passed; ``steps`` None means the default number."""
    calibrated = None if steps is None else calibration(model, steps, guidance)
    if calibrated is not None:
        return calibrated.sampler
    return _uncalibrated(model, DEFAULT_STEPS if steps is None else steps, guidance.scale)


def _uncalibrated(model: Denoising, steps: int, scale: float) -> Sampler:
    """Return the model's own sampler, or else the default for these steps and this guidance scale."""
    return diffusion.default_sampler(check_steps(steps), scale) if model.sampler is None else model.sampler_


def starts_to_fit(model: Denoising, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return up to n distinct noises and their conditions, as ``sample`` draws them with this seed."""
    if isinstance(model.source_, ArraySource):
        # With replacement, held-out noises could also be fitted to.
        rows = torch.unique(model.source_.rows, dim=0)
        z = rows[noise.permutation(len(rows), seed=seed, purpose="sample")[:n]]
    else:
        z = model.source_.draw(torch.arange(n), 0, seed, "sample")
    return z, model._conditions_for_sampling(None, len(z), seed)
