"""Distances between two sets of features, without intervals.

A single value means little. `fidelity` therefore compares each value with that of two halves of the
real set, at the same number of records.
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

#: Largest number of distances in memory: 2**23 float64 are 64 MiB.
DISTANCES_AT_ONCE = 2**23

#: Fewest records per set and feature for which the Frechet distance is extrapolated.
FREE_OF_BIAS = 2

#: Most records for a median distance: two million pairs determine it to three digits.
MEDIAN_RECORDS = 2000

#: Eigenvalues of a similarity matrix up to this value are rounding errors and are ignored.
SMALLEST_EIGENVALUE = 1e-12


class Prdc(NamedTuple):
    """Precision, recall, density and coverage; see `prdc`. 1 is good, density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of a feature set.

    Attributes:
        mean: mean (F,).
        root: R, (min(n, F), F), where RᵀR is the covariance.
    """

    mean: FloatArray
    root: FloatArray


@dataclass(frozen=True, eq=False)
class Distances:
    """Euclidean distances from `rows` records to `columns` others, read in blocks of rows.

    Measures of neighbours and kernels work on this class, whether the distances are computed when
    read or stored in a matrix.

    Attributes:
        rows: number of records.
        columns: number of other records.
        read: function from a slice of rows to their distances, (rows in the slice, columns).
    """

    rows: int
    columns: int
    read: Callable[[slice], npt.NDArray[np.floating]]

    @classmethod
    def between(cls, a: FloatArray, b: FloatArray) -> "Distances":
        """Distances from features (n, F) to features (m, F), computed when read."""
        return cls(len(a), len(b), lambda rows: cdist(a[rows], b))

    @classmethod
    def stored(cls, matrix: npt.NDArray[np.floating]) -> "Distances":
        """Distances stored in a matrix (n, m)."""
        return cls(matrix.shape[0], matrix.shape[1], lambda rows: matrix[rows])

    def blocks(self) -> Iterator[tuple[slice, npt.NDArray[np.floating]]]:
        """Yield slices of rows with their distances, at most `DISTANCES_AT_ONCE` at a time."""
        for rows in row_blocks(self.rows, self.columns):
            yield rows, self.read(rows)


def frechet_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Squared Frechet distance of the Gaussians fitted to two feature sets (n, F) and (m, F).

    |μ_a − μ_b|² + tr(S_a + S_b − 2 (S_a^½ S_b S_a^½)^½) (Dowson and Landau 1982; Heusel et al.
    2017, whose "FID" is this squared form). With S_a = R_aᵀ R_a and S_b = R_bᵀ R_b the last trace
    is the sum of the singular values of R_a R_bᵀ. This is exact for singular covariances too, and
    needs neither a symmetrised product nor a regularised diagonal. Covariances divide by n − 1.

    The estimate is biased upwards by a term that falls as 1/n and grows with F; for n < F it is
    mostly bias. Compare only values with equal n and m (`compare_with_halves`).

    Raises:
        CorpusError: a set has fewer than 2 records, another shape, or values that are not finite.
    """
    first, second = checked_pair(a, b)
    _require(first, second, 2, "a covariance")
    return frechet_of_moments(moments(first), moments(second))


def frechet_limit(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """`frechet_distance` extrapolated to infinitely many records: 2 D(n) − D(n/2).

    With many records the bias is proportional to 1/n, so it cancels in this difference (Chong and
    Forsyth 2020 fit a line to more sizes). D(n/2) is the mean distance of the two first halves and
    of the two second halves, so the records must be in random order. The result is about 0 for two
    sets of one distribution and may be negative. With fewer than 2 F records the bias has another
    form; in simulations less than a tenth of it remained from there on.

    Raises:
        CorpusError: a set has fewer than 2 F records, another shape, or values that are not finite.
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
    """2 D(whole) − mean D(halves), where each D is the distance of a pair of moments."""
    at_half = float(np.mean([frechet_of_moments(a, b) for a, b in halves]))
    return 2 * frechet_of_moments(*whole) - at_half


def prdc(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 5) -> Prdc:
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020).

    Each record is the centre of a closed ball that reaches to its k-th nearest neighbour in its own
    set.
    - Precision: share of generated records inside a real ball.
    - Recall: share of real records inside a generated ball.
    - Density: mean number of real balls that contain a generated record, divided by k.
    - Coverage: share of real balls that contain a generated record.
    The memory is bounded for any n and m.

    Args:
        real: features (n, F).
        generated: features (m, F).
        k: number of neighbours.

    Raises:
        ConfigError: k is below 1.
        CorpusError: a set has at most k records, another shape, or values that are not finite.
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
    """Distance from each record of a set to its k-th nearest other record: (n,)."""
    reach = np.empty(within.rows)
    for rows, distance in within.blocks():
        reach[rows] = np.partition(_without_itself(distance, rows, -1), k, axis=1)[:, k]
    return reach


def prdc_of_distances(
    between: Distances, real_radii: FloatArray, generated_radii: FloatArray, k: int
) -> Prdc:
    """`prdc` from the distances real to generated, (n, m), and the `radii` of both sets."""
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
    """Share of the k nearest neighbours in the union of two sets that belong to the other set.

    It is one minus the statistic of Schilling (1986) and Henze (1988), a mean over all n + m
    records. Its expectation is 2nm / ((n + m)(n + m − 1)) for sets of one distribution, just above
    1/2 for n = m, and 0 for sets that are far apart. Unlike a two-dimensional map, it uses the full
    feature space.

    Args:
        a: features (n, F).
        b: features (m, F).
        k: number of neighbours.

    Raises:
        ConfigError: k is below 1.
        CorpusError: a set has at most k records, another shape, or values that are not finite.
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
    """Median Euclidean distance between records (n, F), the usual width of a Gaussian kernel.

    This is the median heuristic of Gretton et al. (2012, section 8). If there are more than
    `MEDIAN_RECORDS` records, it uses that many, evenly spaced.

    Raises:
        CorpusError: there are fewer than 2 records, or half of the pairs coincide.
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
    """Unbiased squared maximum mean discrepancy of two feature sets (n, F) and (m, F).

    Σ_{i≠j} κ(a_i, a_j) / n(n−1) + Σ_{i≠j} κ(b_i, b_j) / m(m−1) − 2 Σ κ(a_i, b_j) / nm (Gretton et
    al. 2012, eq. 3) with κ(u, v) = exp(−|u − v|² / 2 w²). We use this kernel instead of the cubic
    kernel of the "KID" (Binkowski et al. 2018) because it is characteristic, so it detects every
    difference of distributions, and bounded, so a few outliers cannot dominate. The value lies in
    [−2, 2]. Its expectation is 0 for sets of one distribution and any size, so it may be negative.

    Args:
        a: features (n, F) of the real set.
        b: features (m, F) of the other set.
        bandwidth: w; by default the `median_distance` of `a`. Compare only values with the same
            bandwidth.

    Raises:
        ConfigError: the bandwidth is not positive and finite.
        CorpusError: a set has fewer than 2 records, another shape, or values that are not finite.
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
    """Mean of κ over all pairs; if `within` one set, over pairs of two different records."""
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
    """Effective number of different records: exp(−Σ λ ln λ), where λ are the eigenvalues of K / n.

    Friedman and Dieng (2023, eq. 1). The score is 1 if all records are equal and n if they have
    nothing in common. A set of copies of a few prototypes scores the number of prototypes, however
    far apart they are. The score grows with n, so compare sets of equal size.

    Args:
        similarity: K, (n, n): symmetric, positive semidefinite, with ones on the diagonal.

    Raises:
        CorpusError: the matrix is not of this kind.
    """
    kernel = np.asarray(similarity, dtype=np.float64)
    if kernel.ndim != 2 or kernel.shape[0] != kernel.shape[1] or 0 in kernel.shape:
        raise CorpusError(
            f"expected similarities (records, records), got shape {kernel.shape}; pass a kernel "
            "matrix"
        )
    if not (np.allclose(np.diag(kernel), 1, atol=1e-6) and np.allclose(kernel, kernel.T)):
        raise CorpusError(
            "expected symmetric similarities with ones on the diagonal, got others; pass a kernel "
            "matrix"
        )
    share = np.linalg.eigvalsh(kernel / len(kernel))
    if share.min() < -1e-6:
        raise CorpusError(
            f"expected positive semidefinite similarities, got a lowest eigenvalue of "
            f"{share.min():.3g}; pass a kernel matrix"
        )
    share = share[share > SMALLEST_EIGENVALUE]
    return float(np.exp(-(share * np.log(share)).sum()))


def checked_pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Check two feature sets and convert them to float64.

    Raises:
        CorpusError: they are not (n, F) and (m, F), or a value is not finite.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise CorpusError(
            f"expected features (records, F) with one F, got shapes {first.shape} and "
            f"{second.shape}; compute both by one encoder"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise CorpusError(
            "expected finite features, got some that are not; check the encoder and its input"
        )
    return first, second


def check_neighbours(first: int, second: int, k: int, what: str) -> None:
    """Check that every record has k other records in its set.

    Raises:
        ConfigError: k is below 1.
        CorpusError: a set has at most k records.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}; raise it")
    if min(first, second) <= k:
        raise CorpusError(
            f"{what} with k = {k} needs more than {k} records per set, got {first} and {second}; "
            "lower k or compare more records"
        )


def row_blocks(rows: int, columns: int) -> list[slice]:
    """Slices of the rows of a distance matrix with at most `DISTANCES_AT_ONCE` distances each."""
    step = max(1, DISTANCES_AT_ONCE // columns)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _without_itself(
    distance: npt.NDArray[np.floating], rows: slice, instead: float
) -> npt.NDArray[np.floating]:
    """Copy distances within a set and replace the distance of each record to itself."""
    changed = distance.copy()
    changed[np.arange(len(changed)), np.arange(rows.start, rows.start + len(changed))] = instead
    return changed


def _require(first: FloatArray, second: FloatArray, least: int, what: str) -> None:
    if min(len(first), len(second)) < least:
        raise CorpusError(
            f"{what} needs at least {least} records, got {len(first)} and {len(second)}; give more"
        )


def _checked_bandwidth(bandwidth: float) -> float:
    if not 0 < bandwidth < np.inf:
        raise ConfigError(f"a bandwidth must be positive and finite, got {bandwidth}; change it")
    return bandwidth
