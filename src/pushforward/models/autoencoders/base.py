r"""The base of variational autoencoders with one or more levels of codes: the training bound, sampling, and the report.

The model draws codes from a prior and then a row from p(x | codes). The encoder gives q(codes | x): each element of the code
is N(mean, std^2), in units of its prior given the levels above. If the encoder draws the levels from the top down, the KL terms
are in closed form (:mod:`pushforward.models.autoencoders.markov` has the other case):

    log p(x) >= E_q log p(x | codes) - beta sum KL(N(mean, std^2) || N(0, 1)),          beta = 1,

with one draw of the codes per row and step. ``beta`` weights the KL: above 1 the code carries less information. With
``free_bits``, an element whose mean KL over the batch is below that many nats contributes exactly that many, so that there is
no gradient towards collapse. The weight of the KL rises linearly from 0 to beta over the first steps, so that codes do not
collapse before the decoder has learned to use them; lower levels need this most.

References
----------
Diederik Kingma, Max Welling. Auto-encoding variational Bayes. 2014. https://arxiv.org/abs/1312.6114
Irina Higgins et al. beta-VAE: learning basic visual concepts with a constrained variational framework. 2017.
Casper Sønderby et al. Ladder variational autoencoders. 2016. https://arxiv.org/abs/1602.02282
Diederik Kingma et al. Improved variational inference with inverse autoregressive flow. 2016. https://arxiv.org/abs/1606.04934
"""

import abc
from collections.abc import Callable
from dataclasses import field
from typing import Annotated, ClassVar, NamedTuple

import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn

from pushforward.data import ArrayLike, Condition
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.autoencoders.bound import BoundModel, CodeDraws, importance_bound, kl_to_standard, log_ratio
from pushforward.models.autoencoders.likelihoods import Likelihood, LikelihoodName, default_likelihood
from pushforward.models.autoencoders.reports import LatentReport
from pushforward.models.base.codes import CodeModel, default_coder, default_training
from pushforward.models.base.preparing import Prepared
from pushforward.models.base.task import RowTask
from pushforward.models.base.trained import TrainedModel
from pushforward.networks import CoderSpec
from pushforward.probability import noise

__all__ = ["PosteriorDraw", "VariationalCoder", "VariationalModel"]

_REPORT_BATCH = 256


class PosteriorDraw(NamedTuple):
    """A draw of codes: the output of the decoder, and mean and log std (B, K) of q, in units of the priors of the codes."""

    output: Tensor
    mean: Tensor
    log_std: Tensor


class VariationalCoder(nn.Module, abc.ABC):
    """The network of a variational autoencoder.

    Parameters
    ----------
    likelihood : Likelihood
        p(x | codes).
    latent_dims : tuple of int
        Length of the code of each level, top first.
    """

    def __init__(self, likelihood: Likelihood, latent_dims: tuple[int, ...]) -> None:
        super().__init__()
        self.likelihood, self.latent_dims, self.latent_dim = likelihood, latent_dims, sum(latent_dims)

    @abc.abstractmethod
    def posterior(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], PosteriorDraw]:
        """Return a function that draws from q(codes | x), given standard normal eps (B, K)."""

    @abc.abstractmethod
    def output(self, eps: Tensor, condition: Tensor | None) -> Tensor:
        """Return the input of the likelihood for codes drawn from the prior, given standard normal eps (B, K)."""

    @abc.abstractmethod
    def encode(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return the mean codes of rows, (B, K)."""

    @abc.abstractmethod
    def decode(self, z: Tensor, condition: Tensor | None) -> Tensor:
        """Return the center of p(x | codes), (B, *D)."""

    def weigh(self, x: Tensor, condition: Tensor | None) -> Callable[[Tensor], Tensor]:
        """Return a function from eps (B, K) to log p(x | codes) p(codes) / q(codes | x), (B,)."""
        draw = self.posterior(x, condition)

        def log_weight(eps: Tensor) -> Tensor:
            posterior = draw(eps)
            log_likelihood = self.likelihood.log_prob(posterior.output, x)
            return log_likelihood - log_ratio(posterior.mean, posterior.log_std, eps).sum(1)

        return log_weight

    def kl(self, posterior: PosteriorDraw, eps: Tensor) -> Tensor:
        """Return terms (B, K) whose sum has the mean KL(q(codes | x) || p(codes)), for the draw of codes that eps gave."""
        del eps
        return kl_to_standard(posterior.mean, posterior.log_std)

    def facts(self, x: Tensor, condition: Tensor | None, eps: Tensor) -> tuple[Tensor, ...]:
        """Return what :meth:`report` needs of each row: mean and log std of q(codes | x) in units of the prior, (B, K) each."""
        posterior = self.posterior(x, condition)(eps)
        return posterior.mean, posterior.log_std

    def report(self, *facts: Tensor) -> LatentReport:
        """Return the report of :meth:`facts` about all rows."""
        mean, log_std = facts
        return LatentReport.of(mean, log_std.exp(), kl_to_standard(mean, log_std), self.latent_dims)


class _Task(RowTask):
    """The negative bound per row, in nats and in the units of the data; held-out rows have no free bits and no warm-up."""

    def __init__(
        self,
        network: VariationalCoder,
        *,
        beta: float,
        free_bits: float,
        kl_warmup: int,
        log_det: float,
        condition_dropout: float,
        width: Tensor,
    ) -> None:
        intervals = network.likelihood.intervals
        super().__init__(condition_dropout=condition_dropout, dequantization=None if intervals else width)
        self.network, self.log_det = network, log_det
        self.beta, self.free_bits, self.kl_warmup = beta, free_bits, kl_warmup
        self.offset: Tensor
        self.register_buffer("offset", (width / 2 if intervals else torch.zeros(())).float(), persistent=False)

    def numbers(self, rows: Tensor, total: int, steps: Tensor, seed: int) -> tuple[Tensor, ...]:
        """Return eps (S, B, K), and the warm-up factor of beta at each step, (S, B)."""
        shape, step = (self.network.latent_dim,), steps[:, None]
        eps = noise.normal(shape, seed=seed, purpose="latent", rows=rows, step=step, device=rows.device)
        share = ((step + 1) / (self.kl_warmup + 1)).clamp(max=1.0)
        return eps, share.expand(-1, len(rows))

    def loss(self, x: Tensor, condition: Tensor | None, numbers: tuple[Tensor, ...]) -> Tensor:
        x, (eps, share) = x + self.offset, numbers
        posterior = self.network.posterior(x, condition)(eps)
        kl = self.beta * self.network.kl(posterior, eps)
        if self.training:
            floored = torch.where(kl.mean(0) >= self.free_bits, kl, self.free_bits) if self.free_bits else kl
            kl = share[:, None] * floored
        return kl.sum(1) - self.network.likelihood.log_prob(posterior.output, x) - self.log_det


class VariationalModel(BoundModel, CodeModel, TrainedModel):
    """Base of variational autoencoders; a family defines ``_network``, a :class:`VariationalCoder`.

    Parameters
    ----------
    likelihood : "gaussian", "diagonal", "logistic", "bernoulli" or "columns", optional
        The law p(x | codes), see :mod:`pushforward.models.autoencoders.likelihoods`: Gaussian with one learned standard
        deviation or one per element, logistic (gives integers probabilities), Bernoulli (for two neighboring integers), or for
        tables a law of each column. The default depends on the data.
    beta : float
        Weight of the KL in training; 1 is the bound.
    free_bits : float
        Nats per element of the code below which the KL is not penalized.
    kl_warmup : int, optional
        Training steps over which the weight of the KL rises from 0 to ``beta``; default a quarter of the steps.
    network : CoderSpec, optional
        Size of encoder and decoder; ``CoderSpec(depth=0)`` makes both affine. The default depends on the shape of the data.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.
    """

    fitted: ClassVar[tuple[str, ...]] = ("likelihood", "kl_warmup", "network", *TrainedModel.fitted)
    core: ClassVar[str] = "coder_"
    of_levels: ClassVar[bool] = True

    likelihood: LikelihoodName | None = None
    beta: Annotated[float, Gt(0)] = 1.0
    free_bits: Annotated[float, Ge(0)] = 0.0
    kl_warmup: Annotated[int, Ge(0)] | None = None
    network: CoderSpec | None = None

    kl_warmup_: int = field(init=False)
    coder_: VariationalCoder = field(init=False)
    likelihood_: LikelihoodName = field(init=False)
    network_: CoderSpec = field(init=False)

    def latent_report(self, X: ArrayLike, *, condition: Condition = None, seed: int = 0) -> LatentReport:
        """Return the information of each element of the code about the rows of X, and the fit of the codes to the prior.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
        seed : int
            Seed of the codes that are drawn, for models with several levels.

        >>> import pushforward as pf
        >>> model = pf.VAE(latent_dim=2, train_steps=5, random_state=0).fit("digits")
        >>> len(model.latent_report(pf.open_data("digits").values[:50]).kl)
        2
        """
        rows = self._rows_of(X, condition, self._coder_dtype)
        eps = noise.normal((self._code_length,), seed=seed, purpose="latent", rows=len(rows.z), dtype=self._coder_dtype)
        return self.coder_.report(*self._through("facts", rows.middle, rows.condition, _REPORT_BATCH, eps))

    def _defaults(self, prepared: Prepared) -> dict[str, object]:
        shape = self.space_.transform.shape
        training = default_training(shape)
        return {
            "likelihood": default_likelihood(self.space_.transform, self.space_.element_columns),
            "kl_warmup": int(self.train_steps or (self.training or training).steps) // 4,
            "network": default_coder(shape),
            "training": training,
        }

    @property
    def _code_length(self) -> int:
        return self.coder_.latent_dim

    def _task(self, network: nn.Module, prepared: Prepared) -> _Task:
        assert isinstance(network, VariationalCoder)
        return _Task(
            network,
            beta=self.beta,
            free_bits=self.free_bits,
            kl_warmup=self.kl_warmup_,
            log_det=self.space_.log_det,
            condition_dropout=self.condition_dropout,
            width=self.space_.transform.dequantization,
        )

    @torch.no_grad()
    def _weighed(self, learned: object, z: Tensor, condition: Tensor | None, draws: CodeDraws) -> LogProb:
        assert isinstance(learned, VariationalCoder)
        rows = torch.arange(draws.first, draws.first + len(z), device=z.device) * (not draws.shared)
        weigh, shape = learned.weigh(z, condition), (learned.latent_dim,)
        log_weights = [
            weigh(noise.normal(shape, seed=draws.seed, purpose="latent", rows=rows, step=k, dtype=z.dtype, device=z.device))
            for k in range(draws.samples)
        ]
        return importance_bound(torch.stack(log_weights), nfe=draws.samples + 1, dims=learned.likelihood.dims)

    @torch.no_grad()
    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = 256) -> Tensor:
        coder, parts = self.coder_, []
        device = next(coder.parameters()).device
        for begin in range(0, n, batch_size):
            end = min(begin + batch_size, n)
            rows = torch.arange(first + begin, first + end, device=device)
            c = None if condition is None else condition[begin:end].to(device)
            eps = noise.normal((coder.latent_dim,), seed=seed, purpose="latent", rows=rows, device=device)
            parts.append(coder.likelihood.draw(coder.output(eps, c), rows, seed).cpu())
        return torch.cat(parts)
