"""The pairs of states that a flow map learns from."""

import torch

from pushforward.models.denoising.map_task import FlowMapTask

LAST = 6


def test_pairs_are_distinct_states_in_the_stated_shares():
    task = FlowMapTask(torch.nn.Identity(), torch.linspace(1.5, 0, LAST + 1), (2,))
    begin, end = task._pairs(torch.rand(40_000, 3))
    assert bool((begin != end).all())
    assert set(begin.tolist()) == set(end.tolist()) == set(range(LAST + 1))
    down = begin < end
    assert abs(down.float().mean() - 0.75) < 0.01
    whole = down & (begin == 0) & (end == LAST)
    # Of the first two quarters a quarter and a sixth of the rest, and of the third one pair of 21.
    share = 2 * 0.25 * (0.25 + 0.75 / LAST) + 0.25 / (LAST * (LAST + 1) / 2)
    assert abs(whole.float().mean() - share) < 0.01
    assert abs((down & (end == LAST)).float().mean() - (0.25 + 0.25 * (0.25 + 0.75 / LAST) + 0.25 * 2 / (LAST + 1))) < 0.01
    back = ~down & (begin == LAST)
    assert abs(back.float().mean() - (0.125 + 0.125 * 2 / (LAST + 1))) < 0.01
