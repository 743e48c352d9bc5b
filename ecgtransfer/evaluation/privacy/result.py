"""Result of the privacy question: copies, closeness, membership, and verdicts on them."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.statistics import (
    Estimate,
    Verdict,
)

#: Copies that a set may hold: one patient given away is one too many.
ALLOWED_COPIES = 0

#: A share or an AUC fails when the lower end of its interval is above 0.5 by more than this. Any
#: fitted model is a little nearer to the sample it was fitted to; at 0.55 an attacker who is shown
#: one member and one stranger is right 55 times in 100.
TOLERANCE = 0.05

#: What no test here finds.
NOT_LOOKED_FOR = (
    "copies shifted further, stretched in time or cut into pieces, and patients of the source"
)

#: Chance with which a leak of the stated size would have been found.
POWER = 0.8

Space = Literal["signal", "embedding"]


@dataclass(frozen=True)
class ClosePair:
    """A generated record and the training record closest to it.

    The generated record shows `lag_s` later what the training record shows; `correlation` is that
    of `correlations_over_lags` at this lag, `distance` that of the space the pair was found in.
    training, training_name: None in a result without names of real records.
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
    """How near generated records are to each side, at equal numbers of patients a side.

    share: of generated records that are closer to a training than to a hold-out patient, were there
    as many of both (`measure_closeness`); 0.5 without a leak. ratio_training, ratio_hold_out: mean
    of the distance to the nearest patient over that to the second nearest; a copy has a ratio near
    0. ratio_excess: hold-out minus training, above 0 where generated records cling to single
    training patients.
    """

    share: Estimate
    ratio_training: Estimate
    ratio_hold_out: Estimate
    ratio_excess: Estimate
    training_patients: int
    hold_out_patients: int

    @property
    def passed(self) -> bool:
        """Whether the share's interval does not lie above 0.5 by more than `TOLERANCE`."""
        return self.share.low <= 0.5 + TOLERANCE


@dataclass(frozen=True)
class Membership:
    """An attacker who takes for members the patients that the generated set comes closest to.

    auc: with its interval over patients, given this generated set; 0.5 without a leak. detectable:
    the smallest AUC that so many patients fail with a chance of `POWER`.
    """

    auc: Estimate
    members: int
    non_members: int
    detectable: float

    @property
    def passed(self) -> bool:
        """Whether the interval does not lie above 0.5 by more than `TOLERANCE`."""
        return self.auc.low <= 0.5 + TOLERANCE


@dataclass(frozen=True)
class SpacePrivacy:
    """Closeness, membership and the closest pairs in one space."""

    space: Space
    closeness: Closeness
    membership: Membership
    closest_pairs: tuple[ClosePair, ...]


@dataclass(frozen=True)
class ClosestCorrelation:
    """Correlation of records with the training record most like them."""

    median: float
    high: float
    largest: float

    @classmethod
    def of(cls, correlations: npt.ArrayLike) -> "ClosestCorrelation":
        """Median, 95th percentile and largest of correlations (n,)."""
        median, high, largest = np.quantile(np.asarray(correlations, np.float64), [0.5, 0.95, 1.0])
        return cls(float(median), float(high), float(largest))

    def __str__(self) -> str:
        return f"{self.median:.3f}, {self.high:.3f}, {self.largest:.3f}"


@dataclass(frozen=True)
class CopySearch:
    """Generated records that repeat a training record, shifted or not.

    threshold: correlation above which a record is a suspected copy, the larger of
    `COPY_CORRELATION` and what the most similar real strangers ask for (`copy_threshold`).
    generated, hold_out: correlation with the closest training record; hold_out is none where every
    hold-out record is a training record under another name. copied_patients: training patients
    whose records are repeated.
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
        """Whether there are no more than `ALLOWED_COPIES`."""
        return len(self.suspected) <= ALLOWED_COPIES


@dataclass(frozen=True)
class PrivacyResult:
    """Privacy of the training patients of a generated set; `verdicts` says it in words."""

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
        """The whole first, then each test with its threshold, then notes, which judge nothing."""
        tests = [Verdict(self.copies.passed, self._on_copies())]
        for found in self.spaces:
            tests.append(Verdict(found.closeness.passed, _on_closeness(found)))
            tests.append(Verdict(found.membership.passed, _on_membership(found)))
        failed = [test.passed for test in tests].count(False)
        members, others = self.spaces[0].membership.members, self.spaces[0].membership.non_members
        of_patients = f"of {members} training and {others} hold-out patients"
        whole = (
            f"Failed: {failed} of {len(tests)} tests {of_patients} found training patients in the "
            "generated set; do not pass it on."
            if failed
            else f"Passed: none of {len(tests)} tests {of_patients} found a training patient in "
            "the generated set."
        )
        whole += f" {self.scope()}"
        notes = (Verdict(None, note) for note in self.notes)
        return (Verdict(not failed, whole), *tests, *notes)

    def scope(self) -> str:
        """What was looked for and what was not: a pass says nothing about the latter."""
        spaces = " and ".join(found.space for found in self.spaces)
        return (
            f"Looked for: copies shifted by up to {self.copies.largest_lag_s:g} s, whatever their "
            "amplitude and baseline; generated records closer to training than to hold-out "
            f"patients, and an attacker who tells the two apart, both in {spaces} space. Not "
            f"looked for: {NOT_LOOKED_FOR}."
        )

    def __str__(self) -> str:
        return "\n".join(verdict.sentence for verdict in self.verdicts())

    def without_training_names(self) -> "PrivacyResult":
        """The same without the names and numbers of training records."""
        spaces = tuple(
            replace(found, closest_pairs=_unnamed(found.closest_pairs)) for found in self.spaces
        )
        copies = replace(self.copies, suspected=_unnamed(self.copies.suspected))
        return replace(self, spaces=spaces, copies=copies)

    def _on_copies(self) -> str:
        copies = self.copies
        strangers = (
            ""
            if copies.hold_out is None
            else f"; hold-out records reach {copies.hold_out.largest:.3f}"
        )
        found = (
            f"No generated record of {copies.generated_records} is a suspected copy"
            if not copies.suspected
            else f"{len(copies.suspected)} of {copies.generated_records} generated records are "
            f"suspected copies of {copies.copied_patients} training patients"
        )
        return (
            f"{found}: largest correlation with a training record within "
            f"{copies.largest_lag_s:g} s {copies.generated.largest:.3f}{strangers}; a copy is "
            f"above {copies.threshold:.3f}, and {ALLOWED_COPIES} are allowed."
        )


def _on_closeness(found: SpacePrivacy) -> str:
    near = found.closeness
    return (
        f"In {found.space} space {near.share} of the generated records are closer to training than "
        f"to hold-out, reckoned to equal numbers of patients ({_limit(near.passed)}); their "
        f"nearest-neighbour distance ratio is {near.ratio_training} against training and "
        f"{near.ratio_hold_out} against hold-out."
    )


def _on_membership(found: SpacePrivacy) -> str:
    attack = found.membership
    return (
        f"In {found.space} space an attacker tells the {attack.members} training from the "
        f"{attack.non_members} hold-out patients with an AUC of {attack.auc} "
        f"({_limit(attack.passed)}); so many patients fail an AUC of {attack.detectable:.2f} or "
        f"more with a chance of {POWER:g}."
    )


def _limit(passed: bool) -> str:
    return f"{word_of(passed)}: the lower end may be up to {0.5 + TOLERANCE:.2f}"


def word_of(passed: bool) -> str:
    """The verdict of a test in a word."""
    return "pass" if passed else "FAIL"


@dataclass(frozen=True)
class PrivacyEvaluation:
    """Privacy of the synthetic sets of a run, by the method that made them."""

    methods: dict[str, PrivacyResult]

    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """What the verdicts rest on."""
        return single_verdicts(self.methods)

    def without_training_names(self) -> "PrivacyEvaluation":
        """The same without the names and numbers of training records."""
        return PrivacyEvaluation(
            {method: result.without_training_names() for method, result in self.methods.items()}
        )


def _unnamed(pairs: tuple[ClosePair, ...]) -> tuple[ClosePair, ...]:
    return tuple(replace(pair, training=None, training_name=None) for pair in pairs)
