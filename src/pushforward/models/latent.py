r"""A law of codes behind a coder: compress first, then learn the law of what is left.

A coder makes short codes of rows and rows of codes; a prior is any model at all, trained on these codes. A new row is a code
drawn from the prior and decoded. The two are trained in turn: the coder does not know of the prior, and the prior sees nothing
but codes. It measures their scale itself, as any model does with its data.

Where the coder says q(z | x) and p(x | z) (:class:`~pushforward.models.vae.VAE`, :class:`~pushforward.models.ppca.PPCA`), the
prior is trained on draws from q(z | x), for it is to be the aggregate posterior, the mean over rows of q(z | x), and rows are
drawn with the noise of p(x | z). Then the law of rows is p(x) = \int p(x | z) p_prior(z) dz, and as for any law of the code

    log p(x) >= E log 1/K sum_k w_k,      w = p(x | z) p_prior(z) / q(z | x),   z ~ q(z | x).

With K = 1 this is E_q [log p(x | z) - log q(z | x)] + E_q log p_prior(z): the coder's half of the bound, and the density of the
prior. Against a VAE's own bound only the last term is another, KL(aggregate posterior || prior) instead of that to N(0, I).

References
----------
Arash Vahdat, Karsten Kreis, Jan Kautz. Score-based generative modeling in latent space. 2021.
https://arxiv.org/abs/2106.05931
Robin Rombach et al. High-resolution image synthesis with latent diffusion models. 2022. https://arxiv.org/abs/2112.10752
Bin Dai, David Wipf. Diagnosing and enhancing VAE models. 2019. https://arxiv.org/abs/1903.05789
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import torch
from sklearn.base import clone
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward import training
from pushforward.data import Dataset, Schema, Transform, Values
from pushforward.diffusion.likelihood import Kind, LogProb
from pushforward.models.arguments import check_count, encoded_condition
from pushforward.models.base import GenerativeModel, Prepared
from pushforward.models.bounds import importance_bound
from pushforward.models.cnf import CNF
from pushforward.models.codec import is_part, to_plain
from pushforward.models.coder import CodeVerbs, RandomCodes
from pushforward.models.density import DensityVerbs
from pushforward.models.flow_density import FlowDensityVerbs
from pushforward.models.flow_matching import FlowMatching
from pushforward.models.params import check_params
from pushforward.models.rows import Rows
from pushforward.models.run import Plan, plan
from pushforward.models.storage import CARD, load, pack, read_card, under, unpack
from pushforward.models.trained import Count, Seconds, Share, TrainedModel
from pushforward.models.vae import VAE
from pushforward.models.vqvae import VQVAE
from pushforward.probability import noise
from pushforward.training import TrainingResult

__all__ = ["Latent"]

_CODES, _MOST_DRAWS = 20_000, 32  # codes to train a prior on, if rows are fewer
_CODER_SHARE = 0.6  # of the time, if both parts are trained by gradients
_SAMPLES, _SAMPLES_OF_ODES = 16, 2
_BATCH = 256


@dataclass(frozen=True, eq=False)
class _Prepared(Prepared):
    """Scaled rows, and the data set that they come from, which the coder opens anew."""

    dataset: Dataset


class _Plans(NamedTuple):
    """The coder with everything decided, and the prior as if on codes of the same shape."""

    coder: Plan
    prior: Plan | None


def _has_density(model: Any) -> bool:
    """Whether the coder says q(z | x) and p(x | z), and the prior has a density."""
    coder, prior = (getattr(model, f"{name}_", None) or getattr(model, name) for name in ("coder", "prior"))
    return isinstance(coder or VAE(), RandomCodes) and hasattr(prior or FlowMatching(), "log_prob")


class Latent(CodeVerbs, DensityVerbs, GenerativeModel):
    r"""A coder, and a prior that is trained on its codes: ``fit`` trains one after the other.

    ``sample`` draws a code from the prior and decodes it, ``transform`` and ``inverse_transform`` are those of the coder.
    ``log_prob``, a lower bound, is there if the coder is a :class:`~pushforward.models.vae.VAE` or a
    :class:`~pushforward.models.ppca.PPCA` and the prior has a density. Conditions go to the prior; the coder never sees them.

    Arguments of the parts are set as in scikit-learn, ``set_params(prior__train_steps=500)``, and on the command line by
    ``--set prior.train_steps=500``.

    Parameters
    ----------
    coder : model with ``transform`` and ``inverse_transform``, optional
        Not yet fitted; it is cloned, not changed. Default ``VAE()``.
    prior : model with ``sample``, optional
        Of vectors, for most coders. Default ``FlowMatching()``.
    draws : int, optional
        Codes that are drawn of each row to train the prior on, where codes are random; default as many as make 20,000, at most
        32.
    max_time : float, optional
        Seconds for both parts together, three fifths of them for the coder; a part with a time of its own keeps it.
    device : str, optional
        Where to train parts that name no device of their own; default the fastest there is.
    held_out, kind, random_state, verbose
        As in :class:`~pushforward.models.base.GenerativeModel`; the parts set the same rows aside, and a part without a
        ``random_state`` of its own gets one from this.

    Attributes
    ----------
    coder_, prior_
        The fitted parts; ``prior_`` works in the units of the codes.
    training_result_ : TrainingResult
        Steps, seconds and parameters of both together; the held-out loss is that of the prior.

    References
    ----------
    Robin Rombach et al. High-resolution image synthesis with latent diffusion models. 2022. https://arxiv.org/abs/2112.10752

    Examples
    --------
    >>> import pushforward as pf
    >>> model = pf.Latent(pf.PPCA(n_components=3), pf.GMM(n_components=4), random_state=0).fit("digits")
    >>> rows = pf.open_data("digits").values[:4]
    >>> model.sample(2, seed=0).shape, model.transform(rows).shape, model.log_prob(rows).kind
    ((2, 8, 8), (4, 3), 'lower bound')
    """

    fitted: ClassVar[tuple[str, ...]] = ("coder", "prior")
    core: ClassVar[str] = "coder_"

    coder_: Any
    prior_: Any

    def __init__(
        self,
        coder: GenerativeModel | None = None,
        prior: GenerativeModel | None = None,
        *,
        draws: Count | None = None,
        max_time: Seconds | None = None,
        held_out: Share = 0.1,
        kind: Literal["vectors", "pictures"] | None = None,
        device: str | None = None,
        random_state: Any = None,
        verbose: bool = False,
    ) -> None:
        self.coder = coder
        self.prior = prior
        self.draws = draws
        self.max_time = max_time
        self.held_out = held_out
        self.kind = kind
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def transform(self, X: Any, *, condition: Any = None, batch_size: int = _BATCH) -> Values:
        """Return the codes of the rows of X, (N, K); where the code is random its mean.

        Parameters
        ----------
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Checked, and of no effect: the coder never sees conditions.
        batch_size : int
            Rows that go through the network at once.
        """
        check_is_fitted(self)
        codes = self.coder_.transform(X, batch_size=batch_size)
        self._check_condition(condition, len(codes))
        return codes

    def inverse_transform(self, Z: Any, *, condition: Any = None, batch_size: int = _BATCH) -> Values:
        """Return the rows of data that the coder makes of codes Z (N, K), without noise; ``condition`` has no effect."""
        check_is_fitted(self)
        rows = self.coder_.inverse_transform(Z, batch_size=batch_size)
        self._check_condition(condition, len(rows))
        return rows

    @available_if(_has_density)  # type: ignore[untyped-decorator]
    def log_prob(
        self,
        X: Any,
        *,
        condition: Any = None,
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
        X : array, tensor or DataFrame
            Rows like the training data.
        condition : label, vector, or one of them per row, optional
            Gives log p(x | condition). Without it a conditional model uses what the prior learned with its condition dropped.
        samples : int, optional
            K, draws of the code per row; the prior is asked for the density of each. The bound rises to log p with K. Default
            16, or 2 where the prior's density follows an ODE, which takes its time.
        draws : int
            Where the coder takes integers as x + u, draws of u in [0, 1) whose bounds are averaged.
        seed, first : int
            Name the random numbers: those of row i of X depend on (seed, first + i) alone.
        batch_size : int
            Rows that go through a network at once.
        bits_per_dim : bool
            Whether the result is in bits per dimension, -log2 p / dims, instead of nats.

        Returns
        -------
        LogProb
            A lower bound, or an estimate of one if ``samples`` > 1 and the prior's density is itself an estimate. The standard
            error is that of the draws and of the prior together, the numerical error that of the prior.

        Raises
        ------
        ValueError
            If X does not fit the training data, or the model has learned no law without a condition and none is given.
        """
        found = self._bound(X, condition, samples, draws, seed, first, batch_size, shared=False)
        return found.in_bits_per_dim() if bits_per_dim else found

    @available_if(_has_density)  # type: ignore[untyped-decorator]
    def score_samples(self, X: Any, *, condition: Any = None) -> np.ndarray:
        """Return the bound of each row in nats, in data units, (N,), where all rows share their draws of the code."""
        return self._bound(X, condition, None, 2, 0, 0, _BATCH, shared=True).values

    score = available_if(_has_density)(DensityVerbs.score)

    def to(self, device: str | torch.device) -> "Latent":
        """Move both parts to a device, where sampling and scoring then work, and return the model."""
        check_is_fitted(self)
        self.coder_.to(device)
        self.prior_.to(device)
        return self

    @property
    def condition_dropout(self) -> float:
        """Share of rows that the prior saw without their condition."""
        return float(getattr(self.prior_, "condition_dropout", 1.0))

    def _bound(
        self, X: Any, condition: Any, samples: int | None, draws: int, seed: int, first: int, batch_size: int, *, shared: bool
    ) -> LogProb:
        check_is_fitted(self)
        if samples is None:
            samples = _SAMPLES_OF_ODES if isinstance(self.prior_, FlowDensityVerbs | CNF) else _SAMPLES
        for name, value in (("samples", samples), ("draws", draws), ("batch_size", batch_size)):
            check_count(name, value)
        rows = self.coder_._rows(X, None)
        found = []
        for draw in range(draws if rows.integer else 1):
            codes, ratios = self._drawn(rows, samples, noise.derive(seed, "codes", draw), first, batch_size, shared=shared)
            priors = [
                self.prior_.log_prob(
                    np.asarray(z),
                    condition=condition,
                    seed=noise.derive(seed, "prior", draw, k),
                    first=first,
                    batch_size=batch_size,
                )
                for k, z in enumerate(codes)
            ]
            found.append(_composed(ratios, priors, dims=int((~self.transform_.constant).sum())))
        whole = found[0] if len(found) == 1 else LogProb.average(found, found[0].kind)
        return replace(whole.shifted(self.transform_.log_det), constants=self.transform_.constants)

    def _drawn(
        self, rows: Rows, samples: int, seed: int, first: int, batch_size: int, *, shared: bool
    ) -> tuple[Tensor, Tensor]:
        """Return codes z ~ q(z | x) (samples, N, K) of rows, integers as x + u, and log p(x | z) / q(z | x) (samples, N)."""

        def of(part: slice, learned: Any, device: torch.device) -> tuple[Tensor, Tensor]:
            x = rows.dequantized(part, seed, first + part.start).to(device)
            numbers = torch.arange(first + part.start, first + part.start + len(x), device=device) * (not shared)
            draw, made = self.coder_._posterior(learned, x), []
            for k in range(samples):
                shape = (self.coder_._code_length,)
                made.append(
                    draw(noise.normal(shape, seed=seed, purpose="latent", rows=numbers, step=k, dtype=x.dtype, device=device))
                )
            return torch.stack([z for z, _ in made]).cpu(), torch.stack([ratio for _, ratio in made]).cpu()

        with torch.no_grad():
            parts = self.coder_._in_batches(of, len(rows.z), batch_size)
        return torch.cat([z for z, _ in parts], dim=1), torch.cat([ratio for _, ratio in parts], dim=1)

    def _generate(self, n: int, condition: Tensor | None, *, seed: int, first: int = 0, batch_size: int = _BATCH) -> Tensor:
        prior, coder = self.prior_, self.coder_
        z = prior._generate(n, condition, seed=noise.derive(seed, "prior"), first=first, batch_size=batch_size)
        codes = prior.transform_.inverse(z)
        if not isinstance(coder, RandomCodes):
            rows = coder.inverse_transform(prior.schema_.to_user(codes), batch_size=batch_size)
            return self.transform_.forward(self.schema_.to_internal(rows), dtype=torch.float32)
        made = []
        for begin in range(0, n, batch_size):
            part = codes[begin : begin + batch_size]
            numbers = torch.arange(first + begin, first + begin + len(part))
            made.append(coder._draw_given(part, numbers, noise.derive(seed, "rows")))
        return torch.cat(made).float()

    def _check_condition(self, condition: Any, n: int) -> None:
        if condition is not None:
            encoded_condition(self.condition_encoder_, condition, n, self.condition_dropout)

    def _prepare(self, dataset: Dataset) -> Prepared:
        """Prepare rows as all do, with the coder's scaling; which of them are set aside is settled for both parts."""
        prepared = super()._prepare(dataset)
        aside = replace(dataset, held_out=prepared.held_out_rows)
        return _Prepared(**{field.name: getattr(prepared, field.name) for field in fields(prepared)}, dataset=aside)

    def _scaling(self, x: Tensor) -> Transform:
        coder = clone(self.coder or VAE())
        coder.schema_ = self.schema_
        scaling: Transform = coder._scaling(x)
        return scaling

    def _defaults(self, prepared: Prepared) -> dict[str, Any]:
        return {"coder": VAE(), "prior": FlowMatching()}

    def _resolve(self, prepared: Prepared) -> _Plans:
        assert isinstance(prepared, _Prepared)
        self._name_parts(prepared)
        check_params(type(self.prior_), self.prior_.get_params(deep=False))
        coder = plan(replace(prepared.dataset, condition=None), self.coder_)
        self.coder_, prior = coder.model, None
        if isinstance(self.prior_, TrainedModel):
            prior = plan(self._codes_to_be(prepared.dataset, coder), self.prior_)
            self.prior_ = _unfitted(self.prior_)
        return _Plans(coder, prior)

    def _name_parts(self, prepared: Prepared) -> None:
        """Set ``coder_`` and ``prior_``, not yet fitted, with the seeds, the device and the time that are left open."""
        self._fill_in(prepared)
        for name, verbs in (("coder", ("transform", "inverse_transform")), ("prior", ("sample",))):
            part = getattr(self, f"{name}_")
            missing = [verb for verb in verbs if not hasattr(part, verb)]
            if missing:
                raise ValueError(
                    f"{name}={type(part).__name__}(...) has no {missing[0]}: a {name} needs {' and '.join(verbs)}, as "
                    f"{'VAE() has' if name == 'coder' else 'FlowMatching() has'}"
                )
        if isinstance(self.coder_, VQVAE):
            raise ValueError(
                "coder=VQVAE(...) has codes of whole numbers and a prior of its own for them; train it alone, or take VAE()"
            )
        timed = [name for name in ("coder", "prior") if "max_time" in getattr(self, f"{name}_").get_params(deep=False)]
        shares = {"coder": _CODER_SHARE, "prior": 1 - _CODER_SHARE} if len(timed) == 2 else dict.fromkeys(timed, 1.0)
        for name in ("coder", "prior"):
            part = clone(getattr(self, f"{name}_"))
            given = part.get_params(deep=False)
            own: dict[str, Any] = {"random_state": noise.derive(self.seed_, name), "device": self.device}
            if self.max_time is not None:
                own["max_time"] = self.max_time * shares.get(name, 1.0)
            part.set_params(**{key: value for key, value in own.items() if key in given and given[key] is None})
            setattr(self, f"{name}_", part.set_params(verbose=self.verbose or part.verbose))

    def _learn(
        self,
        prepared: Prepared,
        resolved: _Plans,
        *,
        folder: Path | None = None,
        resume: bool = False,
        on_grid: Callable[[int], None] | None = None,
    ) -> None:
        assert isinstance(prepared, _Prepared)
        self.coder_ = self._train("coder", resolved.coder, folder, resume)
        prior = plan(self._codes(prepared.dataset), self.prior_)
        self.prior_ = prior.model
        self.prior_ = self._train("prior", prior, folder, resume, on_grid)
        self.condition_encoder_ = self.prior_.condition_encoder_
        self.training_result_ = _together(self.coder_.training_result_, self.prior_.training_result_)

    def _train(
        self, name: str, part: Plan, folder: Path | None, resume: bool, on_grid: Callable[[int], None] | None = None
    ) -> GenerativeModel:
        """Train a part, in a folder of its own inside the run, and return it; one that is finished is loaded."""
        if folder is None:
            part.model._learn(part.prepared, part.resolved)
            return part.model
        place = folder / name
        status = training.agreed(lambda: read_card(place)["status"] if resume and (place / CARD).is_file() else None)
        if status == "finished":
            own = {key: value for key, value in part.model.get_params().items() if is_part(to_plain(value))}
            return load(place, parts=own)
        return part.start(place, resume=status is not None, on_grid=on_grid)

    def _codes(self, dataset: Dataset) -> Dataset:
        """Return the codes of all rows, several draws of each one after the other where codes are random."""
        values = dataset.values
        if not isinstance(self.coder_, RandomCodes):
            return _as_dataset(self.coder_.transform(values), dataset, 1)
        draws = self._draws(len(values))
        coder: Any = self.coder_
        rows, made = coder._rows(values, None), []
        for draw in range(draws):
            seed = noise.derive(self.seed_, "codes", draw)
            made.append(self._drawn(rows, 1, seed, 0, _BATCH, shared=False)[0][0])
        return _as_dataset(np.asarray(torch.cat(made)), dataset, draws)

    def _codes_to_be(self, dataset: Dataset, coder: Plan) -> Dataset:
        """Return as many noise rows as there will be codes, of their shape, which is known before the coder is trained."""
        model, draws, shape = coder.model, 1, dataset.schema.row_shape
        if isinstance(model, TrainedModel):
            model._adopt(coder.resolved[1])
        if isinstance(model, CodeVerbs):
            shape = (model._code_length,)
        if isinstance(model, RandomCodes):
            draws = self._draws(len(dataset))
        z = noise.normal(shape, seed=self.seed_, purpose="codes to be", rows=draws * len(dataset))
        return _as_dataset(np.asarray(z), dataset, draws)

    def _draws(self, rows: int) -> int:
        return self.draws or min(_MOST_DRAWS, math.ceil(_CODES / rows))

    def _data_of(self, part: str, dataset: Dataset) -> Dataset:
        whole = replace(dataset, condition=None)
        if part == "coder":
            return whole
        prepared = self._prepare(dataset)
        self._name_parts(prepared)
        return self._codes_to_be(dataset, plan(whole, self.coder_))

    def _size(self, resolved: _Plans) -> int | None:
        sizes = [None if part is None else part.parameters for part in resolved]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    def _seconds(self, resolved: _Plans, prepared: Prepared) -> float | None:
        return sum(part.seconds() or 0.0 for part in resolved if part is not None)

    def _resolved(self) -> dict[str, Any]:
        parts = {"coder": _unfitted(self.coder_), "prior": _unfitted(self.prior_)}
        return super()._resolved() | parts | {"max_time": None}

    def _state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        facts: dict[str, Any] = {}
        tensors: dict[str, Tensor] = {}
        for name, part in (("coder", self.coder_), ("prior", self.prior_)):
            facts[name], own = pack(part)
            tensors |= {f"{name}.{key}": value for key, value in own.items()}
        return facts, tensors

    def _restore(self, facts: dict[str, Any], tensors: dict[str, Tensor], parts: Mapping[str, Any]) -> None:
        for name in ("coder", "prior"):
            fitted = unpack(facts[name], under(tensors, f"{name}."), under(parts, f"{name}__"))
            setattr(self, f"{name}_", fitted)


def _unfitted(model: Any) -> Any:
    """Return a model with the same arguments and, once these are decided, nothing left open."""
    return type(model)(**model._resolved()) if hasattr(model, "seed_") else clone(model)


def _as_dataset(codes: Any, dataset: Dataset, draws: int) -> Dataset:
    """Return codes, ``draws`` times as many as rows of the data set, with its conditions and its held-out rows."""
    schema = Schema.infer(codes, "vectors" if codes.ndim == 2 else dataset.schema.kind)
    condition = dataset.condition
    if condition is not None:
        condition = np.concatenate([condition] * draws)
    held_out = dataset.held_out
    if held_out is not None:
        held_out = torch.cat([held_out + draw * len(dataset) for draw in range(draws)])
    return Dataset(codes, condition, schema, "codes", held_out)


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
    # A random error of log p_prior is one of the mean for one draw, but under the logarithm of several it lifts the bound.
    kind: Kind = "estimate" if len(priors) > 1 and priors[0].kind == "estimate" else "lower bound"
    error = np.hypot(bound.standard_error, carried)
    return replace(bound, kind=kind, standard_error=error, numerical_error=numerical, prior_mismatch=mismatch)


def _together(first: TrainingResult, second: TrainingResult) -> TrainingResult:
    """Return what two runs one after the other came to; the held-out loss is that of the second."""
    seconds = first.seconds + second.seconds
    rows = first.rows_per_second * first.seconds + second.rows_per_second * second.seconds
    return replace(
        second,
        steps=first.steps + second.steps,
        seconds=seconds,
        held_out_step=None if second.held_out_step is None else first.steps + second.held_out_step,
        rows_per_second=rows / max(seconds, 1e-9),
        parameters=first.parameters + second.parameters,
        attempts=max(first.attempts, second.attempts),
        skipped=first.skipped + second.skipped,
    )
