"""Masked diffusion: exact laws of integers are learned, bounds are bounds, gaps are filled by the law given the rest."""

import itertools
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf
from pushforward.models.tokens.masked_diffusion import UnmaskingTask
from pushforward.models.tokens.tokens import _ranges
from pushforward.probability import MarkovChain

SMALL = pf.TransformerSpec(width=32, depth=1, heads=2)
TINY = {"network": pf.TransformerSpec(width=8, depth=1, heads=2), "random_state": 0}
CHAIN = MarkovChain([[0.8, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.3, 0.4]])
START = CHAIN.stationary()


def training(steps=300, rate=4e-3, **settings):
    return pf.TrainingSettings(
        **{"steps": steps, "batch_size": 128, "learning_rate": rate, "ema": 0.1, "gradient_clip": None} | settings
    )


def copies(n=400, seed=0):
    """Two columns of which the second is the first plus 10, and a third that is independent."""
    numbers = np.random.default_rng(seed)
    first = numbers.integers(0, 4, n)
    return np.column_stack([first, first + 10, numbers.integers(0, 2, n)])


@pytest.fixture(scope="module")
def chained():
    rows = CHAIN.sample(4000, 4, start=START, seed=0).numpy()
    network = pf.TransformerSpec(width=32, depth=2, heads=2)
    return pf.MaskedDiffusion(network=network, training=training(350), random_state=0).fit(rows)


@pytest.fixture(scope="module")
def copied():
    return pf.MaskedDiffusion(network=SMALL, training=training(250, 1e-2), random_state=0).fit(copies())


def test_of_a_markov_chain_it_learns_the_transitions(chained):
    rows = torch.from_numpy(chained.sample(4000, seed=0, batch_size=4000))
    counts = torch.zeros(3, 3).index_put_((rows[:, 1:].flatten(), rows[:, :-1].flatten()), torch.ones(1), accumulate=True)
    assert (counts / counts.sum(0) - CHAIN.matrix).abs().sum(0).max() / 2 < 0.04


def test_of_a_markov_chain_the_bound_comes_near_the_entropy(chained):
    fresh = CHAIN.sample(4000, 4, start=START, seed=1)
    entropy = float(-(START * START.log()).sum() - 4 * (START * (CHAIN.matrix * CHAIN.matrix.log()).sum(0)).sum())
    truth = START[fresh[:, 0]].log() + CHAIN.matrix[fresh[:, 1:], fresh[:, :-1]].log().sum(1)
    assert float(-truth.mean()) == pytest.approx(entropy, abs=0.05)
    found = chained.log_prob(fresh, draws=10, batch_size=4000)
    gap = float(truth.mean()) - found.values.mean()
    error = np.sqrt((found.standard_error**2).sum()) / len(fresh)
    assert -3 * error < gap < 0.03
    assert error < 0.02


def test_the_bounds_of_all_rows_are_probabilities_of_one_law(chained):
    """The sum over all 3^5 rows of exp(bound) is at most one, and nearly one where the orders agree."""
    rows = np.array(list(itertools.product(range(3), repeat=5)))
    total = np.exp(chained.log_prob(rows, draws=60, batch_size=243).values).sum()
    assert 0.97 < total < 1.005


def test_what_is_unknown_is_filled_by_the_law_given_the_rest(copied):
    rows = copies(300, seed=1).astype(float)
    rows[:100, 0] = np.nan
    rows[100:200, 1] = np.nan
    rows[200:] = np.nan
    filled = copied.impute(rows, seed=0)
    assert filled.dtype == np.int64
    known = ~np.isnan(rows)
    np.testing.assert_array_equal(filled[known], rows[known])
    assert (filled[:, 1] == filled[:, 0] + 10).mean() > 0.97
    law = np.bincount(filled[200:, 0], minlength=4) / 100
    assert np.abs(law - 0.25).max() < 0.15
    twice = copied.impute(rows, n=2, seed=0)
    np.testing.assert_array_equal(twice[0], filled)
    assert (twice[1][200:] != filled[200:]).any()
    by_mask = copied.impute(np.nan_to_num(rows, nan=3).astype(int), mask=known, seed=0)
    np.testing.assert_array_equal(by_mask, filled)


def test_frames_keep_their_index_and_known_values_must_be_possible(copied):
    frame = pd.DataFrame(copies(4), columns=list("abc"), index=[5, 6, 7, 8])
    model = pf.MaskedDiffusion(**TINY, train_steps=2).fit(pd.DataFrame(copies(), columns=list("abc")))
    gaps = frame.astype("Int64")
    gaps.loc[6, "b"] = pd.NA
    filled = model.impute(gaps, seed=0)
    assert list(filled.index) == [5, 6, 7, 8]
    assert filled.drop(columns="b").equals(frame.drop(columns="b"))
    for value in (4, 0.5):
        with pytest.raises(ValueError, match=rf"observed value {value}, but the training data have integers from 0 to 13"):
            copied.impute(np.array([[value, np.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"steps must be at least 1"):
        copied.impute(np.array([[0, np.nan, 0.0]]), steps=0)


def test_with_few_steps_columns_do_not_know_of_each_other(copied):
    one_by_one, at_once = copied.sample(2000, seed=0), copied.sample(2000, steps=1, seed=0)
    assert (one_by_one[:, 1] == one_by_one[:, 0] + 10).mean() > 0.97
    assert (at_once[:, 1] == at_once[:, 0] + 10).mean() == pytest.approx(0.25, abs=0.05)


def test_a_value_beyond_the_range_has_a_share_of_the_end(copied):
    found = copied.log_prob(np.array([[0, 10, 1], [0, 10, 1], [0, 10, -1], [0, 11, 1]]))
    share = (copied.log_prob([[3, 13, 2]]).values - copied.log_prob([[3, 13, 1]]).values)[0]
    assert np.isfinite(found.values).all()
    assert share < -3
    assert found.values[0] > found.values[3] + 2
    assert found.values[0] == pytest.approx(math.log(1 / 8), abs=0.15)
    with pytest.raises(ValueError, match=r"fractions|value 0.5"):
        copied.log_prob(np.array([[0.5, 10, 1]]))


def test_of_a_row_with_gaps_the_bound_is_that_of_what_is_seen(copied):
    found = copied.log_prob(np.array([[1.0, np.nan, np.nan], [1, 11, np.nan], [np.nan, np.nan, np.nan]]), draws=40)
    often = math.log((copies()[:, 0] == 1).mean())
    np.testing.assert_allclose(found.values, [often, often, 0], atol=0.15)


@pytest.mark.full  # a training like those above
def test_rows_with_gaps_can_be_learned_from():
    rows = copies(600).astype(float)
    rows[np.random.default_rng(1).random(rows.shape) < 0.3] = np.nan
    model = pf.MaskedDiffusion(network=SMALL, training=training(250, 1e-2), random_state=0).fit(rows)
    drawn = model.sample(500, seed=0)
    assert np.isfinite(drawn).all()
    assert (drawn[:, 1] == drawn[:, 0] + 10).mean() > 0.95
    assert model.space_.transform.high.tolist() == [3, 13, 1]


def test_it_follows_a_label_and_knows_the_law_without_one():
    numbers = np.random.default_rng(0)
    label = numbers.integers(0, 2, 800)
    rows = np.where(label[:, None] == 1, numbers.integers(3, 5, (800, 2)), numbers.integers(0, 2, (800, 2)))
    model = pf.MaskedDiffusion(network=SMALL, training=training(200, 1e-2), random_state=0).fit(rows, condition=label)
    assert (model.sample(200, condition=1, seed=0) >= 3).mean() > 0.98
    assert (model.sample(200, condition=0, seed=0) <= 1).mean() > 0.98
    given, alone = model.log_prob(rows[:200], condition=label[:200]), model.log_prob(rows[:200])
    assert given.values.mean() == pytest.approx(math.log(1 / 4), abs=0.1)
    assert alone.values.mean() == pytest.approx(math.log(1 / 8), abs=0.2)
    filled = model.impute(np.full((100, 2), np.nan), condition=1, seed=0)
    assert (filled >= 3).mean() > 0.98


def test_untrained_it_says_how_often_each_value_was_seen():
    rows = np.array([[0, 5], [0, 6], [1, 6], [0, 6]] * 25)
    model = pf.MaskedDiffusion(**TINY, training=training(1, 1e-12), held_out=0).fit(rows)
    with np.errstate(divide="ignore"):
        # An end with m rows keeps 1 - 1 / (m + 2) of its mass.
        often, seldom = 76 / 102 * 76 / 77, 26 / 102 * 26 / 27
        wanted = {(0, 5): often * seldom, (0, 6): often**2, (1, 6): seldom * often}
    for row, probability in wanted.items():
        assert model.log_prob(np.array([row])).values[0] == pytest.approx(math.log(probability), abs=1e-5)


@pytest.mark.parametrize(
    "network",
    [pf.TransformerSpec(width=8, depth=1, heads=2, patch=2), pf.UNetSpec(width=4, levels=1, patch=1)],
    ids=["cells", "u-net"],
)
def test_constant_pixels_are_known_and_not_counted(network):
    images = np.random.default_rng(0).integers(0, 4, (60, 4, 4)).astype(np.uint8)
    images[:, 0] = 7
    images[:, 1, 1] = 0
    model = pf.MaskedDiffusion(network=network, random_state=0, train_steps=3).fit(images)
    found = model.log_prob(images[:5])
    assert (found.dims, found.constants) == (11, 5)
    assert found.in_bits_per_dim().values.mean() == pytest.approx(2, abs=1.5)
    drawn = model.sample(20, seed=0)
    assert (drawn[:, 0] == 7).all()
    assert (drawn[:, 1, 1] == 0).all()
    assert drawn.dtype == np.uint8
    mask = np.ones((5, 4, 4), dtype=bool)
    mask[:, 2:] = False
    filled = model.impute(images[:5], mask=mask, seed=0)
    np.testing.assert_array_equal(filled[mask], images[:5][mask])


def test_columns_share_a_range_exactly_if_their_ranges_are_alike():
    def ranges(*columns):
        x = torch.tensor(columns, dtype=torch.float32).T
        low, high = _ranges(pf.data.Transform.in_data_units(x, integer=True, kind="vectors"))
        return [*zip(low.tolist(), high.tolist(), strict=True)]

    assert ranges([0, 3, 1], [1, 2, 1], [5, 5, 5]) == [(0, 3), (0, 3), (5, 5)]
    assert ranges([0, 4, 1], [1, 2, 1]) == [(0, 4), (1, 2)]
    letters = pf.MaskedDiffusion(**TINY, train_steps=2).fit(np.array([[0, 3], [1, 2], [2, 2], [1, 3]] * 5))
    assert letters.predictor_.alike
    assert not pf.MaskedDiffusion(**TINY, train_steps=2).fit(copies()).predictor_.alike


def test_scores_do_not_depend_on_order_or_batches(chained):
    rows = CHAIN.sample(30, 4, start=START, seed=2).numpy()
    scores = chained.score_samples(rows)
    np.testing.assert_allclose(chained.score_samples(rows[::-1])[::-1], scores, atol=1e-9)
    whole = chained.log_prob(rows, draws=3, seed=4)
    np.testing.assert_allclose(chained.log_prob(rows, draws=3, seed=4, batch_size=7).values, whole.values, atol=1e-9)
    np.testing.assert_allclose(chained.log_prob(rows[9:], draws=3, seed=4, first=9).values, whole.values[9:], atol=1e-9)
    bits = chained.log_prob(rows, draws=3, seed=4, bits_per_dim=True)
    np.testing.assert_allclose(bits.values, -whole.values / 5 / math.log(2))
    assert chained.score(rows) == pytest.approx(scores.mean())


def test_whole_numbers_may_come_as_floats_or_booleans():
    as_float = pf.MaskedDiffusion(**TINY, train_steps=2).fit(copies().astype(np.float32))
    drawn = as_float.sample(20, seed=0)
    assert drawn.dtype == np.float32
    assert (drawn == drawn.round()).all()
    assert ((drawn[:, 1] >= 10) & (drawn[:, 1] <= 13)).all()
    assert pf.MaskedDiffusion(**TINY, train_steps=2).fit(copies()[:, :2] % 2 == 0).sample(3, seed=0).dtype == bool
    large = copies()[:, :1] + np.array([[0, 10**12]])
    assert (pf.MaskedDiffusion(**TINY, train_steps=2).fit(large).sample(50, seed=0)[:, 1] - 10**12 <= 3).all()


def test_data_that_are_no_integers_are_refused_with_the_families_to_take():
    with pytest.raises(
        ValueError, match=re.escape("X has the value 0.5: for real numbers use FlowMatching or NormalizingFlow")
    ):
        pf.MaskedDiffusion().fit(np.array([[1.0, 2.0], [3.0, 0.5]] * 10))
    one_aside = np.tile([[1.0, 2.0], [0.0, 3.0]], (50, 1))
    aside = pf.data.split_rows(100, 0.1, pf.probability.noise.derive(0, "held-out"))[1]
    one_aside[aside[0], 0] = 0.25
    with pytest.raises(ValueError, match=r"X has the value 0.25"):
        pf.MaskedDiffusion(**TINY).fit(one_aside)
    wide = np.column_stack([np.arange(900) % 2, np.arange(900) * 2])
    with pytest.raises(ValueError, match=r"ranges over 1,7\d\d integers in column 1.*use FlowMatching or NormalizingFlow"):
        pf.MaskedDiffusion().fit(wide)


def test_rows_set_aside_may_have_values_that_training_has_not():
    rows = np.random.default_rng(0).integers(0, 3, (100, 2))
    aside = pf.data.split_rows(100, 0.1, pf.probability.noise.derive(0, "held-out"))[1]
    rows[aside[0]] = 99
    model = pf.MaskedDiffusion(**TINY, train_steps=3).fit(rows)
    assert model.space_.transform.high.tolist() == [2, 2]
    assert math.isfinite(model.training_result_.held_out_loss)


def test_training_numbers_are_stratified_over_the_batch():
    torch.manual_seed(0)
    task = UnmaskingTask(SMALL.build([3] * 4), free=torch.ones(4, dtype=torch.bool))
    u, v = task.draw(torch.arange(8), 8, torch.arange(5), seed=0)
    assert u.shape == (5, 8, 4)
    assert torch.equal((v * 8).long(), torch.arange(8).expand(5, 8))


def test_a_run_with_gaps_can_be_drawn_and_compared(tmp_path):
    rows = copies(80).astype(float)
    rows[::7, 1] = np.nan
    model = pf.train(rows, pf.MaskedDiffusion(**TINY, train_steps=4), out=tmp_path / "run")
    assert (model.run_ / "samples.png").stat().st_size > 0


def test_neighbors_matter_to_images_and_all_elements_to_rows():
    images = np.random.default_rng(0).integers(0, 3, (40, 4, 4)).astype(np.uint8)
    model = pf.MaskedDiffusion(train_steps=1).fit(images)
    assert isinstance(model.network_, pf.UNetSpec)
    assert (model.training_.batch_size, model.training_.evaluations) == (64, 20)
    flat = pf.MaskedDiffusion(train_steps=1).fit(images.reshape(40, 16))
    assert isinstance(flat.network_, pf.TransformerSpec)
    large = pf.MaskedDiffusion(train_steps=1).fit(np.tile(images, (1, 4, 4)))
    assert (large.training_.batch_size, large.training_.evaluations) == (16, 5)
    with pytest.raises(ValueError, match=r"a U-Net is for images .* use TransformerSpec"):
        pf.MaskedDiffusion(network=pf.UNetSpec()).fit(images.reshape(40, 16))
