"""What a utility study came to: scores of its arms, differences, verdicts."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import (
    Estimate,
)


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm, means over its trainings (seeds).

    The scores: macro AUROC, macro average precision (area under the precision-recall curve), F2 and
    G2 of the benchmark, macro expected calibration error (`weighted_calibration_error`). baseline:
    without synthetic records, and tested on real ones. training_score is the macro AUROC of the
    out-of-fold predictions that chose the thresholds, None where no class could be scored.
    """

    name: str
    baseline: bool
    tested_on: str | None
    target_records: int
    source_records: int
    synthetic_records: int
    test_records: int
    training_score: float | None
    macro_auroc: Estimate
    macro_average_precision: Estimate
    f2: Estimate
    g2: Estimate
    calibration_error: Estimate
    per_class_auroc: dict[str, Estimate]
    per_class_average_precision: dict[str, Estimate]
    macro_auroc_by_seed: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return _plain(self)


@dataclass(frozen=True)
class ArmDifference:
    """An arm minus another, on the same resampled patients and seeds.

    name: the arm. against: the other, in `UtilityResult.differences` the same recipe without
    synthetic records.

    adjusted: the difference of macro AUROC with the interval that holds for all `compared` arms at
    once (`simultaneous_estimates`); the verdict goes by it. seeds: trainings of each arm; of a
    single one nobody knows how lucky it was, so that it is no evidence whatever its patients say.
    control: the arm has shuffled labels. alone: it has no target records, so that it differs by
    more than the synthetic ones.
    """

    name: str
    against: str
    compared: int
    seeds: int
    macro_auroc: Estimate
    adjusted: Estimate
    macro_average_precision: Estimate
    f2: Estimate
    g2: Estimate
    calibration_error: Estimate
    control: bool = False
    alone: bool = False

    @property
    def verdict(self) -> Literal["helps", "no evidence", "harms"]:
        """By the adjusted interval of the macro AUROC difference: above 0, around 0, below 0."""
        if self.seeds < 2:
            return "no evidence"
        if self.adjusted.low > 0:
            return "helps"
        return "harms" if self.adjusted.high < 0 else "no evidence"

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {**_plain(self), "verdict": self.verdict}


#: Test patients below which intervals are not to be trusted with a decision: those of a macro AUROC
#: of nine classes then rest on classes of one or two records.
FEW_TEST_PATIENTS = 50

#: Scores of an arm and of a difference: heading and field.
MEASURES = (
    ("macro AUROC", "macro_auroc"),
    ("macro AUPRC", "macro_average_precision"),
    ("F2", "f2"),
    ("G2", "g2"),
    ("ECE", "calibration_error"),
)


_WORDS = {
    "helps": "helps",
    "no evidence": "shows no evidence of helping or harming",
    "harms": "harms",
}


@dataclass(frozen=True)
class Overall:
    """The best way to train with a synthetic set against every way without.

    chosen: of `candidates` arms with records of `synthetic` (the controls aside) the one with the
    best training score, one for each split. macro_auroc: of it on the test records. differences: it
    minus each arm without synthetic records, adjusted for their number.
    """

    synthetic: str
    chosen: tuple[str, ...]
    candidates: int
    macro_auroc: Estimate
    differences: tuple[ArmDifference, ...]

    def sentence(self) -> str:
        """Which arms without synthetic records it is better or worse than."""
        found: dict[str, list[str]] = {"helps": [], "harms": [], "no evidence": []}
        for change in self.differences:
            found[change.verdict].append(f"{change.against} ({_signed(change.macro_auroc)})")
        told = [
            f"{words} {', '.join(found[verdict])}"
            for verdict, words in (
                ("helps", "better than"),
                ("harms", "worse than"),
                ("no evidence", "not told apart from"),
            )
            if found[verdict]
        ]
        chosen = " / ".join(dict.fromkeys(self.chosen))
        return (
            f"The best of {self.candidates} ways with {self.synthetic} records by its training "
            f"score, {chosen}, has a macro AUROC of {self.macro_auroc}: {'; '.join(told)}."
        )

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "synthetic": self.synthetic,
            "chosen": list(self.chosen),
            "candidates": self.candidates,
            "macro_auroc": self.macro_auroc.to_dict(),
            "differences": [change.to_dict() for change in self.differences],
            "sentence": self.sentence(),
        }


@dataclass(frozen=True)
class UtilityResult:
    """What synthetic records do for a classifier of held-out target patients.

    arms: in the order of the study. best: the arm without synthetic records with the best training
    score, one for each split. differences: each arm with synthetic records against the same recipe
    without them, one without target records against the target only;
    differences_to_target_only: each against the target only (empty where no arm is that). overall:
    for each synthetic set its best arm against every one without synthetic records.
    left_out: classes that cannot be scored, because the test records hold none or nothing but them.
    """

    arms: tuple[ArmResult, ...]
    best: tuple[str, ...]
    best_macro_auroc: Estimate
    differences: tuple[ArmDifference, ...]
    differences_to_target_only: tuple[ArmDifference, ...]
    overall: tuple[Overall, ...]
    seeds: tuple[int, ...]
    test_records: int
    test_patients: int
    left_out: tuple[str, ...]

    def arm(self, name: str) -> ArmResult:
        """The arm of that name; ConfigError where there is none."""
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(
            f"expected an arm of {', '.join(arm.name for arm in self.arms)}, got {name!r}"
        )

    def verdicts(self) -> tuple[str, ...]:
        """One sentence for each arm with synthetic records."""
        sentences = []
        for change in self.differences:
            score = self.arm(change.name).macro_auroc.value
            other = self.arm(change.against).macro_auroc.value
            kind = adjusted = warning = ""
            if change.control:
                kind = ", a control with shuffled labels,"
            elif change.alone:
                kind = ", without the target's records,"
            if change.compared > 1:
                adjusted = f", adjusted for {change.compared} comparisons {_span(change.adjusted)}"
            if change.seeds < 2:
                warning = " One training tells nothing of its luck: take 2 seeds or more."
            sentences.append(
                f"{change.name}{kind} {_WORDS[change.verdict]}: macro AUROC {score:.3f} against "
                f"{other:.3f} with {change.against}, difference {_signed(change.macro_auroc)}"
                f"{adjusted}, over {len(self.seeds)} training seeds and {self.test_patients} test "
                f"patients.{warning}"
            )
        return tuple(sentences)

    def warnings(self) -> tuple[str, ...]:
        """What makes the scores themselves doubtful, in sentences."""
        if self.test_patients >= FEW_TEST_PATIENTS:
            return ()
        return (
            f"{self.test_patients} test patients are few: below {FEW_TEST_PATIENTS} intervals rest "
            "on one or two records of the rare classes; test on more before anything is concluded.",
        )

    def rows(self) -> list[tuple[str, ...]]:
        """Measures down; arms, then their differences, across; header first."""
        names = [arm.name for arm in self.arms]
        rows = [("measure", *names, *(f"difference, {change.name}" for change in self.differences))]
        for heading, field in MEASURES:
            rows.append(
                (
                    heading,
                    *(str(getattr(arm, field)) for arm in self.arms),
                    *(str(getattr(change, field)) for change in self.differences),
                )
            )
        rows.append(
            (
                "macro AUROC, adjusted",
                *("" for _ in self.arms),
                *(str(change.adjusted) for change in self.differences),
            )
        )
        for heading, field in (
            ("AUROC", "per_class_auroc"),
            ("AUPRC", "per_class_average_precision"),
        ):
            classes = dict.fromkeys(name for arm in self.arms for name in getattr(arm, field))
            for name in classes:
                scores = (str(getattr(arm, field).get(name, "")) for arm in self.arms)
                rows.append((f"{heading} {name}", *scores, *("" for _ in self.differences)))
        return rows

    def arm_rows(self) -> list[tuple[str, ...]]:
        """Arms down; scores, difference to the same without and verdict across; header first."""
        changes = {change.name: change for change in self.differences}
        rows: list[tuple[str, ...]] = [
            (
                "arm",
                "target",
                "source",
                "synthetic",
                *(heading for heading, _ in MEASURES),
                "difference",
                "adjusted",
                "verdict",
            )
        ]
        for arm in self.arms:
            change = changes.get(arm.name)
            rows.append(
                (
                    arm.name,
                    str(arm.target_records),
                    str(arm.source_records),
                    str(arm.synthetic_records),
                    *(str(getattr(arm, field)) for _, field in MEASURES),
                    "" if change is None else _signed(change.macro_auroc),
                    "" if change is None else _span(change.adjusted),
                    "" if change is None else change.verdict,
                )
            )
        return rows

    def __str__(self) -> str:
        overall = [one.sentence() for one in self.overall]
        sentences = [*self.verdicts(), *overall, *self.warnings()]
        return "\n".join(["  ".join(row) for row in self.arm_rows()] + sentences)

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "arms": [arm.to_dict() for arm in self.arms],
            "best_without_synthetic": list(self.best),
            "best_macro_auroc": self.best_macro_auroc.to_dict(),
            "differences": [change.to_dict() for change in self.differences],
            "differences_to_target_only": [
                change.to_dict() for change in self.differences_to_target_only
            ],
            "overall": [one.to_dict() for one in self.overall],
            "verdicts": list(self.verdicts()),
            "warnings": list(self.warnings()),
            "seeds": list(self.seeds),
            "test_records": self.test_records,
            "test_patients": self.test_patients,
            "classes_left_out": list(self.left_out),
        }


def _signed(change: Estimate) -> str:
    return f"{change.value:+.3f} {_span(change)}"


def _span(change: Estimate) -> str:
    return f"[{change.low:+.3f}, {change.high:+.3f}]"


def _plain(result: ArmResult | ArmDifference) -> dict[str, object]:
    """The fields of a result as JSON has them."""
    return {
        field.name: _number(getattr(result, field.name)) for field in dataclasses.fields(result)
    }


def _number(value: object) -> object:
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, dict):
        return {key: _number(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
