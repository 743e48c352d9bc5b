"""Bootstrap over patients, with resamples expressed as record weights.

A resample is a row of record weights, (N,): a record drawn twice has weight 2, a record not drawn
has weight 0. Scores take a matrix of such rows, (R, N), so that a bootstrap is one call.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.arrays import FloatArray, checked_labels, undefined_classes
from ecgtransfer.statistics.estimates import Estimate, estimate

#: Bootstrap resamples for every interval: at 2000, each 2.5 % tail holds 50 resamples.
BOOTSTRAP_RESAMPLES = 2000

#: A resample that lacks a class is drawn again, at most this often per wanted resample. Nine
#: classes with one record each need about 60 draws.
DRAWS_PER_RESAMPLE = 1000

#: Weights converted to float64 at a time in a bootstrap: 2**22 take 32 MiB.
WEIGHTS_AT_ONCE = 2**22

#: (y_true (N, K), y_score (N, K), weights (R, N)) -> one score per row of weights, (R,).
WeightedScore = Callable[[npt.ArrayLike, npt.ArrayLike, npt.ArrayLike], FloatArray]


def draw_resamples(
    y_true: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    resamples: int = BOOTSTRAP_RESAMPLES,
    seed: int = 0,
) -> npt.NDArray[np.uint16]:
    """Count how often each record occurs in each bootstrap resample: (resamples, N).

    Each resample draws as many patients as there are, with replacement, and takes all their
    records. A resample without a positive or a negative record of a class that the whole set has is
    drawn again, so that every score is defined in every resample; intervals are conditional on
    this rule.

    Args:
        y_true: (N, K) multi-hot labels.
        patients: (N,) patient of each record; None makes every record its own patient.
        resamples: number of resamples, R.
        seed: seed of the draws.

    Raises:
        CorpusError: `patients` has another length, or 1000 draws per resample do not suffice.
        ConfigError: fewer than 2 resamples.
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
                "some class has too few patients for an interval; add records or exclude the class"
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
    """Compute `score` for every row of `resamples` (R, N) in chunks of rows: (R, ...)."""
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
    """Score with its 95 % percentile interval over resampled patients.

    Args:
        score: a function such as `evaluation.weighted_macro_auroc`.
        y_true: (N, K) multi-hot labels.
        y_score: (N, K) scores.
        patients: as in `draw_resamples`.
        resamples: as in `draw_resamples`.
        seed: as in `draw_resamples`.

    Raises:
        CorpusError: as in `draw_resamples`.
        ConfigError: as in `draw_resamples`.
    """
    draws = draw_resamples(y_true, patients, resamples=resamples, seed=seed)
    value = score(y_true, y_score, _whole(y_true))
    return estimate(float(value[0]), score_resamples(score, y_true, y_score, draws))


def _whole(y_true: npt.ArrayLike) -> FloatArray:
    """Weights of the original sample, (1, N): all ones."""
    return np.ones((1, len(checked_labels(y_true))))
