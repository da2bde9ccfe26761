r"""Generative adversarial network: a generator of rows, and a critic that learns to distinguish them from the data.

A generator G maps a code z ~ N(0, I) to a row. A critic D scores rows. For a real row x and a generated row G(z) with the same
condition, if any, let

    lead = D(x) - D(G(z)).

The critic is trained to score the real row higher, the generator to have its row scored higher:

    critic:     softplus(-lead) + (penalty / 2) (|dD/dx|^2 at x + |dD/dx|^2 at G(z)),
    generator:  softplus(lead).

Every generated row is compared with a real one, so a generator that misses a part of the data is penalized by large leads of
the real rows there. The two squared slopes make training converge: without them the players circle around the solution.

Both losses are one task with one backward pass. The critic gets a detached G(z). The generator learns from the slope at G(z),
which the penalty needs anyway, by the chain rule:

    d softplus(lead) / dG = -sigmoid(lead) dD/dx at G(z).

References
----------
Ian Goodfellow et al. Generative adversarial nets. 2014. https://arxiv.org/abs/1406.2661
Alexia Jolicoeur-Martineau. The relativistic discriminator. 2018. https://arxiv.org/abs/1807.00734
Lars Mescheder, Andreas Geiger, Sebastian Nowozin. Which training methods for GANs do actually converge? 2018.
https://arxiv.org/abs/1801.04406
"""

from dataclasses import field, replace
from typing import Annotated, ClassVar

import torch
from annotated_types import Gt
from torch import Tensor, nn

from pushforward.models.base.codes import DecoderModel
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.task import RowTask
from pushforward.models.base.trained import TrainedModel
from pushforward.models.files.params import Size
from pushforward.networks import GANSpec
from pushforward.probability import noise
from pushforward.training import TrainingSettings

__all__ = ["GAN", "GameTask"]


class GameTask(RowTask):
    """The sum of both players' losses per row; its gradient for each player is that of the player's own loss.

    Parameters
    ----------
    generator : nn.Module
        ``(z, condition) -> (B, *D)``.
    critic : nn.Module
        ``(x, condition) -> (B, 1)``; the score of a row must depend on that row alone.
    latent_dim : int
        Length of z.
    penalty : float
        Weight of the squared slopes.
    varies : Tensor (*D)
        1 where elements of a row vary, 0 where they are constant; the critic gets 0 for constant elements.

    Other parameters are those of :class:`~pushforward.models.base.task.RowTask`.
    """

    judged: ClassVar[bool] = False

    def __init__(
        self,
        generator: nn.Module,
        critic: nn.Module,
        *,
        latent_dim: int,
        penalty: float,
        varies: Tensor,
        condition_dropout: float = 0.0,
        dequantization: Tensor | None = None,
    ) -> None:
        super().__init__(condition_dropout=condition_dropout, dequantization=dequantization)
        self.generator, self.critic, self.latent_dim, self.penalty = generator, critic, latent_dim, penalty
        self.varies: Tensor
        self.register_buffer("varies", varies.float(), persistent=False)

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return the codes z of the generated rows, (S, B, latent_dim)."""
        shape = (self.latent_dim,)
        return (noise.normal(shape, seed=seed, purpose="latent", rows=rows, step=steps[:, None], device=rows.device),)

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        """Return the critic's loss plus the generator's, (B,)."""
        generated = self.generator(numbers[0], condition) * self.varies
        rows = torch.cat((x * self.varies, generated.detach())).requires_grad_()
        scores = self.critic(rows, None if condition is None else torch.cat((condition, condition)))[:, 0]
        (slope,) = torch.autograd.grad(scores.sum(), rows, create_graph=True)
        real, fake = scores.chunk(2)
        lead = real - fake
        steepness = slope.square().flatten(1).sum(1)
        at_real, at_fake = steepness.chunk(2)
        critic_loss = nn.functional.softplus(-lead) + self.penalty / 2 * (at_real + at_fake)
        # The value is the generator's loss; the gradient follows from the chain rule, without a second pass of the critic.
        pull = (generated * slope.detach().chunk(2)[1]).flatten(1).sum(1)
        lead = lead.detach()
        generator_loss = nn.functional.softplus(lead) - lead.sigmoid() * (pull - pull.detach())
        return torch.as_tensor(critic_loss + generator_loss)


class GAN(DecoderModel, TrainedModel):
    r"""Generative adversarial network: a generator of rows, trained against a critic.

    ``sample`` calls the generator once, so it is the fastest of all families. There is no density, so no ``log_prob``, and no
    encoder, so no ``transform``; ``inverse_transform`` maps codes to rows, for interpolation. There is no held-out loss to
    select weights by, so the final average of the weights is used.

    Parameters
    ----------
    latent_dim : int, optional
        Length of a code; default 4 for vectors with fewer than 8 columns, else 16; for images with a side of 16 or more 32,
        and of 32 or more 64.
    network : GANSpec, optional
        Size of generator and critic. The default depends on the shape of the data.
    penalty : float, optional
        Weight of the squared slopes of the critic; default 0.02. Larger values train more stably but blur.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    network_, latent_dim_, penalty_, training_
        The resolved arguments.
    generator_ : nn.Module
        The trained generator; the critic is not stored.

    References
    ----------
    Yiwen Huang, Aaron Gokaslan, Volodymyr Kuleshov, James Tompkin. The GAN is dead; long live the GAN! A modern GAN
    baseline. 2024. https://arxiv.org/abs/2501.05441

    >>> import pushforward as pf
    >>> model = pf.GAN(latent_dim=3, train_steps=5, random_state=0).fit("moons")
    >>> model.sample(2, seed=0).shape, model.inverse_transform([[0.1, 0.2, 0.3]], condition=1).shape
    ((2, 2), (1, 2))
    """

    streams: ClassVar[bool] = True
    core: ClassVar[str] = "generator_"
    decodes: ClassVar[str] = "forward"
    fitted: ClassVar[tuple[str, ...]] = ("latent_dim", "network", "penalty", *TrainedModel.fitted)

    latent_dim: Size | None = None
    network: GANSpec | None = None
    penalty: Annotated[float, Gt(0)] | None = None

    latent_dim_: int = field(init=False)
    penalty_: float = field(init=False)
    network_: GANSpec = field(init=False)
    generator_: nn.Module = field(init=False)

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        return {
            "latent_dim": _default_latent_dim(shape),
            "network": _default_network(shape),
            "penalty": 0.02,
            "training": _default_training(shape),
        }

    def _network(self) -> nn.Module:
        return self.network_.generator(self.latent_dim_, self.space_.transform.shape, self._condition_dim)

    def _task(self, network: nn.Module, prepared: Prepared) -> GameTask:
        if self.training_.compile:
            raise ValueError(
                "training with compile=True cannot train a GAN: the penalty on slopes needs second derivatives, which "
                "torch.compile does not support; set compile=False"
            )
        return GameTask(
            network,
            self.network_.critic(self.space_.transform.shape, self._condition_dim),
            latent_dim=self.latent_dim_,
            penalty=self.penalty_,
            varies=self.space_.transform.varies,
            condition_dropout=self.condition_dropout,
            dequantization=self.space_.transform.dequantization,
        )

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        rows = torch.arange(first, first + n)
        z = noise.normal((self.latent_dim_,), seed=seed, purpose="sample", rows=rows).to(self._coder_dtype)
        condition = None if condition is None else condition.to(self._coder_dtype)
        return torch.as_tensor(self._through(self.decodes, z, condition, batch_size))


def _default_latent_dim(shape: tuple[int, ...]) -> int:
    if len(shape) == 1:
        return 4 if shape[0] < 8 else 16
    return 16 if max(shape[1:]) < 16 else 32 if max(shape[1:]) < 32 else 64


def _default_network(shape: tuple[int, ...]) -> GANSpec:
    if len(shape) == 1:
        return GANSpec(width=64 if shape[0] < 8 else 128, depth=3)
    if max(shape[1:]) < 32:  # dense: at 28 x 28 it learns far more in the same time than convolutions do
        return GANSpec(width=256 if max(shape[1:]) < 16 else 512, depth=3)
    return GANSpec(width=12, depth=1)


def _default_training(shape: tuple[int, ...]) -> TrainingSettings:
    """Return the settings that performed best on eight Gaussians, 8x8 digits and MNIST, on one CPU core.

    The first moment of Adam is off, because it averages gradients against outdated states of the other player.
    """
    common = TrainingSettings(weight_decay=0.0, betas=(0.0, 0.99), gradient_clip=None, ema=0.1)
    if len(shape) == 1:
        return replace(common, steps=6000, batch_size=128, learning_rate=3e-3)
    if max(shape[1:]) < 16:
        return replace(common, steps=5000, batch_size=64, learning_rate=1e-3)
    if max(shape[1:]) < 32:
        return replace(common, steps=6000, batch_size=64, learning_rate=5e-4)
    return replace(common, steps=3000, batch_size=64, learning_rate=1e-3)
