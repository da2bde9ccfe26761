"""Calibration of models: the gain is the one measured again by hand, and the table is used exactly when it should be."""

import copy
import itertools
import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import pushforward as pf
from pushforward import diffusion
from pushforward.diffusion import CalibratedSampler, Calibration
from pushforward.models.denoising.calibration import sampler_for, starts_to_fit
from pushforward.models.files.calibrations import CALIBRATIONS, add_calibration, read_calibrations
from pushforward.models.files.storage import WEIGHTS, read_card
from pushforward.probability import noise
from pushforward.training import TrainingSettings

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 2, "random_state": 0, "device": "cpu"}
STEPS, NOISES, SEED = 4, 256, 3
NO_GAIN_IS_FINE = pytest.mark.filterwarnings("ignore:the table fitted to")  # where few noises must do


def rows(n=400):
    """Points on five blobs around a circle, and the number of the blob."""
    rng = np.random.default_rng(0)
    blob = rng.integers(5, size=n)
    angle = 0.4 * np.pi * blob
    return np.stack((np.cos(angle), np.sin(angle)), 1) * 3 + 0.2 * rng.normal(size=(n, 2)), blob.astype(str)


def trained(cls, **changes):
    X, labels = rows()
    settings = TrainingSettings(steps=150, batch_size=64, learning_rate=5e-3, ema=0.1)
    arguments = {"network": pf.MLPSpec(width=32, depth=2), "training": settings, "random_state": 0, "device": "cpu"}
    return cls(**(arguments | changes)).fit(X, condition=labels)


@pytest.fixture(scope="module")
def fitted():
    """A model with calibrations at two guidance scales, and what ``calibrate`` returned."""
    model = trained(pf.FlowMatching)
    found = {w: model.calibrate(STEPS, guidance=w, noises=NOISES, iterations=60, seed=SEED) for w in (1.0, 2.0)}
    return model, found


@pytest.fixture
def model(fitted):
    return copy.deepcopy(fitted[0])


def plain():
    return pf.FlowMatching(**TINY).fit(rows()[0])


def by_hand(sampler, denoiser, z, condition):
    """The calibrated chain in float64 arithmetic, one coefficient after the other."""
    schedule, x, calls = denoiser.schedule, z.double(), []
    times = sampler.grid(schedule, len(sampler.kept))
    for k, (now, then) in enumerate(itertools.pairwise(times)):
        calls.append(denoiser(x.float(), now, condition).double())
        used = sum(weight * call for weight, call in zip(sampler.weights[k], calls, strict=True))
        alpha, sigma = schedule.alpha(now), schedule.sigma(now)
        eps = (x - alpha * used) / sigma
        x = used + sampler.kept[k] * sigma / alpha * eps  # only in the last step
        if then > 0:
            x = schedule.alpha(then) * used + sampler.kept[k] * schedule.sigma(then) * eps
    return x


@pytest.mark.parametrize("scale", [pytest.param(1.0, marks=pytest.mark.full), 2.0])
@torch.no_grad()
def test_the_gain_is_that_on_noises_and_conditions_that_were_held_out(fitted, scale):
    """Measured again: noises drawn by their address, the solution by Runge and Kutta, the chain by hand."""
    model, found = fitted[0], fitted[1][scale]
    key = noise.derive(SEED, "calibration")
    aside = noise.permutation(NOISES, seed=SEED, purpose="calibration")[-NOISES // 4 :]
    z = noise.normal((2,), seed=key, purpose="sample", rows=torch.arange(NOISES))[aside]
    condition = model.space_.conditions.draw(NOISES, seed=key)[aside]
    denoiser = model.denoiser_ if scale == 1 else diffusion.Guided(model.denoiser_, scale)
    exact = pf.RK4().run(denoiser, z, steps=100, condition=condition).double()

    def error(made):
        return (made.double() - exact).square().mean().sqrt().item()

    assert (found.held_out, found.seed) == (NOISES // 4, SEED)
    # The solution that calibration reaches for is off the exact one too, and errors cannot differ by more than that.
    off = error(pf.default_sampler(100).run(denoiser, z, steps=100, condition=condition))
    assert off < 0.05
    assert found.error == pytest.approx(error(by_hand(found.sampler, denoiser, z, condition)), abs=off + 1e-5)
    default = pf.default_sampler(STEPS, scale).run(denoiser, z, steps=STEPS, condition=condition)
    assert found.default_error == pytest.approx(error(default), abs=off + 1e-5)
    assert found.gain == found.default_error / found.error > 1.2
    fresh = noise.normal((2,), seed=99, purpose="sample", rows=torch.arange(256))
    given = model.space_.conditions.draw(256, seed=99)
    exact = pf.RK4().run(denoiser, fresh, steps=100, condition=given).double()
    calibrated, default = (s.run(denoiser, fresh, steps=STEPS, condition=given) for s in (found.sampler, model.sampler_))
    assert error(default) > 1.2 * error(calibrated)


def test_used_for_exactly_these_steps_and_this_scale(fitted):
    model, found = fitted
    assert set(model.calibrations_) == {(STEPS, 1.0), (STEPS, 2.0)}

    def drawn(**options):
        return model.sample(6, seed=1, **options)

    for scale in (1.0, 2.0):
        made = drawn(steps=STEPS, guidance=scale)
        assert model.sample_sampler_ == found[scale].sampler
        np.testing.assert_array_equal(made, drawn(steps=STEPS, guidance=scale, sampler=found[scale].sampler))
        assert not np.array_equal(made, drawn(steps=STEPS, guidance=scale, sampler=pf.default_sampler(STEPS, scale)))
    np.testing.assert_array_equal(drawn(steps=np.int64(STEPS), guidance=2), drawn(steps=STEPS, guidance=2.0))
    for options in (
        {"steps": STEPS + 1},
        {"steps": STEPS, "guidance": 1.5},
        {"steps": STEPS, "guidance": pf.Guidance(2.0, interval=(0.1, 10.0))},
        {"steps": STEPS, "guidance": pf.Guidance(2.0, negative="1")},
        {"steps": STEPS, "guidance": pf.Guidance(by=lambda x: x.sum(1))},
    ):
        made = drawn(**options)
        default = pf.default_sampler(options["steps"], pf.Guidance.of(options.get("guidance", 1.0)).scale)
        assert model.sample_sampler_ == default
        np.testing.assert_array_equal(made, drawn(**options, sampler=default))
    drawn(steps=STEPS, sampler=pf.Heun())
    assert model.sample_sampler_ == pf.Heun()
    assert sampler_for(model, STEPS, pf.Guidance(by="classifier")) == pf.default_sampler(STEPS)
    assert model.calibration(STEPS, 2) is found[2.0]
    assert model.calibration(STEPS + 1) is None


def test_a_call_without_steps_keeps_its_default(model):
    z = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    found = diffusion.calibrate(model.denoiser_, z, steps=20, condition=torch.zeros(8, 6), iterations=3)
    doubled = tuple(tuple(2 * value for value in row) for row in found.sampler.weights)
    before = model.sample(5, seed=0)
    model.calibrations_ = {(20, 1.0): replace(found, sampler=replace(found.sampler, weights=doubled))}
    np.testing.assert_array_equal(model.sample(5, seed=0), before)
    assert model.sample_sampler_ == model.sampler_
    assert not np.array_equal(model.sample(5, seed=0, steps=20), before)
    np.testing.assert_array_equal(model.sample(5, seed=0, steps=20, sampler=model.sampler_), before)


@NO_GAIN_IS_FINE
def test_the_seed_names_the_result_and_nothing_global_is_drawn(model):
    options = {"noises": 32, "iterations": 3}
    state = torch.get_rng_state()
    weights = copy.deepcopy(model.denoiser_.state_dict())
    one = model.calibrate(3, seed=7, **options)
    assert torch.equal(torch.get_rng_state(), state)
    assert model.calibrate(3, seed=7, **options) == one
    other = model.calibrate(3, **options)
    assert other.seed != 7
    assert model.calibrate(3, seed=other.seed, **options) == other
    assert other.sampler != one.sampler
    for name, value in model.denoiser_.state_dict().items():
        assert torch.equal(value, weights[name])


def test_forgotten_by_a_new_fit_and_a_clone(model):
    assert not hasattr(clone(model), "calibrations_")
    X, labels = rows()
    model.set_params(train_steps=2).fit(X, condition=labels)
    assert model.calibrations_ == {}


def test_saved_loaded_and_pickled(model, tmp_path):
    run = tmp_path / "run"
    model.save(run)
    assert sorted(path.name for path in run.iterdir()) == [CALIBRATIONS, "model.json", WEIGHTS]
    for twin in (pf.load(run), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.calibrations_ == model.calibrations_
        np.testing.assert_array_equal(twin.sample(5, seed=0, steps=STEPS), model.sample(5, seed=0, steps=STEPS))
        assert isinstance(twin.sample_sampler_, CalibratedSampler)
    pf.load(run).save(tmp_path / "again")
    assert (tmp_path / "again" / CALIBRATIONS).read_bytes() == (run / CALIBRATIONS).read_bytes()
    model.calibrations_ = {}
    model.save(run)
    assert sorted(path.name for path in run.iterdir()) == ["model.json", WEIGHTS]
    assert pf.load(run).calibrations_ == {}


def test_one_more_is_written_beside_those_that_are_there(model, tmp_path):
    model.save(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    found = model.calibrations_[STEPS, 1.0]
    add_calibration(tmp_path, STEPS, 3, found, _checksum(tmp_path))
    add_calibration(tmp_path, STEPS, 2.0, found, _checksum(tmp_path))
    assert pf.load(tmp_path).calibrations_ == dict.fromkeys([(STEPS, 1.0), (STEPS, 2.0), (STEPS, 3.0)], found)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == after.keys()
    assert {name for name in after if before[name] != after[name]} == {CALIBRATIONS}


def _checksum(folder):
    return read_card(folder)["weights"]["sha256"]


def _without(key):
    return lambda content: content.pop(key)


def _in_entry(**changes):
    return lambda content: content["calibrations"][0].update(changes)


def _in_calibration(**changes):
    return lambda content: content["calibrations"][0]["calibration"].update(changes)


def _in_sampler(**changes):
    return lambda content: content["calibrations"][0]["calibration"]["sampler"].update(changes)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (_without("weights"), "damaged: it has no 'weights'"),
        (_without("calibrations"), "damaged: it has no 'calibrations'"),
        (_in_entry(calibration="StraightLine"), "holds a StraightLine, not a calibration"),
        (_in_entry(steps=STEPS + 1), f"calibrated for {STEPS} steps"),
        (_in_entry(guidance_scale="2"), "guidance scale 2"),
        (_in_calibration(error=float("nan")), "errors nan"),
        (_in_calibration(held_out=0), "number of noises|their number"),
        (_in_calibration(gain=2.0), "has no 'gain'"),
        (_in_sampler(name="open"), "there is no 'open'"),
        (_in_sampler(kept=[]), "kept must hold 4 numbers"),
        (_in_sampler(weights=[[1.0], [1.0, float("inf")], [1.0] * 3, [1.0] * 4]), "kept and weights must hold finite numbers"),
        (_in_sampler(levels=[3.0, 5.0, 0.1]), "must be positive and fall strictly"),
        (lambda content: content.update(format=1), "has format 1, but this version of pushforward reads format 3"),
        (lambda content: content.update(format=99), "has format 99"),
        (lambda content: content.update(weights="0" * 64), "made for other weights"),
    ],
)
def test_what_is_damaged_or_foreign_is_refused(fitted, harm, message, tmp_path):
    fitted[0].save(tmp_path)
    path = tmp_path / CALIBRATIONS
    content = json.loads(path.read_text())
    harm(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as caught:
        pf.load(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).endswith(f"delete {path} and calibrate again")


def test_half_a_file_and_that_of_another_model_are_refused(fitted, tmp_path):
    fitted[0].save(tmp_path / "one")
    plain().save(tmp_path / "other")
    text = (tmp_path / "one" / CALIBRATIONS).read_text()
    (tmp_path / "other" / CALIBRATIONS).write_text(text)
    with pytest.raises(ValueError, match="made for other weights"):
        pf.load(tmp_path / "other")
    for damaged in (text[: len(text) // 2], "[]", "3"):
        (tmp_path / "one" / CALIBRATIONS).write_text(damaged)
        with pytest.raises(ValueError, match=r"calibrations\.json is damaged: .*calibrate again"):
            pf.load(tmp_path / "one")
        with pytest.raises(ValueError, match="is damaged"):
            read_calibrations(tmp_path / "one", _checksum(tmp_path / "one"))


def test_a_model_of_another_family_in_the_same_folder_has_no_calibrations(fitted, tmp_path):
    fitted[0].save(tmp_path)
    pf.PPCA(n_components=1).fit(rows()[0]).save(tmp_path)
    assert not (tmp_path / CALIBRATIONS).exists()


def test_no_gain_is_said_and_not_kept(model, monkeypatch):
    before = dict(model.calibrations_)
    worse = replace(before[STEPS, 1.0], error=0.3, default_error=0.24)
    monkeypatch.setattr(diffusion, "calibrate", lambda *_, **__: worse)
    with pytest.warns(
        UserWarning,
        match=r"no better than CalibratedSampler of 4 steps on the 64 held-out noises \(gain 0\.8\), so it is discarded",
    ):
        assert model.calibrate(STEPS, seed=0) == worse
    assert model.calibrations_ == before


@NO_GAIN_IS_FINE
def test_compared_with_the_sampler_that_the_model_uses():
    model = pf.FlowMatching(sampler=pf.DDIM(), **TINY).fit(rows()[0])
    found = model.calibrate(3, noises=64, iterations=0, seed=0)
    aside = noise.permutation(64, seed=0, purpose="calibration")[-16:]
    z = noise.normal((2,), seed=noise.derive(0, "calibration"), purpose="sample", rows=torch.arange(64))[aside]
    exact = pf.RK4().run(model.denoiser_, z, steps=100)
    error = (pf.DDIM().run(model.denoiser_, z, steps=3) - exact).square().mean().sqrt().item()
    assert found.default_error == pytest.approx(error, rel=0.02)


@NO_GAIN_IS_FINE
def test_rows_of_a_source_of_ones_own_are_never_both_fitted_to_and_held_out():
    X = rows()[0]
    source = np.repeat(X[:40] + 5, 5, axis=0)
    model = pf.FlowMatching(source=source, **TINY).fit(X)
    z, condition = starts_to_fit(model, 2048, 0)
    assert condition is None
    assert len(z) == len(z.unique(dim=0)) == 40
    few = starts_to_fit(model, 10, 0)[0]
    torch.testing.assert_close(few, z[:10], rtol=0, atol=0)
    known = {tuple(row) for row in model.source_.rows.tolist()}
    assert {tuple(row) for row in z.tolist()} == known
    assert model.calibrate(3, iterations=2, seed=0).held_out == 10
    law = pf.probability.Gaussian([0.0, 0.0], 1.0)
    model = pf.FlowMatching(source=law, **TINY).fit(X)
    torch.testing.assert_close(starts_to_fit(model, 5, 4)[0], model.source_.draw(torch.arange(5), 0, 4, "sample"))


def test_the_network_is_called_as_it_was_trained(model, monkeypatch):
    seen = []

    def look(denoiser, z, **options):
        seen.append((torch.is_autocast_enabled("cpu"), denoiser, options["default"]))
        return Calibration(CalibratedSampler((1.0,), (1.0, 0.0), ((1.0,), (0.0, 1.0))), 1.0, 2.0, 3, 0)

    monkeypatch.setattr(diffusion, "calibrate", look)
    model.calibrate(2)
    model.training_ = replace(model.training_, precision="bfloat16")
    model.calibrate(2)
    default = pf.default_sampler(2)
    assert seen == [(False, model.denoiser_, default), (True, model.denoiser_, default)]


@NO_GAIN_IS_FINE
def test_progress_is_shown_where_the_model_shows_it(model, capsys):
    model.calibrate(3, noises=64, iterations=8, seed=0)
    assert capsys.readouterr().out == ""
    model.set_params(verbose=True).calibrate(3, noises=64, iterations=8, seed=0)
    assert "step 8 of 8 · loss " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"steps": 1}, ValueError, "at least 2 steps"),
        ({"steps": 2.5}, TypeError, "steps must be an integer, got 2.5"),
        ({"steps": "8"}, TypeError, "steps must be an integer, got '8'"),
        ({"noises": 1}, ValueError, "noises must be at least 2, got 1"),
        ({"iterations": -1}, ValueError, "iterations must be at least 0, got -1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1, got 0"),
        ({"guidance": 2.0}, ValueError, "needs a model trained with conditions"),
        ({"guidance": float("nan")}, ValueError, "must be a finite number, got nan"),
        ({"guidance": pf.Guidance(by="classifier")}, ValueError, "a calibrated sampler supports guidance by the condition"),
    ],
)
def test_errors_say_what_is_wrong(options, error, message):
    model = plain()
    with pytest.raises(error, match=message):
        model.calibrate(**options)
    assert model.calibrations_ == {}


def test_what_cannot_be_calibrated_is_refused(model):
    for unfitted in (pf.FlowMatching(), pf.Diffusion()):
        for verb in (unfitted.calibrate, unfitted.calibration):
            with pytest.raises(NotFittedError):
                verb(8)
    with pytest.raises(ValueError, match="guidance scale|finite"):
        model.calibrate(8, guidance=float("inf"))
    model.sampler = model.sampler_ = pf.DDPM()
    with pytest.raises(ValueError, match=r"DDPM\(.*adds noise at each step.*deterministic"):
        model.calibrate(8)
    model.sampler = model.sampler_ = pf.Heun()
    with torch.no_grad():
        next(model.denoiser_.parameters()).fill_(torch.nan)
    with pytest.raises(ValueError, match="returns NaN or infinity"):
        model.calibrate(3, noises=8, iterations=1)
    with pytest.raises(ValueError, match="steps must be at least 1, got 0"):
        model.sample(1, steps=0)
    with pytest.raises(TypeError, match="steps must be an integer"):
        model.sample(1, steps="8")


@pytest.mark.full  # the same code as for flow matching
def test_diffusion_models_are_calibrated_too():
    model = trained(pf.Diffusion)
    found = model.calibrate(STEPS, noises=NOISES, iterations=60, seed=0)
    assert found.gain > 1.3
    model.sample(2, steps=STEPS)
    assert model.sample_sampler_ == found.sampler


def test_few_steps_under_strong_guidance_take_a_lower_order(model):
    condition = model.space_.conditions.classes[0]
    for steps, scale, order in ((None, 1.0, 4), (5, 1.0, 0), (5, 2.0, 2), (8, 2.0, 3), (None, 6.0, 2)):
        model.sample(2, steps=steps, guidance=scale, condition=condition, seed=0)
        assert model.sample_sampler_ == pf.default_sampler(steps or 20, scale)
        assert model.sample_sampler_.order == order
    own = pf.FlowMatching(**TINY, sampler=pf.AngleSolver()).fit(rows()[0], condition=rows()[1])
    own.sample(2, steps=5, guidance=4.0, seed=0)
    assert own.sample_sampler_ == pf.AngleSolver()
