"""Scores of a multi-label classifier: AUROC, average precision, calibration error, F and G.

A weighted score takes a matrix of record weights (R, N) with one row per resample, so that a
bootstrap (`statistics.bootstrap`) is one call.
"""

import math
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics import BoolArray, FloatArray, checked_labels, undefined_classes

#: Number of thresholds that the G_beta rule tries per class (Strodthoff et al. 2020).
THRESHOLD_GRID = 100

#: Bins of the calibration error: ten records per bin if a test set has a hundred.
CALIBRATION_BINS = 10

_NOTHING_TO_SCORE = (
    "expected a class that is true or predicted in some record, got none, so there is nothing to "
    "score; score more records"
)


class ChallengeScores(NamedTuple):
    """Macro F_beta and G_beta of the CPSC / PTB-XL benchmark."""

    f_beta: float
    g_beta: float


class PerClassChallengeScores(NamedTuple):
    """F_beta and G_beta of each class, (K,) each; NaN if the formula is 0 / 0."""

    f_beta: FloatArray
    g_beta: FloatArray


def checked_scores(y_score: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    """Check scores and convert them to float64.

    Raises:
        CorpusError: the shape is not `shape`, or a score is not finite.
    """
    scores = np.asarray(y_score, dtype=np.float64)
    if scores.shape != shape:
        raise CorpusError(
            f"expected one score per record and class, {shape}, got shape {scores.shape}; pass "
            "those of the same records"
        )
    if not np.isfinite(scores).all():
        raise CorpusError(
            f"expected finite scores, got {int((~np.isfinite(scores)).sum())} that are not; "
            "train the classifier again, it has diverged"
        )
    return scores


def weighted_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """Area under the ROC curve of each class for each row of weights: (R, K).

    AUROC = Σ_{i positive} w_i (W⁻(s < s_i) + W⁻(s ≤ s_i)) / 2 / (W⁺ W⁻), where W⁻(·) is the weight
    of the negatives below (Mann and Whitney 1947; ties count one half). NaN if a class has no
    positive or no negative weight. See `per_class_auroc` for the other arguments and the errors.
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
    """Placement of each record in each class, (N, K); the mean over positives is the AUROC.

    The placement of a positive record is the share of negatives with a lower score; that of a
    negative record is the share of positives with a higher score. Ties count one half (the
    structural components of DeLong, DeLong and Clarke-Pearson 1988, eq. 4). NaN in the classes of
    `undefined_classes`. See `per_class_auroc` for the arguments and the errors.
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
    """Estimate the variance of a macro AUROC over patients, and its degrees of freedom.

    This is the estimate of DeLong, DeLong and Clarke-Pearson (1988), which divides by the number of
    patients minus one. A bootstrap divides by the number of patients, so its variance is half as
    large for two positive patients and zero for one. Classes share records, so covariances between
    them are included. If a class has a single positive (or negative) patient, that patient gets the
    pooled variance of the positives of all classes; if every class has a single positive patient,
    1, the largest possible variance.

    Args:
        y_true: labels (N, K) of 0 and 1.
        placements: result of `auroc_placements`, (N, K), or the difference of the placements of two
            classifiers, for the variance of the difference.
        patients: patients (N,); None if every record is its own patient.

    Returns:
        The variance, and the degrees of freedom Σ (positive patients of the class − 1), at least 1.

    Raises:
        CorpusError: the shapes differ, or no class has both positive and negative records.
    """
    labels = checked_labels(y_true)
    values = np.asarray(placements, dtype=np.float64)
    if values.shape != labels.shape:
        raise CorpusError(
            f"expected one placement per record and class, {labels.shape}, got {values.shape}; "
            "pass those of auroc_placements"
        )
    names = np.arange(len(labels)) if patients is None else np.asarray(patients)
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    defined = np.flatnonzero(~undefined_classes(labels))
    if not len(defined):
        raise CorpusError(
            "expected a class with both positive and negative records, got none, so nothing can "
            "vary; score more records"
        )
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
    """Average precision of each class for each row of weights: (R, K).

    Σ_n (recall_n − recall_{n−1}) precision_n over the distinct scores, from high to low, as in
    scikit-learn. NaN if a class has no positive weight. See `per_class_auroc` for the other
    arguments and the errors.
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
    """F_beta and G_beta of each class for each row of weights: (R, K) each.

    F = (1+β²) TP / ((1+β²) TP + FP + β² FN) and G = TP / (TP + FP + β FN), where each record has
    the weight 1 / (number of its true labels) (Strodthoff et al. 2020). A record without labels has
    the weight 1; the published formula divides by zero there. NaN if a class is neither true nor
    predicted in any record.

    Args:
        y_true: labels (N, K) of 0 and 1.
        y_pred: predictions (N, K) of 0 and 1.
        weights: record weights (R, N), at least 0.
        beta: weight of false negatives.

    Raises:
        CorpusError: the shapes differ, or a value is not valid.
        ConfigError: beta is not positive.
    """
    if not beta > 0:
        raise ConfigError(f"beta must be positive, got {beta}; change it")
    labels, predicted, by_record = _checked(y_true, y_pred, weights)
    if not np.isin(predicted, (0, 1)).all():
        raise CorpusError(
            "expected predictions of 0 and 1 only, got other values; use apply_thresholds first"
        )
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
    """Expected calibration error of each class for each row of weights: (R, K).

    ECE = Σ_b W_b / W |share of positives in bin b − mean probability in bin b|
        = Σ_b |Σ_{i in b} w_i (y_i − p_i)| / Σ_i w_i,
    one class against the rest (Naeini et al. 2015). Bins have equal mass (Nguyen and O'Connor 2015;
    preferred by Roelofs et al. 2022): the records are sorted by probability and cut into `bins`
    parts of equal size. Equal probabilities share a bin, so the order of the records does not
    matter. The bins do not depend on the weights. 0 is perfect; with few records, noise raises the
    error. NaN in a row of zero weights.

    Args:
        y_true: labels (N, K) of 0 and 1.
        y_score: probabilities (N, K).
        weights: record weights (R, N), at least 0.
        bins: number of bins.

    Raises:
        CorpusError: the shapes differ, or a value is not valid.
        ConfigError: there are fewer than 1 bin.
    """
    if bins < 1:
        raise ConfigError(f"expected at least 1 bin, got {bins}; raise bins")
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
    """`macro_auroc` for each row of weights: (R,)."""
    return _macro(weighted_auroc(y_true, y_score, weights))


def weighted_macro_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> FloatArray:
    """`macro_average_precision` for each row of weights: (R,)."""
    return _macro(weighted_average_precision(y_true, y_score, weights))


def weighted_f2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Macro F_2 of `challenge_scores` for each row of weights: (R,)."""
    return _macro_challenge(y_true, y_pred, weights).f_beta


def weighted_g2(y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Macro G_2 of `challenge_scores` for each row of weights: (R,)."""
    return _macro_challenge(y_true, y_pred, weights).g_beta


def per_class_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Area under the ROC curve of each class, (K,); NaN for the classes of `undefined_classes`.

    Args:
        y_true: labels (N, K) of 0 and 1.
        y_score: finite scores (N, K).
        weights: record weights (N,), at least 0; None weights all records equally.

    Raises:
        CorpusError: the shapes differ, or a value is not valid.
    """
    areas: FloatArray = weighted_auroc(y_true, y_score, _one_row(y_true, weights))[0]
    return areas


def macro_auroc(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean area under the ROC curve over the classes that have positives and negatives in y_true.

    `undefined_classes` names the other classes. See `per_class_auroc` for the arguments.

    Raises:
        CorpusError: the shapes differ, a value is not valid, or no class has both positives and
            negatives.
    """
    return float(weighted_macro_auroc(y_true, y_score, _one_row(y_true, weights))[0])


def per_class_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> FloatArray:
    """Average precision of each class, (K,); NaN for the classes of `undefined_classes`.

    See `per_class_auroc` for the arguments and the errors.
    """
    areas: FloatArray = weighted_average_precision(y_true, y_score, _one_row(y_true, weights))[0]
    return areas


def macro_average_precision(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike | None = None
) -> float:
    """Mean average precision over the classes that `macro_auroc` averages; same errors."""
    return float(weighted_macro_average_precision(y_true, y_score, _one_row(y_true, weights))[0])


def per_class_calibration_error(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> FloatArray:
    """Expected calibration error of each class, (K,); see `weighted_calibration_error`."""
    errors: FloatArray = weighted_calibration_error(y_true, y_score, _one_row(y_true, None), bins)[
        0
    ]
    return errors


def macro_calibration_error(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, bins: int = CALIBRATION_BINS
) -> float:
    """Mean over all classes of `per_class_calibration_error`."""
    return float(per_class_calibration_error(y_true, y_score, bins).mean())


def per_class_challenge_scores(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, beta: float = 2.0
) -> PerClassChallengeScores:
    """F_beta and G_beta of each class, (K,) each; see `weighted_challenge_scores`."""
    scores = weighted_challenge_scores(y_true, y_pred, _one_row(y_true, None), beta)
    return PerClassChallengeScores(scores.f_beta[0], scores.g_beta[0])


def challenge_scores(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, beta: float = 2.0
) -> ChallengeScores:
    """Macro F_beta and G_beta of the CPSC / PTB-XL benchmark; see `weighted_challenge_scores`.

    The mean is over the classes that are true or predicted in some record. A class that is
    predicted but never true scores 0.

    Args:
        y_true: labels (N, K) of 0 and 1.
        y_pred: predictions (N, K) of 0 and 1.
        beta: weight of false negatives.

    Raises:
        CorpusError: the shapes differ, a value is not valid, or no class is true or predicted.
        ConfigError: beta is not positive.
    """
    scores = per_class_challenge_scores(y_true, y_pred, beta)
    defined = ~np.isnan(scores.f_beta)
    if not defined.any():
        raise CorpusError(_NOTHING_TO_SCORE)
    return ChallengeScores(
        float(scores.f_beta[defined].mean()), float(scores.g_beta[defined].mean())
    )


def choose_thresholds(
    y_true: npt.ArrayLike,
    y_score: npt.ArrayLike,
    rule: Literal["g_beta", "youden"] = "g_beta",
    beta: float = 2.0,
) -> FloatArray:
    """Choose one threshold per class, (K,), from predictions for *training* records.

    A class is predicted if `score > threshold`. A class without positives gets the threshold 1, so
    it is never predicted by its threshold.

    Args:
        y_true: labels (N, K) of 0 and 1.
        y_score: probabilities (N, K).
        rule: "g_beta" takes the lowest of 100 thresholds from 0 to 1 that maximises G_beta of the
            class, with weight 1 for every record. "youden" takes the lowest midpoint between
            neighbouring scores that maximises sensitivity + specificity.
        beta: weight of false negatives in G_beta.

    Raises:
        CorpusError: the shapes differ, or a value is not valid.
        ConfigError: the rule is unknown.
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
    """Predict the classes with score > threshold, and at least one class per record.

    A record with no score above its threshold gets the class with its highest score, as in the
    CPSC / PTB-XL benchmark.

    Args:
        y_score: scores (N, K).
        thresholds: thresholds (K,).

    Returns:
        Predictions (N, K) of 0 and 1.

    Raises:
        CorpusError: the shapes differ, or a score is not finite.
    """
    cut = np.asarray(thresholds, dtype=np.float64)
    scores = np.asarray(y_score, dtype=np.float64)
    if cut.ndim != 1 or scores.ndim != 2 or scores.shape[1] != len(cut):
        raise CorpusError(
            f"expected scores (records, classes) and one threshold per class, got shapes "
            f"{scores.shape} and {cut.shape}; take thresholds of the same classes"
        )
    scores = checked_scores(scores, scores.shape)
    predicted = (scores > cut).astype(np.int8)
    silent = np.flatnonzero(~predicted.any(axis=1))
    predicted[silent, scores[silent].argmax(axis=1)] = 1
    return predicted


def _checked(
    y_true: npt.ArrayLike, y_score: npt.ArrayLike, weights: npt.ArrayLike
) -> tuple[BoolArray, FloatArray, FloatArray]:
    """Check all three; return labels (N, K), scores (N, K) and transposed weights (N, R)."""
    labels = checked_labels(y_true)
    scores = checked_scores(y_score, labels.shape)
    rows = np.asarray(weights, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(labels):
        raise CorpusError(
            f"expected weights (resamples, {len(labels)} records), got shape {rows.shape}; pass "
            "one row per resample"
        )
    if not (np.isfinite(rows).all() and (rows >= 0).all()):
        raise CorpusError("expected finite weights of at least 0, got others; check the weights")
    return labels, scores, np.ascontiguousarray(rows.T)


def _check_probabilities(scores: FloatArray) -> None:
    """Check that all scores lie in [0, 1].

    Raises:
        CorpusError: they do not.
    """
    if scores.min() < 0 or scores.max() > 1:
        raise CorpusError(
            f"expected probabilities in [0, 1], got {scores.min():.3g} to {scores.max():.3g}; "
            "apply the logistic function first"
        )


def _one_row(y_true: npt.ArrayLike, weights: npt.ArrayLike | None) -> FloatArray:
    """Weights (1, N) of a single resample; ones by default."""
    if weights is None:
        return np.ones((1, len(checked_labels(y_true))))
    return np.atleast_2d(np.asarray(weights, dtype=np.float64))


def _ratio(numerator: FloatArray, denominator: FloatArray, undefined: float = np.nan) -> FloatArray:
    """Quotient if the denominator is positive, else `undefined`."""
    quotient: FloatArray = np.full(numerator.shape, undefined)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


def _macro(per_class: FloatArray) -> FloatArray:
    """Mean over the classes that are defined in some row; NaN in a row that lacks one of them."""
    defined = ~np.isnan(per_class).all(axis=0)
    if not defined.any():
        raise CorpusError(
            "expected a class with both positive and negative records, got none; score more records"
        )
    return np.asarray(per_class[:, defined].mean(axis=1), dtype=np.float64)


def _macro_challenge(
    y_true: npt.ArrayLike, y_pred: npt.ArrayLike, weights: npt.ArrayLike
) -> PerClassChallengeScores:
    """Macro F_2 and G_2, (R,) each, over the classes that `challenge_scores` averages.

    A class that is never true scores 0, also in a resample without its false positives.
    """
    scores = weighted_challenge_scores(y_true, y_pred, weights)
    classes = (np.asarray(y_true) + np.asarray(y_pred) > 0).any(axis=0)
    if not classes.any():
        raise CorpusError(_NOTHING_TO_SCORE)
    return PerClassChallengeScores(
        np.nan_to_num(scores.f_beta[:, classes]).mean(axis=1),
        np.nan_to_num(scores.g_beta[:, classes]).mean(axis=1),
    )
