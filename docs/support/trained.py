"""Models that several pages use, trained once for the whole site."""

import functools

import pushforward as pf

__all__ = ["digits_model"]


@functools.cache
def digits_model() -> pf.FlowMatching:
    """Return a small model of the digits, trained for a few seconds."""
    network = pf.UNetSpec(width=64, levels=1, patch=2)
    return pf.FlowMatching(network=network, train_steps=400, random_state=0).fit("digits")
