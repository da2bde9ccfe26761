"""The model of a run that another process trains, with its newest weights (:mod:`pushforward.training.record.live`)."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from pushforward.data import Data
from pushforward.models.base.model import GenerativeModel
from pushforward.models.base.trained import Trainable, TrainedModel
from pushforward.models.files.storage import WEIGHTS
from pushforward.models.gan import GameTask
from pushforward.models.run import begun
from pushforward.plots import Plot
from pushforward.training import TrainingResult
from pushforward.training.learner import copy_into, weights_of
from pushforward.training.record.files import RunError
from pushforward.training.record.live import read_live, watch

__all__ = ["LiveModel"]

_ROWS = 2000


class LiveModel:
    """The model of an unfinished run, whose weights follow those of the training process.

    Parameters
    ----------
    folder : path
        Of the run.
    data : anything that :func:`pushforward.open_data` takes
        The data of the run.

    Attributes
    ----------
    model : GenerativeModel
        It samples with the weights of ``step``.
    task : Task
        Everything that is trained, including what sampling does not need, such as the critic of a GAN.
    rows : array
        The first of the training rows (N, *D), in the units of the data.
    step : int
        0 until the first weights arrive.

    Raises
    ------
    RunError, ValueError
        If the family has no weights to follow, or the data have changed.
    """

    def __init__(self, folder: Path, data: Data) -> None:
        plan = begun(data, folder)
        if not isinstance(plan.resolved, Trainable) or not isinstance(plan.model, TrainedModel):
            raise RunError(folder, "trains a model without weights to follow", "wait until it is finished")
        self.folder, self.step = folder, 0
        self.rows = np.asarray(plan.model.space_.transform.in_units(plan.prepared.x[:_ROWS].double()).numpy())
        self.model: GenerativeModel = plan.model
        self._prepared = plan.prepared
        self._network, self.task = plan.resolved.network, plan.resolved.task.eval()
        self._weights = weights_of(self.task)
        self._bytes = sum(value.numel() * value.element_size() for value in self._weights.values())
        plan.model._adopt(self._network)
        parameters = sum(weight.numel() for weight in self._network.parameters())
        # A model without a result counts as unfitted, and the run has none before its end.
        self.model.training_result_ = TrainingResult(
            steps=0,
            seconds=0.0,
            held_out_loss=None,
            held_out_step=None,
            held_out_by_level=None,
            rows_per_second=0.0,
            parameters=parameters,
            attempts=1,
            skipped=0,
            already_finished=False,
        )

    @property
    def critic(self) -> nn.Module | None:
        """The critic of a GAN, None for other families."""
        return self.task.critic if isinstance(self.task, GameTask) else None

    @torch.no_grad()
    def plot(self) -> Plot:
        """Return the plot of samples that the run itself draws during training, with the current weights."""
        return self.model._plot(self._prepared)

    @torch.no_grad()
    def refresh(self) -> bool:
        """Ask for weights, take the newest, and return whether they are newer than those before."""
        if (self.folder / WEIGHTS).exists():  # the run is finished
            return False
        watch(self.folder)
        found = read_live(self.folder, self._bytes)
        if found is None or found[0] == self.step:
            return False
        try:
            copy_into(self._weights, found[1], "the live weights")
        except ValueError:
            return False
        self.step = found[0]
        return True
