"""Compare intervals and class rules of generated records with those of real records.

Real records are delineated in the same way. They do not always meet a textbook rule either: labels
and delineation have errors, and a finding may be absent when the record is made. We therefore
require that generated records meet a rule as often as real ones, within a margin of 10 percentage
points.

The verdicts are those of a non-inferiority study:
- A rule is "kept" if the whole 95 % interval of the difference (Newcombe 1998) lies above minus the
  margin.
- It is "broken" if that interval lies below minus the margin, and the interval adjusted for the
  number of verdicts (Bonferroni) lies below 0. Thus at most 2.5 % of the sets that are as good as
  real ones fail by any rule.
- Otherwise it is "undecided".
The set passes if every rule is kept, which needs no adjustment (intersection-union test, Berger
1982), and fails if one is broken. A rule that real records of other classes meet about as often is
"not tested", because a generator that ignores the class would meet it too.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.stats import wasserstein_distance

from ecgtransfer.defaults import LARGEST_COHORT
from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.cohorts import Cohort, Cohorts
from ecgtransfer.evaluation.delineation import Intervals, measure_intervals
from ecgtransfer.evaluation.halves import HALVES, compare_with_halves
from ecgtransfer.evaluation.physiology.result import (
    ALL,
    FEWEST_RECORDS,
    MARGIN,
    IntervalComparison,
    PhysiologyEvaluation,
    PhysiologyResult,
    RuleResult,
    RuleVerdict,
    ShareComparison,
)
from ecgtransfer.evaluation.physiology.rules import RULES, number_or_nan
from ecgtransfer.statistics import (
    BOOTSTRAP_RESAMPLES,
    BoolArray,
    Estimate,
    FloatArray,
    Quantiles,
    checked_labels,
    draw_resamples,
    effective_records,
    estimate,
    newcombe_difference,
    score_resamples,
    streams,
    wilson_estimate,
)


class Measure(NamedTuple):
    """A measure whose distributions are compared: name, unit, and its value in `Intervals`."""

    name: str
    unit: str
    of: Callable[[Intervals], float | None]


def _axis(found: Intervals) -> float | None:
    # The circle is cut at -150 degrees, the rarest axis.
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
    Measure("similarity of beats", "correlation", lambda found: found.beat_correlation),
    Measure("R amplitude variation between beats", "of mean R", lambda found: found.r_spread),
    Measure("PR variation between beats", "ms", lambda found: found.pr_jitter_ms),
    Measure("lowest ST at J + 60 ms of twelve leads", "mV", _lowest_st),
    Measure("highest ST at J of twelve leads", "mV", _highest_st),
)


@dataclass(frozen=True)
class PhysiologySettings:
    """Settings of the physiology evaluation.

    Attributes:
        methods: transfer methods to evaluate; empty for all that have a set of this name.
        name: name of the synthetic sets.
        records: largest number of records per side; more are subsampled at random.
        seed: seed of all random draws.
    """

    methods: tuple[str, ...] = ()
    name: str = "synthetic"
    records: int = LARGEST_COHORT
    seed: int = 0


def evaluate_physiology(
    settings: PhysiologySettings,
    cohorts: Cohorts,
    folder: Path,
    workers: int = 1,
    progress: StepsDone | None = None,
) -> PhysiologyEvaluation:
    """Delineate each synthetic set and the target's records, and compare them.

    The real side has training and test records of the target: the rules come from textbooks, not
    from training, and rare classes have few test records.

    Args:
        settings: settings.
        cohorts: records to compare.
        folder: folder of the evaluation, which stays empty.
        workers: number of processes for the delineation.
        progress: called with (records done, records in total).
    """
    rng = streams.generator(settings.seed, streams.PHYSIOLOGY_SIDES)
    both = np.concatenate([cohorts.train.indices, cohorts.test.indices])
    real = replace(cohorts.test, indices=both).subsample(settings.records, rng)
    chosen = {m: c.subsample(settings.records, rng) for m, c in cohorts.synthetic.items()}
    done, total = 0, len(real) + sum(map(len, chosen.values()))

    def intervals(cohort: Cohort) -> list[Intervals]:
        nonlocal done
        before = done
        measured = measure_intervals(
            cohort.signals_mv(),
            cohorts.sampling_rate_hz,
            workers=workers,
            progress=lambda now, of: progress(before + now, total) if progress else None,
        )
        done += len(measured)
        return measured

    of_real = intervals(real)
    return PhysiologyEvaluation(
        {
            method: measure_physiology(
                of_real,
                real.own_labels,
                intervals(cohort),
                cohort.own_labels,
                cohorts.label_names,
                real.patients,
                seed=settings.seed,
            )
            for method, cohort in chosen.items()
        }
    )


@dataclass(frozen=True, eq=False)
class _Side:
    """Records of one origin.

    Attributes:
        intervals: measurements of each record.
        labels: labels (n, K).
        patients: patients (n,).
        seed: seed of the bootstrap.
    """

    intervals: tuple[Intervals, ...]
    labels: BoolArray
    patients: npt.NDArray[np.generic]
    seed: int

    def draws(self, rows: npt.NDArray[np.intp], resamples: int) -> npt.NDArray[np.uint16]:
        """Resample the patients; return the count of each of these records, (resamples, n)."""
        everyone = np.ones((len(rows), 1))
        return draw_resamples(everyone, self.patients[rows], resamples=resamples, seed=self.seed)

    def share(
        self, rows: npt.NDArray[np.intp], counts: Callable[[Intervals], bool]
    ) -> tuple[float, float]:
        """Share of these records for which `counts` is true, and their effective number."""
        counted = [counts(self.intervals[row]) for row in rows]
        return float(np.mean(counted)), effective_records(self.patients[rows])

    def enough(self, rows: npt.NDArray[np.intp]) -> bool:
        """Whether these records have enough patients for a share or a distribution."""
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
    """Compare distributions, failed delineations and class rules of generated and real records.

    Intervals of shares are Wilson's, those of their differences Newcombe's. Intervals of shifts are
    95 % percentile intervals over resampled patients of each side. Intervals of distances come from
    `compare_with_halves`. The rules are `RULES`.

    Args:
        real: measurements of the n real records, from `measure_intervals`.
        real_labels: labels (n, K) of 0 and 1.
        generated: measurements of the m generated records.
        generated_labels: labels (m, K) of 0 and 1.
        label_names: names of the K labels, in order.
        real_patients: patients (n,); None if every record is its own patient.
        generated_patients: patients (m,); None if every record is its own patient.
        resamples: bootstrap resamples.
        repeats: repeats of `compare_with_halves`.
        seed: seed of all random draws.

    Raises:
        CorpusError: the numbers of records, labels and names differ, or a side has fewer than 10
            records or patients.
        ConfigError: there are fewer than 2 resamples or repeats.
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
        failure_verdict=judge(_negative(failed[ALL].difference), _negative(failed[ALL].adjusted)),
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
    """Check the records of one origin."""
    known = checked_labels(labels)
    names = np.arange(len(intervals)) if patients is None else np.asarray(patients)
    if known.shape != (len(intervals), len(label_names)) or names.shape != (len(intervals),):
        raise CorpusError(
            f"expected labels and patients of {len(intervals)} {origin} records and "
            f"{len(label_names)} label names, got shapes {known.shape} and {names.shape}; pass "
            "those of the same records"
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
    """Share of each group's records for which `counts` is true, without groups that are too small.

    Args:
        sides: real and generated records.
        groups: indices of the records of each group, by name, real and generated.
        counts: condition of each group.
        comparisons: number of verdicts that the adjusted interval accounts for.
    """
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
    """Compare one measure in one group; None if too few records have a value."""
    spreads, values, drawn, patients = [], [], [], []
    for side, at in zip(sides, rows, strict=True):
        found = np.array([number_or_nan(measure.of(side.intervals[row])) for row in at])
        at, found = at[~np.isnan(found)], found[~np.isnan(found)]
        if not side.enough(at) or (quantiles := Quantiles.of(found)) is None:
            return None
        spreads.append(quantiles)
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
    """Compare how often the records of each class meet its rule.

    Returns:
        The result of each rule, and the number of verdicts of the study.
    """
    columns = {name: column for column, name in enumerate(label_names)}
    groups: dict[str, _Rows] = {}
    others: dict[str, float | None] = {}
    contrasts: dict[str, Estimate | None] = {}
    for label in RULES:
        if label not in columns:
            continue
        exempt = [columns[name] for name in RULES[label].unless if name in columns]
        real, generated = (
            np.flatnonzero(side.labels[:, columns[label]] & ~side.labels[:, exempt].any(axis=1))
            for side in sides
        )
        groups[label] = (real, generated)
        without = np.flatnonzero(~sides[0].labels[:, columns[label]])
        others[label], contrasts[label] = None, None
        if len(without):
            other = sides[0].share(without, RULES[label].met_by)
            others[label] = other[0]
            if len(real):
                own = sides[0].share(real, RULES[label].met_by)
                contrasts[label] = newcombe_difference(*other, *own)
    specific = {
        label for label, contrast in contrasts.items() if contrast is None or contrast.low > MARGIN
    }
    tested = [
        label
        for label in specific
        if all(side.enough(at) for side, at in zip(sides, groups[label], strict=True))
    ]
    comparisons = len(tested) + 1  # failed delineations have a verdict as well
    shares = _shares(sides, groups, {name: RULES[name].met_by for name in groups}, comparisons)
    results = []
    for label, rows in groups.items():
        share = shares.get(label)
        verdict: RuleVerdict = "not tested"
        if share is not None and label in specific:
            verdict = judge(share.difference, share.adjusted)
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


def judge(difference: Estimate, adjusted: Estimate) -> RuleVerdict:
    """Verdict on a share that should not be below the real one.

    Args:
        difference: generated minus real share, with its 95 % interval.
        adjusted: same difference, with the interval adjusted for the number of verdicts.
    """
    if difference.low > -MARGIN:
        return "kept"
    return "broken" if difference.high < -MARGIN and adjusted.high < 0 else "undecided"


def _is_failed(found: Intervals) -> bool:
    return found.failed is not None


def _not_negative(distance: Estimate) -> Estimate:
    """A distance with its Student interval clipped at 0."""
    return Estimate(distance.value, max(0.0, distance.low), distance.high)


def _negative(value: Estimate) -> Estimate:
    return Estimate(-value.value, -value.high, -value.low)


def _median(_: npt.ArrayLike, values: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Weighted lower median of values (N,) for each row of weights (R, N): (R,)."""
    order = np.argsort(values, axis=0).ravel()
    reached = np.cumsum(np.asarray(weights, dtype=np.float64)[:, order], axis=1)
    half = (reached >= reached[:, -1:] / 2).argmax(axis=1)
    return np.asarray(np.asarray(values, dtype=np.float64).ravel()[order][half])


def _largest_disagreement(side: _Side) -> float | None:
    """Largest disagreement of the limb leads over all records; None without twelve-lead records."""
    measured = [
        found.limb_lead_disagreement_mv
        for found in side.intervals
        if found.limb_lead_disagreement_mv is not None
    ]
    return max(measured, default=None)


def _reasons(sides: _Sides) -> dict[str, tuple[int, int]]:
    """Number of real and of generated records that could not be delineated, by reason."""
    counts = [Counter(found.failed for found in side.intervals if found.failed) for side in sides]
    reasons = sorted({reason for counted in counts for reason in counted})
    return {reason: (counts[0][reason], counts[1][reason]) for reason in reasons}
