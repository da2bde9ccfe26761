"""Train, sample, score and compare generative models of every family on any data, under one contract.

>>> import numpy as np
>>> import pushforward as pf
>>> X = np.random.default_rng(0).normal(size=(200, 2))
>>> model = pf.FlowMatching(train_steps=20, random_state=0).fit(X)
>>> model.sample(5, seed=1).shape
(5, 2)

The public names are those of ``__init__.pyi``; each is imported when it is first used, so ``import pushforward`` costs next to
nothing.
"""

import lazy_loader

from pushforward._version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
