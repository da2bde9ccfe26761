"""Laws with known denoisers, on which samplers are measured and the default sampler was fitted."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pushforward.diffusion.samplers.benchmark import benchmark_law
from pushforward.probability import GaussianMixture

# Number and seed of the noises on which samplers are compared. Of the noises of spikes a few lie between two of them, and
# whether these end in the right one decides on the error: there it takes thousands.
LAWS = {
    "digits": (128, 0),
    "photos": (128, 11),
    "broad": (512, 0),
    "mnist": (48, 0),
    "mnist40": (128, 0),
    "cifar": (96, 0),
    "ring": (8192, 11),
    "uneven": (4096, 11),
    "spiky": (8192, 11),
    "spiky32": (4096, 11),
}


def normal(count: int, dim: int, seed: int) -> Tensor:
    """Return standard normal noise from torch's own stream."""
    return torch.randn(count, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def law(name: str, data: Path = Path()) -> GaussianMixture:
    """Return a law of ``LAWS``.

    ``digits``, ``photos``, ``broad`` and ``spiky`` are those of the library; ``ring`` is eight narrow spikes on a circle,
    ``spiky32`` eight in 32 dimensions, ``uneven`` five of unlike width and weight in three. ``mnist`` is fitted to images
    of 14 x 14 pixels, ``mnist40`` to their first 40 principal components, ``cifar`` to patches of 6 x 6 pixels: they read
    mnist_train.parquet and cifar10_train.parquet in the folder ``data``, one image a row.
    """
    if name in ("digits", "photos", "broad", "spiky"):
        return benchmark_law(name)
    if name == "ring":
        turns = np.arange(8) * np.pi / 4
        return GaussianMixture(np.full(8, 1 / 8), 1.4 * np.stack((np.cos(turns), np.sin(turns)), 1), np.full(8, 4e-4))
    if name == "spiky32":
        return GaussianMixture(np.full(8, 1 / 8), np.random.default_rng(9).normal(size=(8, 32)), np.full(8, 3e-3))
    if name == "uneven":
        means = np.random.default_rng(5).normal(size=(5, 3))
        return GaussianMixture([0.4, 0.25, 0.2, 0.1, 0.05], means / means.std(), [1e-4, 1e-3, 1e-2, 4e-4, 3e-3])
    if name == "cifar":
        whole = _images(data / "cifar10_train.parquet", 3000)
        patches = np.concatenate([whole[:, i : i + 6, j : j + 6].reshape(len(whole), -1) for i, j in ((3, 3), (18, 10))])
        return _fitted((patches - patches.mean()) / patches.std(), 12, "full", 1e-3)
    if name not in LAWS:
        raise ValueError(f"there is no law {name!r}; use one of {', '.join(LAWS)}")
    whole = _images(data / "mnist_train.parquet", 6000)
    small = whole.reshape(-1, 14, 2, 14, 2).mean((2, 4)).reshape(-1, 196) / 127.5 - 1
    if name == "mnist":
        return _fitted(small, 30, "diag", 2e-3)
    centred = small - small.mean(0)
    codes = centred @ np.linalg.svd(centred, full_matrices=False)[2][:40].T
    return _fitted(codes / codes.std(), 20, "full", 1e-3)


def _fitted(x: np.ndarray, count: int, kind: str, least: float) -> GaussianMixture:
    from sklearn.mixture import GaussianMixture as Fit

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of not having converged: any mixture is a law
        fit = Fit(count, covariance_type=kind, reg_covar=least, random_state=0, max_iter=60).fit(x)
    return GaussianMixture(fit.weights_ / fit.weights_.sum(), fit.means_, fit.covariances_)


def _images(path: Path, count: int) -> np.ndarray:
    import pyarrow.parquet as parquet
    from PIL import Image

    table = parquet.read_table(path).slice(0, count)
    name = next(column for column in table.column_names if "im" in column)
    cells = (cell["bytes"] if isinstance(cell, dict) else cell for cell in table[name].to_pylist())
    return np.stack([np.asarray(Image.open(io.BytesIO(cell))) for cell in cells]).astype(float)
