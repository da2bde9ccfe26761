"""The trajectories that a flow map is trained on, drawn from its teacher: rows for the training loop.

Row i depends on (seed, i) alone. Conditions are drawn from those of the teacher's training, and dropped as often as in that
training. Where the map learns guidance, every second row has a scale between 1 and the largest one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pushforward import diffusion
from pushforward._messages import DIVERGED
from pushforward.diffusion import AbstractDenoiser, TableSampler
from pushforward.diffusion.flow_map import angle_of
from pushforward.diffusion.trajectories import GuidedRows, Trajectories, trajectories
from pushforward.models.denoising.base import Denoising
from pushforward.probability import noise

__all__ = ["STATES", "Pool", "pool_angles"]

STATES = 20  # steps of a trajectory
_BATCH, _SOUND = 512, 0.9


@dataclass(frozen=True, eq=False)
class Pool:
    """Trajectories as rows (N, S + 1, D + 1) (D without integrals), their conditions with the scale, and their angles."""

    rows: Tensor
    condition: Tensor | None
    angles: Tensor

    @classmethod
    def of(
        cls,
        teacher: Denoising,
        count: int,
        *,
        seed: int,
        max_guidance: float,
        dropout: float,
        probes: int | None,
        varies: Tensor,
    ) -> "Pool":
        """Return ``count`` trajectories of a fitted teacher."""
        rows, conditions = [], []
        angles = torch.zeros(0)
        for first in range(0, count, _BATCH):
            numbers = torch.arange(first, min(first + _BATCH, count))
            z = teacher.source_.draw(numbers, 0, seed, "trajectories")
            condition = _conditions(teacher, numbers, seed, dropout)
            scale = torch.ones(len(numbers))
            if max_guidance > 1:
                u = noise.uniform((), seed=seed, purpose="guidance", rows=numbers)
                scale = torch.where(numbers % 2 == 1, 1 + (max_guidance - 1) * u, 1.0)
            made = _solve(teacher, z, condition, scale, probes=probes, varies=varies, seed=seed, first=first)
            rows.append(_as_rows(made))
            angles = made.angles
            if condition is not None:
                conditions.append(torch.cat((condition, scale[:, None]), 1) if max_guidance > 1 else condition)
        return cls(torch.cat(rows), torch.cat(conditions) if conditions else None, angles.cpu())._finite()

    def _finite(self) -> "Pool":
        """Return the pool without trajectories that overflowed; raise if few are left."""
        kept = self.rows.flatten(1).isfinite().all(1)
        if bool(kept.all()):
            return self
        if kept.double().mean() < _SOUND:
            raise ValueError(f"{int((~kept).sum())} of {len(kept)} trajectories of the teacher are not finite. {DIVERGED}")
        return Pool(self.rows[kept], None if self.condition is None else self.condition[kept], self.angles)

    def split(self, aside: int) -> "tuple[Pool, Pool]":
        """Return the pool without its last ``aside`` trajectories, and these."""
        n = len(self.rows) - aside
        parts = [
            (self.rows[part], None if self.condition is None else self.condition[part]) for part in (slice(n), slice(n, None))
        ]
        return Pool(*parts[0], self.angles), Pool(*parts[1], self.angles)


def pool_angles(teacher: Denoising) -> Tensor:
    """Return the angles of the trajectories of a teacher, which are known before they are drawn."""
    schedule = teacher.denoiser_.schedule
    angles = angle_of(schedule, torch.as_tensor(_sampler(teacher).grid(schedule, STATES)), teacher.data_std_)
    angles[-1] = 0.0
    return angles


def _conditions(teacher: Denoising, numbers: Tensor, seed: int, dropout: float) -> Tensor | None:
    encoder = teacher.space_.conditions
    if encoder is None:
        return None
    condition = encoder.draw(len(numbers), seed=seed, first=int(numbers[0]))
    u = noise.uniform((), seed=seed, purpose="dropout", rows=numbers)
    return condition * (u >= dropout)[:, None]


def _solve(
    teacher: Denoising,
    z: Tensor,
    condition: Tensor | None,
    scale: Tensor,
    *,
    probes: int | None,
    varies: Tensor,
    seed: int,
    first: int,
) -> Trajectories:
    """Return the trajectories of one batch, on the CPU; rows without guidance cost one call per step, others two."""
    device = teacher._device
    made: list[Trajectories] = []
    order = []
    for chosen, guided in ((scale == 1, False), (scale != 1, True)):
        index = chosen.nonzero()[:, 0]
        if not len(index):
            continue
        denoiser: AbstractDenoiser = teacher.denoiser_
        if guided:
            denoiser = GuidedRows(denoiser, scale[index].to(device))
        with teacher._training_precision():
            made.append(
                trajectories(
                    denoiser,
                    z[index].to(device),
                    _sampler(teacher),
                    STATES,
                    data_std=teacher.data_std_,
                    condition=None if condition is None else condition[index].to(device),
                    varies=varies,
                    probes=probes,
                    seed=noise.derive(seed, "probes", int(guided)),
                    first=first,
                )
            )
        order.append(index)
    back = torch.cat(order).argsort()
    states = torch.cat([part.states.cpu().float() for part in made])[back]
    integrals = [part.integrals.cpu() for part in made if part.integrals is not None]
    return Trajectories(made[0].angles, states, torch.cat(integrals)[back] if integrals else None)


def _sampler(teacher: Denoising) -> TableSampler:
    """Return the teacher's own sampler if it is deterministic and takes any number of steps, or else the default."""
    own = teacher.sampler
    if isinstance(own, TableSampler) and not isinstance(own, diffusion.CalibratedSampler):
        schedule = teacher.denoiser_.schedule
        table = own.table(schedule, own.grid(schedule, 2))
        if not table.stochastic and own.nfe(STATES) == STATES:
            return own
    return diffusion.default_sampler(STATES)


def _as_rows(made: Trajectories) -> Tensor:
    flat = made.states.flatten(2)
    if made.integrals is None:
        return flat
    return torch.cat((flat, made.integrals.to(flat)[..., None]), 2)
