"""Flow maps: the flow of a trained model in one to four network calls, with its guidance, codes and densities."""

import functools

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Schema, Values
from pushforward.diffusion.flow_map import FlowMapNetwork
from pushforward.diffusion.log_prob import LogProb
from pushforward.models.base.available import available_if
from pushforward.models.base.batches import part_of
from pushforward.models.base.density import DensityModel
from pushforward.models.base.guidance import Guidance, scale_of
from pushforward.models.base.model import GapChoice
from pushforward.models.base.transformer import Transformer
from pushforward.models.denoising import encoding
from pushforward.models.denoising import posterior as posteriors
from pushforward.models.denoising.base import has_score, has_score_in_data_units
from pushforward.models.denoising.map_training import JUMPS, MapTraining, has_density
from pushforward.probability.counts import check_steps

__all__ = ["FlowMap"]


class FlowMap(Transformer, MapTraining):
    r"""The flow of a model as a map between any two times, in one network call.

    :func:`pushforward.distill` makes one from a trained :class:`FlowMatching` or :class:`Diffusion`, the teacher; ``fit``
    trains a teacher first. The map X(x_t, t, s) is regressed on the teacher's own trajectories, with pairs of their states. It
    draws in 1, 2, 4 or any number of calls, and encodes rows in one.

    Parameters
    ----------
    teacher : FlowMatching or Diffusion, optional
        For ``fit``: not yet fitted; it is cloned. Default ``FlowMatching()``.
    guidance : float
        The largest guidance scale. The map learns all scales from 1 to this one, each for a single call per jump.
    trajectories : int, optional
        Trajectories of the teacher to learn from; default 16,384, or as many as a quarter of ``max_time`` allows. More give a
        better map.
    density : bool, optional
        Whether the map also learns the change of the log-density, for ``log_prob``. It takes more time to prepare: default True
        for rows of up to 32 elements.
    network : NetworkSpec, optional
        Default that of the teacher, whose weights the map then starts from.
    train_steps, training, max_time
        Of the map; default twice the steps of the teacher, with its other settings. With ``fit``, half of ``max_time`` is the
        teacher's.

    Other parameters are those of :class:`~pushforward.models.base.trained.TrainedModel`.

    Attributes
    ----------
    denoiser_ : FlowMapNetwork
        The map, which is also a denoiser.
    teacher_ : FlowMatching or Diffusion
        The teacher's arguments, without its weights.
    density_error_ : dict
        Root mean square difference between the log-densities of the map and of the teacher in nats, by number of calls.

    References
    ----------
    Nicholas Boffi, Michael Albergo, Eric Vanden-Eijnden. Flow map matching. 2024. https://arxiv.org/abs/2406.07507

    >>> import pushforward as pf
    >>> teacher = pf.FlowMatching(network=pf.MLPSpec(width=16, depth=1), train_steps=5)
    >>> model = pf.FlowMap(teacher=teacher, trajectories=64, train_steps=5, random_state=0).fit("moons")
    >>> model.sample(4, steps=1, seed=0).shape
    (4, 2)
    """

    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        steps: int = JUMPS,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        guidance : float
            The guidance scale w, from 1 to that of the map, or 0, which ignores the condition. It costs no further calls.
        steps : int
            Number of network calls, from 1.

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.

        >>> import pushforward as pf
        >>> teacher = pf.FlowMatching(network=pf.MLPSpec(width=16, depth=1), train_steps=5)
        >>> model = pf.FlowMap(teacher=teacher, guidance=3.0, trajectories=64, train_steps=5, random_state=0).fit("moons")
        >>> model.sample(3, condition=1, guidance=2.0, steps=1, seed=0).shape
        (3, 2)
        """
        check_steps(steps)
        encoded, seed = self._begin_sampling(n, condition, seed, first, batch_size, gaps=gaps)
        scale = self._scale(guidance, encoded)
        if scale == 0 and encoded is not None:
            encoded, scale = torch.zeros_like(encoded), 1.0
        z = self._jumps(n, encoded, steps=steps, scale=scale, seed=seed, first=first, batch_size=batch_size)
        return self._delivered(z, gaps, condition=condition, seed=seed)

    @property
    def _code_schema(self) -> Schema:
        return encoding.code_schema(self)

    def transform(self, X: ArrayLike, *, condition: Condition = None, steps: int = 1, batch_size: int = 256) -> Values:
        """Return the noise that the map turns into the rows of X, by ``steps`` calls.

        Parameters and result are those of :meth:`pushforward.FlowMatching.transform`.
        """
        check_is_fitted(self)
        check_steps(steps)
        rows = self._rows_of(X, condition, self._density_dtype)

        def encode(part: slice, learned: FlowMapNetwork, device: torch.device) -> Tensor:
            given = part_of(rows.condition, part, device)
            return learned.encode(rows.middle[part].to(device), steps=steps, condition=given)[0].cpu()

        z = torch.cat(self._in_batches(encode, len(rows.z), batch_size))
        return self._code_schema.to_user(encoding.in_units(self, z))

    def inverse_transform(self, Z: ArrayLike, *, condition: Condition = None, steps: int = 1, batch_size: int = 256) -> Values:
        """Return the rows that the map makes of noise Z, by ``steps`` calls.

        Parameters and result are those of :meth:`pushforward.FlowMatching.inverse_transform`.
        """
        check_is_fitted(self)
        check_steps(steps)
        latents = self._code_schema.to_internal(Z, name=type(self).__name__)
        z = encoding.from_units(self, latents).to(self._density_dtype)
        encoded = self._encode(condition, len(z), self._density_dtype)

        def decode(part: slice, learned: FlowMapNetwork, device: torch.device) -> Tensor:
            return learned.sample(z[part].to(device), steps=steps, condition=part_of(encoded, part, device)).cpu()

        return self.space_.to_user(torch.cat(self._in_batches(decode, len(z), batch_size)))

    @available_if(has_density)
    def log_prob(
        self,
        X: ArrayLike,
        *,
        condition: Condition = None,
        steps: int = JUMPS,
        draws: int = 2,
        seed: int = 0,
        first: int = 0,
        batch_size: int = 256,
        bits_per_dim: bool = False,
    ) -> LogProb:
        """Return an estimate of the log-density of each row in nats, in data units, by ``steps`` calls.

        ``numerical_error`` is the root mean square difference to the teacher's log-densities, measured after training on rows
        that the teacher drew and the map was not trained on. Other parameters are those of
        :meth:`pushforward.NormalizingFlow.log_prob`.
        """
        check_is_fitted(self)
        check_steps(steps)
        score = functools.partial(self._score_rows, steps=steps)
        scores = self._score(X, condition, score, draws=draws, seed=seed, first=first, batch_size=batch_size)
        return scores.in_bits_per_dim() if bits_per_dim else scores

    score_samples = available_if(has_density)(DensityModel.score_samples)
    score = available_if(has_density)(DensityModel.score)
    posterior = available_if(has_score_in_data_units)(posteriors.posterior)
    impute = available_if(has_score)(posteriors.impute)

    def _scale(self, guidance: Guidance | float, condition: Tensor | None) -> float:
        """Return the guidance scale; raise if the map has not learned it."""
        scale = scale_of(guidance, "a FlowMap")
        Guidance(scale).check_condition(condition)
        if scale not in (0, 1) and not 1 <= scale <= self.guidance:
            known = "no guidance" if self.guidance == 1 else f"guidance scales from 1 to {self.guidance:g}"
            raise ValueError(
                f"this map has learned {known}, not {scale:g}; distill its teacher with FlowMap(guidance={max(scale, 2):g}), "
                "or guide the teacher itself"
            )
        if scale == 0 and not self._knows_null:
            raise ValueError("a guidance scale of 0 needs the law without a condition, which this map has not learned")
        return scale
