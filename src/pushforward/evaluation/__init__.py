"""Evaluation of a model by its samples and its density, and comparison of models on the same data."""

from pushforward.evaluation.comparison.compare import compare, run_comparison
from pushforward.evaluation.comparison.ranking import Trial
from pushforward.evaluation.comparison.result import Comparison
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.figure import Figure
from pushforward.evaluation.protocol import evaluate, evaluate_run
from pushforward.metrics.measure import Measure

__all__ = ["Comparison", "Evaluation", "Figure", "Measure", "Trial", "compare", "evaluate", "evaluate_run", "run_comparison"]
