"""Models to and from other programs: ONNX graphs, plain safetensors files, diffusers."""

from pushforward.interop.export import FORMATS, export
from pushforward.interop.from_diffusers import PretrainedDenoiser, from_diffusers

__all__ = ["FORMATS", "PretrainedDenoiser", "export", "from_diffusers"]
