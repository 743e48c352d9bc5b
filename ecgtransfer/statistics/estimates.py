"""A score with its interval, from bootstrap draws: alone, or several at once."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.arrays import FloatArray

#: Share of the bootstrap distribution inside an interval.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval, by default over bootstrapped patients."""

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.low <= self.high):
            raise ConfigError(
                f"an estimate needs a finite value and low <= high, got {self.value}, "
                f"{self.low} and {self.high}; leave undefined scores out before"
            )

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float]:
        """The three numbers for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(value: float, draws: npt.ArrayLike) -> Estimate:
    """`value` with the percentile interval of its bootstrap (or repeat) draws, (R,)."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def reflected_estimate(value: float, draws: npt.ArrayLike) -> Estimate:
    """`value` with the reflected percentile interval of its draws, for a score of at least 0.

    [2 v − q_0.975, 2 v − q_0.025], cut at 0 (the basic bootstrap interval, Davison and Hinkley
    1997, eq. 5.6). A score that noise can only raise, as a calibration error, is higher in the
    resamples than in the records that they are drawn from by about as much as it is there than in
    the population: a percentile interval would repeat that error, this one takes it back.
    """
    ends = estimate(value, draws)
    return Estimate(value, max(0.0, 2 * value - ends.high), max(0.0, 2 * value - ends.low))


def simultaneous_estimates(values: npt.ArrayLike, draws: npt.ArrayLike) -> tuple[Estimate, ...]:
    """Scores (C,) with intervals that hold all C true values at once in 95 % of studies.

    draws (R, C), a row a resample of all scores together. Max-T: v_c ± q s_c with s_c half the
    width of the score's own percentile interval and q the 95 % quantile of max_c |draw_c − v_c| /
    s_c over the resamples (Westfall and Young 1993; Romano and Wolf 2005), so what the scores have
    in common costs nothing, as it would by Bonferroni. No interval is narrower than its own
    percentile interval, which a single score keeps. CorpusError for shapes that do not agree.
    """
    found, drawn = np.asarray(values, dtype=np.float64), np.asarray(draws, dtype=np.float64)
    if found.ndim != 1 or drawn.ndim != 2 or drawn.shape[1] != len(found):
        raise CorpusError(
            f"expected scores (C,) and their draws (resamples, C), got shapes {found.shape} and "
            f"{drawn.shape}"
        )
    alone = tuple(estimate(v, column) for v, column in zip(found, drawn.T, strict=True))
    if len(alone) < 2:
        return alone
    spread = np.asarray([(one.high - one.low) / 2 for one in alone])
    moving = spread > 0
    distance = np.abs(drawn - found)[:, moving] / spread[moving]
    reach = np.quantile(distance.max(axis=1, initial=0.0), CONFIDENCE) * spread
    return tuple(
        Estimate(one.value, min(one.low, one.value - r), max(one.high, one.value + r))
        for one, r in zip(alone, reach.tolist(), strict=True)
    )


def widening(draws: npt.ArrayLike, variance: float, freedom: int) -> float:
    """Factor by which bootstrap draws (R,) of a score are to be spread for few patients.

    √(variance / variance of the draws), at least 1, times t / z: `variance` is an unbiased estimate
    for the same score, such as `macro_auroc_variance`, t and z are the 97.5 % quantiles of
    Student's law with `freedom` degrees and of the normal law. Goes to 1 for many patients.
    """
    found = float(np.var(np.asarray(draws, dtype=np.float64)))
    tail = (1 + CONFIDENCE) / 2
    few = float(stats.t.ppf(tail, freedom) / stats.norm.ppf(tail))
    return few * math.sqrt(max(variance / found, 1.0)) if found > 0 else few


def student_estimate(values: Sequence[float]) -> Estimate:
    """Mean of independent repeats, one a seed, with the 95 % interval of Student's t.

    Raises:
        ConfigError: fewer than two values, or one that is not finite: a repeat that diverged has
            no mean with the others and is to be counted apart.
    """
    repeats = np.asarray(values, dtype=np.float64)
    if len(repeats) < 2 or not np.isfinite(repeats).all():
        raise ConfigError(
            f"expected at least 2 finite values, one a seed, got {len(repeats)} of which "
            f"{int((~np.isfinite(repeats)).sum())} are not finite; add seeds, and count those "
            f"that diverged apart"
        )
    mean = float(repeats.mean())
    error = float(repeats.std(ddof=1)) / math.sqrt(len(repeats))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(repeats) - 1)) * error
    return Estimate(mean, mean - half, mean + half)


def student_reach(draws: FloatArray, variance_ratio: float) -> float:
    """Half of an interval: Student's quantile times the deviation of draws (R,).

    variance_ratio is the variance of the estimate over that of the draws.
    """
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(draws) - 1)
    return float(quantile * draws.std(ddof=1) * np.sqrt(variance_ratio))
