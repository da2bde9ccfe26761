"""The page: it asks nothing of a network, fits a phone, shows all its plots, and takes the user's text as text."""

import base64
import html
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from pushforward.evaluation import Evaluation, Figure, Measure
from pushforward.evaluation.report.page import bar

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NASTY = '<script>alert(1)</script> & "size" {{ 7 * 7 }}'


def figures():
    measure, floor = Measure(0.6, 0.5, 0.7, 100, 0.0004, "above"), Measure(0.2, 0.1, 0.3, 100)
    return (
        Figure("C2ST", "samples", measure, "", "lower", "held-out", floor, note=NASTY),
        Figure("C2ST", "samples", measure, "", "lower", "train", floor),
        Figure("recall", "samples", measure, "", "higher", "held-out", floor, space=f"space of {NASTY}"),
        Figure("log-density", "density", Measure(-np.inf, -np.inf, -np.inf, 9), "nats per row", "higher", "held-out"),
        Figure(f"Wasserstein of {NASTY}", "table", measure, "its unit", "lower", "held-out", floor),
    )


def evaluation(kind):
    rng = np.random.default_rng(0)
    about = {
        "source": NASTY,
        "kind": kind,
        "shape": [8, 8],
        "columns": None,
        "training_rows": 90,
        "training_seconds": 3.0,
        "test_rows": 30,
        "complete_rows": 25,
        "n": 25,
        "parameters": 12345,
        "seed": 0,
        "floor": "training rows",
        "seconds": 9.0,
        "held_out_by_level": [0.1, 0.2, None, 0.4, 0.9],
        "pixel_range": [0.0, 16.0],
    }
    arrays = {
        "codes": rng.normal(size=(50, 2)),
        "code_labels": np.array(["3", NASTY] * 25),
        "distances_of_samples": rng.random(50),
        "distances_of_held_out": rng.random(50),
    }
    if kind == "images":
        for name, n in (("samples", 16), ("rows", 16), ("neighbor_samples", 5), ("neighbor_rows", 5)):
            arrays[name] = rng.integers(0, 17, (n, 8, 8))
        arrays["path_states"] = rng.normal(size=(9, 8, 8, 8))
    else:
        about |= {"columns": [NASTY, "b", "c" * 80], "shape": [3]}
        arrays |= {name: rng.normal(size=(200, 3)) for name in ("samples", "rows")}
        arrays |= {name: rng.normal(size=(200, 2)) for name in ("plane_samples", "plane_rows")}
        arrays["path_states"] = rng.normal(size=(9, 40, 2))
    curve = [{"step": step, "loss": 1 / step, "held_out_loss": 1 / step} for step in range(1, 40)]
    failures = {NASTY: f"ValueError: {NASTY}"}
    return Evaluation(figures(), "FlowMatching", about, failures, {"memorization": NASTY}, {"C2ST": 2.0}, curve, arrays)


class Reader(HTMLParser):
    """Collects tags and the text between them."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module", params=["images", "vectors"])
def page(request, tmp_path_factory):
    return evaluation(request.param).report(tmp_path_factory.mktemp("page") / "new" / "report.html")


def test_nothing_is_asked_of_a_network_and_no_script_runs(page):
    read = Reader(page.read_text())
    assert {"script", "iframe", "object", "embed"}.isdisjoint(tag for tag, _ in read.tags)
    for tag, attributes in read.tags:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href", "srcset", "action", "poster"):
            assert attributes.get(name, "data:").startswith("data:"), (tag, name)
    styles = re.findall(r"<style>(.*?)</style>", page.read_text(), re.DOTALL)
    assert not any("url(" in style or "@import" in style for style in styles)
    policy = next(attributes["content"] for tag, attributes in read.tags if attributes.get("http-equiv"))
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_text_of_the_user_is_text(page):
    source = page.read_text()
    assert "<script>" not in source
    assert html.escape("<script>alert(1)</script>") in source
    assert "49" not in re.findall(r"&#34;size&#34; (\S+ \S+ \S+ \S+ \S+)", source)[0]
    assert NASTY in Reader(source).text


def test_every_plot_is_whole_and_named(page):
    plots = [attributes for tag, attributes in Reader(page.read_text()).tags if tag == "img"]
    assert len(plots) >= 8
    for attributes in plots:
        content = base64.b64decode(attributes["src"].partition("base64,")[2])
        image = Image.open(io.BytesIO(content))
        image.load()
        assert image.size == (int(attributes["width"]), int(attributes["height"]))
        assert attributes["alt"]
        assert image.convert("L").getextrema()[0] < 200


def test_every_figure_stands_in_the_table(page):
    text = re.sub(r"\s+", " ", Reader(page.read_text()).text)
    for part in ("C2ST", "recall", f"Wasserstein of {NASTY}", "above the floor", "p < 0.001", "0.60", "0.50 to 0.70", "-∞"):
        assert part in text
    assert "better than the floor" in text
    assert f"left outmemorization: {NASTY}" in text
    assert f"Not computed {NASTY}: ValueError" in text.replace("Not computed", "Not computed ").replace("  ", " ")


def test_a_bar_shows_the_interval_beside_the_floor():
    def of(measure, floor):
        drawn = bar(Figure("x", "samples", measure, better="lower", floor=floor))
        place = {kind: float(x) for kind, x in re.findall(r'class="(\w+)" x="([-\d.]+)"', drawn)}
        width = {kind: float(x) for kind, x in re.findall(r'class="(\w+)" x="[-\d.]+" y="[\d.]+" width="([\d.]+)"', drawn)}
        return place, width

    place, width = of(Measure(8, 6, 10, 9), Measure(1, 0, 2, 9))
    assert (place["floor"] + 0.6, width["floor"] - 1.2) == pytest.approx((4, 92 * 0.2))
    assert (place["span"], width["span"]) == pytest.approx((4 + 92 * 0.6, 92 * 0.4))
    assert place["dot"] + 1.2 == pytest.approx(4 + 92 * 0.8)
    same, _ = of(Measure(1, 1, 1, 9), Measure(1, 1, 1, 9))
    assert same["dot"] + 1.2 == pytest.approx(50)
    assert bar(Figure("x", "samples", Measure(1, 1, 1, 9))) == ""
    assert "nan" not in bar(Figure("x", "samples", Measure(np.inf, np.nan, np.inf, 9), floor=Measure(1, 0, 2, 9)))


def test_an_evaluation_shows_itself_in_a_notebook():
    shown = evaluation("vectors")._repr_html_()
    read = Reader(shown)
    assert {"html", "body", "script"}.isdisjoint(tag for tag, _ in read.tags)
    assert "<script>" not in shown
    assert "above the floor" in read.text
    style = re.search(r"<style>(.*?)</style>", shown, re.DOTALL)[1]
    # Nothing else in the notebook may change its looks: all rules are for the inside of the evaluation, or nested in such a rule.
    outer, depth = "", 0
    for sign in style:
        depth += (sign == "{") - (sign == "}")
        outer += sign if depth == 0 and sign != "}" else ";" * (depth == 1 and sign == "{")
    selectors = [selector.strip() for selector in outer.split(";") if selector.strip()]
    assert len(selectors) >= 3
    assert all(selector.startswith(".pushforward-evaluation") for selector in selectors)
    # The color of the bars follows the verdict.
    assert re.search(r"^\.worse \.bar \.span, \.worse \.bar \.dot \{", style, re.MULTILINE)


def test_every_plot_can_be_drawn_alone():
    for kind in ("images", "vectors"):
        found = evaluation(kind)
        assert {"figures", "latent", "distances", "paths", "learning", "noise levels"} <= set(found.plots())
        for name in found.plots():
            plot = found.plot(name)
            assert hasattr(plot, "savefig") or plot.size[0] > 100
    bare = Evaluation(figures(), "GAN")
    assert bare.plots() == ("figures",)
    with pytest.raises(ValueError, match="there is no plot 'rows' of this evaluation, but there are 'figures'"):
        bare.plot("rows")


def test_an_evaluation_of_nothing_but_a_figure_has_a_page(tmp_path):
    text = Evaluation(figures()[:1], "GAN").report(tmp_path / "page.html").read_text()
    assert "GAN" in text
    assert "Undefined" not in text


def browsed(page, folder, width):
    """Lay the page out in a frame of this width, since a browser's own window has a least one, and return what it measured."""
    probe = """<script>addEventListener("load", () => { const root = document.documentElement;
      const wide = [...document.querySelectorAll("main *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1);
      const lost = [...document.images].filter(e => !e.complete || !e.naturalWidth);
      const asked = performance.getEntriesByType("resource").filter(e => !e.name.startsWith("data:"));
      const found = [innerWidth, root.scrollWidth, wide.length, lost.length, document.images.length, asked.length];
      parent.document.documentElement.setAttribute("data-found", JSON.stringify(found)) })</script>"""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    source = page.read_text()
    assert policy in source
    inner = source.replace(policy, f"{policy}; script-src 'unsafe-inline'").replace("</body>", f"{probe}</body>")
    outer = folder / "outer.html"
    outer.write_text(f'<iframe style="border:0" width="{width}" height="9000" srcdoc="{html.escape(inner)}"></iframe>')
    words = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}", "--window-size=1400,9000"]
    words += ["--dump-dom", "--virtual-time-budget=5000", outer.as_uri()]
    done = subprocess.run([CHROMIUM, *words], capture_output=True, text=True, timeout=120, check=False)
    found = re.search(r'data-found="\[([\d,]+)\]"', done.stdout)
    assert found, done.stderr[-2000:]
    return [int(part) for part in found[1].split(",")]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(page, width, tmp_path):
    inner, scrolled, wide, lost, plots, requests = browsed(page, tmp_path, width)
    assert inner == width
    assert scrolled <= inner
    assert (wide, lost, requests) == (0, 0, 0)
    assert plots >= 8
