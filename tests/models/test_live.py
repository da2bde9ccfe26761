"""The weights of a run that trains, and what a model of points in the plane shows."""

import os
import time

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward.data import open_data
from pushforward.data.builtin import checkerboard_law, eight_gaussians, eight_gaussians_law, moons_law
from pushforward.models import plane
from pushforward.models.base.plan import plan
from pushforward.models.live import LiveModel
from pushforward.training import RunError
from pushforward.training.record import live

TINY = {"network": pf.MLPSpec(width=16, depth=2), "random_state": 0, "device": "cpu"}


def written(folder, name):
    return (folder / name).is_file()


def test_weights_are_written_only_while_somebody_watches(tmp_path, monkeypatch):
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    file, weights = live.LiveFile(tmp_path), {"a": torch.tensor([1.0, 2.0])}
    file.write(1, lambda: weights)
    assert not written(tmp_path, live.LIVE)
    live.watch(tmp_path)
    file.write(7, lambda: weights)
    step, found = live.read_live(tmp_path, 8)
    assert (step, found["a"].tolist()) == (7, [1.0, 2.0])
    old = time.time() - live.FRESH_SECONDS - 1
    os.utime(tmp_path / live.WATCHED, (old, old))
    file.write(8, lambda: pytest.fail("nobody watches"))
    (tmp_path / live.LIVE).write_bytes(b"damaged")
    assert live.read_live(tmp_path, 8) is None
    file.clear()
    assert not written(tmp_path, live.LIVE)
    assert not written(tmp_path, live.WATCHED)


def test_a_live_model_draws_as_the_run_would(tmp_path, monkeypatch):
    """While a run trains, a second model follows it; its samples are those of the weights of that step."""
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.0)
    model, folder, seen = pf.FlowMatching(train_steps=20, **TINY), tmp_path / "run", []
    rows = eight_gaussians(200)[0]
    planned = plan(open_data(rows), model)

    def look(step):
        if not seen:
            seen.append(LiveModel(folder, rows))
            assert not seen[0].refresh()  # this asks
        elif seen[0].refresh():
            seen.append((seen[0].step, seen[0].model.sample(4, seed=1)))

    planned.start(folder, on_grid=look)
    follower, (step, drawn) = seen[0], seen[-1]
    assert 0 < step <= 20
    assert np.isfinite(drawn).all()
    assert not np.allclose(drawn, model.sample(4, seed=1))
    assert plane.is_plane(follower.model)
    assert not written(folder, live.LIVE)
    np.testing.assert_allclose(follower.rows[:3], model.space_.transform.in_units(planned.prepared.x[:3].double()), rtol=1e-9)


def test_what_has_no_weights_to_follow_says_so(tmp_path):
    pf.train("moons", pf.PPCA(random_state=0), out=tmp_path / "run")
    with pytest.raises(RunError, match="without weights"):
        LiveModel(tmp_path / "run", "moons")


@pytest.fixture(scope="module")
def exact():
    """A model whose denoiser is the exact one of its law."""
    model = pf.FlowMatching(train_steps=2, **TINY).fit(eight_gaussians(500)[0])
    model.denoiser_ = plane._exact(model, eight_gaussians_law())
    model.denoiser_.anchor = torch.nn.Parameter(torch.zeros(()))  # a model asks its parameters for their device
    return model


def test_the_exact_denoiser_has_no_error_and_its_flow_is_that_of_the_law(exact):
    points = np.array([[1.0, -2.0], [0.3, 0.4]])
    at = plane.ExactAt.of(exact, eight_gaussians_law(), points, 0.4)
    assert at.error(exact) < 1e-5
    np.testing.assert_allclose(plane.field(exact, points, 0.4), at.vectors, rtol=1e-5)


@pytest.mark.parametrize(("law", "t"), [(moons_law(), 0.0), (checkerboard_law(), 0.5), (checkerboard_law(), 1.0)])
def test_the_error_of_a_denoiser_is_a_share_of_the_spread_of_the_law(law, t, exact):
    scale = exact.space_.transform.scale
    spread = float((law.variance / scale**2).mean().sqrt())
    at = plane.ExactAt.of(exact, law, np.zeros((1, 2)), t)

    class Shifted:
        def denoiser_(self, x, t):
            return at.truth + 0.1 * spread

    assert at.error(Shifted()) == pytest.approx(0.1, rel=0.03)


def test_paths_follow_the_field(exact):
    """A small step along a path is the field at its middle, by the midpoint rule."""
    times, states = plane.paths(exact, 3, steps=400, sampler=pf.RK4())
    unique = np.concatenate([[True], np.diff(times) < 0])
    times, states = times[unique], states[unique]
    k = len(times) // 2
    rate = (states[k + 1] - states[k - 1]) / (times[k - 1] - times[k + 1])
    middle = plane.field(exact, states[k], float(times[k]))
    np.testing.assert_allclose(rate, middle, rtol=0.02, atol=0.02)


def test_the_law_of_the_eight_gaussians_is_that_of_its_points():
    law, points = eight_gaussians_law(), torch.from_numpy(eight_gaussians(20_000)[0]).double()
    np.testing.assert_allclose(points.mean(0), law.mean, atol=0.03)
    np.testing.assert_allclose(points.T.cov(), law.covariance, atol=0.05)
    near = torch.cdist(points, law.means).min(1).values.square().mean().item()
    assert near == pytest.approx(2 * 0.2**2, rel=0.03)


def test_a_mixture_of_the_right_form_is_near_in_divergence():
    model = pf.GMM(n_components=8, random_state=0).fit(eight_gaussians(3000)[0])
    law, square = eight_gaussians_law(), plane.Square((-4.0, 4.0), (-4.0, 4.0))
    assert plane.scores_at_once(model)
    assert 0 <= plane.divergence(model, law) < 0.03
    density, cell = plane.law_density(law, square, 81), (8 / 80) ** 2
    assert density.sum() * cell == pytest.approx(1, abs=0.01)
    assert np.abs(plane.density(model, square, 81) - density).sum() * cell < 0.2
    assert density[20, 40] == pytest.approx(float(law.log_prob(torch.tensor([[0.0, -2.0]]).double()).exp()))  # rows go by y


def test_the_critic_is_looked_at_in_the_units_of_the_data():
    model = pf.GAN(train_steps=2, random_state=0, device="cpu").fit(eight_gaussians(200)[0] * 50 + 7)

    class Height(torch.nn.Module):
        def forward(self, x, condition=None):
            return x[:, 1:]

    square = plane.Square((-100.0, 100.0), (-50.0, 150.0))
    values = plane.critic(model, Height(), square, 5)
    scaled = model.space_.transform.forward(torch.tensor([[0.0, -50.0], [0.0, 150.0]]), dtype=torch.float64)[:, 1]
    np.testing.assert_allclose(values[-1, 2] - values[0, 2], scaled[1] - scaled[0], rtol=1e-5)
    assert np.median(values) == 0
