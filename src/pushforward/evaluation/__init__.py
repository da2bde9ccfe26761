"""Scores of samples and of densities, and the comparison of models on one's own data."""

from pushforward.evaluation.comparison.compare import compare, run_comparison
from pushforward.evaluation.comparison.result import Comparison, Trial
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.figure import Figure
from pushforward.evaluation.protocol import evaluate, evaluate_run
from pushforward.metrics.measure import Measure

__all__ = [
    "Comparison",
    "Evaluation",
    "Figure",
    "Measure",
    "Trial",
    "compare",
    "evaluate",
    "evaluate_run",
    "run_comparison",
]
