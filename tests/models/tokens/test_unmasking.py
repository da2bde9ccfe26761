"""Guidance of models that uncover tokens: what it does to rows and to the codes of rows, and what is said of misuse."""

import re

import numpy as np
import pytest
import torch

import pushforward as pf

NETWORK = pf.TransformerSpec(width=16, depth=1, heads=2)
TINY = {"network": NETWORK, "random_state": 0, "device": "cpu"}


def answers(n=1500):
    """Three columns of 0 to 3, large with probability 0.7 for label 1 and 0.3 for label 0."""
    numbers = np.random.default_rng(0)
    label = numbers.integers(0, 2, n)
    large = numbers.random((n, 3)) < np.where(label == 1, 0.7, 0.3)[:, None]
    return numbers.integers(0, 2, (n, 3)) + 2 * large, label


def large(rows):
    return (rows >= 2).mean()


@pytest.fixture(scope="module")
def model():
    rows, label = answers()
    training = pf.TrainingSettings(steps=400, batch_size=128, learning_rate=1e-2, gradient_clip=None)
    return pf.MaskedDiffusion(training=training, condition_dropout=0.3, **TINY).fit(rows, condition=label)


@pytest.fixture(scope="module")
def coded():
    """Points whose single code says much of their label, but not all."""
    numbers = np.random.default_rng(0)
    label = numbers.integers(0, 2, 1500)
    points = numbers.normal(size=(1500, 2)) + 0.7 * (2 * label - 1)[:, None]
    sizes = {"network": pf.CoderSpec(width=16, depth=1), "prior": NETWORK}
    return pf.VQVAE(tokens=1, codebook_size=8, train_steps=150, random_state=0, device="cpu", **sizes).fit(
        points, condition=label
    )


def test_a_larger_scale_makes_rows_fit_their_label_better(model):
    shares = {w: large(model.sample(1500, condition=1, guidance=w, seed=0)) for w in (-1.0, 0.0, 1.0, 3.0)}
    assert shares[-1.0] < 0.4 < shares[0.0] < 0.6 < shares[1.0] < 0.8
    assert shares[3.0] > 0.87
    assert large(model.sample(1500, condition=0, guidance=3.0, seed=0)) < 0.13
    mixed = model.sample(1500, condition=np.arange(1500) % 2, guidance=3.0, seed=0)
    assert large(mixed[1::2]) > 0.87
    assert large(mixed[::2]) < 0.13


def test_gaps_are_filled_by_the_guided_law(model):
    rows = np.tile([np.nan, 0.0, np.nan], (800, 1))
    plain = model.impute(rows, condition=1, seed=0)
    np.testing.assert_array_equal(model.impute(rows, condition=1, guidance=1.0, seed=0), plain)
    guided = model.impute(rows, condition=1, guidance=3.0, seed=0)
    assert (guided[:, 1] == 0).all()
    assert large(plain[:, ::2]) < 0.78
    assert large(guided[:, ::2]) > large(plain[:, ::2]) + 0.1
    # Without its condition the law is that of a model which is told of none.
    np.testing.assert_array_equal(model.impute(rows, condition=1, guidance=0.0, seed=0), model.impute(rows, seed=0))


@pytest.mark.parametrize("which", ["model", "coded"])
def test_a_scale_of_1_changes_no_bit(which, request):
    model = request.getfixturevalue(which)
    plain = model.sample(60, condition=1, seed=2)
    np.testing.assert_array_equal(model.sample(60, condition=1, guidance=1.0, seed=2), plain)
    np.testing.assert_array_equal(model.sample(60, condition=1, guidance=1, seed=2), plain)
    assert (model.sample(60, condition=1, guidance=1.5, seed=2) != plain).any()


def test_guided_rows_do_not_depend_on_the_batch(model):
    options = {"condition": 1, "guidance": 2.0, "seed": 5}
    whole = model.sample(30, **options)
    assert (model.sample(30, batch_size=7, **options) == whole).mean() > 0.99
    assert (model.sample(20, first=10, **options) == whole[10:]).mean() > 0.99


@pytest.mark.parametrize("w", [-0.5, 0.0, 1.0, 2.5])
def test_codes_are_drawn_from_the_guided_law_and_decoded_under_the_condition(coded, w):
    hidden = torch.tensor([[-1]])
    with torch.no_grad():
        laws = [coded.coder_.prior(hidden, coded.space_.conditions.encode(y, 1))[0, 0].softmax(0) for y in (1, np.nan)]
    powers = laws[0].double() ** w * laws[1].double() ** (1 - w)
    law = (powers / powers.sum()).numpy()
    means = coded.inverse_transform(np.arange(8)[:, None], condition=None if w == 0 else 1)
    drawn = coded.sample(4000, condition=1, guidance=w, seed=0)
    errors = drawn.std(0) / np.sqrt(len(drawn))
    assert (np.abs(drawn.mean(0) - law @ means) < 4 * errors).all()


def test_what_is_said_when_there_is_nothing_to_guide_by(model, coded):
    rows, label = answers(60)
    plain = pf.MaskedDiffusion(train_steps=1, **TINY).fit(rows)
    always = pf.MaskedDiffusion(train_steps=1, condition_dropout=0.0, **TINY).fit(rows, condition=label)
    gaps = np.array([[np.nan, 0.0, 1.0]])
    for call, said in (
        (lambda: plain.sample(2, guidance=2.0), "a guidance scale of 2 needs a model trained with conditions, but this one"),
        (lambda: plain.impute(gaps, guidance=2.0), "a guidance scale of 2 needs a condition; pass condition="),
        (lambda: model.impute(gaps, guidance=2.0), "a guidance scale of 2 needs a condition; pass condition="),
        (lambda: always.sample(2, condition=1, guidance=2.0), "this model was trained without dropping conditions"),
        (lambda: always.impute(gaps, condition=1, guidance=2.0), "this model was trained without dropping conditions"),
        (lambda: model.sample(2, guidance=float("nan")), "the guidance scale must be a finite number, got nan"),
        (
            lambda: model.sample(2, guidance=pf.Guidance(2.0, negative=0)),
            "supports guidance by the condition with one scale only",
        ),
        (
            lambda: model.impute(gaps, guidance=pf.Guidance(by="classifier")),
            "supports guidance by the condition with one scale only",
        ),
        (lambda: coded.sample(2, guidance=float("inf")), "the guidance scale must be a finite number, got inf"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)) as raised:
            call()
        assert "negative condition" not in str(raised.value)  # there is none for tokens


@pytest.mark.parametrize(("side", "calls"), [(12, 64), (20, 16)])
def test_images_on_the_way_take_few_calls_where_elements_are_many(side, calls):
    images = np.random.default_rng(0).integers(0, 2, (20, side, side))
    fitted = pf.MaskedDiffusion(network=pf.UNetSpec(width=4, levels=1), train_steps=1, random_state=0).fit(images)
    made = []
    fitted.predictor_.register_forward_hook(lambda *_: made.append(1))
    fitted._generate(2, None, seed=0)
    assert len(made) == calls
    made.clear()
    fitted.sample(2, seed=0)
    assert len(made) == 64
