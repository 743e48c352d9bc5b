"""Result of the privacy evaluation: copies, closeness, membership, and verdicts on them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.statistics import (
    Estimate,
    Verdict,
)

#: Largest number of suspected copies of a set that passes: every revealed patient is one too many.
ALLOWED_COPIES = 0

#: A share or an AUC fails if the lower end of its interval is above 0.5 by more than this. Every
#: fitted model is slightly closer to its training sample. At an AUC of 0.55, an attacker who sees
#: one member and one non-member identifies the member in 55 of 100 cases.
TOLERANCE = 0.05

#: Leaks that these tests cannot find.
NOT_LOOKED_FOR = (
    "copies with a larger shift, stretched in time or cut into pieces, and patients of the source"
)

#: Power with which the membership test detects an AUC of `Membership.detectable`.
POWER = 0.8

Space = Literal["signal", "embedding"]


@dataclass(frozen=True)
class ClosePair:
    """A generated record and the training record closest to it.

    Attributes:
        generated: index of the generated record.
        generated_name: name of the generated record.
        training: index of the training record; None in a result without real names.
        training_name: name of the training record; None in a result without real names.
        distance: their distance in the space in which the pair was found.
        correlation: their correlation at `lag_s` (`correlations_over_lags`).
        lag_s: lag of the largest correlation; positive if the generated record is later.
    """

    generated: int
    generated_name: str
    training: int | None
    training_name: str | None
    distance: float
    correlation: float
    lag_s: float


@dataclass(frozen=True)
class Closeness:
    """Closeness of generated records to training and to hold-out patients (`measure_closeness`).

    Attributes:
        share: share of generated records closer to a training than to a hold-out patient, for equal
            numbers of patients; 0.5 without a leak.
        ratio_training: mean ratio of the distances to the nearest and the second nearest training
            patient; near 0 for a copy.
        ratio_hold_out: same ratio for hold-out patients.
        ratio_excess: `ratio_hold_out` minus `ratio_training`; above 0 if generated records are
            close to single training patients.
        training_patients: number of training patients.
        hold_out_patients: number of hold-out patients.
    """

    share: Estimate
    ratio_training: Estimate
    ratio_hold_out: Estimate
    ratio_excess: Estimate
    training_patients: int
    hold_out_patients: int

    @property
    def passed(self) -> bool:
        """Whether the lower end of the share's interval is at most 0.5 + `TOLERANCE`."""
        return self.share.low <= 0.5 + TOLERANCE


@dataclass(frozen=True)
class Membership:
    """Result of the membership inference attack (`infer_membership`).

    Attributes:
        auc: AUC of the attack with its interval over patients, for this generated set; 0.5 without
            a leak.
        members: number of training patients.
        non_members: number of hold-out patients.
        detectable: smallest AUC that the test detects with power `POWER`.
    """

    auc: Estimate
    members: int
    non_members: int
    detectable: float

    @property
    def passed(self) -> bool:
        """Whether the lower end of the AUC's interval is at most 0.5 + `TOLERANCE`."""
        return self.auc.low <= 0.5 + TOLERANCE


@dataclass(frozen=True)
class SpacePrivacy:
    """Closeness, membership inference and closest pairs in one space: "signal" or "embedding"."""

    space: Space
    closeness: Closeness
    membership: Membership
    closest_pairs: tuple[ClosePair, ...]


@dataclass(frozen=True)
class ClosestCorrelation:
    """Correlation of records with their closest training record.

    Attributes:
        median: median over the records.
        high: 95th percentile.
        largest: largest value.
    """

    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, correlations: npt.ArrayLike) -> "ClosestCorrelation":
        """Summarise correlations (n,)."""
        median, high, largest = np.quantile(np.asarray(correlations, np.float64), [0.5, 0.95, 1.0])
        return cls(float(median), float(high), float(largest))

    def __str__(self) -> str:
        return f"{self.median:.3f}, {self.high:.3f}, {self.largest:.3f}"


@dataclass(frozen=True)
class CopySearch:
    """Search for generated records that are shifted or unshifted copies of training records.

    Attributes:
        threshold: correlation above which a record is a suspected copy (`copy_threshold`).
        largest_lag_s: largest shift in seconds.
        generated: correlation of generated records with their closest training record.
        hold_out: same correlation of hold-out records; None if every hold-out record is a training
            record under another name.
        generated_records: number of generated records.
        suspected: suspected copies, each with its training record.
        copied_patients: number of training patients with a suspected copy.
    """

    threshold: float
    largest_lag_s: float
    generated: ClosestCorrelation
    hold_out: ClosestCorrelation | None
    generated_records: int
    suspected: tuple[ClosePair, ...]
    copied_patients: int

    @property
    def passed(self) -> bool:
        """Whether there are at most `ALLOWED_COPIES` suspected copies."""
        return len(self.suspected) <= ALLOWED_COPIES


@dataclass(frozen=True)
class PrivacyResult:
    """Privacy of the training patients of a generated set; `verdicts` gives sentences.

    Attributes:
        spaces: closeness and membership in each space.
        copies: result of the search for copies.
        notes: sentences on problems of the comparison itself.
        training_records: number of training records.
        hold_out_records: number of hold-out records.
    """

    spaces: tuple[SpacePrivacy, ...]
    copies: CopySearch
    notes: tuple[str, ...]
    training_records: int
    hold_out_records: int

    @property
    def passed(self) -> bool:
        """Whether every test passed."""
        return self.copies.passed and all(
            found.closeness.passed and found.membership.passed for found in self.spaces
        )

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdict on the set, then each test, then the notes without a verdict."""
        tests = [Verdict(self.copies.passed, self._on_copies())]
        for found in self.spaces:
            tests.append(Verdict(found.closeness.passed, _on_closeness(found)))
            tests.append(Verdict(found.membership.passed, _on_membership(found)))
        failed = [test.passed for test in tests].count(False)
        members, others = self.spaces[0].membership.members, self.spaces[0].membership.non_members
        of_patients = f"of {members} training and {others} hold-out patients"
        whole = (
            f"Failed: {failed} of {len(tests)} tests {of_patients} found training patients in the "
            "generated set; do not share it."
            if failed
            else f"Passed: none of {len(tests)} tests {of_patients} found a training patient in "
            "the generated set."
        )
        whole += f" {self.scope()}"
        notes = (Verdict(None, note) for note in self.notes)
        return (Verdict(not failed, whole), *tests, *notes)

    def scope(self) -> str:
        """Return a sentence on what the tests cover; a pass says nothing about anything else."""
        spaces = " and ".join(found.space for found in self.spaces)
        return (
            f"Tested: copies shifted by up to {self.copies.largest_lag_s:g} s, with any amplitude "
            "and baseline; closeness of generated records to training rather than hold-out "
            f"patients, and membership inference, both in {spaces} space. Not tested: "
            f"{NOT_LOOKED_FOR}."
        )

    def __str__(self) -> str:
        return "\n".join(verdict.sentence for verdict in self.verdicts())

    def without_training_names(self) -> "PrivacyResult":
        """Return a copy without the names and indices of training records."""
        spaces = tuple(
            replace(found, closest_pairs=_unnamed(found.closest_pairs)) for found in self.spaces
        )
        copies = replace(self.copies, suspected=_unnamed(self.copies.suspected))
        return replace(self, spaces=spaces, copies=copies)

    def _on_copies(self) -> str:
        copies = self.copies
        reference = (
            "" if copies.hold_out is None else f" (hold-out records: {copies.hold_out.largest:.3f})"
        )
        found = (
            f"No generated record of {copies.generated_records} is a suspected copy"
            if not copies.suspected
            else f"{len(copies.suspected)} of {copies.generated_records} generated records are "
            f"suspected copies of {copies.copied_patients} training patients"
        )
        return (
            f"{found}: the largest correlation with a training record within "
            f"{copies.largest_lag_s:g} s is {copies.generated.largest:.3f}{reference}; a suspected "
            f"copy is above {copies.threshold:.3f}, and {ALLOWED_COPIES} are allowed."
        )


def _on_closeness(found: SpacePrivacy) -> str:
    near = found.closeness
    return (
        f"In {found.space} space a share of {near.share} of the generated records is closer to "
        f"training than to hold-out patients, for equal numbers of patients "
        f"({_limit(near.passed)}); the nearest-neighbour distance ratio is {near.ratio_training} "
        f"for training and {near.ratio_hold_out} for hold-out patients."
    )


def _on_membership(found: SpacePrivacy) -> str:
    attack = found.membership
    return (
        f"In {found.space} space an attacker distinguishes the {attack.members} training from the "
        f"{attack.non_members} hold-out patients with an AUC of {attack.auc} "
        f"({_limit(attack.passed)}); with this many patients the test detects an AUC of "
        f"{attack.detectable:.2f} or more with a power of {POWER:g}."
    )


def _limit(passed: bool) -> str:
    return f"{word_of(passed)}: the lower end must be at most {0.5 + TOLERANCE:.2f}"


def word_of(passed: bool) -> str:
    """Verdict of a test in one word."""
    return "pass" if passed else "FAIL"


@dataclass(frozen=True)
class PrivacyEvaluation:
    """Privacy of the synthetic sets of a run, by transfer method."""

    methods: dict[str, PrivacyResult]

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict per method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """Return the verdicts of the single tests behind them."""
        return single_verdicts(self.methods)

    def without_training_names(self) -> "PrivacyEvaluation":
        """Return a copy without the names and indices of training records."""
        return PrivacyEvaluation(
            {method: result.without_training_names() for method, result in self.methods.items()}
        )


def _unnamed(pairs: tuple[ClosePair, ...]) -> tuple[ClosePair, ...]:
    return tuple(replace(pair, training=None, training_name=None) for pair in pairs)
