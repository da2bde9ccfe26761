"""The parts of an evaluation about signals: spectra, autocorrelations, and a recurrent judge.

The judge is that of TimeGAN: a recurrent network learns to tell samples from real signals on four fifths of both and answers
for the rest. Its score is |accuracy - 1/2|: 0 if nothing tells them apart, 1/2 if each signal shows which it is. Short signals
are read sample by sample, long ones frame by frame, as compressed spectrograms.

References
----------
Jinsung Yoon, Daniel Jarrett, Mihaela van der Schaar. Time-series generative adversarial networks. NeurIPS 2019.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pushforward.evaluation.figure import Figure
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.rows import Inputs, Run
from pushforward.metrics.measure import Measure
from pushforward.metrics.relabel import compared_shares
from pushforward.metrics.series import autocorrelation_distance, spectral_distance
from pushforward.probability import noise
from pushforward.training import Batch, Task, TrainingSettings, train
from pushforward.training.process.generators import fresh_module

__all__ = ["discriminative_score", "series_parts"]

_Array = NDArray[np.floating]

_HIDDEN, _MOST = 24, 1000
_TRAINING = TrainingSettings(steps=150, batch_size=64, learning_rate=5e-3, ema=0.1)


def series_parts(inputs: Inputs) -> Iterator[tuple[str, Run]]:
    """Yield the names and functions of the parts about signals."""
    yield "spectral distance", _spectra
    yield "autocorrelation distance", _autocorrelations
    yield "discriminative score", _judge


def discriminative_score(
    P: _Array, Q: _Array, *, seed: int = 0, training: TrainingSettings = _TRAINING, hidden: int = _HIDDEN
) -> Measure:
    """Return |accuracy - 1/2| of a recurrent judge of sequences P (n, steps, features) and Q (m, steps, features).

    The longer of P and Q is cut to the shorter. The p-value is that of Fisher's exact test on the signals that the
    judge did not see: does it say "sample" of samples more often than of rows?

    >>> x = np.random.default_rng(0).normal(size=(2, 60, 5, 1))
    >>> discriminative_score(x[0] + 3, x[1], training=TrainingSettings(steps=40, batch_size=32, learning_rate=0.02)).value
    0.5
    """
    n = min(len(P), len(Q))
    x = torch.from_numpy(np.concatenate([P[:n], Q[:n]]).astype(np.float32))
    center, scale = x.mean((0, 1)), x.std((0, 1))
    x = (x - center) / torch.where(scale > 0, scale, 1.0)
    label = torch.cat((torch.ones(n, 1), torch.zeros(n, 1)))
    order = noise.permutation(2 * n, seed=seed, purpose="judge")
    used, aside = order[2 * n // 5 :], order[: 2 * n // 5]
    task = _JudgeTask(fresh_module(lambda: _Judge(x.shape[2], hidden), seed))
    train(task, x[used], label[used], held_out=(x[aside][:1], label[aside][:1]), settings=training, seed=seed, device="cpu")
    with torch.no_grad():
        said = (task.judge(x[aside]) > 0).numpy()
    true = label[aside, 0].numpy() > 0.5
    accuracy = Measure.of_share(int((said == true).sum()), len(aside))
    ends = sorted((abs(accuracy.low - 0.5), abs(accuracy.high - 0.5)))
    low = 0.0 if accuracy.low <= 0.5 <= accuracy.high else ends[0]
    share, _ = compared_shares(said[true], said[~true])
    # A judge that is wrong more often than right has guessed.
    p_value = share.p_value if share.side == "above" and share.p_value is not None else 1.0
    return Measure(abs(accuracy.value - 0.5), low, ends[1], len(aside)).tested(p_value, "above")


class _Judge(nn.Module):
    """A recurrent network that returns the log-odds of being a sample, (B,)."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.recurrent = nn.GRU(features, hidden, batch_first=True)
        self.last = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.recurrent(x)
        odds: Tensor = self.last(states[:, -1])[:, 0]
        return odds


class _JudgeTask(Task):
    def __init__(self, judge: _Judge) -> None:
        super().__init__()
        self.judge = judge

    def draw(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        return ()

    def forward(self, batch: Batch) -> Tensor:
        assert batch.condition is not None
        return nn.functional.binary_cross_entropy_with_logits(self.judge(batch.x), batch.condition[:, 0], reduction="none")

    def held_out(self, batch: Batch) -> tuple[Tensor, Tensor | None]:
        return self(batch), None


def _spectra(inputs: Inputs, results: Results) -> None:
    _add(inputs, results, "spectral distance", "dB", spectral_distance, "of mean power spectra")


def _autocorrelations(inputs: Inputs, results: Results) -> None:
    _add(inputs, results, "autocorrelation distance", "", autocorrelation_distance, "of mean autocorrelations")


def _judge(inputs: Inputs, results: Results) -> None:
    def score(p: _Array, q: _Array, *, seed: int, test: bool) -> Measure:
        return discriminative_score(_sequences(inputs, p), _sequences(inputs, q), seed=seed)

    _add(inputs, results, "discriminative score", "", score, "of a recurrent judge; 0 is a guess, 0.5 is certain")


def _add(inputs: Inputs, results: Results, name: str, unit: str, distance: Callable[..., Measure], note: str) -> None:
    """Add the distance of samples from held-out signals, with the floor between held-out and other signals."""
    assert inputs.samples is not None
    samples, held, other = (part.x[:_MOST].numpy() for part in (inputs.samples, inputs.held, inputs.floor))
    measure, floor = (distance(part, held, seed=inputs.seed, test=part is samples) for part in (samples, other))
    results.figures.append(Figure(name, "samples", measure, unit, "lower", "held-out", floor, note=note))


def _sequences(inputs: Inputs, x: _Array) -> _Array:
    """Return signals x (n, C, T) as sequences (n, steps, features)."""
    compared = inputs.kind.compared(x)
    if compared.ndim == 2:
        return x.swapaxes(1, 2)
    sequences: _Array = compared.transpose(0, 3, 1, 2).reshape(len(x), compared.shape[3], -1)
    return sequences
