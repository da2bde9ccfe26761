"""The families by name: what ``model.json``, recipes and the command line may ask for."""

from pushforward.models.base import GenerativeModel
from pushforward.models.diffusion import Diffusion
from pushforward.models.flow_matching import FlowMatching

__all__ = ["MODELS"]

MODELS: dict[str, type[GenerativeModel]] = {cls.__name__: cls for cls in (Diffusion, FlowMatching)}
