"""Simulated rhythms: sinus rhythm, atrial fibrillation, premature beats, and PR intervals."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import ConfigError, CorpusError

#: Supported diagnoses.
DIAGNOSES = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")

#: Diagnoses that exclude each other: a fibrillating atrium has no PR interval and no premature P
#: wave, and with both bundle branches blocked nothing is conducted.
CONTRADICTIONS = (("AFIB", "1AVB"), ("AFIB", "PAC"), ("CLBBB", "CRBBB"))

#: Seconds simulated before and after the record, so that no beat or filter is cut off at its edge.
MARGIN_S = 1.5

#: PR interval: (mean, standard deviation, lowest, highest). First degree block begins at 200 ms.
PR_NORMAL_MS = (155.0, 15.0, 128.0, 188.0)
PR_BLOCK_MS = (255.0, 28.0, 218.0, 330.0)

#: Heart rates at which a diagnosis is recognisable: P after the T wave, pauses within 10 s.
RATE_LIMITS_BPM = {"1AVB": (45.0, 90.0), "PAC": (55.0, 96.0), "PVC": (55.0, 96.0)}
RATE_LIMITS_ANY_BPM = (45.0, 130.0)

#: Ventricular rate in untreated atrial fibrillation minus that of the patient in sinus rhythm.
FIBRILLATION_RATE_SHIFT_BPM = 18.0

#: Refractory period of the atrioventricular node, and shortest interval before a premature beat.
REFRACTORY_S = 0.36


@dataclass(frozen=True, eq=False)
class Rhythm:
    """Beats from before the start of a record to after its end.

    Attributes:
        times_s: (n,) R peaks.
        types: (n,) "N" conducted normally, "A" atrial premature, "V" ventricular premature.
        pr_ms: (n,) PR intervals, NaN for beats without a P wave.
        preceding_s: (n,) interval before each beat.
        concealed_s: (m,) times of sinus beats that found the ventricle refractory after a
            ventricular premature beat; only their P wave is visible.
        mean_interval_s: mean RR interval.
        breaths_per_s: respiratory rate.
    """

    times_s: NDArray[np.float64]
    types: NDArray[np.str_]
    pr_ms: NDArray[np.float64]
    preceding_s: NDArray[np.float64]
    concealed_s: NDArray[np.float64]
    mean_interval_s: float
    breaths_per_s: float


def check_diagnoses(names: Iterable[str]) -> frozenset[str]:
    """Check that the diagnoses can occur together in one record, and return them as a set.

    Raises:
        CorpusError: an unknown diagnosis.
        ConfigError: diagnoses that exclude each other.
    """
    chosen = frozenset(names)
    unknown = sorted(chosen - set(DIAGNOSES))
    if unknown:
        raise CorpusError(
            f"the simulation has no diagnosis {', '.join(unknown)}; it knows {', '.join(DIAGNOSES)}"
        )
    if "NORM" in chosen and len(chosen) > 1:
        raise ConfigError(
            f"NORM cannot stand beside {', '.join(sorted(chosen - {'NORM'}))}; leave one out"
        )
    for first, second in CONTRADICTIONS:
        if first in chosen and second in chosen:
            raise ConfigError(f"{first} and {second} exclude each other; leave one out")
    return chosen


def clipped_normal(rng: np.random.Generator, law: tuple[float, float, float, float]) -> float:
    """Draw a normal variable with (mean, standard deviation), clipped to (lowest, highest)."""
    mean, deviation, lowest, highest = law
    return float(np.clip(rng.normal(mean, deviation), lowest, highest))


def possible_rate_bpm(diagnoses: frozenset[str], heart_rate_bpm: float) -> float:
    """The heart rate closest to the given one at which these diagnoses are recognisable."""
    lowest, highest = RATE_LIMITS_ANY_BPM
    if "AFIB" in diagnoses:
        heart_rate_bpm += FIBRILLATION_RATE_SHIFT_BPM
    for diagnosis in diagnoses & RATE_LIMITS_BPM.keys():
        low, high = RATE_LIMITS_BPM[diagnosis]
        lowest, highest = max(lowest, low), min(highest, high)
    return float(np.clip(heart_rate_bpm, lowest, highest))


def draw_rhythm(
    diagnoses: frozenset[str], heart_rate_bpm: float, seconds: float, rng: np.random.Generator
) -> Rhythm:
    """Draw the beats of a record of `seconds`, with `MARGIN_S` more on either side.

    Sinus intervals vary with breathing (respiratory sinus arrhythmia) around a first-order
    autoregressive drift. In atrial fibrillation they are independent (Rawles and Rowland, Br Heart
    J 1986), with a gamma distribution. An atrial premature beat resets the sinus node (less than
    compensatory pause); a ventricular one does not (full compensatory pause).
    """
    mean = 60.0 / possible_rate_bpm(diagnoses, heart_rate_bpm)
    count = int((seconds + 2 * MARGIN_S) / mean * 1.5) + 8
    breaths = float(rng.uniform(0.18, 0.33))
    fibrillating = "AFIB" in diagnoses
    if fibrillating:
        shape = rng.uniform(0.17, 0.27) ** -2.0
        intervals = np.maximum(rng.gamma(shape, mean / shape, count), REFRACTORY_S)
    else:
        intervals = _sinus_intervals(mean, count, breaths, rng)
    start = -MARGIN_S - rng.uniform(0, mean) - intervals[0]
    undisturbed = start + np.cumsum(intervals)
    pr = clipped_normal(rng, PR_BLOCK_MS if "1AVB" in diagnoses else PR_NORMAL_MS)
    types = np.full(count, "N")
    wanted = [kind for label, kind in (("PAC", "A"), ("PVC", "V")) if label in diagnoses]
    concealed: list[tuple[int, float]] = []
    if wanted:
        for k, kind in _premature(undisturbed, seconds, wanted, rng):
            types[k] = kind
        early = rng.uniform(0.55, 0.75)
        for k in map(int, np.flatnonzero(types != "N")):
            due = float(intervals[k])
            if types[k] == "A":
                intervals[k] = max(due * rng.uniform(0.55, 0.75), REFRACTORY_S + 0.06)
                intervals[k + 1] *= rng.uniform(1.02, 1.14)
            elif fibrillating:
                intervals[k] = rng.uniform(0.42, 0.48)
                intervals[k + 1] = max(intervals[k + 1], 1.2 * mean)
            else:
                latest = due - pr / 1000 - 0.02  # later, the sinus P wave would come before it
                coupling = due * (early + rng.normal(0, 0.015))
                intervals[k] = max(min(coupling, latest), REFRACTORY_S)
                intervals[k + 1] += due - intervals[k]
                concealed.append((k, due))
    times = start + np.cumsum(intervals)
    concealed_s = np.array([times[k - 1] + due for k, due in concealed], dtype=np.float64)
    pr_ms = pr + rng.normal(0, 2.5, count)
    pr_ms[types == "A"] = pr * rng.uniform(0.88, 1.1)
    pr_ms[(types == "V") | fibrillating] = np.nan
    kept = (times > -MARGIN_S - 0.5) & (times < seconds + MARGIN_S + 0.5)
    return Rhythm(
        times[kept], types[kept], pr_ms[kept], intervals[kept], concealed_s, mean, breaths
    )


def _sinus_intervals(
    mean: float, count: int, breaths_per_s: float, rng: np.random.Generator
) -> NDArray[np.float64]:
    correlation = rng.uniform(0.5, 0.9)
    shocks = rng.normal(0, rng.uniform(0.01, 0.03) * np.sqrt(1 - correlation**2), count)
    drift = np.empty(count)
    level = 0.0
    for k in range(count):
        level = correlation * level + shocks[k]
        drift[k] = level
    phase = 2 * np.pi * (breaths_per_s * mean * np.arange(count) + rng.uniform())
    breathing = rng.uniform(0.008, 0.045) * np.sin(phase)
    return np.asarray(mean * np.clip(1 + drift + breathing, 0.8, 1.2), dtype=np.float64)


def _premature(
    times_s: NDArray[np.float64], seconds: float, wanted: list[str], rng: np.random.Generator
) -> list[tuple[int, str]]:
    """Choose premature beats: never two in a row, with both neighbours inside the record."""
    inside = (times_s[:-2] >= 0.2) & (times_s[2:] <= seconds - 0.2)
    eligible = np.flatnonzero(inside) + 1
    share = 0.5 if rng.uniform() < 0.15 else rng.uniform(0.05, 0.3)  # 0.5 is bigeminy
    number = max(len(wanted), round(share * len(eligible)))
    chosen: list[int] = []
    for k in rng.permutation(eligible):
        if len(chosen) < number and all(abs(int(k) - other) > 1 for other in chosen):
            chosen.append(int(k))
    if len(chosen) < len(wanted):
        chosen = [int(eligible[0]), int(eligible[-1])]
    kinds = wanted + [wanted[int(rng.integers(len(wanted)))] for _ in chosen[len(wanted) :]]
    return list(zip(chosen, kinds, strict=True))
