"""How far apart are two sets of ECGs? Measures of features, without intervals.

Each takes two sets and gives a number. None of them means much alone: `fidelity` reads each beside
the same measure of two halves of the real set, at the same number of records.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist, pdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.statistics import (
    FloatArray,
)

#: Numbers held at once: 2**23 float64 are 64 MiB.
DISTANCES_AT_ONCE = 2**23

#: Records a set for each feature from which on the Frechet distance is extrapolated.
FREE_OF_BIAS = 2

#: Records behind a median distance: two million pairs fix the median to its third digit.
MEDIAN_RECORDS = 2000

#: Eigenvalues of a similarity matrix below this share are rounding, not kinds of records.
SMALLEST_EIGENVALUE = 1e-12


class Prdc(NamedTuple):
    """Improved precision and recall, density and coverage; near 1 is good, density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean (F,) of a feature set and R (min(n, F), F) with RᵀR its covariance."""

    mean: FloatArray
    root: FloatArray


@dataclass(frozen=True, eq=False)
class Distances:
    """Euclidean distances of `rows` records to `columns` others, read a block of rows at a time.

    `read` gives the distances of a slice of rows, (rows in it, columns). Measures of neighbours and
    kernels are written once on this, whether the distances are computed or looked up.
    """

    rows: int
    columns: int
    read: Callable[[slice], npt.NDArray[np.floating]]

    @classmethod
    def between(cls, a: FloatArray, b: FloatArray) -> "Distances":
        """Computed when read, of features (n, F) to features (m, F)."""
        return cls(len(a), len(b), lambda rows: cdist(a[rows], b))

    @classmethod
    def stored(cls, matrix: npt.NDArray[np.floating]) -> "Distances":
        """Looked up in a matrix (n, m)."""
        return cls(matrix.shape[0], matrix.shape[1], lambda rows: matrix[rows])

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.floating]]]:
        """Slices of rows with their distances, a bounded number at once."""
        for rows in row_blocks(self.rows, self.columns):
            yield rows, self.read(rows)


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Squared Frechet distance of the Gaussians fitted to two feature sets (n, F) and (m, F).

    |μ_a − μ_b|² + tr(S_a + S_b − 2 (S_a^½ S_b S_a^½)^½) (Dowson and Landau 1982; Heusel et al.
    2017, whose "FID" is this squared form). With S_a = R_aᵀ R_a and S_b = R_bᵀ R_b the last trace
    is the sum of the singular values of R_a R_bᵀ, exact also for singular covariances; no
    symmetrised product, no added diagonal. Covariances divide by n − 1.

    The estimate is biased upwards by a term that falls as 1/n and grows with F; for n < F it is
    mostly bias. Compare only values of equal n and m (`compare_with_halves`). CorpusError for
    fewer than 2 records, other shapes or values that are not finite.
    """
    first, second = checked_pair(a, b)
    _require(first, second, 2, "a covariance")
    return frechet_of_moments(moments(first), moments(second))


def frechet_limit(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """`frechet_distance` extrapolated to infinitely many records: 2 D(n) − D(n/2).

    The bias of the distance is proportional to 1/n where records are many, so doubling the value
    and taking away that of half the records leaves it out (Chong and Forsyth 2020 fit a line to
    more sizes). D(n/2) is the mean of the first halves against each other and the second ones, so
    give records in random order. About 0 for sets of one law, so it may be negative. CorpusError
    for fewer than 2 F records a set, where the bias has another form (simulated: from there on less
    than a tenth of it is left), for other shapes or values that are not finite.
    """
    first, second = checked_pair(a, b)
    least = max(4, FREE_OF_BIAS * first.shape[1])
    _require(first, second, least, f"the extrapolated distance of {first.shape[1]} features")
    halves = zip(half_moments(first), half_moments(second), strict=True)
    return extrapolated((moments(first), moments(second)), list(halves))


def moments(features: FloatArray) -> Moments:
    """Mean and root of the covariance of features (n, F) of at least 2 records."""
    mean = features.mean(axis=0)
    centred = (features - mean) / np.sqrt(len(features) - 1)
    return Moments(mean, np.asarray(np.linalg.qr(centred, mode="r")))


def frechet_of_moments(a: Moments, b: Moments) -> float:
    """|μ_a − μ_b|² + |R_a|² + |R_b|² − 2 |R_a R_bᵀ|_*, at least 0."""
    step = a.mean - b.mean
    overlap = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    squared = step @ step + np.square(a.root).sum() + np.square(b.root).sum() - 2 * overlap
    return max(float(squared), 0.0)


def half_moments(features: FloatArray) -> tuple[Moments, Moments]:
    """`moments` of the first and of the second half of at least 4 records."""
    half = len(features) // 2
    return moments(features[:half]), moments(features[half : 2 * half])


def extrapolated(
    whole: tuple[Moments, Moments], halves: Sequence[tuple[Moments, Moments]]
) -> float:
    """2 D(whole) − mean D(halves), each a pair of moments."""
    at_half = float(np.mean([frechet_of_moments(a, b) for a, b in halves]))
    return 2 * frechet_of_moments(*whole) - at_half


def prdc(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 5) -> Prdc:
    """Precision, recall (Kynkaanniemi et al. 2019), density, coverage (Naeem et al. 2020).

    real (n, F), generated (m, F). A ball around each record reaches to its k-th nearest neighbour
    in its own set. Precision: share of generated records in a real ball; recall: share of real
    records in a generated ball; density: mean number of real balls around a generated record,
    over k; coverage: share of real balls with a generated record in them. Balls are closed, so an
    exact copy counts. Memory is bounded whatever n and m. ConfigError for k < 1; CorpusError for
    sets of at most k records, other shapes or values that are not finite.
    """
    first, second = checked_pair(real, generated)
    check_neighbours(len(first), len(second), k, "prdc")
    return prdc_of_distances(
        Distances.between(first, second),
        radii(Distances.between(first, first), k),
        radii(Distances.between(second, second), k),
        k,
    )


def radii(within: Distances, k: int) -> FloatArray:
    """Distance of each record of a set to its k-th nearest other record: (n,)."""
    reach = np.empty(within.rows)
    for rows, distance in within.blocks():
        reach[rows] = np.partition(_without_itself(distance, rows, -1), k, axis=1)[:, k]
    return reach


def prdc_of_distances(
    between: Distances, real_radii: FloatArray, generated_radii: FloatArray, k: int
) -> Prdc:
    """`prdc` from distances real to generated (n, m) and the `radii` of both sets."""
    balls_around = np.zeros(between.columns, dtype=np.int64)
    recalled = np.zeros(between.rows, dtype=np.bool_)
    covered = np.zeros(between.rows, dtype=np.bool_)
    for rows, distance in between.blocks():
        in_real_ball = distance <= real_radii[rows, None]
        balls_around += in_real_ball.sum(axis=0)
        covered[rows] = in_real_ball.any(axis=1)
        recalled[rows] = (distance <= generated_radii).any(axis=1)
    return Prdc(
        precision=float((balls_around > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls_around.mean() / k),
        coverage=float(covered.mean()),
    )


def neighbour_mixing(a: npt.ArrayLike, b: npt.ArrayLike, k: int = 5) -> float:
    """Share of the k nearest neighbours, in both sets together, that are of the other set.

    The statistic of Schilling (1986) and Henze (1988), counted the other way round. a (n, F) and b
    (m, F); mean over all n + m records. Sets of one law score 2nm / ((n + m)(n + m − 1)), just
    above 1/2 for n = m; sets that nothing joins score 0. Unlike a picture it is taken in the whole
    feature space. ConfigError for k < 1; CorpusError for sets of at most k records, other shapes
    or values that are not finite.
    """
    first, second = checked_pair(a, b)
    check_neighbours(len(first), len(second), k, "neighbour mixing")
    return mixing_of_distances(
        Distances.between(first, first),
        Distances.between(second, second),
        Distances.between(first, second),
        Distances.between(second, first),
        k,
    )


def mixing_of_distances(
    within_a: Distances, within_b: Distances, a_to_b: Distances, b_to_a: Distances, k: int
) -> float:
    """`neighbour_mixing` from the distances within and between two sets."""
    others = 0
    for within, across in ((within_a, a_to_b), (within_b, b_to_a)):
        for rows in row_blocks(within.rows, within.columns + across.columns):
            own = _without_itself(within.read(rows), rows, np.inf)
            nearest = np.argpartition(np.concatenate([own, across.read(rows)], axis=1), k - 1)
            others += int((nearest[:, :k] >= within.columns).sum())
    return others / (k * (within_a.rows + within_b.rows))


def median_distance(features: npt.ArrayLike) -> float:
    """Median Euclidean distance between records of (n, F): the usual width of a Gaussian kernel.

    The median heuristic of Gretton et al. (2012, section 8). Of more than 2,000 records, as many
    evenly spaced ones are taken. CorpusError where half of the pairs coincide or for fewer than 2
    records.
    """
    values, _ = checked_pair(features, features)
    _require(values, values, 2, "a distance")
    few = values[np.linspace(0, len(values) - 1, min(len(values), MEDIAN_RECORDS)).astype(int)]
    median = float(np.median(pdist(few)))
    if not median > 0:
        raise CorpusError(
            f"expected records that differ, but half of the pairs of {len(values)} have the same "
            "features; use another embedding or other records"
        )
    return median


def mmd(a: npt.ArrayLike, b: npt.ArrayLike, bandwidth: float | None = None) -> float:
    """Squared maximum mean discrepancy of two feature sets (n, F) and (m, F), without bias.

    Σ_{i≠j} κ(a_i, a_j) / n(n−1) + Σ_{i≠j} κ(b_i, b_j) / m(m−1) − 2 Σ κ(a_i, b_j) / nm (Gretton et
    al. 2012, eq. 3) with κ(u, v) = exp(−|u − v|² / 2 w²). Chosen over the cubic kernel of the "KID"
    (Binkowski et al. 2018) because no difference of laws escapes a Gaussian kernel, and because it
    is bounded: a few records far away cannot rule it, and the value lies in [−2, 2]. Its mean is 0
    for sets of one law, whatever their size, so it may be negative.

    `bandwidth` is w, by default the `median_distance` within a, so give the real set first; values
    compare only at one bandwidth. ConfigError for one that is not positive; CorpusError for fewer
    than 2 records, other shapes or values that are not finite.
    """
    first, second = checked_pair(a, b)
    _require(first, second, 2, "an unbiased mean discrepancy")
    width = median_distance(first) if bandwidth is None else _checked_bandwidth(bandwidth)
    return (
        mean_kernel(Distances.between(first, first), width, within=True)
        + mean_kernel(Distances.between(second, second), width, within=True)
        - 2 * mean_kernel(Distances.between(first, second), width, within=False)
    )


def mean_kernel(distances: Distances, bandwidth: float, *, within: bool) -> float:
    """Mean of κ over pairs; `within` one set, over the pairs of two different records."""
    total = sum(
        float(gaussian_kernel(distance, bandwidth).sum(dtype=np.float64))
        for _, distance in distances.blocks()
    )
    if within:
        return (total - distances.rows) / (distances.rows * (distances.rows - 1))
    return total / (distances.rows * distances.columns)


def gaussian_kernel(
    distance: npt.NDArray[np.floating], bandwidth: float
) -> npt.NDArray[np.floating]:
    """κ = exp(−distance² / 2 bandwidth²)."""
    return np.asarray(np.exp(-0.5 * np.square(distance / bandwidth)))


def vendi_score(similarity: npt.ArrayLike) -> float:
    """Effective number of different records: exp(−Σ λ ln λ), λ the eigenvalues of K / n.

    Friedman and Dieng (2023, eq. 1). K (n, n) is symmetric, positive semidefinite, with ones on
    its diagonal: 1 for records that are all alike, n for records that have nothing in common. It
    counts kinds, so that a set of a few prototypes scores their number, however far apart they
    are. It grows with n: compare sets of equal size. CorpusError for another matrix.
    """
    kernel = np.asarray(similarity, dtype=np.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or 0 in kernel.shape:
        raise CorpusError(f"expected similarities (records, records), got shape {kernel.shape}")
    if not (np.allclose(np.diag(kernel), 1, atol=1e-6) and np.allclose(kernel, kernel.T)):
        raise CorpusError("expected symmetric similarities with ones on the diagonal")
    share = np.linalg.eigvalsh(kernel / len(kernel))
    if share.min() < -1e-6:
        raise CorpusError(
            f"expected positive semidefinite similarities, lowest eigenvalue {share.min():.3g}"
        )
    share = share[share > SMALLEST_EIGENVALUE]
    return float(np.exp(-(share * np.log(share)).sum()))


def checked_pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Two feature sets as float64; CorpusError unless (n, F) and (m, F) and finite."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise CorpusError(
            f"expected features (records, F) with one F, got {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise CorpusError("expected finite features; the encoder or its input is not")
    return first, second


def check_neighbours(first: int, second: int, k: int, what: str) -> None:
    """ConfigError for k < 1; CorpusError where a set has no k other records for each of its own."""
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    if min(first, second) <= k:
        raise CorpusError(
            f"{what} with k = {k} needs more than {k} records a set, got {first} and {second}; "
            "lower k or compare more records"
        )


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Slices of the rows of a distance matrix that hold a bounded number of distances each."""
    step = max(1, DISTANCES_AT_ONCE // columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _without_itself(
    distance: npt.NDArray[np.floating], rows: slice, instead: float
) -> npt.NDArray[np.floating]:
    """A copy of distances within a set with those of each record to itself replaced."""
    changed = distance.copy()
    changed[np.arange(len(changed)), np.arange(rows.start, rows.start + len(changed))] = instead
    return changed


def _require(first: FloatArray, second: FloatArray, least: int, what: str) -> None:
    if min(len(first), len(second)) < least:
        raise CorpusError(
            f"{what} needs at least {least} records, got {len(first)} and {len(second)}"
        )


def _checked_bandwidth(bandwidth: float) -> float:
    if not 0 < bandwidth < np.inf:
        raise ConfigError(f"a bandwidth must be positive and finite, got {bandwidth}")
    return bandwidth
