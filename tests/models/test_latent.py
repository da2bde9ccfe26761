"""A prior behind a coder, against Gaussian algebra: with PPCA as coder and a mixture as prior all is known in closed form."""

import json
import math

import numpy as np
import pytest
import torch
from mutations import resign
from safetensors.torch import load_file, save_file
from scipy import stats
from sklearn.base import clone

import pushforward as pf
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.plan import plan
from pushforward.models.files.storage import read_card
from pushforward.models.latent import _composed
from pushforward.models.recipe import assemble, merge, override, recipe_of
from pushforward.probability import GaussianMixture
from pushforward.training import Interrupted

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 600)
PLANE = np.array([[2.0, 0.5, 0.0, 1.0], [0.0, -1.0, 1.5, 0.5]])
CODES = RNG.normal(size=(600, 2)) * [0.4, 1.0] + np.where(LABELS[:, None] == 0, [-2.0, 0.0], [2.0, 1.0])
DATA = CODES @ PLANE + 0.3 * RNG.normal(size=(600, 4)) + [1.0, 2.0, 3.0, 4.0]
BRIEF = pf.TrainingSettings(steps=8, batch_size=32, learning_rate=0.01)


def linear(**options):
    """PPCA with a mixture of two Gaussians as prior."""
    parts = {"coder": pf.PPCA(n_components=2), "prior": pf.GMM(n_components=2, restarts=1)}
    return pf.Latent(**parts | {"random_state": 0} | options)


def brief(**options):
    """Two networks, a few steps each."""
    coder = pf.VAE(latent_dim=2, network=pf.CoderSpec(width=8, depth=1), training=BRIEF, device="cpu")
    prior = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), training=BRIEF, device="cpu")
    return pf.Latent(**{"coder": coder, "prior": prior, "draws": 2, "random_state": 0} | options)


def law_of(model):
    """The exact law of rows of a PPCA coder with a mixture prior, N(m + W mu_k, W S_k W^T + s2) with weights."""
    latent, prior = model.coder_.latent_, model.prior_.joint_
    W, s2 = latent.loadings, latent.noise_variances
    means = latent.coefficients[0] + prior.means @ W.mT
    covs = W @ prior.covs @ W.mT + s2.diag()
    return GaussianMixture(prior.weights, means, covs)


def test_the_bound_closes_on_the_exact_density_of_the_composed_law():
    model = linear().fit(DATA)
    exact = law_of(model).log_prob(torch.from_numpy(DATA[:40])).numpy()
    one = model.log_prob(np.repeat(DATA[:40], 300, axis=0), samples=1).values.reshape(40, 300).mean(1)
    assert (one < exact + 0.02).all()
    assert (exact - one).mean() > 0.02  # the coder's posterior is not that of the mixture prior
    many = model.log_prob(DATA[:40], samples=200)
    assert many.kind == "lower bound"
    assert (many.dims, many.constants, many.nfe) == (4, 0, 201)
    z = (many.values - exact) / many.standard_error
    assert abs(z).max() < 4.5
    assert 0.7 < z.std() < 1.4  # the standard error is neither too small nor too large
    bits = model.log_prob(DATA[:40], samples=200, bits_per_dim=True).values
    np.testing.assert_allclose(bits, -many.values / 4 / math.log(2))


def test_the_gap_of_one_draw_is_the_divergence_of_the_posteriors():
    """Under a Gaussian prior N(m, S) the posterior is N(.) with precision S^-1 + W^T W / s2."""
    model = linear(prior=pf.GMM(n_components=1)).fit(DATA)
    model.prior_._adopt(GaussianMixture([1.0], [[0.5, -0.3]], [[[0.5, 0.1], [0.1, 2.0]]]), torch.tensor([-1]))
    latent, law = model.coder_.latent_, model.prior_.law_
    W, s2, x = latent.loadings, latent.noise_variances, torch.from_numpy(DATA[:5])
    exact = law_of(model).log_prob(x)
    precision = torch.linalg.inv(law.cov) + W.mT @ (W / s2[:, None])
    cov = torch.linalg.inv(precision)
    mean = (((x - latent.coefficients[0]) / s2) @ W + torch.linalg.solve(law.cov, law.mean)) @ cov
    q_cov = torch.linalg.inv(W.mT @ (W / s2[:, None]) + torch.eye(2).double())
    q_mean = ((x - latent.coefficients[0]) / s2) @ W @ q_cov
    shift = mean - q_mean
    inner = torch.trace(precision @ q_cov) - 2 + (shift @ precision * shift).sum(1) + torch.logdet(cov) - torch.logdet(q_cov)
    draws = model.log_prob(np.tile(DATA[:5], (3000, 1)), samples=1).values.reshape(3000, 5)
    error = draws.std(0) / math.sqrt(len(draws))
    assert (abs(draws.mean(0) - (exact - inner / 2).numpy()) < 4 * error).all()


def test_with_the_prior_that_the_coder_assumed_one_draw_is_exact():
    model = linear().fit(DATA)
    model.prior_._adopt(GaussianMixture([1.0], [[0.0, 0.0]], [[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([-1]))
    exact = model.coder_.log_prob(DATA[:30]).values
    found = model.log_prob(DATA[:30], samples=2)
    np.testing.assert_allclose(found.values, exact, atol=1e-10)
    np.testing.assert_allclose(found.standard_error, 0, atol=1e-10)
    np.testing.assert_allclose(model.score_samples(DATA[:30]), exact, atol=1e-10)
    assert model.score(DATA[:30]) == pytest.approx(exact.mean())


def test_samples_have_the_law_of_the_parts():
    model = linear().fit(DATA)
    law, drawn = law_of(model), torch.from_numpy(model.sample(20_000, seed=1))
    np.testing.assert_allclose(drawn.mean(0), law.weights @ law.means, atol=0.08)
    middle = law.weights @ law.means
    cov = torch.einsum("k,kij->ij", law.weights, law.covs) + (law.means - middle).mT * law.weights @ (law.means - middle)
    np.testing.assert_allclose(drawn.mT.cov(), cov, atol=0.25)
    codes = torch.from_numpy(model.transform(DATA))
    direction = law.log_prob(drawn).mean() - law.log_prob(law.sample(20_000, seed=2)).mean()
    assert abs(direction) < 0.04
    np.testing.assert_allclose(model.inverse_transform(codes), model.coder_.inverse_transform(codes))


def test_codes_are_drawn_not_averaged():
    """By maximum likelihood the aggregate posterior has the covariance of the prior that the coder assumed: I."""
    rows = DATA + np.random.default_rng(1).normal(size=DATA.shape)
    model = linear(held_out=0.0, draws=30).fit(rows)
    codes = model._codes(pf.open_data(rows)).values
    assert codes.shape == (30 * 600, 2)
    np.testing.assert_allclose(np.cov(codes.T), np.eye(2), atol=0.03)
    inside = np.cov(codes.T) - np.cov(model.transform(rows).T)
    np.testing.assert_allclose(inside, model.coder_.latent_.posterior_covariance, atol=0.03)
    assert np.trace(inside) > 0.25
    assert model.prior_.data_["rows"] == 30 * 600
    assert linear()._draws(600) == 32
    assert linear()._draws(6000) == 4
    assert linear()._draws(30_000) == 1


def test_the_same_rows_are_held_out_of_both():
    model = linear(held_out=0.25, draws=3)
    dataset = pf.open_data(DATA)
    prepared = model._prepare(dataset)
    model._learn(prepared, model._resolve(prepared))
    own = pf.PPCA(n_components=2, held_out=0.0, random_state=0).fit(DATA[prepared.rows.numpy()])
    np.testing.assert_allclose(model.coder_.latent_.covariance, own.latent_.covariance)
    codes = model._codes(prepared.dataset)
    wanted = {int(row) + 600 * draw for row in prepared.held_out_rows for draw in range(3)}
    assert set(codes.held_out.tolist()) == wanted
    again = model.prior_._prepare(codes)
    assert torch.equal(again.held_out_rows, codes.held_out)
    assert len(again.rows) + len(wanted) == 3 * 600
    assert model.prior_.data_["held_out"] == len(wanted)


def total(model, points, width, **options):
    return float(np.exp(model.log_prob(points, **options).values).sum() * width)


@pytest.mark.parametrize("kind", [pytest.param("real numbers", marks=pytest.mark.full), "integers as intervals"])
def test_probabilities_add_up_to_one(kind):
    rng = np.random.default_rng(1)
    whole = kind != "real numbers"
    rows = rng.integers(0, 6, (300, 1)) if whole else rng.normal(size=(300, 1)) * 3 + 5
    coder = pf.VAE(latent_dim=1, network=pf.CoderSpec(width=8, depth=1), train_steps=60, device="cpu")
    prior = pf.GMM(n_components=2, restarts=1)
    model = pf.Latent(coder, prior, random_state=0).fit(rows)
    model.prior_._adopt(GaussianMixture([0.3, 0.7], [[-0.5], [0.8]], [[[0.3]], [[0.5]]]), torch.tensor([-1, -1]))
    points = np.arange(6)[:, None] if whole else np.linspace(-25, 35, 200)[:, None]
    width = 1.0 if whole else 60 / 199
    found = total(model, points, width, samples=150, draws=1)
    assert found == pytest.approx(1, abs=0.03)
    drawn = model.sample(4000, seed=0).ravel()
    if whole:
        seen = np.bincount(drawn, minlength=6) / 4000
        np.testing.assert_allclose(np.exp(model.log_prob(points, samples=150).values), seen, atol=0.03)
    else:
        density = np.exp(model.log_prob(points, samples=150).values) * width
        assert stats.kstest(drawn, lambda x: np.interp(x, points.ravel() + width / 2, density.cumsum())).statistic < 0.04


def test_integers_of_a_gaussian_coder_are_made_continuous():
    rows = np.random.default_rng(2).integers(0, 9, (300, 3))
    model = linear().fit(rows)
    law, rng = law_of(model), np.random.default_rng(3)
    found = model.log_prob(rows[:20], samples=20, draws=30)
    u = torch.from_numpy(rng.random((1000, 20, 3)))
    exact = law.log_prob((torch.from_numpy(rows[:20]) + u).reshape(-1, 3)).reshape(1000, 20).mean(0)
    assert found.kind == "lower bound"
    assert (abs(found.values - exact.numpy()) < 5 * found.standard_error + 0.01).all()


def test_conditions_go_to_the_prior():
    model = linear(prior=pf.GMM(n_components=1)).fit(DATA, condition=LABELS)
    assert (model.conditional, model.prior_.conditional, model.coder_.conditional) == (True, True, False)
    for label in (0, 1):
        np.testing.assert_allclose(
            model.sample(4000, condition=label, seed=0).mean(0), DATA[label == LABELS].mean(0), atol=0.15
        )
    fits, other = (model.log_prob(DATA[:100], condition=given).values.mean() for given in (LABELS[:100], 1 - LABELS[:100]))
    assert fits > other + 1
    np.testing.assert_array_equal(model.transform(DATA[:5], condition=LABELS[:5]), model.coder_.transform(DATA[:5]))
    with pytest.raises(ValueError, match=r"7 is not a label of the training data"):
        model.transform(DATA[:5], condition=7)


def test_any_coder_and_any_prior():
    """Codes without a law of their own, priors without a density: no density, and rows all the same."""
    images = np.random.default_rng(0).integers(0, 17, (60, 6, 6)).astype(np.uint8)
    coder = pf.Autoencoder(latent_dim=3, network=pf.CoderSpec(width=4, depth=1), training=BRIEF, device="cpu")
    prior = pf.GAN(latent_dim=3, network=pf.GANSpec(width=4, depth=1), training=BRIEF, device="cpu")
    model = pf.Latent(coder, prior, random_state=0).fit(images)
    assert not any(hasattr(model, verb) for verb in ("log_prob", "score_samples", "score"))
    assert model.sample(3, seed=0).shape == (3, 6, 6)
    assert model.prior_.data_["rows"] == 60
    np.testing.assert_array_equal(
        model.inverse_transform(model.transform(images)), model.coder_.inverse_transform(model.coder_.transform(images))
    )
    assert not hasattr(pf.Latent(coder, pf.GMM()), "log_prob")
    assert not hasattr(pf.Latent(pf.VAE(), prior), "log_prob")
    assert hasattr(pf.Latent(), "log_prob")
    flow = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), training=BRIEF, device="cpu")
    noise = pf.Latent(flow, pf.GMM(n_components=1), random_state=0).fit(torch.from_numpy(DATA))
    assert noise.transform(torch.from_numpy(DATA[:3])).shape == (3, 4)
    assert isinstance(noise.sample(2, seed=0), torch.Tensor)


def test_arguments_of_the_parts_as_in_scikit_learn():
    model = brief()
    assert model.get_params()["prior__train_steps"] is None
    assert model.get_params()["coder__latent_dim"] == 2
    model.set_params(prior__train_steps=5, coder__train_steps=4)
    assert (model.prior.train_steps, model.coder.train_steps) == (5, 4)
    twin = clone(model)
    assert twin.prior is not model.prior
    assert twin.get_params()["prior__train_steps"] == 5
    twin.fit(DATA)
    assert (twin.coder_.training_.steps, twin.prior_.training_.steps, twin.training_result_.steps) == (4, 5, 9)
    assert not hasattr(twin.prior, "prior_")
    assert twin.coder.random_state is None
    assert twin.coder_.seed_ != twin.prior_.seed_
    assert brief(coder=model.coder.set_params(random_state=7)).fit(DATA).coder_.seed_ == 7


def test_the_time_is_shared():
    model = brief(max_time=100.0)
    prepared = model._prepare(pf.open_data(DATA))
    model._set_parts(prepared)
    assert (model.coder_.max_time, model.prior_.max_time) == (60.0, 40.0)
    model.set_params(prior=pf.PPCA())._set_parts(prepared)
    assert model.coder_.max_time == 100.0
    model.set_params(coder=pf.VAE(max_time=5.0), prior=pf.FlowMatching())._set_parts(prepared)
    assert (model.coder_.max_time, model.prior_.max_time) == (5.0, 40.0)


def test_the_steps_are_shared():
    def steps(**arguments):
        model = pf.Latent(random_state=0, train_steps=50, **arguments)
        model._set_parts(model._prepare(pf.open_data(DATA)))
        return tuple(getattr(part, "train_steps", None) for part in (model.coder_, model.prior_))

    assert steps() == (30, 20)
    assert steps(prior=pf.GMM()) == (50, None)
    assert steps(coder=pf.VAE(train_steps=5)) == (5, 20)
    assert steps(coder=pf.VAE(training=pf.TrainingSettings(steps=9))) == (None, 20)
    model = pf.Latent(train_steps=5, random_state=0).fit(DATA)
    assert (model.coder_.training_.steps, model.prior_.training_.steps) == (3, 2)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"coder": pf.GAN()}, ValueError, r"coder=GAN\(...\) has no transform: a coder needs transform and inverse_transform"),
        ({"coder": pf.VQVAE()}, ValueError, r"VQVAE\(...\) has integer codes and its own prior.*use VAE\(\)"),
        ({"prior": pf.Autoencoder()}, ValueError, r"prior=Autoencoder\(...\) has no sample: a prior needs sample"),
        ({"prior": "GMM"}, TypeError, r"Latent: prior='GMM' is not allowed: .*instance of GenerativeModel"),
        ({"prior": pf.GMM(n_components=0)}, ValueError, r"GMM: n_components=0 is not allowed"),
        ({"coder": pf.VAE(beta=-1.0)}, ValueError, r"VAE: beta=-1.0 is not allowed"),
        ({"draws": 0}, ValueError, r"Latent: draws=0 is not allowed"),
    ],
)
def test_wrong_parts_are_refused_before_any_training(options, error, message, monkeypatch):
    monkeypatch.setattr("pushforward.training.train", lambda *_, **__: 1 / 0)
    with pytest.raises(error, match=message):
        brief(**options).fit(DATA)


def test_a_run_has_a_run_for_each_part(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("pushforward.models.base.plan.plots.save", lambda _, path: drawn.append(path.relative_to(tmp_path)))
    model = pf.train(DATA, brief(), out=tmp_path / "run", condition=LABELS)
    for name, family in (("coder", pf.VAE), ("prior", pf.FlowMatching)):
        assert (tmp_path / "run" / name / "metrics.jsonl").is_file()
        part = pf.load(tmp_path / "run" / name)
        assert isinstance(part, family)
        np.testing.assert_array_equal(part.sample(3, seed=0), getattr(model, f"{name}_").sample(3, seed=0))
    folders = {str(path.parent) for path in drawn if path.stem.startswith("step-")}
    assert folders == {"run/coder/samples", "run/samples"}  # what the prior makes is shown decoded
    loaded = pf.load(tmp_path / "run")
    np.testing.assert_array_equal(loaded.sample(4, seed=0), model.sample(4, seed=0))
    np.testing.assert_array_equal(*(each.log_prob(DATA[:4], samples=1).values for each in (loaded, model)))
    same = brief().fit(DATA, condition=LABELS)
    np.testing.assert_array_equal(same.sample(4, seed=0), model.sample(4, seed=0))


@pytest.mark.parametrize("part", ["coder", "prior"])
def test_stopped_in_either_part_it_ends_with_the_same_bits(part, tmp_path, monkeypatch):
    settings = pf.TrainingSettings(steps=16, batch_size=32)
    model = brief().set_params(coder__training=settings, prior__training=settings)
    stopped, seen = tmp_path / "stopped", []

    def stop(image, path):
        seen.append(path)
        while_training = stopped / "coder" / "samples" if part == "coder" else stopped / "samples"
        if sum(one.parent == while_training for one in seen) == 2:
            raise Interrupted(8, 16, stopped)

    monkeypatch.setattr("pushforward.models.base.model.GenerativeModel._plot", lambda *_: None)
    monkeypatch.setattr("pushforward.models.base.plan.plots.save", stop)
    whole = pf.train(DATA, clone(model), out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        pf.train(DATA, model, out=stopped)
    assert read_card(stopped)["status"] == "training"
    assert read_card(stopped / "coder")["status"] == ("training" if part == "coder" else "finished")
    assert (stopped / "prior").exists() == (part == "prior")
    with pytest.raises(ValueError, match=r"an unfinished run"):
        pf.load(stopped)
    resumed = pf.train(DATA, out=stopped, resume=True)
    for name in (".", "coder", "prior"):
        files = [folder / name / "weights.safetensors" for folder in (tmp_path / "whole", stopped)]
        assert files[0].read_bytes() == files[1].read_bytes()
    for again in (resumed, pf.load(stopped)):
        np.testing.assert_array_equal(again.sample(4, seed=0), whole.sample(4, seed=0))


class Plain(torch.nn.Module):
    """A network of one's own."""

    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, x, t, condition=None):
        return self.linear(x)


def test_a_network_of_ones_own_inside_a_part(tmp_path, monkeypatch):
    model = brief().set_params(prior__network=Plain())
    fitted = model.fit(DATA)
    fitted.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "model.json").read_text())["params"]["prior"]["network"] == {"part": "Plain"}
    with pytest.raises(ValueError, match=r"your own Plain as its prior__network"):
        pf.load(tmp_path / "saved")
    loaded = pf.load(tmp_path / "saved", parts={"prior__network": Plain()})
    np.testing.assert_array_equal(loaded.sample(3, seed=0), fitted.sample(3, seed=0))


def test_recipes_reach_into_the_parts():
    data = pf.open_data(DATA)
    model = assemble(
        {"model": "latent", "coder": {"latent_dim": 3, "network": {"width": 16}}, "prior": {"network": {"width": 24}}}, data
    )
    assert (model.coder.latent_dim, model.coder.network) == (3, pf.CoderSpec(width=16, depth=2))
    assert isinstance(model.prior, pf.FlowMatching)
    assert model.prior.network.width == 24
    other = assemble(
        {"model": "latent", "coder": "PPCA", "prior": {"name": "Diffusion", "schedule": "Cosine", "training": {"steps": 7}}},
        data,
    )
    assert isinstance(other.coder, pf.PPCA)
    assert (other.prior.schedule, other.prior.training.steps, other.prior.training.batch_size) == (pf.Cosine(), 7, 256)
    changed = merge(override("prior=gmm"), override("prior.n_components=3"))
    third = assemble({"model": "latent", "coder": None} | changed, data)
    assert (third.coder, third.prior.n_components) == (None, 3)
    for recipe, message in (
        ({"prior": {"train_stps": 5}}, r"FlowMatching has no argument 'train_stps'.*Did you mean 'train_steps'"),
        ({"coder": {"name": "VEA"}}, r"there is no model 'VEA'; use one of .*vae"),
        ({"prior": 3}, r"there is no model '3'"),
        ({"prior": {"train_steps": 0}}, r"FlowMatching: train_steps=0 is not allowed"),
    ):
        with pytest.raises(ValueError, match=message):
            assemble({"model": "latent"} | recipe, data)


def test_the_recipe_of_a_planned_run_names_everything():
    data = pf.open_data(DATA)
    planned = plan(data, brief())
    recipe = json.loads(json.dumps(recipe_of(planned.model)))
    assert recipe["prior"]["training"]["steps"] == 8
    assert recipe["coder"]["random_state"] == planned.model.coder_.seed_
    again = plan(data, assemble(recipe, data))
    assert recipe_of(again.model) == recipe_of(planned.model)
    assert again.parameters == planned.parameters > 100
    assert plan(data, linear()).parameters is None


def test_errors_of_prior_and_draws_come_together():
    """Against draws: log 1/K sum exp(a_k + e_k) with e_k of the stated errors, and the draws' own scatter."""
    rng = np.random.default_rng(0)
    ratios, errors = torch.from_numpy(rng.normal(size=(4, 3))), rng.uniform(0.01, 0.05, size=(4, 3))
    zeros = np.zeros(3)
    priors = [LogProb(zeros, "estimate", error, error, zeros, nfe=5, dims=2) for error in errors]
    found = _composed(ratios, priors, dims=7)
    weights = np.exp(ratios.numpy())
    weights /= weights.sum(0)
    own = np.std(weights * 4, axis=0, ddof=1) / 2
    noisy = np.log(np.exp(ratios.numpy() + errors * rng.normal(size=(50_000, 4, 3))).mean(1)).std(0)
    np.testing.assert_allclose(found.standard_error, np.hypot(own, noisy), rtol=5e-3)
    np.testing.assert_allclose(np.sqrt(found.standard_error**2 - own**2), noisy, rtol=0.05)
    np.testing.assert_allclose(found.numerical_error, (weights * errors).sum(0))
    assert (found.kind, found.nfe, found.dims) == ("estimate", 25, 7)
    assert _composed(ratios[:1], priors[:1], dims=7).kind == "lower bound"


@pytest.mark.parametrize("part", ["", "coder."])
def test_a_model_that_scales_other_elements_than_its_coder_is_refused(part, tmp_path):
    brief().fit(DATA).save(tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    tensors[f"{part}transform.constant"][0] = True
    save_file(tensors, tmp_path / "weights.safetensors")
    resign(tmp_path / "weights.safetensors")
    with pytest.raises(pf.RunError, match=r"weights.safetensors|coder"):
        pf.load(tmp_path)


def test_a_distilled_prior_draws_in_few_calls_and_resumes(tmp_path, monkeypatch):
    X = np.random.default_rng(0).normal(size=(80, 5))
    brief = pf.TrainingSettings(steps=8, batch_size=16, checkpoint_every=4)
    prior = pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), training=brief, device="cpu")
    teacher = pf.Latent(pf.PPCA(n_components=2), prior, draws=1, random_state=0).fit(X)
    student = pf.FlowMap(trajectories=40, training=brief, random_state=1, device="cpu")

    def stop(_, path):
        if path.name == "step-00000004.png":
            raise OSError("disk full")

    whole = pf.distill(teacher, student, out=tmp_path / "whole")
    assert type(whole.prior_) is pf.FlowMap
    np.testing.assert_array_equal(whole.transform(X), teacher.transform(X))
    assert hasattr(whole, "log_prob")
    with monkeypatch.context() as patch:
        patch.setattr("pushforward.models.base.plan.plots.save", stop)
        with pytest.raises(OSError, match="disk full"):
            pf.distill(teacher, student, out=tmp_path / "stopped")
    resumed = pf.distill(teacher, out=tmp_path / "stopped", resume=True)
    weights = [(one.run_ / "weights.safetensors").read_bytes() for one in (whole, resumed)]
    assert weights[0] == weights[1]
    np.testing.assert_array_equal(pf.load(whole.run_).sample(4, seed=0), whole.sample(4, seed=0))
