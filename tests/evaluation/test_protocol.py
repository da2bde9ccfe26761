"""``evaluate``: known laws give known verdicts, every figure is what its metric says, and one failure loses nothing else."""

import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import pushforward as pf
from pushforward.data import split_rows
from pushforward.data.files.stored import StoredArray
from pushforward.data.stream import Stored
from pushforward.evaluation import Evaluation, Figure, Measure, evaluate_run
from pushforward.evaluation.features import default_features
from pushforward.evaluation.figure import number, off_floor, remarks, standing, verdict, written
from pushforward.evaluation.findings import Results
from pushforward.evaluation.parts.parts import _compare, _feature_metrics, _row_metrics, parts_of
from pushforward.evaluation.parts.rows import RowSet, gather_inputs, with_samples
from pushforward.evaluation.parts.shown import paths
from pushforward.evaluation.report.summary import sentences, tiles
from pushforward.metrics.coverage import precision_recall
from pushforward.probability import noise


def two_modes(n, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 2)) + np.where(rng.random((n, 1)) < 0.5, -4.0, 4.0)


TRAIN, TEST = two_modes(300, 1), two_modes(300, 2)


class Copier(pf.GMM):
    """Returns training rows, hardly changed."""

    def sample(self, n=1, *, condition=None, seed=None, first=0, batch_size=256):
        rng = np.random.default_rng((seed, first))
        return TRAIN[rng.integers(0, len(TRAIN), n)] + 1e-4 * rng.normal(size=(n, 2))


class OneMode(pf.GMM):
    """Forgets one half of the law."""

    def sample(self, n=1, *, condition=None, seed=None, first=0, batch_size=256):
        return _right_half(n, seed + first)


def _right_half(n, seed):
    rows = two_modes(8 * n + 100, seed % 2**32)
    return rows[rows[:, 0] > 0][:n]


class Broken(pf.GMM):
    """Cannot say its density."""

    def log_prob(self, X, **options):
        raise RuntimeError("the density is out of order\nsecond line")


def fitted(cls, **arguments):
    return cls(n_components=2, random_state=0, **arguments).fit(TRAIN)


def measured(model, **arguments):
    return pf.evaluate(model, TEST, X_train=TRAIN, **arguments)


@pytest.fixture(scope="module")
def good():
    return measured(fitted(pf.GMM))


@pytest.fixture(scope="module")
def copier():
    return measured(fitted(Copier))


def where(evaluation, name, reference="held-out"):
    return standing(evaluation.find(name, reference=reference))


def test_the_right_law_is_at_the_floor(good):
    assert not good.failures
    judged = [figure for figure in good.figures if standing(figure)]
    assert len(judged) > 20
    assert off_floor(good.figures) == []
    # Each figure alone misses its floor once in twenty times, and figures of the same rows miss it together.
    assert sum(standing(figure) == "at" for figure in judged if figure.reference == "held-out") >= 12
    assert abs(good.find("C2ST", reference="held-out").measure.value - 0.5) < 0.06
    assert good.find("near copies").measure.p_value > 0.01
    said = " ".join(sentences(good))
    assert "A classifier that tells 300 samples from as many held-out rows is right in" in said
    assert "no more near copies of training rows than chance explains" in said


def test_density_is_that_of_the_model(good):
    figure = good.find("log-density", reference="held-out")
    assert figure.measure.value == pytest.approx(fitted(pf.GMM).score(TEST), abs=1e-9)
    assert figure.note == "exact, 2 dimensions"
    bits = good.find("bits per dimension").measure.value
    assert bits == pytest.approx(-figure.measure.value / (2 * math.log(2)), abs=1e-9)
    assert good.find("log-density", reference="train").measure.value == pytest.approx(fitted(pf.GMM).score(TRAIN), abs=1e-9)


def test_floors_are_between_training_and_held_out_rows(good):
    inputs = gather_inputs(fitted(pf.GMM), TEST, TRAIN, None, None, None, 0)
    held, other = inputs.held.x.numpy(), inputs.floor.x.numpy()
    assert (len(held), len(other)) == (300, 300)
    space = default_features(other)[0]
    for reference, fresh, rows in (("held-out", other, held), ("train", held, other)):
        expected = precision_recall(space(fresh), space(rows))
        assert expected[0].value != expected[1].value
        for name, measure in zip(("precision", "recall"), expected, strict=True):
            assert good.find(name, reference=reference).floor == replace(measure, p_value=None, side="")
    assert len(np.unique(np.concatenate([held, other]), axis=0)) == 600
    rows = {tuple(row) for row in TRAIN}
    assert all(tuple(row) in rows for row in other)


def test_a_copier_is_caught(copier):
    near = copier.find("near copies")
    assert near.measure.p_value < 1e-6
    assert standing(near) == "worse"
    assert copier.find("distance ratio").measure.value < 0.1
    assert verdict(copier.find("distance ratio")) == "below the floor"
    assert any("near copies of training rows" in sentence for sentence in sentences(copier))
    assert next(tile for tile in tiles(copier) if tile.title == "near copies").standing == "worse"


def test_a_lost_mode_costs_recall_and_not_precision():
    found = measured(fitted(OneMode))
    assert where(found, "recall") == where(found, "coverage") == "worse"
    assert where(found, "precision") in ("at", "better")
    assert where(found, "C2ST") == where(found, "energy distance") == where(found, "sliced Wasserstein") == "worse"
    assert where(found, "Wasserstein of column 0") == "worse"
    assert found.find("C2ST", reference="held-out").measure.value > 0.55  # a classifier, not its inverse
    said = " ".join(sentences(found))
    assert "a part of the data is missing" in said
    assert "some are off the data" not in said


@pytest.mark.usefixtures("without_classifier")
def test_a_part_that_fails_is_named_and_loses_no_other(good, capsys):
    found = measured(fitted(Broken), verbose=True)
    assert found.failures == {"log-density": "RuntimeError: the density is out of order"}
    kept = [figure.name for figure in good.figures if figure.group != "density"]
    assert [figure.name for figure in found.figures] == kept
    assert "Failed: log-density: RuntimeError: the density is out of order" in str(found)
    progress = capsys.readouterr().out
    assert "log-density: failed: RuntimeError" in progress
    assert "C2ST: " in progress


def test_the_same_seed_gives_the_same_figures(good):
    torch.manual_seed(3)
    before = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    again = measured(fitted(pf.GMM))
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # noqa: NPY002
    table, other = (found.table()[lambda frame: frame.group != "speed"] for found in (good, again))
    pd.testing.assert_frame_equal(table, other)
    for name, array in good.arrays.items():
        np.testing.assert_array_equal(array, again.arrays[name])


def test_smoothed_spikes_and_bounds_are_named():
    rng = np.random.default_rng(0)
    debts = np.where(rng.random((300, 1)) < 0.7, 0.0, rng.lognormal(size=(300, 1)))
    rows = np.concatenate([debts, rng.normal(size=(300, 1)), (rng.random((300, 1)) < 0.4) + 0.0], axis=1)
    model, results = pf.PPCA(n_components=1).fit(rows[:200]), Results()
    inputs = with_samples(gather_inputs(model, rows[200:], rows[:200], None, None, None, 0), lambda _: None)
    for part in parts_of(inputs, ()):
        if part.name in ("ranges", "train on samples"):
            part.run(inputs, results)
    found = {figure.name: figure for figure in results.figures}
    outside, spike = found["outside the range"], found["most frequent column 0"]
    assert "most often column 0" in outside.note
    assert spike.note == "rows that hold exactly 0"
    assert (verdict(outside), verdict(spike)) == ("above the floor", "below the floor")
    assert "most frequent column 1" not in found
    # A sample of the category of column 2 between 0 and 1 counts as the nearer one.
    assert found["train on samples, test on rows"].unit == "AUC"


@pytest.mark.usefixtures("without_classifier")
def test_half_of_the_rows_stand_in_for_training_rows():
    found = pf.evaluate(fitted(pf.GMM), TEST[:120])
    assert found.about["n"] == 60
    assert found.about["floor"] == "the other half of the rows"
    assert {figure.reference for figure in found.figures if figure.group == "samples"} == {"held-out"}
    assert found.skipped == {"memorization": "it needs the training rows; pass X_train"}
    assert found.find("log-density").measure.n == 120
    assert not found.failures


@pytest.mark.usefixtures("without_classifier")
def test_rows_with_gaps_count_in_the_density_alone():
    holes = TEST[:100].copy()
    holes[::2, 0] = np.nan
    found = pf.evaluate(fitted(pf.GMM), holes, X_train=TRAIN, samples=40)
    assert (found.about["test_rows"], found.about["complete_rows"], found.about["n"]) == (100, 50, 40)
    assert found.find("C2ST").measure.n == 40
    assert found.find("log-density", reference="held-out").measure.n == 100
    assert found.find("log-density", reference="held-out").measure.value == pytest.approx(fitted(pf.GMM).score(holes))
    assert not found.failures


@pytest.mark.usefixtures("without_classifier")
def test_a_table_with_categories_and_labels():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"size <b>": rng.normal(size=300), "kind": rng.integers(0, 3, 300), "rare": np.arange(300) % 150 == 7})
    frame["rare"] = frame["rare"].astype(int)
    labels = np.where(frame["size <b>"] > 0, "big", "small")
    model = pf.GMM(n_components=3, random_state=0).fit(frame[:200], condition=labels[:200])
    found = pf.evaluate(
        model, frame[200:], X_train=frame[:200], condition=labels[200:], train_condition=labels[:200], samples=100
    )
    assert not found.failures
    names = [figure.name for figure in found.figures]
    for name in ("Wasserstein of size <b>", "wrong categories of kind", "association gap", "train on samples, test on rows"):
        assert name in names
    expected = model.score(frame[200:], condition=labels[200:])
    assert found.find("log-density", reference="held-out").measure.value == pytest.approx(expected, abs=0.2)


@pytest.mark.usefixtures("without_classifier")
def test_images_are_shown_class_by_class():
    images = pf.open_data("digits")
    model = pf.PPCA(n_components=4, random_state=0).fit(images.values[:400], condition=images.condition[:400])
    found = pf.evaluate(
        model,
        images.values[400:560],
        X_train=images.values[:400],
        condition=images.condition[400:560],
        train_condition=images.condition[:400],
    )
    assert not found.failures
    labels, each = found.arrays["class_labels"], len(found.arrays["rows"]) // 10
    assert labels.tolist() == [str(label) for label in range(10)]
    assert found.arrays["samples"].shape == found.arrays["rows"].shape == (10 * each, 8, 8)
    known = {image.tobytes(): label for image, label in zip(images.values, images.condition, strict=True)}
    shown = [known[image.astype(np.uint8).tobytes()] for image in found.arrays["rows"]]
    assert shown == [label for label in range(10) for _ in range(each)]
    nearest, distances = found.arrays["neighbor_rows"], found.arrays["neighbor_distances"]
    between = np.linalg.norm((found.arrays["neighbor_samples"] - nearest).reshape(len(nearest), -1), axis=1) / 16
    np.testing.assert_allclose(between, distances, atol=1e-5)
    spaces = {figure.space for figure in found.figures}
    assert any(space.startswith("random convolutions") for space in spaces)


def test_samples_are_drawn_in_parts_with_the_labels_of_training(monkeypatch):
    monkeypatch.setitem(with_samples.__globals__, "_CHUNK", 7)
    labels = np.where(TRAIN[:, 0] > 0, "right", "left")
    model = pf.GMM(n_components=2, random_state=0).fit(TRAIN, condition=labels)
    inputs, noted = gather_inputs(model, TEST, TRAIN, None, labels, 100, 3), []
    drawn = with_samples(inputs, noted.append).samples
    np.testing.assert_array_equal(drawn.x, model.sample(100, seed=noise.derive(3, "evaluation")))
    assert drawn.condition.tolist() == ["right" if x > 0 else "left" for x in drawn.x[:, 0]]
    assert noted[:2] == ["0 of 100", "7 of 100"]


class Deaf(pf.GMM):
    """Draws the right law, whatever label is asked for."""

    def sample(self, n=1, *, condition=None, seed=None, first=0, batch_size=256):
        return super().sample(n, seed=seed + 1, first=first)


@pytest.mark.usefixtures("without_classifier")
@pytest.mark.parametrize("cls", [pytest.param(pf.GMM, marks=pytest.mark.full), Deaf])
def test_labels_are_followed_as_often_as_the_side_of_a_sample_is_its_label(cls):
    X = two_modes(900, 5)
    labels = np.where(X[:, 0] > 0, "right", "left")
    model = cls(n_components=1, random_state=0).fit(X[:700], condition=labels[:700])
    arguments = {"X_train": X[:700], "condition": labels[700:], "train_condition": labels[:700]}
    evaluation = pf.evaluate(model, X[700:], **arguments)
    figure = evaluation.find("labels followed")
    inputs = with_samples(gather_inputs(model, X[700:], X[:700], labels[700:], labels[:700], None, 0), print)
    right = np.where(inputs.samples.x[:, 0] > 0, "right", "left") == inputs.samples.condition
    assert figure.measure.value == pytest.approx(right.mean(), abs=0.006)  # the modes are 8 standard deviations apart
    assert figure.floor.value >= 0.994
    assert standing(figure) == ("at" if cls is pf.GMM else "worse")
    said = " ".join(sentences(evaluation))
    assert ("Samples follow their label" if cls is pf.GMM else "Samples do not always follow their label") in said
    without = pf.evaluate(model, X[700:], **(arguments | {"condition": None}))
    assert without.find("labels followed") is None
    assert not evaluation.failures
    assert not without.failures


def test_paths_end_at_samples_and_begin_with_noise():
    model = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), train_steps=5, random_state=0).fit(TRAIN)
    times, states = paths(model, 20, seed=3)
    assert (times[0], times[-1]) == (1.0, 0.0)
    end = model.space_.transform.forward(torch.from_numpy(model.sample(20, seed=3, batch_size=20)))
    np.testing.assert_allclose(states[-1], end, atol=1e-5)
    np.testing.assert_allclose(states[0], model.source_.draw(torch.arange(20), 0, 3, "sample"), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_test": TEST[:, :1]}, "X has 1 features, but GMM is expecting 2"),
        ({"X_test": TEST[:39]}, "X_test has 39 rows without gaps, and at least 40 are needed"),
        ({"X_test": TEST[:19], "X_train": TRAIN}, "there are 19 rows without gaps in X_test and 300 in X_train"),
        ({"X_test": TEST, "samples": 5}, "samples must be at least 20, got 5"),
        ({"X_test": TEST, "samples": 2.5}, "samples must be the number of rows to draw"),
        ({"X_test": TEST, "condition": np.zeros(300)}, "trained without conditions"),
    ],
    ids=["width", "few halves", "few rows", "few samples", "no number", "condition"],
)
def test_what_cannot_be_measured_is_refused_at_once(arguments, message):
    arguments = dict(arguments)
    with pytest.raises((ValueError, TypeError), match=message):
        pf.evaluate(fitted(pf.GMM), arguments.pop("X_test"), **arguments)


def test_an_unfitted_model_is_refused():
    with pytest.raises(ValueError, match="not fitted"):
        pf.evaluate(pf.GMM(), TEST)


# ---- what an evaluation is


def test_save_and_load_give_the_same_back(good, tmp_path):
    strange = Figure("odd", "speed", Measure(math.inf, math.nan, -math.inf, 3, 0.5))
    known = Evaluation(
        (*good.figures, strange), "GMM", good.about, {"a": "b"}, {"c": "d"}, good.seconds, good.curve, good.arrays
    )
    path = known.save(tmp_path / "deep" / "evaluation.json")
    assert sorted(file.name for file in path.parent.iterdir()) == ["evaluation.json", "evaluation.npz"]
    text = path.read_text()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    back = Evaluation.load(path.parent)
    pd.testing.assert_frame_equal(known.table(), back.table())
    assert str(back) == str(known)
    assert (back.failures, back.skipped) == ({"a": "b"}, {"c": "d"})
    assert back.plots() == known.plots()
    path.with_suffix(".npz").unlink()
    bare = Evaluation.load(path)
    assert bare.plots() == ("figures",)
    with pytest.raises(ValueError, match=r"no plot 'latent'.*'figures'; it was loaded without its arrays"):
        bare.plot("latent")


@pytest.mark.parametrize(
    ("text", "message"), [("{}", "'format'"), ("[", "is damaged: Expecting"), ('{"format": 7}', "not of format 2")]
)
def test_what_is_no_evaluation_is_refused(text, message, tmp_path):
    path = tmp_path / "evaluation.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        Evaluation.load(path)


def test_wrong_paths_are_named(good, tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no evaluation"):
        Evaluation.load(tmp_path)
    with pytest.raises(ValueError, match=r"written to a .json file, not to 'a.txt'; write a.json"):
        good.save(tmp_path / "a.txt")


def test_the_printed_table_fits(good, copier):
    for found in (good, copier):
        lines = str(found).splitlines()
        assert max(map(len, lines)) <= 100
        assert sum("held-out" in line for line in lines) >= sum(figure.reference == "held-out" for figure in found.figures)
    assert "above the floor" in str(copier) or "below the floor" in str(copier)


def test_the_table_has_one_line_for_each_figure(good):
    table = good.table()
    assert list(table.columns[:10]) == ["name", "value", "low", "high", "floor", "n", "reference", "unit", "space", "note"]
    assert table.columns[-1] == "verdict"
    assert len(table) == len(good.figures)
    assert not table.duplicated(["name", "reference", "space"]).any()
    line = table[table.name == "C2ST"].iloc[0]
    assert (line.value, line.floor) == (good.figures[0].measure.value, good.figures[0].floor.value)


@pytest.mark.parametrize("better", ["lower", "higher", "floor", None])
def test_the_verdict_is_that_of_the_test_wherever_the_intervals_lie(better):
    known = {"lower": ("better", "worse"), "higher": ("worse", "better"), "floor": ("worse", "worse")}
    for floor in (Measure(5, 4, 6, 9), Measure(0, -1, 1, 9), Measure(9, 8, 10, 9)):
        for side, relation in zip(("below", "above"), known.get(better, ("", "")), strict=True):
            for p in (0.001, 0.05, 0.0500001, 1.0):
                figure = Figure("x", "samples", Measure(5, 4, 6, 9, p, side), better=better, floor=floor)
                assert standing(figure) == (relation if p <= 0.05 or not better else "at")
                assert ("at the floor" in remarks(figure)) == (p > 0.05 and better is not None)
        assert standing(Figure("x", "samples", Measure(5, 4, 6, 9), better=better, floor=floor)) == ""
    assert standing(Figure("x", "samples", Measure(1, 0, 2, 9, 0.001, "above"), better=better)) == ""


def test_the_headline_counts_what_holms_correction_leaves():
    def count(*p_values, side="above"):
        floor = Measure(5, 4, 6, 9)
        figures = [
            Figure(str(i), "samples", Measure(9, 8, 10, 9, p, side), better="lower", floor=floor)
            for i, p in enumerate(p_values)
        ]
        return Evaluation(tuple(figures), "GMM").headline()

    # By hand: 0.01 <= 0.05 / 4 and 0.016 <= 0.05 / 3, but 0.03 > 0.05 / 2.
    assert "2 of 4 figures at their noise floor or better" in count(0.03, 0.01, 0.9, 0.016)
    assert "4 of 4 figures" in count(0.02, 0.02, 0.02, 0.02)
    assert "1 of 1 figures" in count(0.001, side="below")


def test_a_perfect_law_is_off_the_floor_as_often_as_stated():
    """Figures that share rows depend on each other, so the share of them scatters more than a binomial one; the mean is 5 %."""
    off, headlines = [], 0
    for seed in range(12):
        rows = [two_modes(40, 1000 * seed + part) for part in range(3)]
        figures = _compared(*rows, seed)
        off += [figure.measure.p_value <= 0.05 for figure in figures]
        headlines += bool(off_floor(figures))
    assert len(off) > 200
    assert 0 < np.mean(off) < 0.12
    assert headlines <= 3  # more than 3 of 12 have a probability of 0.002 at the 5 % level


def test_a_dropped_mode_of_a_twentieth_is_seen_with_500_rows():
    def law(n, seed, most=10):
        rng = np.random.default_rng(seed)
        angle = np.where(rng.random(n) < 0.05, 0, rng.integers(1, most, n)) if most == 10 else rng.integers(1, 10, n)
        turn = 2 * np.pi * angle / 10
        return 10 * np.stack([np.cos(turn), np.sin(turn)], axis=1) + rng.normal(size=(n, 2))

    found = {"energy distance": 0, "recall": 0, "coverage": 0}
    for seed in range(8):
        figures = _compared(law(500, 3 * seed, most=9), law(500, 3 * seed + 1), law(500, 3 * seed + 2), seed, found)
        for figure in figures:
            found[figure.name] += figure.reference == "held-out" and standing(figure) == "worse"
    assert min(found["recall"], found["coverage"]) >= 7


def _compared(samples, held, train, seed, names=None):
    """The figures of samples against rows but for the classifier and the columns."""
    inputs = replace(
        gather_inputs(fitted(pf.GMM), held, train, None, None, None, seed), samples=RowSet(torch.from_numpy(samples))
    )
    results, space = Results(), default_features(inputs.floor.x.numpy())[0]
    for metric in (*_row_metrics()[1:], *_feature_metrics()):
        if names is None or set(names) & set(metric.names):
            _compare(inputs, results, metric, None if metric in _row_metrics()[1:] else space)
    return [figure for figure in results.figures if names is None or figure.name in names]


def test_numbers_are_written_with_the_digits_that_count():
    assert written(Measure(-2.2468, -2.34, -2.16, 9)) == ("-2.25", "-2.34 to -2.16")
    assert written(Measure(1234.5, 1200, 1300, 9)) == ("1,234", "1,200 to 1,300")
    assert written(Measure(2.0, math.nan, math.nan, 9)) == ("2", "")
    assert number(-math.inf) == "-∞"


# ---- runs


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    pd.DataFrame(np.concatenate([TRAIN, TEST]), columns=["a", "b"]).to_csv(folder / "table.csv", index=False)
    pf.train(folder / "table.csv", pf.GMM(n_components=2, held_out=0.2, random_state=7), out=folder / "run")
    return folder


def test_a_run_is_measured_on_the_rows_that_it_held_out(home, monkeypatch):
    rows = pd.read_csv(home / "table.csv").to_numpy()
    train, held = split_rows(600, 0.2, noise.derive(7, "held-out"))
    seen = {}

    def keep(model, X_test, **options):
        seen.update(test=np.asarray(X_test), train=np.asarray(options["X_train"]))
        return Evaluation((), "GMM")

    monkeypatch.setitem(evaluate_run.__globals__, "evaluate", keep)
    evaluate_run(home / "run")
    np.testing.assert_array_equal(seen["test"], rows[held])
    np.testing.assert_array_equal(seen["train"], rows[train])
    moved = home / "moved.csv"
    moved.write_bytes((home / "table.csv").read_bytes())
    evaluate_run(home / "run", moved)
    np.testing.assert_array_equal(seen["test"], rows[held])
    other = home / "other.csv"
    pd.DataFrame({"extra": np.zeros(50), "b": TEST[:50, 1], "a": TEST[:50, 0]}).to_csv(other, index=False)
    evaluate_run(home / "run", other)
    np.testing.assert_array_equal(seen["test"], TEST[:50])
    np.testing.assert_array_equal(seen["train"], rows[train])


def test_a_run_whose_data_are_gone_or_changed_says_so(home, tmp_path):
    rows = np.concatenate([TRAIN, TEST])
    np.save(tmp_path / "rows.npy", rows)
    pf.train(tmp_path / "rows.npy", pf.GMM(random_state=0, held_out=0.1), out=tmp_path / "run")
    np.save(tmp_path / "rows.npy", rows + 1)
    with pytest.raises(ValueError, match=r"trained on other data than .*rows.npy holds now; .*with data=\.\.\."):
        evaluate_run(tmp_path / "run")
    (tmp_path / "rows.npy").unlink()
    with pytest.raises(FileNotFoundError, match=r"which is not there \(any more\); .*with data=\.\.\."):
        evaluate_run(tmp_path / "run")
    pf.train(rows, pf.GMM(random_state=0), out=tmp_path / "array")
    with pytest.raises(ValueError, match=r"given as array, not as a file; .*with data=\.\.\."):
        evaluate_run(tmp_path / "array")
    pf.train(home / "table.csv", pf.GMM(random_state=0, held_out=0), out=tmp_path / "all")
    with pytest.raises(ValueError, match=r"trained on all of its 600 rows \(held_out=0\)"):
        evaluate_run(tmp_path / "all")


@pytest.mark.usefixtures("without_classifier")
def test_of_rows_on_disk_some_are_read(tmp_path, monkeypatch):
    """Every figure of the held-out rows is that from memory, and the others are of fewer training rows."""
    rows = np.random.default_rng(0).normal(size=(1000, 2)).astype("float32")
    np.save(tmp_path / "rows.npy", rows)
    pf.train(tmp_path / "rows.npy", pf.PPCA(n_components=1, random_state=0), out=tmp_path / "run")
    whole = evaluate_run(tmp_path / "run")
    assert "training_rows_read" not in whole.about
    monkeypatch.setattr("pushforward.data.files.stored.memory_bytes", lambda: 5_000)
    monkeypatch.setitem(evaluate_run.__globals__, "MOST", 75)
    read = []
    monkeypatch.setattr(StoredArray, "take", lambda self, index: read.append(index) or Stored.take(self, index))
    part = evaluate_run(tmp_path / "run")
    assert sorted(len(index) for index in read) == [100, 150]
    assert (part.about["training_rows_read"], part.about["test_rows"]) == (150, 100)
    assert "150 of the training rows" in part.report(tmp_path / "report.html").read_text()
    assert part.find("log-density").measure == whole.find("log-density").measure
    given = evaluate_run(tmp_path / "run", tmp_path / "rows.npy")
    assert given.about["test_rows"] == 100  # the data of the run, by another name
    np.save(tmp_path / "more.npy", rows[:400] + 1)
    assert evaluate_run(tmp_path / "run", tmp_path / "more.npy").about["test_rows"] == 150


def test_a_classifier_for_features_sees_no_row_that_is_compared(monkeypatch):
    known, seen = evaluate_run.__globals__, {}
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(700, 2)), rng.integers(0, 2, 700)
    model = pf.GMM(random_state=0).fit(X[:600], condition=labels[:600])
    monkeypatch.setitem(known, "default_features", lambda rows, given, seed: seen.update(rows=rows, labels=given) or [])
    inputs = gather_inputs(model, X[600:], X[:600], labels[600:], labels[:600], None, 0)
    assert known["_feature_spaces"](inputs, None) == []
    rows = {tuple(row) for row in seen["rows"]}
    assert len(rows) == 500
    assert rows.isdisjoint(tuple(row) for row in inputs.floor.x.numpy())
    of = {tuple(row): str(label) for row, label in zip(X, labels, strict=True)}
    assert [of[tuple(row)] for row in seen["rows"]] == seen["labels"].tolist()
