"""Physiology: are intervals and class rules of synthetic records as in real ones?"""

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
