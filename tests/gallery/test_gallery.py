"""Every plot draws, and the numbers behind the plots are right."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from pushforward import gallery
from pushforward.gallery import data, diffusion, estimation, families
from pushforward.models import MODELS

NAMES = gallery.names()
MOVING = [name for name in NAMES if gallery.moves(name)]


def pixels(figure):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_says_what_it_shows(name):
    assert gallery.describe(name).endswith(".")
    assert 20 < len(gallery.describe(name)) < 130


def test_every_family_of_the_library_has_a_diagram():
    assert {diagram.name for diagram in families._DIAGRAMS} == {family.__name__ for family in MODELS.values()}
    for diagram in families._DIAGRAMS:
        assert {end for arrow in diagram.arrows for end in (arrow.start, arrow.end)} == set(diagram.boxes)


@pytest.mark.full  # the site draws every plot too
@pytest.mark.parametrize("name", NAMES)
def test_every_plot_draws_something(name):
    ink = (pixels(gallery.draw(name)).min(2) < 200).mean()
    assert ink > 0.01


QUICK = {"brownian"}


@pytest.mark.parametrize("name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.full]) for name in MOVING])
def test_films_move_and_end_with_the_whole_plot(name):
    plot = gallery._plot(name)
    early, late, end = (pixels(plot(moment=moment)) for moment in (0.1, 0.6, 1.0))
    assert early.shape == late.shape == end.shape
    assert (early != late).any()
    assert (late != end).any()
    assert (end.min(2) < 200).mean() > 0.01


@pytest.mark.parametrize("rate", [0.4, 0.5])
def test_the_learned_bell_climbs_to_the_moments_of_the_data(rate):
    path = estimation._learned_bell(rate)
    x = estimation.Gaussian([1.3], 0.6**2).sample(500, seed=1)[:, 0].numpy()
    assert path[-1].tolist() == pytest.approx([x.mean(), x.std()], abs=1e-3)
    heights = [-np.log(std) - ((x - mean) ** 2).mean() / (2 * std**2) for mean, std in path.tolist()]
    assert (np.diff(heights) > -1e-12).all()


def test_names_are_distinct_and_grouped():
    assert len(set(NAMES)) == len(NAMES)
    assert [name for names in gallery.topics().values() for name in names] == NAMES


def test_a_misspelled_name_is_answered_with_its_neighbors():
    with pytest.raises(ValueError, match=r"no plot 'probabilty-flow'; there are probability-flow"):
        gallery.draw("probabilty-flow")


def test_a_still_plot_is_no_film(tmp_path):
    with pytest.raises(ValueError, match=r"score-field does not move.*These move: .*probability-flow"):
        gallery.save("score-field", tmp_path / "x.gif")
    assert not list(tmp_path.iterdir())


def test_a_film_has_its_frames(tmp_path):
    with Image.open(gallery.save("probability-flow", tmp_path / "deep" / "flow.gif", frames=2)) as film:
        assert film.n_frames == 2


def test_the_probability_flow_maps_quantiles_to_quantiles():
    # In one dimension a flow keeps the order, so it maps each quantile of the noise to that of the data.
    _, states = diffusion._backward_paths(diffusion.RK4())
    density = diffusion.LAW.log_prob
    levels = (np.arange(diffusion.PATHS) + 0.5) / diffusion.PATHS
    x = torch.linspace(-3, 3, 20001, dtype=torch.float64)
    cdf = (density(x[:, None]).exp() * (x[1] - x[0])).cumsum(0).numpy()
    np.testing.assert_allclose(np.interp(states[-1].numpy(), x.numpy(), cdf), levels, atol=2e-3)


def test_the_forward_paths_end_as_noise():
    paths = diffusion._forward_paths()
    assert paths.shape == (diffusion.STEPS + 1, diffusion.PATHS)
    increments = (paths[1:] - paths[:-1]).std(1)
    assert increments[:20].mean() < 0.1  # slowly at first
    assert 0.6 < paths[-1].std() < 1.4


def test_the_quartet_shares_its_moments_and_its_line():
    x, y = data.QUARTET.unbind(1)
    assert len({(mean, std) for mean, std in zip(y.mean(1).numpy().round(2), y.std(1).numpy().round(1), strict=True)}) == 1
    for a, b in data.QUARTET:
        slope, intercept = data.fitted_line(a, b)
        np.testing.assert_allclose([slope, intercept], np.polyfit(a.numpy(), b.numpy(), 1), rtol=1e-10)
        assert (round(slope, 2), round(intercept, 1)) == (0.5, 3.0)
    assert x.mean(1).unique().tolist() == [9.0]


def test_the_film_from_noise_ends_on_the_moons():
    _, states = diffusion._moon_paths()
    distance = torch.cdist(states[-1], diffusion.MOONS.means).min(1).values
    assert distance.quantile(0.95) < 3 * 0.02**0.5
    # Half of the points end on each moon, as in the law.
    upper = diffusion.MOONS.responsibilities(states[-1])[:, :12].sum(1).mean()
    assert abs(upper.item() - 0.5) < 0.08
