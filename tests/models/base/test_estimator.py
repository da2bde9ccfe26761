"""Constructors made from fields: arguments, their order and checks, and what stays as it was written."""

import inspect
import pickle
import re
from dataclasses import field
from typing import Annotated, ClassVar

import pytest
import torch
from annotated_types import Ge
from sklearn.base import clone

from pushforward.models import MODELS
from pushforward.models.base.estimator import Estimator
from pushforward.models.base.model import GenerativeModel
from pushforward.models.base.trained import TrainedModel
from pushforward.models.files.params import check_params, hints


class Ridge(Estimator):
    core: ClassVar[str] = "coef_"
    alpha: Annotated[float, Ge(0)] = 1.0
    solver: str | None = None
    coef_: torch.Tensor = field(init=False)


class WeightedRidge(Ridge):
    weight: float = 2.0
    alpha: Annotated[float, Ge(0)] = 3.0


class Written(Ridge):
    def __init__(self, *, power: int = 2, alpha: float = 1.0) -> None:
        self.power = power
        self.alpha = alpha


class Inherits(Written):
    pass


def test_fields_are_keyword_only_arguments_that_subclasses_inherit():
    assert str(inspect.signature(Ridge)).startswith("(*, alpha:")
    assert list(inspect.signature(WeightedRidge).parameters) == ["weight", "alpha", "solver"]
    model = WeightedRidge(weight=5.0)
    assert model.get_params() == {"alpha": 3.0, "solver": None, "weight": 5.0}
    with pytest.raises(TypeError, match="unexpected keyword argument 'wieght'"):
        WeightedRidge(wieght=5.0)
    with pytest.raises(TypeError, match="positional argument"):
        Ridge(1.0)


def test_values_are_stored_untouched_and_cloned():
    given = torch.ones(2)
    model = Ridge(alpha=given)
    assert model.alpha is given
    assert clone(model.set_params(alpha=0.5)).alpha == 0.5
    assert pickle.loads(pickle.dumps(model)).alpha == 0.5


def test_repr_and_equality_are_those_of_scikit_learn():
    assert repr(WeightedRidge(solver="qr", alpha=3.0)) == "WeightedRidge(solver='qr')"
    assert Ridge() != Ridge()
    assert len({Ridge(), Ridge()}) == 2


def test_what_is_learned_is_no_argument_and_unset_before_fit():
    assert not hasattr(Ridge(), "coef_")
    with pytest.raises(TypeError, match="unexpected keyword argument 'coef_'"):
        Ridge(coef_=1)
    with pytest.raises(TypeError, match=r"Lasso.coef_ is learned, not an argument; write coef_: ... = field\(init=False\)"):
        type("Lasso", (Ridge,), {"__annotations__": {"coef_": float}})


def test_a_written_constructor_is_kept_also_by_subclasses():
    for cls in (Written, Inherits):
        assert list(inspect.signature(cls).parameters) == ["power", "alpha"]
        assert cls(power=3).get_params() == {"alpha": 1.0, "power": 3}
        assert hints(cls) == {"power": int, "alpha": float}


def test_annotations_with_their_limits_check_the_values():
    assert list(hints(WeightedRidge)) == ["weight", "alpha", "solver"]
    with pytest.raises(ValueError, match="WeightedRidge: alpha=-1.0 is not allowed: it should be greater than or equal to 0"):
        check_params(WeightedRidge, {"alpha": -1.0})
    with pytest.raises(TypeError, match="WeightedRidge: solver=3 is not allowed"):
        check_params(WeightedRidge, {"solver": 3})


@pytest.mark.parametrize("name", MODELS)
def test_every_argument_of_a_family_is_described(name):
    described = {word for base in MODELS[name].__mro__ for word in _described(vars(base).get("__doc__") or "")}
    assert set(inspect.signature(MODELS[name]).parameters) <= described


@pytest.mark.parametrize("name", MODELS)
def test_a_family_has_its_own_arguments_first_and_inherits_the_shared_ones(name):
    base = TrainedModel if issubclass(MODELS[name], TrainedModel) else GenerativeModel
    shared = list(inspect.signature(base).parameters)
    assert list(inspect.signature(MODELS[name]).parameters)[-len(shared) :] == shared


def _described(docstring):
    """The names that a numpydoc docstring describes as parameters."""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[^\n]*\n-+\n|\Z)", inspect.cleandoc(docstring), re.MULTILINE | re.DOTALL)
    listed = re.findall(r"^([\w, ]+?)(?: : [^\n]*)?\n(?= )", section[1] if section else "", re.MULTILINE)
    return {word for names in listed for word in names.split(", ")}
