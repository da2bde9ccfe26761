"""Images as cameras, microscopes and other programs write them: upright, with all their levels, and nothing lost unsaid."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from pushforward.data import Schema, open_data, write_samples

RNG = np.random.default_rng(0)
# Few levels around one high byte, so that a reader that keeps 8 bits sees at most three.
DEEP = {channels: RNG.integers(30_000, 30_400, (11, 13, channels)).astype(np.uint16) for channels in (1, 3, 4)}
# By the marks of the Exif standard 2.32, 4.6.5.1 (0112): where row 0 and column 0 of the stored pixels lie.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def png(values, filtered=True) -> bytes:
    """A PNG of uint16 values (H, W, C), whose lines hold the differences to the pixel on the left."""
    height, width, channels = values.shape
    lines = b""
    for line in values:
        stored = np.frombuffer(line.astype(">u2").tobytes(), np.uint8).copy()
        if filtered:
            stored[2 * channels :] -= np.frombuffer(line.astype(">u2").tobytes(), np.uint8)[: -2 * channels]
        lines += bytes([int(filtered)]) + stored.tobytes()
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    packed = (struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)) for name, part in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(values, order="<", *, packed=False, mark=1, planes=False) -> bytes:
    """A TIFF of uint16 values (H, W, C) in one strip, or in one per channel."""
    height, width, channels = values.shape
    parts = [values[..., [index]] for index in range(channels)] if planes else [values]
    strips = [part.astype(f"{order}u2").tobytes() for part in parts]
    strips = [zlib.compress(strip) for strip in strips] if packed else strips
    start = 8
    offsets = [start + sum(map(len, strips[:index])) for index in range(len(strips))]
    tags = {256: [width], 257: [height], 258: [16] * channels, 259: [8 if packed else 1], 262: [1 if channels == 1 else 2]}
    tags |= {273: offsets, 274: [mark], 277: [channels], 278: [height], 279: list(map(len, strips)), 284: [1 + planes]}
    tags |= {338: [2]} if channels == 4 else {}
    body, entries, longer = b"".join(strips), b"", b""
    after = start + len(body) + 2 + 12 * len(tags) + 4
    for tag, numbers in sorted(tags.items()):
        plain = struct.pack(f"{order}{len(numbers)}I", *numbers)
        held = plain if len(numbers) == 1 else struct.pack(f"{order}I", after + len(longer))
        longer += plain if len(numbers) > 1 else b""
        entries += struct.pack(f"{order}HHI", tag, 4, len(numbers)) + held
    mark_of_order = b"II*\0" if order == "<" else b"MM\0*"
    directory = struct.pack(f"{order}H", len(tags)) + entries + struct.pack(f"{order}I", 0)
    return mark_of_order + struct.pack(f"{order}I", start + len(body)) + body + directory + longer


def opened(folder, ending, content, **options):
    """The first image of a folder with the same one twice."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in "ab":
        (folder / f"{name}{ending}").write_bytes(content)
    return open_data(folder, **options).values[0]


def grey(folder, *names, value=0):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (3, 2), value).save(path, format="PNG")


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_keeps_sixteen_bits(tmp_path, channels, filtered):
    values = opened(tmp_path, ".png", png(DEEP[channels], filtered))
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, DEEP[channels].squeeze())


def test_grey_with_transparency_keeps_sixteen_bits(tmp_path):
    values = opened(tmp_path, ".png", png(DEEP[4][..., :2]))
    np.testing.assert_array_equal(values, DEEP[4][..., [0, 0, 0, 1]])


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_keeps_sixteen_bits_in_either_order(tmp_path, channels, order, packed):
    values = opened(tmp_path, ".tif", tiff(DEEP[channels], order, packed=packed))
    assert values.dtype == np.uint16
    np.testing.assert_array_equal(values, DEEP[channels].squeeze())


@pytest.mark.parametrize("channels", [1, 3])
def test_netpbm_files_keep_their_levels(tmp_path, channels):
    values = DEEP[channels] % 4096
    head = b"P%d\n# twelve bits\n13 11\n4095\n"
    raw = opened(tmp_path / "raw", ".pnm", head % (5 if channels == 1 else 6) + values.astype(">u2").tobytes())
    text = " ".join(map(str, values.ravel())).encode()
    plain = opened(tmp_path / "plain", ".pnm", head % (2 if channels == 1 else 3) + text)
    for found in (raw, plain):
        assert found.dtype == np.uint16
        np.testing.assert_array_equal(found, values.squeeze())


@pytest.mark.parametrize(("packed", "stored"), [(True, "RGB;16N"), (False, "R")])
def test_levels_that_cannot_be_read_are_refused(tmp_path, packed, stored):
    with pytest.raises(ValueError, match=rf"a.tif \(16 bits per channel as {stored} in separate planes, of which only 8"):
        opened(tmp_path, ".tif", tiff(DEEP[3], packed=packed, planes=True))


@pytest.mark.parametrize("target", ["f", "f.parquet"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_written_as_they_are(tmp_path, channels, target):
    array = np.stack([DEEP[channels].squeeze()] * 2)
    array[1] += 7
    found = open_data(write_samples(tmp_path / target, array, Schema.infer(array))).values
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, array)
    swapped = array.astype(">u2")
    np.testing.assert_array_equal(open_data(write_samples(tmp_path / "swapped", swapped, Schema.infer(swapped))).values, array)


@pytest.mark.parametrize("mark", [*UPRIGHT, 0, 9])
def test_orientation_marks_are_applied(tmp_path, mark):
    image, exif = Image.fromarray((DEEP[3] % 256).astype(np.uint8)), Image.Exif()
    exif[0x0112] = mark
    turn = UPRIGHT.get(mark, UPRIGHT[1])
    for ending in (".jpg", ".png"):
        image.save(tmp_path / f"one{ending}", exif=exif, quality=95)
        values = opened(tmp_path / ending, ending, (tmp_path / f"one{ending}").read_bytes())
        np.testing.assert_array_equal(values, turn(np.asarray(Image.open(tmp_path / f"one{ending}"))))
        np.testing.assert_array_equal(values, ImageOps.exif_transpose(Image.open(tmp_path / f"one{ending}")))
    if mark in UPRIGHT:
        for channels in (1, 3):
            values = opened(tmp_path / f"{channels}", ".tif", tiff(DEEP[channels], mark=mark))
            np.testing.assert_array_equal(values, turn(DEEP[channels]).squeeze())


def test_images_of_one_shape_once_upright_are_of_one_size(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (12, 20)).save(tmp_path / "a.jpg", exif=exif)
    Image.new("RGB", (20, 12)).save(tmp_path / "b.jpg")
    assert open_data(tmp_path).values.shape == (2, 12, 20, 3)


def test_class_folders_may_be_links(tmp_path):
    grey(tmp_path / "store", "x/0.png", "x/1.png", "y/deep/2.png")
    (tmp_path / "data").mkdir()
    for name, target in (("cat", "x"), ("dog", "y"), ("wolf", "y/deep")):
        (tmp_path / "data" / name).symlink_to(tmp_path / "store" / target)
    # Links in a circle end, and a class is no less a class for being linked twice.
    (tmp_path / "store" / "y" / "up").symlink_to(tmp_path / "store" / "y")
    (tmp_path / "store" / "y" / "deep" / "top").symlink_to(tmp_path / "data")
    data = open_data(tmp_path / "data")
    assert data.condition.tolist() == ["cat", "cat", "dog", "wolf"]


def test_links_that_lead_nowhere_are_named(tmp_path):
    grey(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"has 1 broken among 3 images: c.png \(missing\)"):
        open_data(tmp_path)


@pytest.mark.parametrize("ending", [".jfif", ".jpe", ".gif", ".ppm", ".avif", ".dib", ".tga", ".TIF", ".apng"])
def test_usual_endings_are_read(tmp_path, ending):
    image, stream = Image.new("RGB", (16, 16), (200, 40, 90)), io.BytesIO()
    image.save(stream, format=Image.registered_extensions()[ending.lower()])
    assert np.abs(opened(tmp_path, ending, stream.getvalue()).astype(int) - [200, 40, 90]).max() <= 3


def test_files_that_are_left_out_are_counted_by_ending(tmp_path):
    grey(tmp_path, "cat/0.png", "cat/1.png", "dog/2.png", "dog/3.HEIC", "dog/4.heic", "dog/noending")
    (tmp_path / "labels.csv").write_text("nothing")
    (tmp_path / ".DS_Store").write_text("hidden")
    counts = (
        r"left out 4 of 7 files, 2 \.heic \('dog/3.HEIC'\), 1 without an ending \('dog/noending'\), 1 \.csv \('labels.csv'\)\."
    )
    with pytest.warns(UserWarning, match=counts + " Images end in .png, .*; save other images as .png") as told:
        assert len(open_data(tmp_path)) == 3
    assert len(told) == 1


def test_classes_without_an_image_are_named(tmp_path):
    grey(tmp_path, "cat/0.png", "cat/1.png")
    (tmp_path / "dog").mkdir()
    with pytest.warns(UserWarning, match="left out 1 of 2 sub-folders, which hold no image and so are no classes: 'dog'"):
        assert set(open_data(tmp_path).condition) == {"cat"}


def test_a_folder_of_other_files_says_what_it_holds(tmp_path):
    grey(tmp_path, "0.heic", "1.heic")
    with pytest.raises(ValueError, match=r"hold no image \(.*\), only 2 .heic \('0.heic'\); is it the right folder"):
        open_data(tmp_path)


@pytest.mark.parametrize("form", ["TIFF", "GIF", "PNG", "WEBP"])
def test_pages_after_the_first_are_counted(tmp_path, form):
    first, *others = (Image.new("L", (3, 2), value) for value in (0, 90, 200))
    options = {"lossless": True} if form == "WEBP" else {}
    first.save(tmp_path / f"a.{form}", format=form, save_all=True, append_images=others, **options)
    first.save(tmp_path / f"b.{form}", format=form, **options)
    (tmp_path / f"a.{form}").rename(tmp_path / "a.png")
    (tmp_path / f"b.{form}").rename(tmp_path / "b.png")
    told = r"left out 2 pages or frames after the first in 1 of 2 images \('a.png' has 3\)"
    with pytest.warns(UserWarning, match=told):
        assert open_data(tmp_path).values.max() == 0
