"""The teacher of a flow map: trained before the map, unfitted for its card, and the source of its first weights."""

import torch
from torch import nn

from pushforward import training
from pushforward.models.base.model import RunOptions
from pushforward.models.base.plan import Plan
from pushforward.models.denoising.base import Denoising
from pushforward.models.files.storage import CARD, load, parts_of, read_card
from pushforward.training.record.files import inside

__all__ = ["inherit", "trained_teacher", "unfitted"]


def trained_teacher(teacher: Plan, run: RunOptions) -> Denoising:
    """Train the teacher in its folder inside the run, and return it; load it if it is finished."""
    model = teacher.model
    if run.folder is None:
        model._learn(teacher.prepared, teacher.resolved)
    else:
        place = inside(run.folder, "teacher")
        status = training.agreed(lambda: read_card(place)["status"] if run.resume and (place / CARD).is_file() else None)
        model = load(place, parts=parts_of(model)) if status == "finished" else teacher.start(place, resume=status is not None)
    assert isinstance(model, Denoising)
    return model


def unfitted(teacher: Denoising) -> Denoising:
    """Return an unfitted teacher with the same arguments, resolved if they have been, without a network of the user's own."""
    arguments = teacher._resolved() if hasattr(teacher, "seed_") else teacher.get_params(deep=False)
    if isinstance(arguments["network"], nn.Module):
        arguments["network"] = None
    return type(teacher)(**arguments)


@torch.no_grad()
def inherit(network: nn.Module, teacher: nn.Module, *, whole: bool) -> None:
    """Give a map the weights of its teacher; those of the features that the teacher does not have become 0.

    Without ``whole`` the last layer keeps its own weights, because the teacher's output means something else.
    """
    known = teacher.state_dict()
    for name, value in network.state_dict().items():
        if name not in known:
            value.zero_()
        elif whole or not name.startswith("last."):
            old = known[name].to(value)
            value.zero_()
            value[tuple(slice(size) for size in old.shape)] = old
