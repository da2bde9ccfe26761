"""Built-in data sets: handwritten digits, two-dimensional laws, shapes (:mod:`pushforward.data.shapes`), tones, and a text.

Points depend on ``(seed, row)`` alone (:mod:`pushforward.probability.noise`), so the first rows do not depend on n. All points
lie within about [-3, 3].
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pushforward.data.shapes import shapes
from pushforward.probability import GaussianMixture, MarkovText, noise
from pushforward.probability.laws.boxes import UniformMixture

__all__ = [
    "BUILTIN",
    "BUILTIN_KINDS",
    "BUILTIN_LAWS",
    "BUILTIN_RATES",
    "BUILTIN_TEXT_LAWS",
    "checkerboard",
    "checkerboard_law",
    "digits",
    "eight_gaussians",
    "eight_gaussians_law",
    "markov_law",
    "markov_text",
    "moons",
    "moons_law",
    "rings",
    "rings_law",
    "swissroll",
    "swissroll_law",
    "tones",
]

Labelled = tuple[np.ndarray, np.ndarray | None]
Texts = tuple[list[str], None]

_ROWS = 10_000
_TONES, _TONE_LENGTH, _PITCHES = 2000, 256, (110.0, 130.81, 164.81)

BUILTIN_RATES = {"tones": 2000}
"""Samples per second of built-in sounds."""
_LETTERS = 200_000


def digits() -> Labelled:
    """Return scikit-learn's digits, uint8 ``(1797, 8, 8)`` with values 0 to 16, and their labels 0 to 9."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images.reshape(-1, 8, 8).astype(np.uint8), labels.astype(np.int64)


def moons(n: int = _ROWS, *, seed: int = 0, spread: float = 0.08) -> Labelled:
    """Return two interleaved half circles with Gaussian noise, and the index of the circle."""
    u, label = _uniform(n, seed, "moons")
    return _labelled(_half_circle(u[:, 0], label) + spread * _normal(n, seed, "moons"), label)


def moons_law(*, spread: float = 0.08) -> GaussianMixture:
    """Return the law of :func:`moons` (:func:`_law_along`)."""
    return _law_along(_by_label(_half_circle, [140, 140]), spread)


def _half_circle(u: Tensor, label: Tensor) -> Tensor:
    upper, angle = label == 0, math.pi * u
    x = torch.where(upper, angle.cos(), 1 - angle.cos())
    y = torch.where(upper, angle.sin(), 0.5 - angle.sin())
    return 1.5 * (torch.stack((x, y), 1) - torch.tensor([0.5, 0.25], dtype=torch.float64))


def swissroll(n: int = _ROWS, *, seed: int = 0, spread: float = 0.06) -> Labelled:
    """Return points on a spiral of one and a half turns with Gaussian noise; there are no classes."""
    u, _ = _uniform(n, seed, "swissroll")
    return _labelled(_roll(u[:, 0]) + spread * _normal(n, seed, "swissroll"), None)


def swissroll_law(*, spread: float = 0.06) -> GaussianMixture:
    """Return the law of :func:`swissroll` (:func:`_law_along`)."""
    return _law_along([(_roll, 700)], spread)


def _roll(u: Tensor) -> Tensor:
    angle = 1.5 * math.pi * (1 + 2 * u)
    return angle.unsqueeze(1) * torch.stack((angle.cos(), angle.sin()), 1) / 5


def checkerboard(n: int = _ROWS, *, seed: int = 0) -> Labelled:
    """Return points uniform on the eight dark squares of a 4 by 4 board on [-2, 2]²; there are no classes."""
    u, _ = _uniform(n, seed, "checkerboard")
    across, up = 4 * u[:, 0], 2 * u[:, 1]
    row = up + up.floor() + across.floor() % 2
    return _labelled(torch.stack((across, row), 1) - 2, None)


def checkerboard_law() -> UniformMixture:
    """Return the law of :func:`checkerboard`."""
    corners = torch.cartesian_prod(torch.arange(4), torch.arange(4))
    low = corners[corners.sum(1) % 2 == 0].double() - 2
    return UniformMixture([1 / 8] * 8, low, low + 1)


def rings(n: int = _ROWS, *, seed: int = 0, spread: float = 0.06) -> Labelled:
    """Return four concentric rings of equal weight with Gaussian noise, and the index of the ring from the inside."""
    u, label = _uniform(n, seed, "rings", classes=4)
    return _labelled(_ring(u[:, 0], label) + spread * _normal(n, seed, "rings"), label)


def rings_law(*, spread: float = 0.06) -> GaussianMixture:
    """Return the law of :func:`rings` (:func:`_law_along`)."""
    return _law_along(_by_label(_ring, [80, 160, 240, 320]), spread, closed=True)


def _ring(u: Tensor, label: Tensor) -> Tensor:
    angle = 2 * math.pi * u
    return 0.65 * (label + 1).unsqueeze(1) * torch.stack((angle.cos(), angle.sin()), 1)


def eight_gaussians(n: int = _ROWS, *, seed: int = 0, spread: float = 0.2) -> Labelled:
    """Return eight Gaussians of equal weight on a circle of radius 2, and the index of the Gaussian, counterclockwise."""
    _, label = _uniform(n, seed, "eight-gaussians", classes=8)
    angle = 2 * math.pi * label / 8
    points = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    return _labelled(points + spread * _normal(n, seed, "eight-gaussians"), label)


def eight_gaussians_law(*, spread: float = 0.2) -> GaussianMixture:
    """Return the law of :func:`eight_gaussians`."""
    angle = torch.arange(8, dtype=torch.float64) * (2 * math.pi / 8)
    return GaussianMixture([1 / 8] * 8, 2 * torch.stack((angle.cos(), angle.sin()), 1), covs=[spread**2] * 8)


def tones(n: int = _TONES, *, seed: int = 0) -> Labelled:
    """Return harmonic tones (n, 256) at 2,000 samples per second, and the note of each: "A", "C" or "E".

    With pitch f = f_note 2^(v / 12), v uniform on [-1/2, 1/2] semitones, f_note = 110, 130.81 and 164.81 Hz, time t in seconds,
    phases uniform, and loudness and decay with s_1 and s_2 standard normal,

        x(t) = 0.3 e^(0.3 s_1) e^(-8 e^(0.3 s_2) t) sum over h = 1, 2, 3 of sin(2 pi h f t + phase_h) / h.
    """
    u = noise.uniform((5,), seed=seed, purpose="data/tones/uniform", rows=n, dtype=torch.float64)
    s = noise.normal((2,), seed=seed, purpose="data/tones/normal", rows=n, dtype=torch.float64)
    note = (3 * u[:, 0]).long()
    pitch = torch.tensor(_PITCHES, dtype=torch.float64)[note] * 2 ** ((u[:, 1] - 0.5) / 12)
    t = torch.arange(_TONE_LENGTH, dtype=torch.float64) / BUILTIN_RATES["tones"]
    harmonics = torch.arange(1, 4, dtype=torch.float64)[:, None]
    waves = (2 * math.pi * (harmonics * pitch[:, None, None] * t + u[:, 2:, None])).sin() / harmonics
    envelope = 0.3 * (0.3 * s[:, :1]).exp() * (-8 * (0.3 * s[:, 1:]).exp() * t).exp()
    return (envelope * waves.sum(1)).float().numpy(), np.array(["A", "C", "E"])[note.numpy()]


def markov_law() -> MarkovText:
    """Return the law of :func:`markov_text`: a Markov chain of order 4, from the counts of a page of prose."""
    return MarkovText(Path(__file__).with_name("markov.txt").read_text(encoding="utf-8").replace("\n", " "))


def markov_text(n: int = _LETTERS, *, seed: int = 0) -> Texts:
    """Return a text of n letters of the law :func:`markov_law`, whose entropy rate is 1.645 bits per letter."""
    return [markov_law().sample(n, seed=seed)], None


BUILTIN: dict[str, Callable[[], Labelled | Texts]] = {
    "digits": digits,
    "moons": moons,
    "swissroll": swissroll,
    "checkerboard": checkerboard,
    "rings": rings,
    "eight-gaussians": eight_gaussians,
    "shapes": shapes,
    "tones": tones,
    "markov-text": markov_text,
}

BUILTIN_LAWS: dict[str, Callable[[], GaussianMixture | UniformMixture]] = {
    "moons": moons_law,
    "swissroll": swissroll_law,
    "checkerboard": checkerboard_law,
    "rings": rings_law,
    "eight-gaussians": eight_gaussians_law,
}
"""Laws of built-in points, which are known exactly."""

BUILTIN_TEXT_LAWS: dict[str, Callable[[], MarkovText]] = {"markov-text": markov_law}
"""Laws of built-in texts, which are known exactly."""

BUILTIN_KINDS = {"shapes": "sets", "tones": "signals"}
"""Kinds of the data sets whose arrays are ambiguous."""


def _uniform(n: int, seed: int, name: str, classes: int = 2) -> tuple[Tensor, Tensor]:
    """Return u ``(n, 2)`` on [0, 1)² and a class ``(n,)``."""
    u = noise.uniform((3,), seed=seed, purpose=f"data/{name}/uniform", rows=n, dtype=torch.float64)
    return u[:, :2], (classes * u[:, 2]).long()


def _normal(n: int, seed: int, name: str) -> Tensor:
    return noise.normal((2,), seed=seed, purpose=f"data/{name}/normal", rows=n, dtype=torch.float64)


def _labelled(points: Tensor, label: Tensor | None) -> Labelled:
    return points.float().numpy(), None if label is None else label.numpy()


def _by_label(curve: Callable[[Tensor, Tensor], Tensor], nodes: Sequence[int]) -> list[tuple[Callable[[Tensor], Tensor], int]]:
    """Return the curve of each label with its number of nodes."""

    def of(label: int) -> Callable[[Tensor], Tensor]:
        return lambda u: curve(u, torch.full_like(u, label))

    return [(of(label), count) for label, count in enumerate(nodes)]


def _law_along(
    curves: Sequence[tuple[Callable[[Tensor], Tensor], int]], spread: float, *, closed: bool = False
) -> GaussianMixture:
    """Return the law of c(u) + spread eps, with one of the curves c drawn evenly and u uniform on [0, 1].

    Its density is the mean over u of N(x; c(u), spread^2 I). Quadrature with as many nodes as stand beside each curve, closer
    together than the spread, gives it to ten digits: Gauss-Legendre, or equal steps around a closed curve.
    """
    means, shares = [], []
    for curve, nodes in curves:
        at, weights = (
            np.polynomial.legendre.leggauss(nodes) if not closed else (np.linspace(-1, 1, nodes + 1)[1:], np.ones(nodes))
        )
        means.append(curve(torch.from_numpy((at + 1) / 2)))
        shares.append(torch.from_numpy(weights / weights.sum() / len(curves)))
    return GaussianMixture(torch.cat(shares), torch.cat(means), [spread**2] * sum(map(len, shares)))
