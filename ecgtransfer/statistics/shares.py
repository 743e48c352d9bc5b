"""Closed-form confidence intervals of proportions and of their differences."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.estimates import CONFIDENCE, Estimate


def wilson_estimate(share: float, records: float, comparisons: int = 1) -> Estimate:
    """Proportion of `records` independent records with its Wilson score interval.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n) (Wilson 1927). Its coverage holds for few
    records and near 0 and 1, where resampling finds no variance: 10 of 10 gives [0.72, 1].

    Args:
        share: the proportion p.
        records: number of independent records n; may be fractional (`effective_records`).
        comparisons: number C of intervals that hold together in at least 95 % of studies; each has
            confidence 1 − 0.05 / C (Bonferroni).

    Raises:
        CorpusError: a share outside [0, 1], or fewer than 1 record.
        ConfigError: fewer than 1 comparison.
    """
    if not 0 <= share <= 1 or not records >= 1:
        raise CorpusError(
            f"expected a share in [0, 1] of at least 1 record, got {share} of {records}"
        )
    z = _normal_reach(comparisons)
    middle = share + z**2 / (2 * records)
    around = z * math.sqrt(share * (1 - share) / records + z**2 / (4 * records**2))
    low, high = ((middle + sign * around) / (1 + z**2 / records) for sign in (-1, 1))
    return Estimate(share, min(max(low, 0.0), share), max(min(high, 1.0), share))


def share_estimate(value: float, reach: float, patients: int) -> Estimate:
    """Proportion with the interval value ± reach, at least as wide as `wilson_estimate`.

    Near 0 and 1 all draws of a proportion may agree although the true value differs: 40 of 40 does
    not prove that it is 1.

    Args:
        value: the proportion.
        reach: half-width of its interval.
        patients: number of independent patients, for `wilson_estimate`.
    """
    least = wilson_estimate(value, patients)
    return Estimate(
        value, max(min(value - reach, least.low), 0.0), min(max(value + reach, least.high), 1.0)
    )


def proportion(successes: int, trials: int) -> Estimate | None:
    """Proportion with its exact 95 % interval (Clopper and Pearson 1934); None for no trials."""
    if trials == 0:
        return None
    interval = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, method="exact")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def newcombe_difference(
    first: float,
    first_records: float,
    second: float,
    second_records: float,
    comparisons: int = 1,
) -> Estimate:
    """Difference second − first of two proportions with Newcombe's hybrid score interval.

    d − √((p₂ − l₂)² + (u₁ − p₁)²) to d + √((u₂ − p₂)² + (p₁ − l₁)²), where l and u are the ends of
    the proportions' Wilson intervals (Newcombe 1998, method 10).

    Args:
        first: proportion p₁.
        first_records: its number of independent records.
        second: proportion p₂.
        second_records: its number of independent records.
        comparisons: as in `wilson_estimate`.

    Raises:
        CorpusError: as in `wilson_estimate`.
        ConfigError: as in `wilson_estimate`.
    """
    one = wilson_estimate(first, first_records, comparisons)
    two = wilson_estimate(second, second_records, comparisons)
    difference = second - first
    return Estimate(
        difference,
        difference - math.hypot(two.value - two.low, one.high - one.value),
        difference + math.hypot(two.high - two.value, one.value - one.low),
    )


def effective_records(patients: npt.ArrayLike) -> float:
    """Effective number of independent records for a proportion over clustered records.

    N² / Σ m², where m is the number of records of each patient (Kish 1965, for clusters whose
    members all agree). It equals the number of records if each has a patient of its own, and the
    number of patients if all have equally many records. It is a lower bound otherwise.

    Args:
        patients: (N,) patient of each record.

    Raises:
        CorpusError: no records.
    """
    names = np.asarray(patients)
    if names.ndim != 1 or len(names) == 0:
        raise CorpusError(f"expected one patient per record, (N,), got shape {names.shape}")
    of_patient = np.unique(names, return_counts=True)[1].astype(np.float64)
    return float(len(names) ** 2 / np.square(of_patient).sum())


def _normal_reach(comparisons: int) -> float:
    """Standard normal quantile of the confidence level, Bonferroni-adjusted."""
    if comparisons < 1:
        raise ConfigError(f"expected at least 1 comparison, got {comparisons}")
    return float(stats.norm.isf((1 - CONFIDENCE) / 2 / comparisons))
