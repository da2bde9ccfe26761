"""The few rows that plots are drawn from: samples, held-out rows, and states of samples on the way from noise to data."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pushforward.diffusion.samplers.recording import RecordingSampler
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.rows import Inputs, RowSet

__all__ = ["add_paths", "add_rows", "paths", "plane", "plot_layout"]

_CLASSES, _PER_CLASS = 10, 8


def add_rows(inputs: Inputs, results: Results) -> None:
    """Store a few samples and held-out rows."""
    assert inputs.samples is not None
    samples, rows = inputs.samples, inputs.held
    picked = np.arange(min(inputs.kind.shown, len(samples))), np.arange(min(inputs.kind.shown, len(rows)))
    by_class = _by_class(samples, rows) if inputs.kind.drawn_singly else None
    if by_class is not None:
        results.arrays["class_labels"] = np.array([str(label) for label in by_class[0]])
        picked = by_class[1], by_class[2]
    results.arrays["samples"] = plot_layout(inputs, samples, picked[0])
    results.arrays["rows"] = plot_layout(inputs, rows, picked[1])
    if not inputs.kind.drawn_singly and inputs.schema.table is None:
        flat = np.concatenate([results.arrays["samples"], results.arrays["rows"]])
        if flat.shape[1] > 2:
            scaled = [inputs.scaling(part.x)[index] for part, index in zip((rows, samples), reversed(picked), strict=True)]
            n = len(scaled[0])
            mapped = plane(np.concatenate(scaled), fitted=n)
            results.arrays["plane_rows"], results.arrays["plane_samples"] = mapped[:n], mapped[n:]


def _by_class(samples: RowSet, rows: RowSet) -> tuple[list[Any], NDArray[Any], NDArray[Any]] | None:
    """Return labels, and the numbers of equally many samples and rows of each label, if there are enough."""
    conditions = [part.condition for part in (samples, rows) if part.condition is not None]
    if len(conditions) < 2:
        return None
    known = {label for label in conditions[0] if label is not None}
    labels = sorted(known, key=lambda label: (isinstance(label, str), label))[:_CLASSES]
    texts = [np.array([str(label) for label in condition]) for condition in conditions]
    numbers = [[np.flatnonzero(text == str(label))[:_PER_CLASS] for label in labels] for text in texts]
    each = min((len(index) for of_part in numbers for index in of_part), default=0)
    if each < 3 or len(labels) < 2:
        return None
    of_samples, of_rows = (np.concatenate([index[:each] for index in of_part]) for of_part in numbers)
    return labels, of_samples, of_rows


def add_paths(inputs: Inputs, results: Results) -> None:
    """Store the states of a few samples on the way from noise to data."""
    times, states = paths(inputs.model, inputs.kind.followed, seed=inputs.seed)
    if inputs.kind.structure == "series":
        space = inputs.model.space_
        frames = [space.transform.in_units(torch.from_numpy(z)).numpy() for z in states]
        results.arrays["path_states"] = np.stack([inputs.kind.pictures(inputs.kind.view(x, "first")) for x in frames])
    elif inputs.kind.drawn_singly:
        states = states if states.shape[-1] != 1 else states[..., 0]
        shown = inputs.kind.pictures(states.reshape(-1, *states.shape[2:]))
        results.arrays["path_states"] = shown.reshape(*states.shape[:2], *shown.shape[1:])
    else:
        flat = states.reshape(len(states), states.shape[1], -1)
        if flat.shape[2] > 2:
            flat = plane(flat[::-1].reshape(-1, flat.shape[2]), fitted=flat.shape[1]).reshape(*flat.shape[:2], 2)[::-1]
        if flat.shape[2] == 2:
            results.arrays["path_states"] = flat
    results.arrays["path_times"] = times


def plot_layout(inputs: Inputs, rows: RowSet, index: NDArray[Any]) -> NDArray[Any]:
    """Return rows of these numbers as a report shows them: (n, H, W[, C]) or (n, D)."""
    return inputs.kind.pictures(inputs.schema.view(rows.x[np.asarray(index)]))


def plane(rows: NDArray[Any], *, fitted: int | None = None) -> NDArray[Any]:
    """Return the first two principal components of rows (n, D), fitted to the first ``fitted`` of them, as (n, 2).

    >>> plane(np.array([[0.0, 0.0, 3.0], [0.0, 0.0, -3.0], [0.0, 1.0, 0.0]])).shape
    (3, 2)
    """
    rows = rows.astype(np.float64)
    center = rows[:fitted].mean(axis=0)
    axes = np.linalg.svd(rows[:fitted] - center, full_matrices=False)[2][:2]
    axes *= np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)])[:, None]  # fixed signs
    flat = (rows - center) @ axes.T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def paths(model: Any, n: int, *, seed: int, frames: int = 9) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return times (frames,) from 1 to 0 and the states of n samples at them, (frames, n, *row), in the units of the model.

    States are divided by sqrt(alpha^2 + sigma^2), so that they have about the same size for all schedules. Images have
    their channels last.

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
    >>> times, states = paths(model, 3, seed=0)
    >>> times[[0, -1]].tolist(), states.shape
    ([1.0, 0.0], (9, 3, 2))
    """
    recording = RecordingSampler(model.sampler_)
    model.sample(n, seed=seed, sampler=recording, batch_size=n)
    frame = np.unique(np.linspace(0, len(recording.times) - 1, min(frames, len(recording.times))).round().astype(int))
    times = torch.tensor([recording.times[index] for index in frame], dtype=torch.float64)
    schedule, shown = model.denoiser_.schedule, torch.stack([recording.states[index] for index in frame])
    scale = (schedule.alpha(times) ** 2 + schedule.sigma(times) ** 2).sqrt()
    states = (shown.double() / scale.reshape(-1, *[1] * (shown.ndim - 1))).float().numpy()
    return times.numpy(), np.moveaxis(states, 2, -1) if states.ndim == 5 else states
