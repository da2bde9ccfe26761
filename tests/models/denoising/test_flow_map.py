"""FlowMap: one to four calls against the exact flow, its codes, densities, guidance, runs, and what it refuses."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from thin import thinned

import pushforward as pf
from pushforward.diffusion import Guided, exact_flow
from pushforward.models.denoising.map_training import MapTraining
from pushforward.models.files.storage import read_card
from pushforward.probability import GaussianMixture

LAW = GaussianMixture([0.4, 0.6], [[-1.0, -0.4], [1.0, 0.4]], [0.15, 0.3])
SMALL = pf.MLPSpec(width=8, depth=1)
BRIEF = pf.TrainingSettings(steps=8, batch_size=16, learning_rate=0.01, checkpoint_every=4)


@pytest.fixture(scope="module")
def teacher():
    """A model that predicts v, whose last layer means something else than that of a map."""
    X = LAW.sample(4000, seed=0).numpy()
    network = pf.MLPSpec(width=32, depth=2)
    model = pf.Diffusion(prediction="v", schedule=pf.Cosine(), network=network, train_steps=300, random_state=0, device="cpu")
    return model.fit(X)


@pytest.fixture(scope="module")
def flow_map(teacher):
    return pf.distill(teacher, pf.FlowMap(trajectories=700, train_steps=350, random_state=0, device="cpu"))


@pytest.fixture(scope="module")
def with_labels():
    """A teacher with labels, and its map with guidance."""
    X = LAW.sample(2000, seed=0).numpy()
    network = pf.MLPSpec(width=32, depth=2)
    teacher = pf.FlowMatching(network=network, train_steps=200, random_state=0, device="cpu")
    teacher.fit(X, condition=(X @ [1.0, 0.4] > 0).astype(int))
    student = pf.FlowMap(trajectories=600, train_steps=300, guidance=3.0, density=False, random_state=0, device="cpu")
    return teacher, pf.distill(teacher, student)


@pytest.fixture(scope="module")
def starts():
    return torch.randn(500, 2, generator=torch.Generator().manual_seed(1))


def rms(x, y):
    return float((x - y).square().mean().sqrt())


def test_few_calls_are_near_the_exact_flow_where_a_sampler_is_far(teacher, flow_map, starts):
    shift, scale = teacher.space_.transform.shift.double(), teacher.space_.transform.scale.double()
    means = (LAW.means - shift) / scale
    covs = LAW.covs[:, None, None] * torch.eye(2).double() / torch.outer(scale, scale)
    exact = exact_flow(GaussianMixture(LAW.weights, means, covs), teacher.schedule_, starts, steps=200)
    taught = rms(pf.default_sampler(50).run(teacher.denoiser_, starts, steps=50), exact)
    assert taught < 0.2
    for calls in (1, 2, 4, 8):
        error = rms(flow_map.denoiser_.sample(starts, steps=calls), exact)
        plain = rms(pf.default_sampler(calls).run(teacher.denoiser_, starts, steps=calls), exact)
        assert error < taught + 0.05, calls
        assert calls > 1 or error < plain / 4


def test_one_call_follows_any_guidance_scale_in_the_range(with_labels, starts):
    teacher, flow_map = with_labels
    condition = teacher.space_.conditions.encode([0, 1] * 250, 500)
    plain = pf.default_sampler(30).run(teacher.denoiser_, starts, steps=30, condition=condition)
    for w in (1.0, 2.0, 3.0):
        fine = pf.default_sampler(30).run(Guided(teacher.denoiser_, w), starts, steps=30, condition=condition)
        error = rms(flow_map.denoiser_.sample(starts, steps=1, condition=condition, scale=w), fine)
        assert error < 0.1 + rms(fine, plain) / 4, w
        assert w == 1 or rms(fine, plain) > 0.2


def test_samples_of_the_user_are_those_of_the_map(with_labels):
    flow_map = with_labels[1]
    x = flow_map.sample(6, condition=[0, 1] * 3, guidance=2.0, steps=1, seed=3)
    z = flow_map.source_.draw(torch.arange(6), 0, 3, "sample")
    condition = flow_map.space_.conditions.encode([0, 1] * 3, 6)
    expected = flow_map.denoiser_.sample(z, steps=1, condition=condition, scale=2.0)
    np.testing.assert_array_equal(x, flow_map.space_.to_user(expected))
    null = flow_map.denoiser_.sample(z, steps=1, condition=torch.zeros_like(condition))
    np.testing.assert_array_equal(
        flow_map.sample(6, condition=[0, 1] * 3, guidance=0.0, steps=1, seed=3), flow_map.space_.to_user(null)
    )


def test_rows_and_noise_lead_to_each_other_in_one_call(teacher, flow_map):
    X = LAW.sample(300, seed=5).numpy()
    z = flow_map.transform(X)
    exact = teacher.transform(X, rtol=1e-3)
    assert np.sqrt(np.mean((z - exact) ** 2)) < 0.12
    assert np.sqrt(np.mean((flow_map.inverse_transform(z) - X) ** 2)) < 0.12


def test_a_density_is_as_near_the_truth_as_it_states(teacher, flow_map):
    X = LAW.sample(400, seed=6).numpy()
    truth, taught = LAW.log_prob(torch.from_numpy(X)).numpy(), teacher.log_prob(X, steps=16)
    for calls in (1, 4):
        found = flow_map.log_prob(X, steps=calls)
        assert (found.kind, found.nfe, found.dims) == ("estimate", calls, 2)
        assert found.numerical_error[0] == flow_map.density_error_[calls] < 0.3
        assert np.sqrt(np.mean((found.values - taught.values) ** 2)) < 2 * found.numerical_error[0]
        assert abs(np.mean(found.values - truth)) < 0.15
    cells = [flow_map.log_prob(X, steps=calls).numerical_error[0] for calls in (3, 100)]
    assert cells == [flow_map.density_error_[2], flow_map.density_error_[8]]


def test_posterior_needs_only_the_denoiser_of_the_map(flow_map, starts):
    """Its denoiser is the map of a time to itself, against that of the exact law."""
    rows = flow_map.posterior([[1.0, 0.0]], [-1.0], noise=0.05, n=200, steps=12, seed=0)
    assert abs(rows[:, 0].mean() + 1.0) < 0.05
    assert abs(rows[:, 1].mean() + 0.4) < 0.2
    filled = flow_map.impute(np.array([[1.0, np.nan]] * 100), steps=12, seed=0)
    assert abs(filled[:, 1].mean() - 0.4) < 0.2


@thinned(
    together=1,
    family=[
        pf.Diffusion(schedule=pf.Cosine()),
        pf.Diffusion(prediction="eps"),
        pf.Diffusion.ve(prediction="v"),
        pf.FlowMatching(prediction="velocity", sampler=pf.DDIM()),
        pf.FlowMatching(source=np.random.default_rng(3).normal(size=(200, 2)), schedule=pf.SubVP()),
        pf.FlowMatching(coupling="optimal-transport", schedule=pf.DiscreteBeta()),
    ],
)
def test_any_teacher_of_a_flow_is_distilled_and_stored(family, tmp_path):
    X = LAW.sample(200, seed=0).numpy()
    teacher = family.set_params(network=SMALL, training=BRIEF, random_state=0, device="cpu").fit(X)
    model = pf.distill(teacher, pf.FlowMap(trajectories=40, training=BRIEF, random_state=0, device="cpu"))
    assert type(model.teacher_) is type(teacher)
    assert hasattr(model, "log_prob") == hasattr(model, "posterior") == teacher.denoiser_.gaussian_source
    model.save(tmp_path / "map")
    loaded = pf.load(tmp_path / "map")
    np.testing.assert_array_equal(loaded.sample(5, steps=1, seed=0), model.sample(5, steps=1, seed=0))
    np.testing.assert_array_equal(loaded.transform(X[:3]), model.transform(X[:3]))
    assert loaded.density_error_ == model.density_error_


@pytest.fixture(scope="module")
def brief_teacher(tmp_path_factory):
    """The folder of a small model of the moons."""
    folder = tmp_path_factory.mktemp("teacher") / "moons"
    pf.FlowMatching(network=SMALL, training=BRIEF, random_state=0, device="cpu").fit("moons", condition=False).save(folder)
    return folder


STUDENT = pf.FlowMap(trajectories=40, training=BRIEF, random_state=1, device="cpu")


def test_a_distilled_run_names_its_teacher_and_resumes_bit_for_bit(brief_teacher, tmp_path, monkeypatch):
    def stop(_, path):
        if path.name == "step-00000004.png":
            raise OSError("disk full")

    whole = pf.distill(brief_teacher, STUDENT, out=tmp_path / "whole")
    known = read_card(tmp_path / "whole")["chosen"]["teacher"]
    assert known == {"run": str(brief_teacher), "weights": read_card(brief_teacher)["weights"]["sha256"]}
    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.plots.save", stop)
        with pytest.raises(OSError, match="disk full"):
            pf.distill(brief_teacher, STUDENT, out=tmp_path / "stopped")
    command = f"pushforward distill {brief_teacher} --out {tmp_path / 'stopped'} --resume"
    with pytest.raises(pf.RunError, match=re.escape(command)):
        pf.load(tmp_path / "stopped")
    with pytest.raises(pf.RunError, match=re.escape(command)):
        pf.train("moons", out=tmp_path / "stopped", resume=True)
    other = pf.load(brief_teacher)
    with torch.no_grad():
        next(other.denoiser_.parameters()).add_(1.0)
    with pytest.raises(ValueError, match="distilled from another teacher"):
        pf.distill(other, out=tmp_path / "stopped", resume=True)
    torch.manual_seed(99)
    resumed = pf.distill(brief_teacher, out=tmp_path / "stopped", resume=True)
    weights = [(one.run_ / "weights.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
    assert resumed.density_error_ == whole.density_error_
    again = pf.distill(brief_teacher, out=tmp_path / "stopped", resume=True)
    np.testing.assert_array_equal(again.sample(3, seed=0), resumed.sample(3, seed=0))


def test_distilling_leaves_the_teacher_and_the_student_as_they_were(brief_teacher):
    teacher = pf.load(brief_teacher)
    before = {name: value.clone() for name, value in teacher.denoiser_.state_dict().items()}
    sample = teacher.sample(3, seed=0)
    pf.distill(teacher, STUDENT)
    assert all(torch.equal(value, before[name]) for name, value in teacher.denoiser_.state_dict().items())
    np.testing.assert_array_equal(teacher.sample(3, seed=0), sample)
    assert STUDENT.teacher is None
    assert not hasattr(STUDENT, "denoiser_")


def test_max_time_sets_trajectories_and_steps(brief_teacher, monkeypatch):
    """A quarter of 100 s at 10 ms each, and what is left of 95 s at 0.1 s per step after these, overhead and four plots."""
    monkeypatch.setattr(MapTraining, "_seconds_per_trajectory", lambda _: 0.01)
    monkeypatch.setattr(MapTraining, "_costs", lambda *_, **__: (0.1, SimpleNamespace(of=lambda _: 4.0)))
    monkeypatch.setattr(MapTraining, "_plot_seconds", lambda *_: 1.0)
    model = pf.FlowMap(max_time=100.0, random_state=0, device="cpu")
    assert model.distilling(pf.load(brief_teacher)).steps == round((95 - 25 - 4 - 4) / 0.1)
    assert model.trajectories_ == 2500


def test_refusals_say_what_to_do(brief_teacher, with_labels):
    flow_map = with_labels[1]
    with pytest.raises(TypeError, match=r"GMM has no flow to distill; a FlowMatching or a Diffusion has"):
        pf.distill(pf.GMM(n_components=2).fit(LAW.sample(50, seed=0).numpy()))
    with pytest.raises(TypeError, match="student must be a FlowMap"):
        pf.distill(brief_teacher, pf.FlowMatching())
    with pytest.raises(ValueError, match="student has a teacher of its own"):
        pf.distill(brief_teacher, pf.FlowMap(teacher=pf.Diffusion()))
    with pytest.raises(ValueError, match="guidance scale of 2 needs a model trained with conditions"):
        pf.distill(brief_teacher, pf.FlowMap(guidance=2.0))
    with pytest.raises(ValueError, match=r"teacher must be a FlowMatching or a Diffusion"):
        pf.FlowMap(teacher=pf.GMM()).fit(LAW.sample(50, seed=0).numpy())
    with pytest.raises(ValueError, match=r"guidance scales from 1 to 3, not 5; distill its teacher with FlowMap\(guidance=5\)"):
        flow_map.sample(2, condition=0, guidance=5.0)
    with pytest.raises(ValueError, match="supports guidance by the condition with one scale only"):
        flow_map.sample(2, condition=0, guidance=pf.Guidance(2.0, negative=1))
    with pytest.raises(ValueError, match="out="):
        pf.distill(brief_teacher, resume=True)
    source = pf.FlowMatching(source=LAW.sample(50, seed=1).numpy(), network=SMALL, training=BRIEF).fit(
        LAW.sample(50, seed=0).numpy()
    )
    with pytest.raises(ValueError, match=r"density of a flow map needs Gaussian noise .*; omit density=True"):
        pf.distill(source, pf.FlowMap(density=True))


@pytest.mark.filterwarnings("default:steps=2 of a sampler")
def test_two_steps_of_a_sampler_say_what_to_do_instead(brief_teacher):
    teacher = pf.load(brief_teacher)
    with pytest.warns(UserWarning, match=r"steps=2 of a sampler is far from its flow; .* pushforward\.distill\(model\)"):
        teacher.sample(2, steps=2, seed=0)


@pytest.mark.filterwarnings("error:steps")
def test_three_steps_or_a_chosen_sampler_need_no_word(brief_teacher):
    teacher = pf.load(brief_teacher)
    teacher.sample(2, steps=3, seed=0)
    teacher.sample(2, steps=2, sampler=pf.DDIM(), seed=0)
