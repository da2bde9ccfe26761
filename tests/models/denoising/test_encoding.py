"""Latents of denoising models: against the flow of known laws, and there and back for every kind of column and source."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pushforward as pf
from pushforward.diffusion import ExactDenoiser
from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.probability import Gaussian, GaussianMixture

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 3, "random_state": 0, "device": "cpu"}
SCHEDULES = [pf.LinearBeta(), pf.Cosine(), pf.StraightLine(), pf.Exploding(), pf.SubVP(), pf.DiscreteBeta()]
LAW = Gaussian([4.0, -20.0], [0.25, 100.0])
DATA = LAW.sample(300, seed=0).numpy()


def scaled(law, transform):
    """A law in data units as the network sees it."""
    kept = ~transform.constant
    return law.affine(torch.diag(1 / transform.scale[kept]), -transform.shift[kept] / transform.scale[kept])


def with_oracle(model, law):
    model.denoiser_ = ExactDenoiser(scaled(law, model.space_.transform), model.schedule_)
    return model


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
def test_latents_of_a_gaussian_are_its_standardized_rows(schedule):
    model = with_oracle(pf.Diffusion(schedule=schedule, **TINY).fit(DATA), LAW)
    one = torch.ones((), dtype=torch.float64)
    alpha, sigma = schedule.alpha(one).numpy(), schedule.sigma(one).numpy()
    law = scaled(LAW, model.space_.transform)
    mean, std = law.mean.numpy(), law.cov.diagonal().sqrt().numpy()
    x = LAW.sample(20, seed=1).numpy()
    unit = (x - LAW.mean.numpy()) / LAW.cov.sqrt().numpy()
    z = model.transform(x, rtol=1e-7)
    np.testing.assert_allclose(z, (alpha * mean + np.hypot(alpha * std, sigma) * unit) / sigma, atol=2e-5)
    np.testing.assert_allclose(model.inverse_transform(z, rtol=1e-7), x, rtol=1e-5)


def test_latents_of_the_law_are_standard_normal():
    law = GaussianMixture([0.3, 0.7], [[4.0, -20.0], [8.0, 20.0]], [[0.5, 40.0], [1.0, 90.0]])
    model = with_oracle(pf.FlowMatching(**TINY).fit(law.sample(300, seed=0).numpy()), law)
    x = law.sample(1500, seed=1).numpy()
    z = model.transform(x)
    for values in (z[:, 0], z[:, 1], z.sum(1) / 2**0.5):
        assert stats.kstest(values, "norm").pvalue > 0.01
    np.testing.assert_allclose(model.inverse_transform(z), x, atol=0.02)


def test_integers_and_constant_columns_come_back_exactly():
    numbers = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "count": numbers.integers(0, 9, 80),
            "flat": np.full(80, 0.1),
            "real": numbers.normal(size=80),
            "yes": numbers.random(80) < 0.5,
        }
    )
    model = pf.FlowMatching(**TINY).fit(frame)
    z = model.transform(frame)
    assert isinstance(z, np.ndarray)
    assert (z.shape, z.dtype) == ((80, 4), np.float64)
    np.testing.assert_array_equal(z[:, 1], 0)
    back = model.inverse_transform(z)
    for name in ("count", "flat", "yes"):
        pd.testing.assert_series_equal(back[name], frame[name])
    np.testing.assert_allclose(back["real"], frame["real"], atol=1e-2)
    z[:, 1] = 7.0
    pd.testing.assert_frame_equal(model.inverse_transform(z), back)


def test_integers_stand_in_the_middle_of_their_cell():
    """Of an exact Gaussian law of x + u: latents of k and of the real number k + 1/2 are the same."""
    whole = np.round(DATA).astype(int)
    model = with_oracle(pf.FlowMatching(**TINY).fit(whole), LAW)
    unit = (whole[:9] + 0.5 - LAW.mean.numpy()) / LAW.cov.sqrt().numpy()
    np.testing.assert_allclose(model.transform(whole[:9], rtol=1e-7), unit, atol=1e-5)


class Watched(AbstractDenoiser):
    """A denoiser of images that keeps what it was shown of the corner, with the time."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.schedule, self.seen = inner, inner.schedule, []

    def forward(self, x_t, t, condition=None):
        self.seen.append((x_t[:, 0, 0, 0].clone(), t.expand(len(x_t)).clone()))
        return self.inner(x_t, t, condition)

    def __deepcopy__(self, memo):
        return self


def test_constant_pixels_are_shown_noised_and_come_back():
    images = np.random.default_rng(0).integers(0, 17, (20, 4, 4)).astype(np.uint8)
    images[:, 0, 0] = 5
    model = pf.Diffusion(train_steps=3, random_state=0, device="cpu", network=pf.UNetSpec(width=8, levels=1, patch=2)).fit(
        images
    )
    model.denoiser_ = watched = Watched(model.denoiser_)
    z = model.transform(images, rtol=1e-4)
    assert (z.shape, z.dtype) == (images.shape, np.float32)
    corner = z[:, 0, 0]
    assert len(set(corner.tolist())) == 1
    value = model.space_.transform.forward(torch.from_numpy(images[:1].astype(np.float32))[:, None])[0, 0, 0, 0]
    schedule, one = model.schedule_, torch.ones((), dtype=torch.float64)
    seen = len(watched.seen)
    np.testing.assert_array_equal(model.inverse_transform(z, rtol=1e-4), images)
    errors = {True: [], False: []}
    for call, (shown, t) in enumerate(watched.seen):
        if t.min() > 2 * schedule.t_min:  # below, the flow is continued and the state is that of another time
            path = schedule.alpha(t) * value + schedule.sigma(t) * (
                corner[0] - value * (schedule.alpha(one) / schedule.sigma(one))
            )
            errors[call < seen].append(float((shown - path).abs().max()))
    assert max(errors[True]) < 1e-5
    assert np.median(errors[False]) < 1e-2  # on the way back inner stages are approximate


def test_conditions_choose_the_flow():
    labels = np.arange(300) % 2
    model = pf.FlowMatching(**(TINY | {"train_steps": 60})).fit(DATA + 40 * labels[:, None], condition=labels)
    none, one = model.transform(DATA[:5]), model.transform(DATA[:5], condition=1)
    assert not np.allclose(none, one, atol=1e-6)
    np.testing.assert_allclose(model.inverse_transform(one, condition=1), DATA[:5], atol=0.1)
    assert np.abs(model.inverse_transform(one) - DATA[:5]).max() > 0.3
    np.testing.assert_allclose(model.transform(DATA[:5], condition=[1] * 5), one)
    with pytest.raises(ValueError, match="3 conditions|condition has"):
        model.transform(DATA[:5], condition=[1] * 3)
    always = pf.FlowMatching(**TINY, condition_dropout=0.0).fit(DATA, condition=labels)
    for verb in (always.transform, always.inverse_transform):
        with pytest.raises(ValueError, match="was trained without dropping conditions"):
            verb(DATA[:5])


def test_latents_of_a_model_with_its_own_source_are_rows_of_it():
    """A pair of laws, and a coupling: what transform finds is what sample(source=...) starts from."""
    source = LAW.sample(300, seed=7).numpy() + 3
    model = pf.FlowMatching(**TINY, source=source, coupling="paired").fit(DATA)

    class Moved(AbstractDenoiser):
        """Every row was moved by 3 in the units of the data."""

        schedule, gaussian_source = model.schedule_, False
        shift = 3 / model.space_.transform.scale

        def forward(self, x_t, t, condition=None):
            return x_t - t.reshape(-1, 1) * self.shift.to(x_t)

    model.denoiser_ = Moved()
    z = model.transform(DATA[:6])
    np.testing.assert_allclose(z, DATA[:6] + 3, rtol=0, atol=1e-3)
    np.testing.assert_allclose(model.inverse_transform(source[:6]), source[:6] - 3, rtol=0, atol=1e-3)


def test_layouts_and_pipelines():
    tensor = torch.from_numpy(DATA).float()
    model = pf.FlowMatching(**TINY).fit(tensor)
    z = model.transform(tensor[:4])
    assert isinstance(z, torch.Tensor)
    assert z.dtype == torch.float32
    torch.testing.assert_close(model.transform(tensor[:4], batch_size=3), z, rtol=0, atol=1e-6)
    pipeline = make_pipeline(StandardScaler(), pf.FlowMatching(**TINY)).fit(DATA)
    np.testing.assert_allclose(pipeline.inverse_transform(pipeline.transform(DATA[:5])), DATA[:5], atol=0.1)


def test_errors_say_what_is_wrong():
    model = pf.FlowMatching(**TINY).fit(DATA)
    for verb in (model.transform, model.inverse_transform):
        with pytest.raises(ValueError, match="X has 3 features, but FlowMatching is expecting 2"):
            verb(np.zeros((4, 3)))
        with pytest.raises(ValueError, match="rtol must lie between 0 and 1"):
            verb(DATA[:2], rtol=0.0)
        with pytest.raises(ValueError, match="batch_size must be at least 1"):
            verb(DATA[:2], batch_size=0)
        with pytest.raises(ValueError, match="trained without conditions"):
            verb(DATA[:2], condition=1)
    whole = pf.FlowMatching(**TINY).fit(np.round(DATA).astype(int))
    with pytest.raises(ValueError, match="the training data are integers there"):
        whole.transform(np.full((2, 2), 0.5))
