"""The base of diffusion and flow matching: one network, many samplers.

Both learn E[x | x_t] along a path x_t = alpha x + sigma z; :class:`FlowMatching` and :class:`Diffusion` differ in defaults and
in their arguments for source, coupling and loss. Public methods are functions of the model, defined in one module per topic.
"""

import warnings
from collections.abc import Sequence

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from pushforward.data import ArrayLike, Condition, Schema, Values
from pushforward.data.sizes import checked_sizes
from pushforward.diffusion import Sampler
from pushforward.models.base.available import available_if
from pushforward.models.base.density import DensityModel
from pushforward.models.base.guidance import Guidance
from pushforward.models.base.model import GapChoice
from pushforward.models.base.transformer import Transformer
from pushforward.models.denoising import calibration as calibrations
from pushforward.models.denoising import density, encoding
from pushforward.models.denoising import guidance as guiding
from pushforward.models.denoising import posterior as posteriors
from pushforward.models.denoising.base import DEFAULT_STEPS, Denoising, has_score, has_score_in_data_units
from pushforward.models.denoising.source import GaussianSource
from pushforward.probability.counts import check_steps

__all__ = ["DenoisingModel"]

_TOO_FEW = 2  # steps


class DenoisingModel(Transformer, Denoising):
    """Base of the families that learn a denoiser."""

    def sample(
        self,
        n: int = 1,
        *,
        condition: Condition = None,
        guidance: Guidance | float = 1.0,
        steps: int | None = None,
        sampler: Sampler | None = None,
        source: object = None,
        size: int | Sequence[int] | None = None,
        gaps: GapChoice = "keep",
        seed: int | None = None,
        first: int = 0,
        batch_size: int = 256,
    ) -> Values:
        """Draw new rows.

        Parameters
        ----------
        guidance : float or Guidance
            The scale w in uncond + w (cond - uncond): 1 is the conditional law, 0 ignores the condition, above 1 sharpens. Any
            value but 0 and 1 calls the network twice per step. :class:`~pushforward.models.Guidance` also guides by a
            classifier or a reward, away from a condition, or at some noise levels alone.
        steps : int, optional
            Steps of the sampler; default 20. One or two are too few, unless calibrated; a :class:`~pushforward.FlowMap`,
            distilled from this model, needs no more (:func:`pushforward.distill`).
        sampler : Sampler, optional
            Default the model's own, and if it was given none :func:`~pushforward.diffusion.default_sampler` for these steps
            and this scale; or the sampler that :meth:`calibrate` fitted to exactly these ``steps`` and this scale, if
            ``guidance`` says nothing but a scale. The sampler of the last call is kept as ``sample_sampler_``.
        source : rows, optional
            Rows to start from, n of them, for a model that was trained with its own source.
        size : int or sequence of int, optional
            Number of points of new sets of points, one for all or one for each. Default: as in training, where sizes differ
            drawn from those of the training sets (with the same label, if there are labels).

        Other parameters and the result are those of :meth:`pushforward.models.GenerativeModel.sample`.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit the model: such as guidance without a condition to guide by, a source of another
            number of rows, or a size for rows that are no sets.

        >>> import pushforward as pf
        >>> model = pf.FlowMatching(train_steps=5, random_state=0).fit("moons")
        >>> model.sample(3, condition=1, seed=0).shape
        (3, 2)
        """
        check_is_fitted(self)
        guidance = Guidance.of(guidance)
        if not isinstance(sampler, Sampler | None):
            raise TypeError(f"sampler must be a sampler such as pushforward.Heun(), not {sampler!r}")
        if size is not None and not self._of_points:
            raise ValueError(f"size is the number of points of a set, but the rows are {self.space_.kind.noun}; omit it")
        own = guiding.model_condition(guidance, condition)
        encoded, seed = self._begin_sampling(n, own, seed, first, batch_size, gaps=gaps)
        denoiser, encoded = guiding.guided(self, guidance, condition, n, encoded)
        self.sample_sampler_ = sampler or calibrations.sampler_for(self, steps, guidance)
        if (
            sampler is None
            and steps is not None
            and steps <= _TOO_FEW
            and calibrations.calibration(self, steps, guidance) is None
        ):
            message = "is far from its flow; for one to four network calls distill the model: pushforward.distill(model)"
            warnings.warn(f"steps={steps} of a sampler {message}", stacklevel=2)
        starts = None if source is None else self._starts(source, n)
        sizes = self._drawn_sizes(n, encoded, seed, first) if size is None else checked_sizes(size, n)
        z = self._draw(
            denoiser,
            n,
            encoded,
            steps=DEFAULT_STEPS if steps is None else check_steps(steps),
            sampler=self.sample_sampler_,
            starts=starts,
            sizes=sizes,
            seed=seed,
            first=first,
            batch_size=batch_size,
        )
        return self._delivered(z, gaps, condition=own, seed=seed)

    log_prob = available_if(density.has_density)(density.log_prob)
    score_samples = available_if(density.has_density)(DensityModel.score_samples)
    score = available_if(density.has_density)(DensityModel.score)
    bound = available_if(density.has_bound)(density.bound)

    @property
    def _code_schema(self) -> Schema:
        return encoding.code_schema(self)

    transform = encoding.transform
    inverse_transform = encoding.inverse_transform

    posterior = available_if(has_score_in_data_units)(posteriors.posterior)
    impute = available_if(has_score)(posteriors.impute)

    calibrate = calibrations.calibrate
    calibration = calibrations.calibration

    fit_classifier = available_if(has_score)(guiding.fit_classifier)
    guided_by_classifier = available_if(has_score)(guiding.guided_by_classifier)

    def _starts(self, source: ArrayLike, n: int) -> Tensor:
        if isinstance(self.source_, GaussianSource):
            raise ValueError(
                "this model starts from Gaussian noise, set by `seed`; source=... is for models with their own source"
            )
        rows = self.space_.transform.forward(self.space_.schema.to_internal(source, name="source"), dtype=torch.float32)
        if len(rows) != n:
            raise ValueError(f"source has {len(rows)} rows to start from, but n={n}; pass n={len(rows)}")
        return rows
