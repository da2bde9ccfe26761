"""Guidance of ``sample``: each option against an equivalent one, against Gaussian closed forms, and what is said of misuse."""

import numpy as np
import pytest
import torch

import pushforward as pf
from pushforward import diffusion

TINY = {"network": pf.MLPSpec(width=8, depth=1), "train_steps": 3, "random_state": 0, "device": "cpu"}
QUICK = pf.TrainingSettings(steps=3, batch_size=32)


def rows(n=60):
    rng = np.random.default_rng(0)
    labels = np.array(["low", "mid", "high"])[np.arange(n) % 3]
    return rng.normal(size=(n, 2)) + np.where(labels == "high", 3.0, 0.0)[:, None], labels


@pytest.fixture(scope="module")
def model():
    X, labels = rows()
    fitted = pf.Diffusion(**TINY).fit(X, condition=labels)
    torch.manual_seed(0)  # a network that has learned next to nothing must still answer to its condition
    with torch.no_grad():
        for weight in fitted.denoiser_.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return fitted.fit_classifier(X, labels, training=QUICK, width=8)


def drawn(model, **options):
    return model.sample(7, seed=1, steps=5, sampler=pf.AngleSolver(), **options)


def by_hand(model, denoiser, condition):
    """The same rows from the diffusion room alone."""
    z = model.source_.draw(torch.arange(7), 0, 1, "sample")
    scaled = pf.AngleSolver().run(denoiser, z, steps=5, condition=condition, seed=1)
    return model.space_.transform.inverse(scaled).numpy()


def test_everywhere_is_an_interval(model):
    plain = drawn(model, condition="high", guidance=3.0)
    assert np.array_equal(drawn(model, condition="high", guidance=pf.Guidance(3.0, interval=(0, float("inf")))), plain)
    never = drawn(model, condition="high", guidance=pf.Guidance(3.0, interval=(1e8, 1e9)))
    np.testing.assert_allclose(never, drawn(model, condition="high"), rtol=1e-6)
    middle = drawn(model, condition="high", guidance=pf.Guidance(3.0, interval=(0.1, 2.0)))
    assert not np.allclose(middle, plain)
    assert not np.allclose(middle, never)
    encoded = model.space_.conditions.encode("high", 7)
    guided = diffusion.Guided(model.denoiser_, 3.0, interval=(0.1, 2.0))
    np.testing.assert_allclose(middle, by_hand(model, guided, encoded), rtol=1e-6)


def test_negative_conditions(model):
    plain = drawn(model, condition="high", guidance=3.0)
    away = drawn(model, condition="high", guidance=pf.Guidance(3.0, negative="low"))
    assert not np.allclose(away, plain)
    encoder = model.space_.conditions
    guided = diffusion.Guided(model.denoiser_, 3.0, negative=encoder.encode("low", 7))
    np.testing.assert_allclose(away, by_hand(model, guided, encoder.encode("high", 7)), rtol=1e-6)
    # The null condition by its own name, no step away, and a step from a condition to itself.
    np.testing.assert_array_equal(drawn(model, condition="high", guidance=pf.Guidance(3.0, negative=float("nan"))), plain)
    nothing = drawn(model, condition="high", guidance=pf.Guidance(0.0, negative="low"))
    np.testing.assert_allclose(nothing, drawn(model, condition="low"), rtol=1e-6)
    same = drawn(model, condition="low", guidance=pf.Guidance(3.0, negative="low"))
    np.testing.assert_allclose(same, drawn(model, condition="low"), rtol=1e-5, atol=1e-6)


def test_rows_do_not_depend_on_the_batch(model):
    labels = ["low", "high", "mid", "mid", "low", "high", "low"]
    for options in (
        {"condition": labels, "guidance": pf.Guidance(2.0, negative="mid", interval=(0.1, 3.0))},
        {"condition": labels, "guidance": pf.Guidance(2.0, by="classifier")},
        {"condition": labels, "guidance": pf.Guidance(2.0, by=lambda x: 0.3 * x[:, 0].sin())},
    ):
        np.testing.assert_allclose(drawn(model, batch_size=2, **options), drawn(model, **options), rtol=1e-5, atol=1e-6)


def test_the_classifier_guides_each_row_to_its_label(model):
    labels = ["low", "high", "mid", "mid", "low", "high", "low"]
    got = drawn(model, condition=labels, guidance=pf.Guidance(2.0, by="classifier"))
    index = model.classifier_.index(labels, 7)
    without = diffusion.ClassifierGuided(model.denoiser_, model.classifier_, index, 2.0)
    np.testing.assert_allclose(got, by_hand(model, without, None), rtol=1e-6)
    for k, label in enumerate(labels[:3]):
        alone = drawn(model, condition=label, guidance=pf.Guidance(2.0, by="classifier"))
        np.testing.assert_allclose(got[k], alone[k], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone, by_hand(model, model.guided_by_classifier(label, 2.0), None), rtol=1e-6)
    # A scale of 0 is the law without a condition.
    ignored = drawn(model, condition=labels, guidance=pf.Guidance(0.0, by="classifier"))
    np.testing.assert_allclose(ignored, drawn(model, condition="mid", guidance=0.0), rtol=1e-6)


def test_a_reward_in_the_units_of_the_data_tilts_a_gaussian():
    """N(m, s^2) tilted by exp(w a x) is N(m + w a s^2, s^2): here on a model whose denoiser is exact.

    The variance of the scaled data is 1, so the score is that of N(0, 1) at every t.
    """
    rng = np.random.default_rng(0)
    X = np.column_stack((5 + 2 * rng.normal(size=400), np.full(400, 7.0)))
    model = pf.Diffusion(**TINY).fit(X)
    shift, scale = model.space_.transform.shift[0].item(), model.space_.transform.scale[0].item()
    law = pf.probability.Gaussian([0.0], 1.0)

    class Exact(diffusion.Denoiser):
        def forward(self, x_t, t, condition=None):
            return law.denoised(x_t, self.schedule.alpha(t), self.schedule.sigma(t)).to(x_t.dtype)

    model.denoiser_ = Exact(model.denoiser_.network, model.schedule_)
    seen = []

    def reward(x):
        seen.append(x)
        return 0.5 * x[:, 0]

    x = model.sample(4000, seed=0, steps=60, guidance=pf.Guidance(1.5, by=reward))
    assert seen[0].shape[1:] == (2,)
    assert (seen[0][:, 1] == 7).all()
    assert (x[:, 1] == 7).all()
    # The prior of the sampler stays N(0, 1) where the tilted law has a mean of alpha(1) times the shift: next to nothing.
    np.testing.assert_allclose(x[:, 0].mean(), shift + 0.75 * scale**2, atol=0.12 * scale)
    np.testing.assert_allclose(x[:, 0].std(), scale, rtol=0.05)
    plain = model.sample(50, seed=0)
    np.testing.assert_allclose(model.sample(50, seed=0, guidance=pf.Guidance(0.0, by=reward)), plain, rtol=1e-6)


def test_rewards_see_images_in_their_own_units():
    X = np.random.default_rng(0).integers(0, 17, size=(40, 6, 5)).astype(np.uint8)
    X[:, 0, 0] = 3
    model = pf.Diffusion(network=pf.UNetSpec(width=4, levels=1), train_steps=1, random_state=0, device="cpu").fit(X)
    x = torch.as_tensor(X[:, None]).double()
    units = model.space_.transform.in_units(model.space_.transform.forward(x))
    torch.testing.assert_close(units, x)
    seen = []

    def reward(x):
        seen.append(tuple(x.shape))
        return x.mean((1, 2, 3))

    assert model.sample(2, guidance=pf.Guidance(by=reward), steps=2, seed=0).shape == (2, 6, 5)
    assert seen[0] == (2, 1, 6, 5)


def test_errors_say_what_to_write(model):
    X, labels = rows()
    plain = pf.FlowMatching(**TINY).fit(X)
    always = pf.FlowMatching(**TINY, condition_dropout=0.0).fit(X, condition=labels)
    always.fit_classifier(X, labels, training=QUICK, width=8)
    uniform = pf.FlowMatching(**TINY, source=pf.probability.Gaussian([0.0, 0.0], 1.0)).fit(X)
    for options, said in (
        ({"guidance": pf.Guidance(2.0, negative="lo")}, "'lo' is not one condition for all rows.* Did you mean 'low'"),
        ({"guidance": pf.Guidance(2.0, negative=["low", "mid"])}, "is not one condition for all rows"),
        (
            {"guidance": pf.Guidance(by="classifier")},
            "needs a label for each row; pass condition=..., one of high, low",
        ),
        ({"guidance": pf.Guidance(by="classifier"), "condition": "up"}, "'up' is not a label"),
        ({"guidance": pf.Guidance(by=lambda x: x)}, r"reward must return one number per row, \(7,\), but returned \(7, 2\)"),
    ):
        with pytest.raises(ValueError, match=said):
            drawn(model, **options)
    with pytest.raises(TypeError, match=r"guidance must be a number or a pushforward.Guidance, got 'classifier'; write"):
        drawn(model, guidance="classifier")
    with pytest.raises(ValueError, match=r"a guidance scale of 2 needs a model trained with conditions, but this one has none"):
        drawn(plain, guidance=2.0)
    with pytest.raises(ValueError, match=r"has none; train one with model.fit_classifier\(X, labels\)$"):
        drawn(plain, guidance=pf.Guidance(by="classifier"), condition="low")
    for options in ({"guidance": 2.0}, {"guidance": 0.0}, {"guidance": pf.Guidance(by="classifier"), "condition": "low"}):
        with pytest.raises(ValueError, match=r"guidance needs the law without a condition.* train with condition_dropout=0.1"):
            drawn(always, **options)
    assert len(drawn(always, condition="low", guidance=pf.Guidance(2.0, negative="mid"))) == 7
    for by in ("classifier", lambda x: x.sum(1)):
        with pytest.raises(
            ValueError, match="adds a gradient to the score, but this model's source is not independent Gaussian"
        ):
            drawn(uniform, guidance=pf.Guidance(by=by))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"interval": (0.1, 2.0)}, "have no effect at a guidance scale of 1.*such as 2, or omit them"),
        ({"negative": "low"}, "have no effect at a guidance scale of 1"),
        ({"scale": 2.0, "interval": (2.0, 0.1)}, r"with 0 <= low < high, got \(2, 0.1\); write \(0.1, 2\)"),
        ({"scale": float("nan")}, "guidance scale must be a finite number, got nan"),
        ({"by": "clasifier"}, "by must be 'condition', 'classifier' or a function.* got 'clasifier'"),
        (
            {"scale": 2.0, "by": "classifier", "negative": "mid"},
            "negative apply only to guidance by the condition; omit them, or omit by='classifier'",
        ),
        ({"scale": 2.0, "by": abs, "interval": (0, 1)}, "interval and negative apply only to guidance by the condition"),
    ],
)
def test_contradictions_are_refused_before_there_is_a_model(arguments, said):
    with pytest.raises(ValueError, match=said):
        pf.Guidance(**arguments)
