"""Couplings of data and noise: independent, by optimal transport within a batch, or paired row by row.

References
----------
Alexander Tong et al. Improving and generalizing flow-based generative models with minibatch optimal transport. 2024.
https://arxiv.org/abs/2302.00482
"""

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

__all__ = ["Coupling", "assignment"]

Coupling = Literal["independent", "optimal-transport", "paired"]


def assignment(x: Tensor, z: Tensor, condition: Tensor | None) -> Tensor:
    """Return the order of the noise rows that minimizes the total squared distance to the data, within each condition.

    Rows with different conditions are never exchanged, so the noise stays independent of the condition.
    """
    order = torch.arange(len(x))
    if condition is None:
        groups = [order.clone()]
    else:
        label = torch.unique(condition, dim=0, return_inverse=True)[1].cpu()
        groups = [order[label == k] for k in range(int(label.max()) + 1)]
    cost = torch.cdist(x.flatten(1).float(), z.flatten(1).float()).square().cpu()
    for rows in groups:
        order[rows] = rows[torch.as_tensor(linear_sum_assignment(cost[rows][:, rows].numpy())[1])]
    return order.to(x.device)
