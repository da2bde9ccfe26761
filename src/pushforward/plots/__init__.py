"""Plots from arrays: samples, data, training, measures.

Grids of images are Pillow images, pixel for pixel; everything with axes is a matplotlib figure, made by its object interface
without global state, windows or displays. :func:`save` writes either, :func:`film` writes several figures as an animation.
"""

from pushforward.plots import charts, grids, scores, sets, signals, style, tables, texts
from pushforward.plots.charts import *
from pushforward.plots.grids import *
from pushforward.plots.scores import *
from pushforward.plots.sets import *
from pushforward.plots.signals import *
from pushforward.plots.style import *
from pushforward.plots.tables import *
from pushforward.plots.texts import *

__all__ = charts.__all__ + grids.__all__ + scores.__all__ + sets.__all__ + signals.__all__ + style.__all__
__all__ += tables.__all__ + texts.__all__
