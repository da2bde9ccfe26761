"""Calibrated samplers of a model: fitted, chosen by the number of steps and the guidance scale, and kept in a file.

A calibration belongs to one denoiser, the model's at one guidance scale, and to one number of steps. ``sample`` uses it when
exactly these are asked for and no sampler is named.

On disk they are ``calibrations.json`` beside the weights. The file names the weights that it was made for, by their SHA-256,
because a table means nothing for any others.
"""

import contextlib
import hashlib
import json
import math
import operator
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward import diffusion
from pushforward.diffusion import Calibration, Denoiser, Sampler, Schedule
from pushforward.models.base.arguments import check_count
from pushforward.models.denoising.guidance import Guide
from pushforward.models.denoising.source import ArraySource, Source
from pushforward.models.files import codec
from pushforward.probability import noise
from pushforward.training import TrainingSettings
from pushforward.training.files import write_file
from pushforward.training.progress import Progress

__all__ = [
    "CALIBRATIONS",
    "DEFAULT_STEPS",
    "CalibrationVerbs",
    "Calibrations",
    "add_calibration",
    "checked_steps",
    "read_calibrations",
    "write_calibrations",
]

CALIBRATIONS = "calibrations.json"
DEFAULT_STEPS = 20
_FORMAT = 2

Calibrations = Mapping[tuple[int, float], Calibration]
"""Calibrations by steps and guidance scale."""


class CalibrationVerbs:
    """The verbs ``calibrate`` and ``calibration`` of models with a denoiser.

    Attributes
    ----------
    calibrations_ : dict
        :class:`~pushforward.diffusion.Calibration` by (steps, guidance scale); emptied by ``fit``.
    """

    beside: ClassVar[tuple[str, ...]] = (CALIBRATIONS,)

    denoiser_: Denoiser
    source_: Source
    sampler: Sampler | None
    sampler_: Sampler
    training_: TrainingSettings
    verbose: bool
    calibrations_: Calibrations

    def calibrate(
        self,
        steps: int = 8,
        *,
        guidance_scale: float = 1.0,
        noises: int = 1024,
        iterations: int = 300,
        batch_size: int = 64,
        seed: int | None = None,
    ) -> Calibration:
        """Fit a table of ``steps`` steps, times and coefficients, to this model, for :meth:`sample` to use.

        The table is fitted to the model's own fine-step solution from ``noises`` noises, a quarter of which are held out. A
        conditional model is calibrated on conditions drawn as in training. Where the table is better on the noises held out
        than what ``sample`` would use otherwise, it is kept in ``calibrations_``, and ``sample(steps=..., guidance_scale=...)``
        uses it when both are exactly these and no sampler is named.

        Parameters
        ----------
        steps : int
            At least 2; so many network calls.
        guidance_scale : float
            As in :meth:`sample`.
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
        >>> found = model.calibrate(4, noises=128, iterations=20, seed=0)
        >>> found.gain > 1, found.held_out, model.sample(3, steps=4).shape
        (True, 32, (3, 2))
        """
        check_is_fitted(self)
        steps = checked_steps(steps)
        for name, count, least in (("noises", noises, 2), ("iterations", iterations, 0), ("batch_size", batch_size, 1)):
            check_count(name, count, least)
        denoiser = Guide("condition", guidance_scale, None, None).denoiser(self)
        seed = noise.fresh_seed() if seed is None else seed
        default = self._uncalibrated(steps, guidance_scale)
        z, condition = self._starts_to_fit(noises, noise.derive(seed, "calibration"))
        device = next(self.denoiser_.parameters()).device
        lowered = self.training_.precision == "bfloat16"  # the network is called as it was trained
        shown, lines = contextlib.ExitStack(), list[Progress]()

        def show(done: int, loss: float) -> None:
            if not lines:  # its clock starts here, after the fine-step solution
                lines.append(shown.enter_context(Progress(iterations, done, visible=True)))
            lines[0].note(loss=loss)
            lines[0].tick(done)

        with shown, torch.autocast(device.type, dtype=torch.bfloat16, enabled=lowered):
            found = diffusion.calibrate(
                denoiser,
                z.to(device),
                steps=steps,
                condition=None if condition is None else condition.to(device),
                iterations=iterations,
                batch_size=batch_size,
                default=default,
                seed=seed,
                on_iteration=show if self.verbose else None,
            )
        if found.gain > 1:
            self.calibrations_ = {**self.calibrations_, (steps, float(guidance_scale)): found}
        else:
            warnings.warn(
                f"the table fitted to {steps} steps is no better than {default} on the {found.held_out} noises held out "
                f"(gain {found.gain:.3g}), so it is not kept; calibrate with more noises or iterations, or for fewer steps",
                stacklevel=2,
            )
        return found

    def calibration(self, steps: int, guidance_scale: float = 1.0) -> Calibration | None:
        """Return the calibration that ``sample`` uses at this number of steps and this guidance scale, if there is one.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=2, random_state=0).fit("moons")
        >>> model.calibration(8) is None
        True
        """
        check_is_fitted(self)
        return self.calibrations_.get((checked_steps(steps), guidance_scale))

    def _write_beside(self, weights: Path) -> None:
        write_calibrations(weights.parent, self.calibrations_, weights)

    def _read_beside(self, weights: Path) -> None:
        self.calibrations_ = read_calibrations(weights.parent, weights, self.denoiser_.schedule)

    def _sampler_of(self, steps: int | None, guide: Guide) -> Sampler:
        """Return the sampler to use when none is named; ``steps`` None stands for the default number."""
        plain = guide.by == "condition" and guide.interval is None and guide.negative is None
        found = self.calibration(steps, guide.scale) if plain and steps is not None else None
        return self._uncalibrated(DEFAULT_STEPS if steps is None else steps, guide.scale) if found is None else found.sampler

    def _uncalibrated(self, steps: int, scale: float) -> Sampler:
        """Return the model's own sampler, or the default for so many steps under such guidance if it has none."""
        return diffusion.default_sampler(checked_steps(steps), scale) if self.sampler is None else self.sampler_

    def _starts_to_fit(self, n: int, seed: int) -> tuple[Tensor, Tensor | None]:
        """Return up to n noises and their conditions, drawn as ``sample`` does with this seed; no noise twice."""
        if isinstance(self.source_, ArraySource):
            # Drawn with replacement, noises held out would be among those fitted to.
            rows = torch.unique(self.source_.rows, dim=0)
            z = rows[noise.permutation(len(rows), seed=seed, purpose="sample")[:n]]
        else:
            z = self.source_.draw(torch.arange(n), 0, seed, "sample")
        condition: Tensor | None = self._conditions_for_sampling(None, len(z), seed)  # type: ignore[attr-defined]
        return z, condition


def checked_steps(steps: Any) -> int:
    """Return a number of steps as an int; raise unless it is an integer of at least 1."""
    check_count("steps", steps)
    return operator.index(steps)


def write_calibrations(folder: Path, calibrations: Calibrations, weights: Path) -> None:
    """Write ``calibrations.json`` in one piece, as made for this weights file; without any calibration there is no file."""
    path = folder / CALIBRATIONS
    if not calibrations:
        path.unlink(missing_ok=True)
        return
    entries = [
        {"steps": steps, "guidance_scale": scale, "calibration": codec.to_plain(found)}
        for (steps, scale), found in sorted(calibrations.items())
    ]
    content = {"format": _FORMAT, "weights": _fingerprint(weights), "calibrations": entries}
    write_file(path, json.dumps(content, indent=1, allow_nan=False) + "\n")


def add_calibration(folder: Path, steps: int, guidance_scale: float, found: Calibration, weights: Path) -> None:
    """Write one calibration beside those that the folder holds by now, in place of one for the same steps and scale."""
    known = read_calibrations(folder, weights)
    write_calibrations(folder, {**known, (steps, float(guidance_scale)): found}, weights)


def read_calibrations(folder: Path, weights: Path, schedule: Schedule | None = None) -> dict[tuple[int, float], Calibration]:
    """Return the calibrations of a folder; none if it has no file of them.

    Raises
    ------
    ValueError
        If the file is damaged, was made for other weights, or its times do not fit the schedule, where one is given.
    """
    path = folder / CALIBRATIONS
    if not path.is_file():
        return {}
    again = f"delete {path} and calibrate again"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version, made_for = content["format"], content["weights"]
        found = dict(_entry(entry, schedule) for entry in content["calibrations"]) if version == _FORMAT else {}
    except (ValueError, TypeError, KeyError) as error:
        said = f"it has no {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"{path} is damaged: {said}; {again}") from None
    if version != _FORMAT:
        raise ValueError(f"{path} has format {version}, and this version of pushforward reads format {_FORMAT}; {again}")
    if made_for != _fingerprint(weights):
        raise ValueError(f"{path} was made for other weights than {weights} and means nothing for these; {again}")
    return found


def _entry(entry: Mapping[str, Any], schedule: Schedule | None) -> tuple[tuple[int, float], Calibration]:
    """Return the key and the calibration that an entry of the file describes."""
    steps, scale, found = entry["steps"], entry["guidance_scale"], codec.from_plain(entry["calibration"], where="calibration")
    if not isinstance(found, Calibration):
        raise ValueError(f"an entry holds a {type(found).__name__} and no calibration")
    if not (isinstance(scale, float) and math.isfinite(scale) and math.isfinite(found.gain) and found.held_out > 0):
        raise ValueError(
            f"the guidance scale {scale}, the errors {found.error}, {found.default_error} or their number make no sense"
        )
    found.sampler.nfe(steps)  # refuses any other number than that of its table
    if schedule is not None:
        found.sampler.table(schedule, found.sampler.grid(schedule, steps))
    return (steps, scale), found


def _fingerprint(weights: Path) -> str:
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
