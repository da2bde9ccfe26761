"""The folder of a studio: what names and archives from a browser may do."""

import io
import stat
import zipfile

import numpy as np
import pytest

from pushforward.studio import workspace
from pushforward.studio.workspace import Refused, Workspace, safe_name


@pytest.fixture
def place(tmp_path):
    return Workspace(tmp_path)


def zipped(**files):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    content.seek(0)
    return content


@pytest.mark.parametrize(
    "name",
    [
        "../../x.csv",
        "..",
        ".",
        "",
        "/etc/passwd",
        "a/../../b",
        "..\\..\\x.csv",
        ".hidden",
        "\x00a.csv",
        "a\nb.csv",
        "x" * 500 + ".csv",
    ],
)
def test_a_name_never_leads_elsewhere(name, place):
    made = safe_name(name)
    assert made not in ("", ".", "..")
    assert not made.startswith(".")
    assert len(made.encode()) < 255
    assert made.isprintable()
    assert (place.data / made).resolve().parent == place.data


def test_names_keep_spaces_and_other_letters(place):
    path = place.keep([("Größe & 数据 1.csv", io.BytesIO(b"a,b\n1,2\n"))])
    assert path.name == "Größe & 数据 1.csv"
    assert place.sources() == [f"data/{path.name}"]
    assert place.source(f"data/{path.name}") == path
    again = place.keep([("Größe & 数据 1.csv", io.BytesIO(b"a,b\n1,2\n"))])
    assert again.name == "Größe & 数据 1-2.csv"


@pytest.mark.parametrize("name", ["../secret", "data/../../secret", "data/", "", "secret", "data/link", "/etc/passwd"])
def test_only_what_is_listed_is_data(name, place):
    place.data.mkdir()
    (place.root.parent / "secret").write_text("x")
    (place.data / "link").symlink_to(place.root.parent / "secret")
    with pytest.raises(Refused):
        place.source(name)
    with pytest.raises(Refused):
        place.run(name)


def test_what_is_no_data_is_refused_and_leaves_nothing(place):
    for files in (
        [("a.exe", b"MZ")],
        [("a", b"x")],
        [("a.csv", b"x"), ("b.csv", b"x")],
        [("a.png", b"x"), ("b.wav", b"x")],
        [],
    ):
        with pytest.raises(Refused):
            place.keep([(name, io.BytesIO(content)) for name, content in files])
    with pytest.raises(Refused, match="cannot be unpacked"):
        place.keep([("a.zip", io.BytesIO(b"no archive"))])
    assert [name for name in place.names(place.data) if name != "images"] == []


def test_sounds_and_images_come_together_in_a_folder(place):
    path = place.keep([("a.png", io.BytesIO(b"1")), ("a.png", io.BytesIO(b"2"))])
    assert path.name == "images"
    assert sorted(file.name for file in path.iterdir()) == ["a-2.png", "a.png"]


def test_an_archive_keeps_its_folders_as_classes(place):
    path = place.keep(
        [("photos.zip", zipped(**{"photos/cat/a.txt": "1", "photos/dog/b.txt": "2", "__MACOSX/x": "", "photos/.DS": ""}))]
    )
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*.*")) == ["cat/a.txt", "dog/b.txt"]


@pytest.mark.parametrize("name", ["../x.txt", "a/../../x.txt", "/x.txt", "C:/x.txt", "..\\x.txt"])
def test_an_archive_cannot_write_elsewhere(name, place):
    with pytest.raises(Refused, match="leads out"):
        place.keep([("a.zip", zipped(**{"ok.txt": "1", name: "2"}))])
    assert place.names(place.data) == []
    assert not list(place.root.parent.glob("x.txt"))


def test_an_archive_holds_no_links_and_no_bombs(place, monkeypatch):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(Refused, match="link"):
        place.keep([("a.zip", content)])
    monkeypatch.setattr(workspace, "_MOST_UNPACKED", 1000)
    with pytest.raises(Refused, match="more than"):
        place.keep([("a.zip", zipped(a="x" * 2000))])
    assert place.names(place.data) == []


def test_choices_are_kept_and_go_with_the_data(place):
    path = place.keep([("a.csv", io.BytesIO(b"a,b\n1,2\n"))])
    place.choose("data/a.csv", {"columns": {"a": "category"}})
    assert Workspace(place.root).choices("data/a.csv") == {"columns": {"a": "category"}}
    place.drop(path)
    assert place.choices("data/a.csv") == {}
    with pytest.raises(Refused):
        place.drop(place.root / "other")


def test_points_are_read_from_lines():
    from pushforward.studio.pages.sketch import read_points

    assert np.array(read_points("1 2\n\n-0.5;0.25;1")).tolist() == [[1, 2, 0], [-0.5, 0.25, 1]]
    for text in ("1", "a b", "1 2 x", "9 9", "nan 1", "1 1 9"):
        with pytest.raises(Refused, match="Line 1"):
            read_points(text)
