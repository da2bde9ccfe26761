"""Grids: their formulas, ends and errors."""

import math

import pytest
import torch
from oracle import float64

from pushforward.diffusion import Cosine, DiscreteBeta, Exploding, LinearBeta, StraightLine, SubVP, VPGrid


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), StraightLine(), SubVP()], ids=str)
def test_vp_grid_is_a_power_in_its_clock(schedule):
    """The differences of v^(1 / power) are equal, with v from the noise level alone."""
    times = VPGrid(power=2.0, sigma_max=50.0)(schedule, 8)
    levels = schedule.noise_level(times[1:-1])
    roots = torch.log1p(levels**2).sqrt().sqrt()
    top = math.sqrt(math.sqrt(math.log1p(min(50.0, schedule.noise_level(float64(1.0)).item()) ** 2)))
    torch.testing.assert_close(roots, top * (1 - torch.arange(1, 8, dtype=torch.float64) / 8), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("schedule", [DiscreteBeta(), Cosine(), StraightLine()], ids=str)
def test_vp_grid_ends_at_the_noise_level_that_is_asked_for(schedule):
    """Equal differences of v^(1 / power) from the first level to the last, or to the end of the schedule."""
    roots = schedule.noise_level(VPGrid(power=3.0, sigma_max=20.0, sigma_min=0.02)(schedule, 7)[:-1])
    roots = torch.log1p(roots.clamp(max=20.0) ** 2) ** (0.5 / 3)
    ends = [math.log1p(level**2) ** (0.5 / 3) for level in (20.0, 0.02)]
    torch.testing.assert_close(roots, torch.linspace(*ends, 7, dtype=torch.float64), rtol=1e-6, atol=0)
    end = VPGrid(sigma_min=1e-9)(schedule, 7)[-2].item()
    assert end == pytest.approx(schedule.t_min, rel=1e-6)


def test_vp_grid_is_uniform_on_a_pure_vp_schedule():
    """With beta(t) nearly proportional to t and power 1 it is the uniform grid."""
    schedule = LinearBeta(1e-9, 20.0)
    times = VPGrid(power=1.0, sigma_max=1e6)(schedule, 5)
    torch.testing.assert_close(times, torch.linspace(1, 0, 6, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", [DiscreteBeta(), Exploding(), StraightLine()], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 50, 300])
def test_vp_grid_ends_within_the_schedule(schedule, steps):
    times = VPGrid()(schedule, steps)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert times[-2] >= schedule.t_min * (1 - 1e-12)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="power of a VPGrid must be positive, got 0"):
        VPGrid(power=0.0)
    with pytest.raises(ValueError, match="sigma_max of a VPGrid must be positive and finite, got -1"):
        VPGrid(sigma_max=-1.0)
    for level in (0.0, 80.0):
        with pytest.raises(ValueError, match=rf"sigma_min of a VPGrid must lie between 0 and sigma_max=80.0, got {level}"):
            VPGrid(sigma_min=level)
