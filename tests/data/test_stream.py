"""Rows that stay on disk: the same statistics, batches and weights as from memory, and errors where files change."""

import os

import numpy as np
import pytest
import torch
from command_line import done
from PIL import Image
from tiny_task import Tiny

import pushforward as pf
from pushforward.data import Transform, open_data
from pushforward.data import stream as streams
from pushforward.data.files.stored import StoredArray
from pushforward.data.stream import Stored, Stream, moments, parts_of
from pushforward.models.base import preparing
from pushforward.probability import noise
from pushforward.training.feed import Feed

NETWORK = pf.MLPSpec(width=8, depth=1)
BRIEF = pf.TrainingSettings(steps=5, batch_size=16)


class Counted(Stored):
    """Rows 0, 1, 2, ... that note which of them were read."""

    def __init__(self, n):
        self.shape, self.dtype, self.seen = (n, 2), np.dtype("float64"), []

    def read(self, numbers):
        assert (np.diff(numbers) > 0).all()
        self.seen += numbers.tolist()
        return np.stack([numbers, -numbers], axis=1).astype(float)


def stream(n, aside=()):
    return Stream(Counted(n), torch.from_numpy, (2,), torch.float64).without(torch.tensor(aside, dtype=torch.int64))


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A .npy file of columns in very different units, one of whole numbers as floats, and a folder of images."""
    folder, rng = tmp_path_factory.mktemp("stored"), np.random.default_rng(0)
    rows = rng.normal(size=(300, 3)) * [1, 1e-3, 1e4] + [0, 5, -1e6]
    np.save(folder / "rows.npy", rows)
    np.save(folder / "counts.npy", rng.poisson(4, size=(300, 2)))
    digits = open_data("digits")
    for index, (image, label) in enumerate(zip(digits.values[:60], digits.condition, strict=False)):
        path = folder / "photos" / str(label) / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image * 15).save(path)
    return folder


@pytest.mark.parametrize("n", [2**16 + 1, 70_003, 2**17])
def test_an_order_too_long_to_sort_has_every_number_once_and_is_random(n):
    order = noise.Permutation(n, seed=3, purpose="order")
    whole = order(torch.arange(n))
    assert torch.equal(whole.sort().values, torch.arange(n))
    assert torch.equal(order(torch.tensor([[5, n - 1], [0, 5]])), whole[torch.tensor([[5, n - 1], [0, 5]])])
    # The places of a random order have mean (n - 1) / 2, and no correlation with the numbers or among neighbors.
    place, size = whole.double(), n**0.5
    pairs = [(place, torch.arange(n).double()), (place[:-1], place[1:]), (place[: n // 2], place[n // 2 : 2 * (n // 2)])]
    assert all(abs(float(torch.corrcoef(torch.stack(pair))[0, 1])) * size < 4.5 for pair in pairs)
    other = noise.Permutation(n, seed=4, purpose="order")(torch.arange(n))
    assert int((other == whole).sum()) < 10


def test_a_short_order_is_that_of_sorting():
    expected = noise.permutation(1000, seed=1, purpose="x")
    assert torch.equal(noise.Permutation(1000, seed=1, purpose="x")(torch.arange(1000)), expected)


def test_a_stream_gives_rows_as_a_tensor_does():
    whole = stream(50)
    kept = stream(50, [0, 7, 8, 49])
    rows = torch.stack([torch.arange(50.0), -torch.arange(50.0)], 1).double()
    known = rows[torch.tensor([i for i in range(50) if i not in (0, 7, 8, 49)])]
    index = torch.tensor([9, 3, 3, 45, 0])
    assert torch.equal(whole[index], rows[index])
    assert kept.shape == (46, 2)
    assert torch.equal(kept[index], known[index])
    assert torch.equal(kept[3:9], known[3:9])
    assert torch.equal(kept[45], known[45])
    assert torch.equal(torch.cat(list(parts_of(kept.then(lambda x: 2 * x)))), 2 * known)


def test_moments_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    x = rng.normal(loc=[0.0, 1e6], size=(1000, 2))
    mean, variance = moments(torch.from_numpy(part) for part in np.split(x, [1, 10, 500, 999]))
    np.testing.assert_allclose(mean, x.mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-9)


@pytest.mark.parametrize("name", ["rows.npy", "counts.npy", "photos"])
def test_statistics_and_weights_are_those_from_memory_to_the_bit(name, files, monkeypatch):
    monkeypatch.setattr(streams, "_NUMBERS", 200)  # several parts of these few rows
    fitted = [
        pf.FlowMatching(network=NETWORK, training=BRIEF, random_state=0, stream=stream, kind="vectors").fit(files / name)
        for stream in (False, True)
    ]
    (facts, memory), (other_facts, disk) = (model.space_.state() for model in fitted)
    assert facts == other_facts
    assert all(torch.equal(memory[key], disk[key]) for key in memory)
    weights = [model._state()[1] for model in fitted]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    assert fitted[0].data_ == fitted[1].data_
    np.testing.assert_array_equal(fitted[0].sample(3, seed=1), fitted[1].sample(3, seed=1))


@pytest.mark.parametrize("family", [pf.Autoencoder, pf.VAE, pf.HierarchicalVAE, pf.GAN, pf.NormalizingFlow, pf.Diffusion])
def test_every_family_that_streams_learns_from_disk(family, files):
    assert family.streams
    given = {"training": BRIEF, "random_state": 0}
    weights = [family(stream=stream, **given).fit(files / "rows.npy")._state()[1] for stream in (False, True)]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("family", [pf.FlowMatching, pf.NormalizingFlow])
@pytest.mark.parametrize("container", [np.asarray, torch.as_tensor])
def test_large_rows_in_memory_are_converted_when_needed_to_the_same_bits(family, container, files, monkeypatch):
    x = container(np.load(files / "rows.npy"))
    given = (
        {"network": NETWORK, "training": BRIEF, "random_state": 0}
        if family is pf.FlowMatching
        else {"training": BRIEF, "random_state": 0}
    )
    weights = [family(**given).fit(x)._state()[1]]
    monkeypatch.setattr(preparing, "_MOST_CONVERTED", 0)
    seen = []
    monkeypatch.setattr(Stream, "gathered", lambda rows: seen.append(rows))
    weights.append(family(**given).fit(x)._state()[1])
    assert not seen
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_two_processes_read_disjoint_rows_of_a_batch():
    halves = [slice(0, 8), slice(8, 16)]
    read = []
    for share in halves:
        rows = stream(100)
        Feed(Tiny(), rows, None, batch_size=16, share=share, seed=0).batch(0)
        read.append(rows.stored.seen)
    feed = Feed(Tiny(), stream(100), None, batch_size=16, share=slice(0, 16), seed=0)
    steps = feed.indices(0, feed.block)
    for share, seen in zip(halves, read, strict=True):
        assert sorted(set(seen)) == steps[:, share].unique().tolist()
    first = feed.indices(0, 1)[0]
    assert not set(first[:8].tolist()) & set(first[8:].tolist())


def test_a_run_that_was_stopped_ends_as_one_from_memory(files, tmp_path):
    settings = pf.TrainingSettings(steps=8, batch_size=16, checkpoint_every=3)
    given = {"network": NETWORK, "training": settings, "random_state": 0}
    whole = pf.FlowMatching(stream=False, **given).fit(files / "rows.npy")

    def stop(step):
        if step > 4:  # behind a checkpoint
            raise InterruptedError

    plan = pf.models.base.plan.plan(
        open_data(files / "rows.npy", stream=True, gaps=True), pf.FlowMatching(stream=True, **given)
    )
    with pytest.raises(InterruptedError):
        plan.start(tmp_path / "run", on_grid=stop)
    model = pf.train(files / "rows.npy", out=tmp_path / "run", resume=True)
    for name, value in whole._state()[1].items():
        assert torch.equal(model._state()[1][name], value)


def test_files_that_change_or_go_are_told_of(files, tmp_path):
    path = tmp_path / "rows.npy"
    np.save(path, np.load(files / "rows.npy"))
    stored = StoredArray(path)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ValueError, match=r"rows\.npy has changed since the data were opened; put the former file back"):
        stored.take(np.arange(3))
    photos = open_data(files / "photos", stream=True).values
    lost = next((files / "photos").rglob("*.png"))
    content = lost.read_bytes()
    lost.unlink()
    try:
        with pytest.raises(ValueError, match=rf"{lost.name} is gone since"):
            photos.take(np.arange(len(photos)))
    finally:
        lost.write_bytes(content)


def test_the_command_line_reads_rows_from_disk(files, tmp_path):
    plan = ("--set", "network.width=8", "--set", "train_steps=3", "--dry-run")
    assert "# data: rows stay on disk" in done("train", files / "rows.npy", "--set", "stream=true", *plan, at=tmp_path)
    assert "on disk" not in done("train", files / "rows.npy", *plan, at=tmp_path)


def test_what_cannot_stay_on_disk_is_refused_with_what_to_write(files):
    with pytest.raises(ValueError, match=r"GMM needs all rows at once; read them into memory with stream=False, or use .*VAE"):
        pf.GMM(stream=True).fit(files / "rows.npy")
    with pytest.raises(ValueError, match=r"digits cannot stay on disk: it is no \.npy file .* write stream=False"):
        pf.FlowMatching(stream=True).fit("digits")
    with pytest.raises(ValueError, match=r"kind 'signals', which cannot be learned from there"):
        pf.FlowMatching(stream=True, kind="signals").fit(files / "rows.npy")
    broken = np.load(files / "rows.npy")
    broken[250, 1] = np.nan
    np.save(files / "broken.npy", broken)
    with pytest.raises(ValueError, match="1 NaN, the first at row 250, column 1"):
        open_data(files / "broken.npy", stream=True)


def test_rows_stay_on_disk_by_themselves_where_they_would_fill_the_memory(files, monkeypatch):
    assert not open_data(files / "rows.npy", stream=None).on_disk
    assert not open_data(files / "photos", stream=None).on_disk
    monkeypatch.setattr("pushforward.data.files.stored.memory_bytes", lambda: 5_000)
    for name in ("rows.npy", "photos"):
        assert open_data(files / name, stream=None).on_disk
        assert not open_data(files / name).on_disk
        assert pf.PPCA().fit(files / name).space_ is not None  # a family that needs all rows reads them


def test_statistics_of_parts_with_limits(files, monkeypatch):
    """Ends of ranges of integers are counted over all parts."""
    counts = torch.from_numpy(np.load(files / "counts.npy")).float()
    whole = Transform.fit(counts, integer=True, kind="vectors")
    monkeypatch.setattr(streams, "_NUMBERS", 50)
    parts = Transform.fit(counts, integer=True, kind="vectors")
    for name in ("low", "high", "below", "above"):
        assert torch.equal(getattr(whole, name), getattr(parts, name))
    top = counts.max(0).values
    assert torch.allclose(parts.above, 1 / ((counts == top).sum(0).double() + 2))
