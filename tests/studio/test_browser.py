"""The studio in a real Chromium: each path end to end, and what goes wrong on the way.

``STUDIO_PICTURES=docs/guides/studio`` writes the pictures of the guide.
"""

import contextlib
import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import wave
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest
from PIL import Image

import pushforward as pf
from pushforward.evaluation import evaluate_run

sync_api = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.full
PATIENCE = float(os.environ.get("STUDIO_PATIENCE", "1"))  # for a machine with much other work
sync_api.expect.set_options(timeout=60_000 * PATIENCE)

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PICTURES = os.environ.get("STUDIO_PICTURES")
EVIL = "<img src=x onerror=alert(1)>"
LONG = 180_000
CONTRAST = """() => {
  const parse = (text) => { const m = text.match(/[\\d.]+/g).map(Number), unit = text.startsWith('color(') ? 255 : 1;
    return [...m.slice(0, 3).map((v) => v * unit), m.length > 3 ? m[3] : 1]; };
  const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0.5) return c; }
    return [255, 255, 255, 1];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.textContent.trim(), element = walker.currentNode.parentElement;
    if (!text || !element || !element.offsetParent || element.closest('.q-icon, [aria-hidden="true"], .disabled, [disabled]')) continue;
    const style = getComputedStyle(element);
    if (Number(style.opacity) < 0.9 || style.visibility !== 'visible') continue;
    const a = light(parse(style.color)), b = light(behind(element));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) bad.push(`${ratio.toFixed(2)}: ${text.slice(0, 40)}`);
  }
  return bad;
}"""


class Server:
    """The real command, over a folder of its own."""

    def __init__(self, folder):
        self.folder, self.process, self.url = folder, None, ""
        self.log = folder.with_name(f"{folder.name}.log")

    def start(self):
        self.log.write_text("")
        port = self.url.rpartition(":")[2] or "0"
        began = time.monotonic()
        words = [
            sys.executable,
            "-u",
            "-m",
            "pushforward",
            "studio",
            "--folder",
            str(self.folder),
            "--no-browser",
            "--port",
            port,
        ]
        environment = {
            name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"
        }  # NiceGUI looks at it
        with self.log.open("w") as out:
            self.process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT)
        while not (found := re.search(r"(http://\S+)/\?token=(\S+)\n", self.log.read_text())):
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)
        self.url, self.token = found.groups()
        self.took = time.monotonic() - began
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop_jobs(self):
        for path in (self.folder / ".studio" / "jobs").glob("*.json"):
            job = json.loads(path.read_text())
            if job["state"] == "running":
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job["pid"], signal.SIGKILL)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    served = Server(tmp_path_factory.mktemp("studio with ü")).start()
    yield served
    served.kill()
    served.stop_jobs()


@pytest.fixture(scope="module")
def chromium():
    with sync_api.sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", "--autoplay-policy=no-user-gesture-required"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, server):
    """A function that opens a page; at the end no page or server has had an error, and no page a dialog or a foreign request."""
    contexts, faults = [], []

    def opened(path="/", *, width=1440, dark=False):
        context = chromium.new_context(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", accept_downloads=True
        )
        contexts.append(context)
        context.add_cookies([{"name": "pushforward-studio", "value": server.token, "url": server.url}])

        def fetched(route):
            if route.request.url.startswith(server.url):
                route.continue_()
            else:
                faults.append(("foreign", route.request.url))
                route.abort()

        context.route("**/*", fetched)
        page = context.new_page()
        page.set_default_timeout(60_000 * PATIENCE)
        page.on("console", lambda message: faults.append(("console", message.text)) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(("error", str(error))))
        page.on("dialog", lambda dialog: (faults.append(("dialog", dialog.message)), dialog.dismiss()))
        page.goto(server.url + path)
        page.wait_for_function("document.querySelector('.pf-page')")
        page.faults = faults
        return page

    yield opened
    for context in contexts:
        context.close()
    assert faults == []
    assert "Traceback" not in server.log.read_text()


def taken(page, name, *, width=760):
    """Write a picture for the guide."""
    if PICTURES:
        Path(PICTURES).mkdir(parents=True, exist_ok=True)
        page.evaluate("scrollTo(0, 0)")
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every(image => image.complete)", timeout=300_000 * PATIENCE)
        page.wait_for_timeout(1500 if page.query_selector("iframe") else 200)
        # A picture of the whole page shows frames that reach out of the window as blank.
        content = page.screenshot(full_page=not page.query_selector("iframe"))
        picture = Image.open(io.BytesIO(content)).convert("RGB")
        picture = picture.crop(
            (0, 0, picture.width, min(picture.height, int(picture.width * 1.15) if picture.width > 600 else 1100))
        )
        picture = picture.resize(
            (min(width, picture.width), round(picture.height * min(1, width / picture.width))), Image.LANCZOS
        )
        picture.save(Path(PICTURES) / f"{name}.webp", quality=72, method=6)


def begin(page, server, data, family, steps, name):
    """Start a training from the page Train, and return when the page Watch shows it."""
    page.goto(f"{server.url}/train?data={data}")
    page.locator(f'[data-family="{family}"]').click()
    if steps:
        page.get_by_label("Or number of steps").fill(str(steps))
    page.get_by_label("Name of the run").fill(name)
    page.wait_for_timeout(1200)
    button = page.get_by_role("button", name="Start training")
    sync_api.expect(button).to_be_enabled(timeout=60_000 * PATIENCE)
    button.click()
    page.wait_for_url(re.compile(r"/watch\?run="))


def figure(page, name):
    return page.locator(".pf-figures > div", has_text=re.compile(f"^{name}")).locator(".pf-figure").inner_text()


def until(found, seconds=120):
    end = time.monotonic() + PATIENCE * seconds
    while not (value := found()):
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)
    return value


def state_is(page, word, seconds=180):
    sync_api.expect(page.locator(".pf-figures .pf-figure").first).to_have_text(word, timeout=seconds * 1000 * PATIENCE)


def drawn_pixels(page):
    """How many pixels of the canvas are not empty."""
    script = "c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 3 && v > 0).length"
    return page.locator(".pf-plane canvas").first.evaluate(script)


def test_points_from_the_mouse_to_a_report(visit, server):
    page = visit("/sketch")
    box = page.locator(".pf-plane canvas").bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 120)
    page.mouse.down()
    for step in range(60):
        page.mouse.move(box["x"] + 100 + 5 * step, box["y"] + 120 + 3 * step)
    page.mouse.up()
    page.get_by_role("button", name="Class 1").click()
    page.get_by_label("Or type coordinates, a point in a line").fill(
        "\n".join(f"{i / 20 - 1.5:.2f}, {1.5 - i / 30:.2f}, 1" for i in range(60))
    )
    page.get_by_role("button", name="Add the typed points").click()
    sync_api.expect(page.get_by_text(re.compile(r"2\d\d points"))).to_be_visible()
    taken(page, "sketch")
    page.get_by_label("Name").fill("my points ü")
    page.get_by_role("button", name="Keep as data").click()
    page.wait_for_url(re.compile(r"/data\?name="))
    sync_api.expect(page.get_by_text("2 classes, which samples can be asked for: a, b.")).to_be_visible()
    taken(page, "data")
    begin(page, server, "data/my points ü.csv", "flow-matching", 500, "drawn ü")
    state_is(page, "training")
    until(lambda: "Weights of step" in page.locator(".pf-page").inner_text())
    page.reload()  # in the middle of training
    state_is(page, "training")
    other = visit("/watch?run=drawn ü")  # a second tab
    until(lambda: "Weights of step" in other.locator(".pf-page").inner_text())
    assert drawn_pixels(page) > 1000
    slider = page.get_by_label("Time from noise to data")
    slider.fill("300")
    sync_api.expect(page.locator(".pf-time output")).to_have_text(re.compile(r"t = 0\.[5-8]"))
    taken(page, "watch")
    state_is(page, "finished")
    state_is(other, "finished")
    card = json.loads((server.folder / "runs" / "drawn ü" / "model.json").read_text())
    assert card["status"] == "finished"
    page.get_by_role("button", name="Draw").click()
    page.wait_for_url(re.compile(r"/draw\?run="))
    until(lambda: page.locator(".pf-plane canvas").count() and drawn_pixels(page) > 1000)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert (lines[0], len(lines)) == ("x,y", 1001)
    page.goto(f"{server.url}/judge?run=drawn ü")
    page.get_by_role("button", name="Evaluate").click()
    sync_api.expect(page.locator("iframe")).to_be_visible(timeout=180_000 * PATIENCE)
    sync_api.expect(page.frame_locator("iframe").locator("h1").first).to_be_visible()
    assert (server.folder / "runs" / "drawn ü" / "evaluation.json").is_file()
    sync_api.expect(page.get_by_role("button", name="Evaluate again")).to_be_visible()
    taken(page, "report")
    page.goto(f"{server.url}/judge")
    sync_api.expect(page.get_by_role("link", name="drawn ü")).to_be_visible()


def test_settings_are_compared_side_by_side_by_keyboard_alone(visit, server):
    page = visit("/")
    begin(page, server, "moons", "flow-matching", 300, "settings")
    state_is(page, "finished")
    page.goto(f"{server.url}/draw?run=settings")
    pictures = page.locator(".pf-plane canvas")
    sync_api.expect(pictures).to_have_count(1)
    add = page.get_by_role("button", name="Add a setting")
    add.focus()
    for _ in range(6):
        page.keyboard.press("Enter")
    panels = page.locator(".pf-panels-grid > section")
    sync_api.expect(panels).to_have_count(6)
    sync_api.expect(page.locator(".q-notification")).to_contain_text("no more fit")
    page.get_by_role("button", name="Remove setting 5").focus()
    page.keyboard.press("Enter")
    sync_api.expect(panels).to_have_count(5)
    sync_api.expect(add).to_be_focused()
    for number, name, key in ((1, "Steps", "PageDown"), (2, "Steps", "PageUp"), (3, "Guidance scale", "PageUp")):
        slider = panels.nth(number).get_by_role("slider", name=name).locator("[tabindex='0']")
        for _ in range(6):
            slider.press(key)
    panels.nth(4).get_by_label("Class").press("ArrowDown")
    for key in ("ArrowDown", "Enter"):
        page.wait_for_timeout(300)
        page.keyboard.press(key)
    page.get_by_role("button", name="Draw", exact=True).press("Enter")
    said = panels.locator(".pf-drawn > .pf-small")
    until(lambda: all(text.startswith("Drawn with") for text in said.all_inner_texts()) and pictures.count() == 5)
    words = ("the usual settings", "3 steps", "64 steps", "guidance 6", "class ")
    for word, text in zip(words, said.all_inner_texts(), strict=True):
        assert text.startswith(f"Drawn with {word}")
    seen = pictures.evaluate_all("all => all.map(canvas => canvas.toDataURL())")
    assert len(set(seen)) == 5
    taken(page, "draw")
    page.get_by_label("Of", exact=True).press("ArrowDown")
    for key in ("ArrowDown", "Enter"):
        page.wait_for_timeout(300)
        page.keyboard.press(key)
    sync_api.expect(page.get_by_text("steps=3")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").press("Enter")
    assert download.value.suggested_filename == "settings-seed-1-setting-2.csv"


def test_runs_are_judged_side_by_side(visit, server):
    values = {}
    for name, model in (("plane", pf.PPCA(random_state=0)), ("mixture", pf.GMM(n_components=8, random_state=0))):
        folder = server.folder / "runs" / name
        pf.train("moons", model, out=folder)
        measured = evaluate_run(folder, samples=100)
        measured.save(folder / "evaluation.json")
        measured.report(folder / "report.html")
        values[name] = measured.find("log-density").measure.value
    low, high = sorted(values, key=values.get)
    page = visit("/judge")
    table = page.locator(".q-table").first
    sync_api.expect(table.get_by_role("link", name="plane", exact=True)).to_be_visible()
    assert "Held-out loss" in table.inner_text()

    def order():
        found = table.locator("tbody tr").all_inner_texts()
        return [name for text in found for name in values if text.split()[0] == name]

    head = table.locator("th", has_text="log-density")
    head.click()
    until(lambda: order() == [low, high])
    head.click()
    until(lambda: order() == [high, low])
    taken(page, "judge")
    page.get_by_role("button", name="Side by side").press("Enter")
    sync_api.expect(page.locator(".q-notification")).to_contain_text("Choose from 2")
    for name in values:
        row = table.locator("tr", has=page.get_by_role("link", name=name, exact=True))
        row.get_by_role("checkbox").press(" ")
    page.get_by_role("button", name="Side by side").press("Enter")
    page.wait_for_url(re.compile(r"/judge\?run=\w+&run=\w+"))
    sync_api.expect(page.locator("iframe")).to_have_count(2)
    for frame in range(2):
        sync_api.expect(page.frame_locator("iframe").nth(frame).locator("h1")).to_be_visible()
    row = page.locator(".q-table tbody tr", has_text="log-density").filter(has_text="held-out")
    assert sorted(map(float, row.locator("td").all_inner_texts()[1:3])) == pytest.approx(sorted(values.values()), rel=1e-3)
    boxes = [page.locator("iframe").nth(frame).bounding_box() for frame in range(2)]
    assert abs(boxes[0]["y"] - boxes[1]["y"]) < 2 < boxes[1]["x"] - boxes[0]["x"]
    page.wait_for_timeout(500)
    taken(page, "beside")


def test_a_killed_server_loses_nothing(visit, server):
    page = visit("/")
    begin(page, server, "moons", "gan", LONG, "long")
    state_is(page, "training")
    metrics = server.folder / "runs" / "long" / "metrics.jsonl"
    until(lambda: metrics.is_file() and metrics.stat().st_size)
    server.kill()
    size = metrics.stat().st_size
    until(lambda: metrics.stat().st_size > size)  # the training goes on
    page.faults.clear()  # the browser has noticed
    server.start()
    page.goto(f"{server.url}/watch?run=long")  # the page that was open has still the right cookie
    state_is(page, "training")
    until(lambda: "Weights of step" in page.locator(".pf-page").inner_text())
    taken(page, "gan")
    page.get_by_role("button", name="Stop").click()
    state_is(page, "stopped")
    before = int(figure(page, "Step").split(" of ")[0].replace(",", ""))
    page.get_by_role("button", name="Resume").click()
    state_is(page, "training")
    until(lambda: int(figure(page, "Step").split(" of ")[0].replace(",", "")) > before)
    page.get_by_role("button", name="Stop").click()
    state_is(page, "stopped")
    page.faults.clear()


def test_a_table_with_attacks_in_its_names_is_only_a_table(visit, server, tmp_path):
    file = tmp_path / "Tabelle mit Ü.csv"
    rows = [f"{i},{i % 5},{'yes' if i % 2 else EVIL},{i * 0.37 % 1:.3f}" for i in range(200)]
    rows[3] = rows[3].replace("3,3", "3,", 1)
    file.write_text("\n".join([f"{EVIL},code,label {EVIL},share", *rows]))
    page = visit("/")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_url(re.compile(r"/data\?name="))
    sync_api.expect(page.get_by_text("columns, 1 of them with gaps")).to_be_visible()
    assert EVIL in page.locator(".pf-page").inner_text()
    taken(page, "table")
    begin(page, server, "data/Tabelle mit Ü.csv", "gmm", 0, f"run {EVIL}")
    page.wait_for_url(re.compile(r"/watch\?run="))
    state_is(page, "finished")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_url(re.compile(r"/draw\?run="))
    sync_api.expect(page.locator(".q-table").first).to_be_visible()
    page.get_by_role("tab", name="Given a part").click()
    area = page.get_by_label("Comma-separated rows")
    until(lambda: len(area.input_value().splitlines()) > 4)
    page.get_by_role("button", name="Fill", exact=True).click()
    table = page.locator(".q-tab-panel:visible .q-table")
    sync_api.expect(table).to_be_visible()
    assert "—" not in table.inner_text()
    page.wait_for_timeout(500)
    taken(page, "gaps")
    assert page.locator("img[src='x']").count() == 0


def test_a_zipped_folder_of_images_has_its_folders_as_classes(visit, server, tmp_path):
    file = tmp_path / "Bilder ü.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(40):
            content = io.BytesIO()
            Image.new("L", (8, 8), 40 + 5 * number).save(content, "PNG")
            archive.writestr(f"all/{'hell' if number % 2 else EVIL.replace('/', '')}/{number}.png", content.getvalue())
    page = visit("/")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_url(re.compile(r"/data\?name="))
    sync_api.expect(page.get_by_text("40 images")).to_be_visible()
    sync_api.expect(page.get_by_text("2 classes, which samples can be asked for")).to_contain_text("hell")
    picture = page.get_by_alt_text("Rows of the data")
    until(lambda: picture.evaluate("image => image.naturalWidth") > 50)


def test_sounds_are_one_data_set(visit, server, tmp_path):
    files = []
    for number in range(24):
        files.append(tmp_path / f"ton {number}.wav")
        with wave.open(str(files[-1]), "wb") as sound:
            sound.setnchannels(1)
            sound.setsampwidth(2)
            sound.setframerate(8000)
            sound.writeframes(
                b"".join(int(9000 * math.sin(0.1 * number * t)).to_bytes(2, "little", signed=True) for t in range(256))
            )
    page = visit("/")
    page.locator("input[type=file]").set_input_files(files)
    page.wait_for_url(re.compile(r"/data\?name="))
    sync_api.expect(page.get_by_text("24 signals")).to_be_visible()
    sync_api.expect(page.get_by_text("8,000")).to_be_visible()
    picture = page.get_by_alt_text("Rows of the data")
    until(lambda: picture.evaluate("image => image.naturalWidth") > 50)


def test_runs_with_mutated_json_are_shown_with_words(visit, server):
    whole = server.folder / "runs" / "whole"
    pf.train("moons", pf.PPCA(random_state=0), out=whole)
    card = (whole / "model.json").read_text()
    keys = re.findall(r'"(\w+)":', card)
    mutated = [
        card.replace("moons", EVIL),
        card.replace("ppca", EVIL).replace("PPCA", EVIL),
        card.replace(": [", ': ["' + EVIL.replace('"', "") + '",', 1),
        re.sub(r": -?\d+", ": 1e999", card),
        re.sub(r": -?\d+", ": -1", card),
        "[" * 100_000,
        *(card.replace(f'"{key}":', f'"{EVIL}":', 1) for key in keys[:: max(1, len(keys) // 6)]),
    ]
    for number, text in enumerate(mutated):
        shutil.copytree(whole, whole.with_name(f"mutated {number}"), dirs_exist_ok=True)
        (whole.with_name(f"mutated {number}") / "model.json").write_text(text)
    page = visit("/watch")
    sync_api.expect(page.get_by_text("cannot be read").first).to_be_visible()
    for number in range(len(mutated)):
        for verb in ("watch", "draw", "judge"):
            page.goto(f"{server.url}/{verb}?run=mutated {number}")
            sync_api.expect(page.locator("h1, .pf-problem").first).to_be_visible()
            page.wait_for_timeout(300)
            assert page.locator("img[src='x']").count() == 0
    for verb in ("watch", "draw", "judge"):
        page.goto(f"{server.url}/{verb}")
        sync_api.expect(page.get_by_text("whole").first).to_be_visible()
    for number in range(len(mutated)):
        shutil.rmtree(whole.with_name(f"mutated {number}"))


@pytest.mark.parametrize("name", ["tool.exe", "broken.csv", "broken.zip", "one.wav"])
def test_a_wrong_file_is_refused_with_words(name, visit, server, tmp_path):
    file = tmp_path / name
    file.write_bytes(b"\x00\x01no data" if name != "broken.csv" else b"a,b\n1,2\n")
    page = visit("/")
    page.locator("input[type=file]").set_input_files(file)
    message = page.locator(".q-notification")
    sync_api.expect(message).to_be_visible()
    assert len(message.inner_text()) > 30
    if name == "tool.exe":
        taken(page, "refused")
    assert page.url.rstrip("/") == server.url
    assert not list((server.folder / "data").glob(f"{Path(name).stem}*"))


def test_a_file_of_200_megabytes_is_refused_twice(visit, server, tmp_path):
    file = tmp_path / "large.csv"
    with file.open("wb") as out:
        out.truncate(200_000_000)
    page = visit("/")
    page.locator("input[type=file]").set_input_files(file)
    sync_api.expect(page.locator(".q-notification")).to_contain_text("more than 100 MB")
    # A browser that ignores the limit of the page meets that of the server.
    with contextlib.suppress(httpx.TransportError):  # it closes the connection once it has answered
        cookies = {"pushforward-studio": server.token}
        answer = httpx.post(f"{server.url}/upload", content=bytes(110_000_000), cookies=cookies, trust_env=False, timeout=60)
        assert answer.status_code == 413


def test_an_image_is_painted_by_mouse_and_by_keyboard(visit, server):
    page = visit("/")
    begin(page, server, "digits", "ppca", 0, "digits")
    state_is(page, "finished")
    page.get_by_role("button", name="Draw").click()
    page.wait_for_url(re.compile(r"/draw\?run="))
    sync_api.expect(page.locator("img.pf-picture").first).to_be_visible()
    page.get_by_role("tab", name="Given a part").click()
    brush = page.locator(".pf-brush")
    sync_api.expect(brush).to_be_visible()
    page.wait_for_timeout(800)
    box = brush.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.3, box["y"] + box["height"] * 0.6)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.7, box["y"] + box["height"] * 0.6, steps=8)
    page.mouse.up()
    brush.focus()
    for key in ("ArrowDown", "ArrowRight", " "):
        page.keyboard.press(key)
    page.get_by_role("button", name="Fill", exact=True).click()
    sync_api.expect(page.get_by_alt_text("Fillings")).to_be_visible()
    taken(page, "inpaint")


def test_codes_are_walked_through(visit, server):
    page = visit("/")
    begin(page, server, "digits", "vae", 60, "codes")
    state_is(page, "finished")
    page.goto(f"{server.url}/draw?run=codes")
    page.get_by_role("tab", name="Between two rows").click()
    sync_api.expect(page.locator(".q-tab-panel:visible img.pf-picture")).to_have_count(2)


def test_images_and_codes_follow_the_weights_of_the_moment(visit, server):
    page = visit("/")
    begin(page, server, "digits", "vae", LONG, "live images")
    state_is(page, "training")
    step = re.compile(r"Weights of step ([\d,]+)")
    until(lambda: step.search(page.locator(".pf-page").inner_text()))
    image = page.locator("img.pf-picture").first
    first, was = image.get_attribute("src"), step.search(page.locator(".pf-page").inner_text())[1]
    until(lambda: step.search(page.locator(".pf-page").inner_text())[1] != was)
    until(lambda: image.get_attribute("src") != first)
    until(lambda: drawn_pixels(page) > 1000)  # the codes, whose classes have their colors
    sync_api.expect(page.locator(".pf-key span", has_text="7")).to_be_visible()
    taken(page, "live")
    page.get_by_role("button", name="Stop").click()
    state_is(page, "stopped")


def test_a_text_uncovers(visit, server):
    page = visit("/")
    begin(page, server, "markov-text", "masked-diffusion", 4, "text")
    state_is(page, "finished", 300)
    law = page.get_by_text("KL divergence from the exact law")
    sync_api.expect(law).to_contain_text("the exact law 1.678")
    sync_api.expect(law).not_to_contain_text("Weights of step")  # that of the finished model
    assert float(re.search(r"law: at most (\d\.\d+) bits per character", law.inner_text())[1]) > 0.5
    taken(page, "law")
    page.goto(f"{server.url}/draw?run=text")
    text = page.locator(".pf-text").first
    sync_api.expect(text).to_be_visible()
    whole = text.inner_text()
    assert "░" not in whole
    thumb = page.get_by_role("slider", name="How much is drawn").locator("[tabindex='0']")

    def covered():  # keys that come before the page is connected are lost
        thumb.press("ArrowLeft")
        page.wait_for_timeout(100)
        return set(text.inner_text()) == {"░"}

    until(covered)
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    until(lambda: 0 < text.inner_text().count("░") < len(whole))
    taken(page, "text")
    page.get_by_role("button", name="Play from covered to drawn").click()
    until(lambda: text.inner_text() == whole)
    page.get_by_role("tab", name="Given a part").click()
    area = page.get_by_label("Text", exact=True)
    until(lambda: "_____" in area.input_value())
    page.get_by_role("button", name="Fill", exact=True).click()
    filled = page.locator(".q-tab-panel").filter(has=area).locator(".pf-text.pf-code")  # the other tab fades out
    sync_api.expect(filled).to_be_visible()
    assert "_" not in filled.inner_text()


def test_sounds_play(visit, server):
    page = visit("/")
    begin(page, server, "tones", "ppca", 0, "sounds")
    state_is(page, "finished")
    page.goto(f"{server.url}/draw?run=sounds")
    sound = page.locator("audio").first
    sync_api.expect(page.locator("audio")).to_have_count(6)
    until(lambda: sound.evaluate("a => a.duration") == pytest.approx(256 / 2000, rel=0.1))
    sound.evaluate("a => a.play()")
    until(lambda: sound.evaluate("a => a.ended"))
    page.wait_for_timeout(300)
    taken(page, "sounds")
    with page.expect_download() as download:
        page.get_by_role("button", name="Download").click()
    assert Path(download.value.path()).stat().st_size > 1000


def test_sets_of_points_turn(visit, server):
    page = visit("/")
    begin(page, server, "shapes", "flow-matching", 3, "sets")
    state_is(page, "finished", 300)
    page.goto(f"{server.url}/draw?run=sets")
    pictures = page.locator("img.pf-picture")
    sync_api.expect(pictures).to_have_count(2, timeout=180_000 * PATIENCE)
    film = pictures.first
    assert film.get_attribute("src").startswith("data:image/gif")
    until(lambda: film.evaluate("image => image.naturalWidth") > 100)
    taken(page, "sets")


def test_a_page_that_is_left_while_it_loads_leaves_no_error(visit, server):
    folder = server.folder / "runs" / "slow"
    network = pf.MLPSpec(width=256, depth=3)
    pf.train("moons", pf.FlowMatching(network=network, train_steps=1, random_state=0), out=folder)
    blocking = visit("/draw?run=slow")  # one model works at a time
    sync_api.expect(blocking.get_by_text("Drawn with the usual settings")).to_be_visible()
    blocking.get_by_label("Number of samples").fill("3000")
    for _ in range(6):
        blocking.get_by_role("slider", name="Steps").locator("[tabindex='0']").press("PageUp")
    blocking.get_by_role("button", name="Draw", exact=True).click()
    blocking.wait_for_timeout(500)
    for path in ("/draw?run=slow", "/watch?run=slow"):
        page = visit(path)
        page.wait_for_timeout(300)
        page.close()
    sync_api.expect(blocking.get_by_text("Drawn with 64 steps")).to_be_visible()
    blocking.wait_for_timeout(3000)


def test_families_are_compared(visit, server):
    page = visit("/judge")
    page.get_by_label("Name").fill("both")
    page.get_by_label("Families").click()
    page.get_by_role("option", name="flow-matching").click()
    page.get_by_role("option", name="ppca").click()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Compare", exact=True).click()
    page.wait_for_url(re.compile(r"/judge\?comparison=both"))
    sync_api.expect(page.locator("iframe")).to_be_visible(timeout=300_000 * PATIENCE)
    sync_api.expect(page.frame_locator("iframe").get_by_text("gmm", exact=False).first).to_be_visible()


def test_a_slider_changes_its_figure(visit):
    page = visit("/learn?figure=gaussian-density")
    image = page.locator("img.pf-picture")
    first = image.get_attribute("src")
    slider = page.get_by_role("slider", name="Standard deviation")
    slider.locator("[tabindex='0']").focus()
    for _ in range(10):
        page.keyboard.press("ArrowRight")
    until(lambda: image.get_attribute("src") != first)
    page.wait_for_timeout(700)
    taken(page, "figure")


def test_the_keyboard_alone_trains(visit, server):
    page = visit("/train?data=moons")
    card = page.locator('[data-family="ppca"]')
    for _ in range(60):
        page.keyboard.press("Tab")
        if card.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    sync_api.expect(card).to_have_attribute("aria-checked", "true")
    start = page.get_by_role("button", name="Start training")
    sync_api.expect(start).to_be_enabled()
    for _ in range(60):
        page.keyboard.press("Tab")
        if start.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/watch\?run="))
    state_is(page, "finished")
    sync_api.expect(page.get_by_text("KL divergence from the exact law")).to_be_visible()  # that of the moons
    until(lambda: drawn_pixels(page) > 1000)
    taken(page, "density")


def test_a_page_of_another_origin_is_refused(chromium, server):
    class Page(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<!doctype html><title>elsewhere</title>")

        def log_message(self, *_):
            pass

    elsewhere = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
    context = chromium.new_context()
    context.add_cookies([{"name": "pushforward-studio", "value": server.token, "url": server.url}])
    page = context.new_page()
    page.goto(f"http://localhost:{elsewhere.server_port}/")
    read = "u => fetch(u, {credentials: 'include'}).then(r => r.text(), () => 'refused')"
    assert page.evaluate(read, f"{server.url}/") == "refused"
    write = (
        "u => fetch(u, {method: 'POST', mode: 'no-cors', credentials: 'include', body: 'x'}).then(r => r.type, () => 'refused')"
    )
    assert page.evaluate(write, f"{server.url}/login") in ("opaque", "refused")
    script = """u => new Promise(done => { const s = new WebSocket(u); s.onopen = () => done('open'); s.onerror = () => done('refused'); })"""
    address = server.url.replace("http", "ws") + "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"
    assert page.evaluate(script, address) == "refused"
    context.close()
    elsewhere.shutdown()
    elsewhere.server_close()


@pytest.mark.parametrize(("width", "dark"), [(1440, False), (1440, True), (390, False), (390, True)])
def test_every_screen_fits_and_can_be_read(width, dark, visit, server):
    page = visit("/", width=width, dark=dark)
    runs = [path.name for path in (server.folder / "runs").iterdir()] if (server.folder / "runs").is_dir() else []
    paths = [
        "/",
        "/sketch",
        "/data?name=moons",
        "/train?data=moons",
        "/train",
        "/watch",
        "/draw",
        "/judge",
        "/learn",
        "/learn?figure=kl",
    ]
    for name in ("drawn ü", "digits", "codes", "text", "sounds", "sets"):
        paths += [f"/{verb}?run={name}" for verb in ("watch", "draw", "judge")] if name in runs else []
    paths += ["/judge?run=plane&run=mixture"] if {"plane", "mixture"} <= set(runs) else []
    paths += [f"/data?name=data/{path.name}" for path in (server.folder / "data").glob("*")]
    for path in [*paths, "/learn?figure=langevin", "/watch?run=none", "/draw?run=none", "/judge?run=none", "/data?name=none"]:
        page.goto(server.url + path)
        page.wait_for_timeout(2500)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), path
        assert page.evaluate(CONTRAST) == [], path
        if PICTURES and path in ("/", "/train?data=moons", "/learn") and not dark:
            taken(page, f"{path.strip('/').partition('?')[0] or 'home'}-{width}", width=760 if width > 600 else 300)
        if PICTURES and path == "/watch?run=drawn ü" and dark:
            taken(page, f"watch-dark-{width}", width=760 if width > 600 else 300)
