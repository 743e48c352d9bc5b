"""Result of the utility question: scores of its arms, differences, verdicts."""

from dataclasses import dataclass
from typing import Literal

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import Estimate, Verdict


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


@dataclass(frozen=True)
class ArmDifference:
    """An arm minus another, on the same resampled patients and seeds.

    name: the arm. against: the other, in `UtilityResult.differences` the same recipe without
    synthetic records.

    adjusted: the difference of macro AUROC with the interval that holds for all `compared` arms at
    once (`simultaneous_estimates`); the verdict goes by it. seeds: trainings of each arm; of a
    single one nobody knows how lucky it was, so that it is no evidence whatever its patients say.
    control: the arm has shuffled labels. alone: it has no target records, so that it differs by
    more than the synthetic ones. synthetic: name of its synthetic set; none in `Overall`.
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
    synthetic: str | None = None

    @property
    def verdict(self) -> Literal["helps", "no evidence", "harms"]:
        """By the adjusted interval of the macro AUROC difference: above 0, around 0, below 0."""
        if self.seeds < 2:
            return "no evidence"
        if self.adjusted.low > 0:
            return "helps"
        return "harms" if self.adjusted.high < 0 else "no evidence"


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
            found[change.verdict].append(f"{change.against} ({signed_text(change.macro_auroc)})")
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
                adjusted = (
                    f", adjusted for {change.compared} comparisons {span_text(change.adjusted)}"
                )
            if change.seeds < 2:
                warning = " One training tells nothing of its luck: take 2 seeds or more."
            sentences.append(
                f"{change.name}{kind} {_WORDS[change.verdict]}: macro AUROC {score:.3f} against "
                f"{other:.3f} with {change.against}, difference {signed_text(change.macro_auroc)}"
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

    def __str__(self) -> str:
        overall = [one.sentence() for one in self.overall]
        sentences = [*self.verdicts(), *overall, *self.warnings()]
        return "\n".join(sentences)


def signed_text(change: Estimate) -> str:
    """A difference with its sign and interval."""
    return f"{change.value:+.3f} {span_text(change)}"


def span_text(change: Estimate) -> str:
    """The interval of a difference."""
    return f"[{change.low:+.3f}, {change.high:+.3f}]"


@dataclass(frozen=True)
class UtilityEvaluation:
    """Utility of the synthetic sets of a run: one study of the sets of all `methods`."""

    methods: tuple[str, ...]
    result: UtilityResult

    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method: how many of the ways to train with its set help or harm, and the best one.

        Controls and the arm without target records, which differs by more than synthetic ones, are
        left out.
        """
        return tuple(self._verdict(method) for method in self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """One an arm: good news where synthetic records help.

        A control, or training on synthetic records alone, is neither good news nor bad.
        """
        passed = {"helps": True, "no evidence": None, "harms": False}
        return tuple(
            Verdict(None if change.control or change.alone else passed[change.verdict], sentence)
            for change, sentence in zip(
                self.result.differences, self.result.verdicts(), strict=True
            )
        )

    def _verdict(self, method: str) -> Verdict:
        found = [
            change.verdict
            for change in self.result.differences
            if change.synthetic == method and not change.control and not change.alone
        ]
        helping, harming = found.count("helps"), found.count("harms")
        overall = [one.sentence() for one in self.result.overall if one.synthetic == method]
        told = (
            f"of {len(found)} ways to train with its records {helping} help and {harming} harm, "
            f"each against the same way without them ({self.result.test_patients} test patients)."
        )
        return Verdict(
            None if (helping > 0) == (harming > 0) else helping > 0,
            " ".join([f"{method}: {told}", *overall, *self.result.warnings()]),
        )
