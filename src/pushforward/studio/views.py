"""What the page Watch shows of a finished model, or of the current weights: scenes in the plane, other rows, codes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushforward.data import Dataset
from pushforward.data.builtin import BUILTIN_LAWS, BUILTIN_TEXT_LAWS
from pushforward.evaluation.parts import shown
from pushforward.models import plane
from pushforward.models.base.codes import CodeModel
from pushforward.models.live import LiveModel
from pushforward.models.text_law import against_law, has_blocks_of_letters
from pushforward.probability import MarkovText
from pushforward.studio.drawing import Shown, as_shown, data_uri
from pushforward.studio.parts import scene_of
from pushforward.studio.thumbnails import png_of
from pushforward.studio.workspace import Workspace

__all__ = ["TextView", "View", "codes_scene", "colors", "error_in_words", "has_codes", "rows_now", "scene"]

_POINTS, _STEPS, _FIELD, _HEAT, _DENSITY = 256, 10, 15, 48, 80
_SHOWN_DATA = 1200
_CODED, _TEXTS, _LAW_TEXTS = 1000, 3, 48
_ERROR_EVERY = 5  # scenes


@dataclass
class View:
    """The model that is looked at, its data, and the part of the plane around them."""

    model: Any
    data: NDArray[Any]
    square: plane.Square
    source: str
    live: LiveModel | None = None
    law: plane.Law | None = None
    exact: plane.ExactAt | None = None
    density: NDArray[Any] | None = None
    error: float | None = None
    turns: int = 0

    @classmethod
    def of(cls, model: Any, workspace: Workspace, source: str, live: LiveModel | None = None) -> "View":
        """Return the view of a model, with the data that it was trained on where they are still there."""
        if live is not None:
            points = live.rows
        else:
            try:
                dataset = model.space_.open(workspace.source(source), {}, conditional=False)
                points = dataset.schema.to_internal(dataset.values).double().numpy()
            except (ValueError, TypeError, OSError):  # the data are gone: what the model draws is as large
                points = np.asarray(model.sample(_SHOWN_DATA, seed=1), dtype=float)
        law = BUILTIN_LAWS[source]() if source in BUILTIN_LAWS else None
        return cls(model, points[:_SHOWN_DATA], plane.Square.around(points), source, live, law)


def scene(view: View, t: float = 0.5) -> dict[str, Any]:
    """Return the scene of a view: paths and field of a denoiser, the critic of a GAN, or the density, with samples."""
    view.turns += 1
    denoises = hasattr(view.model, "denoiser_")
    return scene_of(view.square, data=view.data, **(_flow_layers(view, t) if denoises else _density_layers(view)))


def _flow_layers(view: View, t: float) -> dict[str, Any]:
    model, points = view.model, view.square.grid(_FIELD)
    layers = {"paths": plane.paths(model, _POINTS, steps=_STEPS), "field": (points, plane.field(model, points, t))}
    if view.law is None or not plane.follows_law(model):
        return layers
    if view.exact is None or view.exact.t != t:
        view.exact = plane.ExactAt.of(model, view.law, points, t)
    if view.turns % _ERROR_EVERY == 1:
        view.error = view.exact.error(model)
    return layers | {"exact": (points, view.exact.vectors)}


def _density_layers(view: View) -> dict[str, Any]:
    model = view.model
    layers: dict[str, Any] = {"samples": np.asarray(model.sample(2 * _POINTS, seed=0), dtype=float)}
    critic = None if view.live is None else view.live.critic
    if critic is not None:
        return layers | {"heat": plane.critic(model, critic, view.square, _HEAT)}
    if not plane.scores_at_once(model):
        return layers
    layers["heat"] = layers["contours"] = plane.density(model, view.square, _DENSITY)
    if view.law is not None:
        if view.density is None:
            view.density = plane.law_density(view.law, view.square, _DENSITY)
        if view.turns % _ERROR_EVERY == 1:
            view.error = plane.divergence(model, view.law)
        layers["exact_contours"] = view.density
    return layers


def error_in_words(view: View) -> str:
    """Return how far a view's model is from the law of the data, where that is known."""
    if view.error is None:
        return ""
    if view.exact is not None:
        return f"Error of the learned denoiser against the exact one at this time: {view.error:.1%} of the spread of the data."
    return f"KL divergence from the exact law: {view.error:.3f} nats, estimated from draws of it."


def colors(view: View) -> dict[str, str]:
    """Return the words of the key for what is drawn besides data and samples, with the names of their colors."""
    known = view.law is not None
    if hasattr(view.model, "denoiser_"):
        return {"learned_flow": "ink"} | ({"exact_flow": "exact"} if known and plane.follows_law(view.model) else {})
    if view.live is not None and view.live.critic is not None:
        return {"critic:_takes_for_data": "heat", "takes_for_generated": "cold"}
    if not plane.scores_at_once(view.model):
        return {}
    return {"density": "heat", "its_contours": "ink"} | ({"exact_contours": "exact"} if known else {})


@dataclass
class TextView:
    """A model of texts beside their law; ``said`` is how far it is from it, in words."""

    law: MarkovText
    said: str = ""
    turns: int = 0

    @classmethod
    def of(cls, model: Any, source: str) -> "TextView | None":
        """Return the view of a model, None where the law of its data is not known or cannot be compared."""
        known = source in BUILTIN_TEXT_LAWS and has_blocks_of_letters(model)
        return cls(BUILTIN_TEXT_LAWS[source]()) if known else None

    def look(self, model: Any) -> str:
        """Return how far the model is from the law, measured anew every few times."""
        self.turns += 1
        if self.turns % _ERROR_EVERY == 1:
            found = against_law(model, self.law, _LAW_TEXTS)
            most = "at most " if found.is_bound else ""
            self.said = (
                f"The model needs {most}{found.learned.value:.3f} bits per character, the exact law {found.exact:.3f}. "
                f"KL divergence from the exact law: {most}{found.error:.3f} bits per character."
            )
        return self.said


def rows_now(live: LiveModel) -> Shown:
    """Return samples with the current weights, always of the same seed: texts as texts, others as the run draws them."""
    model = live.model
    if model.space_.schema.text is not None:
        return as_shown(model, model.sample(_TEXTS, seed=0))
    return Shown(None, pictures=[data_uri(png_of(live.plot()), "image/png")])


def has_codes(model: Any) -> bool:
    """Whether a model has an encoder whose codes are numbers."""
    return isinstance(model, CodeModel)


def codes_scene(model: Any, dataset: Dataset) -> tuple[dict[str, Any], list[str]]:
    """Return the codes of some rows along the two directions in which they vary most, and the classes by color."""
    given = {} if model.space_.conditions is None or dataset.condition is None else {"condition": dataset.condition[:_CODED]}
    codes = np.asarray(model.transform(dataset.values[:_CODED], **given), dtype=float)
    codes = shown.plane(codes.reshape(len(codes), -1))
    labels = dataset.condition
    if labels is None or labels.ndim != 1 or np.issubdtype(labels.dtype, np.inexact):
        return scene_of(plane.Square.around(codes), data=codes), []
    names, groups = np.unique(labels[:_CODED].astype(str), return_inverse=True)
    return scene_of(plane.Square.around(codes), data=codes, groups=groups), names.tolist()
