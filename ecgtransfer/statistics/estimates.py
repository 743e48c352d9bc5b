"""Scores with confidence intervals from bootstrap draws or repeated trainings."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.arrays import FloatArray

#: Confidence level of every interval.
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A score with its 95 % interval; by default a bootstrap interval over patients.

    Attributes:
        value: the score itself.
        low, high: ends of the interval.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and self.low <= self.high):
            raise ConfigError(
                f"an estimate needs a finite value and low <= high, got {self.value}, "
                f"{self.low} and {self.high}; exclude undefined scores first"
            )

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"

    def to_dict(self) -> dict[str, float]:
        """Return value, low and high as JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def estimate(value: float, draws: npt.ArrayLike) -> Estimate:
    """Attach the percentile interval of bootstrap draws (R,), or of repeats, to `value`."""
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [tail, 1 - tail])
    return Estimate(float(value), float(low), float(high))


def reflected_estimate(value: float, draws: npt.ArrayLike) -> Estimate:
    """Attach the reflected percentile interval of draws (R,) to a score of at least 0.

    The interval is [2 v − q_0.975, 2 v − q_0.025], clipped at 0 (basic bootstrap interval, Davison
    and Hinkley 1997, eq. 5.6). Use it for a score that noise can only raise, such as a calibration
    error. Resampling raises such a score by about as much as sampling from the population did: a
    percentile interval would keep that bias twice, the reflected interval subtracts it.
    """
    ends = estimate(value, draws)
    return Estimate(value, max(0.0, 2 * value - ends.high), max(0.0, 2 * value - ends.low))


def simultaneous_estimates(values: npt.ArrayLike, draws: npt.ArrayLike) -> tuple[Estimate, ...]:
    """Attach simultaneous intervals to scores (C,).

    All C true values lie inside their intervals in 95 % of studies.

    Max-T method (Westfall and Young 1993; Romano and Wolf 2005): v_c ± q s_c, where s_c is half the
    width of the score's own percentile interval and q is the 95 % quantile over the resamples of
    max_c |draw_c − v_c| / s_c. Correlation between the scores narrows the intervals, unlike with
    Bonferroni's correction. No interval is narrower than the score's percentile interval, and a
    single score keeps exactly that one.

    Args:
        values: (C,) scores.
        draws: (R, C), one row for each resample of all scores together.

    Raises:
        CorpusError: the shapes do not agree.
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


def student_draws(
    value: float,
    draws: npt.ArrayLike,
    of_patients: npt.ArrayLike,
    variance: float,
    freedom: int,
) -> FloatArray:
    """Spread bootstrap draws (R,) of a score as Student's t, when there are few patients.

    A draw that lies u standard deviations from the score, of the draws after they were scaled by
    max(1, √(variance / variance of `of_patients`)), is moved to T⁻¹(Φ(u)) of them, with T the
    distribution of Student's t and Φ the normal distribution. So an interval of one score has
    Student's quantile, and the largest of several (`simultaneous_estimates`) Student's quantile
    further out, where it exceeds the normal one by more. For many patients nothing changes.

    Args:
        value: the score.
        draws: (R,) bootstrap draws of it, which may vary for other reasons too (trainings).
        of_patients: (R,) bootstrap draws of the patients alone.
        variance: unbiased estimate of the variance over patients, such as `macro_auroc_variance`.
        freedom: degrees of freedom of that estimate.
    """
    steps = np.asarray(draws, dtype=np.float64) - value
    found = float(np.var(np.asarray(of_patients, dtype=np.float64)))
    if found > 0:
        steps *= math.sqrt(max(variance / found, 1.0))
    scale = float(steps.std())
    if scale == 0:
        return np.asarray(value + steps)
    beyond = stats.norm.sf(np.abs(steps) / scale).clip(min=np.finfo(np.float64).tiny)
    return np.asarray(value + scale * np.sign(steps) * stats.t.isf(beyond, freedom))


def student_estimate(values: Sequence[float]) -> Estimate:
    """Mean over repeats with independent seeds, with the 95 % interval of Student's t.

    Raises:
        ConfigError: there are fewer than two values, or one is not finite. Report repeats that
            diverged separately: they have no mean with the others.
    """
    repeats = np.asarray(values, dtype=np.float64)
    if len(repeats) < 2 or not np.isfinite(repeats).all():
        raise ConfigError(
            f"expected at least 2 finite values, one for each seed, got {len(repeats)} of which "
            f"{int((~np.isfinite(repeats)).sum())} are not finite; add seeds, and report those "
            f"that diverged separately"
        )
    mean = float(repeats.mean())
    error = float(repeats.std(ddof=1)) / math.sqrt(len(repeats))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(repeats) - 1)) * error
    return Estimate(mean, mean - half, mean + half)


def student_reach(draws: FloatArray, variance_ratio: float) -> float:
    """Half-width of an interval: Student's quantile times the standard deviation of draws (R,).

    Args:
        draws: (R,) bootstrap draws.
        variance_ratio: variance of the estimate divided by the variance of the draws.
    """
    quantile = stats.t.ppf((1 + CONFIDENCE) / 2, len(draws) - 1)
    return float(quantile * draws.std(ddof=1) * np.sqrt(variance_ratio))
