"""Utility: do synthetic records improve a classifier of held-out target patients?"""

from ecgtransfer.defaults import ARMS
from ecgtransfer.evaluation.utility.arms import (
    RATIOS,
    TARGET_ONLY,
    Arm,
    default_arms,
    matched_records,
)
from ecgtransfer.evaluation.utility.result import (
    ArmDifference,
    ArmResult,
    Overall,
    UtilityEvaluation,
    UtilityResult,
)
from ecgtransfer.evaluation.utility.study import (
    OF_SOURCE_RECORDS,
    UtilitySettings,
    evaluate_utility,
    utility_study,
)
from ecgtransfer.evaluation.utility.trainings import count_trainings

__all__ = [
    "ARMS",
    "OF_SOURCE_RECORDS",
    "RATIOS",
    "TARGET_ONLY",
    "Arm",
    "ArmDifference",
    "ArmResult",
    "Overall",
    "UtilityEvaluation",
    "UtilityResult",
    "UtilitySettings",
    "count_trainings",
    "default_arms",
    "evaluate_utility",
    "matched_records",
    "utility_study",
]
