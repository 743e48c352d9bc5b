"""Result of the physiology question: shares, distributions, rules, and verdicts on them."""

from dataclasses import dataclass
from typing import Literal

from ecgtransfer.evaluation.answer import single_verdicts, whole_verdicts
from ecgtransfer.evaluation.halves import Comparison
from ecgtransfer.statistics import (
    Estimate,
    Quantiles,
    Verdict,
)

#: Generated records may obey a rule, and be delineated, this much less often than real ones: two
#: samples of 100 real records that obey in four cases of five differ by as much (twice the standard
#: error, 11 points) through chance alone, so nothing smaller is a fault that can be told.
MARGIN = 0.10

#: Fewest records of either side, and of different real patients, of which a share or a distribution
#: is told: from fewer, an interval is wider than any margin.
FEWEST_RECORDS = 10

#: Limb leads disagree by rounding alone; beyond this a recording has been damaged (the limit at
#: which the preparation of a corpus reports a record).
LIMB_LEADS_MV = 0.005

#: Group of all records, in the tables.
ALL = "all records"

RuleVerdict = Literal["kept", "broken", "undecided", "not tested"]


@dataclass(frozen=True)
class IntervalComparison:
    """One measure in one group: its distribution in real and generated records.

    shift: median of the generated minus median of the real, with the bootstrap interval over
        patients.
    distance: 1-Wasserstein distance in the unit of the measure, beside that of two halves of the
        real patients at the same number of records (`compare_with_halves`).
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
    """A share of records, real and generated, and generated minus real.

    real, generated: with Wilson's intervals; the records of a patient count as one where they all
        agree (`effective_records`). difference: with Newcombe's 95 % interval. adjusted: the same
        at the confidence that holds for all verdicts of the study together (Bonferroni).
    """

    real: Estimate
    generated: Estimate
    difference: Estimate
    adjusted: Estimate
    real_records: int
    generated_records: int


@dataclass(frozen=True)
class RuleResult:
    """How often the records of a class obey its rule.

    others: share of the real records without the label that would obey it too, None where there
        are none. contrast: the share of the real records with the label minus `others`, with
        Newcombe's interval. Where its lower end is not above the margin the rule tells nothing, and
        the verdict is "not tested".
    shares: None, and the verdict "not tested", for fewer than 10 records or patients a side.
    verdict: "kept" where the interval of the difference lies above -10 percentage points; "broken"
        where it lies below that, and the adjusted one below 0; else "undecided".
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
                f"{self.label} not tested: {self.real_records} real and {self.generated_records} "
                f"generated records, of {FEWEST_RECORDS} needed"
            )
        if self.verdict == "not tested":
            return (
                f"{self.label} not tested: the rule tells nothing, for "
                f"{percent_text(self.shares.real)} of its real records and "
                f"{100 * (self.others or 0):.0f} % of the other ones show {self.sentence}"
            )
        others = "" if self.others is None else f" ({100 * self.others:.0f} % of the other ones)"
        return (
            f"{self.label} {self.verdict}: {percent_text(self.shares.generated)} of the generated "
            f"and {percent_text(self.shares.real)} of the real records{others} show {self.sentence}"
        )


@dataclass(frozen=True)
class PhysiologyResult:
    """Physiology of a generated set beside that of real records; `verdicts` says it in words.

    Attributes:
        failed: share of records that could not be delineated, `ALL` first, then by label.
        failure_verdict: of all records, as `RuleResult.verdict` with delineated for obeying.
        reasons: why, and how many, real and generated.
        intervals: distributions by measure and group, where both sides have enough records.
        rules: one a label that has a rule.
        limb_leads_mv: largest departure from Einthoven's and Goldberger's laws, (real, generated);
            None where records were eight leads, of which the others are computed.
    """

    failed: dict[str, ShareComparison]
    failure_verdict: RuleVerdict
    reasons: dict[str, tuple[int, int]]
    intervals: tuple[IntervalComparison, ...]
    rules: tuple[RuleResult, ...]
    limb_leads_mv: tuple[float | None, float | None]

    @property
    def passed(self) -> bool | None:
        """True where all that was tested is kept, False where one thing is broken, else None.

        What is asked for: the tested rules, delineation as often as of real records, and limb leads
        that agree within 5 microvolts. None too where no rule could be tested.
        """
        rules = [rule.verdict for rule in self.rules if rule.verdict != "not tested"]
        found = [self.failure_verdict, *rules]
        if "broken" in found or (self.limb_leads_mv[1] or 0.0) > LIMB_LEADS_MV:
            return False
        return True if rules and set(found) == {"kept"} else None

    def verdicts(self) -> tuple[Verdict, ...]:
        """The whole first, then failures, limb leads and each rule, in sentences."""
        found = [Verdict(self.passed, self._on_all()), self._on_failures()]
        disagreement = self.limb_leads_mv[1]
        if disagreement is not None:
            found.append(
                Verdict(
                    disagreement <= LIMB_LEADS_MV,
                    "The limb leads of generated records depart from Einthoven's and Goldberger's "
                    f"laws by up to {1000 * disagreement:.1f} microvolts; rounding explains "
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
            told = [
                f"{', '.join(labels[verdict])} {verdict}"
                for verdict in ("broken", "undecided", "kept")
                if verdict in labels
            ]
            on_rules = f"of the rules of {tested} classes {'; '.join(told)}"
        if tested and "not tested" in labels:
            on_rules += f" (not tested: {', '.join(labels['not tested'])})"
        word = {True: "Passed", False: "Failed", None: "Open"}[self.passed]
        return (
            f"{word}: {on_rules}; generated records may obey them {100 * MARGIN:.0f} percentage "
            "points less often than real ones."
        )

    def _on_failures(self) -> Verdict:
        share = self.failed[ALL]
        limit = f"the limit is {100 * MARGIN:.0f} percentage points more"
        told = {"kept": limit, "broken": f"too many, {limit}", "undecided": f"unclear, {limit}"}
        return Verdict(
            passed_of(self.failure_verdict),
            f"{percent_text(share.generated)} of the generated and {percent_text(share.real)} of "
            f"the real records could not be delineated; {told[self.failure_verdict]}.",
        )


@dataclass(frozen=True)
class PhysiologyEvaluation:
    """Physiology of the synthetic sets of a run, by the method that made them."""

    methods: dict[str, PhysiologyResult]

    def verdicts(self) -> tuple[Verdict, ...]:
        """One a method."""
        return whole_verdicts(self.methods)

    def tests(self) -> tuple[Verdict, ...]:
        """What the verdicts rest on."""
        return single_verdicts(self.methods)


def passed_of(verdict: RuleVerdict) -> bool | None:
    """Whether a rule is kept; None where it is undecided or not tested."""
    return {"kept": True, "broken": False}.get(verdict)


def percent_text(share: Estimate) -> str:
    """A share in per cent with its interval."""
    value, low, high = (100 * x for x in (share.value, share.low, share.high))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"
