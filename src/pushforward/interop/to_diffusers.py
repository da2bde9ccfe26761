"""A network of pushforward as diffusers knows networks: what ``pushforward export --to diffusers`` writes.

diffusers imports no module because a folder names one, so import this one before loading:

    import pushforward.interop.to_diffusers
    pipeline = diffusers.DDPMPipeline.from_pretrained("digits-pipeline")
"""

from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.unets.unet_2d import UNet2DOutput
from torch import Tensor

from pushforward.diffusion import Denoiser, widen
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.files import codec

__all__ = ["ExportedUNet"]


class ExportedUNet(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """A denoiser for the schedulers of diffusers, with ``prediction_type="sample"``: it returns E[x | x_t] itself.

    Step k of the chain of T steps is our t = (k + 1) / T. The chain preserves variance: where our schedule does not, its states
    are ours divided by sqrt(alpha^2 + sigma^2), at the same signal-to-noise ratio.

    Parameters
    ----------
    sample_size : list of int
        Height and width.
    in_channels : int
    network, schedule : dict
        Plain data of the network's specification and of the schedule.
    prediction : str
    data_std : float
    condition_dim : int
        Length of a condition, 0 for none.
    timesteps : int
        T.
    bounds : [list of float, list of float], optional
        The smallest and the largest value of each channel of the scaled images, to which a network that predicts ``eps`` or
        ``score`` is held.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        sample_size: list[int],
        in_channels: int,
        network: dict[str, Any],
        schedule: dict[str, Any],
        prediction: str,
        data_std: float,
        condition_dim: int,
        timesteps: int = 1000,
        bounds: list[list[float]] | None = None,
    ) -> None:
        super().__init__()
        built = codec.from_plain(dict(network)).build((in_channels, *sample_size), condition_dim)
        low, high = (torch.tensor(ends, device="cpu")[:, None, None] for ends in bounds or [[], []])
        self.denoiser = Denoiser(
            built,
            codec.from_plain(dict(schedule)),
            prediction=prediction,  # type: ignore[arg-type]
            data_std=data_std,
            bounds=(low, high) if bounds else None,
        )

    @classmethod
    def of(cls, model: DenoisingModel) -> "ExportedUNet":
        """Return the network of a fitted model of images."""
        channels, *size = model.space_.transform.shape
        denoiser, encoder = model.denoiser_, model.space_.conditions
        ends = [] if denoiser.low is None or denoiser.high is None else [denoiser.low.amin((1, 2)), denoiser.high.amax((1, 2))]
        made: ExportedUNet = cls(
            sample_size=size,
            in_channels=channels,
            network=codec.to_plain(model.network_),
            schedule=codec.to_plain(denoiser.schedule),
            prediction=denoiser.prediction,
            data_std=denoiser.data_std,
            condition_dim=0 if encoder is None else encoder.dim,
            bounds=[end.tolist() for end in ends] or None,
        )
        made.denoiser.network.load_state_dict(denoiser.network.state_dict())
        made.eval()
        return made

    def forward(
        self, sample: Tensor, timestep: Tensor | float, class_labels: Tensor | None = None, return_dict: bool = True
    ) -> UNet2DOutput | tuple[Tensor]:
        """Return E[x | x_t]; ``class_labels`` (B,) are numbers of classes, for a model that was trained with labels."""
        t = (torch.as_tensor(timestep, dtype=torch.float64, device=sample.device) + 1) / self.config.timesteps
        schedule, condition = self.denoiser.schedule, None
        root = (schedule.alpha(t) ** 2 + schedule.sigma(t) ** 2).sqrt()
        if class_labels is not None:
            classes = torch.nn.functional.one_hot(class_labels.long(), self.config.condition_dim - 1)
            condition = torch.cat((torch.ones(len(sample), 1, device=sample.device), classes.to(sample)), 1)
        denoised = self.denoiser(widen(root.to(sample.dtype), sample) * sample, t, condition)
        return UNet2DOutput(sample=denoised) if return_dict else (denoised,)
