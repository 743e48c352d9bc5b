"""Score intervals of shares and of their differences, in closed form."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.estimates import CONFIDENCE, Estimate


def wilson_estimate(share: float, records: float, comparisons: int = 1) -> Estimate:
    """A share of `records` independent records with its Wilson score interval.

    (p + z²/2n ± z √(p(1 − p)/n + z²/4n²)) / (1 + z²/n) (Wilson 1927), which keeps its coverage for
    few records and near 0 and 1, where resampling finds no variance: 10 of 10 gives [0.72, 1].
    `records` may be fractional (`effective_records`). With `comparisons` C the confidence is
    1 − 0.05 / C (Bonferroni): C such intervals hold together in at least 95 % of studies.
    CorpusError for a share outside [0, 1] or fewer than 1 record, ConfigError for fewer than 1
    comparison.
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
    """A share with the interval ± reach, and at least `wilson_estimate` for so many patients.

    Near 0 and 1 all draws of a share may agree where the truth does not: 40 of 40 are no proof of
    every one.
    """
    least = wilson_estimate(value, patients)
    return Estimate(
        value, max(min(value - reach, least.low), 0.0), min(max(value + reach, least.high), 1.0)
    )


def proportion(successes: int, trials: int) -> Estimate | None:
    """A share with its exact 95 % interval (Clopper and Pearson 1934), or none of no trials."""
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
    """Difference second − first of two shares with Newcombe's hybrid score interval.

    d − √((p₂ − l₂)² + (u₁ − p₁)²) to d + √((u₂ − p₂)² + (p₁ − l₁)²), where l and u are the ends of
    the shares' Wilson intervals (Newcombe 1998, method 10). Arguments and errors as in
    `wilson_estimate`.
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
    """How many independent records the records of these patients (N,) are worth for a share.

    N² / Σ m², with m records of each patient (Kish 1965, for clusters whose members all agree):
    the number of records where each has a patient of its own, the number of patients where each
    patient has as many. It never promises more than the records hold. CorpusError for no record.
    """
    names = np.asarray(patients)
    if names.ndim != 1 or len(names) == 0:
        raise CorpusError(f"expected one patient per record, (N,), got shape {names.shape}")
    of_patient = np.unique(names, return_counts=True)[1].astype(np.float64)
    return float(len(names) ** 2 / np.square(of_patient).sum())


def _normal_reach(comparisons: int) -> float:
    """Standard normal quantile of the confidence, adjusted for that many comparisons."""
    if comparisons < 1:
        raise ConfigError(f"expected at least 1 comparison, got {comparisons}")
    return float(stats.norm.isf((1 - CONFIDENCE) / 2 / comparisons))
