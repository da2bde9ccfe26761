"""Comparisons: what is trained and measured, the ranking, the advice, what is kept, and what one failure costs."""

import json
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import command_line
import joblib
import numpy as np
import pandas as pd
import pytest

import pushforward as pf
from pushforward.evaluation import Comparison, Evaluation, Figure, Measure, Trial, run_comparison
from pushforward.evaluation.comparison.defaults import default_models
from pushforward.evaluation.comparison.ranking import front

NUMBERS = np.random.default_rng(0)
MODES = np.array([[4.0, 0.0], [-4.0, 0.0], [0.0, 4.0]])
X = MODES[NUMBERS.integers(0, 3, 900)] + 0.4 * NUMBERS.normal(size=(900, 2))


def measure(value, half=0.01, p=None, side=""):
    return Measure(value, value - half, value + half, 100, p, side)


def evaluation(name, *figures, **about):
    facts = {"parameters": 7, "shape": [2], "kind": "vectors"} | about
    return Evaluation(tuple(figures), name, about=facts)


def judged(name, value, floor, better="lower"):
    p, side = 1e-6 if abs(value - floor) > 0.02 else 0.4, "above" if value > floor else "below"
    return Figure(name, "samples", measure(value, p=p, side=side), better=better, reference="held-out", floor=measure(floor))


def trial(name, *figures, seed=0, folder):
    return Trial(name, seed, folder / name, evaluation(name, *figures))


ABOUT = {
    "source": "rows",
    "shape": [2],
    "kind": "vectors",
    "described": "rows of 2 columns",
    "training_rows": 100,
    "test_rows": 20,
    "seeds": 1,
}


def test_the_ranking_is_the_mean_place_with_no_credit_beyond_the_floor(tmp_path):
    """By hand: in the first figure a and b are both at the floor and share places 1 and 2; recall counts upward."""
    trials = (
        trial("a", judged("MMD²", 0.05, 0.1), judged("recall", 0.5, 0.9, "higher"), folder=tmp_path),
        trial("b", judged("MMD²", 0.09, 0.1), judged("recall", 0.7, 0.9, "higher"), folder=tmp_path),
        trial("c", judged("MMD²", 0.50, 0.1), judged("recall", 0.95, 0.9, "higher"), folder=tmp_path),
        Trial("d", 0, tmp_path / "d", None, "ValueError: no"),
    )
    comparison = Comparison(trials, ABOUT, tmp_path)
    assert comparison.names == ["b", "c", "a"]
    assert [comparison.rank(name) for name in "abc"] == [(1.5 + 3) / 2, (1.5 + 2) / 2, (3 + 1) / 2]
    table = comparison.table()
    assert table["model"].tolist() == ["b", "c", "a", "d"]
    assert table["failed"].tolist() == ["", "", "", "ValueError: no"]
    assert comparison.judged == [("MMD²", ""), ("recall", "")]


def test_only_held_out_rows_rank_and_a_figure_that_a_model_lacks_does_not_count_against_it(tmp_path):
    learned_by_heart = Figure("MMD²", "samples", measure(0.01), better="lower", reference="train", floor=measure(0.001))
    trials = (
        trial("a", judged("C2ST", 0.6, 0.5), judged("labels followed", 0.6, 0.9, "higher"), folder=tmp_path),
        trial("b", judged("C2ST", 0.9, 0.5), judged("labels followed", 0.5, 0.9, "higher"), learned_by_heart, folder=tmp_path),
        trial("c", judged("C2ST", 0.7, 0.5), folder=tmp_path),
    )
    comparison = Comparison(trials, ABOUT, tmp_path)
    assert [comparison.rank(name) for name in "abc"] == [1.0, (3 + 2) / 2, 2.0]
    assert comparison.judged == [("C2ST", ""), ("labels followed", "")]


def test_models_within_half_a_place_are_level(tmp_path):
    def said(second):
        figures = [(f"figure {k}", k == 0 and second == "near") for k in range(4)]
        better = [judged(name, 0.9 if swap else 0.6, 0.5) for name, swap in figures]
        worse = [judged(name, 0.8 if swap else 0.7, 0.5) for name, swap in figures]
        trials = (trial("a", *better, folder=tmp_path), trial("b", *worse, folder=tmp_path))
        return Comparison(trials, ABOUT, tmp_path).advice()[0]

    assert "its mean place is 1.2 of 2, level with b" in said("near")
    assert "its mean place is 1.0 of 2." in said("far")


def test_seeds_are_averaged_and_their_spread_is_told(tmp_path):
    seeds = [
        trial("a", judged("sliced Wasserstein", 0.2, 0.1), seed=0, folder=tmp_path),
        trial("a", judged("sliced Wasserstein", 0.4, 0.1), seed=1, folder=tmp_path),
        trial("b", judged("sliced Wasserstein", 0.31, 0.1), seed=0, folder=tmp_path),
    ]
    comparison = Comparison(tuple(seeds), ABOUT, tmp_path)
    assert comparison.value("a", "sliced Wasserstein") == pytest.approx(0.3)
    assert comparison.names == ["a", "b"]
    assert comparison.spread("a") == pytest.approx(2)
    assert np.isnan(comparison.spread("b"))
    assert any("a depends on its seed" in sentence and "2.0 times" in sentence for sentence in comparison.advice())


def test_the_advice_follows_the_figures(tmp_path):
    """The same models with other numbers get other advice; nothing depends on their names."""

    def comparison(fast, good):
        times = {fast: 0.01, good: 1.0}
        trials = [
            trial(
                name,
                judged("C2ST", 0.52 if name == good else 0.8, 0.53),
                judged("labels followed", 0.97 if name == good else 0.6, 0.98, "higher"),
                Figure("log-density", "density", measure(-1.0 if name == good else -3.0), reference="held-out", note="exact"),
                Figure("training time", "speed", measure(50 * times[name], 0)),
                Figure("variance lost", "latent", measure(0.1 if name == good else 0.3)),
                Figure("active dimensions", "latent", measure(1.0), note="of 1"),
                Figure("time of 1,000 samples", "speed", measure(times[name], 0)),
                Figure(
                    "near copies",
                    "memorization",
                    Measure(0.3, 0.2, 0.4, 50, 1e-6 if name == fast else 0.4, "above"),
                    better="lower",
                    reference="train",
                    floor=measure(0.01),
                ),
                folder=tmp_path,
            )
            for name in (fast, good)
        ]
        return Comparison(tuple(trials), ABOUT, tmp_path).advice()

    for fast, good in (("a", "b"), ("b", "a")):
        text = "\n".join(comparison(fast, good))
        assert f"On 100 rows of 2 columns {good} has the best samples" in text
        assert (
            f"{good} gives held-out rows the highest log-density, -1.00 nats per row (exact), before {fast} with -3.00" in text
        )
        assert f"{fast} trains 100 times faster than {good}" in text
        assert "right in 80 % instead of 52 % of cases" in text
        assert f"{fast} draws samples 100 times faster" in text
        assert "right in 52 % of cases, no more than chance explains with 100 of each" in text
        assert f"For short codes take {good}: rows decoded from one number lose 10 % of their variance" in text
        assert f"{fast} follows labels least: a classifier sees the label that was asked for in 60 % of its samples" in text
        assert f"Beware of {fast}" in text
        assert f"Beware of {good}" not in text


def test_the_advice_follows_every_seed_and_never_says_that_samples_cannot_be_told(tmp_path):
    """Means over seeds are not judged by the test of the first seed alone."""

    def said(*p_values):
        trials = []
        for seed, p in enumerate(p_values):
            figure = Figure(
                "C2ST", "samples", measure(0.65, p=p, side="above"), better="lower", reference="held-out", floor=measure(0.5)
            )
            trials.append(trial("a", figure, seed=seed, folder=tmp_path))
        return Comparison(tuple(trials), ABOUT, tmp_path)

    assert "Still, a classifier tells its samples" in " ".join(said(0.4, 0.02).advice())
    assert "no more than chance explains" in " ".join(said(0.4, 0.03).advice())  # 2 * 0.03 > 0.05
    assert said(0.4, 0.02).standing("a", "C2ST", "held-out") == "worse"
    assert not any("cannot tell" in sentence for p in (1e-9, 0.04, 0.5) for sentence in said(p, p).advice())


def test_the_front_holds_what_no_other_beats():
    """Against the definition, on random points."""
    numbers = np.random.default_rng(1)
    points = {str(index): tuple(numbers.integers(0, 6, 2).astype(float)) for index in range(30)}
    beaten = {name for name, (x, y) in points.items() for u, v in points.values() if (u < x and v <= y) or (u <= x and v < y)}
    assert set(front(points)) == set(points) - beaten
    assert [points[name][0] for name in front(points)] == sorted(points[name][0] for name in front(points))


@pytest.mark.full  # four evaluations with classifiers; the ranking is tested by hand above
@pytest.mark.usefixtures("blank")
def test_a_model_that_drops_modes_comes_last_on_real_trainings(tmp_path):
    """One Gaussian covers three modes badly; three find the law. Rows set aside reach no model."""
    models = {"one": pf.GMM(n_components=1), "three": pf.GMM(n_components=3)}
    comparison = run_comparison(X, models, seeds=2, samples=100, out=tmp_path / "c")
    assert comparison.names[0] == "three"
    assert comparison.value("three", "C2ST", "held-out") < 0.6 < comparison.value("one", "C2ST", "held-out")
    assert comparison.about["test_rows"] == 180
    assert comparison.about["training_rows"] == 720
    cards = [json.loads((one.folder / "model.json").read_text()) for one in comparison.trials]
    assert {card["data"]["rows"] for card in cards} == {720}
    assert [one.seed for one in comparison.trials] == [0, 0, 1, 1]
    table = pd.read_csv(tmp_path / "c" / "table.csv")
    assert table["model"].tolist() == comparison.names
    assert (table["seeds"] == 2).all()
    long = comparison.figures()
    assert set(long["model"]) == set(models)
    assert set(long["seed"]) == {0, 1}
    assert models["one"].get_params() == pf.GMM(n_components=1).get_params()
    assert not hasattr(models["one"], "law_")
    page = (tmp_path / "c" / "report.html").read_text(encoding="utf-8")
    assert "three has the best samples" in page
    assert 'href="three/seed-0/report.html"' in page


@pytest.mark.usefixtures("without_classifier", "blank")
def test_what_is_done_is_not_done_again_and_models_can_be_added(tmp_path):
    out = tmp_path / "c"
    run_comparison(X, ["ppca"], seeds=1, samples=40, out=out)
    done = out / "ppca" / "seed-0" / "evaluation.json"
    before = done.stat().st_mtime_ns
    table = pf.compare(X, ["ppca", "gmm"], seeds=1, samples=40, out=out)
    assert done.stat().st_mtime_ns == before
    assert sorted(table["model"]) == ["gmm", "ppca"]
    lost = table.set_index("model")["variance lost"]
    assert 0 < lost["ppca"] < 1.1  # 1 is no better than the mean row
    assert np.isnan(lost["gmm"])  # its codes cannot be decoded
    assert (out / "gmm" / "seed-0" / "evaluation.json").is_file()
    assert table.attrs["folder"] == str(out)
    assert table.attrs["advice"]
    # a run that was trained but not evaluated is not trained again
    (out / "gmm" / "seed-0" / "evaluation.json").unlink()
    weights = (out / "gmm" / "seed-0" / "weights.safetensors").stat().st_mtime_ns
    run_comparison(X, ["gmm"], seeds=2, samples=40, out=out)
    assert (out / "gmm" / "seed-0" / "weights.safetensors").stat().st_mtime_ns == weights
    for own in ("seed-0", "seed-1"):
        assert (out / "gmm" / own / "evaluation.json").is_file()


@pytest.mark.usefixtures("without_classifier", "blank")
def test_one_failure_does_not_lose_the_others_and_is_tried_again(tmp_path):
    integers = NUMBERS.normal(size=(200, 2))
    models = ["masked-diffusion", "ppca"]  # the first takes integers alone
    comparison = run_comparison(integers, models, seeds=1, samples=40, out=tmp_path)
    assert comparison.names == ["ppca"]
    assert "models of tokens learn laws of integers" in comparison.trials[0].failure
    assert "models of tokens" in (tmp_path / "masked-diffusion" / "seed-0" / "failure.txt").read_text()
    assert "masked-diffusion failed" in comparison.advice()[-1]
    assert "Failed: masked-diffusion, seed 0" in str(comparison)
    again = run_comparison(integers, models, seeds=1, samples=40, out=tmp_path)
    assert again.trials[0].failure == comparison.trials[0].failure


@pytest.mark.full  # two evaluations of sets
@pytest.mark.usefixtures("without_classifier", "blank")
def test_sets_of_points_are_compared_as_sets(tmp_path):
    """All points of a set are on one side, which a model without training does not know; nothing is done twice."""
    numbers = np.random.default_rng(0)
    sides = numbers.choice([-2.0, 2.0], 110)
    sets = [side + 0.3 * numbers.normal(size=(numbers.integers(3, 6), 2)) for side in sides]
    assert default_models(pf.open_data(sets, kind="sets")) == ["diffusion", "flow-matching"]
    settings = pf.TrainingSettings(steps=1, batch_size=32, learning_rate=1e-2)
    small = {"network": pf.SetSpec(width=16, depth=1, heads=2, states=2), "device": "cpu"}
    models = {
        "untrained": pf.FlowMatching(training=settings, **small),
        "trained": pf.Diffusion(training=settings, train_steps=300, **small),
    }
    for _ in range(2):
        comparison = run_comparison(sets, models, kind="sets", seeds=1, samples=22, out=tmp_path)
        table = comparison.table()
        assert [one.failure for one in comparison.trials] == ["", ""]
    assert comparison.names == ["trained", "untrained"]
    assert {"1-NN accuracy", "coverage"} < set(table.columns)
    accuracy = [comparison.value(name, "1-NN accuracy", "held-out") for name in comparison.names]
    assert accuracy[0] < 0.9 < accuracy[1]


@pytest.mark.usefixtures("without_classifier", "blank")
def test_labels_budgets_and_names(tmp_path):
    """Labels and the budget in steps are given to all; a name that comes twice gets a number."""
    small = pf.GANSpec(width=8, depth=1)
    models = [pf.GAN(latent_dim=2, network=small), pf.GAN(latent_dim=3, network=small)]
    comparison = run_comparison(
        X[:300], models, condition=np.arange(300) % 2, steps=7, seeds=1, samples=40, out=tmp_path, device="cpu"
    )
    assert {one.name for one in comparison.trials} == {"gan", "gan-2"}
    assert all(one.failure == "" for one in comparison.trials)
    assert comparison.evaluations("gan")[0].about["steps"] == 7
    assert comparison.evaluations("gan")[0].about["conditional"]


def test_the_types_of_columns_are_those_that_are_given(tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"code": rng.integers(0, 4, 120), "size": rng.normal(size=120)})
    given = {"seeds": 1, "samples": 20, "types": {"code": "category"}, "out": tmp_path / "typed"}
    found = run_comparison(frame, {"g": pf.GMM(n_components=1)}, **given)
    table = pf.load(found.trials[0].folder).space_.schema.table
    assert [column.type for column in table.columns] == ["category", "number"]
    with pytest.raises(ValueError, match="a comparison with types"):
        run_comparison(frame, {"g": pf.GMM(n_components=1)}, **given | {"types": {"code": "integer"}})


def test_the_command_line_says_what_the_data_are(tmp_path):
    (tmp_path / "story.txt").write_text("a short story about nothing. " * 150)
    options = ("--models", "autoregressive", "--steps", 1, "--seeds", 1, "--n", 20, "--out", tmp_path / "compared")
    assert command_line.call("compare", "story.txt", "--set", "text.block=16", *options, at=tmp_path).code == 0
    assert json.loads((tmp_path / "compared" / "comparison.json").read_text())["text"].startswith("Text(")
    assert "'train_steps' is none of these" in command_line.refused(
        "compare", "story.txt", "--set", "train_steps=3", at=tmp_path
    )


def test_integers_are_compared_with_masked_diffusion_too_if_it_takes_their_range():
    small = NUMBERS.integers(0, 1024, size=(40, 2))
    small[:2, 0] = 0, 1023
    for rows, taken in ((small, True), (small + [[0, 1]] * small[:, :1], False), (small + 0.5, False)):
        assert ("masked-diffusion" in default_models(pf.open_data(rows))) is taken


@pytest.mark.usefixtures("without_classifier", "blank")
def test_errors_come_before_any_training(tmp_path):
    for call, error, message in (
        (lambda: run_comparison(X, seeds=0, out=tmp_path / "a"), ValueError, "seeds must be at least 1, got 0"),
        (lambda: run_comparison(X, budget=1.0, steps=3, out=tmp_path / "a"), ValueError, "a budget in seconds or in steps"),
        (lambda: run_comparison(X, ["gnn"], out=tmp_path / "a"), ValueError, "there is no model 'gnn'.*Did you mean"),
        (lambda: run_comparison(X, [3], out=tmp_path / "a"), TypeError, "models are names such as 'gmm' and estimators"),
        (lambda: run_comparison(X, [], out=tmp_path / "a"), ValueError, "there is no model to compare"),
        (lambda: run_comparison(X, samples=19, out=tmp_path / "a"), ValueError, "samples must be at least 20, got 19"),
        (
            lambda: run_comparison(X[:90], out=tmp_path / "a"),
            ValueError,
            "90 rows, of which 18 are set aside.* 100 rows or more",
        ),
        (lambda: run_comparison(X, {"a/b": "gmm"}, out=tmp_path / "a"), ValueError, "also that of its folder.*'a/b'"),
    ):
        with pytest.raises(error, match=message):
            call()
    assert not (tmp_path / "a").exists()
    run_comparison(X, ["ppca"], seeds=1, samples=60, out=tmp_path / "b")
    with pytest.raises(ValueError, match="holds a comparison with steps None, not 9; name another folder"):
        run_comparison(X, ["ppca"], steps=9, out=tmp_path / "b")
    with pytest.raises(ValueError, match="holds a comparison with fingerprint"):
        run_comparison(X + 1, ["ppca"], samples=60, out=tmp_path / "b")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(ValueError, match="is in use for something else"):
        run_comparison(X, ["ppca"], out=tmp_path / "other")
    with pytest.raises(ValueError, match="jobs must be at least 1, or -1 for all cores, got 0"):
        run_comparison(X, ["ppca"], jobs=0, out=tmp_path / "a")


@pytest.mark.usefixtures("without_classifier", "blank")
def test_several_trainings_at_once_give_what_they_give_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    measured = evaluation("any", judged("C2ST", 0.6, 0.5))
    monkeypatch.setattr("pushforward.evaluation.comparison.compare.evaluate", lambda *_, **__: measured)
    models = {"small": pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), device="cpu"), "tokens": "masked-diffusion"}
    one = run_comparison(X[:200], models | {"ppca": "ppca"}, seeds=2, steps=6, samples=30, out="one")
    with joblib.parallel_config("threading", n_jobs=3):
        many = run_comparison(X[:200], models | {"ppca": "ppca"}, seeds=2, steps=6, samples=30, out="many")
    assert [(trial.name, trial.seed, trial.failure) for trial in many.trials] == [
        (trial.name, trial.seed, trial.failure) for trial in one.trials
    ]
    assert [trial.folder for trial in many.trials] == [Path("many") / trial.name / f"seed-{trial.seed}" for trial in one.trials]
    for ours, theirs in zip(one.trials, many.trials, strict=True):
        if not ours.failure:
            weights = [(trial.folder / "weights.safetensors").read_bytes() for trial in (ours, theirs)]
            assert weights[0] == weights[1]


def test_a_process_that_is_ended_is_said_in_a_sentence_and_what_is_done_is_kept(tmp_path, monkeypatch):
    def ended(*_, **__):
        raise BrokenProcessPool

    monkeypatch.setattr("pushforward.evaluation.comparison.compare.Parallel", lambda **_: ended)
    with pytest.raises(OSError, match="finished parts are kept: repeat the call or command with fewer jobs to continue"):
        run_comparison(X, ["ppca"], jobs=2, out=tmp_path / "c")
