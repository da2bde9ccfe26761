"""Feature spaces in which laws are compared. They have names, so that figures of different spaces are never mixed.

Rows are vectors (n, D), or images (n, channels, H, W) or (n, H, W), in data units. The name of a space that was fitted or that
has weights ends in a checksum of these numbers: equal names are equal spaces. Nothing is downloaded. Pretrained networks are in
:mod:`~pushforward.evaluation.pretrained_features`.

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
from pushforward.training.process.generators import fresh_module

__all__ = [
    "ClassifierFeatures",
    "FeatureSpace",
    "PrincipalComponents",
    "RandomConvolutions",
    "Raw",
    "Standardized",
    "default_features",
]

_Float = NDArray[np.float32]
_ROWS_AT_ONCE = 512
_TRAINING = TrainingSettings(steps=600, batch_size=128, learning_rate=2e-3, weight_decay=0.01, ema=0.1)


class FeatureSpace(Protocol):
    """A named map from rows to the space in which they are compared."""

    @property
    def name(self) -> str:
        """Name of the space, with a checksum of numbers that were fitted or drawn."""
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
    """Columns minus their mean, divided by their standard deviation; constant columns are not divided.

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
        """Fit mean and standard deviation to rows (n, ...)."""
        flat = as_rows(rows, least=2).astype(np.float64)
        scale = flat.std(axis=0)
        return cls(flat.mean(axis=0), np.where(scale > 0, scale, 1.0))

    def __call__(self, rows: Any, /) -> _Float:
        """Return scaled rows (n, D)."""
        flat = _of_width(rows, len(self.mean))
        return ((flat - self.mean) / self.scale).astype(np.float32)


class PrincipalComponents:
    """The coordinates of rows along the directions in which the fitted rows vary most.

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
        """Fit the ``count`` largest components to rows (n, ...), fewer if the rows vary in fewer directions."""
        if count < 1:
            raise ValueError(f"count must be at least 1, but is {count}")
        flat = as_rows(rows, least=2).astype(np.float64)
        mean = flat.mean(axis=0)
        values, vectors = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
        rank = int((values > 1e-12 * max(values[-1], 1e-300)).sum())
        if not rank:
            raise ValueError("all rows are equal, so they have no principal components")
        directions = vectors[:, ::-1][:, : min(count, rank)]
        # The largest entry of a direction is made positive, so that equal rows give equal features.
        largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
        return cls(mean, directions * np.sign(largest))

    def __call__(self, rows: Any, /) -> _Float:
        """Return the coordinates (n, F)."""
        return ((_of_width(rows, len(self.mean)) - self.mean) @ self.directions).astype(np.float32)


class RandomConvolutions:
    """Means of random convolutions of an image at three scales, 112 numbers: textures, edges and their rough positions.

    The weights are drawn by an integer generator and so are the same on every machine. As the filters have no biases, the
    features are in the units of the rows, and most follow the brightness of the image. :meth:`fit` gives all of them the same
    spread, which separates blurred, noisy and mixed images from real ones far better.

    Parameters
    ----------
    shape : tuple of int
        (channels, H, W) or (H, W).
    seed : int
    center, spread : array (112,), optional
        Features are returned minus ``center``, divided by ``spread``.

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
        digits = checksum(*self.filters, self.center, self.spread)
        self.name = f"random convolutions of {'x'.join(map(str, self.shape))} ({digits})"

    @classmethod
    def fit(cls, rows: Any, seed: int = 0) -> "RandomConvolutions":
        """Fit center and spread to the features of images (n, H, W) or (n, channels, H, W)."""
        shape = np.shape(rows)[1:]
        features = cls(shape, seed)(rows).astype(np.float64)
        spread = features.std(axis=0)
        spread[spread <= 1e-6 * np.abs(features).max()] = 0.0  # constant but for rounding
        # A filter that responds to hardly any of these rows would dominate all others on a fresh row that it responds to.
        spread = np.maximum(spread, 0.25 * np.median(spread))
        return cls(shape, seed, center=features.mean(axis=0), spread=np.where(spread > 0, spread, 1.0))

    def __call__(self, rows: Any, /) -> _Float:
        """Return features (n, 112) of images."""
        images = torch.from_numpy(as_rows(rows).astype(np.float32, copy=False)).reshape(_checked(rows, self.shape))
        features = np.concatenate([self._of(part) for part in torch.split(images, _ROWS_AT_ONCE)])
        return (features - self.center) / self.spread

    @torch.no_grad()
    def _of(self, x: Tensor) -> _Float:
        means = []
        for depth, weight in enumerate(self.filters):
            x = nn.functional.conv2d(x, weight, padding=1).relu()
            cells = 2 if depth == len(self.filters) - 1 else 1
            means.append(nn.functional.adaptive_avg_pool2d(x, cells).flatten(1))
            if min(x.shape[2:]) >= 4:
                x = nn.functional.avg_pool2d(x, 2)
        return torch.cat(means, 1).numpy()


class ClassifierFeatures:
    """The last hidden layer of a small classifier of labelled rows, 64 numbers: what distinguishes the classes.

    Parameters
    ----------
    network : nn.Module
        Of scaled rows; its last layer gives the logits.
    center, scale : array ()
        Rows are scaled to (rows - center) / scale; numbers, or arrays of the shape of a row.
    shape : tuple of int
        Of a row.
    classes : array (K,)
        The labels, in the order of the logits.
    accuracy : float
        Share of right answers on the tenth of the rows that was held out from training. If it is low, the space means little.

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
            At least two classes, with two rows or more on average.
        seed : int
            Of the initial weights, the order of the rows and the rows that are held out.
        training : TrainingSettings

        Raises
        ------
        ValueError
            If the labels do not fit the rows or are not classes, or there are fewer than 10 rows.
        """
        flat = as_rows(rows, least=10)
        shape = _row_shape(rows)
        classes, index = np.unique(np.asarray(labels), return_inverse=True)
        if np.shape(labels) != (len(flat),):
            raise ValueError(f"labels must have the shape ({len(flat)},), one for each row, but have {np.shape(labels)}")
        if not 2 <= len(classes) <= len(flat) / 2:
            raise ValueError(
                "labels must be of at least 2 classes, with 2 rows or more on average, "
                f"but {len(flat)} labels are of {len(classes)} classes"
            )
        x = torch.from_numpy(flat.astype(np.float32)).reshape(-1, *shape)
        center, scale = (x.mean(), x.std()) if len(shape) == 3 else (x.mean(0), x.std(0))
        scale = torch.where(scale > 0, scale, 1.0)
        x, targets = (x - center) / scale, nn.functional.one_hot(torch.from_numpy(index), len(classes)).float()
        order = noise.permutation(len(x), seed=seed, purpose="features held-out")
        aside, used = order[: len(x) // 10], order[len(x) // 10 :]
        task = _LabelTask(fresh_module(lambda: _network(shape, len(classes)), seed))
        train(task, x[used], targets[used], held_out=(x[aside], targets[aside]), settings=training, seed=seed, device="cpu")
        features = cls(task.network, center, scale, shape, classes, 0.0)
        with torch.no_grad():
            features.accuracy = float((task.network(x[aside]).argmax(1) == targets[aside].argmax(1)).float().mean())
        return features

    def __call__(self, rows: Any, /) -> _Float:
        """Return features (n, 64)."""
        return self._apply(self.network[:-1], rows).numpy()

    def predict(self, rows: Any) -> NDArray[Any]:
        """Return the most probable label of each row, (n,)."""
        labels: NDArray[Any] = self.classes[self._apply(self.network, rows).argmax(1).numpy()]
        return labels

    @torch.no_grad()
    def _apply(self, network: nn.Module, rows: Any) -> Tensor:
        x = torch.from_numpy(as_rows(rows).astype(np.float32, copy=False)).reshape(_checked(rows, self.shape))
        return torch.cat([network((part - self.center) / self.scale) for part in torch.split(x, _ROWS_AT_ONCE)])


class _LabelTask(Task):
    """Cross-entropy of a classifier in nats; the condition of a batch is the label one-hot."""

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


def default_features(rows: Any, labels: Any = None, *, seed: int = 0) -> tuple[FeatureSpace, ...]:
    """Return the feature spaces that suit rows (n, ...): one, and with labels also that of a classifier.

    Vectors are compared as standardized columns, images by random convolutions.

    >>> [features.name for features in default_features([[0.0], [2.0], [4.0]])]
    ['standardized columns (...)']
    """
    shape = _row_shape(rows)
    first: FeatureSpace = Standardized.fit(rows) if len(shape) == 1 else RandomConvolutions.fit(rows)
    return (first,) if labels is None else (first, ClassifierFeatures.fit(rows, labels, seed))


def checksum(*arrays: Any) -> str:
    """Return eight hexadecimal digits that identify these numbers.

    >>> checksum(np.zeros(3)) == checksum(np.zeros(4))
    False
    """
    digest = hashlib.sha256()
    for array in arrays:
        numbers = np.ascontiguousarray(np.asarray(array))
        digest.update(f"{numbers.dtype.str}{numbers.shape}".encode() + numbers.tobytes())
    return digest.hexdigest()[:8]


def _row_shape(rows: Any) -> tuple[int, ...]:
    shape = tuple(np.shape(rows)[1:])
    if len(shape) not in (1, 2, 3):
        raise ValueError(f"rows must be vectors (n, D) or images (n, H, W) or (n, channels, H, W), but have {np.shape(rows)}")
    return (1, *shape) if len(shape) == 2 else shape


def _checked(rows: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
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
    # Larger images are halved in the first layer, which at full size would cost more than all others together.
    stride = 2 if min(shape[1:]) >= 16 else 1
    body = [nn.Conv2d(shape[0], 32, 3, padding=1, stride=stride), nn.SiLU()]
    body += [nn.Conv2d(32, 64, 3, padding=1, stride=2), nn.SiLU(), nn.Conv2d(64, 64, 3, padding=1, stride=2), nn.SiLU()]
    body += [nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(256, 64), nn.SiLU()]
    return nn.Sequential(*body, nn.Linear(64, classes))
