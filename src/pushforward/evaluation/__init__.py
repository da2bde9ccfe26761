"""Scores of samples and of densities, and the comparison of models on one's own data."""

from pushforward.evaluation.comparing import compare, run_comparison
from pushforward.evaluation.comparison import Comparison, Trial
from pushforward.evaluation.evaluation import Evaluation
from pushforward.evaluation.figure import Figure, Measure
from pushforward.evaluation.measuring import evaluate, evaluate_run

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
