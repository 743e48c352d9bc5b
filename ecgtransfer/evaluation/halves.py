"""Compare a generated with a real set, and two halves of the real set with each other.

The second comparison is the reference: it shows the value of the measure for two sets of one
distribution. Both use the same number of records, and the halves share no patient.

Intervals: these measures cannot be resampled with replacement, because a record drawn twice is its
own nearest neighbour and shrinks covariances. Instead, each repeat draws half of the patients
without replacement (McCarthy 1969; Politis and Romano 1994). The score is the mean over the
repeats. It is a U-statistic: an unbiased estimate of the expected measure at this number of records
per side, and this expected value is what the interval covers. For a smooth measure, the variance of
the estimate is the variance over draws of m of n records times m / (n − m): the jackknife of Shao
and Wu (1989) that deletes n − m records. The factor is 1 for halves. The interval is Student's. For
the Frechet distance, which is squared, it is formed for the root; for a share of records, it is at
least as wide as Wilson's.

In simulations with Gaussian data and 40 to 200 records per set, 95 % intervals had a coverage of
91 to 98 % if the distributions differ. The coverage is higher, up to 100 %, if they hardly differ
and for nearest-neighbour measures, because the variance of a measure that is not smooth is
overestimated.
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

#: Kind of an interval: a confidence interval, or the spread over the repeats.
Interval = Literal["confidence", "spread"]


@dataclass(frozen=True)
class Comparison:
    """A measure between generated and real records, and its reference between two real halves.

    Attributes:
        score: generated against real, mean over the repeats. If `interval` is "confidence", its
            interval is a 95 % confidence interval of the expected value at `records` per side. If
            fewer than twice `records` were generated, it is "spread": the central 95 % of the
            repeats, without the variation between generated sets.
        reference: two patient-disjoint real halves: mean and central 95 % of the repeats, which
            show the effect of chance.
        excess: score minus mean reference, with the interval of the score.
        records: number of records per side.
        repeats: number of repeats.
        interval: kind of the interval of `score`.
        source: real records of the source against real, like `score`; None if fewer than `records`
            were given.
        source_interval: kind of the interval of `source`.
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
        return f"{self.score} (target against target {self.reference}, {self.records} records each)"


#: Default number of repeats, each with random halves of the real set.
HALVES = 50

#: A measure: (real features (n, F), other features (m, F)) -> value.
FeatureScore = Callable[[FloatArray, FloatArray], float]

Indices = npt.NDArray[np.intp]

#: How the interval of a measure is formed: symmetric; clipped at 0; clipped at 0 and 1; for the
#: root of a squared distance; or as for a share of records.
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
    """Measure a distance between generated and real features, and its real-versus-real reference.

    Each repeat draws two patient-disjoint halves of the real set and as many generated records.
    The score compares the first half with the generated records, the reference with the second
    half. Both use the same number of records, so they have the same finite-sample bias.

    Args:
        real: features (n, F).
        generated: features (m, F).
        patients: patients (n,) of the real records; None if every record is its own patient.
        generated_patients: patients (m,) of the generated records, with the same meaning of None.
        score: the measure.
        scale: range of the measure: never negative ("positive"), in [0, 1] ("unit"), a share of
            records ("share"), a squared distance ("squared") or none of these ("any"). The default
            is "squared" for `frechet_distance` and "any" for another score.
        records: records per side. The default is half of the smaller set, which a confidence
            interval needs.
        repeats: number of repeats.
        seed: seed of the draws.

    Raises:
        CorpusError: the features or patients have another shape, the real set is too small for two
            halves of `records`, or there are fewer than `records` generated records.
        ConfigError: there are fewer than 2 repeats.
    """
    first, second = checked_pair(real, generated)
    plan = plan_halves(
        patient_indices(patients, len(first)),
        patient_indices(generated_patients, len(second)),
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
    """Record indices of one repeat: two real halves, and as many generated and source records."""

    left: Indices
    right: Indices
    generated: Indices
    source: Indices | None


@dataclass(frozen=True, eq=False)
class Plan:
    """Settings of the repeats; see `plan_halves`.

    Attributes:
        real: patient index of each real record, (n,).
        generated: patient index of each generated record, (m,).
        source: patient index of each source record; None if there are too few.
        records: records per side.
        repeats: number of repeats.
    """

    real: Indices
    generated: Indices
    source: Indices | None
    records: int
    repeats: int

    def draws(self, seed: int) -> Iterator[Draw]:
        """Draw the records of each repeat."""
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
        """Summarise the values (repeats,) of a measure that used `records` per side."""
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
        """Mean and interval over the repeats of a measure between the real and another set."""
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
    """Check the counts and plan the repeats; a source with fewer than `records` is ignored.

    Raises:
        CorpusError: a set has fewer than 2 records, or fewer than `records` are generated.
        ConfigError: there are fewer than 2 repeats.
    """
    if repeats < 2:
        raise ConfigError(f"expected at least 2 repeats for an interval, got {repeats}; raise them")
    if min(len(real), len(generated)) < 2:
        raise CorpusError(
            f"expected at least 2 records per set, got {len(real)} and {len(generated)}; give more"
        )
    if records is None:
        records = min(largest_half(real), largest_half(generated))
    elif records > len(generated):
        raise CorpusError(
            f"expected at least {records} generated records to compare {records} per side, but "
            f"only {len(generated)} are generated; generate more, or lower records"
        )
    enough = source is not None and len(source) >= records
    return Plan(real, generated, source if enough else None, records, repeats)


def patient_indices(patients: npt.ArrayLike | None, records: int) -> Indices:
    """Patient index of each record, from 0; None means that every record is its own patient.

    Raises:
        CorpusError: there is not one patient per record.
    """
    if patients is None:
        return np.arange(records)
    names = np.asarray(patients)
    if names.shape != (records,):
        raise CorpusError(
            f"expected one patient per record, {records}, got shape {names.shape}; pass one name "
            "for each"
        )
    return np.unique(names, return_inverse=True)[1].reshape(-1)
