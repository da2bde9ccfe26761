"""Autoregressive models: one exact law of rows, learned from data, drawn from with kept states, prompts and temperature."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import integrate

import pushforward as pf
from pushforward.diffusion import guided_logits
from pushforward.models.tokens.decoding import decode
from pushforward.networks import CausalTransformer
from pushforward.probability import MarkovChain, noise

CHAIN = MarkovChain([[0.8, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.3, 0.4]])
START = CHAIN.stationary()
TINY = {"network": pf.TransformerSpec(width=8, depth=1, heads=2), "random_state": 0, "train_steps": 5}


def training(steps, rate=4e-3):
    return pf.TrainingSettings(steps=steps, batch_size=128, learning_rate=rate, ema=0.1)


@pytest.fixture(scope="module")
def chained():
    rows = CHAIN.sample(4000, 4, start=START, seed=0).numpy()
    spec = pf.TransformerSpec(width=24, depth=1, heads=2, convolution=3)
    return pf.Autoregressive(network=spec, training=training(250, 8e-3), random_state=0).fit(rows)


def truth(rows):
    return (START[rows[:, 0]].log() + CHAIN.matrix[rows[:, 1:], rows[:, :-1]].log().sum(1)).numpy()


def test_the_probabilities_of_all_rows_sum_to_one(chained):
    rows = torch.tensor(list(itertools.product(range(3), repeat=5)))
    beyond = chained.space_.transform.ends(rows)[1].numpy()  # the ends of the range share their mass with integers beyond
    assert np.exp(chained.log_prob(rows).values - beyond).sum() == pytest.approx(1, abs=1e-9)


def test_the_law_of_a_markov_chain_is_learned(chained):
    rows = torch.tensor(list(itertools.product(range(3), repeat=5)))
    exact, found = np.exp(truth(rows)), np.exp(chained.log_prob(rows).values)
    assert np.abs(exact - found).sum() / 2 < 0.06  # 4,000 rows on 243 cells
    assert float((exact * (np.log(exact) - np.log(found))).sum()) < 0.012


def test_samples_follow_the_stated_law(chained):
    rows = np.array(list(itertools.product(range(3), repeat=5)))
    law = np.exp(chained.log_prob(rows).values)
    drawn = chained.sample(20_000, seed=0, batch_size=20_000)
    counts = np.bincount(drawn @ 3 ** np.arange(4, -1, -1), minlength=243)
    expected = 20_000 * law
    merged = expected >= 5
    statistic = ((counts - expected) ** 2 / expected)[merged].sum()
    assert statistic < merged.sum() + 5 * np.sqrt(2 * merged.sum())


def test_a_row_drawn_with_kept_states_is_the_one_drawn_without(chained):
    """Each token is drawn at the same uniform number from the law that the whole network gives."""
    network = chained.predictor_
    drawn = torch.from_numpy(chained.sample(50, seed=3)).long()
    cdf = network(drawn).double().softmax(2).cumsum(2)
    u = noise.uniform((5,), seed=3, purpose="value", rows=50, dtype=torch.float64)
    assert torch.equal((cdf < u[:, :, None]).sum(2), drawn)


def test_prompts_are_kept_and_continued_by_the_law_given_them(chained):
    drawn = chained.sample(4000, prompt=[2, 0], seed=0, batch_size=4000)
    assert (drawn[:, :2] == [2, 0]).all()
    np.testing.assert_allclose(np.bincount(drawn[:, 2], minlength=3) / 4000, CHAIN.matrix[:, 0], atol=0.05)
    each = chained.sample(2, prompt=np.array([[0], [1]]), seed=0)
    assert each[:, 0].tolist() == [0, 1]
    for wrong in (np.zeros(6), np.zeros((3, 1)), np.zeros((2, 2, 2))):
        with pytest.raises(ValueError, match=r"prompt must be the first elements of all rows"):
            chained.sample(2, prompt=wrong)
    with pytest.raises(ValueError, match=r"observed value 7"):
        chained.sample(2, prompt=[7])


def test_temperature_raises_each_law_to_a_power(chained):
    rows = np.zeros((1, 5), dtype=int)
    first = np.exp(chained.predictor_(torch.from_numpy(rows))[0, 0].log_softmax(0).detach().double().numpy())
    drawn = chained.sample(20_000, temperature=0.5, seed=0, batch_size=20_000)[:, 0]
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, first**2 / (first**2).sum(), atol=0.015)
    for wrong in (0, -1.0, np.nan, "hot", True):
        with pytest.raises(ValueError, match=r"temperature must be a number above 0"):
            chained.sample(1, temperature=wrong)


def test_guidance_tilts_the_law_of_each_token():
    torch.manual_seed(0)
    network = CausalTransformer([3, 3], 2, width=8, depth=1, heads=2).double()
    torch.nn.init.normal_(network.head)
    condition = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(20_000, 2)
    tokens = torch.zeros(1, 2, dtype=torch.long)
    law = guided_logits(network(tokens, condition[:1]), network(tokens, 0 * condition[:1]), 2.5)[0, 0].softmax(0)
    drawn = decode(network, torch.full((20_000, 2), -1), condition=condition, scale=2.5)[:, 0]
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 20_000, law.detach(), atol=0.015)


def test_of_a_table_the_density_integrates_to_one_and_gaps_count():
    numbers = np.random.default_rng(0)
    kind = numbers.choice(["a", "b"], 300)
    size = np.where(numbers.random(300) < 0.2, np.nan, numbers.normal(size=300) + 3 * (kind == "b"))
    frame = pd.DataFrame({"kind": kind, "size": size})
    model = pf.Autoregressive(**TINY | {"train_steps": 40}).fit(frame)
    grid = np.linspace(-30, 30, 6_001)
    total = 0.0
    for level in ("a", "b"):
        rows = pd.DataFrame({"kind": level, "size": grid})
        total += integrate.trapezoid(np.exp(model.score_samples(rows)), grid)
        total += float(np.exp(model.score_samples(pd.DataFrame({"kind": [level], "size": [np.nan]})))[0])
    assert total == pytest.approx(1, abs=4e-3)
    drawn = model.sample(500, seed=0)
    assert list(drawn.dtypes) == list(frame.dtypes)
    assert 0.1 < drawn["size"].isna().mean() < 0.3
    with pytest.raises(ValueError, match=r"rows are those of a table"):
        model.sample(1, prompt=[0])


def test_conditions_are_learned_and_guidance_needs_the_law_without_them():
    X = np.repeat([[0, 0, 1], [1, 1, 0]], 200, axis=0)
    settings = {"network": pf.TransformerSpec(width=16, depth=1, heads=2), "training": training(80, 1e-2), "random_state": 0}
    model = pf.Autoregressive(**settings).fit(X, condition=np.repeat(["u", "v"], 200))
    assert (model.sample(20, condition="v", seed=0) == [1, 1, 0]).mean() > 0.95
    assert (model.sample(20, condition="v", guidance=3.0, seed=0) == [1, 1, 0]).all()
    assert model.score(X[:5], condition=["u"] * 5) > model.score(X[:5]) + 0.4  # log 2 without the condition
    with pytest.raises(ValueError, match=r"guidance scale of 2 needs a model trained with conditions"):
        pf.Autoregressive(**TINY).fit(X).sample(1, guidance=2.0)


def test_what_it_cannot_learn_is_refused_before_training():
    with pytest.raises(ValueError, match=r"models of tokens learn laws of integers, but X has the value 0.5"):
        pf.Autoregressive(**TINY).fit(np.full((5, 2), 0.5) + np.arange(5)[:, None])
    with pytest.raises(ValueError, match=r"patch must be 1"):
        pf.Autoregressive(network=pf.TransformerSpec(width=8, heads=2, patch=2), train_steps=2).fit(np.eye(4, dtype=int))
