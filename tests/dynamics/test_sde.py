"""SDE integrators: measured strong and weak orders on equations with known answers, and the Wiener paths that drive them."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.dynamics.known_sdes import GeometricBrownian, OrnsteinUhlenbeck
from pushforward.dynamics.sde import SDE, WienerPath, integrate, integrate_along, wiener

GBM = GeometricBrownian(drift=0.8, volatility=0.7)
OU = OrnsteinUhlenbeck(rate=1.5, mean=0.4, scale=0.8)


def _times(steps, end=1.0):
    return torch.linspace(0, end, steps + 1, dtype=torch.float64)


def _slope(steps, errors):
    return np.polyfit(np.log(steps), np.log(errors), 1)[0]


def test_wiener_paths_have_the_moments_of_the_process():
    times = torch.tensor([0.5, 0.6, 1.0, 2.5], dtype=torch.float64)
    path = wiener(times, 20_000, 2, seed=0)
    assert path.values.shape == (4, 20_000, 2)
    assert (path.values[0] == 0).all()
    elapsed = (times - 0.5).numpy()
    for coordinate in range(2):
        covariance = np.cov(path.values[..., coordinate].numpy())
        np.testing.assert_allclose(covariance, np.minimum.outer(elapsed, elapsed), atol=4 * 2 * math.sqrt(2 / 20_000))
    scaled = path.increments / times.diff().sqrt().reshape(-1, 1, 1)
    assert stats.kstest(scaled.flatten().numpy(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(scaled.transpose(1, 2).flatten(0, 1).numpy()) - np.eye(6)).max() < 4 / math.sqrt(20_000)


def test_wiener_paths_are_addressed():
    whole = wiener(_times(4), 10, 3, seed=0)
    torch.testing.assert_close(wiener(_times(4), 2, 3, seed=0, first=6).increments, whole.increments[:, 6:8], rtol=0, atol=0)
    assert not torch.equal(wiener(_times(4), 10, 3, seed=1).increments, whole.increments)
    assert wiener(_times(4), 2, (4, 5), seed=0, dtype=torch.float32).increments.dtype == torch.float32


def test_a_coarse_path_is_the_fine_one_seen_less_often():
    path = wiener(_times(12), 5, 2, seed=0)
    coarse = path.coarsen(4)
    torch.testing.assert_close(coarse.values, path.values[::4])
    torch.testing.assert_close(coarse.times, path.times[::4])
    with pytest.raises(ValueError, match="divisor of the number of steps, 12, but is 5"):
        path.coarsen(5)


def test_the_geometric_path_is_the_fine_limit_and_has_its_moments():
    x = torch.full((20_000, 1), 1.3, dtype=torch.float64)
    path = wiener(torch.tensor([0.2, 0.5, 1.2], dtype=torch.float64), 20_000, 1, seed=0)
    exact = GBM.along(x, path)
    torch.testing.assert_close(exact[0], x)
    law = stats.lognorm(GBM.volatility, scale=1.3 * math.exp(GBM.log_drift))
    assert stats.kstest(exact[-1, :, 0].numpy(), law.cdf).pvalue > 0.01
    assert GBM.transition_mean(x, 1.0)[0].item() == pytest.approx(law.mean(), rel=1e-12)
    assert GBM.transition_variance(x, 1.0)[0].item() == pytest.approx(law.var(), rel=1e-12)


def test_ornstein_uhlenbeck_moments_solve_their_equations():
    """d mean / dt = rate (mean - m), dv/dt = scale^2 - 2 rate v, by central differences; then the limits."""
    x, h = torch.tensor([2.0], dtype=torch.float64), 1e-5
    for t in (0.3, 1.0):
        slope = (OU.transition_mean(x, t + h) - OU.transition_mean(x, t - h)) / (2 * h)
        torch.testing.assert_close(slope, OU.rate * (OU.mean - OU.transition_mean(x, t)), rtol=1e-8, atol=1e-9)
        slope = (OU.transition_variance(t + h) - OU.transition_variance(t - h)) / (2 * h)
        assert slope == pytest.approx(OU.scale**2 - 2 * OU.rate * OU.transition_variance(t), rel=1e-7)
    assert OU.transition_mean(x, 0.0).item() == 2
    assert OU.transition_variance(0.0) == 0
    assert OU.transition_variance(50.0) == pytest.approx(OU.stationary_variance) == pytest.approx(0.64 / 3)


@pytest.mark.parametrize(("method", "order"), [("euler-maruyama", 0.5), ("milstein", 1.0)])
def test_strong_order_on_geometric_brownian_motion(method, order):
    """Mean distance at the end from the exact solution, driven by the same path at every step size."""
    fine = wiener(_times(512), 4000, 1, seed=0)
    x = torch.ones(4000, 1, dtype=torch.float64)
    exact = GBM.along(x, fine)[-1]
    steps = [16, 32, 64, 128, 256]
    errors = [
        (integrate_along(GBM.sde, x, fine.coarsen(512 // n), method=method).end - exact).abs().mean().item() for n in steps
    ]
    assert -_slope(steps, errors) == pytest.approx(order, abs=0.1)


def test_with_constant_diffusion_the_two_methods_are_one_and_of_strong_order_one():
    fine = wiener(_times(1024), 2000, 1, seed=0)
    x = torch.zeros(2000, 1, dtype=torch.float64)
    reference = integrate_along(OU.sde, x, fine).end
    steps, errors = [4, 8, 16, 32], []
    for n in steps:
        path = fine.coarsen(1024 // n)
        end = integrate_along(OU.sde, x, path).end
        torch.testing.assert_close(integrate_along(OU.sde, x, path, method="milstein").end, end)
        errors.append((end - reference).abs().mean().item())
    assert -_slope(steps, errors) == pytest.approx(1.0, abs=0.15)


def test_weak_order_on_ornstein_uhlenbeck_without_sampling_noise():
    """The end is affine in the increments: no noise gives the mean, one unit of noise at each step the variance."""
    steps = [8, 16, 32, 64]
    gaps = []
    for n in steps:
        times = _times(n)
        x = torch.full((n + 1, 1), 2.0, dtype=torch.float64)
        increments = torch.zeros(n, n + 1, 1, dtype=torch.float64)
        increments[torch.arange(n), torch.arange(n), 0] = math.sqrt(1 / n)
        end = integrate_along(OU.sde, x, WienerPath(times, increments)).end[:, 0]
        mean, variance = end[-1], ((end[:-1] - end[-1]) ** 2).sum()
        gaps.append(
            [(mean - OU.transition_mean(x[0], 1.0)[0]).abs().item(), abs(variance.item() - OU.transition_variance(1.0))]
        )
    for column in np.array(gaps).T:
        assert -_slope(steps, column) == pytest.approx(1.0, abs=0.12)
        assert column[-1] < 0.01


@pytest.mark.parametrize("method", ["euler-maruyama", "milstein"])
def test_weak_order_on_geometric_brownian_motion_without_sampling_noise(method):
    """Noise of three values with the moments of N(0, 1) up to the fifth, all paths enumerated, gives exact expectations."""
    law, steps, gaps = GeometricBrownian(drift=0.5, volatility=0.4), [2, 4, 8], []
    for n in steps:
        choices = np.array([*itertools.product([-math.sqrt(3), 0.0, math.sqrt(3)], repeat=n)])
        weights = np.prod(np.where(choices == 0, 2 / 3, 1 / 6), 1)
        increments = torch.from_numpy(choices.T.copy())[..., None] * math.sqrt(1 / n)
        x = torch.ones(len(choices), 1, dtype=torch.float64)
        end = integrate_along(law.sde, x, WienerPath(_times(n), increments), method=method).end[:, 0].numpy()
        mean, second = weights @ end, weights @ end**2
        truth = law.transition_mean(x[0], 1.0).item(), law.transition_variance(x[0], 1.0).item()
        gaps.append([abs(mean - truth[0]), abs(second - truth[0] ** 2 - truth[1])])
    for column in np.array(gaps).T:
        assert -_slope(steps, column) == pytest.approx(1.0, abs=0.2)


def test_one_step_is_the_formula():
    """The noise enters as g dW with dW of size sqrt(h), outside h f: not as h (f + eps)."""
    x = torch.tensor([[0.5, 2.0]], dtype=torch.float64)
    path = WienerPath([1.0, 1.25], [[[0.3, -0.7]]])
    sde = SDE(lambda x, t: t * x, lambda x, t: x**2 + t)
    end = integrate_along(sde, x, path).end
    torch.testing.assert_close(end, x + 0.25 * x + (x**2 + 1) * path.increments[0])
    g, dw = x**2 + 1, path.increments[0]
    ahead = (x + 0.25 * x + 0.5 * g) ** 2 + 1
    expected = x + 0.25 * x + g * dw + (ahead - g) * (dw**2 - 0.25) / (2 * 0.5)
    torch.testing.assert_close(integrate_along(sde, x, path, method="milstein").end, expected)
    seeded = integrate(
        SDE(lambda x, t: 0.0, lambda x, t: 1.0), torch.zeros(20_000, 1, dtype=torch.float64), [0.0, 0.01], seed=0
    )
    assert seeded.end.var().item() == pytest.approx(0.01, rel=0.05)


def test_the_diffusion_and_drift_are_taken_at_the_start_of_the_step():
    """Ito, not Stratonovich: dx = x dW is a martingale."""
    sde = SDE(lambda x, t: 0.0, lambda x, t: x)
    seen = []
    integrate(SDE(lambda x, t: seen.append(t.item()) or 0.0, sde.diffusion), torch.ones(1, 1), [0.0, 0.25, 1.0], seed=0)
    assert seen == [0.0, 0.25]
    x = torch.ones(3**6, 1, dtype=torch.float64)
    choices = np.array([*itertools.product([-math.sqrt(3), 0.0, math.sqrt(3)], repeat=6)])
    weights = torch.from_numpy(np.prod(np.where(choices == 0, 2 / 3, 1 / 6), 1))
    path = WienerPath(_times(6), torch.from_numpy(choices.T.copy())[..., None] / math.sqrt(6))
    for method in ("euler-maruyama", "milstein"):
        assert (weights @ integrate_along(sde, x, path, method=method).end[:, 0]).item() == pytest.approx(1, rel=1e-12)


def test_the_law_of_many_small_steps_is_the_transition_law():
    x = torch.full((5000, 1), -0.5, dtype=torch.float64)
    end = integrate(OU.sde, x, _times(200), seed=1).end[:, 0].numpy()
    law = stats.norm(OU.transition_mean(x[0], 1.0).item(), math.sqrt(OU.transition_variance(1.0)))
    assert stats.kstest(end, law.cdf).pvalue > 0.01


@pytest.mark.parametrize("method", ["euler-maruyama", "milstein"])
def test_a_seed_names_the_path_and_rows_do_not_depend_on_the_batch(method):
    x = torch.rand(6, 2, 3, dtype=torch.float64) + 0.5
    whole = integrate(GBM.sde, x, _times(5), seed=3, method=method)
    assert whole.states.shape == (6, 6, 2, 3)
    along = integrate_along(GBM.sde, x, wiener(_times(5), 6, (2, 3), seed=3), method=method)
    torch.testing.assert_close(whole.states, along.states, rtol=0, atol=0)
    part = integrate(GBM.sde, x[4:], _times(5), seed=3, first=4, method=method)
    torch.testing.assert_close(part.states, whole.states[:, 4:], rtol=0, atol=0)


def test_kept_times_and_counted_calls():
    x = torch.ones(2, 1)
    solution = integrate(GBM.sde, x, _times(10), seed=0, every=4)
    torch.testing.assert_close(solution.times, torch.tensor([0.0, 0.4, 0.8, 1.0], dtype=torch.float64))
    whole = integrate(GBM.sde, x, _times(10), seed=0)
    assert torch.equal(solution.states, whole.states[[0, 4, 8, 10]])
    assert torch.equal(solution.end, whole.states[-1])
    assert whole.states.dtype == torch.float32
    assert (whole.drift_calls, whole.diffusion_calls) == (10, 10)
    higher = integrate(GBM.sde, x, _times(10), seed=0, method="milstein")
    assert (higher.drift_calls, higher.diffusion_calls) == (10, 20)


def test_gradients_flow_through_the_steps():
    """Of E[x(1)] for geometric Brownian motion under zero noise: d/dmu (1 + mu / n)^n."""
    rate = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    path = WienerPath(_times(4), torch.zeros(4, 1, 1, dtype=torch.float64))
    end = integrate_along(SDE(lambda x, t: rate * x, lambda x, t: 0.0), torch.ones(1, 1, dtype=torch.float64), path).end
    (slope,) = torch.autograd.grad(end.sum(), rate)
    assert slope.item() == pytest.approx(1.125**3, rel=1e-12)


@pytest.mark.parametrize("partner", [1, 2, 3, 4])
def test_milstein_refuses_noise_that_mixes_coordinates(partner):
    def mixed(x, t):
        return torch.stack([x[:, 0], x[:, 1], x[:, 2], x[:, 3] * x[:, (3 + partner) % 5], x[:, 4]], 1)

    x = torch.rand(1, 5, dtype=torch.float64) + 1
    with pytest.raises(
        ValueError, match=r"coordinate 3 of the diffusion changes \(by .*\) with other coordinates of x; use method"
    ):
        integrate(SDE(lambda x, t: -x, mixed), x, _times(3), seed=0, method="milstein")
    integrate(SDE(lambda x, t: x.flip(1), lambda x, t: x**2), x, _times(3), seed=0, method="milstein")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"times": [0.0, 0.5, 0.5]}, r"times must rise, but times\[1\] is 0\.5 and times\[2\] 0\.5"),
        ({"times": [0.0]}, r"times must have the shape \(T,\) with T >= 2, but has \(1,\)"),
        ({"times": [0.0, math.inf]}, "times must be finite, but entry 1 is inf"),
        ({"method": "heun"}, "method must be one of euler-maruyama, milstein, but is 'heun'"),
        ({"every": 0}, "every must be at least 1, but is 0"),
        ({"x": torch.ones(3)}, r"x must be floating-point with the shape \(B, \*D\), but is torch.float32 of the shape \(3,\)"),
        ({"x": torch.ones(3, 1, dtype=torch.int64)}, r"x must be floating-point .* but is torch.int64"),
        ({"x": torch.full((2, 1), math.nan)}, r"x must be finite, but entry \(0, 0\) is nan"),
        (
            {"sde": SDE(lambda x, t: torch.ones(3, 7), lambda x, t: 1.0)},
            r"drift must return torch.float32 that broadcasts .* \(3, 7\)",
        ),
        (
            {"sde": SDE(lambda x, t: x, lambda x, t: x.double())},
            r"diffusion must return torch.float32 .* but returned torch.float64",
        ),
    ],
)
def test_bad_arguments_say_what_is_wrong(change, message):
    arguments = {"sde": GBM.sde, "x": torch.ones(3, 2), "times": [0.0, 1.0], "seed": 0} | change
    with pytest.raises(ValueError, match=message):
        integrate(**arguments)


def test_bad_paths_and_laws_say_what_is_wrong():
    with pytest.raises(
        ValueError, match=r"increments must have the shape \(2, B, \*D\) to go with 3 times, but has \(3, 1, 1\)"
    ):
        WienerPath([0.0, 1.0, 2.0], torch.zeros(3, 1, 1))
    with pytest.raises(ValueError, match=r"path has states \(1, 1\), but x has \(2, 1\)"):
        integrate_along(GBM.sde, torch.ones(2, 1), WienerPath([0.0, 1.0], torch.zeros(1, 1, 1)))
    with pytest.raises(ValueError, match="rate must be positive, but is 0"):
        OrnsteinUhlenbeck(0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="scale must be at least 0, but is -1"):
        OrnsteinUhlenbeck(1.0, 0.0, -1.0)
    for moment in (OU.transition_variance, lambda t: GBM.transition_variance(torch.ones(1), t)):
        with pytest.raises(ValueError, match="at least 0, but is -1"):
            moment(-1.0)


def test_an_explosion_is_reported_with_its_time():
    cubic = SDE(lambda x, t: -(x**3), lambda x, t: 0.0)
    with pytest.raises(ArithmeticError, match=r"no longer finite at t = [3-9] \(step [3-9]\); take smaller steps"):
        integrate(cubic, torch.full((1, 1), 10.0), torch.arange(11.0), seed=0)
