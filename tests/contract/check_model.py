"""The contract of every family, as one function over a model: what users may rely on whatever they train.

``check_model(make, X, condition)`` runs all checks; ``make`` returns a new, unfitted model with small settings.
"""

import copy
import pickle
import random
import re

import numpy as np
import pandas as pd
import pytest
import sklearn.preprocessing  # noqa: F401 - it draws from `random` when it is first imported
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import pushforward as pf

OPTIONAL_VERBS = {"score_samples", "score", "log_prob", "transform", "inverse_transform", "impute", "posterior"}


VERBS_OF_ALL = ("fit", "save", "training_result_")


def check_model(make, X, condition=None, *, verbs=frozenset(), lossless=True, discrete=False, folder):
    """Check the whole contract on one kind of data.

    ``verbs`` are the optional ones that this family promises; ``lossless`` says that codes lead back to the rows themselves,
    ``discrete`` that they are integers.
    """
    check_arguments_are_stored_untouched(make)
    check_refuses_before_fit(make, folder)
    model = check_fit(make, X, condition)
    check_verbs(model, verbs)
    check_shows_itself(model)
    if model.generates:
        check_layout(model, X)
        check_seeds(model)
        check_counts(model)
    check_same_random_state_same_model(make, X, condition, model)
    check_save_and_load(model, X, folder)
    check_pickle(model, X)
    if "transform" in verbs:
        check_encoding(model, X, condition, lossless=lossless, discrete=discrete)
    if condition is None:
        check_refuses_conditions(model)
    else:
        check_conditions(model, condition)
    return model


def check_shows_itself(model):
    """In a notebook and to tab completion, also what it was fitted on."""
    assert set(VERBS_OF_ALL) <= set(dir(model))
    assert f"{model.data_['rows']:,} rows" in model._repr_html_()
    assert model._repr_mimebundle_()["text/plain"] == repr(model)


def as_numpy(values):
    """Samples of any container as one float array."""
    if isinstance(values, pd.DataFrame):
        return values.to_numpy(dtype=float)
    return np.asarray(values, dtype=float)


def made(model, X, n=4):
    """What a model makes: samples, or the codes of rows if it does not sample."""
    return as_numpy(model.sample(n, seed=1) if model.generates else model.transform(X[:n]))


def check_arguments_are_stored_untouched(make):
    model = make()
    params = model.get_params(deep=False)
    again = type(model)(**params)
    for name, value in params.items():
        assert getattr(model, name) is value
        assert getattr(again, name) is value
    twin = clone(model)
    assert twin is not model
    assert twin.get_params(deep=False).keys() == params.keys()
    assert model.set_params(held_out=0.3) is model
    assert model.held_out == 0.3


def check_refuses_before_fit(make, folder):
    if make().generates:
        with pytest.raises(NotFittedError):
            make().sample(1)
    with pytest.raises(NotFittedError):
        make().save(folder / "unfitted")
    for verb in ("transform", "inverse_transform"):
        if hasattr(make(), verb):
            with pytest.raises(NotFittedError):
                getattr(make(), verb)(np.zeros((2, 2)))


def check_fit(make, X, condition):
    before, model = copy.deepcopy(X), make()
    arguments = dict(model.get_params(deep=False))
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    assert model.fit(X, condition=condition) is model
    assert torch.equal(torch.get_rng_state(), states[0])
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert random.getstate() == states[2]
    for name, value in arguments.items():
        assert getattr(model, name) is value, f"fit changed the argument {name}"
    np.testing.assert_array_equal(as_numpy(X), as_numpy(before))
    learned = [name for name in vars(model) if name not in arguments]
    assert all(re.fullmatch(r"_?\w+_(in_)?", name) for name in learned), learned
    return model


def check_verbs(model, verbs):
    present = {verb for verb in OPTIONAL_VERBS if hasattr(model, verb)}
    assert present == set(verbs), f"has {present}, promises {set(verbs)}"
    assert hasattr(model, "sample") == model.generates


def check_layout(model, X):
    samples = model.sample(5, seed=0)
    assert type(samples) is type(X)
    assert samples.shape == (5, *X.shape[1:])
    if isinstance(X, pd.DataFrame):
        assert list(samples.columns) == list(X.columns)
        assert list(samples.dtypes) == list(X.dtypes)
    else:
        assert samples.dtype == X.dtype
    assert np.isfinite(as_numpy(samples)).all()


def check_seeds(model):
    whole = as_numpy(model.sample(9, seed=3))
    np.testing.assert_array_equal(as_numpy(model.sample(9, seed=3)), whole)
    for part in (
        as_numpy(model.sample(9, seed=3, batch_size=4)),
        np.concatenate([as_numpy(model.sample(4, seed=3)), as_numpy(model.sample(5, seed=3, first=4))]),
    ):
        np.testing.assert_allclose(part, whole, rtol=1e-4, atol=1e-4 * np.abs(whole).max() + _one_integer(model))
    assert not np.array_equal(as_numpy(model.sample(9, seed=4)), whole)
    fresh = as_numpy(model.sample(9))
    np.testing.assert_array_equal(as_numpy(model.sample(9, seed=model.sample_seed_)), fresh)
    state = torch.get_rng_state()
    model.sample(2)
    assert torch.equal(torch.get_rng_state(), state)


def _one_integer(model):
    """Rounding may move a value that lies on the edge of an integer by one."""
    return float(any(model.space_.schema.integer))


def check_counts(model):
    assert len(model.sample(1, seed=0)) == 1
    for bad, error in ((0, ValueError), (-1, ValueError), (2.5, TypeError), ("3", TypeError)):
        with pytest.raises(error, match=r"n must be"):
            model.sample(bad)
    with pytest.raises(ValueError, match=r"first must be at least 0"):
        model.sample(1, first=-1)
    with pytest.raises(ValueError, match=r"batch_size must be at least 1"):
        model.sample(1, batch_size=0)


def check_same_random_state_same_model(make, X, condition, model):
    again = make().fit(X, condition=condition)
    np.testing.assert_array_equal(made(again, X), made(model, X))
    other = make().set_params(random_state=12345).fit(X, condition=condition)
    assert other.seed_ == 12345
    assert not np.array_equal(made(other, X, 20), made(model, X, 20))


def check_save_and_load(model, X, folder):
    target = folder / "saved"
    model.save(target)
    assert sorted(path.name for path in target.iterdir()) == ["model.json", "weights.safetensors"]
    loaded = pf.load(target)
    assert type(loaded) is type(model)
    np.testing.assert_array_equal(made(loaded, X), made(model, X))
    assert loaded.training_result_ == model.training_result_
    for name in model.fitted:
        assert repr(getattr(loaded, f"{name}_")) == repr(getattr(model, f"{name}_"))
    assert loaded.seed_ == model.seed_
    for name, value in model.get_params(deep=False).items():
        assert repr(getattr(loaded, name)) == repr(value)
    again = folder / "again"
    loaded.save(again)
    assert (again / "weights.safetensors").read_bytes() == (target / "weights.safetensors").read_bytes()


def check_pickle(model, X):
    twin = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(made(twin, X), made(model, X))


def check_encoding(model, X, condition, *, lossless, discrete):
    """Codes are finite, floats or integers, and lead back to rows; they are vectors or shaped like X; without loss they lead back: integers exactly, all else to a hundredth of its spread."""
    X, condition = X[:12], None if condition is None else condition[:12]
    for given in (None,) if condition is None else (None, condition):
        z = model.transform(X, condition=given)
        assert type(z) is (np.ndarray if isinstance(X, pd.DataFrame) else type(X))
        assert z.shape == tuple(X.shape) or (not lossless and len(X) == len(z) and z.ndim == 2)
        assert np.isfinite(as_numpy(z)).all()
        assert np.issubdtype(np.asarray(z).dtype, np.integer) == discrete
        back = model.inverse_transform(z, condition=given)
        assert type(back) is type(X)
        assert tuple(back.shape) == tuple(X.shape)
        if lossless:
            values, wanted = as_numpy(back), as_numpy(X)
            whole = np.broadcast_to(model.space_.schema.integer, wanted.shape)
            np.testing.assert_array_equal(values[whole], wanted[whole])
            np.testing.assert_allclose(values, wanted, rtol=0, atol=1e-2 * wanted.std())
    parts = as_numpy(model.transform(X, condition=given, batch_size=7))  # with the condition, where there is one
    np.testing.assert_allclose(parts, as_numpy(z), rtol=0, atol=1e-3)


def check_refuses_conditions(model):
    assert not model.conditional
    if not model.generates:
        return
    with pytest.raises(ValueError, match=r"trained without conditions"):
        model.sample(2, condition=0)


def check_conditions(model, condition):
    assert model.conditional
    one = np.asarray(condition)[0]
    if not model.generates:
        return
    assert len(model.sample(3, condition=one, seed=0)) == 3
    np.testing.assert_array_equal(
        as_numpy(model.sample(2, condition=np.asarray(condition)[:2], seed=0)),
        as_numpy(model.sample(2, condition=list(np.asarray(condition)[:2]), seed=0)),
    )
    with pytest.raises(ValueError, match=r"condition has"):
        model.sample(3, condition=np.asarray(condition)[:2])
    if model.space_.conditions.kind == "labels":
        with pytest.raises(ValueError, match=r"is not a label of the training data"):
            model.sample(1, condition="no such label")
