"""Result of a blind reading: scores of readers, their agreement, and verdicts in sentences."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import beta, binom

from ecgtransfer.statistics import (
    CONFIDENCE,
    Estimate,
)

if TYPE_CHECKING:
    pass


#: A reader could not tell them apart where the interval of the accuracy holds chance and ends no
#: further above it than this: 65 of 100 right at most. A longer one leaves it open.
NEAR_CHANCE = 0.15

#: A test should call a set that nobody can tell apart so with this chance ...
CLEAR = 0.8

#: ... which takes so many ECGs of each kind (`chance_of_no_difference`: 0.42 at 20, 0.77 at 40).
ENOUGH_RECORDS = 48


@dataclass(frozen=True)
class BlindTest:
    """A folder for a blind reading, as it was written.

    records: of each kind, recorded and generated. matched: pairs of a recorded and a generated ECG
    with the same labels. key_sha256: what README.txt states of the key.
    """

    folder: Path
    records: int
    matched: int
    seed: int
    key_sha256: str

    @property
    def power(self) -> float:
        """Chance with which a set that nobody can tell apart will be called so."""
        return chance_of_no_difference(2 * self.records)

    def warning(self) -> str:
        """A sentence where the test is too small to find that nobody can tell them apart."""
        if self.power >= CLEAR:
            return ""
        return (
            f"{self.records} ECGs of each kind are few: a set that nobody can tell from recorded "
            f"ones would be called so in {100 * self.power:.0f} % of readings; take "
            f"{ENOUGH_RECORDS} of each for {100 * CLEAR:.0f} %."
        )

    def __str__(self) -> str:
        told = (
            f"{self.folder}: {self.records} recorded and {self.records} generated ECGs, "
            f"{self.matched} pairs with the same labels; key {self.key_sha256[:12]}"
        )
        return f"{told}. {self.warning()}".removesuffix(". ")


@dataclass(frozen=True)
class ReaderScore:
    """How well one reader told generated from recorded ECGs.

    sensitivity: share of the generated ECGs that were called so; specificity: share of the recorded
    ones; accuracy: share of right answers, also by label. Intervals are exact (Clopper and Pearson
    1934), over the answered ECGs; none where there is no such ECG. auroc: of the answers ordered by
    their confidence, where every answer has one. chance: accuracy of whoever gives every ECG the
    same answer, 0.5 where all are answered.
    """

    reader: str
    sensitivity: Estimate | None
    specificity: Estimate | None
    accuracy: Estimate
    auroc: Estimate | None
    by_label: dict[str, Estimate]
    answered: int
    unanswered: int
    chance: float

    def sentence(self) -> str:
        """Whether the reader could tell them apart."""
        if self.accuracy.low > self.chance:
            found = f"{self.reader} could tell them apart"
        elif self.accuracy.high < 1 - self.chance:
            found = f"{self.reader} could tell them apart and took the one for the other"
        elif self.accuracy.high <= self.chance + NEAR_CHANCE:
            found = f"{self.reader} could not tell them apart"
        else:
            found = f"It is open whether {self.reader} can tell them apart"
        left = f", {self.unanswered} unanswered" if self.unanswered else ""
        told = f"{found}: accuracy {_two(self.accuracy)} over {self.answered} ECGs{left}."
        power = chance_of_no_difference(self.answered)
        balanced = self.chance < 0.5 + NEAR_CHANCE / 2
        if found.startswith("It is open") and balanced and power < CLEAR:
            told += (
                f" So few ECGs show in {100 * power:.0f} % of readings that nobody can tell them "
                f"apart; {2 * ENOUGH_RECORDS} do in {100 * CLEAR:.0f} %."
            )
        return told


@dataclass(frozen=True)
class BlindScore:
    """Scores of all readers of one blind test.

    agreement: Cohen's kappa of two readers, Fleiss' of more, over the ECGs that all of them
    answered, with its bootstrap interval over these ECGs; none for one reader, or where all answers
    are the same. compared: how many ECGs that are.
    """

    readers: tuple[ReaderScore, ...]
    agreement: Estimate | None
    compared: int
    records: int

    def sentences(self) -> tuple[str, ...]:
        """One sentence a reader, and one on their agreement."""
        found = [reader.sentence() for reader in self.readers]
        if len(self.readers) > 1:
            kind = "Cohen's" if len(self.readers) == 2 else "Fleiss'"
            found.append(
                f"Agreement of the {len(self.readers)} readers over {self.compared} ECGs cannot be "
                "stated, for all their answers are the same or none is of all of them."
                if self.agreement is None
                else f"Agreement of the {len(self.readers)} readers over {self.compared} ECGs: "
                f"{kind} kappa {_two(self.agreement)}."
            )
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def chance_of_no_difference(ecgs: int) -> float:
    """Chance with which so many guesses, of as many ECGs of each kind, are called what they are.

    The probability that a binomial of `ecgs` trials of 1/2 has an exact interval (`proportion`)
    that holds 1/2 and ends at 1/2 + `NEAR_CHANCE` at most. 0 for no ECG.
    """
    right = np.arange(ecgs + 1)
    # The ends of Clopper and Pearson, as `proportion` has them one by one.
    tail = (1 - CONFIDENCE) / 2
    high = np.where(right < ecgs, beta.ppf(1 - tail, right + 1, np.maximum(ecgs - right, 1)), 1.0)
    low = np.where(right > 0, beta.ppf(tail, np.maximum(right, 1), ecgs - right + 1), 0.0)
    called = (low <= 0.5) & (high >= 0.5) & (high <= 0.5 + NEAR_CHANCE)
    return float(binom.pmf(right, ecgs, 0.5)[called].sum())


def _two(score: Estimate) -> str:
    """A score with two digits, as few readings allow."""
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
