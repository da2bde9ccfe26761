"""Flow maps and the trajectories that they learn from, against closed forms of Gaussians and mixtures."""

import math

import pytest
import torch
from oracle import LAW
from thin import thinned

from pushforward.diffusion import (
    Cosine,
    Denoiser,
    DiscreteBeta,
    ExactDenoiser,
    Exploding,
    LinearBeta,
    StraightLine,
    SubVP,
    default_sampler,
)
from pushforward.diffusion.flow_map import FlowMapNetwork, angle_of, map_features, time_of
from pushforward.diffusion.trajectories import GuidedRows, trajectories
from pushforward.networks import MLPSpec, UNetSpec
from pushforward.probability import Gaussian

SCHEDULES = [StraightLine(), Cosine(), LinearBeta(), SubVP(), Exploding(), DiscreteBeta()]


def noise(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_the_time_of_an_angle_inverts_the_angle_of_a_time(schedule):
    t = torch.linspace(schedule.t_min, 1, 50, dtype=torch.float64)
    assert (time_of(schedule, angle_of(schedule, t, 0.7), 0.7) - t).abs().max() < 1e-9


@thinned(together=1, schedule=SCHEDULES, std=[0.5, 2.0], probes=[0, 3])
def test_trajectories_of_a_gaussian_are_those_of_its_closed_form(schedule, std, probes):
    """The flow of N(0, c) scales each element by the root of V(theta) = cos^2 c / s^2 + sin^2, so its divergence is (log V)' / 2."""
    variances = torch.tensor([0.3, 1.5, 2.5], dtype=torch.float64)
    denoiser = ExactDenoiser(Gaussian([0.0] * 3, variances.diag().numpy()), schedule)
    made = trajectories(denoiser, noise(8, 3), default_sampler(32), 32, data_std=std, probes=probes)
    spread = made.angles.cos()[:, None] ** 2 * variances / std**2 + made.angles.sin()[:, None] ** 2
    expected = made.states[:, :1] * (spread / spread[0]).sqrt()
    error = (made.states - expected).abs()
    assert error.max() < 5e-3  # after the first step, which is of order 1
    assert error[:, -1].max() < 2e-4
    integral = (spread / spread[-1]).log().sum(1) / 2
    assert (made.integrals - integral).abs().max() < 2e-3
    assert made.integrals[:, -1].abs().max() == 0


def test_the_integral_gives_the_density_of_a_mixture():
    """log p(x) = log N(z) + L - D log s at the ends of the trajectories; trapezoids between 24 states are off by more."""
    schedule, std = StraightLine(), 0.9
    made = trajectories(ExactDenoiser(LAW, schedule), noise(300, 2), default_sampler(24), 24, data_std=std, probes=0)
    z, x = made.states[:, 0], std * made.states[:, -1]
    found = Gaussian([0.0, 0.0], 1.0).log_prob(z) + made.integrals[:, 0] - 2 * math.log(std)
    error = found - LAW.log_prob(x)
    assert error.mean().abs() < 1e-3
    assert error.abs().max() < 0.02


def test_elements_that_do_not_vary_are_left_out_of_the_integral():
    law = Gaussian([0.0, 0.0], [[0.5, 0.0], [0.0, 3.0]])
    varies = torch.tensor([True, False])
    for probes in (0, 2):
        made = trajectories(
            ExactDenoiser(law, Cosine()), noise(4, 2), default_sampler(24), 24, data_std=1.0, varies=varies, probes=probes
        )
        assert (made.integrals[:, 0] + math.log(0.5) / 2).abs().max() < 1e-3


def test_guided_rows_have_their_own_scale():
    denoiser = Denoiser(MLPSpec(width=8, depth=1).build((2,), condition_dim=3), Cosine())
    torch.nn.init.normal_(denoiser.network.last.weight)
    x, condition, t = torch.randn(2, 2), torch.randn(2, 3), torch.tensor(0.4)
    found = GuidedRows(denoiser, torch.tensor([0.0, 3.0]))(x, t, condition)
    away, toward = denoiser(x, t, torch.zeros(2, 3)), denoiser(x, t, condition)
    expected = torch.stack([away[0], (away + 3 * (toward - away))[1]])
    assert torch.allclose(found, expected, atol=1e-6)


def made_map(spec, shape, schedule, *, std=1.0, guidance=1.0, density=False):
    network = spec.build(shape, condition_dim=3 + map_features(guidance)).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    made = FlowMapNetwork(network, schedule, condition_dim=3, data_std=std, max_guidance=guidance, density=density).double()
    if density:
        torch.nn.init.normal_(made.head.weight)
    return made


@thinned(
    together=1,
    schedule=SCHEDULES,
    std=[0.6, 1.7],
    spec=[(MLPSpec(width=8, depth=1), (2,)), (UNetSpec(width=4, levels=1, patch=2), (1, 5, 4))],
)
def test_one_jump_of_a_map_without_features_is_a_step_of_euler_in_the_angle(schedule, std, spec):
    """With no weight on a - b, F is the teacher's raw output: du / dtheta = (cos u - D / s) / sin."""
    size, shape = spec
    flow_map = made_map(size, shape, schedule, std=std)
    flow_map.network.embedding.condition.weight.data[:, 3:] = 0
    teacher = size.build(shape, condition_dim=3).double()
    weights = dict(flow_map.network.state_dict())
    weights["embedding.condition.weight"] = weights["embedding.condition.weight"][:, :3]
    teacher.load_state_dict(weights)
    denoiser = Denoiser(teacher, schedule, data_std=std)
    u, condition = noise(4, *shape), noise(4, 3)
    a, b = torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    t = time_of(schedule, a, std)
    root = ((schedule.alpha(t) * std) ** 2 + schedule.sigma(t) ** 2).sqrt()
    velocity = (a.cos() * u - denoiser(root * u, t, condition) / std) / a.sin()
    moved, _ = flow_map.jump(u, a, b, condition)
    assert (moved - u - (b - a) * velocity).abs().max() < 1e-6  # times are float32 inside a network of any dtype
    assert (flow_map(root * u, t, condition) - denoiser(root * u, t, condition)).abs().max() < 1e-6
    assert torch.equal(flow_map.jump(u, a, a, condition)[0], u)


def test_jumps_take_an_angle_and_a_scale_per_row():
    flow_map = made_map(MLPSpec(width=8, depth=1), (2,), Cosine(), guidance=3.0, density=True)
    u, condition = noise(3, 2), noise(3, 3)
    a, b, scale = noise(3).abs().clamp(max=1.5), torch.zeros(3).double(), torch.tensor([1.0, 2.0, 3.0]).double()
    moved, change = flow_map.jump(u, a, b, condition, scale)
    for i in range(3):
        part = slice(i, i + 1)
        one, alone = flow_map.jump(u[part], a[i], b[i], condition[part], float(scale[i]))
        assert torch.allclose(one, moved[part], atol=1e-12)
        assert torch.allclose(alone, change[part], atol=1e-12)
    other, _ = flow_map.jump(u, a, b, condition, 1.0)
    assert (other - moved)[0].abs().max() == 0
    assert (other - moved)[1:].abs().min() > 0


@pytest.mark.parametrize("schedule", [StraightLine(), Exploding(sigma_max=5.0)], ids=["to noise", "to data and noise"])
def test_a_sample_is_its_jumps_from_sigma_1_times_the_noise(schedule):
    std = 1.3
    flow_map = made_map(MLPSpec(width=8, depth=1), (2,), schedule, std=std)
    z, condition, one = noise(5, 2), noise(5, 3), torch.ones((), dtype=torch.float64)
    root = ((schedule.alpha(one) * std) ** 2 + schedule.sigma(one) ** 2).sqrt()
    u = schedule.sigma(one) * z / root
    angles = torch.tensor([1.0, 0.5, 0.0]).double() * flow_map.high
    for a, b in ((angles[0], angles[1]), (angles[1], angles[2])):
        u, _ = flow_map.jump(u, a, b, condition)
    assert torch.allclose(flow_map.sample(z, steps=2, condition=condition), std * u, atol=1e-12)
    assert torch.allclose(flow_map.draw(z, condition), flow_map.sample(z, steps=1, condition=condition), atol=1e-9)


def test_jumps_stop_at_angles_that_the_network_is_trained_at():
    network = MLPSpec(width=8, depth=1).build((2,), condition_dim=map_features(1.0))
    flow_map = FlowMapNetwork(network, Cosine(), states=5)
    even = [math.pi / 2, math.pi / 4, 0.0]
    assert flow_map._between(math.pi / 2, 0.0, 2).tolist() == even
    flow_map.angles.copy_(torch.tensor([math.pi / 2, 1.4, 0.7, 0.2, 0.0]))
    assert flow_map._between(math.pi / 2, 0.0, 2).tolist() == [math.pi / 2, pytest.approx(0.7), 0.0]
    assert flow_map._between(0.0, math.pi / 2, 2).tolist() == [0.0, pytest.approx(0.7), math.pi / 2]
    many = flow_map._between(math.pi / 2, 0.0, 8)
    assert torch.allclose(many, torch.linspace(math.pi / 2, 0.0, 9).double())


def test_a_density_needs_a_network_with_features():
    with pytest.raises(ValueError, match="needs a network with `features`"):
        FlowMapNetwork(torch.nn.Linear(2, 2), Cosine(), density=True)


def test_the_integral_sees_laws_that_are_narrower_than_the_lowest_noise():
    """log V falls by 8 between the lowest angle, where the noise hides the width, and the data."""
    narrow = 1e-9
    law = Gaussian([0.0, 0.0], [[1.0, 0.0], [0.0, narrow]])
    made = trajectories(ExactDenoiser(law, StraightLine()), noise(4, 2), default_sampler(24), 24, data_std=1.0, probes=0)
    assert made.angles[-2] > 10 * math.sqrt(narrow)
    assert (made.integrals[:, 0] + math.log(narrow) / 2).abs().max() < 0.05
