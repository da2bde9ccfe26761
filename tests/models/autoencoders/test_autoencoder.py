"""The autoencoder against principal components; what it has and what it has not."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

import pushforward as pf

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(400, 5)) @ RNG.normal(size=(5, 5)) + 3
AFFINE = {"network": pf.CoderSpec(depth=0), "random_state": 0, "device": "cpu", "held_out": 0.0}
TINY = {"network": pf.CoderSpec(width=8, depth=1), "random_state": 0, "device": "cpu"}


def test_the_affine_autoencoder_is_pca():
    X = (DATA - DATA.mean(0)) / DATA.std(0)
    settings = pf.TrainingSettings(steps=600, batch_size=200, learning_rate=0.03, ema=0.1)
    model = pf.Autoencoder(latent_dim=2, training=settings, **AFFINE).fit(X)
    pca = PCA(2).fit(X)
    least = ((pca.inverse_transform(pca.transform(X)) - X) ** 2).mean()
    back = model.inverse_transform(model.transform(X))
    assert ((back - X) ** 2).mean() == pytest.approx(least, rel=1e-3)
    # The same plane: what lies in it comes back.
    inside = pca.inverse_transform(RNG.normal(size=(10, 2)))
    np.testing.assert_allclose(model.inverse_transform(model.transform(inside)), inside, atol=0.05)


def test_the_loss_is_the_mean_square_over_elements_that_vary():
    images = RNG.integers(0, 9, (30, 4, 4)).astype(np.uint8)
    images[:, 0] = 5
    model = pf.Autoencoder(latent_dim=2, train_steps=2, **TINY).fit(images)
    x = model.space_.transform.forward(torch.as_tensor(images[:3, None]).float())
    middle = x + model.space_.transform.dequantization.float() / 2
    with torch.no_grad():
        back = model.coder_.decode(model.coder_.encode(middle, None), None)
        loss = model._task(model.coder_, None).loss(x, None, ())
    torch.testing.assert_close(loss, (back - middle)[:, :, 1:].square().flatten(1).mean(1))


def test_integers_come_back_to_themselves_where_nothing_is_lost():
    X = RNG.integers(0, 9, (60, 2)).astype(np.int64)
    model = pf.Autoencoder(latent_dim=2, train_steps=1, **AFFINE).fit(X)
    with torch.no_grad():
        for layer in (model.coder_.encoder.linear, model.coder_.decoder.linear):
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    codes = model.transform(X)
    np.testing.assert_allclose(codes, (X + 0.5 - model.space_.transform.shift.numpy()) / model.space_.transform.scale.numpy())
    np.testing.assert_array_equal(model.inverse_transform(codes + 0.49 * model.space_.transform.dequantization.numpy()), X)
    np.testing.assert_array_equal(model.inverse_transform(codes - 0.49 * model.space_.transform.dequantization.numpy()), X)


def test_it_has_no_law_to_draw_from():
    model = pf.Autoencoder(train_steps=1, **TINY).fit(DATA)
    for verb in ("sample", "log_prob", "score_samples"):
        assert not hasattr(model, verb)
    np.testing.assert_array_equal(
        pf.Autoencoder(train_steps=1, **TINY).fit_transform(DATA[:50]),
        pf.Autoencoder(train_steps=1, **TINY).fit(DATA[:50]).transform(DATA[:50]),
    )


@pytest.mark.parametrize("shape", [(30, 8, 8), (40, 2), (40, 5)])
def test_a_run_shows_rows_beside_their_reconstructions(tmp_path, shape):
    X = RNG.integers(0, 9, shape).astype(np.uint8)
    pf.train(X, pf.Autoencoder(latent_dim=2, train_steps=1, **TINY), out=tmp_path / "run")
    assert (tmp_path / "run" / "samples.png").is_file()


def test_every_image_stands_above_its_reconstruction():
    X = RNG.integers(0, 9, (30, 8, 8)).astype(np.uint8)
    model = pf.Autoencoder(latent_dim=2, train_steps=1, **TINY).fit(X)
    z = model.space_.transform.forward(torch.as_tensor(X[:20, None]).float())
    low = torch.full_like(z, -1.0)
    grid = np.asarray(model.space_.draw_pairs(low, z))
    lines = grid.shape[0] // 4
    assert grid[lines + 8 : 2 * lines - 8, 8:-8].astype(float).mean() < grid[8 : lines - 8, 8:-8].astype(float).mean()
    assert (grid[lines + 8 : 2 * lines - 8, 8:40] == 0).all()
