"""GMM against scikit-learn, exact conditional mixtures, and the command line."""

import contextlib
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from command_line import call
from sklearn.mixture import GaussianMixture as Peer

import pushforward as pf
from pushforward.probability import GaussianMixture


def _data(n=600):
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0, 0], [5, 0, 1], [0, 5, -1]])
    return centers[np.arange(n) % 3] + rng.normal(size=(n, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.3], [0, 0, 1]])


def _law(X):
    return GaussianMixture([0.2, 0.3, 0.5], X[:3], np.tile(np.cov(X.T), (3, 1, 1)))


def _exact(X, **settings):
    return pf.GMM(held_out=0, min_variance=1e-6, random_state=0, **settings).fit(X)


@pytest.mark.parametrize("covariance", ["full", "diag", "tied", "spherical"])
def test_same_optimum_as_scikit_learn(covariance):
    X = _data()
    law = _law(X)
    precision = np.linalg.inv(np.cov(X.T))
    inits = {
        "full": np.tile(precision, (3, 1, 1)),
        "tied": precision,
        "diag": np.tile(1 / np.cov(X.T).diagonal(), (3, 1)),
        "spherical": np.full(3, 1 / np.cov(X.T).diagonal().mean()),
    }
    peer = Peer(3, covariance_type=covariance, tol=1e-13, max_iter=2000, weights_init=[0.2, 0.3, 0.5], means_init=X[:3])
    peer.set_params(precisions_init=inits[covariance]).fit(X)
    model = _exact(X, covariance=covariance, start=law, tolerance=1e-13, max_iterations=2000)
    np.testing.assert_allclose(model.score_samples(X), peer.score_samples(X), atol=2e-5)  # its reg_covar is 1e-6
    assert model.score(X) == pytest.approx(peer.score(X), abs=1e-6)
    np.testing.assert_allclose(model.responsibilities(X), peer.predict_proba(X), atol=2e-5)
    assert model.n_components_ == 3


def test_law_is_what_is_sampled_and_scored():
    X = _data()
    model = _exact(X, n_components=3)
    np.testing.assert_allclose(model.score_samples(X), model.law_.log_prob(torch.from_numpy(X)), atol=1e-12)
    rows = np.asarray(model.sample(20000, seed=0, batch_size=20000))
    np.testing.assert_allclose(rows.mean(0), model.law_.mean, atol=0.1)
    np.testing.assert_allclose(np.cov(rows.T), model.law_.covariance, atol=0.25)
    assert model.log_prob(X).nfe == 0


def test_defaults_find_the_eight_gaussians():
    model = pf.GMM(random_state=0).fit("eight-gaussians", condition=False)
    assert model.n_components_ == 8
    assert model.covariance_ == "full"
    np.testing.assert_allclose(model.law_.weights, 1 / 8, atol=0.02)
    without = pf.GMM(random_state=0, held_out=0).fit("eight-gaussians", condition=False)
    assert without.n_components_ == 8  # by the Bayesian information criterion
    assert without.training_result_.held_out_loss is None


def test_restarts_keep_the_best():
    X = _data(120)
    bounds = [_exact(X, n_components=12, covariance="diag", restarts=r).score(X) for r in (1, 10)]
    assert bounds[1] > bounds[0]


class Timed(pf.GMM):
    """Its clock goes on by 2 seconds for a start and half a second for an iteration, and by nothing else."""

    def _fit(self, *given, restarts, iterations, **shown):
        self.clock_ += restarts * (2 + 0.5 * iterations)
        return super()._fit(*given, restarts=1, iterations=2)


@pytest.mark.parametrize(("seconds", "restarts", "iterations"), [(100, 3, 57), (40, 1, 62), (1, 1, 1), (1e9, 3, 200)])
def test_the_time_decides_on_restarts_and_iterations(monkeypatch, seconds, restarts, iterations):
    """By hand: of 100 s two fits of 1 and 4 iterations take 6.5; a start with one iteration is counted as 2.5."""
    model = Timed(n_components=2, min_variance=0.01, max_time=seconds, random_state=0)
    model.clock_ = 0.0
    monkeypatch.setattr("pushforward.models.gaussian.gmm.time.perf_counter", lambda: model.clock_)
    model.fit(_data(60))
    assert (model.restarts_, model.max_iterations_) == (restarts, iterations)


def test_trials_end_with_their_share_of_the_time(monkeypatch):
    model = Timed(max_time=300.0, max_iterations=36, random_state=0)
    model.clock_ = 0.0
    tried, best = [], model._best

    def look(*given, **options):
        found = best(*given, **options)
        tried.append(model.clock_)
        return found

    model._best = look
    monkeypatch.setattr("pushforward.models.gaussian.gmm.time.perf_counter", lambda: model.clock_)
    model.fit("eight-gaussians", condition=False)
    assert tried == [120.0]  # six fits of 20 s; without a limit it would take more
    assert model.n_components_ <= 2


class Watched(pf.GMM):
    """Keeps what would be shown."""

    def _progress(self, steps):
        self.shown = [*getattr(self, "shown", []), (steps, [])]
        return contextlib.nullcontext(lambda done, bound: self.shown[-1][1].append((done, bound)))


def test_progress_counts_trials_and_then_the_iterations_of_all_starts():
    x = _data(120)
    limits = {"n_components": 2, "restarts": 3, "max_iterations": 4, "tolerance": 0.0, "held_out": 0, "random_state": 0}
    model = Watched(min_variance=1e-6, **limits).fit(x)
    ((steps, climbed),) = model.shown  # nothing was left to try
    assert steps == 12
    assert [done for done, _ in climbed] == list(range(1, 13))
    bounds = [bound for _, bound in climbed]
    assert max(bounds[3::4]) == pytest.approx(float(model.law_.log_prob(torch.as_tensor(x)).mean()), rel=1e-9)
    model = Watched(**limits | {"n_components": None, "held_out": 0.2}).fit(x, condition=["a", "b"] * 60)
    (trials, tried), (steps, climbed) = model.shown
    assert trials == 21
    assert [done for done, _ in tried] == list(range(1, len(tried) + 1))
    assert (np.diff([best for _, best in tried]) >= 0).all()
    assert steps == 2 * 3 * 4
    assert 12 < climbed[-1][0] <= 24  # the last start of the second label


def test_verbose_shows_progress(capsys):
    x = np.random.default_rng(0).normal(size=(60, 2))
    pf.GMM(n_components=2, min_variance=1e-6, restarts=1, random_state=0, verbose=True).fit(x)
    assert re.search(r"step 1 of 200 · loss \d", capsys.readouterr().out)
    pf.GMM(n_components=2, min_variance=1e-6, restarts=1, random_state=0).fit(x)
    assert capsys.readouterr().out == ""
    x[::3, 0] = np.nan
    pf.PPCA(n_components=1, verbose=True, random_state=0).fit(x)
    assert "step 1 of 1,000 · loss" in capsys.readouterr().out


def test_what_a_time_decided_is_in_the_recipe():
    X = _data(200)
    model = pf.GMM(n_components=3, min_variance=0.01, max_time=5.0, random_state=0).fit(X)
    recipe = model._resolved()
    assert recipe["max_time"] is None
    twin = pf.GMM(**recipe).fit(X)
    np.testing.assert_array_equal(twin.law_.means, model.law_.means)


def test_gaps_are_learned_from():
    X = _data(1500)
    hidden = np.random.default_rng(1).random(X.shape) < 0.3
    seen = np.where(hidden, np.nan, X)
    whole, model = _exact(X, n_components=3), _exact(seen, n_components=3)
    assert model.score(X) > whole.score(X) - 0.05
    draws = np.mean(model.impute(seen, n=20, seed=0), axis=0)
    error, by_mean = (np.sqrt(((guess - X)[hidden] ** 2).mean()) for guess in (draws, np.nanmean(seen, 0)[None] + 0 * X))
    assert error < 0.9 * by_mean


def test_filling_follows_the_conditional_mixture():
    X = _data()
    model = _exact(X, n_components=3)
    row = np.array([[2.5, np.nan, 0.5]])
    filled = model.impute(np.repeat(row, 5000, 0), seed=0)[:, 1]
    law = model.law_.condition([0, 2], [2.5, 0.5])
    assert filled.mean() == pytest.approx(law.mean.item(), abs=5 * math.sqrt(law.covariance.item() / 5000))
    assert filled.var() == pytest.approx(law.covariance.item(), rel=0.1)


def test_posterior_is_that_of_the_law():
    X = _data()
    model = _exact(X, n_components=3)
    law = model.law_.observe([[1.0, 1.0, 0.0]], [4.0], 0.5)
    rows = np.asarray(model.posterior([[1.0, 1.0, 0.0]], [4.0], 0.5, n=5000, seed=0))
    np.testing.assert_allclose(rows.mean(0), law.mean, atol=5 * float(law.covariance.max() / 5000) ** 0.5)
    np.testing.assert_allclose(np.cov(rows.T), law.covariance, atol=0.1 * float(law.covariance.max()))


def test_labels_get_a_mixture_each_and_the_marginal_is_exact():
    X, label = _data(), np.array(["a", "b", "c"] * 200)
    model = pf.GMM(n_components=2, min_variance=1e-6, held_out=0, random_state=0).fit(X, condition=label)
    parts = []
    for name in "abc":
        alone = _exact(X[label == name], n_components=2)
        assert model.score(X[label == name], condition=name) > alone.score(X[label == name]) - 0.05
        parts.append(model.score_samples(X, condition=name) - math.log(3))
    np.testing.assert_allclose(model.score_samples(X), np.logaddexp.reduce(parts), atol=1e-10)
    assert np.abs(np.asarray(model.sample(2000, condition="b", seed=0)).mean(0) - X[label == "b"].mean(0)).max() < 0.2
    r = model.responsibilities(X[:1], condition="b")[0]
    assert r[(model.owner_ != 1).numpy()].sum() == 0
    law = model.posterior([[1.0, 0, 0]], [4.0], 1.0, condition="b", n=2000, seed=0)
    own = model.owner_ == 1
    wanted = GaussianMixture(model.law_.weights[own] * 3, model.law_.means[own], model.law_.covs[own])
    np.testing.assert_allclose(np.mean(law, 0), wanted.observe([[1.0, 0, 0]], [4.0], 1.0).mean, atol=0.15)


def test_without_a_label_each_counts_by_its_share():
    X, label = _data(), np.array([0] * 450 + [1] * 150)
    model = pf.GMM(n_components=1, min_variance=1e-6, held_out=0, random_state=0).fit(X, condition=label)
    assert model.law_.weights.tolist() == [0.75, 0.25]
    joint = [model.score_samples(X, condition=k) + math.log(w) for k, w in ((0, 0.75), (1, 0.25))]
    np.testing.assert_allclose(model.score_samples(X), np.logaddexp(*joint), atol=1e-10)
    assert model.training_result_.parameters == 1 + 2 * 9


def test_rows_without_a_label_belong_to_none():
    X, label = _data(), np.array(["a", "b", None] * 200, dtype=object)
    model = pf.GMM(n_components=1, min_variance=1e-6, held_out=0, random_state=0).fit(X, condition=label)
    assert model.owner_.tolist() == [2, 0, 1]
    np.testing.assert_allclose(model.sample(500, condition="a", seed=0).mean(0), X[label == "a"].mean(0), atol=0.3)
    np.testing.assert_allclose(model.law_.mean, X.mean(0), atol=1e-9)


def test_a_label_that_only_held_out_rows_have_gets_the_law_of_all():
    X = _data(30)
    label = np.array([0] * 29 + [1])
    for seed in range(40):
        model = pf.GMM(n_components=1, min_variance=0.01, random_state=seed).fit(X, condition=label)
        if 1 not in model.owner_:
            break
    assert np.isfinite(model.score_samples(X, condition=1)).all()
    np.testing.assert_allclose(model.score_samples(X, condition=1), model.score_samples(X))


def test_numbers_condition_a_joint_mixture_exactly():
    rng = np.random.default_rng(3)
    c = rng.normal(size=(600, 1)) * 10 + 3
    X = _data() + 0.2 * c * np.array([1.0, 0, -1])
    model = pf.GMM(n_components=3, min_variance=1e-6, held_out=0, random_state=0).fit(X, condition=c)
    z = torch.from_numpy((c[0] - c.mean()) / c.std())
    law = model.joint_.condition([3], z)
    np.testing.assert_allclose(model.score_samples(X, condition=c[0]), law.log_prob(torch.from_numpy(X)), atol=1e-6)
    np.testing.assert_allclose(model.score_samples(X), model.law_.log_prob(torch.from_numpy(X)), atol=1e-10)
    np.testing.assert_allclose(model.sample(4000, condition=c[0], seed=0).mean(0), law.mean, atol=0.2)
    rows = np.asarray(model.posterior([[1.0, 0, 0]], [4.0], 1.0, condition=c[0], n=4000, seed=0))
    np.testing.assert_allclose(rows.mean(0), law.observe([[1.0, 0, 0]], [4.0], 1.0).mean, atol=0.2)


def test_batches_come_close():
    X = _data(6000)
    whole = _exact(X, n_components=3)
    model = _exact(X, n_components=3, batch_size=500, max_iterations=8)
    assert model.score(X) > whole.score(X) - 5e-3


def test_least_variance_holds_in_any_unit():
    X = _data() * np.array([1.0, 1e4, 1e-4])
    model = pf.GMM(n_components=20, min_variance=0.05, held_out=0, restarts=1, random_state=0).fit(X)
    scale = torch.from_numpy(X.std(0))
    assert torch.linalg.eigvalsh(model.law_.covs / scale / scale[:, None]).min() > 0.05 * (1 - 1e-6)


def test_errors_say_what_to_do():
    X = _data(60)
    with pytest.raises(ValueError, match=r"start has 2 dimensions, but rows have 3 elements"):
        pf.GMM(start=GaussianMixture([1.0], [[0.0, 0.0]], [1.0])).fit(X)
    with pytest.raises(ValueError, match=r"n_components=2, but start has 3 components; omit n_components"):
        pf.GMM(start=_law(X), n_components=2).fit(X)
    with pytest.raises(ValueError, match=r"each label has its own mixture; omit it"):
        pf.GMM(start=_law(X)).fit(X, condition=np.arange(60) % 2)


def test_command_line_trains_scores_fills_and_samples(tmp_path):
    frame = pd.DataFrame(_data(), columns=["a", "b", "c"])
    frame.loc[::4, "b"] = np.nan
    frame.to_csv(tmp_path / "table.csv", index=False)

    def said(*words, code=0):
        answer = call(*words, at=tmp_path)
        assert answer.code == code, answer
        return answer.out + answer.err

    assert "Finished" in said("train", "table.csv", "--model", "gmm", "--set", "n_components=3", "--seed", "0", "--out", "run")
    assert "finished: there is nothing to resume" in said("train", "table.csv", "--out", "run", "--resume")
    assert "GMM" in said("inspect", "run")
    assert "log p" in said("score", "run", "table.csv")
    said("sample", "run", "-n", "10", "--seed", "0", "--out", "new.csv")
    assert len(pd.read_csv(tmp_path / "new.csv")) == 10
    assert "150 gaps filled" in said("impute", "run", "table.csv", "--seed", "0", "--out", "full.csv")
    filled = pd.read_csv(tmp_path / "full.csv")
    assert not filled.isna().any().any()
    model = pf.load(tmp_path / "run")
    np.testing.assert_allclose(filled["b"], model.impute(frame, seed=0)["b"], rtol=1e-6)
    assert "--steps is no option of GMM" in said("impute", "run", "table.csv", "--steps", "5", code=2)
    assert "n_components: 3" in said("train", "table.csv", "--model", "gmm", "--set", "n_components=3", "--dry-run")
