"""Rules that every record of a diagnosis must meet, with the source of each limit."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ecgtransfer.evaluation.delineation import Intervals
from ecgtransfer.signals import LEADS

#: Normal PR interval of a conducted sinus beat; a longer one is first-degree block (Kusumoto et
#: al., 2018 ACC/AHA/HRS guideline on bradycardia, table of definitions).
PR_NORMAL_MS = (120.0, 200.0)

#: Shortest QRS of complete bundle branch block (Surawicz et al., AHA/ACCF/HRS recommendations part
#: III, Circulation 2009).
BLOCK_QRS_MS = 120.0

#: Tolerance for this limit: the delineation underestimates QRS on real records by about one
#: sampling interval at 100 Hz. Healthy records of PTB-XL have a median of 82 ms, the
#: recommendations state about 90. With the tolerance 95 % of the real right bundle branch blocks
#: meet their rule, without it 86 %. On simulated records, whose QRS ends sharply, the error has the
#: opposite sign.
QRS_TOLERANCE_MS = 10.0

#: Limit between a normal and a wide QRS, as measured by the delineation.
WIDE_QRS_MS = BLOCK_QRS_MS - QRS_TOLERANCE_MS

#: A rhythm is irregular if the root mean square of successive RR differences over the mean RR is at
#: least this (statistic: Dash et al., Ann Biomed Eng 2009). The median is 0.03 in simulated sinus
#: rhythm and 0.28 in atrial fibrillation.
IRREGULAR_RR = 0.1

#: P waves are absent if a smaller share of beats than this has the same P wave.
P_PRESENT = 0.5

#: Limit of ST depression at J + 60 ms in two contiguous leads. There, only horizontal and
#: downsloping depressions remain (Thygesen et al., Fourth Universal Definition of Myocardial
#: Infarction, 2018). Of 120 healthy records of PTB-XL, 2 % are below it at J + 60 ms, but 19 % at
#: the J point.
ST_DEPRESSION_MV = -0.05

#: Limit of ST elevation at the J point in two contiguous leads (same source). Of the same records,
#: 2 % are above it at the J point, but 17 % at J + 60 ms.
ST_ELEVATION_MV = 0.1

#: Limit of ST elevation in V2 and V3: the one for men from 40 years on, because sex and age are not
#: part of a signal.
ST_ELEVATION_V2_V3_MV = 0.2

#: Pairs of leads that show neighbouring regions, limb leads in Cabrera's order (Wagner et al.,
#: AHA/ACCF/HRS recommendations part VI, 2009).
CONTIGUOUS_LEADS = (
    ("aVL", "I"), ("I", "-aVR"), ("-aVR", "II"), ("II", "aVF"), ("aVF", "III"),
    ("V1", "V2"), ("V2", "V3"), ("V3", "V4"), ("V4", "V5"), ("V5", "V6"),
)  # fmt: skip


#: Statements of PTB-XL that contradict the rule of a normal record, in order: an irregular rhythm,
#: a rhythm without sinus beats, a long or missing conduction to the ventricles or an early one, and
#: a wide QRS. Cardiologists state some of them beside NORM: of such recorded ones with SARRH 54 %
#: and with LPR 76 % break the rule. STACH, SBRAD and SVARR are compatible with it, as are
#: fascicular and incomplete blocks, whose QRS is below 120 ms (Surawicz et al., as above).
NOT_NORMAL = (
    *("SARRH", "PAC", "PVC", "PRC(S)", "BIGU", "TRIGU"),
    *("AFIB", "AFLT", "SVTAC", "PSVT", "PACE"),
    *("1AVB", "LPR", "2AVB", "3AVB", "WPW"),
    *("CLBBB", "CRBBB", "IVCD"),
)


class ClassRule(NamedTuple):
    """Rule that every record of a class must meet.

    Attributes:
        sentence: the rule in words.
        holds: the rule as a test of the `Intervals` of a record.
        unless: the rule does not apply to records that also have one of these labels.
    """

    sentence: str
    holds: Callable[[Intervals], bool]
    unless: tuple[str, ...] = ()

    def met_by(self, intervals: Intervals) -> bool:
        """Whether a record meets the rule; one that could not be delineated does not."""
        return intervals.failed is None and self.holds(intervals)


def number_or_nan(value: float | None) -> float:
    """Return the value, or NaN for None; every comparison with NaN is false."""
    return math.nan if value is None else value


def _normal(found: Intervals) -> bool:
    low, high = PR_NORMAL_MS
    return (
        low <= number_or_nan(found.pr_ms) <= high
        and number_or_nan(found.qrs_ms) < WIDE_QRS_MS
        and number_or_nan(found.rr_irregularity) < IRREGULAR_RR
    )


def _fibrillation(found: Intervals) -> bool:
    irregular = number_or_nan(found.rr_irregularity) >= IRREGULAR_RR
    return irregular and number_or_nan(found.p_wave_share) < P_PRESENT


def _first_degree_block(found: Intervals) -> bool:
    return number_or_nan(found.pr_ms) > PR_NORMAL_MS[1]


def _wide(found: Intervals) -> bool:
    return number_or_nan(found.qrs_ms) >= WIDE_QRS_MS


def _left_block(found: Intervals) -> bool:
    to_the_left = max(number_or_nan(found.late_qrs_i_mv), number_or_nan(found.late_qrs_v6_mv)) > 0
    return _wide(found) and number_or_nan(found.late_qrs_v1_mv) < 0 and to_the_left


def _right_block(found: Intervals) -> bool:
    to_the_right = min(number_or_nan(found.late_qrs_i_mv), number_or_nan(found.late_qrs_v6_mv)) < 0
    return _wide(found) and number_or_nan(found.late_qrs_v1_mv) > 0 and to_the_right


def _early_narrow(found: Intervals) -> bool:
    return number_or_nan(found.early_beats) > number_or_nan(found.wide_early_beats)


def _early_wide(found: Intervals) -> bool:
    return number_or_nan(found.wide_early_beats) > 0


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


#: Rules by label name; other labels have no rule.
RULES: Mapping[str, ClassRule] = {
    "NORM": ClassRule(
        "PR 120 to 200 ms, QRS below 120 ms (110 within the error at 100 Hz), regular RR (RMSSD "
        "below 0.1 of the mean)",
        _normal,
        NOT_NORMAL,
    ),
    "AFIB": ClassRule(
        "irregular RR (RMSSD at least 0.1 of the mean), the same P wave in fewer than half of the "
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
        "an early beat (RR below 0.8 of its neighbours) with the usual or a narrow QRS",
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
