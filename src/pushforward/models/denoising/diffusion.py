"""Diffusion: learn to remove Gaussian noise at every level, and sample by removing it step by step."""

from typing import ClassVar, Self

from pushforward import diffusion
from pushforward.data import Facts
from pushforward.diffusion import Schedule
from pushforward.models.base.preparing import Prepared
from pushforward.models.denoising.model import DenoisingModel
from pushforward.models.denoising.task import Loss

__all__ = ["Diffusion"]


class Diffusion(DenoisingModel):
    r"""Denoising diffusion with any schedule and any prediction.

    The network learns E[x | x_t] for x_t = alpha x + sigma eps with independent Gaussian noise eps, by
    w(t) |denoised - x|^2. With ``prediction="eps"`` and the default weight this is DDPM's simple loss.

    Score matching of the noised laws has the same minimum, and uses x_t but neither x nor eps: "implicit" minimizes
    |s|^2 + 2 tr(ds / dx_t) with the exact trace, "sliced" uses one random direction instead. Their gradients have more
    variance, so the default learns more in the same time. (Explicit score matching needs the true score: for closed-form laws
    use :func:`~pushforward.diffusion.explicit_score_matching`.)

    Parameters
    ----------
    schedule : Schedule, optional
        The noise scales; default ``LinearBeta()``, the variance-preserving SDE.
    times : TimeLaw, optional
        Law of training times; default ``UniformTimes()``.
    loss : "denoising", "sliced" or "implicit"
        The training loss: squared error of the clean rows, or score matching. "sliced" differentiates through the network once
        more, "implicit" once per element of a row. Both need a network that processes rows independently.
    weight : Weight, optional
        Space of the squared error; default that of ``prediction``, the plain squared error of the network; with score matching
        "eps", whose variance is bounded at all noise levels.

    Other parameters are those of :class:`~pushforward.models.denoising.model.DenoisingModel`.

    Presets of classical models are :meth:`ddpm`, :meth:`vp`, :meth:`sub_vp` and :meth:`ve`.

    Attributes
    ----------
    denoiser_ : Denoiser
        The trained network with its schedule.
    schedule_, times_, weight_, network_, sampler_, training_
        The resolved arguments.

    References
    ----------
    Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020. https://arxiv.org/abs/2006.11239
    Tero Karras et al. Elucidating the design space of diffusion-based generative models. 2022.
    https://arxiv.org/abs/2206.00364
    Yang Song et al. Sliced score matching: a scalable approach to density and score estimation. 2019.
    https://arxiv.org/abs/1905.07088

    >>> import pushforward as pf
    >>> model = pf.Diffusion(prediction="eps", train_steps=5, random_state=0).fit("moons")
    >>> model.sample(4, sampler=pf.DDPM(), steps=10, seed=0).shape
    (4, 2)
    """

    streams: ClassVar[bool] = True

    loss: Loss = "denoising"

    @classmethod
    def ddpm(cls, **arguments: object) -> Self:
        """Return the denoising diffusion probabilistic model: a chain of 1000 steps, and the simple loss |eps - eps_hat|^2.

        All four presets weight the loss as in the papers, by the error of the predicted noise ("eps"), with uniform times. The
        network's output is preconditioned ("edm"): the same loss, without the papers' division by alpha near t = 1, which makes
        some samples diverge for small data. The papers' own networks are ``prediction="eps"``.

        The default sampler solves the flow in few steps. The paper's sampler is the chain: ``sample(n,
        sampler=pf.DDPM("beta", grid=pf.ChainGrid()), steps=1000)``.

        Parameters
        ----------
        **arguments
            Arguments of :class:`Diffusion`, which override those of the preset.

        References
        ----------
        Jonathan Ho, Ajay Jain, Pieter Abbeel. Denoising diffusion probabilistic models. 2020.

        >>> model = Diffusion.ddpm(train_steps=5)
        >>> model.schedule, model.weight, model.train_steps
        (DiscreteBeta(betas=None), 'eps', 5)
        """
        return cls._preset(diffusion.DiscreteBeta(), arguments)

    @classmethod
    def vp(cls, **arguments: object) -> Self:
        """Return the variance-preserving score model: DDPM in continuous time, beta(t) linear from 0.1 to 20.

        The paper's sampler is the reverse SDE: ``sample(n, sampler=pf.ReverseSDE(), steps=1000)``. See :meth:`ddpm`.

        References
        ----------
        Yang Song et al. Score-based generative modeling through SDEs. 2021. https://arxiv.org/abs/2011.13456

        >>> Diffusion.vp().schedule
        LinearBeta(beta_min=0.1, beta_max=20.0)
        """
        return cls._preset(diffusion.LinearBeta(), arguments)

    @classmethod
    def sub_vp(cls, **arguments: object) -> Self:
        """Return the sub-variance-preserving score model, with less noise and better likelihoods; see :meth:`vp`.

        >>> Diffusion.sub_vp().schedule
        SubVP(beta_min=0.1, beta_max=20.0)
        """
        return cls._preset(diffusion.SubVP(), arguments)

    @classmethod
    def ve(cls, **arguments: object) -> Self:
        """Return the variance-exploding score model: rows keep their scale, and noise grows geometrically from 0.01 to 50.

        The first score models were its discrete version, sampled with annealed Langevin dynamics: ``sample(n,
        sampler=pf.AnnealedLangevin(), steps=200)``; with a predictor, ``pf.PredictorCorrector()``. See :meth:`vp`.

        References
        ----------
        Yang Song, Stefano Ermon. Generative modeling by estimating gradients of the data distribution. 2019.
        https://arxiv.org/abs/1907.05600

        >>> Diffusion.ve(schedule=diffusion.Exploding(sigma_max=30)).schedule
        Exploding(sigma_min=0.01, sigma_max=30)
        """
        return cls._preset(diffusion.Exploding(), arguments)

    @classmethod
    def _preset(cls, schedule: Schedule, arguments: Facts) -> Self:
        preset: Facts = {"schedule": schedule, "weight": "eps"}
        return cls(**(preset | arguments))

    @property
    def _loss(self) -> Loss:
        return self.loss

    def _defaults(self, prepared: Prepared) -> Facts:
        weight = self.prediction if self.loss == "denoising" else "eps"
        defaults = {"schedule": diffusion.LinearBeta(), "times": diffusion.UniformTimes(), "weight": weight}
        return super()._defaults(prepared) | defaults
