"""Independent truths for the tests of samplers: exact flows that share no code with the samplers."""

import functools

import numpy as np
import torch
from scipy.integrate import solve_ivp

from pushforward.diffusion import ExactDenoiser
from pushforward.probability import GaussianMixture

LAW = GaussianMixture([0.3, 0.7], [[1.0, -0.5], [-1.0, 0.5]], [[[0.5, 0.2], [0.2, 0.3]], [[0.2, 0.0], [0.0, 0.6]]])


def float64(value):
    return torch.tensor(value, dtype=torch.float64)


def exact_denoiser(schedule):
    return ExactDenoiser(LAW, schedule)


def flow(schedule, x, times):
    """States (T, B, 2) of the probability flow dx/dt = f x - g^2 score / 2 from ``x`` at times[0], by SciPy to 1e-12.

    f = d log alpha / dt and g^2 = d sigma^2 / dt - 2 f sigma^2 by central differences of the scales; the score is that of
    the noised law. Solved once for all samplers that are compared with it.
    """
    return _solved(schedule, tuple(map(tuple, x.tolist())), tuple(map(float, times))).clone()


@functools.cache
def _solved(schedule, x, times):
    x = float64(x)

    def rate(t, flat):
        h = 1e-5
        ahead, now, back = float64(t + h), float64(t), float64(t - h)
        alpha, sigma = schedule.alpha(now).item(), schedule.sigma(now).item()
        f = (schedule.alpha(ahead).log() - schedule.alpha(back).log()).item() / (2 * h)
        g2 = (schedule.sigma(ahead) ** 2 - schedule.sigma(back) ** 2).item() / (2 * h) - 2 * f * sigma**2
        state = torch.from_numpy(flat.reshape(x.shape))
        return (f * state - 0.5 * g2 * LAW.noised(alpha, sigma).score(state)).numpy().ravel()

    solution = solve_ivp(rate, (times[0], times[-1]), x.numpy().ravel(), "DOP853", t_eval=times, rtol=1e-11, atol=1e-12)
    return torch.from_numpy(np.ascontiguousarray(solution.y.T)).reshape(len(times), *x.shape)
