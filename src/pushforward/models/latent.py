r"""Latent models: a coder compresses rows to short codes, and a prior learns the law of the codes.

The prior is any model, trained on the codes. To sample, draw a code from the prior and decode it. The coder is trained first,
without the prior; the prior is trained on codes only, and scales them like any other data.

If the coder has random codes (:class:`~pushforward.models.autoencoders.vae.VAE`,
:class:`~pushforward.models.gaussian.ppca.PPCA`), the prior is trained on draws from q(z | x), because it has to match the
aggregate posterior, the mean over rows of q(z | x), and rows are drawn with the noise of p(x | z). The law of rows is then
p(x) = \int p(x | z) p_prior(z) dz, and

    log p(x) >= E log 1/K sum_k w_k,      w = p(x | z) p_prior(z) / q(z | x),   z ~ q(z | x).

With K = 1 this is E_q [log p(x | z) - log q(z | x)] + E_q log p_prior(z), a term of the coder plus the log-density of the
prior. It differs from a VAE's bound in the last term only: KL(aggregate posterior || prior) replaces the KL to N(0, I).

References
----------
Arash Vahdat, Karsten Kreis, Jan Kautz. Score-based generative modeling in latent space. 2021.
https://arxiv.org/abs/2106.05931
Bin Dai, David Wipf. Diagnosing and enhancing VAE models. 2019. https://arxiv.org/abs/1903.05789
"""

from dataclasses import replace
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Values
from pushforward.diffusion.log_prob import Kind, LogProb
from pushforward.models.autoencoders.bound import importance_bound
from pushforward.models.autoencoders.vae import VAE
from pushforward.models.base.available import available_if, in_data_units
from pushforward.models.base.codes import CodeModel, RandomCodes
from pushforward.models.base.density import DensityModel
from pushforward.models.denoising.base import Denoising
from pushforward.models.denoising.flow_matching import FlowMatching
from pushforward.models.flows.cnf import CNF
from pushforward.models.two_stage import Coder, TwoStageModel, has_random_codes
from pushforward.probability import noise
from pushforward.probability.counts import check_count

__all__ = ["Latent"]

_SAMPLES, _SAMPLES_OF_ODES = 16, 2
_BATCH = 256


@runtime_checkable
class _Scorer(Protocol):
    """A model with a density."""

    def log_prob(
        self, X: ArrayLike, *, condition: Condition = ..., seed: int = ..., first: int = ..., batch_size: int = ...
    ) -> LogProb:
        """Return log-densities of rows."""


def _has_density(model: TwoStageModel) -> bool:
    """Whether the coder has random codes, the prior has a density, and rows are in the units of the data."""
    if not in_data_units(model):
        return False
    coder, prior = (getattr(model, f"{name}_", None) or getattr(model, name) for name in ("coder", "prior"))
    return isinstance(coder or VAE(), RandomCodes) and hasattr(prior or FlowMatching(), "log_prob")


class Latent(CodeModel, DensityModel, TwoStageModel):
    r"""A coder and a prior of its codes: ``fit`` trains the coder, then the prior.

    ``sample`` draws a code from the prior and decodes it; ``transform`` and ``inverse_transform`` are those of the coder.
    ``log_prob``, a lower bound, exists if the coder is a :class:`~pushforward.models.autoencoders.vae.VAE` or a
    :class:`~pushforward.models.gaussian.ppca.PPCA` and the prior has a density. Only the prior uses conditions.

    Set arguments of the parts as in scikit-learn, ``set_params(prior__train_steps=500)``, or on the command line with
    ``--set prior.train_steps=500``.

    Parameters
    ----------
    coder : model with ``transform`` and ``inverse_transform``, optional
        Not yet fitted; it is cloned. Default ``VAE()``.
    prior : model with ``sample``, optional
        For most coders a model of vectors. Default ``FlowMatching()``.
    draws : int, optional
        For random codes, the number of codes per row that the prior is trained on; default enough for 20,000, at most 32.
    train_steps : int, optional
        Steps of both parts together, three fifths of them for the coder; a part that sets its own steps keeps them. Default:
        the defaults of the parts.
    max_time : float, optional
        The same in seconds.
    device : str, optional
        Where to train parts that set no device; default the fastest available.

    Other parameters are those of :class:`~pushforward.models.base.preparing.Preparing`. Both parts hold out the same rows,
    and a part without a ``random_state`` gets one derived from this model's.

    Attributes
    ----------
    coder_, prior_
        The fitted parts; ``prior_`` works in the units of the codes.
    training_result_ : TrainingResult
        Steps, seconds and parameters of both together; the held-out loss is that of the prior.

    References
    ----------
    Robin Rombach et al. High-resolution image synthesis with latent diffusion models. 2022. https://arxiv.org/abs/2112.10752

    >>> import pushforward as pf
    >>> X = pf.open_data("digits").values[:200]
    >>> model = pf.Latent(pf.PPCA(n_components=3), pf.GMM(n_components=4), random_state=0).fit(X)
    >>> model.sample(2, seed=0).shape, model.transform(X[:4]).shape, model.log_prob(X[:4]).kind
    ((2, 8, 8), (4, 3), 'lower bound')
    """

    fitted: ClassVar[tuple[str, ...]] = ("coder", "prior")
    core: ClassVar[str] = "coder_"

    def transform(self, X: ArrayLike, *, condition: Condition = None, batch_size: int = _BATCH) -> Values:
        """Return the codes of the rows of X, (N, K); where the code is random its mean.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Checked, but without effect: the coder never sees conditions.
        batch_size : int
            Rows that go through the network at once.
        """
        check_is_fitted(self)
        assert isinstance(self.coder_, Coder)
        codes = self.coder_.transform(X, batch_size=batch_size)
        self._check_condition(condition, len(codes))
        return codes

    def inverse_transform(self, Z: ArrayLike, *, condition: Condition = None, batch_size: int = _BATCH) -> Values:
        """Return the rows of data that the coder makes of codes Z (N, K), without noise; ``condition`` has no effect."""
        check_is_fitted(self)
        assert isinstance(self.coder_, Coder)
        rows = self.coder_.inverse_transform(Z, batch_size=batch_size)
        self._check_condition(condition, len(rows))
        return rows

    @available_if(_has_density)
    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        samples: int | None = None,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = _BATCH,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return a lower bound of the log-density of each row in nats, in data units, with its errors.

        Parameters
        ----------
        samples : int, optional
            K, draws of the code per row, each of which the prior scores. The bound rises to log p with K. Default 16, or 2
            where the prior's density needs an ODE, which is slow.
        draws : int
            Where the coder takes integers as x + u, draws of u in [0, 1) whose bounds are averaged.

        Other parameters and the errors are those of :meth:`pushforward.NormalizingFlow.log_prob`.

        Returns
        -------
        LogProb
            A lower bound, or an estimate of one if ``samples`` > 1 and the prior's density is itself an estimate. The standard
            error is that of the draws and of the prior together, the numerical error that of the prior.
        """
        bound = self._bound(X, condition, samples, draws, seed, first, batch_size, shared=False)
        return bound.in_bits_per_dim() if bits_per_dim else bound

    @available_if(_has_density)
    def score_samples(self, X: ArrayLike, *, condition: Condition = None) -> np.ndarray:
        """Return the bound of each row in nats, in data units, (N,), where all rows share their draws of the code."""
        return self._bound(X, condition, None, 2, 0, 0, _BATCH, shared=True).values

    score = available_if(_has_density)(DensityModel.score)

    def to(self, device: str | torch.device) -> "Latent":
        """Move both parts to a device, where sampling and scoring then run, and return the model."""
        check_is_fitted(self)
        self.coder_.to(device)
        self.prior_.to(device)
        return self

    @property
    def _knows_null(self) -> bool:
        return bool(self.prior_._knows_null)

    def _bound(
        self,
        X: ArrayLike,
        condition: Condition,
        samples: int | None,
        draws: int,
        seed: int,
        first: int,
        batch_size: int,
        *,
        shared: bool,
    ) -> LogProb:
        check_is_fitted(self)
        if samples is None:
            samples = _SAMPLES_OF_ODES if isinstance(self.prior_, Denoising | CNF) else _SAMPLES
        for name, value in (("samples", samples), ("draws", draws), ("batch_size", batch_size)):
            check_count(name, value)
        coder, prior = self.coder_, self.prior_
        assert has_random_codes(coder)
        assert isinstance(prior, _Scorer)
        rows, bounds = coder._rows(X, None), []
        for draw in range(draws if rows.integer else 1):
            codes, ratios = self._draw_codes(rows, samples, noise.derive(seed, "codes", draw), first, batch_size, shared=shared)
            priors = [
                prior.log_prob(
                    np.asarray(z),
                    condition=condition,
                    seed=noise.derive(seed, "prior", draw, k),
                    first=first,
                    batch_size=batch_size,
                )
                for k, z in enumerate(codes)
            ]
            bounds.append(_composed(ratios, priors, dims=int((~self.space_.transform.constant).sum())))
        bound = bounds[0] if len(bounds) == 1 else LogProb.average(bounds, bounds[0].kind)
        bound = bound.shifted(rows.log_shares.numpy() + self.space_.transform.log_det)
        return replace(bound, constants=self.space_.transform.constants)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = _BATCH) -> Tensor:
        prior, coder = self.prior_, self.coder_
        z = prior._generate(n, condition, seed=noise.derive(seed, "prior"), first=first, batch_size=batch_size)
        codes = prior.space_.to_data(z)
        if not isinstance(coder, RandomCodes):
            assert isinstance(coder, Coder)
            rows = coder.inverse_transform(prior.space_.schema.to_user(codes), batch_size=batch_size)
            return self.space_.transform.forward(self.space_.schema.to_internal(rows), dtype=torch.float32)
        parts = []
        for begin in range(0, n, batch_size):
            part = codes[begin : begin + batch_size]
            numbers = torch.arange(first + begin, first + begin + len(part))
            parts.append(coder._draw_given(part, numbers, noise.derive(seed, "rows")))
        return torch.cat(parts).float()

    def _check_condition(self, condition: Condition, n: int) -> None:
        if condition is not None:
            self.space_.encode(condition, n, null=self._knows_null)


def _composed(ratios: Tensor, priors: list[LogProb], *, dims: int) -> LogProb:
    """Return the bound from log p(x | z) / q(z | x) (K, N) and the prior's log-densities of the codes, K of (N,)."""
    values = np.stack([prior.values for prior in priors])
    log_weights = ratios.double() + torch.from_numpy(values)
    bound = importance_bound(log_weights, nfe=len(priors) + 1 + sum(prior.nfe for prior in priors), dims=dims)
    share = log_weights.softmax(0).numpy()
    carried = np.sqrt(sum((w * prior.standard_error) ** 2 for w, prior in zip(share, priors, strict=True)))
    numerical, mismatch = (
        np.sum([w * getattr(prior, name) for w, prior in zip(share, priors, strict=True)], axis=0)
        for name in ("numerical_error", "prior_mismatch")
    )
    # With one draw, a random error of log p_prior averages out; inside the logarithm of a mean of several, it raises the bound.
    is_estimate = not (priors[0].is_exact or priors[0].is_bound)
    kind: Kind = "estimate" if len(priors) > 1 and is_estimate else "lower bound"
    error = np.hypot(bound.standard_error, carried)
    return replace(bound, kind=kind, standard_error=error, numerical_error=numerical, prior_mismatch=mismatch)
