"""Blind reading: can a clinician distinguish synthetic from recorded ECGs?"""

from ecgtransfer.evaluation.blind.figures import describe_blind_test, reader_table
from ecgtransfer.evaluation.blind.kit import write_blind_test
from ecgtransfer.evaluation.blind.result import BlindScore, BlindTest, ReaderScore
from ecgtransfer.evaluation.blind.study import score_blind_test

__all__ = [
    "BlindScore",
    "BlindTest",
    "ReaderScore",
    "describe_blind_test",
    "reader_table",
    "score_blind_test",
    "write_blind_test",
]
