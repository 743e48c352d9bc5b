"""Verdicts: whether a measurement passes, fails or stays open, in one readable sentence."""

from dataclasses import dataclass
from typing import Literal

#: Outcome of one verdict or of several together.
Outcome = Literal["pass", "partial", "fail", "open"]


@dataclass(frozen=True)
class Verdict:
    """Conclusion of one measurement.

    Attributes:
        passed: True, False, or None if the data do not decide.
        sentence: the conclusion in words.
    """

    passed: bool | None
    sentence: str

    @property
    def outcome(self) -> Outcome:
        """Word for the verdict, which also selects its symbol in the report."""
        return "open" if self.passed is None else "pass" if self.passed else "fail"
