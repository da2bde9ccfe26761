"""Diffusion and flow matching against exact laws, their options, and their errors."""

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

import pushforward as pf
from pushforward import training
from pushforward.diffusion import Denoiser, ExactDenoiser
from pushforward.diffusion.coupling import assignment
from pushforward.diffusion.prediction import Prediction
from pushforward.models.base.plan import plan
from pushforward.models.denoising.source import ArraySource, GaussianSource
from pushforward.models.denoising.task import DenoisingTask
from pushforward.probability import Gaussian, GaussianMixture
from pushforward.training import Batch, TrainingSettings

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 3, "random_state": 0, "device": "cpu"}
LAW = GaussianMixture([0.3, 0.7], [[4.0, -2.0], [8.0, 2.0]], [0.5, 1.0])
SETTINGS = TrainingSettings(steps=300, batch_size=256, learning_rate=5e-3, ema=0.1)


# Pairs, predictions and schedules are compared with exact answers one by one, and the quick run sees DDPM and the exact denoiser learned below.
@pytest.mark.parametrize(
    ("model", "options"),
    [
        pytest.param(pf.FlowMatching(), {}, id="flow", marks=pytest.mark.full),
        pytest.param(pf.FlowMatching(coupling="optimal-transport"), {}, id="flow-ot", marks=pytest.mark.full),
        # Near t = 1 an error of eps is an error of x many times larger; the noise of DDPM's steps washes it out.
        pytest.param(pf.Diffusion(prediction="eps"), {"sampler": pf.DDPM(), "steps": 200}, id="ddpm", marks=pytest.mark.full),
        pytest.param(pf.Diffusion(schedule=pf.Cosine(), prediction="v"), {}, id="cosine-v", marks=pytest.mark.full),
        pytest.param(
            pf.Diffusion(schedule=pf.Exploding(0.02, 20.0), prediction="edm"), {}, id="exploding", marks=pytest.mark.full
        ),
    ],
)
def test_learns_a_known_law(model, options):
    """The sampled law has the mean and covariance of the mixture, and in one projection its distribution."""
    X = LAW.sample(4000, seed=0).numpy()
    model.set_params(
        network=pf.MLPSpec(width=48, depth=2), training=replace(SETTINGS, steps=1200), random_state=0, device="cpu"
    ).fit(X)
    x = model.sample(4000, seed=1, batch_size=4000, **options)
    np.testing.assert_allclose(x.mean(0), X.mean(0), atol=0.25)
    np.testing.assert_allclose(np.cov(x.T), np.cov(X.T), atol=0.8, rtol=0.1)
    quantiles = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(np.quantile(x[:, 0], quantiles), np.quantile(X[:, 0], quantiles), atol=0.45)


@pytest.mark.parametrize("prediction", get_args(Prediction))
def test_a_run_of_every_prediction_opens_with_the_same_samples(prediction, tmp_path):
    X = LAW.sample(64, seed=0).numpy()
    model = pf.Diffusion(schedule=pf.Cosine(), prediction=prediction, **TINY).fit(X)
    model.save(tmp_path / "run")
    np.testing.assert_array_equal(pf.load(tmp_path / "run").sample(3, steps=2, seed=1), model.sample(3, steps=2, seed=1))


@pytest.mark.parametrize(
    "make",
    [
        pf.Diffusion.ddpm,
        pytest.param(pf.Diffusion.ve, marks=pytest.mark.full),
        pytest.param(pf.Diffusion.vp, marks=pytest.mark.full),
        pytest.param(pf.Diffusion.sub_vp, marks=pytest.mark.full),
    ],
    ids=lambda m: m.__name__,
)
def test_classical_models_learn_a_known_law_that_their_own_samplers_find(make):
    law = Gaussian([1.0, -2.0], [[1.0, 0.6], [0.6, 0.5]])
    network = pf.MLPSpec(width=48, depth=2)
    model = make(network=network, training=SETTINGS, random_state=0, device="cpu").fit(law.sample(3000, seed=1))
    own = {
        "ddpm": {"sampler": pf.DDPM("beta", grid=pf.ChainGrid()), "steps": 100},
        "ve": {"sampler": pf.AnnealedLangevin(n_steps=20), "steps": 60},
    }.get(make.__name__, {"sampler": pf.ReverseSDE(), "steps": 100})
    for chosen in ({}, own):
        x = torch.as_tensor(model.sample(2000, seed=0, **chosen)).double()
        torch.testing.assert_close(x.mean(0), law.mean, atol=0.15, rtol=0)
        torch.testing.assert_close(x.T.cov(), law.cov, atol=0.25, rtol=0)


def test_samples_of_a_hasty_eps_model_stay_with_the_data():
    """Near noise its errors are multiplied by a thousand; without bounds a tenth of the rows came out beyond 100."""
    X = pf.open_data("moons").values
    model = pf.Diffusion(
        schedule=pf.Cosine(), prediction="eps", network=pf.MLPSpec(width=32, depth=2), train_steps=60, random_state=0
    )
    samples = model.fit(X).sample(1000, seed=1)
    low, high = X.min(0), X.max(0)
    assert ((samples > low - (high - low)) & (samples < high + (high - low))).all()


def test_learns_the_exact_denoiser():
    """On standardized Gaussian data E[x | x_t] is known in closed form at every time."""
    X = torch.randn(4000, 2)
    X = (X - X.mean(0)) / X.std(0, correction=0)
    model = pf.FlowMatching(network=pf.MLPSpec(width=48, depth=2), training=SETTINGS, random_state=0, device="cpu").fit(X)
    exact = ExactDenoiser(Gaussian([0.0, 0.0], 1.0), pf.StraightLine())
    x_t = torch.randn(500, 2)
    for t in (0.2, 0.5, 0.8):
        t = torch.tensor(t)
        scale = (pf.StraightLine().alpha(t) ** 2 + t**2).sqrt()
        torch.testing.assert_close(model.denoiser_(x_t * scale, t), exact(x_t * scale, t), atol=0.15, rtol=0)


def test_guidance_sharpens_and_conditions_select():
    model = pf.FlowMatching(network=pf.MLPSpec(width=48, depth=2), training=SETTINGS, random_state=0, device="cpu")
    X = np.concatenate([LAW.means[k].numpy() + np.random.default_rng(k).normal(size=(1500, 2)) for k in (0, 1)])
    model.fit(X, condition=["low"] * 1500 + ["high"] * 1500)
    low = model.sample(500, condition="low", seed=0)
    np.testing.assert_allclose(low.mean(0), LAW.means[0].numpy(), atol=0.35)
    ignoring = model.sample(500, condition="low", guidance=0.0, seed=0)
    np.testing.assert_allclose(ignoring.mean(0), X.mean(0), atol=0.5)
    sharp = model.sample(500, condition="low", guidance=4.0, seed=0)
    away = LAW.means[0].numpy() - LAW.means[1].numpy()
    assert ((sharp - low) @ away).mean() > 0


@pytest.mark.parametrize("condition", [None, torch.tensor([[1.0, 0], [1, 1], [1, 0], [1, 1], [1, 0], [1, 0]])])
def test_optimal_transport_within_conditions_is_the_best_assignment(condition):
    x, z = torch.randn(6, 3), torch.randn(6, 3)
    order = assignment(x, z, condition)
    assert sorted(order.tolist()) == list(range(6))
    groups = [range(6)] if condition is None else [(0, 2, 4, 5), (1, 3)]
    for group in groups:
        group = list(group)
        cost = ((x[group][:, None] - z[group][None]) ** 2).sum(-1).numpy()
        rows, columns = linear_sum_assignment(cost)
        best = cost[rows, columns].sum()
        assert ((x[group] - z[order[group]]) ** 2).sum().item() == pytest.approx(best, rel=1e-5)
        assert set(order[group].tolist()) == set(group)


def _task(**options):
    network = pf.MLPSpec(width=8, depth=1).build((2,), 3)
    return DenoisingTask(
        Denoiser(network, pf.StraightLine()), source=GaussianSource((2,)), times=pf.UniformTimes(), weight="velocity", **options
    )


def test_draws_are_stratified_and_addressed():
    task = _task(dequantization=torch.tensor([0.1, 0.0]), condition_dropout=0.1)
    dropout, u, t, z = task.draw(torch.arange(8), 8, torch.arange(5), 3)
    assert z.shape == (5, 8, 2)
    assert u.shape == (5, 8, 2)
    assert dropout.shape == (5, 8)
    assert torch.equal((t * 8).floor(), torch.arange(8.0).expand(5, 8))
    part = task.draw(torch.arange(4, 8), 8, torch.tensor([2]), 3)
    for one, whole in zip(part, (dropout, u, t, z), strict=True):
        assert torch.equal(one[0], whole[2, 4:])


def test_dropped_conditions_and_dequantization_enter_the_loss():
    """The task's loss equals the denoiser's own at x + width u with the condition of dropped rows removed."""
    task = _task(dequantization=torch.tensor([0.5, 0.0]), condition_dropout=0.5)
    nn.init.normal_(task.denoiser.network.last.weight)
    draws = tuple(part[0] for part in task.draw(torch.arange(8), 8, torch.tensor([0]), 3))
    x, condition = torch.randn(8, 2), torch.tensor([[1.0, 1, 0], [1, 0, 1]]).repeat(4, 1)
    dropout, u, t, z = draws
    kept = condition * (dropout >= 0.5)[:, None]
    assert 0 < kept[:, 0].sum() < 8
    expected = task.denoiser.loss(x + torch.tensor([0.5, 0.0]) * u, t, z, kept, weight="velocity")
    torch.testing.assert_close(task(Batch(x, condition, draws)), expected)
    held_out, level = task.held_out(Batch(x, condition, draws))
    torch.testing.assert_close(
        held_out, task.denoiser.loss(x + torch.tensor([0.5, 0.0]) * u, t, z, condition, weight="velocity")
    )
    assert torch.equal(level, t)


def test_optimal_transport_pairs_the_rows_that_are_trained_on_and_held_out():
    """The loss of a batch is that of the data with the noise assigned to it, not with the noise as drawn."""
    task = _task(coupling="optimal-transport")
    nn.init.normal_(task.denoiser.network.last.weight)
    draws = tuple(part[0] for part in task.draw(torch.arange(8), 8, torch.tensor([0]), 3))
    x, (t, z) = torch.randn(8, 2), draws
    order = torch.tensor(linear_sum_assignment(torch.cdist(x, z).square().numpy())[1])
    assert not torch.equal(order, torch.arange(8))
    loss = task.denoiser.loss(x, t, z[order], weight="velocity")
    torch.testing.assert_close(task(Batch(x, None, draws)), loss)
    torch.testing.assert_close(task.held_out(Batch(x, None, draws))[0], loss)  # which chooses the weights to keep


def test_optimal_transport_goes_by_the_conditions_themselves_also_where_they_are_dropped():
    task = _task(coupling="optimal-transport", condition_dropout=0.5)
    nn.init.normal_(task.denoiser.network.last.weight)
    draws = tuple(part[0] for part in task.draw(torch.arange(8), 8, torch.tensor([0]), 3))
    x, condition = torch.randn(8, 2), torch.tensor([[1.0, 1, 0], [1, 0, 1]]).repeat(4, 1)
    dropout, t, z = draws
    kept = condition * (dropout >= 0.5)[:, None]
    paired, by_kept = z[assignment(x, z, condition)], z[assignment(x, z, kept)]
    assert not torch.equal(paired, by_kept)
    expected = task.denoiser.loss(x, t, paired, kept, weight="velocity")
    torch.testing.assert_close(task(Batch(x, condition, draws)), expected)


def test_noise_of_a_stochastic_sampler_belongs_to_the_row():
    model = pf.FlowMatching(**TINY).fit(LAW.sample(50, seed=0).numpy())
    whole = model.sample(9, seed=3, sampler=pf.DDIM(eta=1.0), steps=4)
    np.testing.assert_allclose(model.sample(9, seed=3, sampler=pf.DDIM(eta=1.0), steps=4, batch_size=4), whole, atol=1e-5)
    np.testing.assert_allclose(model.sample(4, seed=3, sampler=pf.DDIM(eta=1.0), steps=4, first=5), whole[5:], atol=1e-5)


def test_the_data_scale_counts_dequantization():
    """The denoiser is told the standard deviation of what it sees: scaled integers with uniform noise one integer wide."""
    X = np.random.default_rng(0).integers(0, 3, size=(400, 2)).astype(np.int64)
    model = pf.FlowMatching(held_out=0.0, **TINY).fit(X)
    assert bool((model.space_.transform.dequantization > 0).all())
    scaled = model.space_.transform.forward(torch.from_numpy(X).double(), dtype=torch.float64)
    # A million draws of the noise, to be sure of the third digit: 1/12 of a squared step is a tenth of the variance.
    noise = torch.rand(2500, *scaled.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    seen = scaled + model.space_.transform.dequantization.double() * noise
    assert model.denoiser_.data_std == pytest.approx(seen.std().item(), rel=1e-3)


def test_source_law_is_carried_onto_the_data():
    """From a shifted Gaussian in data units; an untrained network leaves x_1 as the source, scaled as the data are."""
    X = LAW.sample(500, seed=0).numpy()
    source = Gaussian([6.0, 1.0], 0.01)
    model = pf.FlowMatching(source=source, **TINY).fit(X)
    z = model.source_.draw(torch.arange(2000), 0, 0, "sample")
    back = model.space_.transform.inverse(z).double()
    np.testing.assert_allclose(back.mean(0), [6.0, 1.0], atol=0.02)
    np.testing.assert_allclose(back.std(0), [0.1, 0.1], atol=0.02)
    assert torch.equal(model.source_.draw(torch.arange(5, 9), 0, 0, "sample"), z[5:9])
    assert not model.denoiser_.gaussian_source
    with pytest.raises(ValueError, match=r"not independent Gaussian noise"):
        model.sample(2, sampler=pf.DDPM())


def test_a_law_without_first_and_an_array_are_sources_too(tmp_path):
    class Law:
        def sample(self, n, *, seed):
            return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed % 2**32))

    X = LAW.sample(100, seed=0).numpy()
    assert pf.FlowMatching(source=Law(), **TINY).fit(X).sample(3, seed=0).shape == (3, 2)
    model = pf.FlowMatching(source=X[:10] * 0 + [1.0, 2.0], **TINY).fit(X)
    z = model.source_.draw(torch.arange(4), 0, 0, "sample")
    np.testing.assert_allclose(model.space_.transform.inverse(z), [[1.0, 2.0]] * 4, rtol=1e-5)
    model.save(tmp_path / "run")
    loaded = pf.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.sample(4, seed=1), model.sample(4, seed=1))


def test_paired_rows_are_learned_as_pairs():
    """y = x / 2 for every pair, whose paths do not cross: from a source row the flow arrives at its own partner."""
    start = np.random.default_rng(0).normal(size=(2000, 2))
    model = pf.FlowMatching(
        source=start, coupling="paired", network=pf.MLPSpec(width=48, depth=2), training=SETTINGS, random_state=0, device="cpu"
    ).fit(start / 2)
    given = np.random.default_rng(1).normal(size=(200, 2))
    with pytest.raises(ValueError, match=r"source has 200 rows to start from, but n=3"):
        model.sample(3, source=given)
    arrived = model.sample(200, source=given)
    np.testing.assert_allclose(model.sample(200, source=given, batch_size=64), arrived, atol=1e-5)
    assert np.abs(arrived - given / 2).mean() < 0.05


def test_a_network_of_ones_own(tmp_path):
    class Mine(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, x, t, condition):
            return self.layer(torch.cat((x, t[:, None]), 1))

    network, X = Mine(), LAW.sample(100, seed=0).numpy()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    model = pf.FlowMatching(network=network, train_steps=5, random_state=0, device="cpu").fit(X)
    assert model.network is network
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not torch.equal(model.denoiser_.network.layer.weight, before["layer.weight"])
    model.save(tmp_path / "run")
    with pytest.raises(ValueError, match=r"your own Mine as its network.*parts=\{'network': Mine\(...\)\}"):
        pf.load(tmp_path / "run")
    loaded = pf.load(tmp_path / "run", parts={"network": Mine()})
    np.testing.assert_array_equal(loaded.sample(4, seed=1), model.sample(4, seed=1))


class Wrong(nn.Module):
    def __init__(self, columns):
        super().__init__()
        self.layer = nn.Linear(columns, 1)

    def forward(self, x, t, condition):
        return self.layer(x)


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (
            pf.FlowMatching(network=Wrong(5)),
            ValueError,
            r"the network cannot be called on these data as network\(x, t, condition\) with x \(2, 2\)",
        ),
        (pf.FlowMatching(network=Wrong(2)), ValueError, r"must return a tensor like x, \(2, 2\), but returned \(2, 1\)"),
        (pf.FlowMatching(network=pf.UNetSpec()), ValueError, r"UNetSpec builds networks for images"),
        (
            pf.FlowMatching(train_steps=-1),
            ValueError,
            r"train_steps=-1 is not allowed: it should be greater than or equal to 1",
        ),
        (pf.FlowMatching(held_out=1.0), ValueError, r"held_out=1.0 is not allowed: it should be less than 1"),
        (
            pf.FlowMatching(coupling="ot"),
            ValueError,
            r"coupling='ot' is not allowed: it should be 'independent', 'optimal-transport' or 'paired'",
        ),
        (
            pf.FlowMatching(coupling="paired"),
            ValueError,
            r"coupling='paired' needs as source an array with one row for each of the 50 rows",
        ),
        (pf.FlowMatching(coupling="paired", source=np.arange(6.0).reshape(3, 2)), ValueError, r"got an array of 3 rows"),
        (
            pf.FlowMatching(source=3),
            TypeError,
            r"source must be None \(Gaussian noise\), a law with sample\(n, seed=...\), or an array",
        ),
        (pf.FlowMatching(source=Gaussian([0.0], 1.0)), ValueError, r"cannot be drawn from as rows of shape \(2,\)"),
        (
            pf.FlowMatching(schedule="cosine"),
            TypeError,
            r"schedule='cosine' is not allowed: it should be an instance of Schedule",
        ),
        (pf.Diffusion(prediction="epsilon"), ValueError, r"prediction='epsilon' is not allowed"),
        (pf.Diffusion(random_state="x"), TypeError, r"random_state=.x. is not allowed: it should be a valid integer"),
        (pf.Diffusion(max_time=0), ValueError, r"max_time=0 is not allowed: it should be greater than 0"),
    ],
    ids=lambda value: None,
)
def test_errors_come_before_training(model, error, message):
    with pytest.raises(error, match=message):
        model.fit(LAW.sample(50, seed=0).numpy())
    assert not hasattr(model, "training_result_")


def test_optimal_transport_needs_labels():
    X = LAW.sample(50, seed=0).numpy()
    with pytest.raises(ValueError, match=r"these conditions are not labels"):
        pf.FlowMatching(coupling="optimal-transport", **TINY).fit(X, condition=X[:, 0])
    assert pf.FlowMatching(coupling="optimal-transport", **TINY).fit(X, condition=np.arange(50) % 2).conditional


def test_errors_of_sampling():
    model = pf.FlowMatching(**TINY).fit(LAW.sample(50, seed=0).numpy())
    with pytest.raises(ValueError, match=r"a guidance scale of 2 needs a model trained with conditions"):
        model.sample(2, guidance=2.0)
    with pytest.raises(ValueError, match=r"steps must be at least 1"):
        model.sample(2, steps=0)
    with pytest.raises(ValueError, match=r"starts from Gaussian noise, set by `seed`"):
        model.sample(2, source=np.zeros((2, 2)))


def test_max_time_sets_the_steps():
    X = LAW.sample(300, seed=0).numpy()
    model = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), max_time=3.0, random_state=0, device="cpu").fit(X)
    assert model.training_result_.steps > 20
    assert model.training_result_.seconds < 6


def test_a_short_time_has_fewer_evaluations_and_no_grids(monkeypatch, tmp_path):
    """A step is said to take 0.1 s, an evaluation 2 s, a grid 5 s: of 20 s, two evaluations take the fifth that they may."""
    monkeypatch.setattr(training, "measure_step_seconds", lambda *_, **__: 0.1)
    monkeypatch.setattr(training, "measure_overhead", lambda *_, **__: training.Overhead(2.0, 0.0))
    monkeypatch.setattr(pf.FlowMatching, "_plot_seconds", lambda *_: 5.0)
    dataset = pf.open_data(LAW.sample(100, seed=0).numpy())
    network = pf.MLPSpec(width=8, depth=1)
    planned = plan(dataset, pf.FlowMatching(network=network, max_time=20.0, device="cpu", random_state=0))
    assert (planned.model.training_.evaluations, planned.model.training_.steps) == (2, 150)  # (0.95 * 20 - 2 * 2) / 0.1
    own = pf.TrainingSettings(evaluations=20)
    with pytest.raises(ValueError, match="No training step fits into 20 s"):
        plan(dataset, pf.FlowMatching(network=network, training=own, max_time=20.0, device="cpu"))
    shown = []
    budget = training.Budget(2.0, 5.0)
    monkeypatch.setattr(type(planned.resolved), "budget", lambda *_: budget)
    planned.start(tmp_path / "run", on_grid=shown.append)
    assert not shown


def test_no_rows_held_out():
    model = pf.FlowMatching(held_out=0.0, **TINY).fit(LAW.sample(50, seed=0).numpy())
    assert model.training_result_.held_out_loss is None
    assert model.data_["held_out"] == 0


def test_random_states_of_scikit_learn():
    X = LAW.sample(50, seed=0).numpy()
    seeds = [pf.FlowMatching(**TINY | {"random_state": np.random.RandomState(1)}).fit(X).seed_ for _ in range(2)]
    assert seeds[0] == seeds[1]
    fresh = [pf.FlowMatching(**TINY | {"random_state": None}).fit(X).seed_ for _ in range(2)]
    assert fresh[0] != fresh[1]


def test_rows_held_out_do_not_reach_the_transform_and_depend_on_the_seed():
    X = LAW.sample(40, seed=0).numpy()
    model = pf.FlowMatching(held_out=0.5, **TINY).fit(X)
    data = pf.open_data(X)
    rows, aside = model._split(data)
    assert len(rows) == len(aside) == 20
    scaled = model.space_.transform.forward(torch.from_numpy(X), dtype=torch.float64)
    np.testing.assert_allclose(scaled[rows].mean(0), 0.0, atol=1e-9)
    assert scaled[aside].mean(0).abs().max() > 1e-3
    other = pf.FlowMatching(held_out=0.5, **TINY | {"random_state": 1}).fit(X)
    assert sorted(other._split(data)[1].tolist()) != sorted(aside.tolist())


def test_a_random_state_object_names_the_seed_and_the_network_is_left_in_evaluation():
    X = LAW.sample(40, seed=0).numpy()
    states = [np.random.RandomState(seed) for seed in (3, 3, 4)]
    models = [pf.FlowMatching(**TINY | {"random_state": state}).fit(X) for state in states]
    assert models[0].seed_ == models[1].seed_ != models[2].seed_
    assert models[0]._resolved()["random_state"] == models[0].seed_  # what a resumed run starts from
    assert not models[0].denoiser_.training


def test_every_row_of_a_source_array_is_drawn():
    rows = ArraySource(torch.arange(3.0)[:, None]).draw(torch.arange(300), 0, 0, "test")
    assert rows.unique().tolist() == [0.0, 1.0, 2.0]
