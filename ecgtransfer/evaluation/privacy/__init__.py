"""Privacy: do synthetic records reveal training patients?"""

from ecgtransfer.evaluation.privacy.result import PrivacyEvaluation, PrivacyResult
from ecgtransfer.evaluation.privacy.sides import PrivacySide
from ecgtransfer.evaluation.privacy.study import (
    PrivacySettings,
    evaluate_privacy,
    measure_privacy,
)

__all__ = [
    "PrivacyEvaluation",
    "PrivacyResult",
    "PrivacySettings",
    "PrivacySide",
    "evaluate_privacy",
    "measure_privacy",
]
