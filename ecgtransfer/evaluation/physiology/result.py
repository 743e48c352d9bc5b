"""Result of the physiology evaluation: shares, distributions, rules, and verdicts on them."""

from dataclasses import dataclass
from typing import Literal

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.evaluation.halves import Comparison
from ecgtransfer.statistics import (
    Estimate,
    Quantiles,
    Verdict,
)

#: Generated records may meet a rule, or be delineated, this much less often than real ones. Two
#: samples of 100 real records of which 80 % meet a rule differ as much by chance (twice the
#: standard error is 11 percentage points), so a smaller difference could not be detected.
MARGIN = 0.10

#: Fewest records, and patients, of a side for which a share or a distribution is reported. With
#: fewer, an interval is wider than any margin.
FEWEST_RECORDS = 10

#: Limb leads of an intact recording disagree by rounding errors only; above this limit in
#: millivolts, the preparation of a corpus reports a record.
LIMB_LEADS_MV = 0.005

#: Group of all records, in the tables.
ALL = "all records"

RuleVerdict = Literal["kept", "broken", "undecided", "not tested"]


@dataclass(frozen=True)
class IntervalComparison:
    """Distributions of one measure in the real and generated records of one group.

    Attributes:
        measure: name of the measure.
        unit: unit of the measure.
        group: label of the records, or `ALL`.
        real: quantiles of the real records.
        generated: quantiles of the generated records.
        shift: generated minus real median, with the bootstrap interval over patients.
        distance: 1-Wasserstein distance in the unit of the measure, compared with that of two
            halves of the real patients (`compare_with_halves`).
    """

    measure: str
    unit: str
    group: str
    real: Quantiles
    generated: Quantiles
    shift: Estimate
    distance: Comparison


@dataclass(frozen=True)
class ShareComparison:
    """A share of records, real and generated, and their difference.

    The number of records behind an interval is `effective_records`, which counts the records of a
    patient as one if they all agree.

    Attributes:
        real: share of the real records, with Wilson's interval.
        generated: share of the generated records, with Wilson's interval.
        difference: generated minus real, with Newcombe's 95 % interval.
        adjusted: same difference, with the interval that has 95 % confidence for all verdicts of
            the study together (Bonferroni).
        real_records: number of real records.
        generated_records: number of generated records.
    """

    real: Estimate
    generated: Estimate
    difference: Estimate
    adjusted: Estimate
    real_records: int
    generated_records: int


@dataclass(frozen=True)
class RuleResult:
    """How often the records of a class meet its rule.

    Attributes:
        label: label of the class.
        sentence: the rule in words.
        shares: shares of records that meet the rule; None, with the verdict "not tested", if a side
            has fewer than 10 records or patients.
        others: share of the real records without the label that meet the rule; None without such
            records.
        contrast: share of the real records with the label minus `others`, with Newcombe's interval.
            If its lower end is not above the margin, the rule does not separate the classes, and
            the verdict is "not tested".
        real_records: number of real records of the class.
        generated_records: number of generated records of the class.
        verdict: "kept" if the interval of the difference lies above -10 percentage points; "broken"
            if it lies below, and the adjusted interval below 0; else "undecided".
    """

    label: str
    sentence: str
    shares: ShareComparison | None
    others: float | None
    contrast: Estimate | None
    real_records: int
    generated_records: int
    verdict: RuleVerdict

    def __str__(self) -> str:
        if self.shares is None:
            return (
                f"{self.label} not tested: {self.real_records} target and {self.generated_records} "
                f"generated records, but {FEWEST_RECORDS} of each are needed"
            )
        if self.verdict == "not tested":
            return (
                f"{self.label} not tested: the rule does not separate the classes, because "
                f"{percent_text(self.shares.real)} of the target's records with this label and "
                f"{100 * (self.others or 0):.0f} % of the others show {self.sentence}"
            )
        others = (
            ""
            if self.others is None
            else f" ({100 * self.others:.0f} % of target records without the label)"
        )
        return (
            f"{self.label} {self.verdict}: {percent_text(self.shares.generated)} of the generated "
            f"and {percent_text(self.shares.real)} of the target's records{others} show "
            f"{self.sentence}"
        )


@dataclass(frozen=True)
class PhysiologyResult:
    """Physiology of a generated set compared with real records; `verdicts` gives sentences.

    Attributes:
        failed: share of records that could not be delineated, `ALL` first, then by label.
        failure_verdict: verdict on that share for all records, with the rules of
            `RuleResult.verdict`.
        reasons: number of failed records by reason, (real, generated).
        intervals: distributions by measure and group, if both sides have enough records.
        rules: result of each rule.
        limb_leads_mv: largest deviation from Einthoven's and Goldberger's laws, (real, generated);
            None for records with eight leads, from which the others are computed.
    """

    failed: dict[str, ShareComparison]
    failure_verdict: RuleVerdict
    reasons: dict[str, tuple[int, int]]
    intervals: tuple[IntervalComparison, ...]
    rules: tuple[RuleResult, ...]
    limb_leads_mv: tuple[float | None, float | None]

    @property
    def passed(self) -> bool | None:
        """True if all requirements are met, False if one is broken, else None.

        The requirements are the tested rules, delineation as often as for real records, and limb
        leads that agree within 5 microvolts. None also if no rule could be tested.
        """
        rules = [rule.verdict for rule in self.rules if rule.verdict != "not tested"]
        found = [self.failure_verdict, *rules]
        if "broken" in found or (self.limb_leads_mv[1] or 0.0) > LIMB_LEADS_MV:
            return False
        return True if rules and set(found) == {"kept"} else None

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return the verdict on the set, then those on failures, limb leads and each rule."""
        found = [Verdict(self.passed, self._on_all()), self._on_failures()]
        disagreement = self.limb_leads_mv[1]
        if disagreement is not None:
            found.append(
                Verdict(
                    disagreement <= LIMB_LEADS_MV,
                    "The limb leads of generated records deviate from Einthoven's and Goldberger's "
                    f"laws by up to {1000 * disagreement:.1f} microvolts; rounding explains up to "
                    f"{1000 * LIMB_LEADS_MV:.0f}.",
                )
            )
        return (*found, *(Verdict(passed_of(rule.verdict), f"{rule}.") for rule in self.rules))

    def __str__(self) -> str:
        return "\n".join(verdict.sentence for verdict in self.verdicts())

    def _on_all(self) -> str:
        labels: dict[str, list[str]] = {}
        for rule in self.rules:
            labels.setdefault(rule.verdict, []).append(rule.label)
        tested = len(self.rules) - len(labels.get("not tested", ()))
        if not tested:
            on_rules = "no class has a rule that could be tested"
        else:
            parts = [
                f"{', '.join(labels[verdict])} {verdict}"
                for verdict in ("broken", "undecided", "kept")
                if verdict in labels
            ]
            on_rules = f"rules of {tested} classes: {'; '.join(parts)}"
        if tested and "not tested" in labels:
            on_rules += f" (not tested: {', '.join(labels['not tested'])})"
        word = {True: "Passed", False: "Failed", None: "Open"}[self.passed]
        return (
            f"{word}: {on_rules}; generated records may meet a rule up to {100 * MARGIN:.0f} "
            "percentage points less often than those of the target."
        )

    def _on_failures(self) -> Verdict:
        share = self.failed[ALL]
        limit = f"the limit is {100 * MARGIN:.0f} percentage points more than target records"
        judged = {"kept": limit, "broken": f"too many: {limit}", "undecided": f"undecided: {limit}"}
        return Verdict(
            passed_of(self.failure_verdict),
            f"{percent_text(share.generated)} of the generated and {percent_text(share.real)} of "
            f"the target's records could not be delineated; {judged[self.failure_verdict]}.",
        )


@dataclass(frozen=True)
class PhysiologyEvaluation:
    """Physiology of the synthetic sets of a run, by transfer method."""

    methods: dict[str, PhysiologyResult]

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return one verdict per method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """Return the verdicts of the single tests behind them."""
        return single_verdicts(self.methods)


def passed_of(verdict: RuleVerdict) -> bool | None:
    """Whether a rule is kept; None if it is undecided or not tested."""
    return {"kept": True, "broken": False}.get(verdict)


def percent_text(share: Estimate) -> str:
    """Format a share in per cent with its interval."""
    value, low, high = (100 * x for x in (share.value, share.low, share.high))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"
