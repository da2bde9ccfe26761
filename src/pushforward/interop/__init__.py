"""Models for other people's programs: ONNX graphs, plain safetensors files, diffusers pipelines."""

from pushforward.interop.export import FORMATS, export

__all__ = ["FORMATS", "export"]
