"""Hidden trees against the sum over all states of all columns."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hidden_trees import STATES, random_law
from scipy import stats
from sklearn.metrics import mutual_info_score

from pushforward.probability.circuits import evidence, structure
from pushforward.probability.circuits.tree import order_of
from pushforward.probability.domain import KNOWN, PRESENT, UNKNOWN, Domain

NAN = math.nan


def enumerated(law, x, state):
    """p(x) of one row under each tree, and the joint weights of all states (M, S, S, S, S)."""
    joint = np.zeros((len(law.trees), *[STATES] * 4))
    for number, tree in enumerate(law.trees):
        emission = np.ones((4, STATES))
        for column, basis in enumerate(law.bases):
            leaf = tree.leaves[column].numpy()
            cells = basis.cells(x[None, column])
            if state[column] == KNOWN:
                emission[column] = sum(
                    value * leaf[index] for index, value in zip(cells.index[0].tolist(), cells.value[0].tolist(), strict=True)
                )
            elif state[column] == PRESENT:
                emission[column] = leaf[1:].sum(0) if basis.gap else leaf.sum(0)
        for z in itertools.product(range(STATES), repeat=4):
            p = float(law.weights[number])
            for column, parent in enumerate(tree.parents):
                p *= float(tree.root[z[column]] if parent == -1 else tree.transitions[column, z[parent], z[column]])
                p *= emission[column, z[column]]
            joint[(number, *z)] = p
    return joint


LAW = random_law()
ROWS = torch.tensor(
    [[0, 1, 0, 0.5], [2, 3, -0.7, 1.9], [NAN, 6, NAN, 0.01], [1, 0, 30.0, 1.0], [0, 9, 0, 0.5], [1, 2, 0.3, NAN]],
    dtype=torch.float64,
)
PATTERNS = [
    [KNOWN] * 4,
    [UNKNOWN, KNOWN, KNOWN, UNKNOWN],
    [PRESENT, UNKNOWN, PRESENT, KNOWN],
    [UNKNOWN] * 4,
    [KNOWN, PRESENT, PRESENT, PRESENT],
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_densities_are_sums_over_all_states(pattern):
    state = torch.tensor(pattern).expand(len(ROWS), -1)
    wanted = [math.log(total) if (total := enumerated(LAW, x, pattern).sum()) else -math.inf for x in ROWS]
    np.testing.assert_allclose(LAW.log_prob(ROWS, state), wanted, rtol=1e-12, atol=1e-12)


def test_impossible_values_have_density_zero_and_the_rest_of_the_rows_does_not():
    log_prob = LAW.log_prob(ROWS)
    assert log_prob[4:].tolist() == [-math.inf, -math.inf]
    assert log_prob[:4].isfinite().all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_conditional_laws_of_cells_are_ratios_of_sums(pattern):
    state = torch.tensor(pattern).expand(4, -1)
    marginals = LAW.marginals(ROWS[:4], state)
    for row in range(4):
        joint = enumerated(LAW, ROWS[row], pattern)
        joint /= joint.sum()
        for column in range(4):
            others = tuple(axis for axis in range(1, 5) if axis != column + 1)
            of_states = joint.sum(others)
            wanted = sum(tree.leaves[column].numpy() @ of_states[number] for number, tree in enumerate(LAW.trees))
            np.testing.assert_allclose(marginals[column][row], wanted, rtol=1e-10, atol=1e-14)


def test_the_law_of_a_row_adds_up_to_that_of_its_parts():
    """Sums over the values of categories and integers, and Gauss-Legendre between knots, give the marginal density."""
    x = ROWS[1].clone()

    def of(column, values):
        return torch.stack([x.clone().index_fill(0, torch.tensor(column), float(value)) for value in values])

    def without(column):
        state = torch.full((1, 4), KNOWN).index_fill(1, torch.tensor(column), UNKNOWN)
        return LAW.log_prob(x[None], state).exp().item()

    for column, values in ((0, [NAN, 0, 1, 2]), (1, range(7))):
        assert LAW.log_prob(of(column, values)).exp().sum().item() == pytest.approx(without(column), rel=1e-10)
    knots, (node, weight) = LAW.bases[3].knots.numpy(), np.polynomial.legendre.leggauss(3)
    half = np.diff(knots)[:, None] / 2
    density = LAW.log_prob(of(3, (knots[:-1, None] + half * (1 + node)).ravel())).exp().numpy()
    assert knots[[0, -1]].tolist() == [0, 2]
    assert (half * weight).ravel() @ density == pytest.approx(without(3), rel=1e-10)


def test_log_densities_do_not_depend_on_blocks_of_rows(monkeypatch):
    whole = LAW.log_prob(ROWS)
    drawn = LAW.sample_given(ROWS, torch.tensor(PATTERNS[2]).expand(len(ROWS), -1), seed=1)
    monkeypatch.setattr(evidence, "_NUMBERS", 2 * 4 * STATES)
    np.testing.assert_allclose(LAW.log_prob(ROWS), whole, rtol=1e-13)
    np.testing.assert_allclose(
        LAW.sample_given(ROWS, torch.tensor(PATTERNS[2]).expand(len(ROWS), -1), seed=1), drawn, rtol=1e-12
    )


def test_rows_of_a_sample_are_functions_of_their_number():
    whole = LAW.sample(12, seed=3)
    np.testing.assert_array_equal(torch.cat([LAW.sample(5, seed=3), LAW.sample(7, seed=3, first=5)]), whole)
    assert not torch.equal(LAW.sample(12, seed=4).nan_to_num(), whole.nan_to_num())


def shares(values, column):
    """Frequencies of the atoms of a column, and of the other values by intervals between knots."""
    basis = LAW.bases[column]
    values = np.asarray(values)
    atoms = [np.isnan(values).mean()] + [(values == point).mean() for point in basis.points.tolist()]
    rest = values[~np.isnan(values) & ~np.isin(values, basis.points.numpy())]
    return np.r_[atoms, np.histogram(rest, [-np.inf, *basis.knots.tolist(), np.inf])[0] / len(values)]


def probabilities(weights, column):
    """The same of the law with these weights of elements, from draws of each element on a grid."""
    n, basis = 2000, LAW.bases[column]
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    each = [shares(basis.draw(torch.full((n,), number), u), column) for number in range(basis.size)]
    return np.asarray(weights) @ np.array(each)


@pytest.mark.parametrize("pattern", [PATTERNS[1], PATTERNS[2], PATTERNS[3]])
def test_draws_given_a_part_have_the_conditional_law(pattern):
    n, row = 20_000, ROWS[1]
    x, state = row.expand(n, -1), torch.tensor(pattern).expand(n, -1)
    drawn = LAW.sample_given(x, state, seed=7)
    marginals = LAW.marginals(row[None], state[:1])
    for column, cell in enumerate(pattern):
        if cell == KNOWN:
            assert (drawn[:, column] == row[column]).all()
            continue
        weights = marginals[column][0].clone()
        if cell == PRESENT and LAW.bases[column].gap:
            weights[0] = 0
            assert not drawn[:, column].isnan().any()
        wanted = probabilities(weights / weights.sum(), column)
        error = np.abs(shares(drawn[:, column], column) - wanted) / np.sqrt(wanted * (1 - wanted) / n + 1e-7)
        assert error.max() < 4.5


def test_draws_have_the_dependence_of_the_law():
    n = 20_000
    drawn = LAW.sample(n, seed=11)
    level, integer = drawn[:, 0].nan_to_num(nan=3.0), drawn[:, 1]
    table = torch.tensor([[NAN if a == 3 else a, b, 0, 0] for a in range(4) for b in range(7)], dtype=torch.float64)
    wanted = LAW.log_prob(table, torch.tensor([[KNOWN, KNOWN, UNKNOWN, UNKNOWN]]).expand(28, -1)).exp().numpy()
    counts = np.bincount((level * 7 + integer).long().numpy(), minlength=28)
    assert wanted.sum() == pytest.approx(1)
    assert stats.chisquare(counts, wanted * n).pvalue > 1e-3


def test_trees_without_one_root_are_refused():
    for parents in ((-1, -1), (1, 0), (-1, 2, 1)):
        with pytest.raises(ValueError, match=r"not those of a tree"):
            order_of(parents)


def test_parts_that_do_not_fit_are_refused():
    tree, other = LAW.trees
    for changed, message in (
        ({"weights": LAW.weights / 2}, "sum to one"),
        ({"trees": (replace(tree, parents=(-1, 0, 1)), other)}, "3 parents"),
        ({"trees": (replace(tree, leaves=tree.leaves[::-1]), other)}, "leaves as many"),
        ({"trees": (replace(tree, transitions=tree.transitions * 2), other)}, "must be float64, at least 0"),
        ({"trees": (replace(tree, root=tree.root.float()), other)}, "must be float64, at least 0"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(LAW, **changed)


def test_information_is_that_of_scikit_learn_less_its_bias():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 3, 400)
    code = np.column_stack([a, (a + rng.integers(0, 2, 400)) % 3, rng.integers(0, 4, 400)])
    found = structure.mutual_information(torch.from_numpy(code))
    for i, j, bias in ((0, 1, 4 / 800), (0, 2, 6 / 800), (1, 2, 6 / 800)):
        assert found[i, j].item() == pytest.approx(max(0, mutual_info_score(code[:, i], code[:, j]) - bias), abs=1e-6)


def test_the_tree_of_a_chain_is_the_chain():
    rng = np.random.default_rng(0)
    columns = [rng.normal(size=2000)]
    for _ in range(4):
        columns.append(columns[-1] + 0.5 * rng.normal(size=2000))
    order = [3, 0, 4, 1, 2]
    x = torch.from_numpy(np.column_stack(columns)[:, order])
    x[:50, 2] = NAN
    information = structure.mutual_information(structure.codes(x, (Domain("real"),) * 5))
    parents = structure.spanning_tree(information, jitter=0.0, seed=1)
    edges = {frozenset((order[child], order[parent])) for child, parent in enumerate(parents) if parent != -1}
    assert edges == {frozenset((i, i + 1)) for i in range(4)}
    assert len({structure.spanning_tree(information, jitter=2.0, seed=seed) for seed in range(5)}) > 1
