"""Calibration: it starts from the default table, gains on noises it has not seen, and is plain numbers."""

import dataclasses
import itertools
import json
import math

import pytest
import torch
from oracle import LAW

from pushforward.diffusion import (
    DDIM,
    DDPM,
    DEIS,
    AngleSolver,
    CalibratedSampler,
    Cosine,
    Denoiser,
    DiscreteBeta,
    DPMSolver,
    ExactDenoiser,
    Exploding,
    FixedGrid,
    Guided,
    Heun,
    KarrasGrid,
    LinearBeta,
    LogSNRGrid,
    StraightLine,
    UniPC,
    default_sampler,
)
from pushforward.diffusion.samplers.calibration import TableFit, calibrate
from pushforward.diffusion.samplers.quality import exact_flow
from pushforward.networks import MLPSpec
from pushforward.probability import GaussianMixture

RING = GaussianMixture(
    [0.2] * 5, [[1.2 * math.cos(0.4 * math.pi * k), 1.2 * math.sin(0.4 * math.pi * k)] for k in range(5)], [0.04] * 5
)


def _noise(rows, seed):
    return torch.randn(rows, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("schedule", [DiscreteBeta(), Cosine(), StraightLine()], ids=str)
@pytest.mark.parametrize("steps", [2, 5, 20, 50])  # from 7 on the default's last step is another one
def test_without_iterations_it_is_the_default_table(schedule, steps):
    denoiser = ExactDenoiser(LAW, schedule)
    result = calibrate(denoiser, _noise(16, 0), steps=steps, iterations=0)
    torch.testing.assert_close(
        result.sampler.run(denoiser, _noise(8, 1), steps=steps),
        default_sampler(steps).run(denoiser, _noise(8, 1), steps=steps),
        rtol=1e-9,
        atol=1e-9,
    )
    assert result.gain == pytest.approx(1, rel=1e-6)


def test_it_begins_with_the_sampler_to_compare_with():
    denoiser, own = ExactDenoiser(LAW, Cosine()), AngleSolver(order=2, scale=0.7, grid=KarrasGrid(sigma_min=0.05))
    result = calibrate(denoiser, _noise(16, 0), steps=6, iterations=0, default=own)
    made, expected = (sampler.run(denoiser, _noise(8, 1), steps=6) for sampler in (result.sampler, own))
    torch.testing.assert_close(made, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [3, 12])
def test_the_chain_that_is_fitted_is_that_of_the_sampler(steps):
    schedule, generator = Cosine(), torch.Generator().manual_seed(2)
    start, denoiser, z = CalibratedSampler.of(AngleSolver(order=4), schedule, steps), ExactDenoiser(LAW, schedule), _noise(8, 1)
    fit = TableFit(schedule, start)
    for free in fit.free():
        free.data += 0.05 * torch.randn(free.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(fit.chain(denoiser, z, None), fit.sampler().run(denoiser, z, steps=steps), rtol=1e-9, atol=1e-9)
    for row, before in zip(fit.sampler().weights, start.weights, strict=True):
        assert sum(row) == pytest.approx(sum(before), abs=1e-12)


def test_a_fit_begins_as_it_should_where_calls_are_made_at_very_high_noise():
    schedule = Exploding(0.01, 3000.0)
    start = CalibratedSampler.of(DDIM(grid=LogSNRGrid(-16, 8)), schedule, 6)
    assert start.levels[0] > 250
    torch.testing.assert_close(TableFit(schedule, start).levels().tolist(), list(start.levels), rtol=1e-9, atol=0)


@pytest.mark.parametrize("schedule", [DiscreteBeta(), pytest.param(StraightLine(), marks=pytest.mark.full)], ids=str)
def test_it_gains_on_noises_it_has_not_seen(schedule):
    """Against the exact flow, which the fit never saw, and on noises of another seed."""
    denoiser = ExactDenoiser(RING, schedule)
    result = calibrate(denoiser, _noise(512, 0), steps=4, iterations=150, batch_size=128, fine_steps=60)
    fresh = _noise(256, 1)
    exact = exact_flow(RING, schedule, fresh, steps=200)

    def error(sampler):
        return (sampler.run(denoiser, fresh, steps=4) - exact).square().mean().sqrt().item()

    assert result.gain > 1.5
    assert error(default_sampler(4)) > 1.5 * error(result.sampler)
    assert result.error == pytest.approx(error(result.sampler), rel=0.4)
    assert result.default_error == pytest.approx(error(default_sampler(4)), rel=0.4)


def test_no_call_is_made_below_t_min_however_many_steps():
    """The default grid ends at t_min there, and the fit would like to go on."""
    schedule = DiscreteBeta()
    result = calibrate(ExactDenoiser(LAW, schedule), _noise(64, 0), steps=50, iterations=8, batch_size=32)
    times = result.sampler.grid(schedule, 50).tolist()
    assert times[-2] >= schedule.t_min
    assert all(a > b for a, b in itertools.pairwise(times))
    assert result.gain >= 1 - 1e-6  # a fit that is no gain is not kept


def test_the_result_is_the_same_again():
    denoiser, noise = ExactDenoiser(RING, Cosine()), _noise(64, 0)
    one, other = (calibrate(denoiser, noise, steps=3, iterations=5) for _ in range(2))
    assert one == other


def test_it_is_plain_numbers_and_back():
    sampler = calibrate(ExactDenoiser(RING, Cosine()), _noise(64, 0), steps=4, iterations=3).sampler
    plain = json.loads(json.dumps(dataclasses.asdict(sampler)))
    assert CalibratedSampler(**plain) == sampler
    assert hash(CalibratedSampler(**plain)) == hash(sampler)


def test_networks_and_guidance_are_calibrated_too():
    network = MLPSpec(width=16, depth=1).build((2,), condition_dim=3)
    denoiser = Denoiser(network, LinearBeta()).eval()
    before = [parameter.clone() for parameter in network.parameters()]
    condition = torch.eye(3)[torch.arange(40) % 3]
    result = calibrate(Guided(denoiser, 2.0), _noise(40, 0).float(), steps=3, condition=condition, iterations=5)
    assert math.isfinite(result.gain)
    for old, new in zip(before, network.parameters(), strict=True):
        assert torch.equal(old, new)
        assert new.grad is None


@pytest.mark.parametrize(
    "schedule", [DiscreteBeta(), StraightLine(), Exploding()], ids=lambda schedule: type(schedule).__name__
)
@pytest.mark.parametrize(
    ("sampler", "steps"),
    [(AngleSolver(order=4), 20), (UniPC(order=4), 7), (DPMSolver(order=3), 5), (DEIS(order=4), 6), (DDIM(), 1)],
    ids=lambda value: type(value).__name__,
)
def test_every_table_with_one_call_per_step_can_be_written_so(sampler, steps, schedule):
    denoiser, same = ExactDenoiser(LAW, schedule), CalibratedSampler.of(sampler, schedule, steps)
    made, expected = (one.run(denoiser, _noise(8, 1), steps=steps) for one in (same, sampler))
    torch.testing.assert_close(made, expected, rtol=1e-10, atol=1e-10)


def test_a_table_is_the_same_sampler_on_every_schedule():
    """Noise levels and predictions do not know of the schedule: the first call, at another noise level, is all that differs."""
    table = CalibratedSampler.of(AngleSolver(order=3), DiscreteBeta(), 6)
    made = [table.run(ExactDenoiser(LAW, schedule), _noise(8, 1), steps=6) for schedule in (DiscreteBeta(), Cosine())]
    torch.testing.assert_close(*made, rtol=0, atol=2e-2)
    levels = [schedule.noise_level(table.grid(schedule, 6))[1:-1] for schedule in (DiscreteBeta(), Cosine(), StraightLine())]
    for level in levels:
        torch.testing.assert_close(level, torch.tensor(table.levels, dtype=torch.float64), rtol=1e-6, atol=0)


def test_levels_that_a_schedule_does_not_reach_come_closer_together():
    """The noise level of a short LinearBeta ends at 2.7: the grid stays within, and the table still leads to the data."""
    schedule, table = LinearBeta(beta_max=4.0), CalibratedSampler.of(AngleSolver(), DiscreteBeta(), 6)
    ends = schedule.noise_level(torch.tensor([1.0, schedule.t_min], dtype=torch.float64))
    levels = schedule.noise_level(table.grid(schedule, 6)[1:-1])
    assert table.levels[0] > ends[0]
    assert levels[0].item() == pytest.approx(ends[0].item() / 2)
    logs = torch.tensor(table.levels, dtype=torch.float64).log()
    shares, wanted = ((part - part[-1]) / (part[0] - part[-1]) for part in (levels.log(), logs))
    torch.testing.assert_close(shares, wanted)
    denoiser, exact = ExactDenoiser(LAW, schedule), exact_flow(LAW, schedule, _noise(32, 1), steps=200)
    assert (table.run(denoiser, _noise(32, 1), steps=6) - exact).square().mean().sqrt() < 0.1


def test_a_table_runs_its_own_steps_only():
    sampler = CalibratedSampler((1.0,), (0.9, 0.1), ((1.1,), (-0.5, 1.4)))
    denoiser = ExactDenoiser(LAW, Cosine())
    x = _noise(4, 0)
    at_one, half, root = *torch.tensor([1.0, 0.5], dtype=torch.float64), math.sqrt(0.5)  # alpha and sigma at 1/2
    first = denoiser(x, at_one)
    middle = root * (1.1 * first + 0.9 * x)
    second = denoiser(middle, half)
    used = 1.4 * second - 0.5 * first
    wanted = used + 0.1 * (middle - root * used) / root
    torch.testing.assert_close(sampler.run(denoiser, x, steps=2), wanted, rtol=1e-12, atol=1e-12)
    assert (sampler.nfe(2), sampler.order) == (2, 0)
    for call in (lambda: sampler.run(denoiser, x, steps=3), lambda: sampler.nfe(3)):
        with pytest.raises(ValueError, match="2 steps"):
            call()
    with pytest.raises(ValueError, match="calibrated for the times"):
        sampler.run(denoiser, x, times=[1.0, 0.4, 0.0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: calibrate(d, _noise(8, 0), steps=1), "at least 2 steps"),
        (lambda d: calibrate(d, _noise(8, 0), steps=0), "steps must be at least 1, got 0"),
        (lambda d: calibrate(d, _noise(1, 0), steps=3), "of 1 noises a share of 0.25 cannot be held out"),
        (lambda d: calibrate(d, _noise(8, 0), steps=3, held_out=1.0), "a share of 1.0 cannot be held out"),
        (lambda d: calibrate(d, _noise(8, 0), steps=3, condition=torch.ones(7, 2)), "8 noises but 7 conditions"),
        (
            lambda d: CalibratedSampler.of(Heun(), Cosine(), 4),
            "makes more than one call per step, so it has no table of this form",
        ),
        (lambda d: CalibratedSampler.of(DDPM(), Cosine(), 4), "adds noise or makes"),
        (lambda d: FixedGrid((1.0, 0.5, 0.6, 0.0)), "must fall strictly from 1 to 0"),
        (lambda d: FixedGrid((0.9, 0.0)), "must fall strictly from 1 to 0"),
    ],
)
def test_errors_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call(ExactDenoiser(LAW, Cosine()))
