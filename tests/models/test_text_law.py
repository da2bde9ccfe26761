"""A model of texts beside their law: the law itself has no error, and the uniform law has the error that its entropy says."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

import pushforward as pf
from pushforward.data import Text
from pushforward.models.text_law import against_law, has_blocks_of_letters
from pushforward.probability import MarkovText

LAW = MarkovText("the cat sat on the mat and the dog sat on the cat ", order=2, lower=1, share=0.5)
LETTERS, LENGTH = len(set(LAW.source)), 24


def model_of(score, kind="exact"):
    """A model whose log-probability of a text is known."""
    text = SimpleNamespace(length=LENGTH, tokens="characters", ends=False)
    values = lambda texts: SimpleNamespace(values=np.array([score(each) for each in texts]), is_exact=kind == "exact")  # noqa: E731
    return SimpleNamespace(space_=SimpleNamespace(schema=SimpleNamespace(text=text)), log_prob=values)


def test_the_law_itself_has_no_error():
    found = against_law(model_of(LAW.log_prob), LAW, n=400)
    assert found.error == pytest.approx(0, abs=1e-12)
    assert found.learned.low < found.exact < found.learned.high  # both are the entropy of blocks
    assert not found.is_bound


def test_the_uniform_law_needs_the_logarithm_of_the_letters():
    found = against_law(model_of(lambda text: -len(text) * math.log(LETTERS), "bound"), LAW, n=400)
    assert found.learned.value == pytest.approx(math.log2(LETTERS), abs=1e-12)
    assert found.error == pytest.approx(math.log2(LETTERS) - LAW.floor(LENGTH), abs=0.05)
    assert found.is_bound


def test_which_models_are_compared():
    small = {"network": pf.TransformerSpec(width=8, depth=1, heads=2), "train_steps": 2, "random_state": 0}
    blocks = pf.Autoregressive(text=Text(block=16), **small).fit([LAW.sample(600, seed=0)])
    assert has_blocks_of_letters(blocks)
    found = against_law(blocks, LAW, n=8)
    assert found.error == pytest.approx(math.log2(LETTERS) - LAW.floor(16), abs=0.7)  # after two steps it knows little
    lines = pf.Autoregressive(**small).fit(["to be", "or not", "to be"])
    assert not has_blocks_of_letters(lines)
    assert not has_blocks_of_letters(pf.GMM(n_components=1, random_state=0).fit("moons"))
