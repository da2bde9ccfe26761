"""Write a trained denoiser for programs without pushforward, or for diffusers.

- ``onnx``: one graph, (x_t, t) or (x_t, t, condition) to ``denoised``, for any number of rows. Everything is in the scaled
  units of the network; the metadata under the key "pushforward" say how rows are scaled, and the schedule and the layout. The
  graph of a FlowMap draws: (noise), with its condition and guidance scale if it has them, to ``rows``, in one network call.
- ``safetensors``: one file with the weights of the network and the scaling of the data; the same metadata.
- ``diffusers``: a folder for ``DDPMPipeline.from_pretrained``, for models of images, after
  ``import pushforward.interop.to_diffusers``, which holds the class of the network.
"""

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from pushforward._messages import Argument, lacking, naming
from pushforward.diffusion import Denoiser
from pushforward.diffusion.flow_map import FlowMapNetwork
from pushforward.models.denoising.flow_map import FlowMap
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.files import codec
from pushforward.models.files.protected import check_not_of_run

__all__ = ["FORMATS", "check_format", "export", "file_name"]

Exported = DenoisingModel | FlowMap

_ONNX = Argument("to", "onnx")
_TIMESTEPS = 1000


def export(model: Exported, path: str | Path, to: str) -> Path:
    """Write a fitted model in another format and return the path.

    Parameters
    ----------
    model : Diffusion, FlowMatching or FlowMap
    path : str or path
        A file, or for "diffusers" a folder that is new or empty.
    to : "onnx", "safetensors" or "diffusers"

    Raises
    ------
    ImportError
        If what the format needs is not installed; the message says what to install.
    TypeError
        If the model has no denoiser.
    ValueError
        If the format is unknown, the folder holds something, the path is that of a run's own file, or the format cannot
        hold this model.
    """
    check_format(to)
    if not isinstance(model, DenoisingModel | FlowMap):
        raise TypeError(f"{type(model).__name__} has no denoiser to export; train a Diffusion or a FlowMatching")
    check_is_fitted(model)
    if isinstance(model, FlowMap) and to == "diffusers":
        raise naming(ValueError(f"diffusers has no pipeline for a FlowMap; use {_ONNX}"), _ONNX)
    path = Path(path)
    check_not_of_run(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    FORMATS[to](model, path)
    return path


def check_format(to: str) -> None:
    """Raise a ValueError if there is no format of this name."""
    if to not in FORMATS:
        raise ValueError(f"there is no format {to!r}; use one of {', '.join(FORMATS)}")


def _facts(model: Exported) -> str:
    denoiser, encoder = model.denoiser_, model.space_.conditions
    transform, tensors = model.space_.transform.state()
    scaling = {name: tensors[name].tolist() for name in ("shift", "scale")}
    facts = {
        "class": type(model).__name__,
        "schedule": codec.to_plain(denoiser.schedule),
        "prediction": denoiser.prediction if isinstance(denoiser, Denoiser) else "flow map",
        "data_std": denoiser.data_std,
        "network": codec.to_plain(model.network_),
        "schema": model.space_.schema.to_json(),
        "transform": transform | scaling | {"formula": "z = (x - shift) / scale"},
        "condition": None if encoder is None else encoder.state()[0],
    }
    return json.dumps(facts)


def _safetensors(model: Exported, path: Path) -> None:
    from safetensors.torch import save_file

    tensors = {f"network.{name}": value for name, value in model.denoiser_.network.state_dict().items()}
    tensors |= {f"transform.{name}": value for name, value in model.space_.transform.state()[1].items()}
    tensors |= {f"bounds.{name}": value for name, value in model.denoiser_.named_buffers() if name in ("low", "high")}
    plain = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(plain, path, metadata={"pushforward": _facts(model)})


class _Graph(nn.Module):
    """The denoiser with positional arguments alone, as an exporter wants it."""

    def __init__(self, denoiser: nn.Module) -> None:
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        denoised: Tensor = self.denoiser(x_t, t, condition)
        return denoised


class _Drawing(nn.Module):
    """Rows from noise by one jump of a flow map."""

    def __init__(self, flow_map: FlowMapNetwork) -> None:
        super().__init__()
        self.flow_map = flow_map

    def forward(self, noise: Tensor, condition: Tensor | None = None, guidance_scale: Tensor | None = None) -> Tensor:
        return self.flow_map.draw(noise, condition, 1.0 if guidance_scale is None else guidance_scale)


def _graph(model: Exported) -> tuple[nn.Module, dict[str, Tensor], str]:
    """Return what a graph computes, its inputs for two rows, and the name of its output."""
    encoder, rows = model.space_.conditions, 2
    x, given = torch.zeros(rows, *model.space_.transform.shape), dict[str, Tensor]()
    if encoder is not None:
        given["condition"] = torch.zeros(rows, encoder.dim)
    if not isinstance(model, FlowMap):
        return _Graph(model.denoiser_.cpu()).eval(), {"x_t": x, "t": torch.full((rows,), 0.5), **given}, "denoised"
    if model.guidance > 1:
        given["guidance_scale"] = torch.ones(rows)
    return _Drawing(model.denoiser_.cpu()).eval(), {"noise": x, **given}, "rows"


def _onnx(model: Exported, path: Path) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise lacking("an ONNX graph", "onnx and onnxscript", "onnx") from None
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    device = next(model.denoiser_.parameters()).device
    graph, inputs, output = _graph(model)
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                dynamo=True,
                input_names=list(inputs),
                output_names=[output],
                dynamic_shapes={name: {0: batch} for name in inputs},
                verbose=False,
            )
    finally:
        model.denoiser_.to(device)
    if program is None:
        raise RuntimeError("torch.onnx.export returned no graph")
    program.model.metadata_props["pushforward"] = _facts(model)
    program.save(path)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's notes about itself from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _diffusers(model: DenoisingModel, folder: Path) -> None:
    try:
        from diffusers import DDPMPipeline, DDPMScheduler
    except ImportError:
        raise lacking("this format", "diffusers", "diffusers") from None
    from pushforward.interop.to_diffusers import ExportedUNet

    if model.space_.kind.structure != "grid":
        name = model.space_.kind.name
        raise naming(
            ValueError(f"a pipeline of diffusers draws images, but this model was trained on {name}; use {_ONNX}"), _ONNX
        )
    encoder = model.space_.conditions
    if encoder is not None and encoder.image is not None:
        message = f"a pipeline of diffusers takes no images as conditions, as this model does; use {_ONNX}"
        raise naming(ValueError(message), _ONNX)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already; name a new folder")
    if codec.is_part(codec.to_plain(model.network_)):
        raise naming(
            ValueError(f"this model has a network of your own, which diffusers cannot build again; use {_ONNX}"), _ONNX
        )
    if not model.denoiser_.gaussian_source:
        message = f"diffusers starts from independent Gaussian noise, but this model was trained otherwise; use {_ONNX}"
        raise naming(ValueError(message), _ONNX)
    unet = ExportedUNet.of(model)
    schedule, t = model.denoiser_.schedule, torch.arange(1, _TIMESTEPS + 1, dtype=torch.float64) / _TIMESTEPS
    kept = schedule.alpha(t) ** 2 / (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2)
    betas = (1 - kept / torch.cat((kept.new_ones(1), kept[:-1]))).clamp(max=0.999)
    scheduler = DDPMScheduler(
        num_train_timesteps=_TIMESTEPS, trained_betas=betas.tolist(), prediction_type="sample", clip_sample=False
    )
    DDPMPipeline(unet, scheduler).save_pretrained(folder)
    # Some versions of diffusers write the first part of a module's name alone, and look for the class there.
    index = folder / "model_index.json"
    entries = json.loads(index.read_text(encoding="utf-8"))
    entries["unet"] = [ExportedUNet.__module__, ExportedUNet.__name__]
    index.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


FORMATS: dict[str, Callable[[Any, Path], None]] = {
    "onnx": _onnx,
    "safetensors": _safetensors,
    "diffusers": _diffusers,
}


def file_name(to: str) -> str:
    """Return the name that an export has by default.

    >>> file_name("onnx"), file_name("diffusers")
    ('denoiser.onnx', 'diffusers')
    """
    return to if to == "diffusers" else f"denoiser.{to}"
