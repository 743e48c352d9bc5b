"""Do synthetic records make physiological sense?"""

from ecgtransfer.evaluation.physiology.result import PhysiologyEvaluation, PhysiologyResult
from ecgtransfer.evaluation.physiology.study import (
    PhysiologySettings,
    evaluate_physiology,
    measure_physiology,
)

__all__ = [
    "PhysiologyEvaluation",
    "PhysiologyResult",
    "PhysiologySettings",
    "evaluate_physiology",
    "measure_physiology",
]
