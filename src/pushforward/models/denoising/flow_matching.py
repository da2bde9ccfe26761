"""Flow matching: learn the velocity that transports a source law to the data along fixed paths."""

from typing import ClassVar

import torch
from torch import Tensor

from pushforward.data import Dataset
from pushforward.diffusion.coupling import Coupling
from pushforward.models.base.preparing import Prepared
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.denoising.source import ArraySource, make_source

__all__ = ["FlowMatching"]


class FlowMatching(DenoisingModel):
    r"""Flow matching along x_t = alpha x + sigma z.

    The velocity of the path, alpha_dot x + sigma_dot z, is regressed on (x_t, t); the flow of its conditional mean transports
    the law of z at t = 1 to the law of x at t = 0. By default the path is the straight line and z is Gaussian noise.

    Parameters
    ----------
    schedule : Schedule, optional
        The path; default ``StraightLine()``.
    source : law, array or None
        Law of z: None is standard normal noise; otherwise anything with ``sample(n, seed=...)``, or rows like those of X, both
        in the units of X.
    coupling : "independent", "optimal-transport" or "paired"
        How x and z are paired in training: independently; by the assignment with minimal squared distance within a batch (among
        rows with the same condition, which must be labels); or row by row, for a source array as long as X.
    times : TimeLaw, optional
        Law of training times; default ``LogitNormalTimes(uniform_share=0.1)``, for small images with less noise.
    weight : Weight, optional
        Space of the squared error; default "edm", the plain squared error of a preconditioned network.

    Other parameters are those of :class:`~pushforward.models.denoising.model.DenoisingModel`.

    Attributes
    ----------
    denoiser_ : Denoiser
        The trained network with its path.
    schedule_, times_, weight_, network_, sampler_, training_
        The resolved arguments.

    References
    ----------
    Yaron Lipman et al. Flow matching for generative modeling. 2023. https://arxiv.org/abs/2210.02747
    Alexander Tong et al. Improving and generalizing flow-based generative models with minibatch optimal transport. 2024.
    https://arxiv.org/abs/2302.00482

    >>> import pushforward as pf
    >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit(np.random.default_rng(0).normal(size=(100, 2)))
    >>> model.sample(4, seed=0).shape
    (4, 2)
    """

    streams: ClassVar[bool] = True

    source: object = None
    coupling: Coupling = "independent"

    @property
    def _source_argument(self) -> object:
        return self.source

    @property
    def _coupling(self) -> Coupling:
        return self.coupling

    def _prepare(self, dataset: Dataset) -> Prepared:
        prepared = super()._prepare(dataset)
        if (
            self.coupling == "optimal-transport"
            and self.space_.conditions is not None
            and not self.space_.conditions.has_classes
        ):
            raise ValueError(
                "coupling='optimal-transport' exchanges noise among rows of the same condition, but these conditions are "
                "not labels and are rarely equal; use coupling='independent'"
            )
        return self._pair(prepared, len(dataset)) if self.coupling == "paired" else prepared

    def _pair(self, prepared: Prepared, rows: int) -> Prepared:
        """Stack each row with its row of the source, as (N, 2, *D)."""
        source = make_source(self.source, self.space_.schema, self.space_.transform)
        if not isinstance(source, ArraySource) or len(source.rows) != rows:
            got = f"an array of {len(source.rows)} rows" if isinstance(source, ArraySource) else repr(self.source)
            raise ValueError(
                f"coupling='paired' needs as source an array with one row for each of the {rows} rows of X, got {got}"
            )
        x = torch.stack((prepared.whole, source.rows[prepared.rows]), 1)
        held_out = prepared.held_out
        if held_out is not None:
            held_out = (torch.stack((held_out[0], source.rows[prepared.held_out_rows]), 1), held_out[1])
        return Prepared(x, prepared.condition, held_out, prepared.rows, prepared.held_out_rows, began=prepared.began)

    def _clean(self, x: Tensor) -> Tensor:
        return x[:, 0] if self.coupling == "paired" else x
