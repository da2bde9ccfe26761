"""Models where scikit-learn's stand: pipelines, searches, frames as output, imputers; pandas and polars."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import multivariate_normal
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KernelDensity
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import pushforward as pf

RNG = np.random.default_rng(0)
X = RNG.multivariate_normal([1.0, -2.0, 0.5], [[1.0, 0.8, 0.0], [0.8, 2.0, 0.3], [0.0, 0.3, 0.5]], size=400)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"], index=range(1000, 1400))
BRIEF = pf.TrainingSettings(steps=3, batch_size=16)
CODERS = [
    pf.PPCA(n_components=2, random_state=0),
    pf.VAE(network=pf.CoderSpec(width=8, depth=1), latent_dim=2, training=BRIEF, random_state=0, device="cpu"),
    pf.NormalizingFlow(network=pf.FlowSpec(width=4, steps=1, bins=4), training=BRIEF, random_state=0, device="cpu"),
    pf.FlowMatching(network=pf.MLPSpec(width=8, depth=1), training=BRIEF, random_state=0, device="cpu"),
]


@pytest.mark.parametrize("coder", CODERS, ids=lambda model: type(model).__name__)
def test_codes_are_frames_with_names_and_the_index_where_they_are_asked_for(coder):
    plain = coder.fit_transform(FRAME)
    assert isinstance(plain, np.ndarray)
    frame = coder.set_output(transform="pandas").fit_transform(FRAME)
    name = type(coder).__name__.lower()
    assert list(frame) == [f"{name}{index}" for index in range(plain.shape[1])] == list(coder.get_feature_names_out())
    assert frame.index.equals(FRAME.index)
    np.testing.assert_array_equal(frame.to_numpy(), plain)
    assert isinstance(coder.set_output(transform="polars").transform(pl.from_pandas(FRAME)), pl.DataFrame)


def test_codes_of_images_have_no_columns_and_stay_arrays():
    images = RNG.integers(0, 17, (30, 4, 4)).astype(np.uint8)
    model = pf.NormalizingFlow(network=pf.FlowSpec(width=4, steps=1, bins=4), training=BRIEF, random_state=0, device="cpu")
    assert model.set_output(transform="pandas").fit_transform(images).shape == (30, 4, 4)
    assert not hasattr(model, "get_feature_names_out")


def test_the_density_of_a_pipeline_is_that_of_scaled_rows_and_a_search_finds_its_arguments():
    pipeline = Pipeline([("scale", StandardScaler()), ("density", pf.GMM(n_components=1, random_state=0, held_out=0.0))]).fit(X)
    scaled = StandardScaler().fit_transform(X)
    truth = multivariate_normal(scaled.mean(0), np.cov(scaled.T, bias=True)).logpdf(scaled[:50])
    np.testing.assert_allclose(pipeline.score_samples(X[:50]), truth, rtol=1e-4)
    two = np.concatenate([X, X + 30])
    search = GridSearchCV(pf.GMM(random_state=0, restarts=1), {"n_components": [1, 2]}, cv=2).fit(two)
    assert search.best_params_ == {"n_components": 2}


def test_it_stands_in_for_a_kernel_density():
    """The same three calls give rows of the same shape and densities that agree where data are plenty."""
    for density in (KernelDensity(bandwidth=0.4), pf.GMM(n_components=1, random_state=0)):
        fitted = density.fit(X)
        assert fitted.score_samples(X[:7]).shape == (7,)
        assert fitted.sample(5).shape == (5, 3)
        assert np.corrcoef(fitted.score_samples(X), multivariate_normal(X.mean(0), np.cov(X.T)).logpdf(X))[0, 1] > 0.8


def test_an_imputer_in_a_pipeline_draws_from_the_conditional_law_and_leaves_what_is_known():
    holed = FRAME.copy()
    holed.loc[holed.index[::2], "b"] = np.nan
    imputer = pf.Imputer(pf.GMM(n_components=1, random_state=0, held_out=0.0)).set_output(transform="pandas")
    filled = imputer.fit(FRAME).transform(holed)
    assert list(filled) == list(FRAME)
    assert filled.index.equals(FRAME.index)
    known = holed.notna()
    assert filled.where(known).equals(holed)
    mean, cov = X.mean(0), np.cov(X.T)  # b given a and c is normal, with the mean of a regression
    slope = np.linalg.solve(cov[np.ix_([0, 2], [0, 2])], cov[[0, 2], 1])
    spread = np.sqrt(cov[1, 1] - slope @ cov[[0, 2], 1])
    standard = (filled["b"][::2] - mean[1] - (FRAME[["a", "c"]][::2] - mean[[0, 2]]) @ slope) / spread
    assert abs(standard.mean()) < 4 / np.sqrt(len(standard))
    assert abs(standard.std() - 1) < 4 / np.sqrt(2 * len(standard))
    assert imputer.transform(holed).equals(filled)
    pipeline = make_pipeline(pf.Imputer(pf.GMM(n_components=1, random_state=0)), StandardScaler(), pf.PPCA(n_components=1))
    assert pipeline.fit(holed).transform(holed).shape == (400, 1)


def test_an_imputer_takes_and_returns_polars_with_categories_and_a_fitted_model():
    rows = pl.DataFrame({"word": RNG.choice(["x", "y"], 60), "size": RNG.normal(size=60)})
    model = pf.Circuit(n_states=2, n_trees=1, shrinkage=1.0, random_state=0).fit(rows)
    holed = rows.with_columns(pl.when(pl.col("size") > 0.5).then(None).otherwise(pl.col("word")).alias("word"))
    filled = pf.Imputer(model, prefit=True).fit(holed).transform(holed)
    assert filled.schema == rows.schema
    assert filled["word"].null_count() == 0
    assert filled.filter(rows["size"] <= 0.5).equals(rows.filter(rows["size"] <= 0.5))


@pytest.mark.parametrize(
    ("imputer", "message"),
    [
        (pf.Imputer(pf.GAN()), "GAN cannot fill gaps; use a family that imputes: .*Circuit"),
        (pf.Imputer(StandardScaler()), "model must be an estimator of pushforward, such as Circuit"),
        (pf.Imputer(pf.GMM(), prefit=True), "model must be a fitted estimator of pushforward"),
    ],
)
def test_what_cannot_impute_is_refused(imputer, message):
    with pytest.raises(TypeError, match=message):
        imputer.fit(X)
