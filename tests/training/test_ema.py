import math

import pytest
import torch

from pushforward.training.ema import MAX_WIDTH, PowerEMA, gamma_of_width


@pytest.mark.parametrize("width", [0.03, 0.05, 0.1, 0.2])
def test_average_equals_the_closed_form_weights(width: float) -> None:
    gamma, steps = gamma_of_width(width), 60
    values = torch.randn(steps, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = [torch.full((3,), 99.0, dtype=torch.float64), values[0, :1].clone()]
    ema = PowerEMA(weights, width)
    for step in range(steps):
        weights[0].copy_(values[step, :3])
        weights[1].copy_(values[step, 3:])
        ema.update(step + 1)
    # (1 - beta_j) prod_{k > j} beta_k with beta_k = ((k - 1) / k)^(gamma + 1): the product telescopes to (j / n)^(gamma + 1).
    share = torch.tensor(
        [(1 - (1 - 1 / j) ** (gamma + 1)) * (j / steps) ** (gamma + 1) for j in range(1, steps + 1)], dtype=torch.float64
    )
    assert float(share.sum()) == pytest.approx(1.0, rel=1e-12)
    torch.testing.assert_close(torch.cat(ema.average), share @ values, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.25])
def test_width_is_the_standard_deviation_of_the_power_profile(width: float) -> None:
    gamma = gamma_of_width(width)
    time = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    profile = time**gamma / (time**gamma).sum()
    mean = (profile * time).sum()
    assert float(((time - mean) ** 2 @ profile).sqrt()) == pytest.approx(width, rel=1e-6)


def test_widest_average_is_the_plain_mean() -> None:
    assert gamma_of_width(MAX_WIDTH) == pytest.approx(0.0, abs=1e-9)
    assert pytest.approx(1 / math.sqrt(12)) == MAX_WIDTH


@pytest.mark.parametrize("width", [0.0, -0.1, 0.3])
def test_width_out_of_range_is_refused(width: float) -> None:
    with pytest.raises(ValueError, match="relative width"):
        gamma_of_width(width)


def test_masked_update_follows_or_stays() -> None:
    weights = [torch.ones(3, dtype=torch.float64)]
    plain, masked = PowerEMA(weights, 0.1), PowerEMA(weights, 0.1)
    for step, skip in enumerate((0.0, 1.0, 0.0), start=1):
        weights[0].mul_(1.7)
        if not skip:
            plain.update(step)
        masked.update_unless(torch.tensor(skip, dtype=torch.float64), step)
    torch.testing.assert_close(masked.average[0], plain.average[0], rtol=1e-14, atol=0)


def test_exchange_twice_changes_nothing() -> None:
    weights = [torch.ones(2)]
    ema = PowerEMA(weights, 0.1)
    weights[0].fill_(3.0)
    ema.exchange()
    assert weights[0].tolist() == [1.0, 1.0]
    assert ema.average[0].tolist() == [3.0, 3.0]
    ema.exchange()
    assert weights[0].tolist() == [3.0, 3.0]
