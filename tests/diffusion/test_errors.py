"""What is said of bad input: what is wrong, why, and what to write instead, before any work.

The errors of single modules are tested beside them; here are those that users meet first, and those that no other test reads.
"""

import inspect
import re

import numpy as np
import pytest
import torch
from torch import nn

import pushforward as pf
from pushforward import diffusion
from pushforward._fields import CheckedFields
from pushforward.diffusion import ExactDenoiser, LinearBeta, widen
from pushforward.diffusion.prediction import coefficients
from pushforward.probability import Gaussian, GaussianMixture

LAW = GaussianMixture([0.5, 0.5], [[-1.0, 0.0], [1.0, 0.5]], [0.2, 0.3])
EXACT = ExactDenoiser(LAW, LinearBeta())
NOISE = torch.zeros(3, 2, dtype=torch.float64)
NAN = float("nan")


class Elsewhere(ExactDenoiser):
    """A denoiser that says its source was not Gaussian noise."""

    gaussian_source = False


OTHER = Elsewhere(LAW, LinearBeta())


def run(sampler=None, denoiser=EXACT, noise=NOISE, **options):
    options = {"steps": 4} | options
    return (sampler or diffusion.DPMSolver()).run(denoiser, noise, **{k: v for k, v in options.items() if v is not None})


def integrate(times, sampler=None):
    return (sampler or diffusion.Euler()).integrate(EXACT, NOISE, times)


def observe(A=((1.0, 1.0),), y=(0.5,), noise=0.1, **options):
    return diffusion.observe(diffusion.Matrix(torch.tensor(A)), y, noise, (2,), **options)


def solve(method, observation=None, denoiser=EXACT):
    return method.run(denoiser, observation or observe(), NOISE, steps=4, seed=0)


def fit(steps=3, denoiser=EXACT, **options):
    return diffusion.calibrate(denoiser, torch.zeros(8, 2), steps=steps, iterations=1, **options)


class Broken(diffusion.AbstractDenoiser):
    """A denoiser that has gone to NaN."""

    schedule = LinearBeta()

    def forward(self, x_t, t, condition=None):
        return x_t * NAN


ROOM = {
    # Steps and times.
    "no steps": (lambda: run(steps=0), "steps must be at least 1, got 0"),
    "negative steps": (lambda: run(steps=-3), "steps must be at least 1, got -3"),
    "half steps": (lambda: run(steps=2.5), "steps must be an integer, got 2.5"),
    "true steps": (lambda: run(steps=True), "steps must be an integer, got True"),
    "neither": (lambda: run(steps=None), "give either steps=<number of steps> or times=<grid from 1 to 0>, and not both"),
    "both": (lambda: run(times=[1.0, 0.0]), "give either steps=<number of steps> or times="),
    "times that rise": (lambda: run(steps=None, times=[1.0, 0.4, 0.6, 0.0]), "the times must fall strictly"),
    "times that stay": (lambda: integrate([0.5, 0.5, 0.1]), "but they are [0.5, 0.5, 0.1]"),
    "times that start late": (
        lambda: run(steps=None, times=[0.9, 0.0]),
        "start at 1 (noise) and end at 0 (data); use integrate()",
    ),
    "times that end early": (
        lambda: run(steps=None, times=[1.0, 0.2]),
        "start at 1 (noise) and end at 0 (data); use integrate()",
    ),
    "one time": (lambda: integrate([0.5]), "a sampler needs at least two times, from and to; got [0.5]"),
    "times above 1": (lambda: integrate([1.2, 0.5]), "and 1, apart from a final 0; got [1.2, 0.5]"),
    "times below 0": (lambda: integrate([0.5, -0.1]), "the times must lie between t_min="),
    "backwards with noise": (
        lambda: integrate([0.2, 0.5], diffusion.DDPM()),
        "only runs from noise to data; rising times need a deterministic sampler",
    ),
    "more steps than a chain": (
        lambda: diffusion.ChainGrid(10)(LinearBeta(), 11),
        "a chain of 10 steps has no sub-sequence of 11; use at most 10 steps",
    ),
    "a chain of nothing": (lambda: diffusion.ChainGrid(0), "the length of a ChainGrid must be at least 1, got 0"),
    # Shapes.
    "conditions for others": (
        lambda: run(condition=torch.zeros(2, 3)),
        "there are 3 rows to sample but 2 conditions; give one condition per row",
    ),
    "rows of another length": (lambda: run(noise=torch.zeros(3, 5)), "x has 5 columns, but the law lives in 2 dimensions"),
    "times for others": (lambda: widen(torch.zeros(2), NOISE), "x has 3 rows, t the shape (2,)"),
    "a matrix for others": (
        lambda: diffusion.Matrix(torch.ones(1, 3))(NOISE),
        "so measures rows of 3 elements, but the rows have 2, the shape (2,)",
    ),
    "a mask for others": (
        lambda: diffusion.Mask(np.array([True, False, True]))(NOISE),
        "the mask has the shape (3,), but the rows have (2,)",
    ),
    # Conditions and sources.
    "a law with a condition": (
        lambda: EXACT(NOISE, torch.tensor(0.5), NOISE),
        "this denoiser belongs to one law, which has no condition; call it without a condition",
    ),
    "guidance without a condition": (
        lambda: run(denoiser=diffusion.Guided(EXACT, 2.0)),
        "guidance needs a condition to guide towards: pass condition=..., or use the denoiser without Guided",
    ),
    "noise on another source": (
        lambda: run(diffusion.DDPM(), OTHER, seed=0),
        "source is not independent Gaussian noise, so its reverse process is different; use a deterministic sampler such as",
    ),
    "a posterior from another source": (
        lambda: solve(diffusion.MMPS(), denoiser=OTHER),
        "needs a score, but this model's source is not independent Gaussian noise; train one with Gaussian noise, FlowMatching()",
    ),
    # Measurements.
    "NaN in A": (lambda: observe(A=((1.0, NAN),)), "A must be finite, but entry (0, 1) is nan"),
    "NaN in y": (lambda: observe(y=(NAN,)), "y must be finite, but entry 0 is nan"),
    "NaN in b": (lambda: observe(b=(NAN,)), "b must be finite, but entry 0 is nan"),
    "NaN in noise": (lambda: observe(noise=NAN), "noise must be finite, but entry 0 is nan"),
    "negative noise": (lambda: observe(noise=-0.1), "noise is a standard deviation and at least 0, but entry 0 is -0.1"),
    "two noises for one": (
        lambda: observe(noise=(0.1, 0.2)),
        "noise must be one standard deviation or 1 of them, but has the shape (2,)",
    ),
    "y of another length": (lambda: observe(y=(0.5, 0.5)), "y has the shape (2,), 2 entries, but A measures (1,) of a row"),
    "b of another length": (lambda: observe(b=(0.5, 0.5)), "b has 2 entries, but y has 1"),
    "a law of noise elsewhere": (
        lambda: observe(noise=Gaussian([0.0, 0.0], 1.0)),
        "noise lives in 2 dimensions, but y has 1 entries",
    ),
    "many measurements at once": (
        lambda: solve(diffusion.Exact(), diffusion.Observation(diffusion.Matrix(torch.eye(2)), NOISE, torch.ones(2))),
        "method Exact() takes one measurement, got 3; run it once for each",
    ),
    # Calibration.
    "one step to calibrate": (lambda: fit(1), "needs at least 2 steps; one step is the denoiser itself and has nothing to fit"),
    "no batch": (lambda: fit(batch_size=0), "batch_size must be at least 1, got 0"),
    "calibration against noise": (
        lambda: fit(default=diffusion.DDPM()),
        "cannot be compared; compare with a deterministic sampler such as DPMSolver(), or with the default",
    ),
    "a broken denoiser": (lambda: fit(denoiser=Broken()), "the denoiser returns NaN or infinity between noise and data"),
    # Names.
    "a prediction": (
        lambda: coefficients("epsilon", LinearBeta(), torch.tensor(0.5)),
        "unknown prediction 'epsilon'; choose one of 'edm', 'denoised', 'eps', 'v', 'velocity', 'score'",
    ),
}


@pytest.mark.parametrize("name", ROOM)
def test_what_the_diffusion_room_says(name):
    wrong, said = ROOM[name]
    with pytest.raises((ValueError, TypeError)) as error:
        wrong()
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kept": (1.0, NAN, 0.0)}, "kept and weights must hold finite numbers, got "),
        ({"weights": ((1.0,), (1.0, NAN), (1.0, 1.0, 1.0))}, "kept and weights must hold finite numbers, got "),
        (
            {"kept": (1.0, 0.0)},
            r"2 levels make 3 steps, so kept must hold 3 numbers .* 1 to 3 of them, but kept holds 2 and .* \[1, 2, 3\]",
        ),
        ({"weights": ((1.0,), (1.0, 1.0))}, r"but kept holds 3 and the rows hold \[1, 2\]"),
        ({"levels": (1.0, 1.0)}, r"levels of a LevelGrid must be positive and fall strictly, but they are \[1.0, 1.0\]"),
        ({"levels": (1.0, 0.0)}, "must be positive and fall strictly"),
    ],
)
def test_a_calibrated_table_holds_numbers_that_go_together(changes, said):
    table = {"levels": (3.0, 0.5), "kept": (1.0, 1.0, 0.0), "weights": ((1.0,), (1.0, 1.0), (1.0, 1.0, 1.0))}
    diffusion.CalibratedSampler(**table)
    with pytest.raises(ValueError, match=said):
        diffusion.CalibratedSampler(**(table | changes))


TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 1, "random_state": 0, "device": "cpu"}


@pytest.fixture(scope="module")
def models():
    """Tiny models: with labels, without, and one that starts from rows of its own."""
    X = np.random.default_rng(0).normal(size=(60, 2))
    labels = ["cat", "dog"] * 30
    return {
        "labels": pf.Diffusion(**TINY).fit(X, condition=labels),
        "always": pf.Diffusion(**TINY, condition_dropout=0.0).fit(X, condition=labels),
        "plain": pf.FlowMatching(**TINY).fit(X),
        "own": pf.FlowMatching(**TINY, source=np.random.default_rng(1).normal(size=(60, 2))).fit(X),
    }


ONE = {"A": [[1.0, 0.0]], "y": [0.5], "noise": 0.1, "seed": 0, "steps": 2}
VERBS = [
    ("plain", "sample", {"steps": 0}, "steps must be at least 1, got 0"),
    ("plain", "sample", {"n": 0}, "n must be at least 1, got 0"),
    ("plain", "sample", {"n": 2.5}, "n must be an integer, got 2.5"),
    ("plain", "sample", {"first": -1}, "first must be at least 0, got -1"),
    ("plain", "sample", {"batch_size": 0}, "batch_size must be at least 1, got 0"),
    (
        "plain",
        "sample",
        {"condition": "cat"},
        "this model was trained without conditions; omit condition, or train",
    ),
    ("plain", "sample", {"guidance": 2.0}, "needs a model trained with conditions, but this one has none; omit guidance"),
    (
        "plain",
        "sample",
        {"source": [[0.0, 0.0]]},
        "starts from Gaussian noise, set by `seed`; source=... is for models with",
    ),
    ("own", "sample", {"n": 2, "source": [[0.0, 0.0]]}, "source has 1 rows to start from, but n=2; pass n=1"),
    ("own", "sample", {"sampler": pf.DDPM(), "seed": 0}, "use a deterministic sampler such as DPMSolver()"),
    ("labels", "sample", {"condition": "cow"}, "'cow' is not a label of the training data ('cat', 'dog')"),
    (
        "labels",
        "sample",
        {"n": 3, "condition": ["cat", "dog"]},
        "condition has 2 labels for 3 rows; pass one label, or one per",
    ),
    ("labels", "score_samples", {"X": [[0.0, 0.0, 0.0]]}, "X has 3 features, but Diffusion is expecting 2 features"),
    ("always", "log_prob", {"X": [[0.0, 0.0]]}, "has no law without one; pass condition=..., or train with condition_dropout"),
    ("plain", "log_prob", {"X": [[0.0, 0.0]], "steps": 1}, "steps must be at least 2, got 1"),
    ("plain", "log_prob", {"X": [[0.0, NAN]]}, "X contains 1 NaN, the first at row 0, column 1"),
    ("plain", "posterior", ONE | {"y": [NAN]}, "y must be finite, but entry 0 is nan"),
    ("plain", "posterior", ONE | {"A": [[1.0, NAN]]}, "A must be finite, but entry (0, 1) is nan"),
    ("plain", "posterior", ONE | {"noise": NAN}, "noise must be finite, but entry 0 is nan"),
    ("plain", "posterior", ONE | {"noise": -0.1}, "noise is a standard deviation and at least 0, but entry 0 is -0.1"),
    ("plain", "posterior", ONE | {"A": [[1.0, 0.0, 0.0]]}, "measures rows of 3 elements"),
    ("plain", "posterior", ONE | {"steps": 0}, "steps must be at least 1, got 0"),
    (
        "plain",
        "posterior",
        ONE | {"method": "MMPS"},
        "method must be an object such as pushforward.diffusion.MMPS(), got 'MMPS'",
    ),
    ("plain", "posterior", ONE | {"guidance": 2.0}, "needs a condition; pass cond"),
    (
        "always",
        "posterior",
        ONE | {"condition": "cat", "guidance": 2.0},
        "guidance needs the law without a condition, but this model was trained without dropping conditions",
    ),
]


FIELDS = [
    (lambda: diffusion.MMPS(sampler="heun"), "MMPS: sampler must be a Sampler such as Heun(), or None, got 'heun'"),
    (lambda: diffusion.MMPS(sampler=pf.Heun), "sampler must be a Sampler such as Heun(), or None, got <class"),
    (lambda: diffusion.PiGDM("ddim"), "PiGDM: sampler must be a Sampler such as DDIM(), got 'ddim'"),
    (lambda: diffusion.DiffPIR(None), "DiffPIR: sampler must be a Sampler such as"),
    (lambda: diffusion.DPS(grid="karras"), "DPS: grid must be a Grid such as"),
    (lambda: pf.DPMSolver(grid=pf.KarrasGrid), "DPMSolver: grid must be a Grid such as KarrasGrid(), got <class"),
    (lambda: pf.PredictorCorrector(predictor="euler"), "predictor must be a TableSampler such as Euler(), got 'euler'"),
    (lambda: pf.Guidance("2"), "Guidance: scale must be a number, got '2'"),
    (lambda: pf.Guidance(2.0, interval=3), "Guidance: interval must be a list of numbers, or None, got 3"),
    (lambda: diffusion.Mask(None), "a mask is an array of booleans, True where the element is known, got None"),
    (lambda: diffusion.Denoiser(nn.Linear(2, 2), "cosine"), "schedule must be a Schedule such as Cosine(), got 'cosine'"),
    (lambda: ExactDenoiser(LAW, "cosine"), "schedule must be a Schedule such as Cosine(), got 'cosine'"),
    (lambda: fit(default="heun"), "default must be a Sampler such as Heun(), got 'heun'"),
]


@pytest.mark.parametrize(("wrong", "said"), FIELDS)
def test_objects_of_the_wrong_type_are_refused_where_they_are_given(wrong, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        wrong()


CLASSES = [value for value in vars(diffusion).values() if isinstance(value, type) and issubclass(value, CheckedFields)]
RAW = "not supported between|must be real number|could not convert|object is not|infer dtype"


@pytest.mark.parametrize("cls", [*(cls for cls in CLASSES if not inspect.isabstract(cls)), pf.Guidance])
def test_an_error_about_a_field_is_none_from_inside(cls):
    for name in inspect.signature(cls).parameters:
        for value in ("heun", 3j, {"a": 1}, object(), cls):
            try:
                cls(**{name: value})
            except (TypeError, ValueError) as error:
                said = str(error)
                assert not re.search(RAW, said), (name, value)


@pytest.mark.parametrize(("which", "verb", "options", "said"), VERBS)
def test_what_the_verbs_of_a_model_say(which, verb, options, said, models):
    with pytest.raises((ValueError, TypeError), match=re.escape(said)):
        getattr(models[which], verb)(**options)


@pytest.mark.parametrize("verb", ["log_prob", "score_samples", "score", "bound", "posterior", "impute", "fit_classifier"])
def test_a_model_from_rows_of_its_own_has_no_density_and_no_score(verb, models):
    assert not hasattr(models["own"], verb)
    with pytest.raises(AttributeError, match=f"This 'FlowMatching' has no attribute '{verb}'"):
        getattr(models["own"], verb)


@pytest.mark.parametrize("verb", ["sample", "log_prob", "posterior"])
def test_a_model_that_was_not_fitted_says_so(verb):
    options = {"sample": {}, "log_prob": {"X": [[0.0, 0.0]]}, "posterior": ONE}[verb]
    with pytest.raises(Exception, match=r"This Diffusion instance is not fitted yet\. Call 'fit' with appropriate arguments"):
        getattr(pf.Diffusion(), verb)(**options)


def test_networks_that_do_not_fit_are_named_before_training():
    X = np.random.default_rng(0).normal(size=(60, 2))
    for network, said in (
        (nn.Linear(2, 2), r"the network cannot be called on these data as network\(x, t, condition\) with x \(2, 2\)"),
        (pf.UNetSpec(), r"UNetSpec builds networks for images \(C, H, W\), got \(2,\); vectors \(D,\) take MLPSpec"),
    ):
        with pytest.raises(ValueError, match=said):
            pf.Diffusion(network=network, train_steps=1).fit(X)
