"""The verbs ``calibrate`` and ``calibration`` of denoising models: samplers fitted to one model for few steps.

A calibration belongs to one denoiser, the model's at one guidance scale, and to one number of steps. ``sample`` uses it when
exactly these are asked for and no sampler is named. :mod:`pushforward.models.files.calibrations` keeps them in a file.
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
from pushforward.probability.counts import check_count
from pushforward.training.progress import Progress

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
    """Fit a table of ``steps`` steps, times and coefficients, to this model, for :meth:`sample` to use.

    The table is fitted to the model's own fine-step solution from ``noises`` noises, a quarter of which are held out. A
    conditional model is calibrated on conditions drawn as in training. Where the table is better on the noises held out
    than what ``sample`` would use otherwise, it is kept in ``calibrations_``, and ``sample(steps=..., guidance=...)`` uses it
    when both are exactly these and no sampler is named.

    Parameters
    ----------
    steps : int
        At least 2; so many network calls.
    guidance : float or Guidance
        The guidance scale.
    noises : int
        At least 2. A source that is an array gives each of its distinct rows at most once.
    iterations : int
        Steps of the optimizer; each costs ``steps`` calls forwards and backwards on ``batch_size`` rows.
    batch_size : int
    seed : int, optional
        Names the noises and conditions. Without it a fresh seed is taken; the result says which.

    Returns
    -------
    Calibration
        With the errors before and after on the noises held out, in scaled units, and their ratio ``gain``. Where that is
        not above 1, a warning says that nothing was kept.

    Raises
    ------
    TypeError, ValueError
        If a number is out of range, guidance is asked of a model that knows no conditions, or the model's own sampler is
        stochastic.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=50, random_state=0).fit("moons")
    >>> calibration = model.calibrate(4, noises=128, iterations=20, seed=0)
    >>> calibration.gain > 1, calibration.held_out, model.sample(3, steps=4).shape
    (True, 32, (3, 2))
    """
    check_is_fitted(model)
    steps = check_count("steps", steps)
    for name, count, least in (("noises", noises, 2), ("iterations", iterations, 0), ("batch_size", batch_size, 1)):
        check_count(name, count, least)
    scale = scale_of(guidance, "a calibrated sampler")
    denoiser = by_condition(model, Guidance(scale))
    seed = noise.fresh_seed() if seed is None else seed
    default = _uncalibrated(model, steps, scale)
    z, condition = starts_to_fit(model, noises, noise.derive(seed, "calibration"))
    shown, lines = contextlib.ExitStack(), list[Progress]()

    def show(done: int, loss: float) -> None:
        if not lines:  # its clock starts here, after the fine-step solution
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
            f"the table fitted to {steps} steps is no better than {default} on the {result.held_out} noises held out "
            f"(gain {result.gain:.3g}), so it is not kept; calibrate with more noises or iterations, or for fewer steps",
            stacklevel=2,
        )
    return result


def calibration(model: Denoising, steps: int, guidance: Guidance | float = 1.0) -> Calibration | None:
    """Return the calibration that ``sample`` uses at this number of steps and this guidance, if there is one.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=2, random_state=0).fit("moons")
    >>> model.calibration(8) is None
    True
    """
    check_is_fitted(model)
    guidance = Guidance.of(guidance)
    return model.calibrations_.get((check_count("steps", steps), guidance.scale)) if guidance.only_scales else None


def sampler_for(model: Denoising, steps: int | None, guidance: Guidance) -> Sampler:
    """Return the sampler to use when none is named; ``steps`` None stands for the default number."""
    calibrated = None if steps is None else calibration(model, steps, guidance)
    if calibrated is not None:
        return calibrated.sampler
    return _uncalibrated(model, DEFAULT_STEPS if steps is None else steps, guidance.scale)


def _uncalibrated(model: Denoising, steps: int, scale: float) -> Sampler:
    """Return the model's own sampler, or the default for so many steps under such guidance if it has none."""
    return diffusion.default_sampler(check_count("steps", steps), scale) if model.sampler is None else model.sampler_


def starts_to_fit(model: Denoising, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Return up to n noises and their conditions, drawn as ``sample`` does with this seed; no noise twice."""
    if isinstance(model.source_, ArraySource):
        # Drawn with replacement, noises held out would be among those fitted to.
        rows = torch.unique(model.source_.rows, dim=0)
        z = rows[noise.permutation(len(rows), seed=seed, purpose="sample")[:n]]
    else:
        z = model.source_.draw(torch.arange(n), 0, seed, "sample")
    return z, model._conditions_for_sampling(None, len(z), seed)
