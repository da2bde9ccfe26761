"""The pages as a browser asks for them, without a browser: they answer, escape what comes from files, and hold no faults."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import pushforward as pf
from pushforward import gallery
from pushforward.data import open_data
from pushforward.data.builtin import BUILTIN, BUILTIN_LAWS, BUILTIN_TEXT_LAWS
from pushforward.models import plane
from pushforward.models.files.registry import family_names
from pushforward.models.recipe import assemble
from pushforward.studio import drawing, views
from pushforward.studio.commands import Training, options_of
from pushforward.studio.families import CARDS
from pushforward.studio.loaded import Models
from pushforward.studio.runs import Curve, facts_of, figures_of
from pushforward.studio.workspace import Workspace

EVIL = '<img src=x onerror="alert(1)">'


@pytest.fixture(scope="module")
def finished(studio):
    """A run on points, in the folder of the studio."""
    folder = studio.folder / "runs" / "points"
    pf.train(
        "eight-gaussians", pf.FlowMatching(train_steps=4, network=pf.MLPSpec(width=16, depth=2), random_state=0), out=folder
    )
    return folder


@pytest.mark.parametrize(
    "path", ["/", "/data?name=moons", "/sketch", "/train", "/watch", "/draw", "/judge", "/learn", "/learn?figure=kl"]
)
def test_every_page_answers_and_names_no_other_host(path, studio):
    answer = studio.client.get(path)
    assert answer.status_code == 200
    hosts = set(re.findall(r'(?:src|href|url\()\s*=?\s*["\']?(?:https?:)?//([^/"\')]+)', answer.text))
    assert hosts <= {studio.address.removeprefix("http://")}
    assert studio.stranger.get(path).status_code == 403


@pytest.mark.parametrize("path", ["/watch", "/draw", "/judge"])
@pytest.mark.parametrize("name", ["../../etc/passwd", "no such run", EVIL, "%00", "."])
def test_names_of_strangers_are_answered_with_words(path, name, studio):
    answer = studio.client.get(path, params={"run": name})
    assert answer.status_code == 200
    assert EVIL not in answer.text
    for file in (
        f"/file/run/{name}/report",
        f"/file/run/{name}/samples",
        f"/file/thumbnail/{name}",
        f"/file/comparison/{name}/report",
    ):
        assert studio.client.get(file).status_code == 404


def test_runs_side_by_side_of_strangers_are_answered_with_words(studio):
    for names in (["no such run", EVIL], ["a"] * 7):
        answer = studio.client.get("/judge", params=[("run", name) for name in names])
        assert answer.status_code == 200
        assert EVIL not in answer.text
        assert ("too many" in answer.text) == (len(names) > 6)


def test_pictures_are_served_and_reports_run_nothing(finished, studio):
    picture = studio.client.get("/file/thumbnail/moons")
    assert Image.open(io.BytesIO(picture.content)).size[0] > 100
    (finished / "report.html").write_text("<script>alert(1)</script>")
    report = studio.client.get("/file/run/points/report")
    assert "sandbox" in report.headers["content-security-policy"]
    assert "allow-scripts" not in report.headers["content-security-policy"]
    (finished / "report.html").unlink()
    assert studio.client.get("/file/run/points/report").status_code == 404


def test_a_damaged_run_is_shown_as_one(studio, tmp_path):
    folder = studio.folder / "runs" / "damaged"
    folder.mkdir(parents=True)
    for content in ("{", "[]", '{"format": 1}', json.dumps({"format": 10**9, "pushforward": EVIL})):
        (folder / "model.json").write_text(content)
        assert facts_of(folder).problem
        answer = studio.client.get("/watch", params={"run": "damaged"})
        assert answer.status_code == 200
        assert EVIL not in answer.text
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "loss": NaN}\nno json\n{"step": "x"}\n{"step": 3, "loss": 2.5}\n{"step": 4'
    )
    curve = Curve.of(folder)
    assert (curve.last_step, curve.points("loss")) == (3, [[3, 2.5]])
    (folder / "evaluation.json").write_text('{"figures": [{}]}')
    assert figures_of(folder) == []


def test_the_recipe_of_the_page_is_that_of_the_command_line(tmp_path):
    place = Workspace(tmp_path)
    place.keep([("a.csv", io.BytesIO(b"".join(b"%d,%d,u\n" % (i, i % 3) if i else b"x,code,kind\n" for i in range(60))))])
    place.choose("data/a.csv", {"columns": {"code": "category"}, "condition": "kind"})
    training = Training("data/a.csv", "gmm", {"n_components": 2, "random_state": 3, "network": {"width": None}}, name="my run")
    words, folder = training.start(place)
    assert words == ["train", "data/a.csv", "--recipe", "recipes/my run.yaml", "--out", "runs/my run", "--condition", "kind"]
    assert folder == place.runs / "my run"
    planned = training.plan(place)
    stored = pf.models.recipe.read_recipe(place.root / "recipes" / "my run.yaml")
    again = assemble(stored, pf.open_data(tmp_path / "data/a.csv", condition="kind", types={"code": "category"}))
    assert again.get_params() == planned.model.get_params()
    assert options_of(place.choices("data/a.csv")) == ["--set", "columns.code=category", "--condition", "kind"]
    assert "--set n_components=2 --seed 3 --set columns.code=category --condition kind" in training.command(place)


def test_every_family_has_a_card():
    assert {card.name for card in CARDS} == set(family_names())


def test_every_slider_has_its_default_and_moves_its_plot(blank):
    names = [name for name in gallery.names() if gallery.sliders(name)]
    assert len(names) >= 5
    for name in names:
        sliders = gallery.sliders(name)
        assert all(slider.low <= slider.default <= slider.high for slider in sliders.values())
        gallery.draw(name, **{parameter: slider.low for parameter, slider in sliders.items()})


def test_a_view_of_points_has_paths_field_and_error(finished, studio):
    model = pf.load(finished)
    view = views.View.of(model, Workspace(studio.folder), "eight-gaussians")
    scene = views.scene(view, 0.5)
    assert len(scene["paths"]["times"]) == len(scene["paths"]["states"]) == 11
    assert len(scene["field"]["vectors"]) == len(scene["exact"]["vectors"]) == 2 * 15 * 15
    assert view.error is not None
    assert "denoiser" in views.error_in_words(view)
    json.dumps(scene, allow_nan=False)


def test_a_learned_density_and_the_exact_one_have_one_scale(tmp_path):
    model = pf.GMM(n_components=2, random_state=0).fit(BUILTIN["moons"]()[0][:400])
    view = views.View.of(model, Workspace(tmp_path), "moons")
    scene = views.scene(view)
    side, exact = scene["contours"]["side"], BUILTIN_LAWS["moons"]()
    assert max(scene["exact_contours"]["values"]) == 1000
    highest = plane.density(model, view.square, side).max() / plane.law_density(exact, view.square, side).max()
    assert max(scene["contours"]["values"]) == pytest.approx(1000 * highest, abs=1)
    assert set(views.colors(view)) == {"density", "its_contours", "exact_contours"}
    assert views.error_in_words(view).startswith(f"KL divergence from the exact law: {plane.divergence(model, exact):.3f}")
    json.dumps(scene, allow_nan=False)


def test_codes_have_the_classes_of_their_rows():
    digits = open_data("digits")
    model = pf.VAE(latent_dim=3, train_steps=2, random_state=0, device="cpu").fit(
        digits.values[:300], condition=digits.condition[:300]
    )
    assert views.has_codes(model)
    scene, classes = views.codes_scene(model, digits)
    assert classes == [str(digit) for digit in range(10)]
    assert scene["groups"] == digits.condition[:1000].tolist()
    codes = np.asarray(model.transform(digits.values[:1000], condition=digits.condition[:1000]))
    drawn = np.array(scene["data"]).reshape(-1, 2)
    assert np.square(drawn).sum() <= np.square(codes - codes.mean(0)).sum() * 1.001
    np.testing.assert_allclose(np.square(drawn).sum(), (np.linalg.svd(codes - codes.mean(0))[1][:2] ** 2).sum(), rtol=0.02)


def test_what_is_drawn_is_what_the_model_draws(finished):
    model = pf.load(finished)
    able = drawing.able_to(model)
    assert (able.plane, able.steps, able.sampler, able.part) == (True, 20, True, "")
    assert able.classes == tuple(map(str, range(8)))
    found = drawing.shown(model, {"n": 7, "seed": 3, "steps": 5, "condition": "2", "guidance": 2.0}, None, able)
    np.testing.assert_allclose(found.values, model.sample(7, seed=3, steps=5, condition=[2] * 7, guidance=2.0), atol=1e-5)
    for ending in able.endings:
        assert drawing.file_bytes(model, found.values, ending)


def test_points_of_several_settings_share_their_square_and_end_where_the_samples_are(finished):
    model = pf.load(finished)
    able = drawing.able_to(model)
    assert able.steps == 20
    usual = drawing.shown(model, {"n": 40, "seed": 3}, None, able)
    few = drawing.shown(model, {"n": 40, "seed": 3, "steps": 4}, None, able, usual.square)
    assert few.scene["square"] == usual.scene["square"]
    for found in (usual, few):
        assert len(found.scene["paths"]["times"]) == (21 if found is usual else 5)
        drawn = np.array(found.scene["paths"]["states"][-1]).reshape(-1, 2)
        np.testing.assert_allclose(drawn, found.values, atol=2e-3)
    start = [np.array(found.scene["paths"]["states"][0]) for found in (usual, few)]
    np.testing.assert_array_equal(*start)  # the same noise


def test_a_model_of_texts_is_shown_beside_its_law():
    law = BUILTIN_TEXT_LAWS["markov-text"]()
    model = pf.MaskedDiffusion(
        text=pf.Text(block=16), network=pf.TransformerSpec(width=8, depth=1, heads=2), train_steps=2, random_state=0
    ).fit([law.sample(20_000, seed=0)])
    view = views.TextView.of(model, "markov-text")
    words = view.look(model)
    learned, exact, error = map(float, re.findall(r"\d\.\d{3}", words))
    assert exact == pytest.approx(law.floor(16), abs=1e-3)
    assert 1 < error < 5
    assert learned - exact == pytest.approx(error, abs=0.5)
    assert words.count("at most") == 2
    assert views.TextView.of(model, "data/other.txt") is None
    assert views.TextView.of(pf.GMM(n_components=1).fit(BUILTIN["moons"]()[0][:50]), "markov-text") is None


def test_rows_of_a_table_are_a_picture_a_table_and_a_file(tmp_path):
    frame = pd.DataFrame({"size": np.arange(40) % 7 + 0.5, EVIL: ["a", "b", None, EVIL] * 10})
    model = pf.Circuit(random_state=0).fit(frame)
    able = drawing.able_to(model)
    assert (able.part, able.columns, able.endings[0]) == ("table", ("size", EVIL), "csv")
    found = drawing.shown(model, {"n": 6, "seed": 1}, None, able)
    assert [column["label"] for column in found.table[0]] == ["size", EVIL]
    assert len(found.table[1]) == 6
    assert found.pictures[0].startswith("data:image/png;base64,")
    filled = drawing.fill_text(model, f"size,{EVIL}\n1.5,\n,a\n", 1)
    assert filled.values.notna().all().all()
    assert (filled.values["size"][0], filled.values[EVIL][1]) == (1.5, "a")
    with pytest.raises(ValueError, match="Write some rows"):
        drawing.fill_text(model, " ", 1)


def test_a_covered_part_of_an_image_is_drawn_anew(studio):
    folder = studio.folder / "runs" / "images"
    pf.train("digits", pf.PPCA(random_state=0), out=folder)
    models, model = Models(Workspace(studio.folder)), pf.load(folder)
    covered = np.zeros((8, 8), dtype=bool)
    covered[4:] = True
    whole = Image.open(io.BytesIO(base64.b64decode(drawing.image_of(models, folder, model, 3).partition(",")[2])))
    assert whole.size == (8, 8)
    fillings = Image.open(
        io.BytesIO(base64.b64decode(drawing.fill_image(models, folder, model, 3, covered, 1).partition(",")[2]))
    )
    assert fillings.size[0] > 100
