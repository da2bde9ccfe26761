"""Grids: their formulas, ends and errors."""

import math

import pytest
import torch
from oracle import float64

from pushforward.diffusion import (
    Cosine,
    DiscreteBeta,
    Exploding,
    LinearBeta,
    LogSNRGrid,
    SinhGrid,
    StraightLine,
    SubVP,
    VPGrid,
)


@pytest.mark.parametrize("schedule", [LinearBeta(), Cosine(), StraightLine(), SubVP()], ids=str)
def test_vp_grid_is_a_power_in_its_clock(schedule):
    """The differences of v^(1 / power) are equal, with v from the noise level alone."""
    times = VPGrid(power=2.0, sigma_max=50.0)(schedule, 8)
    levels = schedule.noise_level(times[1:-1])
    roots = torch.log1p(levels**2).sqrt().sqrt()
    top = math.sqrt(math.sqrt(math.log1p(min(50.0, schedule.noise_level(float64(1.0)).item()) ** 2)))
    torch.testing.assert_close(roots, top * (1 - torch.arange(1, 8, dtype=torch.float64) / 8), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("schedule", [DiscreteBeta(), Cosine(), StraightLine()], ids=str)
def test_sinh_grid_steps_are_shortest_at_its_center(schedule):
    """asinh(log(level / center) / width) falls in equal steps from the first level to the last."""
    levels = schedule.noise_level(SinhGrid(center=0.5, width=0.7, sigma_min=0.02, sigma_max=20.0)(schedule, 9)[:-1])
    levels[0] = 20.0  # the first call is at t = 1
    ends = [math.asinh(math.log(level / 0.5) / 0.7) for level in (20.0, 0.02)]
    torch.testing.assert_close(
        torch.asinh((levels / 0.5).log() / 0.7), torch.linspace(*ends, 9, dtype=torch.float64), rtol=1e-6, atol=1e-6
    )
    ratios = levels[:-1] / levels[1:]
    assert int(ratios.argmin()) in {int((levels[:-1] > 0.5).sum()) - 1, int((levels[1:] > 0.5).sum())}


def test_a_wide_sinh_grid_is_uniform_in_log_snr():
    schedule = Cosine()
    wide = SinhGrid(width=1e4, sigma_min=0.02, sigma_max=30.0)(schedule, 12)
    even = LogSNRGrid(low=-2 * math.log(30.0), high=-2 * math.log(0.02))(schedule, 12)
    torch.testing.assert_close(wide, even, rtol=1e-5, atol=0)


def test_vp_grid_is_uniform_on_a_pure_vp_schedule():
    """With beta(t) nearly proportional to t and power 1 it is the uniform grid."""
    schedule = LinearBeta(1e-9, 20.0)
    times = VPGrid(power=1.0, sigma_max=1e6)(schedule, 5)
    torch.testing.assert_close(times, torch.linspace(1, 0, 6, dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("schedule", [DiscreteBeta(), Exploding(), StraightLine()], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 50, 300])
@pytest.mark.parametrize("grid", [VPGrid(), SinhGrid(sigma_min=1e-9, sigma_max=1e9)], ids=str)
def test_grids_by_noise_level_end_within_the_schedule(grid, schedule, steps):
    times = grid(schedule, steps)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert times[-2] >= schedule.t_min * (1 - 1e-12)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="power of a VPGrid must be positive, got 0"):
        VPGrid(power=0.0)
    with pytest.raises(ValueError, match="sigma_max of a VPGrid must be positive and finite, got -1"):
        VPGrid(sigma_max=-1.0)
    for name in ("center", "width"):
        with pytest.raises(ValueError, match=f"the {name} of a SinhGrid must be positive and finite, got inf"):
            SinhGrid(**{name: math.inf})
    with pytest.raises(ValueError, match=r"SinhGrid needs 0 < sigma_min < sigma_max, got 60.0 and 50.0"):
        SinhGrid(sigma_min=60.0)
