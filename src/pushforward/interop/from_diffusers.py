"""Denoisers that somebody else trained: diffusers' networks with the schedule that their scheduler describes.

Step k = 0 ... T - 1 of a discrete chain stands at t = (k + 1) / T of :class:`DiscreteBeta`; a flow-matching scheduler is the
straight line with t its noise level. A clipped prediction, where the scheduler asks for it, is part of the denoiser.
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from pushforward.diffusion.denoiser import AbstractDenoiser
from pushforward.diffusion.prediction import Prediction, to_denoised
from pushforward.diffusion.schedule import DiscreteBeta, Schedule, StraightLine

__all__ = ["PretrainedDenoiser", "from_diffusers"]

_PREDICTIONS: dict[str, Prediction] = {"epsilon": "eps", "v_prediction": "v", "sample": "denoised"}
_LARGEST_BETA = 1 - 2.0**-24  # a chain that ends in pure noise has 1 at its last step


class PretrainedDenoiser(AbstractDenoiser):
    """A network of diffusers as a denoiser; make one with ``from_diffusers(unet, scheduler)``.

    Parameters
    ----------
    network : nn.Module
        ``network(x_t, timestep)`` returns its prediction, or something with ``sample``.
    schedule : Schedule
    prediction : Prediction
    timesteps : int
        T, the number of steps of training.
    first : float
        Timestep at t = 0: -1 for a chain, whose step k stands at (k + 1) / T, and 0 for a flow.
    clip : float or None
        Largest absolute value of ``denoised``.
    """

    def __init__(
        self,
        network: nn.Module,
        schedule: Schedule,
        *,
        prediction: Prediction,
        timesteps: int,
        first: float,
        clip: float | None,
    ) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule
        self.prediction = prediction
        self.timesteps = timesteps
        self.first = first
        self.clip = clip
        names = inspect.signature(network.forward).parameters
        self.takes = next((name for name in ("encoder_hidden_states", "class_labels") if name in names), None)

    def forward(self, x_t: Tensor, t: Tensor, condition: Tensor | None = None) -> Tensor:
        """Return E[x | x_t]; the condition is the network's own: class labels (B,) or hidden states (B, L, K)."""
        extra = {}
        if condition is not None:
            if self.takes is None:
                raise ValueError(f"{type(self.network).__name__} takes no condition; call it without one")
            extra[self.takes] = condition
        steps = t * self.timesteps + self.first
        nearest = steps.round()
        # On its own grid the network is called at whole steps, as it was trained, and not a rounding error beside them.
        steps = torch.where((steps - nearest).abs() < 1e-3, nearest, steps).clamp(min=0)
        output: Any = self.network(x_t, steps.to(x_t).expand(len(x_t)), **extra)
        raw = output if isinstance(output, Tensor) else output.sample
        if raw.shape[1] == 2 * x_t.shape[1]:  # a network with learned variances gives them beside its prediction
            raw = raw[:, : x_t.shape[1]]
        denoised = to_denoised(raw, x_t, t, schedule=self.schedule, prediction=self.prediction)
        return denoised if self.clip is None else denoised.clamp(-self.clip, self.clip)


def from_diffusers(unet: nn.Module, scheduler: Any) -> PretrainedDenoiser:
    """Return a network that diffusers trained as a denoiser, for all samplers, guidance, densities and posteriors.

    Parameters
    ----------
    unet : nn.Module
        Such as ``pipeline.unet``: a ``UNet2DModel`` or ``UNet2DConditionModel``. It is put into evaluation mode.
    scheduler : object
        Such as ``pipeline.scheduler``: its ``alphas_cumprod``, ``prediction_type`` and clipping are used, or for flow
        matching only its type.

    Raises
    ------
    ValueError
        If its noise scales or its prediction are not known, or it uses dynamic thresholding.
    """
    config = scheduler.config
    if getattr(config, "thresholding", False):
        raise ValueError(
            "the scheduler uses dynamic thresholding, which is no denoiser; set scheduler.config.thresholding=False"
        )
    timesteps = int(config.num_train_timesteps)
    unet = unet.eval()
    if not hasattr(scheduler, "alphas_cumprod"):
        if "FlowMatch" not in type(scheduler).__name__:
            raise ValueError(
                f"{type(scheduler).__name__} has no alphas_cumprod, so its noise scales are not known; use the scheduler that "
                "the network was trained with, such as DDPMScheduler"
            )
        return PretrainedDenoiser(unet, StraightLine(), prediction="velocity", timesteps=timesteps, first=0.0, clip=None)
    kind = getattr(config, "prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise ValueError(f"prediction_type={kind!r} of the scheduler is not known; it must be one of {', '.join(_PREDICTIONS)}")
    kept = scheduler.alphas_cumprod.double()
    betas = (1 - kept / torch.cat((kept.new_ones(1), kept[:-1]))).clamp(max=_LARGEST_BETA)
    clip = float(config.clip_sample_range) if getattr(config, "clip_sample", False) else None
    schedule = DiscreteBeta(tuple(betas.tolist()))
    return PretrainedDenoiser(unet, schedule, prediction=_PREDICTIONS[kind], timesteps=timesteps, first=-1.0, clip=clip)
