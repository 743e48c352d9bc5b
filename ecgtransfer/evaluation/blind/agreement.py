"""Agreement of readers beyond chance: Cohen's kappa of two, Fleiss' of more."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecgtransfer.statistics import (
    Estimate,
    FloatArray,
    draw_resamples,
    estimate,
)

if TYPE_CHECKING:
    pass


def cohen_kappa(first: npt.ArrayLike, second: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Agreement of two readers beyond chance under every row of weights (R, N): (R,).

    (p_o - p_e) / (1 - p_e) with p_e from each reader's own share of yes (Cohen 1960); first and
    second (N,) of 0 and 1. nan where p_e is 1: both give one and the same answer throughout.
    """
    rows = np.asarray(weights, dtype=np.float64)
    rows = rows / rows.sum(axis=1, keepdims=True)
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    yes_a, yes_b = rows @ a, rows @ b
    return _beyond_chance(rows @ (a == b), yes_a * yes_b + (1 - yes_a) * (1 - yes_b))


def fleiss_kappa(counts: npt.ArrayLike, weights: npt.ArrayLike) -> FloatArray:
    """Agreement of more readers beyond chance under every row of weights (R, N): (R,).

    counts (N, categories): how many of the readers, the same number of each of N subjects, chose
    each category. p_o is the mean share of agreeing pairs of readers, p_e the sum of the squared
    shares of the categories (Fleiss 1971). nan where p_e is 1.
    """
    rows = np.asarray(weights, dtype=np.float64)
    rows = rows / rows.sum(axis=1, keepdims=True)
    chosen = np.asarray(counts, dtype=np.float64)
    readers = chosen.sum(axis=1)
    agreeing = (chosen * (chosen - 1)).sum(axis=1) / (readers * (readers - 1))
    shares = rows @ (chosen / readers[:, None])
    return _beyond_chance(rows @ agreeing, np.square(shares).sum(axis=1))


def agreement(answers: npt.NDArray[np.bool_], seed: int, resamples: int) -> Estimate | None:
    """Kappa of answers (readers, N), with its interval over resampled ECGs."""
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
    # Every ECG is a class that is never missed: no resample is drawn again.
    drawn = kappa(draw_resamples(np.ones((ecgs, 1)), resamples=resamples, seed=seed))
    return estimate(value, drawn[~np.isnan(drawn)])


def _beyond_chance(observed: FloatArray, by_chance: FloatArray) -> FloatArray:
    """(p_o - p_e) / (1 - p_e), nan where p_e is 1."""
    room = 1 - by_chance
    kappa: FloatArray = np.full(room.shape, np.nan)
    np.divide(observed - by_chance, room, out=kappa, where=room > 1e-12)
    return kappa
