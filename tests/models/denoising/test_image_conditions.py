"""Images and masks as conditions: against the exact conditional laws of a Gaussian, and the wiring against plain enlargement."""

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.data import fit_conditions, restored_conditions
from pushforward.data.conditions import mask_numbers, random_mask
from pushforward.models.base.task import RowTask
from pushforward.training import Batch

STD = 0.3
Y = np.array([[1.5, -1.5, 0.5, 0.0], [-0.5, 1.0, -1.0, 0.8]], dtype=np.float32)
TINY = {"network": pf.UNetSpec(width=4, levels=1, patch=1), "train_steps": 2, "random_state": 0, "device": "cpu"}


def blocks(y):
    """Each pixel of y (..., 2, 4) as a block of 2 x 2."""
    return np.kron(y, np.ones((2, 2)))


LOADINGS = np.stack([blocks(np.eye(8)[k].reshape(2, 4)).ravel() for k in range(8)], 1)
COVARIANCE = LOADINGS @ LOADINGS.T + STD**2 * np.eye(32)
"""Of the 32 pixels of x = blocks(y) + noise, for y standard normal (2, 4)."""


class ExactNetwork(torch.nn.Module):
    """E[z | x_t, condition] of scaled rows z along the straight line, if ``given`` returns mean and covariance of z given it."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.given = self.data_std = None

    def forward(self, x, t, condition):
        if self.given is None:
            return self.weight * x
        alpha, sigma, out = 1 - t[0].double(), t[0].double(), torch.zeros_like(x)
        x_t = x.flatten(1).double() * ((alpha * self.data_std) ** 2 + sigma**2).sqrt()
        condition = x.new_zeros(len(x), 200) if condition is None else condition
        for present in (False, True):
            rows = (condition[:, 0] > 0) == present
            if bool(rows.any()):
                mean, S = self.given(condition[rows].double(), present)
                gain = alpha * S @ torch.linalg.inv(alpha**2 * S + sigma**2 * torch.eye(32, dtype=S.dtype))
                out[rows] = (mean + (x_t[rows] - alpha * mean) @ gain.mT).reshape(out[rows].shape).to(x.dtype)
        return out


def middle_and_half(values):
    return (values.max() + values.min()) / 2, (values.max() - values.min()) / 2


@pytest.fixture(scope="module")
def rows():
    numbers = np.random.default_rng(0)
    y = numbers.normal(size=(400, 2, 4)).astype(np.float32)
    return (blocks(y) + STD * numbers.normal(size=(400, 4, 8))).astype(np.float32), y


def exact(X, condition, given):
    """A model whose network is exact; ``given(condition, center, half)`` returns the law of x given what is present."""
    model = pf.FlowMatching(**TINY | {"network": ExactNetwork(), "prediction": "denoised"}, kind="images")
    model.fit(X, condition=condition)
    center, half = middle_and_half(X)
    network = model.denoiser_.network
    network.data_std = model.data_std_

    def scaled(condition, present):
        mean, S = given(condition, center, half) if present else (np.zeros(32), COVARIANCE)
        return (torch.as_tensor(mean) - center) / half, torch.as_tensor(S) / half**2

    network.given = scaled
    return model


@pytest.fixture(scope="module")
def exact_given_images(rows):
    center, half = middle_and_half(rows[1])
    return exact(*rows, lambda c, *_: ((c[:, 1:] * half + center) @ torch.from_numpy(LOADINGS).mT, STD**2 * np.eye(32)))


def test_samples_follow_the_law_given_the_image(exact_given_images):
    drawn = exact_given_images.sample(400, condition=Y, seed=0)
    np.testing.assert_allclose(drawn.mean(0), blocks(Y), atol=0.07)
    np.testing.assert_allclose(drawn.std(0), STD, rtol=0.15)
    each = exact_given_images.sample(400, condition=np.stack([Y, -Y] * 200), seed=0)
    np.testing.assert_allclose(each[1::2].mean(0), -blocks(Y), atol=0.1)


def test_guidance_moves_along_the_image_and_none_is_the_law_of_all(exact_given_images):
    for options in ({"condition": None}, {"condition": Y, "guidance": 0.0}):
        # Without a condition, those of training are drawn.
        found = np.cov(exact_given_images.sample(2000, seed=1, **options).reshape(2000, -1).T)
        np.testing.assert_allclose(found, COVARIANCE, atol=0.25)
    means = [exact_given_images.sample(300, condition=Y, guidance=w, seed=2).mean(0) for w in (1.0, 2.0)]
    shift = (means[1] - means[0])[np.abs(blocks(Y)) > 0.4] * np.sign(blocks(Y)[np.abs(blocks(Y)) > 0.4])
    assert (shift > -0.02).all()
    assert shift.mean() > 0.005


def test_masks_draw_the_hidden_pixels_given_the_visible_ones(rows):
    known = np.zeros((4, 8), dtype=bool)
    known[:, ::2], known[3, 1] = True, True
    a, b = known.ravel(), ~known.ravel()
    gain = COVARIANCE[np.ix_(b, a)] @ np.linalg.inv(COVARIANCE[np.ix_(a, a)])
    S = np.zeros((32, 32))
    S[np.ix_(b, b)] = COVARIANCE[np.ix_(b, b)] - gain @ COVARIANCE[np.ix_(a, b)]

    def given(condition, center, half):
        visible, pixels = condition[:, 1:33] > 0, condition[:, 33:]
        assert bool((visible == torch.from_numpy(a)).all())
        assert bool((pixels[:, b] == 0).all())
        mean = torch.where(visible, pixels * half + center, 0.0)
        mean[:, b] = mean[:, a] @ torch.from_numpy(gain).mT
        return mean, S

    model = exact(rows[0], "mask", given)
    x = blocks(Y).astype(np.float32)
    x[1, 2] += 0.4
    drawn = model.impute(np.where(known, x, np.nan)[None].repeat(400, 0), seed=0)
    assert (drawn[:, known] == x[known]).all()
    hidden = drawn.reshape(400, -1)[:, b]
    np.testing.assert_allclose(hidden.mean(0), gain @ x.ravel()[a], atol=0.08)
    np.testing.assert_allclose(np.cov(hidden.T), S[np.ix_(b, b)], atol=0.04)


def untrained(X, condition):
    """A small U-Net that answers to its condition."""
    model = pf.FlowMatching(**TINY, kind="images").fit(X, condition=condition)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.denoiser_.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


@pytest.fixture(scope="module")
def with_images(rows):
    return untrained(*rows)


@pytest.fixture(scope="module")
def with_masks(rows):
    return untrained(rows[0], "mask")


def test_a_named_method_takes_the_law_of_whole_images(with_masks, rows, monkeypatch):
    monkeypatch.setattr("pushforward.models.denoising.posterior._given_visible", None)
    known = np.arange(8) < 4
    filled = with_masks.impute(np.where(known, rows[0][:2], np.nan), method=pf.diffusion.MMPS(), steps=2, seed=0)
    assert np.isfinite(filled).all()


@pytest.mark.parametrize(("size", "patch"), [((2, 3), 1), ((4, 6), 2), ((1, 1), 1)])
def test_the_network_sees_the_enlarged_image_beside_x(size, patch):
    channels, more = 2, 3
    spec = pf.UNetSpec(width=8, levels=2, patch=patch)
    torch.manual_seed(0)
    network = spec.build((channels, 4, 6), 2 + more * size[0] * size[1], (more, *size))
    plain = spec.build((channels + more, 4, 6), 2)
    shared = {name: value for name, value in network.state_dict().items() if not name.startswith("last.")}
    plain.load_state_dict(shared, strict=False)
    x, t, image = torch.randn(5, channels, 4, 6), torch.rand(5), torch.randn(5, more, *size)
    flag, rest = torch.ones(5, 1), torch.randn(5, 1)
    enlarged = torch.from_numpy(np.kron(image.numpy(), np.ones((4 // size[0], 6 // size[1]), np.float32)))
    seen = network.features(x, t, torch.cat((flag, image.flatten(1), rest), 1))
    assert torch.equal(seen, plain.features(torch.cat((x, enlarged), 1), t, torch.cat((flag, rest), 1)))
    absent = network.features(x, t, None)
    assert torch.allclose(absent, network.features(x, t, torch.zeros(5, 2 + image[0].numel())), atol=1e-6)


class Seen(RowTask):
    def loss(self, x, condition, numbers):
        self.seen = x, condition
        return x.flatten(1).sum(1)


def test_the_visible_part_is_that_of_the_integers_and_dropped_rows_are_zeros():
    task = Seen(condition_dropout=0.5, dequantization=torch.full((1, 5, 7), 0.25), masked=(5, 7))
    x = torch.randint(1, 9, (400, 1, 5, 7)).float()
    draws = tuple(draw[0] for draw in task.draw(torch.arange(400), 400, torch.zeros(1, dtype=torch.int64), 3))
    task(Batch(x, None, draws))
    dequantized, condition = task.seen
    assert bool(((dequantized - x) >= 0).all())
    assert bool((dequantized > x).any())
    flag, visible, image = condition[:, :1], condition[:, 1:36], condition[:, 36:]
    assert torch.equal(image, x.flatten(1) * visible)
    assert torch.equal(flag[:, 0], visible.any(1).float())
    assert 0.4 < float((condition == 0).all(1).float().mean()) < 0.65
    assert len(task.seen[1].unique(dim=0)) > 150
    task.held_out(Batch(x, None, draws))
    assert float((task.seen[1] == 0).all(1).float().mean()) < 0.2


def test_random_masks_hide_in_each_way_in_the_stated_shares():
    u = torch.rand(4000, mask_numbers(6, 9), generator=torch.Generator().manual_seed(0))
    visible = random_mask(u, 6, 9)[:, 0]
    way = u[:, 0]
    assert not bool(visible[way < 0.1].any())
    columns, rows = visible.any(1), visible.any(2)
    rectangle = (columns[:, None] & rows[:, :, None]) == visible
    edges = [(0.1, 0.325), (0.325, 0.55), (0.55, 0.775), (0.775, 1.0)]
    hidden, shown, cut, scattered = (visible[(way >= low) & (way < high)] for low, high in edges)
    inside = ~hidden
    assert bool(((inside.any(1)[:, None] & inside.any(2)[:, :, None]) == inside).all())
    assert bool(rectangle[(way >= 0.325) & (way < 0.775)].all())
    assert bool((cut.all(1) == cut.any(1)).all(1).logical_or((cut.all(2) == cut.any(2)).all(1)).all())
    for side in (cut[:, 0], cut[:, -1], cut[:, :, 0], cut[:, :, -1]):
        assert float((~side.any(1) & cut.any(1).any(1)).float().mean()) > 0.05
    shares = scattered.float().mean((1, 2))
    assert abs(float(shares.mean()) - 0.5) < 0.03
    assert float(shares.std()) > 0.25
    assert len(shown)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, bool, np.uint16])
def test_pixels_are_scaled_by_channel_and_layouts_agree(dtype):
    numbers = np.random.default_rng(0)
    drawn = numbers.integers(0, 9, (9, 4, 2, 3))
    array = (drawn % 2 if dtype is bool else drawn * [1, 3, 9]).astype(dtype)
    encoder = fit_conditions(array)
    assert (encoder.kind, encoder.image, encoder.dim) == ("images", (3, 4, 2), 25)
    encoded = encoder.encode(array, 9)
    x = array.astype(float).transpose(0, 3, 1, 2)
    low, high = x.min((0, 2, 3), keepdims=True), x.max((0, 2, 3), keepdims=True)
    half = np.where(high > low, (high - low) / 2, 1)
    np.testing.assert_allclose(encoded[:, 1:], ((x - (low + high) / 2) / half).reshape(9, -1), atol=1e-6)
    assert bool((encoded[:, 0] == 1).all())
    tensor = torch.from_numpy(x.astype(np.float32))
    assert torch.allclose(encoder.encode(tensor, 9), encoded)
    assert torch.allclose(encoder.encode(tensor[2], 4), encoded[2].expand(4, -1))
    assert torch.equal(encoder.encode(array[2], 1), encoded[2:3])
    again = restored_conditions(*encoder.state())
    assert torch.equal(again.draw(5, seed=1), encoder.draw(5, seed=1))
    assert {tuple(row.tolist()) for row in encoder.draw(50, seed=1)} <= {tuple(row.tolist()) for row in encoded}


def test_the_container_of_the_condition_does_not_matter(rows):
    X, y = rows[0][:50], rows[1][:50]
    model = pf.FlowMatching(**TINY, kind="images").fit(X, condition=y)
    other = pf.FlowMatching(**TINY, kind="images").fit(X, condition=torch.from_numpy(y[:, None]))
    a, b = (m.sample(3, condition=y[:3], seed=0, steps=2) for m in (model, other))
    np.testing.assert_array_equal(a, b)


def test_every_verb_takes_images(with_images, rows, tmp_path):
    X, y = rows[0][:2], rows[1][:2]
    given = with_images.log_prob(X, condition=y, steps=2).values
    assert (given != with_images.log_prob(X, condition=-y, steps=2).values).all()
    assert with_images.bound(X, condition=y, steps=5).values.shape == (2,)
    codes = with_images.transform(X, condition=y, rtol=1e-2)
    assert with_images.inverse_transform(codes, condition=y, rtol=1e-2).shape == X.shape
    filled = with_images.impute(np.where(np.arange(8) < 4, X, np.nan), condition=y, steps=2, seed=0)
    assert np.isfinite(filled).all()
    assert with_images.posterior(pf.Downsample(2), y[0], noise=0.5, n=2, condition=y[0], steps=2).shape == (2, 4, 8)
    away = with_images.sample(2, condition=y, guidance=pf.Guidance(2.0, negative=-y[0]), steps=2, seed=0)
    assert not np.allclose(away, with_images.sample(2, condition=y, guidance=2.0, steps=2, seed=0))
    with_images.save(tmp_path / "run")
    loaded = pf.load(tmp_path / "run")
    for options in ({}, {"condition": y}):
        np.testing.assert_array_equal(
            loaded.sample(2, seed=3, steps=2, **options), with_images.sample(2, seed=3, steps=2, **options)
        )


def test_a_map_is_distilled_with_its_images_and_not_with_masks(with_images, with_masks, rows):
    student = pf.FlowMap(trajectories=32, train_steps=2, density=False, random_state=0, guidance=2.0)
    quick = pf.distill(with_images, student)
    assert quick.sample(3, condition=rows[1][:3], guidance=2.0, seed=0).shape == (3, 4, 8)
    with pytest.raises(ValueError, match="no visible part"):
        pf.distill(with_masks, student)


def test_masks_are_stored_and_take_no_other_condition(with_masks, rows, tmp_path):
    with_masks.save(tmp_path / "run")
    loaded, gappy = pf.load(tmp_path / "run"), np.where(np.arange(8) < 4, rows[0][:2], np.nan)
    np.testing.assert_array_equal(loaded.impute(gappy, seed=1, steps=2), with_masks.impute(gappy, seed=1, steps=2))
    assert not loaded.conditional
    assert loaded.sample(2, steps=2).shape == (2, 4, 8)
    sharper = loaded.impute(gappy, guidance=2.0, seed=1, steps=2)
    assert not np.array_equal(sharper, loaded.impute(gappy, seed=1, steps=2))
    for call in (lambda: loaded.sample(2, condition=rows[0][:2]), lambda: loaded.impute(gappy, condition=rows[0][:2])):
        with pytest.raises(ValueError, match="visible part of the image itself"):
            call()


IMAGES = np.random.default_rng(0).integers(0, 9, (40, 8, 8)).astype(np.uint8)


@pytest.mark.parametrize(
    ("make", "condition", "message"),
    [
        (pf.FlowMatching, IMAGES[:, :5, :5], "5×5, but X holds images of 8×8"),
        (pf.FlowMatching, IMAGES[:, :4, :2], "4×2, but X holds images of 8×8"),
        (pf.FlowMatching, np.zeros((40, 16, 16)) + np.arange(40)[:, None, None], "16×16, but"),
        (pf.FlowMatching, IMAGES[:39], r"\(39, 8, 8\), but the data have 40 rows; pass one image"),
        (pf.FlowMatching, np.where(np.arange(8) < 3, np.nan, IMAGES), "row 0 has NaN"),
        (pf.FlowMatching, np.ones((40, 8, 8)), "same number in every pixel"),
        (pf.GMM, IMAGES, r"takes no images.*Diffusion\(\).*FlowMatching\(\)"),
        (pf.VAE, "mask", r"takes no images and no masks.*FlowMatching\(\)"),
        (pf.Latent, IMAGES, "takes no images"),
        (pf.MaskedDiffusion, "mask", "takes no images"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(make, condition, message):
    with pytest.raises(ValueError, match=message):
        make().fit(IMAGES, condition=condition)


def test_masks_need_images_and_a_column_called_mask_stays_a_column():
    import pandas as pd

    with pytest.raises(ValueError, match="hides parts of images, but X holds"):
        pf.FlowMatching().fit(IMAGES.reshape(40, -1), condition="mask")
    with pytest.raises(ValueError, match="belong to images"):
        pf.FlowMatching().fit(IMAGES.reshape(40, -1), condition=IMAGES)
    table = pd.DataFrame({"x": np.arange(40.0), "y": np.arange(40.0) ** 2, "mask": ["a", "b"] * 20})
    opened = pf.open_data(table, condition="mask")
    assert list(opened.condition[:2]) == ["a", "b"]
    assert not opened.masked
    assert pf.open_data(IMAGES, condition="mask").masked


def test_wrong_conditions_of_a_trained_model_are_refused(with_images, rows):
    for wrong, message in (
        (rows[1][:2], "2 images for 3 rows"),
        (rows[0][:3], r"shape \(3, 4, 8\), but the model was trained with images of 2×4 with 1 channel"),
        (np.zeros((3, 2, 4, 2)), "with 1 channel"),
        ("cat", "not an array of dtype"),
        (np.full((2, 4), np.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            with_images.sample(3, condition=wrong)
