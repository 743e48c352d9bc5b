"""Does a generated set make physiological sense? Intervals and the rules of each class.

Every number of the generated records stands beside that of real records that went through the same
delineation, because a rule that a textbook gives to hearts is broken by real records too: by wrong
labels, by wrong delineation, by a finding that has gone when the record is made. What is asked of a
generator is to break it no more often than they do, within a margin of 10 percentage points.

Verdicts are those of a non-inferiority study. A rule is kept where the whole 95 % interval of the
difference (Newcombe 1998) lies above minus the margin. It is broken where that interval lies below
minus the margin and the one adjusted for the number of verdicts (Bonferroni) below 0, so that of
sets as good as real ones no more than 2.5 % fail by all rules together. Otherwise it is undecided.
The set passes where every rule is kept, which needs no adjustment (intersection-union test, Berger
1982), and fails where one is broken. A rule that real records of other classes obey about as often
cannot be broken by a generator that ignores the class, so it is not tested.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.delineation import Intervals
from ecgtransfer.evaluation.fidelity import HALVES, compare_with_halves
from ecgtransfer.evaluation.fidelity_result import Comparison
from ecgtransfer.signals import LEADS
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    BoolArray,
    Estimate,
    FloatArray,
    Verdict,
    checked_labels,
    draw_resamples,
    effective_records,
    estimate,
    newcombe_difference,
    score_resamples,
    wilson_estimate,
)

#: PR of a conducted sinus beat, both ends normal; above it is first degree block (Kusumoto et al.,
#: 2018 ACC/AHA/HRS guideline on bradycardia, table of definitions).
PR_NORMAL_MS = (120.0, 200.0)

#: Complete bundle branch block begins here (Surawicz et al., AHA/ACCF/HRS recommendations part III,
#: Circulation 2009) ...
BLOCK_QRS_MS = 120.0
#: ... less what the delineation reads too short on real records, one sampling interval at 100 Hz:
#: the healthy of PTB-XL have 82 ms in the median, the recommendations about 90. Not a textbook's
#: number: with it 95 % of the real right bundle branch blocks obey their rule, without it 86 %. On
#: simulated records, whose QRS ends sharply, the error has the other sign.
QRS_TOLERANCE_MS = 10.0
#: So a reading is either that of a normal QRS, which ends below this, or that of a wide one.
WIDE_QRS_MS = BLOCK_QRS_MS - QRS_TOLERANCE_MS

#: Root mean square of successive RR differences over mean RR from which on a rhythm is irregular
#: (the statistic: Dash et al., Ann Biomed Eng 2009). Simulated sinus rhythm has 0.03 in the median,
#: atrial fibrillation 0.28.
IRREGULAR_RR = 0.1
#: P waves are absent when fewer beats than this have the same one.
P_PRESENT = 0.5

#: ST depression in two contiguous leads, horizontal or downsloping, so that it still stands 60 ms
#: after J, and ST elevation there at J, in V2 and V3 more (Thygesen et al., Fourth Universal
#: Definition of Myocardial Infarction, 2018; of the limits for V2 and V3 that of men from 40 years
#: on, since sex and age are not part of a signal). Of 120 healthy records of PTB-XL 19 % are so
#: depressed at J itself, 2 % at J + 60 ms; elevated are 2 % at J, 17 % at J + 60 ms.
ST_DEPRESSION_MV = -0.05
ST_ELEVATION_MV = 0.1
ST_ELEVATION_V2_V3_MV = 0.2
#: Leads that look at neighbouring regions, limb leads in Cabrera's order (Wagner et al.,
#: AHA/ACCF/HRS recommendations part VI, 2009).
CONTIGUOUS_LEADS = (
    ("aVL", "I"), ("I", "-aVR"), ("-aVR", "II"), ("II", "aVF"), ("aVF", "III"),
    ("V1", "V2"), ("V2", "V3"), ("V3", "V4"), ("V4", "V5"), ("V5", "V6"),
)  # fmt: skip

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


class ClassRule(NamedTuple):
    """What every record of a class must show, in a sentence and as a test of its `Intervals`.

    The rule is not asked of records that have one of the labels `unless` as well.
    """

    sentence: str
    holds: Callable[[Intervals], bool]
    unless: tuple[str, ...] = ()

    def obeyed_by(self, intervals: Intervals) -> bool:
        """True where it holds; a record that could not be delineated does not obey."""
        return intervals.failed is None and self.holds(intervals)


def _number(value: float | None) -> float:
    """What was not found is NaN, which no comparison holds for."""
    return math.nan if value is None else value


def _normal(found: Intervals) -> bool:
    low, high = PR_NORMAL_MS
    return (
        low <= _number(found.pr_ms) <= high
        and _number(found.qrs_ms) < WIDE_QRS_MS
        and _number(found.rr_irregularity) < IRREGULAR_RR
    )


def _fibrillation(found: Intervals) -> bool:
    irregular = _number(found.rr_irregularity) >= IRREGULAR_RR
    return irregular and _number(found.p_wave_share) < P_PRESENT


def _first_degree_block(found: Intervals) -> bool:
    return _number(found.pr_ms) > PR_NORMAL_MS[1]


def _wide(found: Intervals) -> bool:
    return _number(found.qrs_ms) >= WIDE_QRS_MS


def _left_block(found: Intervals) -> bool:
    to_the_left = max(_number(found.late_qrs_i_mv), _number(found.late_qrs_v6_mv)) > 0
    return _wide(found) and _number(found.late_qrs_v1_mv) < 0 and to_the_left


def _right_block(found: Intervals) -> bool:
    to_the_right = min(_number(found.late_qrs_i_mv), _number(found.late_qrs_v6_mv)) < 0
    return _wide(found) and _number(found.late_qrs_v1_mv) > 0 and to_the_right


def _early_narrow(found: Intervals) -> bool:
    return _number(found.early_beats) > _number(found.wide_early_beats)


def _early_wide(found: Intervals) -> bool:
    return _number(found.wide_early_beats) > 0


def _by_lead(levels_mv: tuple[float, ...] | None) -> dict[str, float]:
    levels = dict(zip(LEADS, levels_mv or [math.nan] * len(LEADS), strict=True))
    return levels | {"-aVR": -levels["aVR"]}


def _depressed(found: Intervals) -> bool:
    levels = _by_lead(found.st_level_mv)
    return any(max(levels[a], levels[b]) <= ST_DEPRESSION_MV for a, b in CONTIGUOUS_LEADS)


def _elevated(found: Intervals) -> bool:
    high = {
        lead
        for lead, level in _by_lead(found.st_j_mv).items()
        if level >= (ST_ELEVATION_V2_V3_MV if lead in ("V2", "V3") else ST_ELEVATION_MV)
    }
    return any({*pair} <= high for pair in CONTIGUOUS_LEADS)


#: The rules by label name; labels that are not here have none.
RULES: Mapping[str, ClassRule] = {
    "NORM": ClassRule(
        "PR 120 to 200 ms, QRS below 120 ms (110 within the error at 100 Hz), regular RR (RMSSD "
        "below 0.1 of the mean)",
        _normal,
        ("AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC"),
    ),
    "AFIB": ClassRule(
        "irregular RR (RMSSD at least 0.1 of the mean), same P wave in fewer than half of the "
        "beats",
        _fibrillation,
    ),
    "1AVB": ClassRule("PR above 200 ms", _first_degree_block, ("AFIB",)),
    "CLBBB": ClassRule(
        "QRS at least 120 ms (110 within the error at 100 Hz), its second half negative in V1 and "
        "positive in I or V6",
        _left_block,
    ),
    "CRBBB": ClassRule(
        "QRS at least 120 ms (110 within the error at 100 Hz), its second half positive in V1 and "
        "negative in I or V6",
        _right_block,
    ),
    "PAC": ClassRule(
        "an early beat (RR below 0.8 of its neighbours) with the usual QRS or a narrow one",
        _early_narrow,
        ("AFIB",),
    ),
    "PVC": ClassRule(
        "an early beat of another shape, QRS at least 120 ms (110 within the error at 100 Hz)",
        _early_wide,
    ),
    "STD_": ClassRule("ST at most -0.05 mV at J + 60 ms in two contiguous leads", _depressed),
    "STE_": ClassRule(
        "ST at least 0.1 mV (V2, V3: 0.2 mV) at the J point in two contiguous leads", _elevated
    ),
}


class Measure(NamedTuple):
    """What is compared as a distribution: name, unit, and where it stands in `Intervals`."""

    name: str
    unit: str
    of: Callable[[Intervals], float | None]


def _axis(found: Intervals) -> float | None:
    # The circle is cut at -150 degrees, where the fewest hearts are.
    return None if found.qrs_axis_deg is None else (found.qrs_axis_deg + 150) % 360 - 150


def _lowest_st(found: Intervals) -> float | None:
    return None if found.st_level_mv is None else min(found.st_level_mv)


def _highest_st(found: Intervals) -> float | None:
    return None if found.st_j_mv is None else max(found.st_j_mv)


MEASURES = (
    Measure("heart rate", "bpm", lambda found: found.heart_rate_bpm),
    Measure("RR irregularity", "of mean RR", lambda found: found.rr_irregularity),
    Measure("PR", "ms", lambda found: found.pr_ms),
    Measure("QRS", "ms", lambda found: found.qrs_ms),
    Measure("QT", "ms", lambda found: found.qt_ms),
    Measure("QTc", "ms", lambda found: found.qtc_ms),
    Measure("beats with the P wave", "share", lambda found: found.p_wave_share),
    Measure("QRS axis", "degrees", _axis),
    Measure("likeness of beats", "correlation", lambda found: found.beat_correlation),
    Measure("spread of R over beats", "of mean R", lambda found: found.r_spread),
    Measure("PR jitter over beats", "ms", lambda found: found.pr_jitter_ms),
    Measure("lowest ST at J + 60 ms of twelve leads", "mV", _lowest_st),
    Measure("highest ST at J of twelve leads", "mV", _highest_st),
)


#: What a `Spread` holds of a distribution.
PERCENTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Spread:
    """Quartiles, 5th and 95th percentile of a measure over the records in which it was found."""

    records: int
    low: float
    lower: float
    median: float
    upper: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.lower:.3g} to {self.upper:.3g})"

    def to_dict(self) -> dict[str, float]:
        """Plain numbers for JSON."""
        return {
            "records": self.records,
            "percentile_5": self.low,
            "lower_quartile": self.lower,
            "median": self.median,
            "upper_quartile": self.upper,
            "percentile_95": self.high,
        }


@dataclass(frozen=True)
class IntervalComparison:
    """One measure in one group: its distribution in real and generated records.

    shift: median of the generated minus median of the real, with the bootstrap interval over
        patients.
    distance: 1-Wasserstein distance in the unit of the measure, beside that of two halves of the
        real patients at the same number of records (`fidelity.compare_with_halves`).
    """

    measure: str
    unit: str
    group: str
    real: Spread
    generated: Spread
    shift: Estimate
    distance: Comparison

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "measure": self.measure,
            "unit": self.unit,
            "group": self.group,
            "real": self.real.to_dict(),
            "generated": self.generated.to_dict(),
            "shift": self.shift.to_dict(),
            "wasserstein_distance": self.distance.to_dict(),
        }


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

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "real": self.real.to_dict(),
            "generated": self.generated.to_dict(),
            "difference": self.difference.to_dict(),
            "adjusted": self.adjusted.to_dict(),
            "real_records": self.real_records,
            "generated_records": self.generated_records,
        }


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
                f"{_percent(self.shares.real)} of its real records and "
                f"{100 * (self.others or 0):.0f} % of the other ones show {self.sentence}"
            )
        others = "" if self.others is None else f" ({100 * self.others:.0f} % of the other ones)"
        return (
            f"{self.label} {self.verdict}: {_percent(self.shares.generated)} of the generated and "
            f"{_percent(self.shares.real)} of the real records{others} show {self.sentence}"
        )

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "label": self.label,
            "rule": self.sentence,
            "shares": None if self.shares is None else self.shares.to_dict(),
            "real_without_the_label": self.others,
            "real_with_minus_without": None if self.contrast is None else self.contrast.to_dict(),
            "real_records": self.real_records,
            "generated_records": self.generated_records,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class PhysiologyResult:
    """What delineation says about a generated set; `verdicts` says it in words.

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
        return (*found, *(Verdict(_passed(rule.verdict), f"{rule}.") for rule in self.rules))

    def __str__(self) -> str:
        return "\n".join(verdict.sentence for verdict in self.verdicts())

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(what, generated, real, difference, verdict), header first: failures and rules.

        The difference has its own 95 % interval, and then the adjusted one.
        """
        rows = [("share of records", "generated", "real", "difference", "verdict")]
        rows += [
            (f"not delineated, {group}", *_columns(share), self.failure_verdict)
            if group == ALL
            else (f"not delineated, {group}", *_columns(share), "")
            for group, share in self.failed.items()
        ]
        rows += [
            (f"rule of {rule.label}", *_columns(rule.shares), rule.verdict) for rule in self.rules
        ]
        return rows

    def rule_rows(self) -> list[tuple[str, str, str, str, str, str, str]]:
        """(label, rule, generated, real, difference, real of other classes, verdict), header."""
        header = ("label", "rule", "generated", "real", "difference", "real, other classes",
                  "verdict")  # fmt: skip
        return [header] + [
            (
                rule.label,
                rule.sentence,
                *_columns(rule.shares),
                "" if rule.others is None else f"{100 * rule.others:.0f} %",
                rule.verdict,
            )
            for rule in self.rules
        ]

    def interval_rows(self) -> list[tuple[str, str, str, str, str, str, str]]:
        """(measure, group, generated, real, shift, distance, real against real), header first."""
        header = ("measure", "group", "generated", "real", "shift of the median",
                  "Wasserstein distance", "real against real")  # fmt: skip
        return [header] + [
            (
                f"{row.measure}, {row.unit}",
                row.group,
                str(row.generated),
                str(row.real),
                _short(row.shift),
                _short(row.distance.score),
                _short(row.distance.reference),
            )
            for row in self.intervals
        ]

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
            _passed(self.failure_verdict),
            f"{_percent(share.generated)} of the generated and {_percent(share.real)} of the real "
            f"records could not be delineated; {told[self.failure_verdict]}.",
        )

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        real_mv, generated_mv = self.limb_leads_mv
        return {
            "passed": self.passed,
            "verdicts": [
                {"passed": verdict.passed, "sentence": verdict.sentence}
                for verdict in self.verdicts()
            ],
            "failed": {group: share.to_dict() for group, share in self.failed.items()},
            "failure_verdict": self.failure_verdict,
            "failure_reasons": {
                reason: {"real": real, "generated": generated}
                for reason, (real, generated) in self.reasons.items()
            },
            "rules": [rule.to_dict() for rule in self.rules],
            "intervals": [row.to_dict() for row in self.intervals],
            "limb_lead_disagreement_mv": {"real": real_mv, "generated": generated_mv},
        }


@dataclass(frozen=True, eq=False)
class _Side:
    """Records of one origin: what was measured, labels (n, K), patients (n,), seed."""

    intervals: tuple[Intervals, ...]
    labels: BoolArray
    patients: npt.NDArray[np.generic]
    seed: int

    def draws(self, rows: npt.NDArray[np.intp], resamples: int) -> npt.NDArray[np.uint16]:
        """How often each of these records occurs in each resample of their patients."""
        everyone = np.ones((len(rows), 1))
        return draw_resamples(everyone, self.patients[rows], resamples=resamples, seed=self.seed)

    def share(
        self, rows: npt.NDArray[np.intp], counts: Callable[[Intervals], bool]
    ) -> tuple[float, float]:
        """Share of these records for which `counts` is true, and how many they are worth."""
        counted = [counts(self.intervals[row]) for row in rows]
        return float(np.mean(counted)), effective_records(self.patients[rows])

    def enough(self, rows: npt.NDArray[np.intp]) -> bool:
        """Records, and patients, that carry a share or a distribution."""
        return len(np.unique(self.patients[rows])) >= FEWEST_RECORDS


_Sides = tuple[_Side, _Side]
_Rows = tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]


def measure_physiology(
    real: Sequence[Intervals],
    real_labels: npt.ArrayLike,
    generated: Sequence[Intervals],
    generated_labels: npt.ArrayLike,
    label_names: Sequence[str],
    real_patients: npt.ArrayLike | None = None,
    *,
    generated_patients: npt.ArrayLike | None = None,
    resamples: int = BOOTSTRAP_RESAMPLES,
    repeats: int = HALVES,
    seed: int = 0,
) -> PhysiologyResult:
    """Distributions, failures and class rules of generated records beside those of real ones.

    `real` (n) and `generated` (m) from `measure_intervals`, labels (n, K) and (m, K) of 0 and 1 in
    the order of `label_names` (K), patients (n,) and (m,) or none (every record its own). Intervals
    of shares are Wilson's, of their differences Newcombe's; those of shifts are 95 % percentile
    intervals over resampled patients, each side apart; those of distances are of
    `fidelity.compare_with_halves` with `repeats`. Rules: `RULES`, by label name.

    Raises CorpusError where numbers of records, labels and names differ, or a side has fewer than
    10 records or patients; ConfigError for fewer than 2 resamples or repeats.
    """
    sides = (
        _side(real, real_labels, label_names, real_patients, "real", 2 * seed),
        _side(generated, generated_labels, label_names, generated_patients, "generated",
              2 * seed + 1),
    )  # fmt: skip
    first, second = sides
    groups: dict[str, _Rows] = {ALL: (np.arange(len(real)), np.arange(len(generated)))} | {
        name: (np.flatnonzero(first.labels[:, k]), np.flatnonzero(second.labels[:, k]))
        for k, name in enumerate(label_names)
    }
    rules, comparisons = _rules(sides, label_names)
    failed = _shares(sides, groups, dict.fromkeys(groups, _is_failed), comparisons)
    intervals = tuple(
        compared
        for measure in MEASURES
        for group, rows in groups.items()
        if (compared := _compared(sides, rows, measure, group, resamples, repeats))
    )
    return PhysiologyResult(
        failed=failed,
        failure_verdict=_verdict(
            _negative(failed[ALL].difference), _negative(failed[ALL].adjusted)
        ),
        reasons=_reasons(sides),
        intervals=intervals,
        rules=rules,
        limb_leads_mv=(_largest_disagreement(first), _largest_disagreement(second)),
    )


def _side(
    intervals: Sequence[Intervals],
    labels: npt.ArrayLike,
    label_names: Sequence[str],
    patients: npt.ArrayLike | None,
    origin: str,
    seed: int,
) -> _Side:
    """One origin, checked."""
    known = checked_labels(labels)
    names = np.arange(len(intervals)) if patients is None else np.asarray(patients)
    if known.shape != (len(intervals), len(label_names)) or names.shape != (len(intervals),):
        raise CorpusError(
            f"expected labels and patients of {len(intervals)} {origin} records and "
            f"{len(label_names)} label names, got shapes {known.shape} and {names.shape}"
        )
    side = _Side(tuple(intervals), known, names, seed)
    if not side.enough(np.arange(len(names))):
        raise CorpusError(
            f"expected at least {FEWEST_RECORDS} {origin} records of as many patients, got "
            f"{len(names)} of {len(np.unique(names))}; measure more"
        )
    return side


def _shares(
    sides: _Sides,
    groups: Mapping[str, _Rows],
    counts: Mapping[str, Callable[[Intervals], bool]],
    comparisons: int,
) -> dict[str, ShareComparison]:
    """Share of each group's records for which `counts` is true; too small groups are left out."""
    shares = {}
    for name, rows in groups.items():
        if not all(side.enough(at) for side, at in zip(sides, rows, strict=True)):
            continue
        found = [side.share(at, counts[name]) for side, at in zip(sides, rows, strict=True)]
        (real, real_worth), (generated, generated_worth) = found
        difference, adjusted = (
            newcombe_difference(real, real_worth, generated, generated_worth, adjusted_for)
            for adjusted_for in (1, comparisons)
        )
        shares[name] = ShareComparison(
            real=wilson_estimate(real, real_worth),
            generated=wilson_estimate(generated, generated_worth),
            difference=difference,
            adjusted=adjusted,
            real_records=len(rows[0]),
            generated_records=len(rows[1]),
        )
    return shares


def _compared(
    sides: _Sides,
    rows: _Rows,
    measure: Measure,
    group: str,
    resamples: int,
    repeats: int,
) -> IntervalComparison | None:
    """One measure in one group; None where it was found in too few records."""
    spreads, values, drawn, patients = [], [], [], []
    for side, at in zip(sides, rows, strict=True):
        found = np.array([_number(measure.of(side.intervals[row])) for row in at])
        at, found = at[~np.isnan(found)], found[~np.isnan(found)]
        if not side.enough(at):
            return None
        spreads.append(Spread(len(found), *np.quantile(found, PERCENTILES).tolist()))
        drawn.append(score_resamples(_median, found, found, side.draws(at, resamples)))
        values.append(found[:, None])
        patients.append(side.patients[at])
    distance = compare_with_halves(
        values[0],
        values[1],
        patients[0],
        generated_patients=patients[1],
        score=lambda a, b: float(wasserstein_distance(a[:, 0], b[:, 0])),
        repeats=repeats,
        seed=sides[0].seed,
    )
    middle = [float(_median(value, value, np.ones((1, len(value))))[0]) for value in values]
    return IntervalComparison(
        measure=measure.name,
        unit=measure.unit,
        group=group,
        real=spreads[0],
        generated=spreads[1],
        shift=estimate(middle[1] - middle[0], drawn[1] - drawn[0]),
        distance=replace(distance, score=_not_negative(distance.score)),
    )


def _rules(sides: _Sides, label_names: Sequence[str]) -> tuple[tuple[RuleResult, ...], int]:
    """How often the records of each class obey its rule; the number of verdicts of the study."""
    numbers = {name: number for number, name in enumerate(label_names)}
    groups: dict[str, _Rows] = {}
    others: dict[str, float | None] = {}
    contrasts: dict[str, Estimate | None] = {}
    for label in RULES:
        if label not in numbers:
            continue
        excused = [numbers[name] for name in RULES[label].unless if name in numbers]
        real, generated = (
            np.flatnonzero(side.labels[:, numbers[label]] & ~side.labels[:, excused].any(axis=1))
            for side in sides
        )
        groups[label] = (real, generated)
        without = np.flatnonzero(~sides[0].labels[:, numbers[label]])
        others[label], contrasts[label] = None, None
        if len(without):
            other = sides[0].share(without, RULES[label].obeyed_by)
            others[label] = other[0]
            if len(real):
                own = sides[0].share(real, RULES[label].obeyed_by)
                contrasts[label] = newcombe_difference(*other, *own)
    telling = {
        label for label, contrast in contrasts.items() if contrast is None or contrast.low > MARGIN
    }
    tested = [
        label
        for label in telling
        if all(side.enough(at) for side, at in zip(sides, groups[label], strict=True))
    ]
    comparisons = len(tested) + 1  # the failures of all records are judged as well
    shares = _shares(sides, groups, {name: RULES[name].obeyed_by for name in groups}, comparisons)
    results = []
    for label, rows in groups.items():
        share = shares.get(label)
        verdict: RuleVerdict = "not tested"
        if share is not None and label in telling:
            verdict = _verdict(share.difference, share.adjusted)
        results.append(
            RuleResult(
                label=label,
                sentence=RULES[label].sentence,
                shares=share,
                others=others[label],
                contrast=contrasts[label],
                real_records=len(rows[0]),
                generated_records=len(rows[1]),
                verdict=verdict,
            )
        )
    return tuple(results), comparisons


def _verdict(difference: Estimate, adjusted: Estimate) -> RuleVerdict:
    """What a share that should not be lower than the real one says by its difference to it."""
    if difference.low > -MARGIN:
        return "kept"
    return "broken" if difference.high < -MARGIN and adjusted.high < 0 else "undecided"


def _is_failed(found: Intervals) -> bool:
    return found.failed is not None


def _not_negative(distance: Estimate) -> Estimate:
    """A distance whose interval, by Student, does not reach below what distances can be."""
    return Estimate(distance.value, max(0.0, distance.low), distance.high)


def _negative(value: Estimate) -> Estimate:
    return Estimate(-value.value, -value.high, -value.low)


def _median(_: npt.ArrayLike, values: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Weighted lower median of values (N,) under each row of weights (R, N): (R,)."""
    order = np.argsort(values, axis=0).ravel()
    reached = np.cumsum(np.asarray(weights, dtype=np.float64)[:, order], axis=1)
    half = (reached >= reached[:, -1:] / 2).argmax(axis=1)
    return np.asarray(np.asarray(values, dtype=np.float64).ravel()[order][half])


def _largest_disagreement(side: _Side) -> float | None:
    """Of the limb leads over all records, None where none had twelve leads."""
    measured = [
        found.limb_lead_disagreement_mv
        for found in side.intervals
        if found.limb_lead_disagreement_mv is not None
    ]
    return max(measured, default=None)


def _reasons(sides: _Sides) -> dict[str, tuple[int, int]]:
    """How many records of each origin could not be delineated, by reason."""
    told = [Counter(found.failed for found in side.intervals if found.failed) for side in sides]
    reasons = sorted({reason for counted in told for reason in counted})
    return {reason: (told[0][reason], told[1][reason]) for reason in reasons}


def _passed(verdict: RuleVerdict) -> bool | None:
    return {"kept": True, "broken": False}.get(verdict)


def _percent(share: Estimate) -> str:
    value, low, high = (100 * x for x in (share.value, share.low, share.high))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def _columns(share: ShareComparison | None) -> tuple[str, str, str]:
    """Generated, real and difference with both intervals, for a table."""
    if share is None:
        return ("", "", "")
    told = f"{100 * share.difference.value:+.0f} points {_points(share.difference)}"
    adjusted = f", adjusted {_points(share.adjusted)}"
    return (_percent(share.generated), _percent(share.real), told + adjusted)


def _points(difference: Estimate) -> str:
    return f"[{100 * difference.low:+.0f}, {100 * difference.high:+.0f}]"


def _short(value: Estimate) -> str:
    return f"{value.value:.3g} [{value.low:.3g}, {value.high:.3g}]"
