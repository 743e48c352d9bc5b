"""Fidelity: how close is the distribution of synthetic records to the target's?"""

from ecgtransfer.evaluation.fidelity.feature_map import FeatureMap, Projection, projection
from ecgtransfer.evaluation.fidelity.result import FidelityEvaluation, FidelityResult
from ecgtransfer.evaluation.fidelity.study import (
    FidelitySettings,
    evaluate_fidelity,
    measure_fidelity,
    negative_controls,
)
from ecgtransfer.evaluation.fidelity.two_sample import TwoSampleTest, two_sample_test

__all__ = [
    "FeatureMap",
    "FidelityEvaluation",
    "FidelityResult",
    "FidelitySettings",
    "Projection",
    "TwoSampleTest",
    "evaluate_fidelity",
    "measure_fidelity",
    "negative_controls",
    "projection",
    "two_sample_test",
]
