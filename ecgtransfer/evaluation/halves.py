"""A measure of a generated set beside real against real: repeated patient-disjoint halves.

Intervals. Resampling with replacement is no help to these measures: a record drawn twice is its own
nearest neighbour and shrinks covariances. Instead each repeat draws half of the patients without
replacement (McCarthy 1969; Politis and Romano 1994), and the score is the mean over the repeats: an
unbiased estimate of what `records` a side are expected to score, a U-statistic. The value that an
interval covers is this expected one. Where a measure is smooth, its variance over the draws of m of
n records times m / (n − m) is the variance of the estimate (the jackknife of Shao and Wu 1989 that
deletes n − m records; 1 for halves), and the interval is Student's: for the root of the Frechet
distance, which is a squared one; at least Wilson's for a share. In simulations of Gaussian clouds
with 40 to 200 records a set, 95 % intervals covered in 91 to 98 % where the laws differ. They are
too wide, up to 100 %, where laws hardly differ and for measures of neighbours, for the variance of
what is not smooth is overestimated.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import in_patient_order, largest_half, patient_halves
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import checked_pair, frechet_distance
from ecgtransfer.statistics import (
    Estimate,
    FloatArray,
    estimate,
    share_estimate,
    student_reach,
)

#: What an interval is: of confidence, or the spread over the repeats alone.
Interval = Literal["confidence", "spread"]


@dataclass(frozen=True)
class Comparison:
    """One measure, generated against real, beside real against real, at equal record counts.

    Attributes:
        score: mean over the repeated halves. Its interval is of 95 % confidence for the expected
            value at `records` a side where `interval` is "confidence"; where less than two
            times `records` were generated it is the central 95 % of the repeats, "spread", which
            leaves out what another generated set would change.
        reference: the same of two patient-disjoint real halves: mean, and the central 95 % of the
            repeats, which says what chance alone does.
        excess: score − mean reference, with the interval of the score.
        records: of each side. repeats: drawn.
        source: the same as score for real records of the source, or None where none or fewer than
            `records` were given; `source_interval` is the kind of its interval.
    """

    score: Estimate
    reference: Estimate
    excess: Estimate
    records: int
    repeats: int
    interval: Interval = "confidence"
    source: Estimate | None = None
    source_interval: Interval | None = None

    def __str__(self) -> str:
        return f"{self.score} (real against real {self.reference}, {self.records} records each)"


#: Repeated random halves behind a comparison with the real set.
HALVES = 50

#: (real features (n, F), other features (m, F)) -> a number.
FeatureScore = Callable[[FloatArray, FloatArray], float]

Indices = npt.NDArray[np.intp]

#: How the interval of a measure is made: ± its error; cut at 0; cut at 0 and 1; for the root of a
#: squared distance; or as that of a share of records.
Scale = Literal["any", "positive", "unit", "squared", "share"]


def compare_with_halves(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    generated_patients: npt.ArrayLike | None = None,
    score: FeatureScore = frechet_distance,
    scale: Scale | None = None,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
) -> Comparison:
    """A distance between generated and real features beside the real-versus-real reference.

    Each repeat draws two patient-disjoint halves of the real set and as many generated records:
    the score compares the first half with the generated, the reference with the second half. Both
    rest on the same number of records, so the finite-sample bias is in both. real (n, F),
    generated (m, F), `patients` (n,) and `generated_patients` (m,) or none (every record its own),
    `records` per side, by default as many as half of either set holds, which intervals of
    confidence need (see the module and `Comparison`). `scale` says what the score is: never
    negative ("positive"), in [0, 1] ("unit"), a share of records ("share", whose interval is at
    least Wilson's) or a squared distance ("squared", whose interval is made for its root, where it
    is nearer to normal); by default "squared" for `frechet_distance` and "any" for another score.
    CorpusError as in `patient_halves` and where
    `generated` has fewer records than asked; ConfigError for fewer than 2 repeats.
    """
    first, second = checked_pair(real, generated)
    plan = plan_halves(
        numbered_patients(patients, len(first)),
        numbered_patients(generated_patients, len(second)),
        None,
        records,
        repeats,
    )
    drawn = np.array(
        [
            (
                score(first[draw.left], second[draw.generated]),
                score(first[draw.left], first[draw.right]),
            )
            for draw in plan.draws(seed)
        ]
    )
    if scale is None:
        scale = "squared" if score is frechet_distance else "any"
    return plan.comparison(drawn[:, 0], drawn[:, 1], None, plan.records, scale)


@dataclass(frozen=True, eq=False)
class Draw:
    """Record numbers of one repeat: two real halves, as many generated and, if any, source."""

    left: Indices
    right: Indices
    generated: Indices
    source: Indices | None


@dataclass(frozen=True, eq=False)
class Plan:
    """How many records of which patients each repeat draws, and what intervals follow from it."""

    real: Indices
    generated: Indices
    source: Indices | None
    records: int
    repeats: int

    def draws(self, seed: int) -> Iterator[Draw]:
        """The repeats, one after another."""
        rng = np.random.default_rng(seed)
        for _ in range(self.repeats):
            left, right = patient_halves(self.real, rng, self.records)
            yield Draw(
                left,
                right,
                in_patient_order(self.generated, rng)[: self.records],
                None if self.source is None else in_patient_order(self.source, rng)[: self.records],
            )

    def comparison(
        self,
        score: FloatArray,
        reference: FloatArray,
        source: FloatArray | None,
        records: int,
        scale: Scale,
    ) -> Comparison:
        """Of the values of the repeats (repeats,), which rest on `records` a side."""
        value, kind = self._estimate(score, self.generated, records, scale)
        expected = float(reference.mean())
        excess = Estimate(value.value - expected, value.low - expected, value.high - expected)
        source_value, source_kind = None, None
        if source is not None and self.source is not None:
            source_value, source_kind = self._estimate(source, self.source, records, scale)
        return Comparison(
            score=value,
            reference=estimate(expected, reference),
            excess=excess,
            records=records,
            repeats=len(score),
            interval=kind,
            source=source_value,
            source_interval=source_kind,
        )

    def _estimate(
        self, values: FloatArray, other: Indices, records: int, scale: Scale
    ) -> tuple[Estimate, Interval]:
        """Mean and interval of the repeats of a measure of the real and one other set."""
        mean = float(values.mean())
        if self.records > largest_half(other):
            return estimate(mean, values), "spread"
        sets = self.real, other
        ratio = min(max(records / (len(patients) - records) for patients in sets), 1.0)
        reach = student_reach(values, ratio + 1 / len(values))
        if scale == "share":
            fewest = min(len(np.unique(patients)) for patients in sets)
            return share_estimate(mean, reach, fewest), "confidence"
        if scale == "squared" and mean > 0:
            root = np.sqrt(mean)
            low, high = max(root - reach / (2 * root), 0.0) ** 2, (root + reach / (2 * root)) ** 2
            return Estimate(mean, float(low), float(high)), "confidence"
        low = mean - reach if scale == "any" else max(mean - reach, 0.0)
        high = min(mean + reach, 1.0) if scale == "unit" else mean + reach
        return Estimate(mean, low, high), "confidence"


def plan_halves(
    real: Indices, generated: Indices, source: Indices | None, records: int | None, repeats: int
) -> Plan:
    """Checked; a source with fewer records than are compared is left out."""
    if repeats < 2:
        raise ConfigError(f"a spread needs at least 2 repeats, got {repeats}")
    if min(len(real), len(generated)) < 2:
        raise CorpusError(
            f"expected at least 2 records a set, got {len(real)} and {len(generated)}"
        )
    if records is None:
        records = min(largest_half(real), largest_half(generated))
    elif records > len(generated):
        raise CorpusError(
            f"asked to compare {records} records a side, but only {len(generated)} are generated"
        )
    enough = source is not None and len(source) >= records
    return Plan(real, generated, source if enough else None, records, repeats)


def numbered_patients(patients: npt.ArrayLike | None, records: int) -> Indices:
    """Patients numbered from 0; none means that every record is its own."""
    if patients is None:
        return np.arange(records)
    names = np.asarray(patients)
    if names.shape != (records,):
        raise CorpusError(f"expected one patient per record, {records}, got {names.shape}")
    return np.unique(names, return_inverse=True)[1].reshape(-1)
