"""Result of the utility evaluation: scores of the arms, differences, verdicts."""

from dataclasses import dataclass, field
from typing import Literal

from ecgtransfer.errors import ConfigError
from ecgtransfer.statistics import Estimate, Verdict
from ecgtransfer.storage import OMIT_AT_DEFAULT


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm, means over its trainings (seeds).

    Attributes:
        name: name of the arm.
        baseline: whether it is trained and tested without synthetic records.
        tested_on: name of the synthetic set for the test; None for the test records.
        target_records: number of target records in training.
        source_records: number of source records in training.
        synthetic_records: number of synthetic records in training.
        test_records: number of test records.
        training_score: macro AUROC of the out-of-fold predictions from which the thresholds are
            chosen; None if no class could be scored.
        macro_auroc: macro AUROC.
        macro_average_precision: macro average precision (area under the precision-recall curve).
        f2: macro F2 of the CPSC / PTB-XL benchmark.
        g2: macro G2 of the benchmark.
        calibration_error: macro expected calibration error (`weighted_calibration_error`).
        per_class_auroc: AUROC by label.
        per_class_average_precision: average precision by label.
        macro_auroc_by_seed: macro AUROC of each training.
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
    """Scores of an arm minus those of another, paired over resampled patients and seeds.

    Attributes:
        name: name of the arm.
        against: name of the other arm; in `UtilityResult.differences` the one with the same recipe
            without synthetic records.
        compared: number of comparisons that `adjusted` accounts for.
        seeds: number of trainings of each arm. With one training, its variation is unknown, and the
            verdict is "no evidence".
        macro_auroc: difference of macro AUROC.
        adjusted: same difference, with a simultaneous interval for all comparisons
            (`simultaneous_estimates`); the verdict uses it.
        macro_average_precision: difference of macro average precision.
        f2: difference of F2.
        g2: difference of G2.
        calibration_error: difference of the calibration error.
        control: whether the arm has shuffled labels.
        alone: whether the arm has no target records, so that it differs in more than synthetic
            records.
        synthetic: name of the arm's synthetic set; None in `Overall`.
        per_class_auroc: difference of the AUROC by label, not adjusted for their number; empty on
            cards of earlier versions.
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
    per_class_auroc: dict[str, Estimate] = field(default_factory=dict, metadata=OMIT_AT_DEFAULT)

    @property
    def verdict(self) -> Literal["helps", "no evidence", "harms"]:
        """Verdict by the adjusted interval of the macro AUROC difference."""
        if self.seeds < 2:
            return "no evidence"
        if self.adjusted.low > 0:
            return "helps"
        return "harms" if self.adjusted.high < 0 else "no evidence"


#: With fewer test patients, intervals are too uncertain for decisions: some of nine classes then
#: have one or two records only.
FEW_TEST_PATIENTS = 50

#: Scores of an arm and of a difference: (heading in tables, attribute).
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
    """The best arm with a synthetic set, compared with every arm without synthetic records.

    Attributes:
        synthetic: name of the set.
        chosen: name of the arm with the best training score, one per split; controls are ignored.
        candidates: number of arms from which it was chosen.
        macro_auroc: its macro AUROC on the test records.
        differences: it minus each arm without synthetic records, adjusted for their number.
    """

    synthetic: str
    chosen: tuple[str, ...]
    candidates: int
    macro_auroc: Estimate
    differences: tuple[ArmDifference, ...]

    def sentence(self) -> str:
        """Return a sentence on the arms without synthetic records that it beats or not."""
        found: dict[str, list[str]] = {"helps": [], "harms": [], "no evidence": []}
        for change in self.differences:
            found[change.verdict].append(f"{change.against} ({signed_text(change.macro_auroc)})")
        comparisons = [
            f"{words} {', '.join(found[verdict])}"
            for verdict, words in (
                ("helps", "better than"),
                ("harms", "worse than"),
                ("no evidence", "no evidence of a difference from"),
            )
            if found[verdict]
        ]
        chosen = " / ".join(dict.fromkeys(self.chosen))
        return (
            f"The best of {self.candidates} arms with {self.synthetic} records by its training "
            f"score, {chosen}, has a macro AUROC of {self.macro_auroc}: {'; '.join(comparisons)}."
        )


@dataclass(frozen=True)
class UtilityResult:
    """Effect of synthetic records on a classifier of held-out target patients.

    Attributes:
        arms: scores of each arm, in the order of the study.
        best: name of the arm without synthetic records with the best training score, one per split.
        best_macro_auroc: its macro AUROC on the test records.
        differences: each arm with synthetic records minus the same recipe without them; an arm
            without target records minus target only.
        differences_to_target_only: each arm with synthetic records minus target only; empty if the
            study has no such arm.
        overall: for each synthetic set, its best arm compared with every arm without synthetic
            records.
        seeds: seeds of the trainings.
        test_records: number of test records.
        test_patients: number of test patients.
        left_out: classes that cannot be scored, because no test record or every test record has
            them.
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
        """Return the scores of the arm with this name.

        Raises:
            ConfigError: there is no such arm.
        """
        for arm in self.arms:
            if arm.name == name:
                return arm
        raise ConfigError(
            f"expected an arm of {', '.join(arm.name for arm in self.arms)}, got {name!r}; choose "
            "one of these"
        )

    def verdicts(self) -> tuple[str, ...]:
        """Return one sentence per arm with synthetic records."""
        sentences = []
        for change in self.differences:
            score = self.arm(change.name).macro_auroc.value
            other = self.arm(change.against).macro_auroc.value
            kind = adjusted = warning = ""
            if change.control:
                kind = ", a control with shuffled labels,"
            elif change.alone:
                kind = ", without target records,"
            if change.compared > 1:
                adjusted = (
                    f", adjusted for {change.compared} comparisons {span_text(change.adjusted)}"
                )
            if change.seeds < 2:
                warning = (
                    " With one training, the variation between trainings is unknown: use 2 seeds "
                    "or more."
                )
            sentences.append(
                f"{change.name}{kind} {_WORDS[change.verdict]}: macro AUROC {score:.3f} against "
                f"{other:.3f} with {change.against}, difference {signed_text(change.macro_auroc)}"
                f"{adjusted}, over {len(self.seeds)} training seeds and {self.test_patients} test "
                f"patients.{warning}"
            )
        return tuple(sentences)

    def warnings(self) -> tuple[str, ...]:
        """Return sentences on problems of the scores themselves."""
        if self.test_patients >= FEW_TEST_PATIENTS:
            return ()
        return (
            f"{self.test_patients} test patients are few: with fewer than {FEW_TEST_PATIENTS}, "
            "rare classes have one or two records; test on more before you draw conclusions.",
        )

    def __str__(self) -> str:
        overall = [one.sentence() for one in self.overall]
        sentences = [*self.verdicts(), *overall, *self.warnings()]
        return "\n".join(sentences)


def signed_text(change: Estimate) -> str:
    """Format a difference with its sign and interval."""
    return f"{change.value:+.3f} {span_text(change)}"


def span_text(change: Estimate) -> str:
    """Format the interval of a difference."""
    return f"[{change.low:+.3f}, {change.high:+.3f}]"


@dataclass(frozen=True)
class UtilityEvaluation:
    """Utility of the synthetic sets of a run: one study of the sets of all methods."""

    methods: tuple[str, ...]
    result: UtilityResult

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict per method: how many arms with its set help or harm, and the best arm.

        Controls are not counted, nor is the arm without target records, which differs in more than
        synthetic records.
        """
        return tuple(self._verdict(method) for method in self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """Return one verdict per arm with synthetic records: passed if they help.

        A control, or training on synthetic records alone, neither passes nor fails.
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
        summary = (
            f"of {len(found)} arms with its records {helping} help and {harming} harm, each "
            f"compared with the same arm without them ({self.result.test_patients} test patients)."
        )
        return Verdict(
            None if (helping > 0) == (harming > 0) else helping > 0,
            " ".join([f"{method}: {summary}", *overall, *self.result.warnings()]),
        )
