"""``pushforward show`` as a user types it."""

import pytest
from command_line import done, refused
from PIL import Image

from pushforward import gallery


def test_the_list_describes_every_plot(tmp_path):
    said = done("show", "--list", at=tmp_path)
    for name in gallery.names():
        (line,) = [line for line in said.splitlines() if line.split()[0] == name]
        assert gallery.describe(name) in line
        assert line.endswith("(moves)") == gallery.moves(name)


def test_a_plot_is_written_under_its_own_name(tmp_path):
    assert done("show", "score-field", at=tmp_path).startswith("score-field.png\nThe score")
    with Image.open(tmp_path / "score-field.png") as plot:
        assert min(plot.size) > 400


def test_a_film_is_written_where_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "FRAMES", 3)
    done("show", "probability-flow", "--out", "films/flow.gif", at=tmp_path)
    with Image.open(tmp_path / "films" / "flow.gif") as film:
        assert film.n_frames == 3


def test_all_plots_fill_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "names", lambda: ["score-field", "probability-flow"])
    done("show", "--all", "--out", "all/", at=tmp_path)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["probability-flow.png", "score-field.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "score-field"], "write one of: a NAME, --list, --all"),
        (["--out", "x.png"], "write one of: a NAME, --list, --all"),
        (["--list", "--out", "x.png"], "--list writes no file"),
        (["--all", "--out", "x.png"], "write --out plots/"),
        (["score-feld"], "there is no plot 'score-feld'; there are score-field"),
        (["score-field", "--out", "x.gif"], "score-field does not move"),
        (["score-field", "--out", "x.xyz"], "xyz"),
    ],
)
def test_mistakes_are_answered(words, message, tmp_path):
    assert message in refused("show", *words, at=tmp_path)
    assert not list(tmp_path.iterdir())
