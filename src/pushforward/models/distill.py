"""Distillation of a trained model into a flow map, in memory or in a run folder, which names its teacher.

The run needs no data: it learns from the teacher's own trajectories. It can be killed and resumed like any other, with the same
teacher, which is known by the SHA-256 of its weights.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import overload

import safetensors.torch
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from pushforward.data import Facts
from pushforward.models.base.model import GenerativeModel
from pushforward.models.base.plan import Plan
from pushforward.models.denoising.flow_map import FlowMap
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.files.storage import CARD, blamed_on, load, pack, read_card, rebuild
from pushforward.models.latent import Latent
from pushforward.models.run import new_run, same_threads, stopped_run
from pushforward.training.process.gradients import with_gradients

__all__ = ["distill", "distillation", "reopen_distillation"]


@overload
def distill(
    teacher: DenoisingModel, student: FlowMap | None = None, *, out: str | Path | None = None, resume: bool = False
) -> FlowMap: ...


@overload
def distill(
    teacher: Latent, student: FlowMap | None = None, *, out: str | Path | None = None, resume: bool = False
) -> Latent: ...


@overload
def distill(
    teacher: GenerativeModel | str | Path,
    student: FlowMap | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
) -> FlowMap | Latent: ...


def distill(
    teacher: GenerativeModel | str | Path,
    student: FlowMap | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
) -> FlowMap | Latent:
    """Turn a trained model into one that draws in one to four network calls.

    Parameters
    ----------
    teacher : FlowMatching, Diffusion, or Latent with such a prior, or the folder of its run
        Fitted; it is not changed.
    student : FlowMap, optional
        Not yet fitted; its arguments set the distillation, such as ``FlowMap(max_time=600, guidance=3.0)``.
    out : path, optional
        The folder of a run, with checkpoints and plots; an existing one is never overwritten, ``-2``, ``-3``, ... is added.
        Without it nothing is written.
    resume : bool
        Resume the run in ``out``, with the arguments it was started with. A finished run is loaded and returned.

    Returns
    -------
    FlowMap, or Latent with one as its prior
        ``run_`` is its folder, if it has one.

    Raises
    ------
    TypeError, ValueError
        If the teacher has no flow that a map can learn, an argument of the student does not fit it, or ``resume`` is set
        without ``out`` or for a run of another teacher.

    >>> import pushforward as pf
    >>> teacher = pf.FlowMatching(network=pf.MLPSpec(width=16, depth=1), train_steps=5, random_state=0).fit("moons")
    >>> model = pf.distill(teacher, pf.FlowMap(trajectories=64, train_steps=5, random_state=0))
    >>> model.sample(3, condition=1, steps=1).shape
    (3, 2)
    """
    if resume:
        if out is None:
            raise ValueError("resume=True needs the folder of the run to resume: pass out=...")
        folder = Path(out)
        if read_card(folder)["status"] == "finished":
            finished: FlowMap | Latent = load(folder)
            finished.run_ = folder
            return finished
        with stopped_run(folder):
            return _started(reopen_distillation(teacher, folder), folder, resume=True)
    planned = distillation(teacher, student)
    if out is None:
        return _learned(planned)
    with new_run(out, "map") as folder:
        return _started(planned, folder)


@with_gradients
def distillation(teacher: GenerativeModel | str | Path, student: FlowMap | None = None, *, began: float | None = None) -> Plan:
    """Return the plan that distills a trained model; a time budget counts from the clock ``began``, by default from now.

    Raises
    ------
    TypeError, ValueError
        If the teacher has no flow that a map can learn, or an argument of the student does not fit it.
    """
    model = load(teacher) if isinstance(teacher, str | Path) else teacher
    check_is_fitted(model)
    flow = model.prior_ if isinstance(model, Latent) else model
    if not isinstance(flow, DenoisingModel):
        raise TypeError(
            f"{type(flow).__name__} has no flow to distill; a FlowMatching or a Diffusion has, such as "
            "pushforward.FlowMatching().fit(X)"
        )
    if student is not None and not isinstance(student, FlowMap):
        raise TypeError(f"student must be a FlowMap that is not yet fitted, not {student!r}")
    made = FlowMap() if student is None else clone(student)
    if made.teacher is not None:
        raise ValueError("student has a teacher of its own, which fit would train; omit FlowMap(teacher=...)")
    name = teacher if isinstance(teacher, str | Path) else vars(model).get("run_", type(model).__name__)
    planned = made.distilling(flow, began)
    if isinstance(model, Latent):
        planned = model.with_new_prior(planned)
    return replace(planned, chosen={"teacher": {"run": str(name), "weights": _fingerprint(model)}})


def reopen_distillation(teacher: GenerativeModel | str | Path, folder: Path) -> Plan:
    """Return the plan of a stopped run, to start with ``resume``; ValueError if the teacher is another one."""
    card = read_card(folder)
    known = (card.get("chosen") or {}).get("teacher")
    if known is None:
        raise ValueError(f"{folder} was not distilled; resume it with `pushforward train`")
    same_threads(card)
    with blamed_on(folder / CARD):
        arguments: Facts = card["resolved"]["prior"] if card["class"] == Latent.__name__ else card["resolved"]
        arguments = {key: value for key, value in arguments.items() if key not in ("name", "teacher")}
        student = rebuild({**card, "class": FlowMap.__name__, "resolved": arguments}, "resolved", {})
    planned = distillation(teacher, student)
    if planned.chosen["teacher"]["weights"] != known["weights"]:  # type: ignore[index]
        raise ValueError(f"{folder} was distilled from another teacher, {known['run']}; pass that one")
    return replace(planned, chosen={"teacher": known})


@with_gradients
def _learned(planned: Plan) -> FlowMap | Latent:
    planned.model._learn(planned.prepared, planned.resolved)
    assert isinstance(planned.model, FlowMap | Latent)
    return planned.model


def _started(planned: Plan, folder: Path, *, resume: bool = False) -> FlowMap | Latent:
    made = planned.start(folder, resume=resume)
    assert isinstance(made, FlowMap | Latent)
    return made


def _fingerprint(model: GenerativeModel) -> str:
    """Return the SHA-256 of the weights of a model, which is that of their file."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in pack(model)[1].items()}
    return hashlib.sha256(safetensors.torch.save(tensors)).hexdigest()
