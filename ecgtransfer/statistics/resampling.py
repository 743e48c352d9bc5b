"""Bootstrap over patients: resamples as record weights, and the interval of a score under them.

A resample is a row of record weights, (N,): a record drawn twice has weight 2, a record not drawn
has weight 0. Scores take a matrix of such rows, (R, N), so that a bootstrap is one call.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics.arrays import FloatArray, checked_labels, undefined_classes
from ecgtransfer.statistics.estimates import Estimate, estimate

#: Bootstrap resamples behind every interval: at 2000, each 2.5 % end point rests on 50 resamples.
BOOTSTRAP_RESAMPLES = 2000

#: A resample without one of the classes is drawn again; this many draws per wanted resample, then
#: the set is refused: nine classes of one record each need about 60.
DRAWS_PER_RESAMPLE = 1000

#: Weights turned to float64 at once in a bootstrap: 2**22 are 32 MiB.
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

    `score` is a function such as `evaluation.weighted_macro_auroc`. Resamples and errors as in
    `draw_resamples`.
    """
    draws = draw_resamples(y_true, patients, resamples=resamples, seed=seed)
    value = score(y_true, y_score, _whole(y_true))
    return estimate(float(value[0]), score_resamples(score, y_true, y_score, draws))


def _whole(y_true: npt.ArrayLike) -> FloatArray:
    """Weights of the records as they are, (1, N): all ones."""
    return np.ones((1, len(checked_labels(y_true))))
