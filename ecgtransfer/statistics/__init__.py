"""Estimates with intervals, bootstraps over patients, verdicts, and named random streams."""

from ecgtransfer.statistics.arrays import BoolArray, FloatArray, checked_labels, undefined_classes
from ecgtransfer.statistics.estimates import (
    CONFIDENCE,
    Estimate,
    estimate,
    reflected_estimate,
    simultaneous_estimates,
    widening,
)
from ecgtransfer.statistics.resampling import (
    BOOTSTRAP_RESAMPLES,
    WeightedScore,
    bootstrap,
    draw_resamples,
    paired_bootstrap,
    score_resamples,
)
from ecgtransfer.statistics.shares import effective_records, newcombe_difference, wilson_estimate
from ecgtransfer.statistics.verdict import Outcome, Verdict

__all__ = [
    "BOOTSTRAP_RESAMPLES",
    "CONFIDENCE",
    "BoolArray",
    "Estimate",
    "FloatArray",
    "Outcome",
    "Verdict",
    "WeightedScore",
    "bootstrap",
    "checked_labels",
    "draw_resamples",
    "effective_records",
    "estimate",
    "newcombe_difference",
    "paired_bootstrap",
    "reflected_estimate",
    "score_resamples",
    "simultaneous_estimates",
    "undefined_classes",
    "widening",
    "wilson_estimate",
]
