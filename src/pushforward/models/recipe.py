"""Recipes: a model as a mapping, from a YAML file, dotted overrides, or the defaults for the data.

    model: flow-matching
    train_steps: 4000
    network: {width: 96}
    schedule: Cosine
    training: {learning_rate: 1.0e-3, batch_size: 256}

The model is a family, such as "diffusion", or a preset, such as "ddpm"; the other keys are its arguments. For an argument that
is an object, a mapping changes single fields of the default for the data; ``name``, or the name of a class alone, selects
another class. The same holds for an argument that is a model:

    model: latent
    coder: {latent_dim: 8}
    prior: {name: diffusion, train_steps: 2000, network: {width: 128}}
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast, get_args

import yaml

from pushforward.data import Dataset, Facts, Text
from pushforward.diffusion import Sampler
from pushforward.models.base.model import GenerativeModel
from pushforward.models.files.codec import CLASSES, from_plain, is_model, near, to_plain
from pushforward.models.files.params import check_params, hints
from pushforward.models.files.registry import bare, family_name, family_names, find, preset_names

__all__ = ["arguments_of", "assemble", "merge", "named_sampler", "opening_of", "override", "read_recipe", "recipe_of"]


def _maker(name: str) -> Callable[..., GenerativeModel]:
    maker = find(name)
    if maker is None:
        known = [*family_names(), *preset_names()]
        raise ValueError(f"there is no model {name!r}; use one of {', '.join(known)}{near(name, known)}")
    return maker


def read_recipe(path: str | Path) -> Facts:
    """Return the mapping in a YAML file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no recipe {path}")
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {error}") from None
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} must hold `argument: value` lines, such as `train_steps: 4000`")
    return recipe


def override(text: str) -> Facts:
    """Return the mapping of a dotted override.

    >>> override("network.width=128"), override("prediction=v")
    ({'network': {'width': 128}}, {'prediction': 'v'})
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ValueError(f"an override has the form argument=value, such as network.width=128, not {text!r}")
    try:
        nested: object = _number(yaml.safe_load(value)) if value.strip() else ""
    except yaml.YAMLError:
        nested = value
    first, *inner = key.strip().split(".")
    for part in reversed(inner):
        nested = {part: nested}
    return {first: nested}


def arguments_of(cls: type[GenerativeModel], texts: Sequence[str]) -> Facts:
    """Return arguments of a family from dotted overrides, objects by their name.

    >>> from pushforward.models import FlowMap
    >>> arguments_of(FlowMap, ["train_steps=500", "network.name=MLPSpec", "network.width=32"])
    {'train_steps': 500, 'network': MLPSpec(width=32, depth=3)}
    """
    merged: Facts = {}
    for text in texts:
        merged = merge(merged, override(text))
    _check_known(cls, merged)
    arguments = {key: from_plain(_number(value), where=key) for key, value in merged.items()}
    check_params(cls, arguments)
    return arguments


def _check_known(cls: type[GenerativeModel], recipe: Facts) -> None:
    known = list(hints(cls))
    for key in recipe:
        if key not in known:
            raise ValueError(f"{cls.__name__} has no argument {key!r}; it has {', '.join(known)}{near(key, known)}")


def merge(base: Mapping[str, object], changes: Mapping[str, object]) -> Facts:
    """Merge ``changes`` into ``base`` recursively; a mapping with another ``name`` is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        if isinstance(old, str) and isinstance(value, Mapping):
            old = {"name": old}
        if isinstance(value, Mapping) and isinstance(old, Mapping) and value.get("name", old.get("name")) == old.get("name"):
            merged[key] = merge(old, value)
        else:
            merged[key] = value
    return merged


def assemble(recipe: Mapping[str, object], dataset: Dataset) -> GenerativeModel:
    """Return the unfitted model of a recipe, with defaults for these data.

    Raises
    ------
    ValueError, TypeError
        If the model, an argument or a field is unknown (the message suggests the nearest), or a value is not allowed.
    """
    return _assemble(recipe, lambda: dataset)


def _assemble(recipe: Mapping[str, object], data: Callable[[], Dataset]) -> GenerativeModel:
    recipe = dict(recipe)
    name = str(recipe.pop("model", None) or data().schema.rules.default_model)
    if isinstance(recipe.get("columns"), Mapping):
        recipe["columns"] = [[*pair] for pair in cast(Mapping[str, object], recipe["columns"]).items()]
    if recipe.get("text") is not None:
        recipe["text"] = _text_of(recipe)
    make = _maker(name)
    cls = type(make())
    if not issubclass(cls, GenerativeModel):
        raise TypeError(f"the model {name!r} is not a family of pushforward: {cls.__qualname__} is not a GenerativeModel")
    _check_known(cls, recipe)
    known = list(hints(cls))
    whole = {key: value for key, value in recipe.items() if not isinstance(value, Mapping) or "name" in value}
    models = {key: value for key, value in whole.items() if value is not None and GenerativeModel in get_args(hints(cls)[key])}
    model = make(**{key: from_plain(_number(value), where=key) for key, value in whole.items() if key not in models})
    check_params(cls, model.get_params(deep=False))
    partial = {key: value for key, value in recipe.items() if isinstance(value, Mapping) and key not in whole}
    preset = {key: value for key, value in to_plain_map(model.get_params(deep=False)).items() if isinstance(value, Mapping)}
    defaults = to_plain_map(model._defaults(model._prepare(data()))) | preset if partial else {}
    for key in known:  # in order, because a later model may learn from the output of an earlier one
        if key in partial and key not in defaults:
            raise ValueError(f"{key} of {cls.__name__} is not an object with fields; write {key}=value")
        if key in models or (key in partial and is_model(defaults[key])):
            entry = models[key] if key in models else merge(defaults[key], partial[key])
            inner = entry if isinstance(entry, Mapping) else {"name": str(entry)}
            fields = {"model": inner["name"]} | {name: value for name, value in inner.items() if name != "name"}
            model.set_params(**{key: _assemble(fields, lambda key=key: model._data_of(key, data()))})  # type: ignore[misc]
        elif key in partial:
            model.set_params(**{key: from_plain(_number(merge(defaults[key], partial[key])), where=key)})
    check_params(cls, model.get_params(deep=False))
    return model


def opening_of(recipe: Mapping[str, object]) -> Facts:
    """Return the arguments of :func:`~pushforward.data.open_data` in a recipe.

    Where the recipe does not say whether rows stay on disk, their size decides, unless the model cannot learn from there.

    >>> opening_of({"model": "gmm", "size": 64})
    {'size': 64, 'types': None, 'series': None, 'text': None, 'stream': False}
    """
    series, stream = recipe.get("series"), recipe.get("stream")
    named = {name: recipe[name] for name in ("kind", "rate", "length", "size") if name in recipe}
    if stream is None and recipe.get("model") is not None and not type(_maker(str(recipe["model"]))()).streams:
        stream = False
    pair = tuple(series) if isinstance(series, list) else series
    return named | {"types": recipe.get("columns"), "series": pair, "text": _text_of(recipe), "stream": stream}


def _text_of(recipe: Mapping[str, object]) -> Text | None:
    """Return how the recipe turns texts into tokens, None by default; its values are not part of the defaults for the data."""
    value = recipe.get("text")
    if isinstance(value, Mapping):
        value = from_plain({"name": Text.__name__} | dict(value), where="text")
    if not (value is None or isinstance(value, Text)):
        raise ValueError(f"text={value!r} must be an object with fields; write text.tokens={value} or text.block=64")
    return value


def recipe_of(model: GenerativeModel) -> Facts:
    """Return the recipe of a model with resolved defaults, without the arguments that are None."""
    resolved = to_plain_map(model._resolved())
    return {"model": family_name(type(model))} | {key: value for key, value in resolved.items() if value is not None}


def to_plain_map(values: Mapping[str, object]) -> Facts:
    return {key: to_plain(value) for key, value in values.items()}


def named_sampler(text: str) -> Sampler:
    """Return the sampler for text such as "ddim", "ddim:eta=0.5" or "DPMSolver:order=3,grid=KarrasGrid"."""
    name, _, rest = text.partition(":")
    samplers = {key: cls for key, cls in CLASSES.items() if issubclass(cls, Sampler)}
    matches = [key for key in samplers if bare(key) == bare(name)]
    if not matches:
        raise ValueError(f"there is no sampler {name!r}; use one of {', '.join(samplers)}{near(name, samplers)}")
    fields: Facts = {"name": matches[0]}
    for part in filter(None, rest.split(",")):
        fields = merge(fields, override(part))
    sampler = from_plain(fields, where="sampler")
    assert isinstance(sampler, Sampler)
    return sampler


def _number(value: object) -> object:
    """Convert text such as 1e-3 to numbers, in mappings and lists too: YAML 1.1 reads it as text."""
    if isinstance(value, Mapping):
        return {key: _number(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_number(item) for item in value]
    if isinstance(value, str) and re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", value):
        return float(value)
    return value
