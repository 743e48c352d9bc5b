"""Agreement of readers beyond chance: Cohen's kappa for two readers, Fleiss' kappa for more."""

import numpy as np
import numpy.typing as npt

from ecgtransfer.statistics import (
    Estimate,
    FloatArray,
    draw_resamples,
    estimate,
)


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Cohen's kappa of two readers for each row of weights (R, N): (R,).

    (p_o - p_e) / (1 - p_e), where p_e follows from each reader's share of positive answers (Cohen
    1960). NaN if p_e is 1, that is, if both readers give the same answer for all ECGs.

    Args:
        first: answers of one reader, (N,), 0 or 1.
        second: answers of the other reader, (N,), 0 or 1.
        weights: weights of the ECGs, (R, N), one row per resample.
    """
    rows = np.asarray(weights, dtype=np.float64)
    rows = rows / rows.sum(axis=1, keepdims=True)
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    yes_a, yes_b = rows @ a, rows @ b
    return _beyond_chance(rows @ (a == b), yes_a * yes_b + (1 - yes_a) * (1 - yes_b))


def fleiss_kappa(counts: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Fleiss' kappa of several readers for each row of weights (R, N): (R,).

    (p_o - p_e) / (1 - p_e), where p_o is the mean share of agreeing pairs of readers and p_e the
    sum of the squared shares of the categories (Fleiss 1971). NaN if p_e is 1.

    Args:
        counts: number of readers that chose each category for each ECG, (N, categories); each ECG
            has the same number of readers.
        weights: weights of the ECGs, (R, N), one row per resample.
    """
    rows = np.asarray(weights, dtype=np.float64)
    rows = rows / rows.sum(axis=1, keepdims=True)
    chosen = np.asarray(counts, dtype=np.float64)
    readers = chosen.sum(axis=1)
    agreeing = (chosen * (chosen - 1)).sum(axis=1) / (readers * (readers - 1))
    shares = rows @ (chosen / readers[:, None])
    return _beyond_chance(rows @ agreeing, np.square(shares).sum(axis=1))


def agreement(answers: npt.NDArray[np.bool_], seed: int, resamples: int) -> Estimate | None:
    """Kappa of answers (readers, N) with its bootstrap interval over ECGs; None if undefined."""
    ecgs = answers.shape[1]
    if ecgs == 0:
        return None
    if len(answers) == 2:

        def kappa(weights: npt.ArrayLike) -> FloatArray:
            return cohen_kappa(answers[0], answers[1], weights)

    else:
        yes = answers.sum(axis=0)
        counts = np.column_stack([yes, len(answers) - yes])

        def kappa(weights: npt.ArrayLike) -> FloatArray:
            return fleiss_kappa(counts, weights)

    value = float(kappa(np.ones((1, ecgs)))[0])
    if np.isnan(value):
        return None
    # With one label that every ECG has, no resample lacks a class, and none is drawn again.
    drawn = kappa(draw_resamples(np.ones((ecgs, 1)), resamples=resamples, seed=seed))
    return estimate(value, drawn[~np.isnan(drawn)])


def _beyond_chance(observed: FloatArray, by_chance: FloatArray) -> FloatArray:
    """(p_o - p_e) / (1 - p_e); NaN if p_e is 1."""
    headroom = 1 - by_chance
    kappa: FloatArray = np.full(headroom.shape, np.nan)
    np.divide(observed - by_chance, headroom, out=kappa, where=headroom > 1e-12)
    return kappa
