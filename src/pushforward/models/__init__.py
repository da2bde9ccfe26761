"""One estimator per family of generative models, all under one contract."""

from pushforward.models.base import GenerativeModel
from pushforward.models.diffusion import Diffusion
from pushforward.models.flow_matching import FlowMatching
from pushforward.models.registry import MODELS
from pushforward.models.run import train
from pushforward.models.storage import load

__all__ = ["MODELS", "Diffusion", "FlowMatching", "GenerativeModel", "load", "train"]
