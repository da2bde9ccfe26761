"""Posterior and imputation of models, with an exact denoiser put in place of the trained one, against Gaussian calculus."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kstest, norm
from torch import nn

import pushforward as pf
from pushforward.diffusion import DPS, MMPS, Blur, Downsample, ExactDenoiser, Mask, Projection
from pushforward.probability import Gaussian

TINY = {"train_steps": 1, "random_state": 0, "device": "cpu"}
SMALL = {"network": pf.MLPSpec(width=8, depth=1), **TINY}
RNG = np.random.default_rng(0)
COV = np.array([[4.0, 3.0, 0.05], [3.0, 9.0, -0.1], [0.05, -0.1, 0.01]])
LAW = Gaussian([100.0, -5.0, 0.3], COV)
X = LAW.sample(400, seed=0).numpy()


class Exact(ExactDenoiser):
    """The exact denoiser with what models expect of a trained one."""

    data_std = 1.0

    def __init__(self, law, schedule):
        super().__init__(law, schedule)
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, condition=None):
        return super().forward(x_t, t)


def exact(model, law, kept=slice(None)):
    """Give a fitted model the exact denoiser of the law of its scaled rows; ``law`` is that of the rows."""
    scale, shift = (part.reshape(-1)[kept] for part in (model.space_.transform.scale, model.space_.transform.shift))
    cov = law.cov if law.cov.ndim == 2 else torch.diag(law.cov.expand(law.dim))
    model.denoiser_ = Exact(Gaussian((law.mean - shift) / scale, cov / scale / scale[:, None]), model.schedule_)
    return model


@pytest.fixture(scope="module")
def model():
    return exact(pf.FlowMatching(**SMALL).fit(X), LAW)


def agrees(values, mean, std):
    return kstest(np.asarray(values, dtype=float), norm(float(mean), math.sqrt(float(std))).cdf).pvalue > 1e-3


A = np.array([[1.0, 0.5, 10.0]])


@pytest.mark.parametrize("form", ["matrix", "function", "operator"])
def test_measurements_are_in_data_units(model, form):
    B = torch.tensor(A, dtype=torch.float32)
    operator = {"matrix": A, "function": lambda x: x @ B.mT + 2.0, "operator": pf.diffusion.Matrix(A)}[form]
    b = 1.0 if form == "function" else 3.0
    x = model.posterior(operator, [108.0], 0.8, b=[b], n=1500, steps=100, seed=0, batch_size=1500)
    truth = LAW.observe(A, [108.0], 0.8, [3.0])
    for k in range(3):
        assert agrees(x[:, k], truth.mean[k], truth.cov[k, k]), k
    assert not agrees(x[:, 0], LAW.mean[0], COV[0, 0])
    assert x.dtype == X.dtype
    difference = x @ np.array([1.0, -0.5, 3.0])
    direction = torch.tensor([1.0, -0.5, 3.0], dtype=torch.float64)
    assert agrees(difference, direction @ truth.mean, direction @ truth.cov @ direction)


def test_correlated_noise_and_its_mean(model):
    B, noise = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]), Gaussian([0.5, -0.5], [[1.0, 0.8], [0.8, 1.0]])
    x = model.posterior(B, [102.0, -6.0], noise, n=1500, steps=100, seed=0, batch_size=1500)
    truth = LAW.observe(B, [102.0, -6.0], noise)
    for k in range(3):
        assert agrees(x[:, k], truth.mean[k], truth.cov[k, k]), k


def test_rows_do_not_depend_on_batches(model):
    options = {"steps": 5, "seed": 3}
    whole = model.posterior(A, [108.0], 0.1, n=7, **options)
    part = model.posterior(A, [108.0], 0.1, n=3, first=4, batch_size=2, **options)
    np.testing.assert_allclose(part, whole[4:], rtol=1e-4)
    np.testing.assert_array_equal(model.posterior(A, [108.0], 0.1, n=7, **options), whole)
    assert not np.allclose(model.posterior(A, [108.0], 0.1, n=7, steps=5, seed=4), whole)
    fresh = model.posterior(A, [108.0], 0.1, steps=5)
    np.testing.assert_array_equal(fresh, model.posterior(A, [108.0], 0.1, steps=5, seed=model.sample_seed_))


def test_constant_columns_count_in_the_measurement():
    rows = np.column_stack([X[:, 0], np.full(400, 7.0), X[:, 1]])
    law = LAW.marginal([0, 1])
    model = exact(pf.FlowMatching(**SMALL).fit(rows), law, [0, 2])
    x = model.posterior([[1.0, 2.0, 0.0]], [114.0], 0.0, n=400, steps=60, seed=0, batch_size=400)
    np.testing.assert_allclose(x[:, 0], 100.0, rtol=1e-5)
    assert (x[:, 1] == 7.0).all()
    assert agrees(x[:, 2], *(part.item() for part in (lambda c: (c.mean[0], c.cov.reshape(())))(law.condition([0], [100.0]))))
    filled = model.impute(np.array([[np.nan, np.nan, 1.0], [2.0, 7.0, 3.0]]), steps=3, seed=0)
    assert filled[0, 1] == 7.0
    assert filled[0, 2] == 1.0
    np.testing.assert_array_equal(filled[1], [2.0, 7.0, 3.0])


ROOT = RNG.normal(size=(24, 24)) / 5
IMAGE_LAW = Gaussian(RNG.normal(size=24) / 4, ROOT @ ROOT.T + 0.05 * np.eye(24))  # internal order: 2 channels, 4 x 3
IMAGES = IMAGE_LAW.sample(60, seed=1).reshape(60, 2, 4, 3)
LAYOUTS = {"channels last": IMAGES.permute(0, 2, 3, 1).numpy(), "tensor": IMAGES}


@pytest.fixture(scope="module", params=LAYOUTS)
def images(request):
    data = LAYOUTS[request.param]
    return exact(pf.FlowMatching(network=pf.UNetSpec(width=8, levels=1, patch=1), **TINY).fit(data), IMAGE_LAW), data


def test_each_measurement_fits_in_the_layout_of_the_data(images):
    """Noiseless, A x = y, with A applied by NumPy to the rows that came out."""
    model, data = images
    last, row = isinstance(data, np.ndarray), np.asarray(data[0])
    axes = (0, 1) if last else (1, 2)
    B = RNG.normal(size=(4, 24))
    seen = RNG.random(row.shape) < 0.5
    options = {"n": 2, "steps": 8, "seed": 0, "method": MMPS(iterations=12)}

    def near(got, expected, atol=5e-3):
        np.testing.assert_allclose(got, np.broadcast_to(expected, np.shape(got)), atol=atol)

    x = np.asarray(model.posterior(B, B @ row.ravel(), 0.0, **options))
    near(x.reshape(2, -1) @ B.T, B @ row.ravel())
    assert x.shape == (2, *row.shape)
    x = np.asarray(model.posterior(Mask(seen), np.where(seen, row, np.nan), 0.0, **options))
    near(x[:, seen], row[seen])
    assert np.abs(x - row)[:, ~seen].max() > 0.1
    plane = np.array([[True, False, True]] * 4)
    x = np.asarray(model.posterior(Mask(plane), row, 0.0, **options))
    near(x[:, :, [0, 2]] if last else x[..., [0, 2]], row[:, [0, 2]] if last else row[..., [0, 2]])
    x = np.asarray(model.posterior(Projection("height"), row.sum(axes[0], keepdims=True), 0.0, **options))
    near(x.sum(axes[0] + 1), row.sum(axes[0]))
    x = np.asarray(model.posterior(lambda x: (x**1)[..., :2].flip(-1), row[..., :2][..., ::-1].copy(), 0.0, **options))
    near(x[..., :2], row[..., :2])
    x = np.asarray(model.posterior(Blur(0.7), blurred(row, axes), 0.0, **options))
    near([blurred(image, axes) for image in x], blurred(row, axes), atol=0.03)  # narrow directions come last


def blurred(row, axes):
    """Blur by NumPy along two axes, by the formula of the kernel."""
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / 0.7) ** 2)
    for axis in axes:
        row = np.apply_along_axis(lambda line: np.convolve(line, kernel / kernel.sum())[3:-3], axis, row)
    return row


def test_downsampling_in_both_layouts():
    data = torch.randn(40, 2, 4, 4, dtype=torch.float64)
    law = Gaussian(np.zeros(32), 1.0)
    for rows in (data, data.permute(0, 2, 3, 1).numpy()):
        model = exact(pf.FlowMatching(network=pf.UNetSpec(width=8, levels=1, patch=1), **TINY).fit(rows), law)
        row = np.asarray(rows[0])
        last = isinstance(rows, np.ndarray)

        def small(row, last=last):
            return row.reshape(2, 2, 2, 2, 2).mean((1, 3)) if last else row.reshape(2, 2, 2, 2, 2).mean((2, 4))

        x = np.asarray(model.posterior(Downsample(2), small(row), 0.0, n=2, steps=6, seed=0, method=MMPS(iterations=8)))
        np.testing.assert_allclose([small(one) for one in x], [small(row)] * 2, atol=5e-3)


def test_integers_are_measured_as_integers():
    """k is known by its sum with noise: the law of k is a Gaussian that was rounded down, and y is of k, not of k + 1/2."""
    law = Gaussian([50.0, 80.0], [[400.0, 300.0], [300.0, 600.0]])
    rows = law.sample(3000, seed=0).floor().long().numpy()
    model = exact(pf.FlowMatching(**SMALL).fit(rows), law)
    k = model.posterior([[1.0, 0.0]], [60.0], 0.05, n=300, steps=60, seed=0, batch_size=300)
    assert k.dtype == rows.dtype
    assert np.mean(k[:, 0] == 60) > 0.85
    mean = 80 + 0.75 * (60.5 - 50) - 0.5
    assert abs(k[:, 1].mean() - mean) < 4 * math.sqrt(375 / 300)
    broad = model.posterior([[1.0, 1.0]], [140.0], 10.0, n=1500, steps=40, seed=0, batch_size=1500)
    truth = law.observe([[1.0, 1.0]], [141.0], 10.0)
    assert abs(broad[:, 0].mean() + 0.5 - truth.mean[0].item()) < 4 * math.sqrt(truth.cov[0, 0].item() / 1500)


def test_a_known_integer_stands_for_its_interval():
    """Given k the conditional law is that given k + u: narrow columns tell k + 1/2 from k."""
    law = Gaussian([10.0, 20.0], [[4.0, 3.6], [3.6, 4.0]])
    rows = law.sample(2000, seed=0).floor().long().numpy()
    model = exact(pf.FlowMatching(**SMALL).fit(rows), law)
    filled = model.impute(np.tile([[12.0, np.nan]], (1500, 1)), steps=60, seed=0, batch_size=1500)
    assert filled.dtype == rows.dtype
    expected = 20 + 0.9 * 2.5 - 0.5
    assert abs(filled[:, 1].mean() - expected) < 4 * math.sqrt(0.76 + 1 / 12) / math.sqrt(1500)
    assert (filled[:, 0] == 12).all()


def test_imputed_values_have_the_conditional_law(model):
    rows = np.tile([[101.0, np.nan, 0.4]], (1500, 1))
    filled = model.impute(rows, steps=100, seed=0, batch_size=1500)
    law = LAW.condition([0, 2], [101.0, 0.4])
    assert agrees(filled[:, 1], law.mean.item(), law.cov.item())
    np.testing.assert_array_equal(filled[:, [0, 2]], rows[:, [0, 2]])


def test_known_values_are_kept_bit_for_bit(model):
    rows = X[:50] * (1 + 1e-15)
    holes = RNG.random(rows.shape) < 0.4
    holes[0], holes[1] = True, False
    gappy = np.where(holes, np.nan, rows)
    filled = model.impute(gappy, steps=4, seed=0)
    np.testing.assert_array_equal(filled[~holes], rows[~holes])
    assert np.isfinite(filled).all()
    assert np.isnan(gappy[0]).all()
    two = model.impute(gappy, steps=4, seed=0, n=2)
    np.testing.assert_array_equal(two[0], filled)
    assert not np.array_equal(two[1][holes], filled[holes])
    np.testing.assert_array_equal(two[1][~holes], rows[~holes])
    tensor = model.impute(torch.from_numpy(gappy), steps=4, seed=0)
    np.testing.assert_array_equal(tensor, filled)
    np.testing.assert_array_equal(model.impute(rows, steps=4, seed=0), rows)
    np.testing.assert_array_equal(model.impute(rows, mask=~holes, steps=4, seed=0), filled)
    np.testing.assert_allclose(model.impute(gappy, steps=4, seed=0, batch_size=7), filled, rtol=1e-4)


def test_tables_of_several_dtypes():
    frame = pd.DataFrame({"a": X[:, 0], "k": (X[:, 1] * 3).round().astype(int), "c": 5, "f": X[:, 2].astype(np.float32)})
    model = pf.FlowMatching(**SMALL).fit(frame)
    gappy = frame.iloc[10:20].astype({"k": "Int64"})
    gappy.iloc[0, 1] = pd.NA
    gappy.iloc[1, 0] = np.nan
    gappy.iloc[2, 2] = 5
    filled = model.impute(gappy, steps=3, seed=0)
    assert list(filled.dtypes) == list(frame.dtypes)
    assert list(filled.index) == list(gappy.index)
    kept = gappy.notna().to_numpy()
    np.testing.assert_array_equal(filled.to_numpy()[kept], frame.iloc[10:20].to_numpy()[kept])
    assert filled.notna().all(axis=None)
    assert filled.iloc[0, 1] != 0 or filled.iloc[0, 1] == int(filled.iloc[0, 1])


def test_images_of_integers_take_a_mask():
    digits = pf.open_data("digits").values[:60]
    model = pf.FlowMatching(network=pf.UNetSpec(width=8, levels=1), **TINY).fit(digits)
    mask = np.ones(digits[:3].shape, dtype=bool)
    mask[:, 4:] = False
    filled = model.impute(digits[:3], mask=mask, steps=3, seed=0)
    assert filled.dtype == np.uint8
    np.testing.assert_array_equal(filled[mask], digits[:3][mask])
    assert (filled[~mask] != digits[:3][~mask]).any()
    x = model.posterior(Mask(mask[0]), digits[0], 0.0, n=2, steps=3, seed=0)
    assert np.mean(x[:, mask[0]] == digits[0][mask[0]]) > 0.9


def test_conditions(model):
    labels = ["low", "high"] * 200
    trained = pf.FlowMatching(**SMALL).fit(X, condition=labels)
    options = {"n": 4, "steps": 3, "seed": 0}
    null = trained.posterior(A, [108.0], 0.5, **options)
    calls = []
    forward = trained.denoiser_.network.forward
    trained.denoiser_.network.forward = lambda x, t, c: calls.append(c) or forward(x, t, c)
    np.testing.assert_array_equal(trained.posterior(A, [108.0], 0.5, **options), null)
    assert calls[-1] is None
    trained.posterior(A, [108.0], 0.5, condition="low", **options)
    assert calls[-1].tolist() == [[1.0, 0.0, 1.0]] * 4
    trained.posterior(A, [108.0], 0.5, condition="low", guidance=2.0, **options)
    assert calls[-1].tolist() == [[1.0, 0.0, 1.0]] * 4 + [[0.0, 0.0, 0.0]] * 4
    rows = np.array([[1.0, 2.0, 3.0], [np.nan, 2.0, 3.0]])
    trained.impute(rows, condition=["low", "high"], steps=1, seed=0)
    assert calls[-1].tolist() == [[1.0, 1.0, 0.0]]
    always = pf.FlowMatching(**SMALL, condition_dropout=0.0).fit(X, condition=labels)
    with pytest.raises(ValueError, match=r"condition_dropout=0\) and has no law without one; pass condition="):
        always.posterior(A, [108.0], 0.5)
    assert len(always.posterior(A, [108.0], 0.5, condition="low", n=2, steps=1)) == 2
    with pytest.raises(ValueError, match="a guidance scale of 2 needs a condition; pass"):
        trained.posterior(A, [108.0], 0.5, guidance=2.0)
    with pytest.raises(ValueError, match="this model was trained without conditions; omit condition"):
        model.posterior(A, [108.0], 0.5, condition="low")


def test_a_reward_tilts_the_law_before_it_is_measured(model):
    """exp(w g x) moves the mean of a Gaussian by w cov g; what is known of a row then conditions that law."""
    g, w = torch.tensor([0.2, -0.1, 3.0], dtype=torch.float64), 1.5
    tilted = Gaussian(LAW.mean + w * LAW.cov @ g, LAW.cov)
    rewarded = {"guidance": pf.Guidance(w, by=lambda x: x @ g.to(x))}
    expected = tilted.observe(A, [108.0], 0.5)
    x = model.posterior(A, [108.0], 0.5, n=2000, steps=30, seed=0, batch_size=2000, **rewarded)
    for k in range(3):
        assert agrees(x[:, k], expected.mean[k], expected.cov[k, k])
    known = tilted.condition([0], [101.0])
    filled = model.impute(np.full((2000, 3), [101.0, np.nan, np.nan]), steps=30, seed=0, batch_size=2000, **rewarded)
    for k in (1, 2):
        assert agrees(filled[:, k], known.mean[k - 1], known.cov[k - 1, k - 1])


def test_options_of_guidance_are_those_of_sample():
    trained = pf.FlowMatching(**SMALL).fit(X, condition=["low", "high"] * 200)

    def drawn(guidance):
        return trained.posterior(A, [108.0], 0.5, n=4, steps=3, seed=0, condition="low", guidance=guidance)

    np.testing.assert_array_equal(drawn(pf.Guidance(3.0, interval=(0.0, math.inf))), drawn(3.0))
    for guidance in (pf.Guidance(3.0, interval=(0.1, 1.0)), pf.Guidance(3.0, negative="high")):
        assert not np.array_equal(drawn(guidance), drawn(3.0))
    rows = np.array([[1.0, np.nan, 3.0]])
    away = trained.impute(rows, steps=3, seed=0, condition="low", guidance=pf.Guidance(3.0, negative="high"))
    assert not np.array_equal(away, trained.impute(rows, steps=3, seed=0, condition="low", guidance=3.0))
    with pytest.raises(ValueError, match="this model has none; train one with model.fit_classifier"):
        trained.posterior(A, [108.0], 0.5, guidance=pf.Guidance(by="classifier"), condition="low")


def test_present_exactly_where_the_noise_is_gaussian_and_independent():
    verbs = ("posterior", "impute", "fit_classifier", "guided_by_classifier")
    for made in (pf.FlowMatching(), pf.Diffusion()):
        assert all(hasattr(made, verb) for verb in verbs)
    for options in ({"source": Gaussian(np.zeros(3), 1.0)}, {"coupling": "optimal-transport"}):
        for made in (pf.FlowMatching(**options), pf.FlowMatching(**options, **SMALL).fit(X)):
            assert not any(hasattr(made, verb) for verb in verbs)


def test_errors(model):
    cases = [
        (([[1.0, 2.0]], [1.0], 0.1), r"A has the shape \(1, 2\) and so measures rows of 2 elements, but the rows have 3"),
        ((A, [1.0, 2.0], 0.1), r"y has the shape \(2,\), 2 entries, but A measures \(1,\) of a row of shape \(3,\), 1 entries"),
        ((A, [1.0], -0.5), "noise is a standard deviation and at least 0, but entry 0 is -0.5"),
        ((A, [np.nan], 0.5), "y must be finite"),
        ((lambda x: x.exp(), [1.0] * 3, 0.5), "A is not linear"),
        ((Mask([True, False]), [1.0, 0.0], 0.5), r"the mask has shape \(2,\), but a row has shape \(3,\)"),
        ((Downsample(2), [1.0], 0.1), r"measures images \(C, H, W\), but the rows have the shape \(3,\)"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            model.posterior(*arguments)
    with pytest.raises(ValueError, match="first must be at least 0, got -1"):
        model.posterior(A, [1.0], 0.1, first=-1)
    for options, message in (
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"steps": 0}, "steps must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            model.posterior(A, [1.0], 0.1, **options)
    with pytest.raises(TypeError, match=r"method must be an object such as pushforward.diffusion.MMPS\(\), got 'dps'"):
        model.posterior(A, [1.0], 0.1, method="dps")
    assert np.isfinite(model.posterior(A, [108.0], 0.1, method=DPS(), steps=3)).all()
    rows = np.array([[1.0, np.nan, 2.0]])
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), but X has shape \(1, 3\)"):
        model.impute(rows, mask=np.array([True] * 3))
    with pytest.raises(TypeError, match="mask must hold booleans, True where a value is known, got int64"):
        model.impute(rows, mask=np.array([[1, 0, 1]]))
    with pytest.raises(ValueError, match="infinities"):
        model.impute(np.array([[1.0, np.inf, np.nan]]))
    with pytest.raises(ValueError, match="X has 2 features, but FlowMatching is expecting 3"):
        model.impute(np.array([[1.0, np.nan]]))
