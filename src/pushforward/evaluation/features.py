"""Spaces of features in which laws are compared: named, so that figures from unlike spaces are never set side by side.

Rows are vectors (n, D), or images (n, channels, H, W) or (n, H, W), in data units. A space that was fitted or that has
weights carries a checksum of them in its name: equal names are equal spaces. Nothing here is downloaded. Networks that others
trained are in :mod:`~pushforward.evaluation.pretrained_features`.

References
----------
Martin Heusel, Hubert Ramsauer, Thomas Unterthiner, Bernhard Nessler, Sepp Hochreiter. GANs trained by a two time-scale update
rule converge to a local Nash equilibrium. 2017. https://arxiv.org/abs/1706.08500
Muhammad Ferjad Naeem, Seong Joon Oh, Youngjung Uh, Yunjey Choi, Jaejun Yoo. Reliable fidelity and diversity metrics for
generative models. 2020 (random weights as an extractor). https://arxiv.org/abs/2002.09797
"""

import hashlib
import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pushforward.metrics.arrays import as_rows
from pushforward.probability import noise
from pushforward.training import Batch, Task, TrainingSettings, train
from pushforward.training.generators import fresh_module

__all__ = [
    "ClassifierFeatures",
    "Features",
    "PrincipalComponents",
    "RandomConvolutions",
    "Raw",
    "Standardized",
    "default_features",
]

_Float = NDArray[np.float32]
_ROWS_AT_ONCE = 512
_TRAINING = TrainingSettings(steps=600, batch_size=128, learning_rate=2e-3, weight_decay=0.01, ema=0.1)


class Features(Protocol):
    """What maps rows to the space in which they are compared."""

    @property
    def name(self) -> str:
        """The space, with a checksum where there are numbers that were fitted or drawn."""
        ...

    def __call__(self, rows: Any, /) -> _Float:
        """Return features (n, F) of rows (n, ...)."""
        ...


@dataclass(frozen=True)
class Raw:
    """The rows themselves, flattened.

    >>> Raw()(np.zeros((3, 8, 8))).shape, Raw().name
    ((3, 64), 'rows')
    """

    name: str = "rows"

    def __call__(self, rows: Any, /) -> _Float:
        """Return rows (n, D)."""
        return as_rows(rows).astype(np.float32, copy=False)


class Standardized:
    """Columns less their mean over their standard deviation; constant columns are left at their distance from the constant.

    Parameters
    ----------
    mean, scale : array (D,)

    >>> Standardized.fit([[0.0, 1.0], [2.0, 5.0]])([[1.0, 7.0]]).tolist()
    [[0.0, 2.0]]
    """

    def __init__(self, mean: Any, scale: Any) -> None:
        self.mean, self.scale = np.asarray(mean, dtype=np.float64), np.asarray(scale, dtype=np.float64)
        self.name = f"standardized columns ({checksum(self.mean, self.scale)})"

    @classmethod
    def fit(cls, rows: Any) -> "Standardized":
        """Take mean and standard deviation of rows (n, ...)."""
        flat = as_rows(rows, least=2).astype(np.float64)
        scale = flat.std(axis=0)
        return cls(flat.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def __call__(self, rows: Any, /) -> _Float:
        """Return scaled rows (n, D)."""
        flat = _of_width(rows, len(self.mean))
        return ((flat - self.mean) / self.scale).astype(np.float32)


class PrincipalComponents:
    """The rows seen along the directions in which the fitted rows vary most.

    Parameters
    ----------
    mean : array (D,)
    directions : array (D, F)
        Orthonormal.

    >>> PrincipalComponents.fit([[0.0, 0.0], [2.0, 2.0]], count=1)([[2.0, 2.0]]).round(3)
    array([[1.414]], dtype=float32)
    """

    def __init__(self, mean: Any, directions: Any) -> None:
        self.mean, self.directions = np.asarray(mean, dtype=np.float64), np.asarray(directions, dtype=np.float64)
        self.name = f"{self.directions.shape[1]} principal components ({checksum(self.mean, self.directions)})"

    @classmethod
    def fit(cls, rows: Any, count: int = 64) -> "PrincipalComponents":
        """Take the ``count`` largest components of rows (n, ...), or as many as have any variance."""
        if count < 1:
            raise ValueError(f"count must be at least 1, but is {count}")
        flat = as_rows(rows, least=2).astype(np.float64)
        mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        kept = int((values > 1e-12 * max(values[-1], 1e-300)).sum())
        if not kept:
            raise ValueError("all rows are equal, so they have no principal components")
        directions = vectors[:, ::-1][:, : min(count, kept)]
        # The largest entry of a direction is positive, so that equal rows give equal features.
        largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
        return cls(mean, directions * np.sign(largest))

    def __call__(self, rows: Any, /) -> _Float:
        """Return the coordinates (n, F)."""
        return ((_of_width(rows, len(self.mean)) - self.mean) @ self.directions).astype(np.float32)


class RandomConvolutions:
    """Means over an image of what random filters find at three scales: textures, edges and their rough places, 112 numbers.

    The weights are drawn by an integer generator and so are the same everywhere. As the filters have no biases, the features
    are in the units of the rows, and most follow the brightness of the image; :meth:`fit` gives all of them the same spread,
    which tells blurred, noisy and mixed-up images from real ones far better.

    Parameters
    ----------
    shape : tuple of int
        (channels, H, W) or (H, W).
    seed : int
    center, spread : array (112,), optional
        Features are returned less ``center``, over ``spread``.

    >>> features = RandomConvolutions((8, 8))
    >>> features(np.zeros((3, 8, 8))).shape, features.name
    ((3, 112), 'random convolutions of 1x8x8 (a7a9e991)')
    """

    _CHANNELS = (16, 32, 16)

    def __init__(self, shape: tuple[int, ...], seed: int = 0, *, center: Any = 0.0, spread: Any = 1.0) -> None:
        if len(shape) not in (2, 3) or min(shape) < 1:
            raise ValueError(f"shape must be (channels, H, W) or (H, W) of an image, but is {tuple(shape)}")
        self.shape = (1, *shape) if len(shape) == 2 else tuple(shape)
        self.center, self.spread = np.asarray(center, dtype=np.float32), np.asarray(spread, dtype=np.float32)
        self.filters = []
        for depth, (before, after) in enumerate(zip((self.shape[0], *self._CHANNELS), self._CHANNELS, strict=False)):
            u = noise.uniform((before, 3, 3), seed=seed, purpose="random convolutions", rows=after, step=depth)
            self.filters.append((2 * u - 1) * math.sqrt(6 / (9 * before)))
        found = checksum(*self.filters, self.center, self.spread)
        self.name = f"random convolutions of {'x'.join(map(str, self.shape))} ({found})"

    @classmethod
    def fit(cls, rows: Any, seed: int = 0) -> "RandomConvolutions":
        """Take center and spread of the features of images (n, H, W) or (n, channels, H, W)."""
        shape = np.shape(rows)[1:]
        found = cls(shape, seed)(rows).astype(np.float64)
        spread = found.std(axis=0)
        spread[spread <= 1e-6 * np.abs(found).max()] = 0.0  # constant but for rounding
        # A filter that hardly any of these rows wakes would outshout all others on the first fresh row that wakes it.
        spread = np.maximum(spread, 0.25 * np.median(spread))
        return cls(shape, seed, center=found.mean(axis=0), spread=np.where(spread > 0, spread, 1.0))

    def __call__(self, rows: Any, /) -> _Float:
        """Return features (n, 112) of images."""
        images = torch.from_numpy(as_rows(rows).astype(np.float32, copy=False)).reshape(_checked(rows, self.shape))
        found = np.concatenate([self._of(part) for part in torch.split(images, _ROWS_AT_ONCE)])
        return (found - self.center) / self.spread

    @torch.no_grad()
    def _of(self, x: Tensor) -> _Float:
        found = []
        for depth, weight in enumerate(self.filters):
            x = nn.functional.conv2d(x, weight, padding=1).relu()
            cells = 2 if depth == len(self.filters) - 1 else 1
            found.append(nn.functional.adaptive_avg_pool2d(x, cells).flatten(1))
            if min(x.shape[2:]) >= 4:
                x = nn.functional.avg_pool2d(x, 2)
        return torch.cat(found, 1).numpy()


class ClassifierFeatures:
    """The last hidden layer of a small classifier of labelled rows: what matters for telling the classes apart, 64 numbers.

    Parameters
    ----------
    network : nn.Module
        Of scaled rows; its last layer makes the logits.
    center, scale : array ()
        Rows are taken to (rows - center) / scale, numbers or arrays of the shape of a row.
    shape : tuple of int
        Of a row.
    classes : array (K,)
        The labels, in the order of the logits.
    accuracy : float
        Share of right answers on the tenth of the rows that was kept from training. A space whose classifier has not learned
        means little.

    >>> rows = np.random.default_rng(0).normal(size=(200, 2)) + np.repeat([[0.0], [4.0]], 100, axis=0)
    >>> features = ClassifierFeatures.fit(rows, np.repeat([0, 1], 100), training=TrainingSettings(steps=30))
    >>> features(rows).shape, features.accuracy > 0.9, features.predict([[0.0, 0.0], [4.0, 4.0]])
    ((200, 64), True, array([0, 1]))
    """

    def __init__(
        self,
        network: nn.Sequential,
        center: Tensor,
        scale: Tensor,
        shape: tuple[int, ...],
        classes: NDArray[Any],
        accuracy: float,
    ) -> None:
        self.network, self.center, self.scale, self.shape = network.eval(), center, scale, shape
        self.classes, self.accuracy = classes, accuracy
        self.name = f"classifier's last layer ({checksum(center, scale, *network.state_dict().values())})"

    @classmethod
    def fit(cls, rows: Any, labels: Any, seed: int = 0, *, training: TrainingSettings = _TRAINING) -> "ClassifierFeatures":
        """Train the classifier: convolutions for images, a perceptron for vectors.

        Parameters
        ----------
        rows : array (n, D), (n, H, W) or (n, channels, H, W)
        labels : array (n,)
            At least two kinds, each with two rows or more on average.

        Raises
        ------
        ValueError
            If the labels do not fit the rows or are no classes.
        """
        flat = as_rows(rows, least=10)
        shape = _row_shape(rows)
        classes, index = np.unique(np.asarray(labels), return_inverse=True)
        if np.shape(labels) != (len(flat),):
            raise ValueError(f"labels must have the shape ({len(flat)},), one for each row, but have {np.shape(labels)}")
        if not 2 <= len(classes) <= len(flat) / 2:
            raise ValueError(
                "labels must be of at least 2 kinds, with 2 rows or more on average, "
                f"but of {len(flat)} there are {len(classes)} kinds"
            )
        x = torch.from_numpy(flat.astype(np.float32)).reshape(-1, *shape)
        center, scale = (x.mean(), x.std()) if len(shape) == 3 else (x.mean(0), x.std(0))
        scale = torch.where(scale > 0, scale, 1.0)
        x, targets = (x - center) / scale, nn.functional.one_hot(torch.from_numpy(index), len(classes)).float()
        order = noise.permutation(len(x), seed=seed, purpose="features held-out")
        aside, used = order[: len(x) // 10], order[len(x) // 10 :]
        task = _LabelTask(fresh_module(lambda: _network(shape, len(classes)), seed))
        train(task, x[used], targets[used], held_out=(x[aside], targets[aside]), settings=training, seed=seed, device="cpu")
        found = cls(task.network, center, scale, shape, classes, 0.0)
        with torch.no_grad():
            found.accuracy = float((task.network(x[aside]).argmax(1) == targets[aside].argmax(1)).float().mean())
        return found

    def __call__(self, rows: Any, /) -> _Float:
        """Return features (n, 64)."""
        return self._through(self.network[:-1], rows).numpy()

    def predict(self, rows: Any) -> NDArray[Any]:
        """Return the likeliest label of each row, (n,)."""
        answer: NDArray[Any] = self.classes[self._through(self.network, rows).argmax(1).numpy()]
        return answer

    @torch.no_grad()
    def _through(self, network: nn.Module, rows: Any) -> Tensor:
        x = torch.from_numpy(as_rows(rows).astype(np.float32, copy=False)).reshape(_checked(rows, self.shape))
        return torch.cat([network((part - self.center) / self.scale) for part in torch.split(x, _ROWS_AT_ONCE)])


class _LabelTask(Task):
    """Cross-entropy of a classifier in nats; the condition of a batch is the label as an indicator."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        return ()

    def forward(self, batch: Batch) -> Tensor:
        assert batch.condition is not None
        logits: Tensor = self.network(batch.x)
        return -(logits.log_softmax(1) * batch.condition).sum(1)

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self(batch), None


def default_features(rows: Any, labels: Any = None, *, seed: int = 0) -> tuple[Features, ...]:
    """Return the spaces that suit rows (n, ...): at least one, and that of a classifier as well if there are labels.

    Vectors are compared as standardized columns, images by random convolutions.

    >>> [features.name for features in default_features([[0.0], [2.0], [4.0]])]
    ['standardized columns (...)']
    """
    shape = _row_shape(rows)
    first: Features = Standardized.fit(rows) if len(shape) == 1 else RandomConvolutions.fit(rows)
    return (first,) if labels is None else (first, ClassifierFeatures.fit(rows, labels, seed))


def checksum(*arrays: Any) -> str:
    """Return eight hexadecimal digits that name these numbers.

    >>> checksum(np.zeros(3)) == checksum(np.zeros(4))
    False
    """
    digest = hashlib.sha256()
    for array in arrays:
        numbers = np.ascontiguousarray(np.asarray(array))
        digest.update(f"{numbers.dtype.str}{numbers.shape}".encode() + numbers.tobytes())
    return digest.hexdigest()[:8]


def _row_shape(rows: Any) -> tuple[int, ...]:
    """Shape of one row as networks see it: (D,) or (channels, H, W)."""
    shape = tuple(np.shape(rows)[1:])
    if len(shape) not in (1, 2, 3):
        raise ValueError(f"rows must be vectors (n, D) or images (n, H, W) or (n, channels, H, W), but have {np.shape(rows)}")
    return (1, *shape) if len(shape) == 2 else shape


def _checked(rows: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return (n, *shape) if these rows have that shape."""
    if _row_shape(rows) != shape:
        raise ValueError(f"rows must have the shape (n, {', '.join(map(str, shape))}) of this space, but have {np.shape(rows)}")
    return (len(rows), *shape)


def _of_width(rows: Any, width: int) -> NDArray[Any]:
    flat = as_rows(rows)
    if flat.shape[1] != width:
        raise ValueError(f"rows must have {width} columns as in this space, but have {flat.shape[1]}")
    return flat


def _network(shape: tuple[int, ...], classes: int) -> nn.Sequential:
    if len(shape) == 1:
        body = [nn.Linear(shape[0], 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU()]
        return nn.Sequential(*body, nn.Linear(64, classes))
    # Larger images are halved at once: the first layer at full size would cost more than all others.
    stride = 2 if min(shape[1:]) >= 16 else 1
    body = [nn.Conv2d(shape[0], 32, 3, padding=1, stride=stride), nn.SiLU()]
    body += [nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.SiLU()]
    body += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.SiLU()]
    return nn.Sequential(*body, nn.Linear(64, classes))
