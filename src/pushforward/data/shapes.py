r"""The built-in data set ``shapes``: points on the surfaces of superquadrics, tori and boxes of random sizes and directions.

Each has probability 1/3, and is turned about the third axis by an angle that is uniform on [0, 2 pi). Given the shape, its
points are independent. With U[a, b] for independent uniform numbers,

    superquadric   half axes a, b, c ~ U[0.5, 1.2], exponents e, f ~ U[0.3, 1.5]; a uniform direction, scaled to the surface
                   (|x / a|^(2 / f) + |y / b|^(2 / f))^(f / e) + |z / c|^(2 / e) = 1
    torus          radii R ~ U[0.7, 1.0] and r ~ U[0.15, 0.4]; uniform by area
    box            half sides ~ U[0.4, 1.1] each; uniform by area

Set i and its points depend on (seed, i) alone.

References
----------
Alan Barr. Superquadrics and angle-preserving transformations. IEEE Computer Graphics and Applications, 1981.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pushforward.probability import noise

__all__ = ["shapes"]

_CLASSES = np.array(["superquadric", "torus", "box"], dtype=object)
_NEWTON_STEPS = 8


def shapes(n: int = 3000, points: int = 128, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return sets of points on shapes, float32 ``(n, points, 3)``, and the names of the shapes.

    >>> sets, names = shapes(4, points=10)
    >>> sets.shape, set(names) <= {"box", "superquadric", "torus"}
    ((4, 10, 3), True)
    """
    u = noise.uniform((7,), seed=seed, purpose="data/shapes/shape", rows=n, dtype=torch.float64)
    v = noise.uniform((points, 3), seed=seed, purpose="data/shapes/points", rows=n, dtype=torch.float64)
    direction = noise.normal((points, 3), seed=seed, purpose="data/shapes/directions", rows=n, dtype=torch.float64)
    label = (3 * u[:, 0]).long()
    every = torch.stack((_superquadric(u[:, 1:6], direction), _torus(u[:, 1:3], v), _box(u[:, 1:4], v)))
    x, y, z = every[label, torch.arange(n)].unbind(2)
    angle = 2 * math.pi * u[:, 6:]
    turned = torch.stack((angle.cos() * x - angle.sin() * y, angle.sin() * x + angle.cos() * y, z), 2)
    return turned.float().numpy(), _CLASSES[label.numpy()]


def _superquadric(u: Tensor, direction: Tensor) -> Tensor:
    axes = 0.5 + 0.7 * u[:, None, :3]
    e, f = (0.3 + 1.2 * u[:, 3:]).unbind(1)
    e, f = e[:, None], f[:, None]
    x, y, z = (direction / direction.norm(dim=2, keepdim=True) / axes).abs().unbind(2)
    # The function on the left of the equation is homogeneous of degree 2 / e.
    level = (x ** (2 / f) + y ** (2 / f)) ** (f / e) + z ** (2 / e)
    surface: Tensor = direction / direction.norm(dim=2, keepdim=True) * (level ** (-e / 2))[..., None]
    return surface


def _torus(u: Tensor, v: Tensor) -> Tensor:
    large, small = 0.7 + 0.3 * u[:, :1], 0.15 + 0.25 * u[:, 1:]
    around, target = 2 * math.pi * v[..., 0], 2 * math.pi * v[..., 1]
    # The area between the angles 0 and w of the tube grows as w + (small / large) sin w.
    ratio, w = small / large, target
    for _ in range(_NEWTON_STEPS):
        w = w - (w + ratio * w.sin() - target) / (1 + ratio * w.cos())
    reach = large + small * w.cos()
    return torch.stack((reach * around.cos(), reach * around.sin(), small * w.sin()), 2)


def _box(u: Tensor, v: Tensor) -> Tensor:
    half = 0.4 + 0.7 * u
    a, b, c = half.unbind(1)
    areas = torch.stack((b * c, a * c, a * b), 1)
    ends = areas.cumsum(1) / areas.sum(1, keepdim=True)
    # The first number gives the side and a coordinate on it, because its remainder is uniform again.
    axis = (v[..., :1] >= ends[:, None]).sum(2).clamp(max=2)
    begin = torch.cat((torch.zeros_like(ends[:, :1]), ends[:, :2]), 1)
    rest = (v[..., 0] - begin.gather(1, axis)) / (ends - begin).gather(1, axis)
    sign = torch.where(rest < 0.5, -1.0, 1.0).to(v)
    on = torch.stack((sign, 2 * v[..., 1] - 1, 2 * v[..., 2] - 1), 2)
    orders = torch.tensor([[0, 1, 2], [1, 0, 2], [1, 2, 0]])
    return half[:, None] * on.gather(2, orders[axis])
