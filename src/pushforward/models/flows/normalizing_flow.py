r"""Normalizing flows: an invertible network, trained by the exact density.

The network maps a row x to a latent z by a chain of invertible steps (:mod:`pushforward.networks.flows`). The loss is the
negative mean over the rows of the change of variables

    log p(x) = log N(z; 0, I) + log |dz/dx|,

without approximation, so the held-out loss is the exact negative log-density of held-out rows. To sample, z ~ N(0, I) is
inverted in one pass.

References
----------
Danilo Rezende, Shakir Mohamed. Variational inference with normalizing flows. 2015. https://arxiv.org/abs/1505.05770
Laurent Dinh, Jascha Sohl-Dickstein, Samy Bengio. Density estimation using Real NVP. 2017. https://arxiv.org/abs/1605.08803
George Papamakarios et al. Normalizing flows for probabilistic modeling and inference. 2021. https://arxiv.org/abs/1912.02762
"""

from dataclasses import field, replace
from typing import ClassVar

from torch import Tensor, nn

from pushforward.models.base.preparing import Prepared
from pushforward.models.base.trained import TrainedModel
from pushforward.models.flows.base import FlowTask, InvertibleModel
from pushforward.networks.flows import Bijection, FlowSpec, default_flow
from pushforward.probability import noise
from pushforward.training import TrainingSettings

__all__ = ["NormalizingFlow"]

_START_ROWS = 4096


class NormalizingFlow(InvertibleModel):
    r"""Normalizing flow: an invertible network with an exact density.

    ``transform`` maps rows to latents, standard normal if the law is learned, and ``inverse_transform`` back. ``log_prob`` is
    exact for real numbers, and a lower bound for integers and for images with constant elements, which are replaced by noise.

    Parameters
    ----------
    network : FlowSpec, optional
        Size of the flow. The default depends on the shape of the data.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    network_, training_
        The resolved arguments.
    flow_ : Bijection
        The trained network.

    References
    ----------
    Conor Durkan, Artur Bekasov, Iain Murray, George Papamakarios. Neural spline flows. 2019. https://arxiv.org/abs/1906.04032
    Diederik Kingma, Prafulla Dhariwal. Glow: generative flow with invertible 1x1 convolutions. 2018.
    https://arxiv.org/abs/1807.03039

    >>> import pushforward as pf
    >>> X = pf.open_data("moons").values
    >>> model = pf.NormalizingFlow(train_steps=5, random_state=0).fit(X)
    >>> z = model.transform(X[:3])
    >>> model.sample(4, seed=0).shape, z.shape, model.log_prob(X[:3]).kind
    ((4, 2), (3, 2), 'exact')
    >>> bool(abs(model.inverse_transform(z) - X[:3]).max() < 1e-6)
    True
    """

    streams: ClassVar[bool] = True
    fitted: ClassVar[tuple[str, ...]] = ("network", *TrainedModel.fitted)
    core: ClassVar[str] = "flow_"

    network: FlowSpec | None = None

    flow_: Bijection = field(init=False)
    network_: FlowSpec = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        return {"network": default_flow(shape), "training": _default_training(shape)}

    def _network(self) -> Bijection:
        return self.network_.build(self.space_.transform.shape, self._condition_dim)

    def _task(self, network: nn.Module, prepared: Prepared) -> FlowTask:
        assert isinstance(network, Bijection)
        width = self.space_.transform.dequantization + self._constant_width
        network.start(*self._first_rows(prepared, width.float()))
        return FlowTask(network, offset=self._offset(), condition_dropout=self.condition_dropout, width=width)

    def _first_rows(self, prepared: Prepared, width: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return random rows with their noise, and conditions, to initialize the network."""
        chosen = noise.permutation(len(prepared.x), seed=self.seed_, purpose="start")[:_START_ROWS]
        x, condition = prepared.x[chosen], prepared.condition
        u = noise.uniform(x.shape[1:], seed=self.seed_, purpose="start", rows=len(x))
        return x + width * u, None if condition is None else condition[chosen]


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return settings tuned on 8x8 digits and points in the plane; they are not tuned for larger images."""
    common = TrainingSettings(weight_decay=1.0, betas=(0.9, 0.99), gradient_clip=10.0)
    if len(shape) == 1:
        return replace(common, steps=1000, batch_size=256, learning_rate=3e-3, ema=0.1, weight_decay=0.01)
    if min(shape[1:]) < 16:
        return replace(common, steps=700, batch_size=128, learning_rate=3e-3, ema=0.1)
    return replace(common, steps=3000, batch_size=64, learning_rate=3e-3, ema=0.05)
