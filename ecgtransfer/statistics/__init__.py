"""Estimates with intervals, bootstraps over patients, verdicts, and named random streams."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.statistics import streams
    from ecgtransfer.statistics.arrays import (
        BoolArray,
        FloatArray,
        checked_labels,
        undefined_classes,
    )
    from ecgtransfer.statistics.estimates import (
        CONFIDENCE,
        Estimate,
        estimate,
        reflected_estimate,
        simultaneous_estimates,
        student_draws,
        student_estimate,
        student_reach,
    )
    from ecgtransfer.statistics.quantiles import Quantiles
    from ecgtransfer.statistics.resampling import (
        BOOTSTRAP_RESAMPLES,
        WeightedScore,
        bootstrap,
        draw_resamples,
        score_resamples,
    )
    from ecgtransfer.statistics.shares import (
        effective_records,
        newcombe_difference,
        proportion,
        share_estimate,
        wilson_estimate,
    )
    from ecgtransfer.statistics.verdict import Outcome, Verdict
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "BOOTSTRAP_RESAMPLES",
    "CONFIDENCE",
    "BoolArray",
    "Estimate",
    "FloatArray",
    "Outcome",
    "Quantiles",
    "Verdict",
    "WeightedScore",
    "bootstrap",
    "checked_labels",
    "draw_resamples",
    "effective_records",
    "estimate",
    "newcombe_difference",
    "proportion",
    "reflected_estimate",
    "score_resamples",
    "share_estimate",
    "simultaneous_estimates",
    "streams",
    "student_draws",
    "student_estimate",
    "student_reach",
    "undefined_classes",
    "wilson_estimate",
]
