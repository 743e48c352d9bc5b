"""Result of a blind reading: scores of readers, their agreement, and verdicts in sentences."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta, binom

from ecgtransfer.statistics import (
    CONFIDENCE,
    Estimate,
)

#: A reader "could not distinguish" the kinds if the interval of the accuracy contains chance and
#: ends at most this far above it: at 65 % correct answers. With a wider interval it is open.
NEAR_CHANCE = 0.15

#: Wanted power: probability to find "could not distinguish" if the kinds are indistinguishable.
CLEAR = 0.8

#: ECGs of each kind that this power needs (`chance_of_no_difference`: 0.42 with 20, 0.77 with 40).
ENOUGH_RECORDS = 48


@dataclass(frozen=True)
class BlindTest:
    """A blind test that was written.

    Attributes:
        folder: its folder.
        records: number of ECGs of each kind, recorded and generated.
        matched: number of pairs of a recorded and a generated ECG with the same labels.
        seed: seed of the selection and of the order.
        key_sha256: SHA-256 of the key, which README.txt states.
    """

    folder: Path
    records: int
    matched: int
    seed: int
    key_sha256: str

    @property
    def power(self) -> float:
        """Probability that a reader who guesses is found to be unable to distinguish the kinds."""
        return chance_of_no_difference(2 * self.records)

    def warning(self) -> str:
        """Return a sentence if the test has too few ECGs to show that the kinds look the same."""
        if self.power >= CLEAR:
            return ""
        return (
            f"{self.records} ECGs of each kind are few: even if no one can distinguish the kinds, "
            f"only {100 * self.power:.0f} % of readings would show it; use {ENOUGH_RECORDS} of "
            f"each for {100 * CLEAR:.0f} %."
        )

    def __str__(self) -> str:
        summary = (
            f"{self.folder}: {self.records} recorded and {self.records} generated ECGs, "
            f"{self.matched} pairs with the same labels; key {self.key_sha256[:12]}"
        )
        return f"{summary}. {self.warning()}".removesuffix(". ")


@dataclass(frozen=True)
class ReaderScore:
    """How well one reader distinguished generated from recorded ECGs.

    Scores use the answered ECGs. Intervals of shares are exact (Clopper and Pearson 1934).

    Attributes:
        reader: name of the reader.
        sensitivity: share of the generated ECGs that were called generated; None without such ECGs.
        specificity: share of the recorded ECGs that were called recorded; None without such ECGs.
        accuracy: share of correct answers.
        auroc: AUROC of the answers ordered by confidence; None if an answer has no confidence.
        by_label: accuracy on the ECGs with each label.
        answered: number of answered ECGs.
        unanswered: number of other ECGs.
        chance: accuracy of giving every ECG the more frequent answer; 0.5 if all are answered.
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
        """Return a sentence on whether the reader could distinguish the kinds."""
        if self.accuracy.low > self.chance:
            found = f"{self.reader} could tell generated from recorded ECGs"
        elif self.accuracy.high < 1 - self.chance:
            found = f"{self.reader} could tell the ECGs apart, but took each kind for the other"
        elif self.accuracy.high <= self.chance + NEAR_CHANCE:
            found = f"{self.reader} could not tell generated from recorded ECGs"
        else:
            found = f"It is open whether {self.reader} can tell generated from recorded ECGs"
        left = f", {self.unanswered} unanswered" if self.unanswered else ""
        sentence = f"{found}: accuracy {_two(self.accuracy)} over {self.answered} ECGs{left}."
        power = chance_of_no_difference(self.answered)
        balanced = self.chance < 0.5 + NEAR_CHANCE / 2
        if found.startswith("It is open") and balanced and power < CLEAR:
            sentence += (
                f" With {self.answered} ECGs, even if no one can distinguish the kinds, only "
                f"{100 * power:.0f} % of readings show it; with {2 * ENOUGH_RECORDS}, "
                f"{100 * CLEAR:.0f} % do."
            )
        return sentence


@dataclass(frozen=True)
class BlindScore:
    """Scores of all readers of one blind test.

    Attributes:
        readers: score of each reader.
        agreement: Cohen's kappa for two readers, Fleiss' kappa for more, over the ECGs that all
            readers answered, with a bootstrap interval over these ECGs; None for one reader or if
            all answers are the same.
        compared: number of ECGs that all readers answered.
        records: number of ECGs of each kind.
    """

    readers: tuple[ReaderScore, ...]
    agreement: Estimate | None
    compared: int
    records: int

    def sentences(self) -> tuple[str, ...]:
        """Return one sentence per reader, and one on their agreement."""
        found = [reader.sentence() for reader in self.readers]
        if len(self.readers) > 1:
            kind = "Cohen's" if len(self.readers) == 2 else "Fleiss'"
            found.append(
                f"Agreement of the {len(self.readers)} readers over {self.compared} ECGs cannot be "
                "computed, because they gave all these ECGs the same answer or share no ECG."
                if self.agreement is None
                else f"Agreement of the {len(self.readers)} readers over {self.compared} ECGs: "
                f"{kind} kappa {_two(self.agreement)}."
            )
        return tuple(found)

    def __str__(self) -> str:
        return "\n".join(self.sentences())


def chance_of_no_difference(ecgs: int) -> float:
    """Probability that a reader who guesses is found to be unable to distinguish the kinds.

    This is the probability that a binomial variable with `ecgs` trials of probability 1/2 has an
    exact interval (`proportion`) that contains 1/2 and ends at 1/2 + `NEAR_CHANCE` at most.

    Args:
        ecgs: number of answered ECGs, half of them of each kind; for 0 the result is 0.
    """
    right = np.arange(ecgs + 1)
    # Ends of the Clopper-Pearson interval, as in `proportion`, for all counts at once.
    tail = (1 - CONFIDENCE) / 2
    high = np.where(right < ecgs, beta.ppf(1 - tail, right + 1, np.maximum(ecgs - right, 1)), 1.0)
    low = np.where(right > 0, beta.ppf(tail, np.maximum(right, 1), ecgs - right + 1), 0.0)
    called = (low <= 0.5) & (high >= 0.5) & (high <= 0.5 + NEAR_CHANCE)
    return float(binom.pmf(right, ecgs, 0.5)[called].sum())


def _two(score: Estimate) -> str:
    """Format a score with two digits; a reading has too few ECGs for more."""
    return f"{score.value:.2f} [{score.low:.2f}, {score.high:.2f}]"
