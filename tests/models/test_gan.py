"""Generative adversarial networks: the losses and gradients of both players by hand, and laws that are known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call

import pushforward as pf
from pushforward.models.gan import GameTask
from pushforward.networks import GANSpec
from pushforward.probability import noise
from pushforward.training import TrainingSettings, train

RNG = np.random.default_rng(0)
TINY = {"network": pf.GANSpec(width=8, depth=1), "latent_dim": 2, "random_state": 0, "device": "cpu"}
FAST = {"betas": (0.0, 0.99), "gradient_clip": None, "batch_size": 64}


class Line(nn.Module):
    """x -> slope x + shift, for vectors: a generator or a critic whose losses can be written down."""

    def __init__(self, slope, shift=0.0):
        super().__init__()
        self.slope, self.shift = nn.Parameter(torch.tensor(slope).double()), nn.Parameter(torch.tensor(shift).double())

    def forward(self, x, condition=None):
        return x @ self.slope + self.shift


class Shift(nn.Module):
    """z -> theta, whatever z: the generator of the Dirac game."""

    def __init__(self, theta):
        super().__init__()
        self.theta = nn.Parameter(torch.tensor([theta]).double())

    def forward(self, z, condition=None):
        return self.theta.expand(len(z), 1)


def game(generator, critic, *, latent_dim=3, penalty=0.3, varies=None, **options):
    varies = torch.ones(1) if varies is None else varies
    task = GameTask(generator, critic, latent_dim=latent_dim, penalty=penalty, varies=varies, **options).double()
    return task.train()


def random_game(shape=(2, 32, 5), seed=0):
    torch.manual_seed(seed)
    spec = GANSpec(width=4, depth=1)
    task = game(spec.generator(3, shape, 2), spec.critic(shape, 2))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.normal_(std=0.15)
    x, z, condition = torch.randn(4, *shape).double(), torch.randn(4, 3).double(), torch.randn(4, 2).double()
    return task, x, z, condition


def test_losses_of_linear_players_by_hand():
    w, a = torch.tensor([[1.0], [-2.0]]).double(), torch.tensor([[0.5, 0.0], [1.0, 2.0], [0.0, -1.0]]).double()
    task = game(Line(a.tolist()), Line(w.tolist(), 0.7), penalty=0.3)
    x, z = torch.randn(6, 2).double(), torch.randn(6, 3).double()
    lead = ((x - z @ a) @ w)[:, 0]
    expected = (1 + (-lead).exp()).log() + (1 + lead.exp()).log() + 0.3 / 2 * 2 * 5.0
    torch.testing.assert_close(task.loss(x, None, (z,)), expected)


def test_each_player_gets_the_gradient_of_its_own_loss():
    """The one pass against two separate ones, the other player's weights held fixed in each."""
    task, x, z, condition = random_game()
    task.loss(x, condition, (z,)).mean().backward()
    generator, critic = task.generator, task.critic

    fixed = {name: weight.detach() for name, weight in generator.named_parameters()}
    real, fake = x.clone().requires_grad_(), functional_call(generator, fixed, (z, condition)).requires_grad_()
    at_real, at_fake = critic(real, condition)[:, 0], critic(fake, condition)[:, 0]
    slopes = [torch.autograd.grad(at.sum(), rows, create_graph=True)[0] for at, rows in ((at_real, real), (at_fake, fake))]
    penalty = sum(slope.square().sum((1, 2, 3)) for slope in slopes)
    loss = (nn.functional.softplus(at_fake - at_real) + 0.15 * penalty).mean()
    for parameter, gradient in zip(
        critic.parameters(), torch.autograd.grad(loss, list(critic.parameters()), allow_unused=True), strict=True
    ):
        wanted = torch.zeros_like(parameter) if gradient is None else gradient
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-9, atol=1e-12)

    fixed = {name: weight.detach() for name, weight in critic.named_parameters()}
    fake = functional_call(critic, fixed, (generator(z, condition), condition))[:, 0]
    loss = nn.functional.softplus(critic(x, condition)[:, 0].detach() - fake).mean()
    for parameter, gradient in zip(
        generator.parameters(), torch.autograd.grad(loss, list(generator.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-9, atol=1e-12)
        assert gradient.abs().max() > 1e-6


def test_the_dirac_game_turns_without_a_penalty_and_settles_with_one():
    """Data at 0, G = theta, D(x) = psi x: the speeds near the solution have eigenvalues -p +- i sqrt(1/4 - p^2)."""

    def speed(psi, theta, penalty):
        task = game(Shift(theta), Line([[psi]]), latent_dim=1, penalty=penalty)
        task.loss(torch.zeros(3, 1).double(), None, (torch.zeros(3, 1).double(),)).mean().backward()
        return [-float(task.critic.slope.grad), -float(task.generator.theta.grad)]

    step = 1e-5
    for penalty in (1e-9, 0.1, 0.3):
        columns = [speed(step, 0.0, penalty), speed(0.0, step, penalty)]
        found = np.linalg.eigvals(np.array(columns).T / step)
        np.testing.assert_allclose(sorted(found.real), [-penalty] * 2, atol=1e-8)
        np.testing.assert_allclose(sorted(found.imag), [-math.sqrt(0.25 - penalty**2), math.sqrt(0.25 - penalty**2)], atol=1e-8)


def test_constant_elements_are_hidden_from_the_critic():
    task, x, z, condition = random_game()
    varies = torch.ones(2, 32, 5)
    varies[0, 1, 2] = varies[1, 5, 4] = 0
    hidden = game(task.generator, task.critic, varies=varies)
    moved = x + 9 * (1 - varies)
    torch.testing.assert_close(hidden.loss(moved, condition, (z,)), hidden.loss(x, condition, (z,)), rtol=0, atol=0)
    assert not torch.allclose(task.loss(moved, condition, (z,)), task.loss(x, condition, (z,)))
    hidden.loss(x, condition, (z,)).mean().backward()
    last = task.generator.last.bias.grad.clone()
    images = RNG.integers(0, 9, (30, 6, 5)).astype(np.uint8)
    images[:, 0, 0], images[:, 3, 2] = 0, 7
    samples = pf.GAN(train_steps=3, **TINY).fit(images).sample(9, seed=0)
    assert last.abs().max() > 0
    assert (samples[:, 0, 0] == 0).all()
    assert (samples[:, 3, 2] == 7).all()


def test_the_critic_meets_integers_as_intervals():
    """What it is shown of the data fills the intervals evenly, so that roundness tells it nothing."""
    seen = []

    def watch(_, inputs):
        seen.append(inputs[0].detach()[: len(inputs[0]) // 2])

    class Watched(pf.GAN):
        def _task(self, network, prepared):
            task = super()._task(network, prepared)
            task.critic.register_forward_pre_hook(watch)
            return task

    X = RNG.integers(0, 5, (200, 1))
    model = Watched(train_steps=20, training=TrainingSettings(**FAST), **TINY).fit(X)
    parts = (
        np.concatenate(
            [model.space_.transform.shift.numpy() + model.space_.transform.scale.numpy() * rows.numpy() for rows in seen]
        )
        % 1
    )
    counts, _ = np.histogram(parts, 10, (0, 1))
    assert counts.sum() == 20 * 64
    assert (np.abs(counts - 128) < 5 * math.sqrt(128)).all()
    assert np.issubdtype(model.sample(5).dtype, np.integer)


def test_it_learns_a_normal_law_with_a_condition_and_without_one():
    """Rows N(20 c + 1, 2^2) for labels c = 0, 1 in equal parts."""
    labels = np.repeat([0, 1], 400)
    X = (20.0 * labels + 1 + 2 * RNG.normal(size=800))[:, None]
    settings = TrainingSettings(steps=500, learning_rate=5e-3, ema=0.1, **FAST)
    model = pf.GAN(
        network=pf.GANSpec(width=32, depth=2),
        latent_dim=2,
        training=settings,
        penalty=0.02,
        condition_dropout=0.2,
        random_state=0,
    ).fit(X, condition=labels)
    for label in (0, 1):
        rows = model.sample(2000, condition=label, seed=1)[:, 0]
        assert rows.mean() == pytest.approx(20 * label + 1, abs=1.0)
        assert rows.std() == pytest.approx(2, abs=0.8)
    both = model.inverse_transform(RNG.normal(size=(2000, 2)))[:, 0]
    assert 0.3 < (both > 11).mean() < 0.7


def test_rows_are_what_the_generator_makes_of_codes():
    images = RNG.random((40, 6, 5)).astype(np.float32)
    model = pf.GAN(train_steps=3, kind="images", **TINY).fit(images)
    z = noise.normal((2,), seed=5, purpose="sample", rows=torch.arange(3, 7))
    np.testing.assert_allclose(model.inverse_transform(z.numpy()), model.sample(4, seed=5, first=3), atol=1e-6)
    with torch.no_grad():
        scaled = model.generator_(z)
    np.testing.assert_allclose(
        model.sample(4, seed=5, first=3), model.space_.transform.inverse(scaled)[:, 0].numpy(), atol=1e-6
    )
    assert model.inverse_transform(z.numpy()).dtype == np.float32


def test_the_last_average_is_kept_as_no_held_out_loss_is_taken(tmp_path):
    x, settings = torch.randn(80, 2), TrainingSettings(steps=6, **FAST)

    def trained(held_out):
        torch.manual_seed(0)
        spec = GANSpec(width=4, depth=1)
        task = GameTask(spec.generator(2, (2,)), spec.critic((2,)), latent_dim=2, penalty=0.1, varies=torch.ones(2))
        return train(task, x, settings=settings, seed=0, held_out=held_out, device="cpu"), task

    (result, task), (_, other) = trained((torch.randn(9, 2), None)), trained(None)
    assert (result.held_out_loss, result.held_out_step) == (None, None)
    for one, two in zip(task.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)
    model = pf.train(x.numpy(), pf.GAN(train_steps=4, max_time=None, **TINY), out=tmp_path / "run")
    assert model.training_result_.held_out_loss is None
    assert model.data_["held_out"] == 8
    assert "held_out_loss" not in (tmp_path / "run" / "metrics.jsonl").read_text()


def test_the_guard_skips_steps_that_are_not_finite_and_names_the_player():
    torch.manual_seed(0)
    spec = GANSpec(width=4, depth=1)
    task = GameTask(spec.generator(2, (2,)), spec.critic((2,)), latent_dim=2, penalty=0.1, varies=torch.ones(2))
    before = [parameter.detach().clone() for parameter in task.parameters()]
    x = torch.randn(40, 2)
    x[7] = math.inf
    settings = TrainingSettings(steps=10, **FAST | {"batch_size": 8})
    result = train(task, x, settings=settings, seed=0, device="cpu")
    assert result.skipped >= 1
    assert all(parameter.isfinite().all() for parameter in task.parameters())
    assert any(not torch.equal(one, two) for one, two in zip(before, task.parameters(), strict=True))
    with torch.no_grad():
        task.critic.last.weight.fill_(math.inf)
    with (
        pytest.warns(RuntimeWarning, match=r"were not finite"),
        pytest.raises(pf.training.TrainingDiverged, match=r"'critic.last'"),
    ):
        train(task, x, settings=settings, seed=0, device="cpu")


def test_arguments_that_do_not_fit_are_named():
    X = RNG.normal(size=(40, 2))
    with pytest.raises(ValueError, match=r"penalty=0 is not allowed"):
        pf.GAN(penalty=0).fit(X)
    with pytest.raises(ValueError, match=r"latent_dim=0 is not allowed"):
        pf.GAN(latent_dim=0).fit(X)
    with pytest.raises(ValueError, match=r"compile=True cannot train a GAN.*set compile=False"):
        pf.GAN(training=TrainingSettings(steps=2, compile=True)).fit(X)
    with pytest.raises(ValueError, match=r"trained without conditions"):
        pf.GAN(train_steps=2, **TINY).fit(X).inverse_transform([[0.0, 0.0]], condition=1)
