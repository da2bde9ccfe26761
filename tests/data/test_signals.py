"""Signals: the coordinates are an exact change of variables, and sounds and series come back as they came."""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from pushforward.data import Schema, Transform, open_data, write_samples
from pushforward.data.coding import SignalCoding, lapped, unlapped
from pushforward.data.files.sounds import as_signal
from pushforward.data.kinds.signals import Signals
from pushforward.data.kinds.sound import playable
from pushforward.data.signal import Signal

RNG = np.random.default_rng(0)


def a_sound(folder, name, samples, rate=8000, **options):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, **options)
    return path


def noise(length, *channels):
    return 0.1 * RNG.normal(size=(length, *channels))


def test_the_lapped_transform_is_the_modified_cosine_transform():
    """Column (f, k) of the inverse is the sine window times the cosine of Malvar's formula."""
    bands, frame, k = 12, 2, 3
    n = torch.arange(2 * bands, dtype=torch.float64) + 0.5
    phase = math.pi / bands * (n - bands / 2) * (k + 0.5)
    wave = (2 / bands) ** 0.5 * torch.sin(math.pi * n / (2 * bands)) * torch.cos(phase)
    unit = torch.zeros(1, bands, 5, dtype=torch.float64)
    unit[0, k, frame] = 1
    expected = torch.zeros(5 * bands, dtype=torch.float64)
    expected[frame * bands - bands // 2 : frame * bands + bands + bands // 2] = wave
    torch.testing.assert_close(unlapped(unit)[0], expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("bands", [2, 5, 12, 60])
def test_the_lapped_transform_is_orthogonal(bands):
    identity = torch.eye(60, dtype=torch.float64)
    matrix = lapped(identity, bands).flatten(1)
    torch.testing.assert_close(matrix @ matrix.mT, identity, atol=1e-13, rtol=0)
    torch.testing.assert_close(unlapped(lapped(identity, bands)), identity, atol=1e-13, rtol=0)


def test_the_log_determinant_of_a_coding_is_that_of_its_jacobian():
    x = torch.from_numpy(noise(2 * 1024).reshape(1, 2, 1024)[:, :, :96])
    coding = SignalCoding(channels=2, length=96, bands=8, ends=False, unit=0.1)
    jacobian = torch.autograd.functional.jacobian(lambda v: coding.forward(v.reshape(1, 2, 96)).flatten(), x.flatten())
    torch.testing.assert_close(coding.log_det(x)[0], torch.linalg.slogdet(jacobian)[1])
    transform = Transform.fit(
        x.repeat(3, 1, 1) * torch.arange(1.0, 4)[:, None, None], integer=False, kind="signals", coding=coding
    )
    scaled = torch.autograd.functional.jacobian(lambda v: transform.forward(v.reshape(1, 2, 96)).flatten(), x.flatten())
    torch.testing.assert_close(transform.log_slopes(x)[0] + transform.log_det, torch.linalg.slogdet(scaled)[1])


def test_signals_that_end_are_exactly_zero_after_their_end():
    x = torch.from_numpy(noise(6 * 1024).reshape(6, 1, 1024))
    for row, length in enumerate((1024, 700, 300, 64, 1, 1000)):
        x[row, :, length:] = 0
    coding = SignalCoding.fit(x)
    assert coding.ends
    assert not coding.exact
    torch.testing.assert_close(coding.inverse(coding.forward(x)), x, atol=1e-12, rtol=1e-9)
    noisy = coding.forward(x) + 0.1 * torch.randn(coding.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    decoded = coding.inverse(noisy)
    for row, length in enumerate((1024, 700, 300, 64)):
        assert (decoded[row, :, math.ceil(length / coding.bands) * coding.bands :] == 0).all()
        assert (decoded[row, :, :64] != 0).all()


def ending_clips():
    """Fifty clips of 1,024 samples; two are silent in their last 100."""
    x = torch.from_numpy(noise(50 * 1024).reshape(50, 1, 1024))
    x[:2, :, 924:] = 0
    return x


def test_signals_end_early_if_two_in_a_hundred_do():
    x = ending_clips()
    assert SignalCoding.fit(x).ends
    assert not SignalCoding.fit(torch.cat((x[1:], x[2:], x[2:]))).ends


def test_the_unit_of_coefficients_is_their_root_mean_square():
    x = ending_clips()
    lengths = torch.full((50,), 1024.0, dtype=torch.float64)
    lengths[:2] = 924
    assert SignalCoding.fit(x[2:]).unit == pytest.approx(float(x[2:].square().mean().sqrt()))
    assert SignalCoding.fit(x).unit == pytest.approx(float((lengths / 1024).mean().sqrt()))  # of clips of unit loudness


def test_loudness_and_end_do_not_depend_on_what_follows_the_end():
    x = ending_clips()[:1]
    x[..., 512:] = 0
    coding = SignalCoding.fit(ending_clips())
    u = coding.forward(x)
    marks, loudness = u[0, coding.bands], u[0, coding.bands + 1]
    torch.testing.assert_close(loudness, x[..., :512].square().mean().sqrt().log().expand_as(loudness))
    loudness[8:] = 5.0  # of 16 blocks
    marks[3] = -0.5
    torch.testing.assert_close(coding.inverse(u), x)


def test_short_series_are_their_own_coordinates():
    assert SignalCoding.fit(torch.randn(3, 1, 1008)) is None
    assert SignalCoding.fit(torch.randn(3, 1, 1024)).bands == 64
    assert SignalCoding.fit(torch.randn(5, 2, 24)) is None
    assert SignalCoding.fit(torch.zeros(5, 1, 24)) is None  # values that are 0 are no silence
    assert SignalCoding.fit(torch.randn(5, 1, 24), padded=True).ends


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_a_folder_of_sounds(tmp_path, ending):
    clips = {f"{label}/{index}.{ending}": noise(1200 + 100 * index, 2) for label in ("no", "yes") for index in range(3)}
    for name, clip in clips.items():
        a_sound(tmp_path / "voices", name, clip)
    data = open_data(tmp_path / "voices")
    signal = data.schema.signal
    assert data.values.dtype == np.float32
    assert data.values.shape == (6, 1408, 2)
    assert list(data.condition) == ["no"] * 3 + ["yes"] * 3
    assert (signal.rate, signal.ending, signal.shortest, signal.longest, signal.cropped, signal.padded) == (
        *(8000, ending),
        *(1200, 1400, 0, 6),
    )
    assert not data.values[0, 1200:].any()
    tolerance = 0.3 if ending == "ogg" else 1e-4  # which keeps what is heard
    np.testing.assert_allclose(data.values[4, :1300], clips[f"yes/1.{ending}"], atol=tolerance)

    back = write_samples(tmp_path / "back", data.values, data.schema, condition=data.condition)
    again = open_data(back)
    np.testing.assert_allclose(again.values, data.values, atol=tolerance)
    assert again.schema == data.schema
    assert list(again.condition) == list(data.condition)
    one = write_samples(tmp_path / "one.flac", data.values[:2], data.schema)
    assert soundfile.info(one).frames == 1200 + 2000 + 1300  # a quarter of a second between two clips
    assert soundfile.info(one).samplerate == 8000
    assert soundfile.info(one).channels == 2
    assert soundfile.info(one).format == "FLAC"


def test_parquet_files_hold_sounds(tmp_path):
    X = np.clip(noise(3 * 1100).reshape(3, 1100), -1, 1).astype(np.float32)
    schema = open_data(X, kind="signals", rate=8000).schema
    path = write_samples(tmp_path / "clips.parquet", X, schema, condition=["a", "b", "a"])
    data = open_data(path)
    assert list(data.condition) == ["a", "b", "a"]
    np.testing.assert_allclose(data.values, X, atol=1e-4)
    frame = pd.read_parquet(path)
    assert set(frame["audio"][0]) == {"bytes", "path"}
    frame.loc[1, "audio"]["bytes"] = b"RIFF and no more"
    frame.to_parquet(path)
    with pytest.raises(ValueError, match=r"has 1 broken among 3 sounds: row 1 \("):
        open_data(path)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_encoded_sounds_in_a_table_are_known_by_their_first_bytes(tmp_path, ending):
    files = [a_sound(tmp_path, f"{index}.{ending}", noise(1100)) for index in range(3)]
    table = pd.DataFrame({"recording": [{"bytes": file.read_bytes(), "path": None} for file in files]})
    table.to_parquet(tmp_path / "clips.parquet")
    data = open_data(tmp_path / "clips.parquet")
    assert data.schema.kind == "signals"
    assert data.schema.signal.ending == ending
    assert data.values.shape == (3, 1100)


def test_files_are_written_in_the_most_frequent_format(tmp_path):
    for name in ("a.wav", "b.flac", "c.flac"):
        a_sound(tmp_path, name, noise(100))
    assert open_data(tmp_path).schema.signal.ending == "flac"


def test_rates_are_unified_only_when_asked_for(tmp_path):
    t = np.arange(8000) / 8000
    a_sound(tmp_path, "a.wav", 0.5 * np.sin(2 * np.pi * 200 * t))
    a_sound(tmp_path, "b.wav", 0.5 * np.sin(2 * np.pi * 200 * np.arange(16_000) / 16_000), rate=16_000)
    with pytest.raises(ValueError, match=r"mixes sample rates: 1 of 8,000 \('a.wav'\), 1 of 16,000 \('b.wav'\).* rate=8000"):
        open_data(tmp_path)
    data = open_data(tmp_path, rate=8000)
    assert data.schema.signal.resampled == (8000, 16_000)
    assert data.values.shape == (2, 8000)
    np.testing.assert_allclose(data.values[1, 100:-100], data.values[0, 100:-100], atol=2e-3)
    lower = open_data(tmp_path, rate=4000)
    assert lower.schema.signal.rate == 4000
    assert lower.values.shape == (2, 4000)
    np.testing.assert_allclose(lower.values[:, 100:-100], np.tile(data.values[0, 200:-200:2], (2, 1)), atol=4e-3)
    with pytest.raises(ValueError, match=r"rate=8000 is for signals, but array holds none"):
        open_data(np.zeros((3, 2)), rate=8000)


def test_lengths_follow_the_stated_rule(tmp_path):
    for index, length in enumerate([1000] * 39 + [9000]):
        a_sound(tmp_path, f"{index:02d}.wav", noise(length))
    data = open_data(tmp_path)
    assert data.values.shape == (40, 1024)  # 95 % are not longer than 1,000, the next multiple of a block of 64
    signal = data.schema.signal
    assert (signal.cropped, signal.padded) == (1, 39)
    assert "1 cropped to the first 1,024 samples, 39 followed by silence" in signal.describe(1024)[1]
    assert open_data(tmp_path, length=500).values.shape == (40, 500)
    exact = open_data(tmp_path, length=1000).schema.signal
    assert (exact.cropped, exact.padded) == (1, 0)
    assert open_data(np.ones((3, 10)), kind="signals", length=12).values.shape == (3, 12)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        ([1000] * 39 + [1400], 1408),  # all of a longest that is at most 1.5 times the typical length
        ([1000] * 39 + [1600], 1024),
        ([17, 18], 32),  # 16 is the least step
    ],
)
def test_the_length_of_rows_from_those_of_clips(lengths, expected):
    signal = as_signal([noise(length, 1) for length in lengths], None)
    assert signal.values.shape == (len(lengths), expected, 1)


def test_samples_at_full_scale_are_clipped_from_three_in_a_row(tmp_path):
    for run in (2, 3):
        clip = noise(50)
        clip[10 : 10 + run] = -1.0
        a_sound(tmp_path, f"{run}.wav", clip, subtype="FLOAT")
    with pytest.warns(UserWarning, match="1 of 2 sounds are clipped, with peaks cut off at full scale: '3.wav'"):
        open_data(tmp_path)


def test_sounds_that_cannot_be_learned_are_named(tmp_path):
    a_sound(tmp_path / "dc", "a.wav", noise(100))
    a_sound(tmp_path / "dc", "level.wav", np.full(100, 0.25))
    with pytest.warns(UserWarning, match="1 of 2 sounds are constant, without any sound: 'level.wav'"):
        open_data(tmp_path / "dc")
    a_sound(tmp_path / "nan", "a.wav", noise(100))
    for index in range(7):
        a_sound(tmp_path / "nan", f"bad-{index}.wav", np.where(np.arange(100) == 50, np.nan, 0.1), subtype="FLOAT")
    with pytest.raises(ValueError, match=r"7 broken among 8 sounds: bad-0.wav \(it has NaN or.*; and 2 more. Remove"):
        open_data(tmp_path / "nan")
    a_sound(tmp_path / "channels", "a.wav", noise(100, 2))
    a_sound(tmp_path / "channels", "b.wav", noise(100, 3))
    with pytest.raises(ValueError, match="mixes sounds of 2, 3 channels"):
        open_data(tmp_path / "channels")


def test_written_sounds_stop_where_all_channels_are_silent_and_stay_in_range(tmp_path):
    x = np.zeros((3, 200, 2), dtype=np.float32)
    x[0, :120, 0], x[0, :40, 1] = 0.5, 0.5
    x[1, :80] = 3.0
    schema = replace(Schema.infer(x, "signals"), signal=Signal(rate=8000, subtype="FLOAT"))
    folder = write_samples(tmp_path / "new", x, schema)
    clips = [soundfile.read(path)[0] for path in sorted(folder.glob("*.wav"))]
    assert [len(clip) for clip in clips] == [120, 80, 1]
    assert (clips[1] == 1.0).all()


def test_integers_are_scaled_with_their_dequantization():
    x = RNG.integers(0, 4, size=(500, 1, 6))
    transform = Transform.fit(torch.from_numpy(x), integer=True, kind="signals")
    torch.testing.assert_close(transform.shift, torch.full((1, 6), x.mean() + 0.5, dtype=torch.float64))
    torch.testing.assert_close(transform.scale, torch.full((1, 6), (x.var() + 1 / 12) ** 0.5, dtype=torch.float64))


def test_long_signals_are_compared_without_their_phases():
    kind, x = Signals(), noise(2 * 256).reshape(2, 1, 256)
    np.testing.assert_allclose(kind.compared(-x), kind.compared(x))
    assert kind.compared(x).shape[:2] == (2, 1)
    np.testing.assert_array_equal(kind.compared(x[..., :127]), x[:, 0, :127])


def test_few_clips_that_end_early_are_known_from_their_padding():
    x = torch.from_numpy(noise(1024).reshape(1, 1, 1024))
    assert Signals(Signal(rate=8000, padded=1)).coding(x).ends
    assert not Signals(Signal(rate=8000)).coding(x).ends


def test_what_is_wrong_with_sounds_is_named(tmp_path):
    good = a_sound(tmp_path / "x", "good.wav", noise(100))
    a_sound(tmp_path / "x", "loud.wav", np.clip(5 * RNG.normal(size=100), -1, 1), subtype="FLOAT")
    a_sound(tmp_path / "x", "mute.wav", np.zeros(100))
    with pytest.warns(UserWarning, match="sounds are") as told:
        open_data(tmp_path / "x")
    messages = " ".join(str(one.message) for one in told)
    assert "1 of 3 sounds are constant, without any sound: 'mute.wav'" in messages
    assert "1 of 3 sounds are clipped, with peaks cut off at full scale: 'loud.wav'" in messages
    (tmp_path / "x" / "none.wav").write_bytes(b"")
    (tmp_path / "x" / "text.wav").write_bytes(b"no sound at all")
    a_sound(tmp_path / "x", "empty.wav", np.zeros(0))
    with pytest.raises(
        ValueError, match=r"3 broken among 6 sounds: empty.wav \(it has no samples\); none.wav \(the file is empty"
    ):
        open_data(tmp_path / "x")
    with pytest.raises(ValueError, match="good.wav is one sound, but a law is learned from many; give the folder"):
        open_data(good)
    (tmp_path / "y").mkdir()
    with pytest.raises(ValueError, match="y and its sub-folders hold no image"):
        open_data(tmp_path / "y")
    a_sound(tmp_path / "y", "only.wav", noise(100))
    with pytest.raises(ValueError, match=r"1 sample\(s\).* while a minimum of 2 is required"):
        open_data(tmp_path / "y")


def test_mono_and_stereo(tmp_path):
    a_sound(tmp_path, "a.wav", noise(100))
    a_sound(tmp_path, "b.wav", noise(100, 2))
    with pytest.warns(UserWarning, match=r"mono ones are copied to all channels \(converted: 'a.wav'\)"):
        values = open_data(tmp_path).values
    np.testing.assert_array_equal(values[0, :, 0], values[0, :, 1])


def test_arrays_and_tensors_of_signals():
    assert open_data(np.zeros((3, 9)) + np.arange(3)[:, None], kind="signals").schema.internal_shape == (1, 9)
    assert open_data(torch.randn(3, 1, 9), kind="signals").schema.internal_shape == (1, 9)
    X = RNG.normal(size=(3, 9, 2))
    for values, channels in ((X, "last"), (torch.from_numpy(X).mT.contiguous(), "first")):
        schema = Schema.infer(values, "signals")
        assert schema.channels == channels
        assert schema.internal_shape == (2, 9)
        np.testing.assert_array_equal(schema.to_user(schema.to_internal(values)), values)
        assert Schema.from_json(schema.to_json()) == schema
    for values in (X, torch.from_numpy(X).mT.contiguous()):
        for length, counts in ((12, (0, 3)), (5, (3, 0))):
            data = open_data(values, kind="signals", length=length)
            assert data.schema.internal_shape == (2, length)
            signal = data.schema.signal
            assert (signal.cropped, signal.padded, signal.shortest, signal.longest) == (*counts, 9, 9)
    with pytest.raises(ValueError, match=r"set .*kind='signals' if each row is a sound or a series with channels"):
        open_data(X)
    with pytest.raises(ValueError, match=r"NaN, the first at row 1"):
        open_data(np.array([[0.0, 1.0], [np.nan, 2.0]]), kind="signals")
    with pytest.raises(ValueError, match="kind='signals' needs signals of 2 samples or more"):
        open_data(np.zeros((5, 1)), kind="signals")
    with pytest.raises(ValueError, match=r"series=\('id', 'time'\)"):
        open_data(pd.DataFrame({"a": [1.0, 2.0]}), kind="signals")


def long_form():
    rows = [(name, time, RNG.normal(), RNG.normal(), name < "c") for name in "bacd" for time in (2, 0, 1)]
    return pd.DataFrame(rows, columns=["id", "time", "x", "y", "early"])


def test_series_in_long_form(tmp_path):
    frame = long_form()
    frame.to_csv(tmp_path / "series.csv", index=False)
    data = open_data(tmp_path / "series.csv", series=("id", "time"), condition="early")
    assert data.values.shape == (4, 3, 2)
    expected = frame[frame["id"] == "a"].sort_values("time")[["x", "y"]]
    np.testing.assert_allclose(data.values[1], expected)
    assert list(data.condition) == [True, True, False, False]
    mixed = frame.assign(early=frame["id"]).sample(frac=1.0, random_state=0)
    shuffled = open_data(mixed, series=("id", "time"), condition="early")
    assert list(shuffled.condition) == list(mixed["id"].unique())
    np.testing.assert_array_equal(shuffled.values, data.values[["bacd".index(name) for name in shuffled.condition]])
    signal = open_data(frame, series=("id", "time"), condition="early", length=2).schema.signal
    assert (signal.shortest, signal.longest, signal.cropped, signal.ending) == (3, 3, 4, "csv")
    again = open_data(write_samples(tmp_path / "again.csv", data.values, data.schema), series=("id", "time"))
    np.testing.assert_allclose(again.values, data.values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.iloc[:-1], r"series of lengths from 2 to 3 \('d'\); keep the first times of each with length=2"),
        (lambda frame: frame.iloc[1:], r"series of lengths from 2 to 3"),
        (lambda frame: pd.concat([frame, frame.iloc[:1]]), "series 'b' has the time 2 twice"),
        (lambda frame: frame.assign(y="text"), "'y' hold text, not numbers beside 'id' and 'time'"),
        (lambda frame: frame.rename(columns={"time": "day"}), "there is no column 'time'"),
        (lambda frame: frame.assign(early=range(len(frame))), "the condition 'early' changes within series 'b'"),
        (lambda frame: frame.assign(id=[None, *frame["id"][1:]]), "'id' is missing in row 0"),
    ],
)
def test_tables_that_are_no_series(change, message):
    with pytest.raises(ValueError, match=message):
        open_data(change(long_form()), series=("id", "time"), condition="early")


def test_tones_have_the_stated_pitch():
    """The second difference of a damped sum of three harmonics vanishes under the recursion of their frequencies."""
    data = open_data("tones")
    assert data.schema.signal.rate == 2000
    for note, pitch in (("A", 110.0), ("C", 130.81), ("E", 164.81)):
        spectra = np.abs(np.fft.rfft(data.values[data.condition == note], n=8192)).mean(0)
        found = spectra.argmax() * 2000 / 8192
        assert abs(12 * math.log2(found / pitch)) < 0.6
    np.testing.assert_array_equal(open_data("tones").values[:5], data.values[:5])


def test_sounds_without_a_rate_have_no_files(tmp_path):
    X = RNG.normal(size=(3, 20))
    schema = open_data(X, kind="signals").schema
    for name, message in (("x.wav", "needs a sample rate"), ("folder", "needs a sample rate"), ("x.csv", "no.* long form")):
        with pytest.raises(ValueError, match=message):
            write_samples(tmp_path / name, X, schema)
    assert write_samples(tmp_path / "x.png", X, schema).is_file()
    with pytest.raises(ValueError, match=r"a .csv file does not hold sounds; use .wav"):
        write_samples(tmp_path / "x.csv", X, open_data(X, kind="signals", rate=8000).schema)


def test_browsers_can_play_sounds_of_any_rate():
    clips = np.sin(np.arange(256) * 0.3)[None]
    raised, signal = playable(clips, Signal(rate=2000))
    assert signal.rate == 8000
    np.testing.assert_allclose(raised[0, 40:-40:4], clips[0, 10:-10], atol=0.01)
    kept, same = playable(clips, Signal(rate=3000))
    assert kept is clips
    assert same.rate == 3000
