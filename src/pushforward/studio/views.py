"""What the page Watch shows of a model in the plane: scenes, from the finished run or from the weights of the moment."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pushforward.data.builtin import BUILTIN_LAWS
from pushforward.models import plane
from pushforward.models.live import LiveModel
from pushforward.studio.parts import scene_of
from pushforward.studio.workspace import Workspace

__all__ = ["View", "error_in_words", "scene"]

_POINTS, _STEPS, _FIELD, _HEAT = 256, 10, 15, 48
_SHOWN_DATA = 1200


@dataclass
class View:
    """The model that is looked at, its data, and the part of the plane around them."""

    model: Any
    data: NDArray[Any]
    square: plane.Square
    source: str
    live: LiveModel | None = None
    error: float | None = None
    turns: int = 0

    @classmethod
    def of_live(cls, workspace: Workspace, folder: Path, source: str) -> "View | None":
        """Return the view of a run that trains; None if its rows are no points in the plane."""
        live = LiveModel(folder, workspace.source(source))
        if not plane.is_plane(live.model):
            return None
        return cls.of(live.model, workspace, source, live)

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
        return cls(model, points[:_SHOWN_DATA], plane.Square.around(points), source, live)


def scene(view: View, t: float = 0.5) -> dict[str, Any]:
    """Return the scene of a view: paths and field of a denoiser, the critic of a GAN, or the density, with samples."""
    model, law = view.model, BUILTIN_LAWS.get(view.source)
    exact = law() if law is not None else None
    view.turns += 1
    layers: dict[str, Any] = {"data": view.data}
    if hasattr(model, "denoiser_"):
        layers["paths"] = plane.paths(model, _POINTS, steps=_STEPS)
        points = view.square.grid(_FIELD)
        layers["field"] = (points, plane.field(model, points, t))
        if exact is not None and plane.follows_law(model):
            layers["exact"] = (points, plane.law_field(model, exact, points, t))
            if view.turns % 5 == 1:
                view.error = plane.denoiser_error(model, exact, t)
    else:
        layers["samples"] = np.asarray(model.sample(2 * _POINTS, seed=0), dtype=float)
        critic = None if view.live is None else view.live.critic
        if critic is not None:
            layers["heat"] = plane.critic(model, critic, view.square, _HEAT)
        elif plane.scores_at_once(model):
            layers["heat"] = plane.density(model, view.square, _HEAT)
            if exact is not None and view.turns % 5 == 1:
                view.error = plane.divergence(model, exact)
    return scene_of(view.square, **layers)


def error_in_words(view: View) -> str:
    """Return how far a view's model is from the law of the data, where that is known."""
    if view.error is None:
        return ""
    if hasattr(view.model, "denoiser_"):
        return f"Error of the learned denoiser against the exact one: {view.error:.1%}"
    return f"KL divergence from the exact law: {view.error:.3f} nats"
