"""Summary of the demonstration: what synthetic records change, and one sentence per question."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ecgtransfer.evaluation import (
    FidelityEvaluation,
    PhysiologyEvaluation,
    PrivacyEvaluation,
    UtilityEvaluation,
)
from ecgtransfer.evaluation.fidelity.result import FidelityResult
from ecgtransfer.evaluation.physiology.result import PhysiologyResult, RuleResult
from ecgtransfer.evaluation.privacy.result import PrivacyResult
from ecgtransfer.pipeline.evaluation import Answer
from ecgtransfer.pipeline.methods import TransferSummary
from ecgtransfer.pipeline.source_stage import SourceSummary
from ecgtransfer.statistics import Estimate


@dataclass(frozen=True)
class Benefit:
    """An AUROC of classifiers trained without and with synthetic records, and their difference.

    Attributes:
        label: label of the AUROC; None for the mean over all labels.
        labels: number of labels in the mean; 1 for a label.
        training_records: number of the clinic's training records.
        synthetic_records: number of synthetic records.
        test_patients: number of test patients.
        trainings: number of trainings of each classifier.
        without: AUROC without synthetic records, mean over trainings.
        augmented: AUROC with them.
        difference: `augmented` minus `without`, paired over patients and trainings.
    """

    label: str | None
    labels: int
    training_records: int
    synthetic_records: int
    test_patients: int
    trainings: int
    without: Estimate
    augmented: Estimate
    difference: Estimate

    @property
    def verdict(self) -> Literal["helps", "harms", "undecided"]:
        """Verdict by the interval of the difference; one training alone decides nothing."""
        if self.trainings < 2 or self.difference.low <= 0 <= self.difference.high:
            return "undecided"
        return "helps" if self.difference.low > 0 else "harms"

    @property
    def sentence(self) -> str:
        """Both scores, their difference and the conclusion in words."""
        score = f"AUROC of {self.label}" if self.label else f"Mean AUROC of {self.labels} labels"
        change = self.difference
        conclusion = {
            "helps": "the synthetic records help",
            "harms": "the synthetic records harm",
            "undecided": "undecided, because the interval includes 0",
        }[self.verdict]
        if self.trainings < 2:
            conclusion = "undecided, because one training shows no variation between trainings"
        return (
            f"{score} on {self.test_patients} simulated test patients: {self.without.value:.2f} "
            f"[{self.without.low:.2f}, {self.without.high:.2f}] from the clinic's "
            f"{self.training_records} records, {self.augmented.value:.2f} "
            f"[{self.augmented.low:.2f}, {self.augmented.high:.2f}] with {self.synthetic_records} "
            f"synthetic ones; difference {change.value:+.2f} [{change.low:+.2f}, "
            f"{change.high:+.2f}]: {conclusion}."
        )


@dataclass(frozen=True)
class DemoSummary:
    """Results of the demonstration and its files.

    Attributes:
        source: result of training the source model.
        transfer: result of the transfer.
        benefits: what synthetic records change: the AUROC of the asked label, unless it cannot be
            scored, then the mean over all labels.
        answers: results of the evaluations.
        synthetic: folder of the synthetic set.
        wfdb: folder of the same records in WFDB.
        report: HTML report.
        figures: figures on ECG paper.
        results: JSON file of all results.
    """

    source: SourceSummary
    transfer: TransferSummary
    benefits: tuple[Benefit, ...]
    answers: tuple[Answer, ...]
    synthetic: Path
    wfdb: Path
    report: Path
    figures: tuple[Path, ...]
    results: Path

    def sentences(self) -> tuple[str, ...]:
        """Return the benefits, then one sentence for each other question."""
        method = self.transfer.method
        found = [benefit.sentence for benefit in self.benefits]
        for answer in self.answers:
            evaluation = answer.evaluation
            if isinstance(evaluation, FidelityEvaluation):
                found.append(fidelity_sentence(evaluation.methods[method]))
            elif isinstance(evaluation, PhysiologyEvaluation):
                found.append(physiology_sentence(evaluation.methods[method]))
            elif isinstance(evaluation, PrivacyEvaluation):
                found.append(privacy_sentence(evaluation.methods[method]))
        return tuple(found)


def benefits_of(answers: Sequence[Answer], method: str, label: str) -> tuple[Benefit, ...]:
    """Return the benefit of a method's records for one label, then for the mean over labels.

    Args:
        answers: results of the evaluations.
        method: transfer method.
        label: label to state; it is omitted if the test records cannot score it.
    """
    return tuple(
        benefit
        for answer in answers
        if isinstance(answer.evaluation, UtilityEvaluation)
        for benefit in _benefits(answer.evaluation, method, label)
    )


def _benefits(evaluation: UtilityEvaluation, method: str, label: str) -> Iterator[Benefit]:
    result = evaluation.result
    for change in result.differences:
        if change.synthetic != method or change.control or change.alone:
            continue
        arm, other = result.arm(change.name), result.arm(change.against)
        of_labels = (other.per_class_auroc, arm.per_class_auroc, change.per_class_auroc)
        scores: dict[str | None, tuple[Estimate, Estimate, Estimate]] = {}
        scores[None] = (other.macro_auroc, arm.macro_auroc, change.macro_auroc)
        if label in change.per_class_auroc:
            without, augmented, difference = (auroc[label] for auroc in of_labels)
            scores = {label: (without, augmented, difference), **scores}
        for name, (without, augmented, difference) in scores.items():
            yield Benefit(
                label=name,
                labels=1 if name else len(arm.per_class_auroc),
                training_records=arm.target_records,
                synthetic_records=arm.synthetic_records,
                test_patients=result.test_patients,
                trainings=len(result.seeds),
                without=without,
                augmented=augmented,
                difference=difference,
            )


def fidelity_sentence(result: FidelityResult) -> str:
    """Return a sentence on how many measures of similarity are within their limits."""
    rules = [rule for rule in result.rules() if rule.required]
    parts = [f"{sum(rule.kept is True for rule in rules)} of {len(rules)} measures are within"]
    for kept, words in ((False, "beyond"), (None, "undecided")):
        names = [rule.measure for rule in rules if rule.kept is kept]
        if names:
            parts.append(f"{len(names)} {words} ({', '.join(names)})")
    return (
        "Similarity to the clinic's test records, with limits from two halves of these records: "
        f"{', '.join(parts)}; {result.frechet.records} records per side."
    )


def physiology_sentence(result: PhysiologyResult) -> str:
    """Return a sentence on how often synthetic records meet the ECG criterion of their label."""
    tested = [rule for rule in result.rules if rule.shares is not None]
    tested = [rule for rule in tested if rule.verdict != "not tested"]
    named = [
        f"{', '.join(map(_shares, rules))} {words}"
        for verdict, words in (
            ("kept", "as often"),
            ("broken", "less often"),
            ("undecided", "undecided"),
        )
        if (rules := [rule for rule in tested if rule.verdict == verdict])
    ]
    untested = len(result.rules) - len(tested)
    labels = "label" if untested == 1 else "labels"
    rest = f"; {untested} {labels} could not be tested" if untested else ""
    if not tested:
        return f"ECG criteria of the labels: none of {untested} labels could be tested."
    return (
        "Synthetic against simulated records that meet the ECG criterion of their label: "
        f"{'; '.join(named)}{rest}."
    )


def privacy_sentence(result: PrivacyResult) -> str:
    """Return a sentence on copies and on attacks that recognise training patients."""
    copies = result.copies
    tests = [part.passed for each in result.spaces for part in (each.closeness, each.membership)]
    detectable = max(each.membership.detectable for each in result.spaces)
    found = len(copies.suspected)
    copied = f"{found or 'no'} suspected {'copy' if found == 1 else 'copies'} of a training record"
    return (
        f"Privacy: {copied} among {copies.generated_records} synthetic ones, and "
        f"{tests.count(False) or 'none'} of {len(tests)} attacks recognised training patients; "
        f"with so few patients an attack with an AUC below {detectable:.2f} may stay undetected."
    )


def _shares(rule: RuleResult) -> str:
    assert rule.shares is not None
    generated, target = rule.shares.generated.value, rule.shares.real.value
    return f"{rule.label} ({100 * generated:.0f} % against {100 * target:.0f} %)"
