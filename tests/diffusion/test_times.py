"""Laws of training times against SciPy, and stratification."""

import numpy as np
import pytest
import torch
from scipy import stats

from pushforward.diffusion import LogitNormalTimes, UniformTimes, stratified

U = torch.linspace(0.0005, 0.9995, 1000, dtype=torch.float64)


def _logit_normal_cdf(t, mean, std):
    return stats.norm(mean, std).cdf(np.log(t / (1 - t)))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (-0.5, 1.4)])
def test_logit_normal(mean, std):
    t = LogitNormalTimes(mean, std).of(U).numpy()
    np.testing.assert_allclose(_logit_normal_cdf(t, mean, std), U.numpy(), rtol=1e-9)


def test_a_share_of_the_times_is_uniform():
    t = LogitNormalTimes(0.3, 0.8, uniform_share=0.2).of(U).sort().values.numpy()
    mixture = 0.2 * t + 0.8 * _logit_normal_cdf(t, 0.3, 0.8)
    np.testing.assert_allclose(mixture, U.numpy(), atol=0.003)


@pytest.mark.parametrize("law", [UniformTimes(), LogitNormalTimes(), LogitNormalTimes(uniform_share=0.1)], ids=str)
def test_times_are_finite_at_the_ends(law):
    t = law.of(torch.tensor([0.0, 1.0]))
    assert t.isfinite().all()
    assert ((t >= 0) & (t <= 1)).all()


def test_uniform_is_the_identity():
    assert torch.equal(UniformTimes().of(U), U)


def test_stratified_times_have_one_in_each_stratum():
    u = torch.rand(7, 16, dtype=torch.float64)
    t = stratified(u, torch.arange(16), 16)
    assert torch.equal((t * 16).floor().long(), torch.arange(16).expand(7, 16))
    torch.testing.assert_close(t * 16 - torch.arange(16), u)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LogitNormalTimes(std=0.0), "std must be positive"),
        (lambda: LogitNormalTimes(mean=float("nan")), "mean must be finite"),
        (lambda: LogitNormalTimes(uniform_share=1.0), r"uniform_share must lie in \[0, 1\)"),
    ],
)
def test_bad_parameters(make, message):
    with pytest.raises(ValueError, match=message):
        make()
