"""Relabelings are fair, keep their numbers, and give each figure the value that the figure has on the relabeled rows."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

import pushforward.metrics.two_sample as two_sample
from pushforward.metrics.associations import _relabeled_gaps, _Statistic
from pushforward.metrics.ball_relabel import relabeled_density_coverage, relabeled_precision_recall
from pushforward.metrics.coverage import density_coverage, precision_recall
from pushforward.metrics.frechet import _relabeled, frechet_distance
from pushforward.metrics.relabel import BlockSwaps, chance, pair_words, two_sided, unpacked
from pushforward.metrics.two_sample import wasserstein_columns


def test_pairs_swap_by_a_fair_coin_and_the_first_relabeling_is_the_truth():
    labels = unpacked(pair_words(50, seed=1))
    assert labels.shape == (100, 2048)
    assert labels[:, 0].tolist() == [1] * 50 + [0] * 50
    np.testing.assert_array_equal(labels[:50] + labels[50:], 1)
    assert abs(labels[:50, 1:].mean() - 0.5) < 4 * 0.5 / (50 * 2047) ** 0.5
    swaps = BlockSwaps.draw(300, 200, seed=1)
    member = swaps.member[swaps.block]
    assert (member.sum(axis=0) == 300).all()
    assert member[:, 0].tolist() == [1] * 300 + [0] * 200
    assert len(np.unique(swaps.block)) == 129


def test_the_p_value_is_the_rank_of_the_truth():
    assert chance([np.array([[0.0, 1.0, 2.0, 3.0]])]) == [(0.5, "below")]
    assert chance([np.array([[2.0], [1.0]]), np.array([[2.0], [4.0]]), np.array([[2.0], [3.0]])]) == [
        (1.0, "above"),
        (2 / 3, "below"),
    ]
    assert two_sided(0.3, 0.01) == (0.02, "below")


def test_no_more_relabelings_are_drawn_than_decide_and_the_p_value_stays_exact():
    """A figure with the tail probability u gets the mean of h / l, which is that of Besag and Clifford, and not of l draws."""
    rng, taken = np.random.default_rng(0), []

    def draws(truth):
        yield np.concatenate([[[truth]], rng.random((1, 63))], axis=1)
        for count in range(2, 33):
            taken.append(count)
            yield rng.random((1, 64))

    p_values = np.array([chance(draws(rng.random()))[0][0] for _ in range(2_000)])
    for level in (0.01, 0.05, 0.2, 0.5):
        assert abs(np.mean(p_values <= level) - level) < 4 * (level * (1 - level) / 2_000) ** 0.5
    assert len(taken) / 2_000 < 0.35 * 32
    taken.clear()
    chance(draws(1.1))
    assert len(taken) == 31


def test_joint_p_values_look_at_the_largest_figure():
    chunk = np.array([[2.0, 1.0, 0.0, 1.5], [0.0, 3.0, 1.0, 1.0]])
    assert chance([chunk])[0] == (0.5, "above")  # of 4 columns the truth alone reaches 2; of their largest figures, two do
    assert chance([chunk], jointly=True)[0][0] == 1.0
    chunk = np.concatenate([[[5.0], [0.0]], np.random.default_rng(0).random((2, 99))], axis=1)
    chunk[1, 7] = 6.0
    assert chance([chunk])[0] == (0.02, "above")
    assert chance([chunk], jointly=True)[0] == (0.04, "above")


def _by_hand(P, Q, k):
    apart = cdist(P, Q)
    of_p, of_q = (np.sort(cdist(rows, rows), axis=1)[:, k] for rows in (P, Q))
    pooled = np.concatenate([P, Q])
    # Balls end with the list of 8 + 5 k neighbors among all rows.
    ends = np.sort(cdist(pooled, pooled), axis=1)[:, min(8 + 5 * k, len(pooled) - 1)]
    of_p, of_q = np.minimum(of_p, ends[: len(P)]) * (1 + 1e-6), np.minimum(of_q, ends[len(P) :]) * (1 + 1e-6)
    inside = apart <= of_q
    recall = (apart <= of_p[:, None]).any(axis=0)
    return inside.any(axis=1).mean(), recall.mean(), inside.sum() / len(P), inside.any(axis=0).mean()


@pytest.mark.parametrize("kind", ["continuous", "copies", "crowded", "hardly any"])
def test_balls_of_relabeled_rows_are_those_of_all_distances(kind):
    rng = np.random.default_rng(0)
    n = 21 if kind == "hardly any" else 120
    P, Q = rng.normal(size=(2, n, 2))
    if kind == "copies":
        P, Q = rng.normal(size=(80, 2))[rng.integers(0, 80, (2, n))]
    if kind == "crowded":
        P = 1e-3 * P
    figures = np.concatenate(
        [np.concatenate(list(of(P, Q, k=3, seed=5)), axis=1) for of in (relabeled_precision_recall, relabeled_density_coverage)]
    )
    generator = np.random.default_rng([5, 4])
    pooled = np.concatenate([rows[generator.permutation(n)] for rows in (P, Q)])
    labels = unpacked(pair_words(n, seed=5)).astype(bool)
    for column in (0, 1, 700, 2047):
        expected = _by_hand(pooled[labels[:, column]], pooled[~labels[:, column]], 3)
        np.testing.assert_allclose(figures[:, column], expected, rtol=1e-12)


def test_more_equal_rows_than_a_list_holds_do_not_tell_the_sets_apart():
    rng, found = np.random.default_rng(0), []
    for seed in range(40):
        P, Q = rng.integers(0, 2, (2, 80, 1)).astype(float)
        found += [measure.p_value for of in (precision_recall, density_coverage) for measure in of(P, Q, seed=seed)]
    assert np.mean(np.array(found) <= 0.05) < 0.1


def test_columns_of_relabeled_rows_have_the_distances_of_scipy():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=70), rng.normal(size=50) + 0.3
    swaps, pooled = BlockSwaps.draw(70, 50, seed=2), np.concatenate([P, Q])
    found = np.concatenate(list(two_sample._relabeled_columns(pooled[:, None], swaps, 70)), axis=1)[0]
    for column in (0, 1, 50, 8191):
        chosen = swaps.member[swaps.block, column]
        assert found[column] == pytest.approx(wasserstein_distance(pooled[chosen], pooled[~chosen]), rel=1e-9)


def test_quantiles_of_relabeled_rows_are_sorted_rows():
    rng = np.random.default_rng(0)
    P, Q = rng.normal(size=(2, 40, 1))
    found = np.concatenate(list(two_sample._relabeled_transport(P, Q, np.ones((1, 1)), 3)), axis=1)[0]
    assert found[0] == pytest.approx(((np.sort(P[:, 0]) - np.sort(Q[:, 0])) ** 2).sum(), rel=1e-12)
    generator = np.random.default_rng([3, 3])
    pooled = np.concatenate([rows[generator.permutation(40)] for rows in (P, Q)])[:, 0]
    labels = unpacked(pair_words(40, seed=3)).astype(bool)
    for column in (1, 99):
        p, q = np.sort(pooled[labels[:, column]]), np.sort(pooled[~labels[:, column]])
        assert found[column] == pytest.approx(((p - q) ** 2).sum(), rel=1e-12)


def test_the_second_order_of_the_frechet_distance_is_the_distance_for_close_laws():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 3)) @ np.array([[1.0, 0.3, 0.0], [0.0, 1.0, 0.2], [0.0, 0.0, 2.0]])
    close = rows * [1.02, 0.99, 1.01] + [0.01, -0.02, 0.01]
    exact = frechet_distance(close, rows, test=False).value
    assert next(_relabeled(close, rows, 0))[0, 0] == pytest.approx(exact, rel=0.01)


def test_gaps_of_relabeled_rows_are_those_of_numpy():
    rng = np.random.default_rng(0)
    pooled = rng.normal(size=(110, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])

    def moments(weights):
        return np.concatenate([weights @ pooled, ((pooled * weights[:, None]).T @ pooled).ravel()])

    def of(moments, n):
        mean, square = moments[:, :2], moments[:, 2:].reshape(-1, 2, 2)
        cov = square - mean[:, :, None] * mean[:, None]
        return (cov[:, 0, 1] / np.sqrt(cov[:, 0, 0] * cov[:, 1, 1]))[:, None]

    found = np.concatenate(list(_relabeled_gaps(_Statistic(moments, of), 60, 50, 4)), axis=1)[0]
    swaps = BlockSwaps.draw(60, 50, 4)
    for column in (0, 1, 500):
        chosen = swaps.member[swaps.block, column]
        truth = abs(np.corrcoef(pooled[chosen].T)[0, 1] - np.corrcoef(pooled[~chosen].T)[0, 1])
        assert found[column] == pytest.approx(truth, rel=1e-9)


def test_the_largest_of_many_columns_is_no_finding():
    """Of 30 columns of one law the one that looks worst is below 5 % in most draws; its joint p-value is not."""
    alone, jointly = [], []
    for seed in range(10):
        P, Q = np.random.default_rng(seed).normal(size=(2, 20, 30))
        alone.append(min(one.p_value for one in wasserstein_columns(P, Q, seed=seed)))
        jointly.append(min(one.p_value for one in wasserstein_columns(P, Q, seed=seed, jointly=True)))
    assert np.mean(np.array(alone) <= 0.05) >= 0.5
    assert np.mean(np.array(jointly) <= 0.05) <= 0.3
