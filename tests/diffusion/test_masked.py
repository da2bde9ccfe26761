"""Hiding and uncovering tokens, against laws that are known exactly."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from pushforward import diffusion
from pushforward.diffusion import mask_tokens, masked_bound, masked_loss, unmask
from pushforward.probability import MarkovChain

K, L = 3, 4
STATES = torch.tensor(list(itertools.product(range(K), repeat=L)))


def random_law(seed=0):
    """A law of all K^L rows without any structure."""
    weights = torch.from_numpy(np.random.default_rng(seed).exponential(size=len(STATES)) ** 2)
    return weights / weights.sum()


def exact_network(law, states=STATES, values=K):
    """The law of every token given those that are seen, by summing over all rows."""
    one_hot = torch.nn.functional.one_hot(states, values).double()

    def network(tokens, condition=None):
        fits = ((tokens[:, None] == states) | (tokens[:, None] < 0)).all(2)
        weights = fits * law
        return (torch.einsum("bs,slk->blk", weights, one_hot) / weights.sum(1)[:, None, None]).log()

    return network


def wrong_network(seed=0):
    """Logits that are a function of what is seen, but the conditionals of no law."""
    table = torch.from_numpy(np.random.default_rng(seed).normal(size=((K + 1) ** L, L, K)))
    powers = (K + 1) ** torch.arange(L)
    return lambda tokens, condition=None: table[((tokens + 1) * powers).sum(1)]


def costs_of_sets(network, row):
    """S of every set of hidden tokens, as a mapping from the set."""
    sets = [torch.tensor([bool(number >> place & 1) for place in range(L)]) for number in range(1, 2**L)]
    found = {}
    for hidden in sets:
        log = network(row.masked_fill(hidden, -1)[None])[0].log_softmax(1)
        found[tuple(hidden.tolist())] = -float(log[torch.arange(L), row][hidden].sum())
    return found


def test_the_mean_of_the_loss_is_the_integral_over_continuous_time():
    network, row = wrong_network(), torch.tensor([2, 0, 1, 1])
    costs = costs_of_sets(network, row)

    def integrand(t):
        return sum(cost * t ** sum(hidden) * (1 - t) ** (L - sum(hidden)) for hidden, cost in costs.items()) / t

    wanted = integrate.quad(integrand, 0, 1)[0]
    mean = 0.0
    for order in itertools.permutations(range(L)):
        for count in range(L):
            u, v = torch.tensor([order]).argsort() / L, torch.tensor([(count + 0.3) / L])
            mean += float(masked_loss(network, row[None], mask_tokens(u, v))) / (math.factorial(L) * L)
    assert mean == pytest.approx(wanted, rel=1e-6)


def test_every_set_of_a_size_is_hidden_equally_often_and_only_of_free_tokens():
    n = 40_000
    numbers = torch.from_numpy(np.random.default_rng(0).random((n, 5)))
    free = torch.tensor([True, False, True, True])
    hidden = mask_tokens(numbers[:, :4], numbers[:, 4], free)
    assert not hidden[:, 1].any()
    counts = np.unique(hidden.numpy() @ [1, 0, 2, 4], return_counts=True)
    assert counts[0].tolist() == [1, 2, 3, 4, 5, 6, 7]
    wanted = np.array([1, 1, 1, 1, 1, 1, 3]) / 9  # by bits: sizes 1, 1, 2, 1, 2, 2, 3
    assert stats.chisquare(counts[1], wanted * n).pvalue > 1e-4


def test_the_ends_of_the_uniform_numbers_hide_one_token_and_all():
    u = torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    assert mask_tokens(u, torch.tensor([0.0, 1.0])).sum(1).tolist() == [1, 3]
    assert mask_tokens(u, torch.tensor([0.5, 0.5]), torch.zeros(3, dtype=torch.bool)).sum() == 0


def test_with_exact_conditionals_the_bound_is_the_log_probability():
    law = random_law()
    rows = STATES[::7]
    found = masked_bound(exact_network(law), rows, draws=400, seed=1)
    error = found.values - law[::7].log().numpy()
    assert found.kind == "lower bound"
    assert found.nfe == 400
    assert found.dims == L
    assert np.abs(error / found.standard_error).max() < 4
    assert np.abs(error).max() < 0.3
    assert abs(error.mean()) < 3 * np.sqrt((found.standard_error**2).sum()) / len(rows)


def test_of_known_tokens_the_bound_is_that_of_the_others_given_them():
    law = random_law()
    rows = STATES[::11]
    free = torch.tensor([True, False, False, True])
    given = torch.stack([law[((row == STATES) | free).all(1)].sum() for row in rows])
    found = masked_bound(exact_network(law), rows, free=free, draws=400, seed=1)
    np.testing.assert_allclose(found.values, (law[::11] / given).log().numpy(), atol=0.25)
    assert found.dims == 2
    nothing = masked_bound(exact_network(law), rows, free=torch.zeros(L, dtype=torch.bool), draws=2)
    assert (nothing.values == 0).all()


@pytest.mark.parametrize("draws", [2, 3, 8])
def test_the_standard_error_is_not_too_small(draws):
    network, rows = wrong_network(), STATES[40:41].expand(3000, L)
    found = masked_bound(network, rows, draws=draws, seed=3)
    spread = found.values.std()
    stated = np.sqrt((found.standard_error**2).mean())
    assert 0.97 * spread < stated < 2.5 * spread
    assert np.isnan(masked_bound(network, rows[:2], draws=1).standard_error).all()


@pytest.mark.parametrize("draws", [1, 2, 3])
def test_counts_are_spread_over_draws_and_over_rows(draws):
    """The mean over many rows is far nearer to the truth than with counts drawn at random, of which the error is about 0.4."""

    def network(tokens, condition):
        many = (tokens < 0).sum(1)[:, None, None] > 2
        return torch.where(many, 0.0, 5.0 * torch.arange(K)).expand(*tokens.shape, K).double()

    rows = torch.zeros(2000, L, dtype=torch.int64)
    one = math.log(K), float(torch.logsumexp(5.0 * torch.arange(K).double(), 0))
    exact = -L * (one[0] + one[1]) / 2  # half of the counts cost the one, half the other
    for seed in range(3):
        assert abs(masked_bound(network, rows, draws=draws, seed=seed).values.mean() - exact) < 0.05


def test_numbers_of_a_row_depend_on_its_address_alone():
    network, rows = wrong_network(), STATES[:10]
    whole = masked_bound(network, rows, draws=3, seed=5, first=7).values
    np.testing.assert_array_equal(masked_bound(network, rows[4:], draws=3, seed=5, first=11).values, whole[4:])
    assert not np.array_equal(masked_bound(network, rows, draws=3, seed=6, first=7).values, whole)
    shared = masked_bound(network, rows, draws=3, seed=5, first=7, shared=True).values
    np.testing.assert_array_equal(masked_bound(network, rows[4:5], draws=3, seed=5, first=7, shared=True).values, shared[4:5])
    drawn = unmask(network, rows, seed=5, first=7)
    assert torch.equal(unmask(network, rows[4:], seed=5, first=11), drawn[4:])
    assert not torch.equal(unmask(network, rows, seed=6, first=7), drawn)


def frequencies(rows):
    return torch.bincount((rows * K ** torch.arange(L - 1, -1, -1)).sum(1), minlength=len(STATES)).double() / len(rows)


def test_uncovering_one_by_one_follows_the_law():
    law, n = random_law(), 20_000
    drawn = unmask(exact_network(law), torch.zeros(n, L, dtype=torch.int64), seed=2)
    assert stats.chisquare(frequencies(drawn) * n, law * n).pvalue > 1e-4


def test_uncovering_all_at_once_follows_the_product_of_marginals():
    law, n = random_law(), 20_000
    drawn = unmask(exact_network(law), torch.zeros(n, L, dtype=torch.int64), steps=1, seed=2)
    marginals = torch.einsum("s,slk->lk", law, torch.nn.functional.one_hot(STATES, K).double())
    product = marginals[torch.arange(L), STATES].prod(1)
    assert stats.chisquare(frequencies(drawn) * n, product * n).pvalue > 1e-4
    assert stats.chisquare(frequencies(drawn) * n, law * n).pvalue < 1e-6


def test_known_tokens_stay_and_the_others_follow_their_law_given_them():
    law, n = random_law(), 20_000
    rows = torch.tensor([1, 2, 0, 2]).repeat(n, 1)
    free = torch.tensor([True, False, True, False])
    drawn = unmask(exact_network(law), rows, free=free, seed=2)
    assert torch.equal(drawn[:, ~free], rows[:, ~free])
    fits = (STATES[:, ~free] == rows[0, ~free]).all(1)
    given = law[fits] / law[fits].sum()
    assert stats.chisquare(frequencies(drawn)[fits] * n, given * n).pvalue > 1e-4


def test_rows_may_know_different_tokens():
    network, rows = wrong_network(), STATES[:60]
    free = torch.from_numpy(np.random.default_rng(0).random((60, L)) < 0.5)
    drawn = unmask(network, rows, free=free, seed=1)
    assert torch.equal(drawn[~free], rows[~free])
    for row in (3, 17):
        alone = unmask(network, rows[row : row + 1], free=free[row : row + 1], seed=1, first=row)
        assert torch.equal(alone[0], drawn[row])


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_steps_are_network_calls_that_uncover_equally_many(steps):
    seen = []

    def network(tokens, condition=None):
        seen.append(int((tokens < 0).sum()))
        return torch.zeros(*tokens.shape, K)

    unmask(network, torch.zeros(1, L, dtype=torch.int64), steps=steps)
    steps = min(steps, L)
    assert seen == [L - L * step // steps for step in range(steps)]


def test_conditions_reach_the_network():
    def network(tokens, condition):
        return 50.0 * torch.nn.functional.one_hot(condition[:, :1].long(), K).expand(*tokens.shape, K)

    condition = torch.tensor([[2.0], [0.0]])
    rows = unmask(network, torch.zeros(2, L, dtype=torch.int64), condition=condition)
    assert rows.tolist() == [[2] * L, [0] * L]
    assert (masked_bound(network, rows, condition=condition, draws=2).values > -1e-6).all()


def test_of_a_markov_chain_rows_have_its_transitions_and_the_bound_its_entropy():
    chain = MarkovChain([[0.8, 0.1, 0.3], [0.1, 0.6, 0.3], [0.1, 0.3, 0.4]])
    start = chain.stationary()
    law = start[STATES[:, 0]] * chain.matrix[STATES[:, 1:], STATES[:, :-1]].prod(1)
    network, n = exact_network(law), 10_000
    rows = unmask(network, torch.zeros(n, L, dtype=torch.int64), seed=0)
    counts = torch.zeros(K, K).index_put_((rows[:, 1:].flatten(), rows[:, :-1].flatten()), torch.ones(1), accumulate=True)
    assert (counts / counts.sum(0) - chain.matrix).abs().sum(0).max() / 2 < 0.02
    entropy = -(start * start.log()).sum() - (L - 1) * (start * (chain.matrix * chain.matrix.log()).sum(0)).sum()
    found = masked_bound(network, chain.sample(4000, L - 1, start=start, seed=1), draws=4)
    error = np.sqrt(found.values.var() / len(found.values))
    assert abs(-found.values.mean() - float(entropy)) < 4 * error < 0.2


def test_the_names_stand_in_the_room():
    assert diffusion.mask_tokens is mask_tokens
    assert diffusion.unmask is unmask
