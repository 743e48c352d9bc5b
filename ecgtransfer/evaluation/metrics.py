"""Scores of a multi-label classifier and intervals of scores, shares and their differences.

Every score here takes a whole matrix of record weights, (R, N), one row a resample, so that a
bootstrap is one call: a record drawn twice has weight 2, a record not drawn has weight 0.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

from ecgtransfer.errors import ConfigError, CorpusError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Bootstrap resamples behind every interval: at 2000, each 2.5 % end point rests on 50 resamples.
BOOTSTRAP_RESAMPLES = 2000

#: Share of the bootstrap distribution inside an interval.
CONFIDENCE = 0.95

#: A resample without one of the classes is drawn again; this many draws per wanted resample, then
#: the set is refused: nine classes of one record each need about 60.
DRAWS_PER_RESAMPLE = 1000

#: Thresholds tried per class by the G_beta rule (Strodthoff et al. 2020).
THRESHOLD_GRID = 100

#: Bins of the calibration error: ten records a bin where a test set has a hundred.
CALIBRATION_BINS = 10

#: Weights turned to float64 at once in a bootstrap: 2**22 are 32 MiB.
WEIGHTS_AT_ONCE = 2**22

#: (y_true (N, K), y_score (N, K), weights (R, N)) -> one score per row of weights, (R,).
WeightedScore = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], FloatArray]


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


class ChallengeScores(NamedTuple):
    """Macro F_beta and G_beta of the CPSC / PTB-XL benchmark."""

    f_beta: float
    g_beta: float


class PerClassChallengeScores(NamedTuple):
    """F_beta and G_beta of each class, (K,) each; nan where the formula is 0 / 0."""

    f_beta: FloatArray
    g_beta: FloatArray


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


def checked_labels(y_true: npt.ArrayLike) -> BoolArray:
    """Multi-hot labels (N, K) as booleans; CorpusError unless two-dimensional, filled, 0 or 1."""
    labels = np.asarray(y_true)
    if labels.ndim != 2 or 0 in labels.shape:
        raise CorpusError(f"expected multi-hot labels (records, classes), got shape {labels.shape}")
    if not np.isin(labels, (0, 1)).all():
        raise CorpusError("expected labels of 0 and 1 only; encode them with a LabelSpace")
    return labels.astype(np.bool_)


def checked_scores(y_score: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Scores as float64; CorpusError unless they have `shape` and are finite."""
    scores = np.asarray(y_score, dtype=np.float64)
    if scores.shape != shape:
        raise CorpusError(
            f"expected one score per record and class, {shape}, got shape {scores.shape}"
        )
    if not np.isfinite(scores).all():
        raise CorpusError(
            f"expected finite scores, got {int((~np.isfinite(scores)).sum())} that are not; "
            "the classifier that gave them diverged"
        )
    return scores


def undefined_classes(y_true: npt.ArrayLike) -> BoolArray:
    """True for each class that has no positive or no negative record in y_true (N, K): (K,)."""
    labels = checked_labels(y_true)
    return np.asarray(labels.all(axis=0) | ~labels.any(axis=0), dtype=np.bool_)


def weighted_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """Area under the ROC curve of every class under every row of weights: (R, K).

    AUROC = Σ_{i positive} w_i (W⁻(s < s_i) + W⁻(s ≤ s_i)) / 2 / (W⁺ W⁻), where W⁻(·) is the weight
    of the negatives below (Mann and Whitney 1947, ties count one half). nan where a class has no
    positive or no negative weight. Errors as in `per_class_auroc`.
    """
    labels, scores, by_record = _checked(y_true, y_score, weights)
    areas = np.full((by_record.shape[1], labels.shape[1]), np.nan)
    for k in np.flatnonzero(~undefined_classes(labels)):
        positives = np.flatnonzero(labels[:, k])
        negatives = np.flatnonzero(~labels[:, k])
        negatives = negatives[np.argsort(scores[negatives, k])]
        below = np.searchsorted(scores[negatives, k], scores[positives, k], side="left")
        up_to = np.searchsorted(scores[negatives, k], scores[positives, k], side="right")
        cumulated = np.zeros((len(negatives) + 1, by_record.shape[1]))
        np.cumsum(by_record[negatives], axis=0, out=cumulated[1:])
        weight = by_record[positives]
        pairs = np.einsum("pr,pr->r", weight, cumulated[below] + cumulated[up_to]) / 2
        areas[:, k] = _ratio(pairs, weight.sum(axis=0) * cumulated[-1])
    return areas


def auroc_placements(y_true: npt.ArrayLike, y_score: npt.ArrayLike) -> FloatArray:
    """Placement of every record in every class, whose means are the areas: (N, K).

    Of a positive the share of negatives with a lower score, of a negative the share of positives
    with a higher one, ties one half (the structural components of DeLong, DeLong and Clarke-Pearson
    1988, eq. 4). nan in the classes of `undefined_classes`. Shapes and errors as in
    `per_class_auroc`.
    """
    labels, scores, _ = _checked(y_true, y_score, _one_row(y_true, None))
    placements = np.full(labels.shape, np.nan)
    for k in np.flatnonzero(~undefined_classes(labels)):
        for side, sign in ((labels[:, k], 1), (~labels[:, k], -1)):
            others = np.sort(sign * scores[~side, k])
            mine = sign * scores[side, k]
            below = np.searchsorted(others, mine, side="left")
            up_to = np.searchsorted(others, mine, side="right")
            placements[side, k] = (below + up_to) / 2 / len(others)
    return placements


def macro_auroc_variance(
    y_true: npt.ArrayLike, placements: npt.ArrayLike, patients: npt.ArrayLike | None = None
) -> tuple[float, int]:
    """Variance of a macro AUROC over patients, and the degrees of freedom that it rests on.

    placements (N, K) of `auroc_placements`, or differences of those of two classifiers for the
    variance of the difference; patients (N,) or none. The estimate of DeLong, DeLong and
    Clarke-Pearson (1988), which divides by the patients less one: a bootstrap divides by the
    patients, half as much for two positives and nothing for one. Classes share records, so their
    covariance counts. A patient who is alone on a side of a class gets the variance that the
    positives of the other classes have about their means; where all are alone, 1, the largest. The
    degrees of freedom are those of the positives, Σ (patients with the class − 1), at least 1.
    Shapes as in `per_class_auroc`; CorpusError where no class is defined.
    """
    labels = checked_labels(y_true)
    values = np.asarray(placements, dtype=np.float64)
    if values.shape != labels.shape:
        raise CorpusError(
            f"expected one placement per record and class, {labels.shape}, got {values.shape}"
        )
    names = np.arange(len(labels)) if patients is None else np.asarray(patients)
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    defined = np.flatnonzero(~undefined_classes(labels))
    if not len(defined):
        raise CorpusError("no class has both positive and negative records, so nothing can vary")
    influence = np.zeros(int(patient_of.max()) + 1)
    squares, freedom, alone = 0.0, 0, 0
    for k in defined:
        for side in (labels[:, k], ~labels[:, k]):
            count = len(np.unique(patient_of[side]))
            centred = values[side, k] - values[side, k].mean()
            by_patient = np.bincount(patient_of[side], centred, len(influence)) / side.sum()
            influence += by_patient * math.sqrt(count / max(count - 1, 1))
            alone += count == 1
        positives = labels[:, k]
        freedom += len(np.unique(patient_of[positives])) - 1
        squares += float(np.square(values[positives, k] - values[positives, k].mean()).sum())
    lone = squares / freedom if freedom else 1.0
    variance = (float(np.square(influence).sum()) + alone * lone) / len(defined) ** 2
    return variance, max(freedom, 1)


def weighted_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """Average precision of every class under every row of weights: (R, K).

    Σ_n (recall_n − recall_{n−1}) precision_n over the distinct scores, from high to low, as in
    scikit-learn. nan where a class has no positive weight. Errors as in `per_class_auroc`.
    """
    labels, scores, by_record = _checked(y_true, y_score, weights)
    areas = np.full((by_record.shape[1], labels.shape[1]), np.nan)
    for k in np.flatnonzero(~undefined_classes(labels)):
        order = np.argsort(-scores[:, k])
        falling = -scores[order, k]
        hit = labels[order, k]
        weight = by_record[order]
        fired = np.cumsum(weight, axis=0)
        weight = weight[hit]
        found = np.cumsum(weight, axis=0)
        tie_end = np.searchsorted(falling, falling[hit], side="right") - 1
        tie_end_hits = np.cumsum(hit)[tie_end] - 1
        precision = _ratio(found[tie_end_hits], fired[tie_end], undefined=0.0)
        areas[:, k] = _ratio((weight * precision).sum(axis=0), found[-1])
    return areas


def weighted_challenge_scores(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike, beta: float = 2.0
) -> PerClassChallengeScores:
    """F_beta and G_beta of every class under every row of weights: (R, K) each.

    F = (1+β²) TP / ((1+β²) TP + FP + β² FN) and G = TP / (TP + FP + β FN), each record counting
    1 / (number of its true labels) (Strodthoff et al. 2020). A record without a label counts 1,
    as one label would: there the published formula divides by zero. nan where a class is neither
    true nor predicted anywhere. CorpusError for shapes or values that are not 0 or 1; ConfigError
    for a beta that is not positive.
    """
    if not beta > 0:
        raise ConfigError(f"beta must be positive, got {beta}")
    labels, predicted, by_record = _checked(y_true, y_pred, weights)
    if not np.isin(predicted, (0, 1)).all():
        raise CorpusError("expected predictions of 0 and 1 only; use apply_thresholds first")
    fired = predicted.astype(np.bool_)
    per_label = 1.0 / np.maximum(labels.sum(axis=1), 1)
    counted = (by_record * per_label[:, None]).T
    true_positive = counted @ (labels & fired)
    false_positive = counted @ (~labels & fired)
    false_negative = counted @ (labels & ~fired)
    gain = (1 + beta**2) * true_positive
    return PerClassChallengeScores(
        f_beta=_ratio(gain, gain + false_positive + beta**2 * false_negative),
        g_beta=_ratio(true_positive, true_positive + false_positive + beta * false_negative),
    )


def weighted_calibration_error(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    weights: npt.ArrayLike,
    bins: int = CALIBRATION_BINS,
) -> FloatArray:
    """Expected calibration error of every class under every row of weights: (R, K).

    ECE = Σ_b W_b / W |share of positives in bin b − mean probability in bin b|
        = Σ_b |Σ_{i in b} w_i (y_i − p_i)| / Σ_i w_i,
    one class against the rest, bins of equal mass: the records in the order of their probability
    are cut into `bins` parts of as many each (Naeini et al. 2015; equal mass: Nguyen and O'Connor
    2015, preferred by Roelofs et al. 2022). Equal probabilities share a bin, so no order of the
    records matters. The cuts are those of all records, whatever the weights. 0 is perfect; noise
    in few records can only raise it. nan in a row of zeros. CorpusError for bad shapes, values or
    probabilities outside [0, 1]; ConfigError for fewer than 1 bin.
    """
    if bins < 1:
        raise ConfigError(f"expected at least 1 bin, got {bins}")
    labels, scores, by_record = _checked(y_true, y_score, weights)
    _check_probabilities(scores)
    total = by_record.sum(axis=0)
    errors = np.empty((by_record.shape[1], labels.shape[1]))
    for k in range(labels.shape[1]):
        rising = np.sort(scores[:, k])
        below = np.searchsorted(rising, scores[:, k], side="left")
        up_to = np.searchsorted(rising, scores[:, k], side="right")
        bin_of = (below + up_to - 1) * bins // (2 * len(labels))
        excess = np.zeros((len(labels), bins))
        excess[np.arange(len(labels)), bin_of] = labels[:, k] - scores[:, k]
        errors[:, k] = _ratio(np.abs(by_record.T @ excess).sum(axis=1), total)
    return errors


def weighted_macro_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """`macro_auroc` under every row of weights: (R,)."""
    return _macro(weighted_auroc(y_true, y_score, weights))


def weighted_macro_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """`macro_average_precision` under every row of weights: (R,)."""
    return _macro(weighted_average_precision(y_true, y_score, weights))


def weighted_macro_calibration_error(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """`macro_calibration_error` under every row of weights: (R,)."""
    return _macro(weighted_calibration_error(y_true, y_score, weights))


def weighted_f2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Macro F_2 of `challenge_scores` under every row of weights: (R,)."""
    return _macro_challenge(y_true, y_pred, weights).f_beta


def weighted_g2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Macro G_2 of `challenge_scores` under every row of weights: (R,)."""
    return _macro_challenge(y_true, y_pred, weights).g_beta


def per_class_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Area under the ROC curve of each class, (K,); nan for the classes of `undefined_classes`.

    y_true (N, K) of 0 and 1, y_score (N, K) finite, weights (N,) at least 0 or none. CorpusError
    for other shapes and values.
    """
    areas: FloatArray = weighted_auroc(y_true, y_score, _one_row(y_true, weights))[0]
    return areas


def macro_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean area under the ROC curve over the classes that have positives and negatives in y_true.

    Classes without either are left out of the mean; `undefined_classes` names them. Shapes and
    errors as in `per_class_auroc`, and CorpusError where no class is left.
    """
    return float(weighted_macro_auroc(y_true, y_score, _one_row(y_true, weights))[0])


def per_class_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Average precision of each class, (K,); nan for the classes of `undefined_classes`.

    Shapes and errors as in `per_class_auroc`.
    """
    areas: FloatArray = weighted_average_precision(y_true, y_score, _one_row(y_true, weights))[0]
    return areas


def macro_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean average precision over the classes that `macro_auroc` counts; errors as there."""
    return float(weighted_macro_average_precision(y_true, y_score, _one_row(y_true, weights))[0])


def per_class_calibration_error(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> FloatArray:
    """Expected calibration error of each class, (K,); definition: `weighted_calibration_error`.

    y_true (N, K) of 0 and 1, y_score (N, K) probabilities.
    """
    errors: FloatArray = weighted_calibration_error(y_true, y_score, _one_row(y_true, None), bins)[
        0
    ]
    return errors


def macro_calibration_error(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> float:
    """Mean over all classes of the expected calibration error of each against the rest."""
    return float(per_class_calibration_error(y_true, y_score, bins).mean())


def per_class_challenge_scores(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, beta: float = 2.0
) -> PerClassChallengeScores:
    """F_beta and G_beta of each class, (K,) each; formula and errors: `weighted_challenge_scores`.

    y_true and y_pred (N, K) of 0 and 1.
    """
    scores = weighted_challenge_scores(y_true, y_pred, _one_row(y_true, None), beta)
    return PerClassChallengeScores(scores.f_beta[0], scores.g_beta[0])


def challenge_scores(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, beta: float = 2.0
) -> ChallengeScores:
    """Macro F_beta and G_beta of the benchmark, each record weighted by 1 / (its true labels).

    y_true and y_pred (N, K) of 0 and 1. The mean is over the classes that are true or predicted
    somewhere: one that is predicted but never true scores 0, one that is neither is left out.
    Formula, the record without labels, and errors: `weighted_challenge_scores`; CorpusError also
    where no class is left.
    """
    scores = per_class_challenge_scores(y_true, y_pred, beta)
    defined = ~np.isnan(scores.f_beta)
    if not defined.any():
        raise CorpusError("no class is true or predicted anywhere, so there is nothing to score")
    return ChallengeScores(
        float(scores.f_beta[defined].mean()), float(scores.g_beta[defined].mean())
    )


def choose_thresholds(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    rule: Literal["g_beta", "youden"] = "g_beta",
    beta: float = 2.0,
) -> FloatArray:
    """One threshold per class, (K,), from the predictions for *training* records.

    y_true (N, K) of 0 and 1; y_score (N, K) probabilities in [0, 1]. A class fires where
    `score > threshold`. "g_beta": the lowest of the 100 thresholds 0 ... 1 with the highest G_beta
    of the class, every record counting 1. "youden": halfway between the two neighbouring scores
    where sensitivity + specificity is highest (lowest such place). A class without positives gets
    1 and never fires on its own; one without negatives is treated by the same rules. CorpusError
    for bad shapes or values, ConfigError for an unknown rule.
    """
    labels = checked_labels(y_true)
    scores = checked_scores(y_score, labels.shape)
    _check_probabilities(scores)
    thresholds = np.ones(labels.shape[1])
    for k in np.flatnonzero(labels.any(axis=0)):
        if rule == "g_beta":
            grid = np.linspace(0, 1, THRESHOLD_GRID)
        elif rule == "youden":
            levels = np.unique(scores[:, k])
            grid = np.concatenate([levels[:1] / 2, (levels[1:] + levels[:-1]) / 2])
        else:
            raise ConfigError(f'unknown threshold rule {rule!r}; expected "g_beta" or "youden"')
        fired = scores[:, k, None] > grid
        hits = (fired & labels[:, k, None]).sum(axis=0)
        alarms = fired.sum(axis=0) - hits
        positives = labels[:, k].sum()
        if rule == "g_beta":
            merit = hits / (hits + alarms + beta * (positives - hits))
        else:
            merit = hits / positives - alarms / max(len(labels) - positives, 1)
        thresholds[k] = grid[np.argmax(merit)]
    return thresholds


def apply_thresholds(y_score: npt.ArrayLike, thresholds: npt.ArrayLike) -> npt.NDArray[np.int8]:
    """Predictions (N, K) of 0 and 1: where score > threshold (K,), else the highest class.

    A record in which no class fires gets the class with its highest score (the benchmark's rule).
    CorpusError for shapes that do not agree or scores that are not finite.
    """
    cut = np.asarray(thresholds, dtype=np.float64)
    scores = np.asarray(y_score, dtype=np.float64)
    if cut.ndim != 1 or scores.ndim != 2 or scores.shape[1] != len(cut):
        raise CorpusError(
            f"expected scores (records, classes) and one threshold per class, got shapes "
            f"{scores.shape} and {cut.shape}"
        )
    scores = checked_scores(scores, scores.shape)
    predicted = (scores > cut).astype(np.int8)
    silent = np.flatnonzero(~predicted.any(axis=1))
    predicted[silent, scores[silent].argmax(axis=1)] = 1
    return predicted


def draw_resamples(
    y_true: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = 0,
) -> npt.NDArray[np.uint16]:
    """How often each record occurs in each bootstrap resample: (resamples, N).

    Whole patients are drawn with replacement, as many as there are; `patients` (N,) names the
    patient of each record, none means that every record is its own. A resample that lacks a
    positive or a negative of a class that the whole set has is drawn again, so every score is
    defined in every resample (the benchmark's rule; intervals are conditional on it). CorpusError
    if that does not end after 1000 draws per resample, or for a `patients` of another length;
    ConfigError for fewer than 2 resamples.
    """
    labels = checked_labels(y_true)
    if resamples < 2:
        raise ConfigError(f"an interval needs at least 2 resamples, got {resamples}")
    names = np.arange(len(labels)) if patients is None else np.asarray(patients)
    if names.shape != (len(labels),):
        raise CorpusError(
            f"expected one patient per record, {len(labels)}, got shape {names.shape}"
        )
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    groups = int(patient_of.max()) + 1
    needed = labels[:, ~undefined_classes(labels)]
    needed = np.concatenate([needed, ~needed], axis=1).astype(np.float32)
    rng = np.random.default_rng(seed)
    at_once = int(np.clip(WEIGHTS_AT_ONCE // groups, 1, resamples))
    kept: list[npt.NDArray[np.uint16]] = []
    drawn = found = 0
    while found < resamples:
        if drawn >= DRAWS_PER_RESAMPLE * resamples:
            raise CorpusError(
                f"{drawn} bootstrap draws gave only {found} resamples with every class present; "
                "some class has too few patients for an interval"
            )
        rows = np.arange(at_once)[:, None] * groups
        picks = rng.integers(0, groups, size=(at_once, groups))
        counts = np.bincount((picks + rows).ravel(), minlength=at_once * groups)
        times = counts.reshape(at_once, groups).astype(np.uint16)[:, patient_of]
        complete = (times.astype(np.float32) @ needed > 0).all(axis=1)
        kept.append(times[complete])
        drawn += at_once
        found += int(complete.sum())
    return np.concatenate(kept)[:resamples]


def score_resamples(
    score: WeightedScore,
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    resamples: npt.NDArray[np.uint16],
) -> FloatArray:
    """`score` of every row of `resamples` (R, N), a bounded number of rows at a time: (R, ...)."""
    rows = max(1, WEIGHTS_AT_ONCE // resamples.shape[1])
    return np.concatenate(
        [
            score(y_true, y_score, resamples[start : start + rows])
            for start in range(0, len(resamples), rows)
        ]
    )


def bootstrap(
    score: WeightedScore,
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """A score with its 95 % percentile interval over resampled patients.

    `score` is one of `weighted_macro_auroc`, `weighted_macro_average_precision`, `weighted_f2`,
    `weighted_g2`, or any function of that form. Resamples and errors: `draw_resamples`.
    """
    draws = draw_resamples(y_true, patients, resamples=resamples, seed=seed)
    value = score(y_true, y_score, _one_row(y_true, None))
    return estimate(float(value[0]), score_resamples(score, y_true, y_score, draws))


def paired_bootstrap(
    score: WeightedScore,
    y_true: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = 0,
) -> Estimate:
    """score(second) − score(first) on the same records, with its 95 % interval.

    Both score sets (N, K) meet the same resampled patients, so what the records contribute to both
    cancels. `score` and errors as in `bootstrap`.
    """
    draws = draw_resamples(y_true, patients, resamples=resamples, seed=seed)
    whole = _one_row(y_true, None)
    value = score(y_true, second, whole) - score(y_true, first, whole)
    change = score_resamples(score, y_true, second, draws) - score_resamples(
        score, y_true, first, draws
    )
    return estimate(float(value[0]), change)


def _checked(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Labels (N, K), scores (N, K) and the weights turned to (N, R), rows contiguous by record."""
    labels = checked_labels(y_true)
    scores = checked_scores(y_score, labels.shape)
    rows = np.asarray(weights, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(labels):
        raise CorpusError(
            f"expected weights (resamples, {len(labels)} records), got shape {rows.shape}"
        )
    if not (np.isfinite(rows).all() and (rows >= 0).all()):
        raise CorpusError("expected finite weights of at least 0")
    return labels, scores, np.ascontiguousarray(rows.T)


def _check_probabilities(scores: FloatArray) -> None:
    """CorpusError unless all lie in [0, 1]."""
    if scores.min() < 0 or scores.max() > 1:
        raise CorpusError("expected probabilities in [0, 1]; apply the logistic function first")


def _one_row(y_true: npt.ArrayLike, weights: npt.ArrayLike | None) -> FloatArray:
    """Weights of a single resample, (1, N): all ones unless given."""
    if weights is None:
        return np.ones((1, len(checked_labels(y_true))))
    return np.atleast_2d(np.asarray(weights, dtype=np.float64))


def _ratio(numerator: FloatArray, denominator: FloatArray, undefined: float = np.nan) -> FloatArray:
    """Quotient where the denominator is positive, `undefined` elsewhere."""
    quotient: FloatArray = np.full(numerator.shape, undefined)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _macro(per_class: FloatArray) -> FloatArray:
    """Mean over the classes that are defined in some row; nan in a row that lacks one of them."""
    defined = ~np.isnan(per_class).all(axis=0)
    if not defined.any():
        raise CorpusError(
            "no class has both positive and negative records, so there is no macro mean; "
            "score more records"
        )
    return np.asarray(per_class[:, defined].mean(axis=1), dtype=np.float64)


def _macro_challenge(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike
) -> PerClassChallengeScores:
    """Macro F_2 and G_2, (R,) each, over the classes of `challenge_scores` on the whole set.

    A class that is never true scores 0 also in the resamples that lack its false alarms.
    """
    scores = weighted_challenge_scores(y_true, y_pred, weights)
    classes = (np.asarray(y_true) + np.asarray(y_pred) > 0).any(axis=0)
    if not classes.any():
        raise CorpusError("no class is true or predicted anywhere, so there is nothing to score")
    return PerClassChallengeScores(
        np.nan_to_num(scores.f_beta[:, classes]).mean(axis=1),
        np.nan_to_num(scores.g_beta[:, classes]).mean(axis=1),
    )
