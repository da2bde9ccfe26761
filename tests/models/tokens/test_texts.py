"""Models of texts: one law over all texts, prompts and blanks, text of any length, and the command line."""

import itertools

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import pushforward as pf
from pushforward.cli.app import app
from pushforward.diffusion import unmask
from pushforward.models.tokens.texts import fill_windows
from pushforward.probability import MarkovChain, MarkovText

LAW = MarkovText("abcabdabeacbade", order=2, lower=1, share=0.2)
SPEC = pf.TransformerSpec(width=24, depth=1, heads=2, convolution=5)


def training(steps, rate=1e-2):
    return pf.TrainingSettings(steps=steps, batch_size=64, learning_rate=rate, ema=0.1, evaluations=2)


@pytest.fixture(scope="module")
def blocks():
    """A model of blocks of 8 letters of a text of known law."""
    text = LAW.sample(12_000, seed=0)
    return pf.Autoregressive(network=SPEC, training=training(150), random_state=0, text=pf.Text(block=8)).fit([text])


@pytest.fixture(scope="module")
def masked():
    text = LAW.sample(12_000, seed=0)
    return pf.MaskedDiffusion(network=SPEC, training=training(200), random_state=0, text=pf.Text(block=8)).fit([text])


def test_of_short_texts_the_probabilities_of_all_sum_to_one():
    texts = ["", "a", "ab", "abb", "b", "ba"] * 10
    model = pf.Autoregressive(network=SPEC, training=training(10), random_state=0).fit(texts)
    every = ["".join(letters) for length in range(4) for letters in itertools.product("ab", repeat=length)]
    assert np.exp(model.score_samples(every)).sum() == pytest.approx(1, abs=1e-5)
    drawn = model.sample(3000, seed=0, batch_size=3000)
    counts = np.array([(drawn == text).mean() for text in every])
    np.testing.assert_allclose(counts, np.exp(model.score_samples(every)), atol=0.04)
    with pytest.raises(ValueError, match=r"texts of training end after at most 3 characters"):
        model.sample(1, length=9)


def test_bits_come_near_the_floor_and_the_next_letter_has_its_law(blocks, masked):
    fresh = LAW.sample(8 * 300, seed=1)
    rows = [fresh[i : i + 8] for i in range(0, len(fresh), 8)]
    floor = -np.mean([LAW.log_prob(row) for row in rows])
    assert 0 <= -blocks.score(rows) - floor < 0.12 * floor
    assert -0.02 <= -masked.log_prob(rows).values.mean() - floor < 0.45 * floor
    found = blocks.predict_proba(["cab", "xab"[1:], "cabcabdabc"[:9]])
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-9)
    law = LAW.next_letters("ab")
    np.testing.assert_allclose(found[0], [law.get(letter, 0.0) for letter in blocks.classes_], atol=0.12)


def test_texts_of_any_length_begin_with_the_prompt_and_keep_the_law(blocks, masked):
    for model in (blocks, masked):
        texts = model.sample(2, prompt=["abc", "cab"], length=61, seed=0)
        assert [text[:3] for text in texts] == ["abc", "cab"]
        assert [len(text) for text in texts] == [61, 61]
        np.testing.assert_array_equal(model.sample(1, prompt="cab", length=61, seed=0, first=1), texts[1:])
    long = "".join(blocks.sample(60, length=50, seed=1))
    pairs = [LAW.next_letters(long[i : i + 2]).get(long[i + 2], 0.0) for i in range(len(long) - 2) if i % 50 < 48]
    assert np.mean(np.array(pairs) == 0) < 0.02  # also where windows meet
    with pytest.raises(ValueError, match=r"the character 'z'"):
        blocks.sample(1, prompt="z")
    with pytest.raises(ValueError, match=r"more than length=2"):
        blocks.sample(1, prompt="abc", length=2)
    with pytest.raises(ValueError, match=r"prompt must be a text, or a list"):
        blocks.sample(3, prompt=["a", "b"])


def test_texts_of_any_length_have_one_law(blocks):
    """The law of three letters sums to one, and a long text has the product of its windows' conditional laws."""
    every = ["".join(letters) for letters in itertools.product("abcde", repeat=3)]
    assert np.exp(blocks.log_prob(every).values).sum() == pytest.approx(1, abs=1e-5)
    text = LAW.sample(14, seed=7)
    windows = [(0, 0, 8), (4, 8, 12), (6, 12, 14)]  # begin, end of what is given, end; the last one ends with the text
    parts = [np.diff(blocks.log_prob([text[a:b], text[a:c]]).values)[0] for a, b, c in windows[1:]]
    parts.append(blocks.log_prob([text[:8]]).values[0])
    assert blocks.log_prob([text]).values[0] == pytest.approx(sum(parts), abs=1e-4)


def test_blanks_are_filled_by_the_law_of_both_sides(masked):
    filled = masked.impute(["ab_ab_ab"] * 400, seed=0)
    assert {text[:2] + text[3:5] + text[6:] for text in filled} == {"ababab"}
    weights = {
        x: LAW.next_letters("ab").get(x, 0) * LAW.next_letters("b" + x).get("a", 0) * LAW.next_letters(x + "a").get("b", 0)
        for x in "abcde"
    }
    total = sum(weights.values())
    for letter, weight in weights.items():
        assert np.mean([text[2] == letter for text in filled]) == pytest.approx(weight / total, abs=0.2)
    long = masked.impute(["abca____abdabcabdabe__dabe"], n=2, seed=0)
    assert [len(copy[0]) for copy in long] == [26, 26]
    assert "_" not in long[0][0]
    with pytest.raises(TypeError, match=r"impute fills the blanks of texts"):
        masked.impute(np.zeros((2, 8)))


def test_windows_draw_each_free_token_once_and_never_change_the_others():
    tokens = torch.full((1, 23), -1)
    free = torch.ones(1, 23, dtype=torch.bool)
    tokens[0, 5], free[0, 5] = 9, False

    def draw(part, left, seed):
        assert part.shape[1] == 6
        return torch.where(left, part + 1, part)

    found = fill_windows(tokens, free, 6, draw, seed=0)
    assert found[0].tolist() == [0] * 5 + [9] + [0] * 17


class Exact:
    """The law of each masked token of a chain of 4 given the others, by sums over all rows."""

    def __init__(self):
        chain = MarkovChain([[0.9, 0.2], [0.1, 0.8]])
        self.rows = torch.tensor(list(itertools.product(range(2), repeat=4)))
        self.law = chain.stationary()[self.rows[:, 0]] * chain.matrix[self.rows[:, 1:], self.rows[:, :-1]].prod(1)

    def __call__(self, tokens, condition):
        fits = ((tokens[:, None] == self.rows) | (tokens[:, None] < 0)).all(2).double() * self.law
        one = (fits[:, :, None] * self.rows).sum(1)
        return torch.stack([fits.sum(1)[:, None] - one, one], 2).clamp(min=0).log()


def test_masking_again_keeps_the_law_and_corrects_tokens_drawn_together():
    exact, tokens = Exact(), torch.zeros(6000, 4, dtype=torch.long)

    def distance(**options):
        drawn = unmask(exact, tokens, seed=0, **options)
        counts = torch.bincount((drawn * 2 ** torch.arange(3, -1, -1)).sum(1), minlength=16) / len(drawn)
        return float((counts - exact.law).abs().sum()) / 2

    together = distance(steps=2)  # two of four at once
    assert together > 0.06
    assert distance(steps=6, remask=2) < 0.9 * together  # two at once too, but the first ones are drawn again
    assert distance(steps=16, remask=3) < 0.03  # one at once


def test_it_is_stored_and_runs_from_the_command_line(blocks, masked, tmp_path):
    blocks.save(tmp_path / "saved")
    np.testing.assert_array_equal(pf.load(tmp_path / "saved").sample(2, seed=0), blocks.sample(2, seed=0))
    masked.save(tmp_path / "masked")
    fresh = LAW.sample(400, seed=2)
    (tmp_path / "t.txt").write_text(fresh)
    (tmp_path / "gaps.txt").write_text(fresh[:10] + "__" + fresh[12:30])

    def run(*words):
        done = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    run(
        "sample",
        tmp_path / "saved",
        "-n",
        2,
        "--prompt",
        "abc",
        "--length",
        20,
        "--temperature",
        0.5,
        "--out",
        tmp_path / "o.txt",
    )
    lines = (tmp_path / "o.txt").read_text().splitlines()
    assert [line[:3] for line in lines] == ["abc", "abc"]
    assert run("score", tmp_path / "saved", tmp_path / "t.txt").splitlines()[-1].endswith("bits per character")
    assert "2 gaps filled" in run("impute", tmp_path / "masked", tmp_path / "gaps.txt", "--seed", 0)
    assert "5 characters, blocks of 8" in run("inspect", tmp_path / "saved").replace("\n", " ")


def test_a_run_resumes_and_is_evaluated(tmp_path):
    (tmp_path / "t.txt").write_text(LAW.sample(3000, seed=3))
    settings = {"network": pf.TransformerSpec(width=8, depth=1, heads=2), "train_steps": 4, "random_state": 0}
    model = pf.train(tmp_path / "t.txt", pf.Autoregressive(**settings, text=pf.Text(block=16)), out=tmp_path / "run")
    again = pf.train(tmp_path / "t.txt", out=tmp_path / "run", resume=True)
    assert again.sample(1, seed=0) == model.sample(1, seed=0)
    rows = LAW.sample(16 * 60, seed=4)
    found = pf.evaluate(
        model, [rows[i : i + 16] for i in range(0, len(rows), 16)], X_train=[LAW.sample(16, seed=5, first=i) for i in range(60)]
    )
    assert not found.failures
    assert found.find("bits per character").measure.value > 0
    for name in ("divergence of 2-grams", "distinct share", "longest copy"):
        assert found.find(name).floor is not None
    assert "Held-out rows" in found.report(tmp_path / "r.html").read_text()
