"""The laws of decoders against SciPy: they sum to one, are drawn as they are scored, and lose nothing in the tails."""

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.data import Transform
from pushforward.models.autoencoders.likelihoods import default_likelihood, make_likelihood

INTEGERS = Transform.fit(torch.tensor([[2.0, 0.0], [7.0, 1.0], [4.0, 0.0]]), integer=True, kind="vectors")
COINS = Transform.fit(torch.tensor([[4.0, 0.0], [5.0, 1.0]]), integer=True, kind="vectors")
EDGES = (torch.tensor([2.0, 0.0]), torch.tensor([7.0, 1.0]))
CLOSED = Transform.fit(torch.tensor([[2.0, 0.0], [7.0, 1.0], [4.0, 0.0]]), integer=True, kind="vectors", limits=EDGES)
CLOSED_COINS = Transform.fit(
    torch.tensor([[4.0, 0.0], [5.0, 1.0]]),
    integer=True,
    kind="vectors",
    limits=(torch.tensor([4.0, 0.0]), torch.tensor([5.0, 1.0])),
)
REALS = Transform.fit(torch.tensor([[1.0, -3.0], [2.0, 5.0], [4.0, 0.0]]), integer=False, kind="vectors")
MIXED = Transform.fit(torch.tensor([[2.0, 0.5], [7.0, 1.5], [4.0, 0.0]]), integer=[True, False], kind="vectors")


def middle(transform, values):
    return transform.forward(torch.as_tensor(values, dtype=torch.float64)) + transform.dequantization / 2


@pytest.mark.parametrize("name", ["gaussian", "diagonal"])
def test_gaussian_is_scipys(name):
    law = make_likelihood(name, REALS).double()
    log_std = torch.tensor([-0.5, -0.5] if name == "gaussian" else [-0.5, 0.3], dtype=torch.float64)
    law.log_std.data = log_std[0] if name == "gaussian" else log_std
    x, mean = torch.tensor([[0.3, -1.0], [2.0, 4.0]]).double(), torch.tensor([[0.0, 0.5], [-1.0, 3.0]]).double()
    expected = stats.norm(mean.numpy(), log_std.exp().numpy()).logpdf(x.numpy()).sum(1)
    np.testing.assert_allclose(law.log_prob(mean, x).detach().numpy(), expected, rtol=1e-12)
    assert law.log_std.numel() == (1 if name == "gaussian" else 2)
    drawn = law.draw(torch.zeros(40_000, 2).double(), torch.arange(40_000), seed=0)
    np.testing.assert_allclose(drawn.detach().std(0).numpy(), log_std.exp().numpy(), rtol=0.02)


@pytest.mark.parametrize("scale", [-30.0, -3.0, 0.0, 3.0])
def test_probabilities_of_integers_are_those_of_the_logistic_law_and_sum_to_one(scale):
    law = make_likelihood("logistic", INTEGERS).double()
    output = torch.tensor([[0.3, -0.8, scale, 0.1]], dtype=torch.float64)
    unit = float(law._parts(output)[1].exp()[0, 0] * INTEGERS.scale[0])
    mean = float(INTEGERS.shift[0] + 0.3 * INTEGERS.scale[0])
    second = make_likelihood("logistic", INTEGERS).double()
    second.counted[1] = False
    found = [
        float(second.log_prob(output, middle(INTEGERS, [[k, 0.0]]))) - float(INTEGERS.scale[0].log()) for k in range(-40, 50)
    ]
    edges = np.array([-np.inf, 3, 4, 5, 6, 7, np.inf])
    inside = np.diff(stats.logistic(mean, unit).cdf(edges))
    # One row of three has each end, so by the rule of succession an end gives a third of its mass to the values beyond.
    tail = 2 / 3 * (1 / 3) ** np.arange(43)
    expected = np.concatenate([inside[0] * tail[42::-1], inside[1:-1], inside[-1] * tail])
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-5, atol=1e-9)
    assert np.exp(found).sum() == pytest.approx(1, abs=1e-6)


def test_the_logistic_law_of_real_numbers_is_scipys():
    law = make_likelihood("logistic", MIXED).double()
    law.counted[0] = False
    output = torch.tensor([[0.0, 0.4, 0.0, -1.0]], dtype=torch.float64)
    x = torch.tensor([[0.0, 1.3]], dtype=torch.float64)
    unit = float(law._parts(output)[1].exp()[0, 1])
    assert float(law.log_prob(output, x)) == pytest.approx(stats.logistic(0.4, unit).logpdf(1.3), rel=1e-10)


def test_tails_are_finite_and_have_a_gradient():
    law = make_likelihood("logistic", INTEGERS)
    for mean in (-1e4, 1e4):
        output = torch.tensor([[mean, mean, -20.0, -20.0]], requires_grad=True)
        for k in (2.0, 4.0, 7.0):
            value = law.log_prob(output, middle(INTEGERS, [[k, 1.0]]).float())
            assert value.isfinite().all()
            assert torch.autograd.grad(value.sum(), output)[0].isfinite().all()


@pytest.mark.parametrize(("name", "transform"), [("logistic", CLOSED), ("bernoulli", CLOSED_COINS)])
def test_integers_are_drawn_as_they_are_scored(name, transform):
    law = make_likelihood(name, transform).double()
    one = [[0.2, -0.4, -1.0, 0.5]] if name == "logistic" else [[0.4, -1.1]]
    n = 40_000
    output = torch.tensor(one, dtype=torch.float64).repeat(n, 1)
    values = transform.inverse(law.draw(output, torch.arange(n), seed=3)).numpy()
    first = np.unique(values[:, 0])
    total = 0.0
    for k in first:
        for j in (0.0, 1.0):
            score = float(law.log_prob(output[:1], middle(transform, [[k, j]]))) + transform.log_det
            seen = ((values[:, 0] == k) & (values[:, 1] == j)).mean()
            assert seen == pytest.approx(np.exp(score), abs=4 * np.sqrt(np.exp(score) / n) + 1e-4)
            total += np.exp(score)
    assert total == pytest.approx(1, abs=1e-4)


def test_bernoulli_is_a_coin_for_any_two_neighbors():
    law = make_likelihood("bernoulli", COINS).double()
    output = torch.tensor([[0.7, -2.0]], dtype=torch.float64)
    p = 1 / (1 + np.exp(-output.numpy()[0]))
    score = float(law.log_prob(output, middle(COINS, [[5.0, 0.0]]))) + COINS.log_det
    assert score == pytest.approx(np.log(2 / 3 * p[0]) + np.log(2 / 3 * (1 - p[1])), rel=1e-6)
    wide = torch.cartesian_prod(torch.arange(-30, 40), torch.arange(-30, 30))
    assert float((law.log_prob(output, middle(COINS, wide)) + COINS.log_det).exp().sum()) == pytest.approx(1, abs=1e-6)
    np.testing.assert_array_equal(COINS.inverse(law.center(output)).numpy(), [[5.0, 0.0]])


def test_bernoulli_refuses_other_data():
    for transform in (INTEGERS, REALS):
        with pytest.raises(ValueError, match=r"two neighboring integers.*use likelihood='logistic'"):
            make_likelihood("bernoulli", transform)


def test_the_draw_of_a_row_is_its_own():
    for name in ("gaussian", "logistic"):
        law = make_likelihood(name, INTEGERS)
        output = torch.zeros(6, 2 * law.outputs)
        whole = law.draw(output, torch.arange(6), seed=1)
        torch.testing.assert_close(law.draw(output[2:4], torch.arange(2, 4), seed=1), whole[2:4], rtol=0, atol=0)
        assert (law.draw(output, torch.arange(6), seed=2) != whole).any()


def test_the_default_follows_the_data():
    names = [default_likelihood(transform) for transform in (INTEGERS, COINS, REALS, MIXED)]
    assert names == ["logistic", "bernoulli", "gaussian", "gaussian"]


def test_constant_pixels_are_not_counted():
    images = torch.tensor([[[[0.0, 3.0], [5.0, 1.0]]], [[[0.0, 7.0], [5.0, 4.0]]]])
    transform = Transform.fit(images, integer=True, kind="images")
    for name in ("gaussian", "diagonal", "logistic"):
        law = make_likelihood(name, transform)
        assert law.dims == 2
        output = torch.zeros(2, law.outputs, 2, 2)
        x = transform.forward(images)
        before = law.log_prob(output, x)
        output[:, :, 0, 0], output[:, :, 1, 0] = 3.0, -4.0
        torch.testing.assert_close(law.log_prob(output, x), before)


def test_levels_have_the_probabilities_of_a_softmax_and_scores_a_normal_law():
    generator = torch.Generator().manual_seed(0)
    sizes, shares = (3, 1, 2), (0.2, 0.5, 0.3)
    columns = torch.repeat_interleave(torch.arange(3), torch.tensor(sizes))
    level = torch.multinomial(torch.tensor(shares), 60, replacement=True, generator=generator)
    other = torch.arange(60) % 2
    hot = torch.nn.functional.one_hot
    x = torch.cat([hot(level, 3), torch.randn(60, 1, generator=generator), hot(other, 2)], 1).double()
    transform = Transform.fit(x, integer=False, kind="tables")
    law = make_likelihood(default_likelihood(transform, columns), transform, columns).double()
    assert law.dims == 3
    output = torch.randn(1, 12, generator=generator).double()
    mean, log_std = law._parts(output)
    one, two = mean[0, :3].softmax(0), mean[0, 4:].softmax(0)
    rows = [
        torch.cat([hot(torch.tensor(a), 3), torch.tensor([0.3]), hot(torch.tensor(b), 2)]) for a in range(3) for b in range(2)
    ]
    z = transform.forward(torch.stack(rows).double())
    density = stats.norm(mean[0, 3].item(), log_std[0, 3].exp().item()).pdf(z[0, 3].item())
    expected = [(one[a] * two[b]).item() * density for a in range(3) for b in range(2)]
    np.testing.assert_allclose(law.log_prob(output.expand(6, -1), z).exp().numpy(), expected, rtol=1e-6)
    drawn = transform.inverse(law.draw(output.expand(20_000, -1), torch.arange(20_000), seed=0))
    np.testing.assert_allclose(drawn[:, :3].mean(0).numpy(), one.numpy(), atol=0.012)
    np.testing.assert_allclose(drawn[:, 4:].sum(1).numpy(), 1, atol=1e-6)
    with pytest.raises(ValueError, match="likelihood='gaussian' does not fit, as the data are a table"):
        make_likelihood("gaussian", transform, columns)
    with pytest.raises(ValueError, match="likelihood='columns' does not fit, as the data are not a table"):
        make_likelihood("columns", transform)
