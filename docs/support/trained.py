"""Models that several pages use, trained once for the whole site. Each call returns a copy, which a page may change."""

import copy
import functools

import pushforward as pf

__all__ = ["digits_model", "moons_model"]


def digits_model() -> pf.FlowMatching:
    """Return a small model of the digits, with labels, trained for a few seconds."""
    return copy.deepcopy(_digits())


def moons_model(*, labels: bool = True) -> pf.FlowMatching:
    """Return a small model of the two moons, with labels or without, trained for a few seconds."""
    return copy.deepcopy(_moons(labels))


@functools.cache
def _digits() -> pf.FlowMatching:
    network = pf.UNetSpec(width=64, levels=1, patch=2)
    return pf.FlowMatching(network=network, train_steps=150, held_out=0, random_state=0).fit("digits")


@functools.cache
def _moons(labels: bool) -> pf.FlowMatching:
    network = pf.MLPSpec(width=96, depth=3)
    return pf.FlowMatching(network=network, train_steps=200, random_state=0).fit("moons", condition=None if labels else False)
