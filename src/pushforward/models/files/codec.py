"""Objects of the library as plain data and back: what ``model.json`` and recipes are written in.

A frozen object is a mapping with its class under ``name`` and its fields beside it,

    {"name": "LinearBeta", "beta_min": 0.1, "beta_max": 20.0}

and ``"LinearBeta"`` alone is the same with default fields. Only the classes listed here can be named, so reading a file
runs no code. Anything else that a model was given, such as a user's own network, is written as ``{"part": "ClassName"}``
and must be supplied again when the model is loaded. A model given to a model is written like a frozen object, its arguments
beside its name, those at None left out.
"""

import dataclasses
import difflib
from collections.abc import Iterable
from typing import Any, get_type_hints

import numpy as np
import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from pushforward import diffusion, networks, probability
from pushforward.models.base.model import GenerativeModel
from pushforward.models.files.params import check_params, hints
from pushforward.training import TrainingSettings

__all__ = ["CLASSES", "from_plain", "is_model", "is_part", "near", "to_plain"]

_LIBRARY: tuple[type, ...] = (
    diffusion.Adaptive,
    diffusion.AngleSolver,
    diffusion.AnnealedLangevin,
    diffusion.CalibratedSampler,
    diffusion.Calibration,
    diffusion.ChainGrid,
    diffusion.Cosine,
    diffusion.DDIM,
    diffusion.DDPM,
    diffusion.DEIS,
    diffusion.DPMSolver,
    diffusion.DiscreteBeta,
    diffusion.Euler,
    diffusion.Exploding,
    diffusion.FittedVariance,
    diffusion.FixedGrid,
    diffusion.Heun,
    diffusion.KarrasGrid,
    diffusion.LinearBeta,
    diffusion.LevelGrid,
    diffusion.LogSNRGrid,
    diffusion.LogitNormalTimes,
    diffusion.PowerGrid,
    diffusion.PredictorCorrector,
    diffusion.RK4,
    diffusion.ReverseSDE,
    diffusion.SinhGrid,
    diffusion.StochasticDPMSolver,
    diffusion.StraightLine,
    diffusion.SubVP,
    diffusion.UniPC,
    diffusion.UniformGrid,
    diffusion.UniformTimes,
    diffusion.VPGrid,
    networks.CoderSpec,
    networks.FlowSpec,
    networks.GANSpec,
    networks.MLPSpec,
    networks.TransformerSpec,
    networks.UNetSpec,
    probability.Gaussian,
    probability.GaussianMixture,
    TrainingSettings,
)
CLASSES: dict[str, type] = {cls.__name__: cls for cls in _LIBRARY}


def to_plain(value: Any) -> Any:
    """Return ``value`` as JSON data; an object that is not of the library becomes ``{"part": name of its class}``."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Tensor):
        return {"tensor": str(value.dtype).removeprefix("torch."), "values": value.tolist()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if type(value) in _LIBRARY:
        fields = dataclasses.fields(value)
        return {"name": type(value).__name__} | {field.name: to_plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, GenerativeModel) and type(value).__name__ in _models():
        given = {name: item for name, item in value.get_params(deep=False).items() if item is not None}
        return {"name": type(value).__name__} | {name: to_plain(item) for name, item in given.items()}
    return {"part": type(value).__name__}


def is_model(value: Any) -> bool:
    """Whether plain data, or a name, describes a model."""
    name = value.get("name") if isinstance(value, dict) else value
    return isinstance(name, str) and name in _models()


def is_part(value: Any) -> bool:
    """Whether plain data stands for an object that must be supplied again."""
    return isinstance(value, dict) and "part" in value


def from_plain(value: Any, *, where: str = "value") -> Any:
    """Return the object that plain data describes.

    Parameters
    ----------
    value : plain data
    where : str
        Dotted name of the value, for messages.

    Raises
    ------
    ValueError
        If the class or a field is unknown (with the nearest known one) or a value is of the wrong type or out of range.
    """
    if isinstance(value, str) and (value in CLASSES or is_model(value)):
        value = {"name": value}
    if isinstance(value, list):
        return tuple(from_plain(item, where=where) for item in value)
    if not isinstance(value, dict):
        return value
    if "tensor" in value:
        return torch.tensor(value["values"], dtype=getattr(torch, value["tensor"]))
    if "name" not in value:
        raise ValueError(f"{where} must say which class it is: add a line `name: ...`, one of {', '.join(CLASSES)}")
    cls = _class(value["name"], where)
    types = hints(cls) if is_model(value) else get_type_hints(cls)
    known = types if is_model(value) else {field.name: types[field.name] for field in dataclasses.fields(cls)}
    given = {key: from_plain(item, where=f"{where}.{key}") for key, item in value.items() if key != "name"}
    for key in given:
        if key not in known:
            listed = ", ".join(known) or "no parameters"
            raise ValueError(f"{where} ({cls.__name__}) has no {key!r}; it has {listed}{near(key, known)}")
    if is_model(value):
        check_params(cls, given)
        return cls(**given)
    try:
        checked = {key: _typed(item, known[key], f"{where}.{key}") for key, item in given.items()}
        return cls(**checked)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(value: Any, hint: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(hint, type) and isinstance(value, hint):
            return value
        raise ValueError(f"{where}={value!r} must be a {getattr(hint, '__name__', hint)}")
    try:
        return TypeAdapter(hint, config=ConfigDict(arbitrary_types_allowed=True)).validate_python(value)
    except ValidationError as error:
        said = error.errors(include_url=False)[0]["msg"]
        raise ValueError(f"{where}={value!r}: {said[0].lower()}{said[1:]}") from None


def _class(name: Any, where: str) -> type:
    known = CLASSES | _models()
    if name not in known:
        raise ValueError(f"{where}: there is no {name!r}; use one of {', '.join(known)}{near(str(name), known)}")
    return known[name]


def _models() -> dict[str, type]:
    """Return the families by name, which are defined above this module."""
    from pushforward.models.files.registry import MODELS

    return dict(MODELS)


def near(word: str, known: Iterable[str]) -> str:
    """Return " Did you mean ...?" for the nearest known word, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    close = difflib.get_close_matches(word.lower(), list(lowered), n=1)
    return f". Did you mean {lowered[close[0]]!r}?" if close else ""
