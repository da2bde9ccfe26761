"""Quality of sounds and series after a given training time, by judges that were trained apart.

    python benchmarks/signals.py sounds digits_train.parquet digits_test.parquet
    python benchmarks/signals.py series stocks.csv

``sounds`` takes Parquet files of spoken words with a label. The model is the default of ``pushforward train``, or a run that
``--run`` names; 100 samples of each label are drawn. A convolutional classifier of log-mel spectrograms, trained on the same
training file, hears which word was said. Printed are the share of samples in which it hears the label asked for, the Fréchet
distance of its features to those of the test file, and the periodicity of voices: the mean over loud frames of the highest
normalized autocorrelation at the lags of 60 to 400 Hz. Each stands beside the figure of real sounds.

``series`` takes a table of numbers in the order of time and follows the protocol of TimeGAN: windows of 24 rows, columns scaled
to [0, 1], as many samples as windows, and a recurrent judge with 2,000 training steps, whose score is |accuracy - 1/2| on a
fifth of both. The mean and the standard deviation over the seeds of the judge are printed, and the same between two halves of
real windows.
"""

import argparse
import itertools
import json
import time
from pathlib import Path

import numpy as np
import scipy.linalg
import torch
from numpy.lib.stride_tricks import sliding_window_view
from torch import nn
from torch.nn import functional

import pushforward as pf

MELS, FRAME, HOP = 40, 256, 80
WINDOW, JUDGE_STEPS = 24, 2000


def mel_filters(rate):
    """Return triangles (MELS, frequencies) at equal distances on the mel scale."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, MELS + 2) / 2595) - 1)
    f = np.linspace(0, rate / 2, FRAME // 2 + 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.clip(np.minimum((f - low) / (middle - low), (high - f) / (high - middle)), 0, None)
    return torch.tensor(filters, dtype=torch.float32)


def spectrograms(x, rate):
    """Return log-mel spectrograms (N, MELS, frames) of sounds (N, T), each of zero mean over its own loud part."""
    x = torch.as_tensor(np.asarray(x, dtype=np.float32))
    loud = x.square().mean(1, keepdim=True).sqrt().clamp(min=1e-5)
    spectra = torch.stft(x / loud, FRAME, HOP, window=torch.hann_window(FRAME), return_complex=True).abs().square()
    return (mel_filters(rate) @ spectra + 1e-3).log10()


class Listener(nn.Module):
    """A classifier of spectrograms."""

    def __init__(self, classes):
        super().__init__()
        sizes = [1, 24, 48, 96]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in itertools.pairwise(sizes))
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in sizes[1:])
        self.last = nn.Linear(96, classes)

    def features(self, x):
        x = x[:, None]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.max_pool2d(functional.relu(norm(layer(x))), 2)
        return x.amax(3).mean(2)

    def forward(self, x):
        return self.last(functional.dropout(self.features(x), 0.3, self.training))


def listener(x, y, classes, steps=900, seed=0):
    """Return a classifier trained on spectrograms x and labels y, with random shifts in time and masks."""
    torch.manual_seed(seed)
    model, generator = Listener(classes), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (64,), generator=generator)
        shift = int(torch.randint(-6, 7, (), generator=generator))
        batch = x[rows].roll(shift, 2)
        first = int(torch.randint(0, MELS - 6, (), generator=generator))
        batch[:, first : first + 6] = batch.mean()
        loss = functional.cross_entropy(model(batch), y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval()


@torch.no_grad()
def heard(model, x):
    """Return the features and the most likely class of spectrograms."""
    parts = [(model.features(part), model(part).argmax(1)) for part in x.split(200)]
    return torch.cat([f for f, _ in parts]).double().numpy(), torch.cat([c for _, c in parts]).numpy()


def frechet(p, q):
    """Return the Fréchet distance of the Gaussians with the moments of p (n, d) and q (m, d)."""
    a, b = np.cov(p.T), np.cov(q.T)
    root = scipy.linalg.sqrtm(a @ b)
    return float(((p.mean(0) - q.mean(0)) ** 2).sum() + np.trace(a + b - 2 * np.real(root)))


def periodicity(x, rate):
    """Return the mean, over the frames of 40 ms louder than a tenth of the loudest, of the peak of the autocorrelation."""
    size, peaks = int(0.04 * rate), []
    short, long = rate // 400, rate // 60
    for clip in x:
        frames = sliding_window_view(clip, size + long)[:: size // 2]
        power = (frames[:, :size] ** 2).sum(1)
        for frame in frames[power > 0.1 * power.max()]:
            first = frame[:size]
            shifted = sliding_window_view(frame, size)[short : long + 1]
            peaks.append((shifted @ first / np.sqrt((shifted**2).sum(1) * (first @ first) + 1e-12)).max())
    return float(np.mean(peaks))


def sounds(arguments):
    """Print the figures of spoken words."""
    train, test = pf.open_data(arguments.data), None
    length = train.values.shape[1]
    test = pf.open_data(arguments.test, length=length)
    begin = time.process_time()
    if arguments.run:
        model = pf.load(arguments.run)
    else:
        model = pf.FlowMatching(random_state=0, train_steps=arguments.steps).fit(arguments.data)
        model.save(arguments.out)
        print(json.dumps({"training_cpu_seconds": round(time.process_time() - begin)}), flush=True)
    classes, y = np.unique(train.condition, return_inverse=True)
    rate = train.schema.signal.rate
    real, judge = spectrograms(train.values, rate), None
    judge = listener(real, torch.as_tensor(y), len(classes))
    features, said = heard(judge, spectrograms(test.values, rate))
    of_train, _ = heard(judge, real)
    right = np.searchsorted(classes, test.condition)
    print(f"real test sounds: heard {np.mean(said == right):.3f}, periodicity {periodicity(test.values, rate):.3f}")
    half = np.random.default_rng(0).permutation(len(of_train))[: 100 * len(classes)]
    print(f"real training sounds: Fréchet distance {frechet(of_train[half], features):.2f}", flush=True)
    labels = np.repeat(classes, arguments.samples // len(classes))
    for scale in arguments.guidance:
        begin = time.process_time()
        samples = model.sample(len(labels), condition=labels, guidance=scale, seed=1)
        seconds = time.process_time() - begin
        of_samples, said = heard(judge, spectrograms(samples, rate))
        share = np.mean(classes[said] == labels)
        print(
            f"guidance {scale}: heard {share:.3f}, Fréchet distance {frechet(of_samples, features):.2f}, "
            f"periodicity {periodicity(samples, rate):.3f}, {seconds:.0f} CPU s to draw",
            flush=True,
        )
        np.savez(arguments.out.with_suffix(f".{scale}.npz"), samples=samples, labels=labels)


class Judge(nn.Module):
    """The judge of TimeGAN's protocol: a recurrent layer and one number."""

    def __init__(self, columns):
        super().__init__()
        self.recurrent = nn.GRU(columns, columns // 2, batch_first=True)
        self.last = nn.Linear(columns // 2, 1)

    def forward(self, x):
        return self.last(self.recurrent(x)[1][-1])[:, 0]


def discriminative(real, samples, seed):
    """Return |accuracy - 1/2| of a judge on a fifth of both."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    parts = [torch.as_tensor(x[generator.permutation(len(x))], dtype=torch.float32) for x in (real, samples)]
    used, aside = zip(*((x[len(x) // 5 :], x[: len(x) // 5]) for x in parts), strict=True)
    judge = Judge(real.shape[2])
    optimizer = torch.optim.Adam(judge.parameters(), lr=1e-3)
    for _ in range(JUDGE_STEPS):
        batches = [x[torch.randint(len(x), (128,))] for x in used]
        odds = torch.cat([judge(x) for x in batches])
        loss = functional.binary_cross_entropy_with_logits(odds, torch.cat((torch.ones(128), torch.zeros(128))))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = torch.cat((judge(aside[0]) > 0, judge(aside[1]) < 0))
    return abs(float(right.float().mean()) - 0.5)


def series(arguments):
    """Print the discriminative score of windows of a table."""
    table = np.genfromtxt(arguments.data, delimiter=",", skip_header=1)
    scaled = (table - table.min(0)) / (np.ptp(table, axis=0) + 1e-7)
    windows = sliding_window_view(scaled, WINDOW, axis=0).transpose(0, 2, 1)
    begin = time.process_time()
    model = pf.FlowMatching(kind="signals", random_state=0, train_steps=arguments.steps).fit(windows)
    print(json.dumps({"training_cpu_seconds": round(time.process_time() - begin)}), flush=True)
    model.save(arguments.out)
    samples = model.sample(len(windows), seed=1)
    np.save(arguments.out.with_suffix(".npy"), samples)
    order = np.random.default_rng(0).permutation(len(windows))
    halves = windows[order[::2]], windows[order[1::2]]
    for name, pair in (("samples", (windows, samples)), ("real windows", halves)):
        scores = [discriminative(*pair, seed) for seed in range(arguments.judges)]
        print(f"discriminative score of {name}: {np.mean(scores):.3f} (standard deviation {np.std(scores):.3f})", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(required=True)
    for verb in (sounds, series):
        one = verbs.add_parser(verb.__name__)
        one.set_defaults(verb=verb)
        one.add_argument("data", type=Path)
        one.add_argument("--steps", type=int, default=None)
        one.add_argument("--out", type=Path, default=Path("runs") / verb.__name__)
        if verb is sounds:
            one.add_argument("test", type=Path)
            one.add_argument("--run", type=Path, help="a trained run instead of a new one")
            one.add_argument("--samples", type=int, default=1000)
            one.add_argument("--guidance", type=float, nargs="*", default=[1.0, 1.5, 2.0])
        else:
            one.add_argument("--judges", type=int, default=5)
    arguments = parser.parse_args()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.verb(arguments)


if __name__ == "__main__":
    main()
