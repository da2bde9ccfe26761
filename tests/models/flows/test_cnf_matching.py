"""The warm start of continuous flows: flow matching, whose best field is known for Gaussians, before maximum likelihood."""

import signal
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

import pushforward as pf
from pushforward import training
from pushforward.models.flows.ode import LikelihoodTask, MatchingTask, ODEFlow
from pushforward.probability import noise
from pushforward.training import Batch
from pushforward.training.process.generators import fresh_module

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2)) * [1.0, 3.0]
S = torch.tensor([[1.3, 0.4, 0.0], [0.4, 0.5, -0.2], [0.0, -0.2, 0.8]], dtype=torch.float64)
SMALL = {"network": pf.MLPSpec(width=8, depth=1), "solver_steps": 1, "random_state": 0, "device": "cpu"}
BRIEF = pf.TrainingSettings(steps=20, batch_size=64, learning_rate=0.01, evaluations=1)


class Field(nn.Module):
    """x -> A x, which remembers what it was called with."""

    def __init__(self, a):
        super().__init__()
        self.a = nn.Parameter(a)

    def forward(self, x, t, condition=None):
        self.seen = x.detach(), 100 * t, condition
        return (x.flatten(1) @ self.a.T).reshape(x.shape)


def matching(field, *, shape=(3,), dropout=0.0, width=None, power=1.0):
    width = torch.zeros(shape) if width is None else width
    return MatchingTask(ODEFlow(field, 4, power), shape, condition_dropout=dropout, width=width)


def model(**changes):
    return pf.CNF(**SMALL | {"training": BRIEF, "matching_steps": 20} | changes)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_the_best_field_of_a_gaussian_has_the_least_loss_and_no_gradient(t):
    """The loss is quadratic in (x, z), so its mean is exact over points with the mean and covariance of the joint law."""
    half = torch.linalg.cholesky(S)
    points = 6**0.5 * torch.cat((torch.eye(6), -torch.eye(6))).double()
    x, z = points[:, :3] @ half.T, points[:, 3:]
    identity = torch.eye(3, dtype=torch.float64)
    crossed, spread = t * identity - (1 - t) * S, (1 - t) ** 2 * S + t**2 * identity
    best = crossed @ torch.linalg.inv(spread)
    task = matching(Field(best.clone()))
    own = torch.eye(12, dtype=torch.float64)  # a condition for each row: none may exchange its noise
    batch = Batch(x, own, (torch.full((12,), t, dtype=torch.float64), z))
    loss = task(batch).mean()
    loss.backward()
    assert loss.item() == pytest.approx(torch.trace(identity + S - best @ crossed.T).item(), rel=1e-12)
    assert task.flow.network.a.grad.abs().max() < 1e-12
    with torch.no_grad():
        task.flow.network.a += 0.1
    assert task(batch).mean() > loss + 1e-3


def test_noise_is_dealt_at_the_least_cost_among_rows_of_one_condition():
    x, z = torch.as_tensor(RNG.normal(size=(2, 24, 3)))
    label = torch.arange(24) % 3
    condition = nn.functional.one_hot(label, 3).double()
    t = torch.full((24,), 0.25, dtype=torch.float64)
    field = Field(torch.zeros(3, 3, dtype=torch.float64))
    kept = torch.where(torch.arange(24) < 15, 1.0, 0.0)
    for dropout, group in ((0.0, label), (0.5, torch.where(kept > 0, label, 3))):
        task = matching(field, dropout=dropout)
        loss = task(Batch(x, condition, (kept, t, z) if dropout else (t, z)))
        at, times, told = field.seen
        dealt = (at - 0.75 * x) / 0.25
        assert torch.allclose(times, t)
        assert torch.equal(told, condition if dropout == 0 else condition * kept[:, None])
        assert torch.allclose(loss, (dealt - x).square().sum(1))
        for one in group.unique():
            rows = (group == one).nonzero()[:, 0]
            cost = torch.cdist(x[rows], z[rows]).square()
            best = linear_sum_assignment(cost.numpy())
            assert len(best[0]) > 2
            assert torch.allclose(dealt[rows], z[rows][torch.as_tensor(best[1])])
            assert cost[best].sum() < cost.diagonal().sum()


def test_integers_are_filled_in_before_noise_is_dealt():
    width = torch.tensor([0.0, 0.5, 2.0])
    field = Field(torch.zeros(3, 3, dtype=torch.float64))
    x, u, z = torch.as_tensor(RNG.random((3, 10, 3)))
    t = torch.zeros(10, dtype=torch.float64)
    matching(field, width=width)(Batch(x, None, (u, t, z)))
    assert torch.allclose(field.seen[0], x + width * u)


def test_times_cover_the_path_as_the_steps_do():
    task = matching(Field(torch.zeros(3, 3)), power=2.0)
    t, z = task.numbers(torch.arange(100), 100, torch.arange(3), 0)
    assert (t.shape, z.shape) == ((3, 100), (3, 100, 3))
    assert torch.equal((t.sqrt() * 100).floor().int(), torch.arange(100).expand(3, 100).int())
    assert abs(z.std() - 1) < 0.1
    assert torch.equal(task.numbers(torch.arange(40, 50), 100, torch.arange(3), 0)[1], z[:, 40:50])


def test_no_step_of_matching_is_plain_maximum_likelihood():
    plain = model(matching_steps=0).fit(X)
    twin = model(matching_steps=0)
    prepared = twin._prepare(pf.open_data(X))
    twin._fill_in(prepared)
    network = fresh_module(twin._network, 0)
    task = LikelihoodTask(
        ODEFlow(network.network, 1),
        (2,),
        kinetic=0.03,
        jacobian=0.03,
        offset=twin.space_.transform.log_det,
        condition_dropout=0.1,
        width=torch.zeros(2),
    )
    seed = noise.derive(0, "training")
    result = training.train(task, prepared.x, settings=BRIEF, seed=seed, held_out=prepared.held_out, device="cpu")
    assert (plain.flow_.power, plain.matching_steps_, plain.training_result_.steps) == (1.0, 0, 20)
    assert plain.training_result_.held_out_loss == result.held_out_loss
    for name, value in network.state_dict().items():
        assert torch.equal(value, plain.flow_.state_dict()[name])


def test_steps_of_the_solver_are_short_near_the_data():
    """dx/dt = 1 / (2 sqrt(t)) has the path x + t^(1/2), along which (k / n)^2 are steps of one length."""

    class Clock(nn.Module):
        def forward(self, x, t, condition=None):
            self.times.append(100 * t[0].item())
            return torch.ones_like(x)

    for power in (1.0, 2.0):
        clock = Clock()
        flow = ODEFlow(clock, 5, power)
        clock.times = []
        there = flow.latent(torch.zeros(1, 2, dtype=torch.float64))
        np.testing.assert_allclose(clock.times[::4], (np.arange(5) / 5) ** power, atol=1e-12)
        np.testing.assert_allclose(flow.inverse(there), 0, atol=1e-12)


def test_after_matching_the_solver_is_finest_where_images_are():
    images = RNG.integers(0, 9, (20, 4, 4)).astype(np.uint8)
    powers = []
    for rows, steps in ((images, 1), (images, 0), (X, 1)):
        powers.append(model(matching_steps=steps, train_steps=1).fit(rows).flow_.power)
    assert powers == [2.0, 1.0, 1.0]


def test_matching_alone_learns_most_of_a_law():
    truth = pf.probability.GaussianMixture([0.5, 0.5], [[-2.0], [2.0]], [0.3, 0.3])
    settings = pf.TrainingSettings(steps=1, batch_size=64, learning_rate=1e-6, evaluations=1)
    rows = truth.sample(600, seed=0).numpy()
    fitted = model(training=settings, matching_steps=200, solver_steps=3, network=pf.MLPSpec(width=32, depth=1)).fit(rows)
    new = truth.sample(400, seed=1)
    assert truth.log_prob(new).mean() - fitted.score(new.numpy()) < 0.3  # of 0.61 that the best Gaussian is off


def test_both_parts_are_counted_and_written_down(tmp_path):
    fitted = pf.train(X, model(train_steps=7, matching_steps=9), out=tmp_path / "run")
    result = fitted.training_result_
    assert (result.steps, fitted.training_.steps, fitted.matching_steps_) == (16, 7, 9)
    assert 9 < result.held_out_step <= 16
    assert result.parameters == sum(p.numel() for p in fitted.flow_.parameters())
    assert (tmp_path / "run" / "matching" / "metrics.jsonl").is_file()
    again = pf.CNF(**fitted._resolved()).fit(X)
    np.testing.assert_array_equal(again.sample(4, seed=0), fitted.sample(4, seed=0))
    assert pf.load(tmp_path / "run").training_result_ == result


def _pressed(*_, **__):
    raise KeyboardInterrupt


def _signal_at(monkeypatch, task, call):
    """Press Ctrl-C while the loss of ``task`` is taken for the ``call``-th time."""
    calls, loss = [], task.loss

    def pressed(self, *arguments):
        calls.append(0)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return loss(self, *arguments)

    monkeypatch.setattr(task, "loss", pressed)


@pytest.mark.parametrize(
    "part", [pytest.param("matching", marks=pytest.mark.full), "between", pytest.param("likelihood", marks=pytest.mark.full)]
)
def test_stopped_anywhere_it_ends_with_the_same_bits(part, tmp_path, monkeypatch):
    monkeypatch.setattr("pushforward.models.base.plan.plots.save", lambda *_: None)
    whole = pf.train(X, model(), out=tmp_path / "whole")
    with monkeypatch.context() as patch:
        if part == "between":
            patch.setattr(LikelihoodTask, "__init__", lambda *_, **__: None)
            patch.setattr("pushforward.models.base.trained.TrainedModel._learn", _pressed)
        else:
            _signal_at(patch, MatchingTask if part == "matching" else LikelihoodTask, 11)
        with pytest.raises(KeyboardInterrupt):
            pf.train(X, model(), out=tmp_path / "stopped")
    found = [(tmp_path / "stopped" / place / "checkpoint").exists() for place in ("matching", ".")]
    assert found == [True, part == "likelihood"]
    resumed = pf.train(X, out=tmp_path / "stopped", resume=True)
    files = [tmp_path / name / "weights.safetensors" for name in ("whole", "stopped")]
    assert files[0].read_bytes() == files[1].read_bytes()
    np.testing.assert_array_equal(resumed.sample(4, seed=0), whole.sample(4, seed=0))
    assert resumed.training_result_.held_out_step == whole.training_result_.held_out_step


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (-1, ValueError, r"CNF: matching_steps=-1 is not allowed: it should be greater than or equal to 0"),
        (2.5, TypeError, r"CNF: matching_steps=2.5 is not allowed: it should be a valid integer"),
        ("many", TypeError, r"CNF: matching_steps='many' is not allowed: it should be a valid integer"),
    ],
)
def test_what_is_no_number_of_steps_is_refused(value, error, said):
    with pytest.raises(error, match=said):
        pf.CNF(matching_steps=value).fit(X)


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [(np.zeros((100_000, 2), np.float32), 3000), (np.zeros((100, 2)), 50), (np.zeros((80, 8, 8), np.uint8), 90)],
)
def test_rows_that_are_few_are_not_seen_too_often(rows, wanted):
    """140 epochs of vectors in batches of 256, and 80 of images in batches of 64, of the nine tenths that are trained on."""
    rows = rows + RNG.integers(0, 2, rows.shape).astype(rows.dtype)
    found = pf.CNF(random_state=0)
    found._fill_in(found._prepare(pf.open_data(rows)))
    assert found.matching_steps_ == wanted


def test_the_time_is_shared_between_both_parts(monkeypatch):
    """Of 95 s, as 5 are kept back, images take 1 s. A step of matching is said to take 0.01 s and one of likelihood 0.1 s, all else of each part 0.5 s."""

    def step(task, *_, **__):
        return 0.01 if isinstance(task, MatchingTask) else 0.1

    monkeypatch.setattr(training, "measure_step_seconds", step)
    monkeypatch.setattr(training, "measure_overhead", lambda *_, **__: SimpleNamespace(evaluation=0.0, of=lambda _: 0.5))
    monkeypatch.setattr("pushforward.models.flows.cnf.CNF._plot_seconds", lambda *_: 0.25)
    for wanted in (None, 20, 0):
        timed = model(max_time=100.0, matching_steps=wanted)
        prepared = timed._prepare(pf.open_data(RNG.normal(size=(8000, 2))))
        resolved = timed._resolve(prepared)
        spent = 0.01 * timed.matching_steps_ + 0.1 * timed.training_.steps
        if wanted == 0:
            assert timed.matching_steps_ == 0
            assert spent == pytest.approx(95 - 1.5, abs=0.11)
            assert timed._seconds(resolved, prepared) == pytest.approx(spent + 0.5)
        else:
            assert spent == pytest.approx(95 - 2.0, abs=0.12)
            assert (timed.matching_steps_, timed.training_.steps) == (5580, 372)
            assert timed._seconds(resolved, prepared) == pytest.approx(spent + 1.0)
        assert timed._resolved()["max_time"] is None
        assert timed._resolved()["matching_steps"] == timed.matching_steps_
    few = model(max_time=100.0)
    few._resolve(few._prepare(pf.open_data(X)))
    assert few.matching_steps_ == 2 * 40  # twice the 140 epochs of 72 rows
    assert 0.01 * 80 + 0.1 * few.training_.steps == pytest.approx(95 - 2.0, abs=0.11)
