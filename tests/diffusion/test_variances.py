"""Networks that predict variances, against the exact denoiser of independent Gaussians."""

from typing import get_args

import pytest
import torch
from torch import nn

from pushforward.diffusion import Denoiser, ExactDenoiser, LinearBeta, StraightLine
from pushforward.diffusion.flow_map import FlowMapNetwork
from pushforward.diffusion.prediction import Prediction
from pushforward.networks import UNet1dSpec
from pushforward.probability import Gaussian

VARIANCES = torch.tensor([1e-6, 0.01, 0.5, 4.0, 30.0], dtype=torch.float64)
STD = 1.7


class Known(nn.Module):
    """The true variances, over data_std^2, and no rest."""

    def parts(self, x, t, condition=None):
        return torch.zeros_like(x), (VARIANCES / STD**2).log().expand_as(x)


LAW = Gaussian(torch.zeros(5, dtype=torch.float64), torch.diag(VARIANCES))
X_T = torch.randn(8, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("prediction", get_args(Prediction))
@pytest.mark.parametrize("schedule", [StraightLine(), LinearBeta()])
def test_known_variances_give_the_exact_denoiser(prediction, schedule):
    exact, learned = ExactDenoiser(LAW, schedule), Denoiser(Known(), schedule, prediction=prediction, data_std=STD)
    for t in (torch.tensor(0.02), torch.linspace(0.05, 0.95, 8)):
        t = t.double()
        torch.testing.assert_close(learned(X_T, t), exact(X_T, t), rtol=1e-9, atol=1e-9)


def test_the_loss_of_known_variances_is_the_least():
    """E |denoised - x|^2 is the mean of v sigma^2 / (alpha^2 v + sigma^2)."""
    generator = torch.Generator().manual_seed(1)
    x = VARIANCES.sqrt() * torch.randn(40_000, 5, dtype=torch.float64, generator=generator)
    eps = torch.randn(40_000, 5, dtype=torch.float64, generator=generator)
    t = torch.full((40_000,), 0.4, dtype=torch.float64)
    loss = Denoiser(Known(), StraightLine(), data_std=STD).loss(x, t, eps, weight="denoised")
    least = (VARIANCES * 0.4**2 / (0.6**2 * VARIANCES + 0.4**2)).mean()
    assert abs(loss.mean() / least - 1) < 0.02


def test_a_network_is_itself_where_signal_and_noise_are_equal():
    network = UNet1dSpec(width=8, levels=2, patch=2).build((3, 10), condition_dim=0)
    nn.init.normal_(network.last.weight, generator=torch.Generator().manual_seed(0))
    nn.init.normal_(network.last.bias, generator=torch.Generator().manual_seed(1))
    x, t = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(2)), torch.tensor(0.5)
    denoiser = Denoiser(network, StraightLine())
    raw = denoiser._call(x, denoiser._scales(t)[0], t, None)
    torch.testing.assert_close(raw, network(x * 2**0.5, t.expand(4)), rtol=1e-4, atol=1e-4)


def test_a_flow_map_begins_with_its_teacher():
    network = UNet1dSpec(width=8, levels=2, patch=2).build((3, 10), condition_dim=0)
    nn.init.normal_(network.last.weight, generator=torch.Generator().manual_seed(0))
    denoiser = Denoiser(network, StraightLine(), data_std=STD)
    u, t = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(2)), torch.tensor(0.3)
    learned = FlowMapNetwork(network, StraightLine(), condition_dim=0, data_std=STD, states=2)
    root = ((0.7 * STD) ** 2 + 0.3**2) ** 0.5
    raw = denoiser._call(root * u, torch.tensor(1 / root), t, None)
    torch.testing.assert_close(learned._of_variances(network.parts(u, t.expand(4)), u, t), raw)
