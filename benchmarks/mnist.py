"""Train on MNIST for a few minutes with the default recipe for images, and measure what came out.

    python benchmarks/mnist.py mnist_train.parquet mnist_test.parquet --max-time 4m --out runs/mnist

The files hold PNG images in a column ``image`` and labels in ``label``. Reported: images per second of training, seconds
per 1,000 samples at 20 network calls (20 unguided steps, or 10 guided ones, which call the network twice), the Fréchet
distance between samples and test images in the features of a small classifier trained here, beside its floor (as many
other test images against the same ones), and how often that classifier sees the class that was asked for. Look at
``samples.png`` in the run folder and at the grids beside it.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

import pushforward as pf
from pushforward import plots
from pushforward.cli.train import seconds_of
from pushforward.models import GenerativeModel


class Judge(nn.Module):
    """A small classifier whose last hidden layer is the feature space."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(64 * 49, 64),
        )
        self.last = nn.Sequential(nn.ReLU(), nn.Linear(64, 10))

    @classmethod
    def trained(cls, images: Tensor, labels: Tensor, epochs: int = 3) -> "Judge":
        torch.manual_seed(0)
        judge = cls()
        steps = epochs * (len(images) // 128)
        optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3)
        rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
        for rows in order[: steps * 128].view(steps, 128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(judge(images[rows]), labels[rows]).backward()
            optimizer.step()
            rate.step()
        return judge.eval()

    def forward(self, images: Tensor) -> Tensor:
        return self.last(self.features(images))

    @torch.no_grad()
    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return features (n, 64) and predicted labels (n,) of uint8 images (n, 28, 28)."""
        hidden = torch.cat([self.features(part) for part in _tensor(images).split(500)])
        return hidden.double().numpy(), self.last(hidden).argmax(1).numpy()


def _tensor(images: np.ndarray) -> Tensor:
    return torch.tensor(images).float().div(255)[:, None]


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features."""
    one, other = np.cov(a.T), np.cov(b.T)
    root = sqrtm(one)
    cross = np.sqrt(np.linalg.eigvalsh(root @ other @ root).clip(0)).sum()
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(one) + np.trace(other) - 2 * cross)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path)
    parser.add_argument("test", type=Path)
    parser.add_argument("--max-time", default="4m")
    parser.add_argument("--out", type=Path, default=Path("runs/mnist"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--network", default="", help="fields of UNetSpec to change, such as middle=0,width=64")
    parser.add_argument("--load", action="store_true", help="judge the finished run in --out instead of training")
    options = parser.parse_args()
    train, test = (pf.open_data(str(path)) for path in (options.train, options.test))
    model: GenerativeModel
    if options.load:
        model = pf.load(options.out)
    else:
        fields = {key: int(value) for key, value in (part.split("=") for part in options.network.split(",") if part)}
        network = pf.UNetSpec(**fields) if fields else None
        model = pf.FlowMatching(network=network, max_time=seconds_of(options.max_time), random_state=0, verbose=True)
        begin = time.perf_counter()
        model = pf.train(str(options.train), model, out=options.out)
        print(f"wall time of the whole call      {time.perf_counter() - begin:8.1f} s")
    result = model.training_result_
    print(f"parameters                       {result.parameters:8,d}")
    print(f"steps                            {result.steps:8,d}")
    print(f"training, images/s               {result.rows_per_second:8.0f}")
    print(f"held-out loss                    {result.held_out_loss:8.4f}")
    judge = Judge.trained(_tensor(train.values), torch.tensor(np.asarray(train.condition)).long())
    n = options.samples
    features, seen = judge.see(test.values)
    print(f"judge's accuracy on test         {(seen == np.asarray(test.condition)).mean():8.4f}")
    order = np.random.default_rng(0).permutation(len(features))
    features, others = features[order[n:]], features[order[:n]]
    print(f"Fréchet floor                    {frechet(others, features):8.3f}   ({n} test images to the other {len(features)})")
    labels = np.asarray(test.condition)[order[:n]]  # the classes of the images that make the floor
    for name, scale, steps in (
        ("unguided, 20 steps", 1.0, 20),
        ("guided 1.25, 10 steps", 1.25, 10),
        ("guided 1.5, 10 steps", 1.5, 10),
        ("guided 2, 10 steps", 2.0, 10),
    ):
        begin = time.perf_counter()
        samples = model.sample(n, condition=labels, guidance=scale, steps=steps, seed=0)
        seconds = (time.perf_counter() - begin) / n * 1000
        hidden, seen = judge.see(samples)
        print(
            f"{name:24s} Fréchet {frechet(hidden, features):7.3f}   class seen {(seen == labels).mean():.3f}   "
            f"{seconds:.1f} s per 1,000 samples"
        )
        shown = np.argsort(labels[:200], kind="stable")
        plots.save(plots.image_grid(samples[shown], columns=20), options.out / f"{name.split(',')[0].replace(' ', '-')}.png")


if __name__ == "__main__":
    main()
