"""Training of a fully resolved model in a run folder, with plots during training."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pushforward import plots, training
from pushforward.data import Dataset
from pushforward.data.stream import Stream, parts_of
from pushforward.metrics.memorization import distance_ratio
from pushforward.metrics.mixed.embedding import Embedding
from pushforward.models.base.model import NOVELTY_ROWS, GenerativeModel, RunOptions
from pushforward.models.base.preparing import Prepared
from pushforward.models.files.params import check_params
from pushforward.models.files.storage import describe, save, write_card
from pushforward.training.process.gradients import with_gradients
from pushforward.training.record.files import inside

__all__ = ["Plan", "measure_novelty", "plan"]

_NOVELTY_SEED = 0


@dataclass(eq=False)
class Plan:
    """A model with all arguments resolved, ready to train with ``start``.

    Attributes
    ----------
    model : GenerativeModel
    prepared : Prepared
    resolved
        What the model's ``_learn`` needs besides the rows.
    chosen : mapping
        Selected columns and condition of the data, which resuming needs.
    """

    model: GenerativeModel
    prepared: Prepared
    resolved: object
    chosen: Mapping[str, object] = field(default_factory=dict)

    @property
    def parameters(self) -> int | None:
        """Number of learned parameters, if it is known before training."""
        return self.model._size(self.resolved)

    @property
    def steps(self) -> int | None:
        """Number of training steps, for a model trained by gradients."""
        return self.model._steps

    def seconds(self) -> float | None:
        """Estimate the training time on a copy, in about three seconds, for a model trained by gradients."""
        return self.model._seconds(self.resolved, self.prepared)

    @with_gradients
    def start(self, folder: Path, *, resume: bool = False, on_grid: Callable[[int], object] | None = None) -> GenerativeModel:
        """Train in ``folder`` and return the model; ``on_grid(step)`` replaces the plots during training."""
        picked = {"chosen": {"columns": None, "condition": None} | dict(self.chosen)}
        model, prepared = self.model, self.prepared
        main = training.is_main_process()
        if main:
            folder.mkdir(parents=True, exist_ok=True)
        if main and not resume:
            write_card(folder, describe(model) | picked | {"status": "training"})

        def draw(step: int) -> Path:
            path = inside(folder, "samples", f"step-{step:08d}.png")
            plots.save(model._plot(prepared), path)
            return path

        model._learn(prepared, self.resolved, RunOptions(folder, resume, on_grid or draw))
        model.run_ = folder
        if main:
            plots.save(model._plot(prepared), inside(folder, "samples.png"))
            save(model, folder, extra=picked | {"novelty": measure_novelty(model, prepared)})
        return model


@with_gradients
def plan(
    dataset: Dataset, model: GenerativeModel, *, chosen: Mapping[str, object] | None = None, began: float | None = None
) -> Plan:
    """Check arguments, split and scale the data, resolve defaults and the number of steps, and build the network.

    A time budget counts from the clock ``began``, by default from now.
    """
    check_params(type(model), model.get_params(deep=False))
    prepared = model._prepare(dataset)
    if began is not None:
        prepared = replace(prepared, began=began)
    return Plan(model, prepared, model._resolve(prepared), chosen or {})


def measure_novelty(model: GenerativeModel, prepared: Prepared) -> dict[str, float] | None:
    """Compare the distances of samples and of held-out rows to the training rows, in scaled units.

    Return None without held-out rows, if the model does not sample, and for kinds without such distances.
    """
    space = model.space_
    if prepared.held_out is None or not hasattr(model, "sample") or not space.kind.has_distances:
        return None
    aside = model._clean(prepared.held_out[0])
    n = min(len(aside), NOVELTY_ROWS)
    z = model._generate(n, model._conditions_for_sampling(None, n, _NOVELTY_SEED), seed=_NOVELTY_SEED)
    if space.schema.table is not None:
        cells = [space.to_columns(part.detach().cpu()).numpy() for part in (z, prepared.whole, aside[:n])]
        samples, train, held_out = map(Embedding(np.concatenate(cells[1:]), space.schema.table.domains), cells)
        return distance_ratio(samples, [train], held_out)
    # Compare samples as users get them: integers are rounded, values beyond the range of the data clipped.
    drawn = space.transform.forward(space.transform.inverse(z), dtype=torch.float32)
    parts = parts_of(prepared.x) if isinstance(prepared.x, Stream) else [prepared.x]
    return distance_ratio(_numbers(drawn), (_numbers(model._clean(part)) for part in parts), _numbers(aside[:n]))


def _numbers(x: Tensor) -> np.ndarray:
    return np.asarray(x.detach().cpu().float())
