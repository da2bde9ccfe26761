"""How near models of text come to what is possible, and how long they need.

    python benchmarks/text.py markov autoregressive --steps 3000
    python benchmarks/text.py markov masked-diffusion --steps 3000
    python benchmarks/text.py tinyshakespeare.txt autoregressive --steps 4000 --block 256

"markov" is a million letters of the built-in law, whose blocks have a known entropy. Of a file, the last tenth is held out and
scored in isolated blocks. The time is that of the processor, so that other programs on the machine do not count.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np

import pushforward as pf
from pushforward.data.builtin import markov_law
from pushforward.metrics.text import bits_per_character, ngram_divergence

FAMILIES = {"autoregressive": pf.Autoregressive, "masked-diffusion": pf.MaskedDiffusion}
LETTERS = 1_000_000


def texts(source: str) -> tuple[str, str]:
    """Return the text to train on and the text to score."""
    if source == "markov":
        return markov_law().sample(LETTERS, seed=1), markov_law().sample(LETTERS // 10, seed=2)
    whole = Path(source).read_text(encoding="utf-8")
    cut = len(whole) * 9 // 10
    return whole[:cut], whole[cut:]


def cut(text: str, block: int) -> list[str]:
    return [text[start : start + block] for start in range(0, len(text) - block + 1, block)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="'markov', or a .txt file")
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--block", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=None, help="learning rate; default: that of the family")
    parser.add_argument("--save", type=Path, default=None)
    arguments = parser.parse_args()
    train, test = texts(arguments.data)
    rate = arguments.rate or {"autoregressive": 4e-3, "masked-diffusion": 8e-3}[arguments.family]
    settings = pf.TrainingSettings(
        steps=arguments.steps,
        batch_size=arguments.batch,
        learning_rate=rate,
        gradient_clip=1.0 if arguments.family == "autoregressive" else None,
        ema=0.05 if arguments.family == "autoregressive" else 0.1,
        evaluations=10,
    )
    model = FAMILIES[arguments.family](
        text=pf.Text(block=arguments.block), training=settings, held_out=0.02, random_state=0, device="cpu"
    )
    began = time.process_time()
    model.fit([train])
    seconds = time.process_time() - began
    blocks = cut(test, arguments.block)
    result = model.log_prob(blocks)
    bits = bits_per_character(result.values, np.full(len(blocks), arguments.block))
    print(f"{arguments.family} on {arguments.data}, blocks of {arguments.block}: {model.network_}, {model.training_}")
    print(f"{model.training_result_.parameters:,} parameters, {seconds:.0f} CPU s")
    print(f"{result.kind}: {bits.value:.3f} bits per character ({bits.low:.3f} to {bits.high:.3f})")
    if arguments.family == "autoregressive":
        carried = -model.log_prob([test]).values[0] / len(test) / math.log(2)
        print(f"{carried:.3f} with context across blocks")
    if arguments.data == "markov":
        floor = markov_law().floor(arguments.block)
        print(f"floor of blocks {floor:.3f}: {100 * (bits.value / floor - 1):.1f} % above it")
    drawn = list(model.sample(100, seed=0))
    for n in (2, 4):
        found, least = (ngram_divergence(rows, blocks[:100], n).value for rows in (drawn, cut(train, arguments.block)[:100]))
        print(f"divergence of {n}-grams {found:.3f}, of rows {least:.3f}")
    print(model.sample(1, seed=1, length=4 * arguments.block)[0])
    assert math.isfinite(bits.value)
    if arguments.save is not None:
        model.save(arguments.save)


if __name__ == "__main__":
    main()
