"""Can generated records be told from real ones: by a classifier, and by eye?

A classifier two-sample test asks the question of a machine (`two_sample_test`); a picture asks it
of the reader (`projection`), and cannot answer it: see there. scikit-learn does the fitting.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import dealt_folds
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import checked_pair
from ecgtransfer.evaluation.metrics import (
    macro_auroc,
)
from ecgtransfer.statistics import Estimate, FloatArray, share_estimate, streams, student_reach

Integers = npt.NDArray[np.int64]

#: Parts of the cross-validation: each classifier learns from four fifths of the records.
FOLDS = 5

#: Fewest patients a side that are tested: two of each side in each fold.
FEWEST_TESTED = 10

#: Resamples behind the interval of a test: they give the standard error to a tenth of itself, which
#: Student's quantile allows for, and each learns five classifiers.
RESAMPLES = 50

#: Inverse strength of the ridge of the linear classifier on standardised features, fixed before any
#: data were seen: features may outnumber records, and without it they separate any two sets.
RIDGE_C = 0.1

#: Trees of the boosted classifier, and leaves of each: enough for curved borders and pairs of
#: features, few enough for a quarter of a second on 1,600 records of 256 features.
TREES, LEAVES = 50, 8

#: Fewest records in a leaf, so that small sets can be split at all.
RECORDS_IN_A_LEAF = 5

Kind = Literal["linear", "boosted"]

#: The classifiers of the two-sample test: what differs in mean, and what differs in any other way.
KINDS: tuple[Kind, ...] = ("linear", "boosted")


@dataclass(frozen=True)
class TwoSampleTest:
    """How well a classifier tells two sets apart: AUC 0.5 not at all, 1 always.

    auc: with its 95 % interval over resampled patients. records: of each side, after classes were
    matched. kind: of the classifier.
    """

    auc: Estimate
    records: int
    kind: Kind

    def __str__(self) -> str:
        return f"{self.kind} two-sample AUC {self.auc}, {self.records} records a side"


def two_sample_test(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    generated_patients: npt.ArrayLike | None = None,
    *,
    labels: npt.ArrayLike | None = None,
    generated_labels: npt.ArrayLike | None = None,
    kind: Kind = "linear",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> TwoSampleTest:
    """Classifier two-sample test (Lopez-Paz and Oquab 2017), with the AUC as its statistic.

    A classifier learns to tell real (n, F) from generated (m, F) features on four fifths of the
    patients and scores the last fifth, five times; the AUC compares records of the same fifth. As
    many records of both sides take part; with `labels` (n, K) and `generated_labels` (m, K),
    as many of each combination of labels, so that a difference of class mix is no clue. `patients`
    (n,) and `generated_patients` (m,) keep the records of one patient in one fifth, a name on both
    sides being one patient; none means that every record is its own.

    "linear" is a logistic regression with a fixed ridge: it sees differences of means. "boosted"
    is gradient boosting: it sees others too, where records are many.

    The interval is the AUC ± Student's quantile times its standard error over bootstrapped
    patients, and at least that of a share of so many patients. Each resample learns anew, which
    costs `resamples` tests and cannot be spared: with the classifiers left as they are, 95 %
    intervals covered the expected AUC in 84 to 96 % of simulated repetitions, and worst where the
    sets do not differ; so they cover in 96 to 99 %. A patient drawn twice lies in one fold, so that
    nobody learns from his own double. The percentiles of the resamples are no interval: with fewer
    different patients classifiers learn less.

    ConfigError for another kind or fewer than 2 resamples. CorpusError for fewer than 10 patients
    a side, labels or patients of other lengths, labels of one side alone, or bad features.
    """
    first, second = checked_pair(real, generated)
    groups = shared_groups(_names(patients, len(first)), _names(generated_patients, len(second)))
    if resamples < 2:
        raise ConfigError(f"an interval needs at least 2 resamples, got {resamples}")
    rng = np.random.default_rng(seed)
    if (labels is None) != (generated_labels is None):
        raise CorpusError("expected labels of both sides or of none, got one; add the others")
    if labels is not None and generated_labels is not None:
        pattern, generated_pattern = label_patterns(labels, generated_labels)
        if len(pattern) != len(first) or len(generated_pattern) != len(second):
            raise CorpusError(
                f"expected labels of the same records, {len(first)} and {len(second)}, got "
                f"{len(pattern)} and {len(generated_pattern)}"
            )
        left, right = matched(pattern, generated_pattern, rng)
    else:
        size = min(len(first), len(second))
        left, right = rng.permutation(len(first))[:size], rng.permutation(len(second))[:size]
    a, b = first[left], second[right]
    sides = groups[0][left], groups[1][right]
    if min(len(np.unique(side)) for side in sides) < FEWEST_TESTED:
        raise CorpusError(
            f"a two-sample test needs at least {FEWEST_TESTED} patients a side, got "
            f"{[len(np.unique(side)) for side in sides]} of matching classes"
        )
    value = cross_validated_auc(a, b, np.concatenate(sides), kind, seed)
    again = []
    for number in range(resamples):
        i, j = (_resampled_patients(side, rng) for side in sides)
        drawn = np.concatenate([sides[0][i], sides[1][j]])
        again.append(cross_validated_auc(a[i], b[j], drawn, kind, seed + number))
    patients_a_side = min(len(np.unique(side)) for side in sides)
    auc = share_estimate(value, student_reach(np.array(again), 1.0), patients_a_side)
    return TwoSampleTest(auc=auc, records=len(left), kind=kind)


def cross_validated_auc(
    first: FloatArray, second: FloatArray, patients: Integers, kind: Kind, seed: int
) -> float:
    """AUC of held-out records for being of the second of two sets (n, F) and (m, F).

    patients (n + m,) numbers the patient of each record, first set first. Scores of two classifiers
    have no common scale, so records are compared within a fold; folds count by their pairs.
    CorpusError for fewer than 5 patients a side, ConfigError for another kind.
    """
    features = np.concatenate([first, second])
    is_second = np.repeat([False, True], [len(first), len(second)])
    fold = _folds(patients, is_second, streams.generator(seed, streams.TWO_SAMPLE_FOLDS))
    learn = _learner(kind)
    area = pairs = 0.0
    for k in range(FOLDS):
        held = fold == k
        sides = np.bincount(is_second[held], minlength=2)
        if sides.min() == 0:
            continue
        scores = learn(features[~held], is_second[~held], features[held])
        of_fold = float(sides.prod())
        area += of_fold * macro_auroc(is_second[held, None], scores[:, None])
        pairs += of_fold
    return area / pairs


def shared_groups(*sides: npt.NDArray[np.generic] | int) -> tuple[Integers, ...]:
    """Patients of several sets numbered together, an array of numbers for each set.

    A name that occurs in two sets is one patient. A count stands for that many patients who occur
    nowhere else.
    """
    named = [side.astype(str) for side in sides if not isinstance(side, int)]
    together = np.concatenate([np.empty(0, dtype=str), *named])
    known = np.unique(together, return_inverse=True)[1].reshape(-1).astype(np.int64)
    unnamed = len(known)
    groups = []
    for side in sides:
        if isinstance(side, int):
            groups.append(np.arange(unnamed, unnamed + side))
            unnamed += side
        else:
            groups.append(known[: len(side)])
            known = known[len(side) :]
    return tuple(groups)


def label_patterns(*labels: npt.ArrayLike) -> tuple[Integers, ...]:
    """A number for each combination of labels of several sets (n, K), an array for each set."""
    sets = [np.asarray(side) > 0 for side in labels]
    if any(side.ndim != 2 or side.shape[1] != sets[0].shape[1] for side in sets):
        raise CorpusError(
            f"expected labels (records, K) with one K, got {[side.shape for side in sets]}"
        )
    if not sets:
        return ()
    number = np.unique(np.concatenate(sets), axis=0, return_inverse=True)[1]
    ends = np.cumsum([len(side) for side in sets])[:-1]
    return tuple(np.split(number.reshape(-1).astype(np.int64), ends))


def matched(
    first: Integers, second: Integers, rng: np.random.Generator, *, most_of_second: float = 1.0
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Random records of two sets with as many of each pattern, (n,) and (m,), as both have.

    Of each pattern of the second set at most the share `most_of_second` is taken.
    """
    left, right = [], []
    for pattern in np.intersect1d(first, second):
        a, b = np.flatnonzero(first == pattern), np.flatnonzero(second == pattern)
        size = min(len(a), int(most_of_second * len(b)))
        left.append(rng.permutation(a)[:size])
        right.append(rng.permutation(b)[:size])
    nothing = np.empty(0, dtype=np.intp)
    return np.concatenate([nothing, *left]), np.concatenate([nothing, *right])


def _names(patients: npt.ArrayLike | None, records: int) -> npt.NDArray[np.generic] | int:
    """Patients as an array, or their number where every record is its own."""
    if patients is None:
        return records
    names = np.asarray(patients)
    if names.shape != (records,):
        raise CorpusError(f"expected one patient per record, {records}, got shape {names.shape}")
    return names


def _resampled_patients(patients: Integers, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """Records of patients (n,) drawn with replacement, as many as there are, at least five."""
    names, number = np.unique(patients, return_inverse=True)
    times = np.zeros(len(names), dtype=np.int64)
    while np.count_nonzero(times) < FOLDS:
        times = np.bincount(rng.integers(0, len(names), len(names)), minlength=len(names))
    return np.repeat(np.arange(len(patients)), times[number.reshape(-1)])


def _folds(
    patients: Integers, is_second: npt.NDArray[np.bool_], rng: np.random.Generator
) -> Integers:
    """The fold of each record (N,): patients of each side dealt out in turn, in random order."""
    sides = np.column_stack([~is_second, is_second])
    counts = [len(np.unique(patients[side])) for side in sides.T]
    if min(counts) < FOLDS:
        raise CorpusError(f"cross-validation needs at least {FOLDS} patients a side, got {counts}")
    return dealt_folds(patients, FOLDS, rng, sides)


def _learner(
    kind: Kind,
) -> Callable[[FloatArray, npt.NDArray[np.bool_], FloatArray], FloatArray]:
    """(features, is second, features to score) -> scores, of one kind of classifier."""
    if kind == "linear":
        return _linear
    if kind == "boosted":
        return _boosted
    raise ConfigError(f"unknown classifier {kind!r}; expected one of {', '.join(KINDS)}")


def _linear(
    features: FloatArray, is_second: npt.NDArray[np.bool_], asked: FloatArray
) -> FloatArray:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    scale = StandardScaler().fit(features)
    model = LogisticRegression(C=RIDGE_C, max_iter=1000)
    model.fit(scale.transform(features), is_second)
    return np.asarray(model.decision_function(scale.transform(asked)))


def _boosted(
    features: FloatArray, is_second: npt.NDArray[np.bool_], asked: FloatArray
) -> FloatArray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=TREES,
        max_leaf_nodes=LEAVES,
        min_samples_leaf=RECORDS_IN_A_LEAF,
        early_stopping=False,
        random_state=0,
    )
    return np.asarray(model.fit(features, is_second).decision_function(asked))
