"""Whether a measure is good news, in a sentence that a person can read."""

from dataclasses import dataclass
from typing import Literal

#: How a verdict, or several together, came out.
Outcome = Literal["pass", "partial", "fail", "open"]


@dataclass(frozen=True)
class Verdict:
    """One answer in a sentence; `passed` is None where the data are evidence of neither."""

    passed: bool | None
    sentence: str

    @property
    def outcome(self) -> Outcome:
        """Its word and its symbol on the page."""
        return "open" if self.passed is None else "pass" if self.passed else "fail"
