"""Does a generated set look like the real one? Feature distances and spectra (numpy only).

Every distance is read beside the same distance between two halves of the real set, at the same
number of records: `compare_with_halves` does both. An absolute value says little, because with
fewer records than feature dimensions the Frechet distance of two samples of one law is far from 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import signal
from scipy.spatial.distance import cdist

from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.metrics import Estimate, FloatArray, estimate

#: Bands of `band_power_error` in hertz: baseline and P/T waves, QRS, its edges, noise and mains.
BANDS_HZ = ((0.5, 5.0), (5.0, 15.0), (15.0, 25.0), (25.0, 35.0), (35.0, 42.0), (42.0, 50.0))

#: Length of a Welch segment: 4 s resolve 0.25 Hz, half of the lowest band edge.
SEGMENT_S = 4.0

#: Smallest band power in mV², a signal of 10 nV: keeps the logarithm of a flat record finite.
POWER_FLOOR_MV2 = 1e-10

#: Repeated random halves behind a comparison with the real set.
HALVES = 50

#: Distances held at once: 2**23 float64 are 64 MiB.
DISTANCES_AT_ONCE = 2**23

#: (real features (n, F), other features (m, F)) -> a number.
FeatureScore = Callable[[FloatArray, FloatArray], float]


class Prdc(NamedTuple):
    """Improved precision and recall, density and coverage; near 1 is good, density may exceed 1."""

    precision: float
    recall: float
    density: float
    coverage: float


@dataclass(frozen=True)
class Comparison:
    """One distance, generated against real, beside real against real, at equal record counts.

    `score` and `reference` are the means over the repeated halves with the central 95 % of the
    repeats (the spread from which records were compared, not a confidence interval for another
    generator or another hospital); `excess` is the same for score − reference, paired by repeat.
    """

    score: Estimate
    reference: Estimate
    excess: Estimate
    records: int
    repeats: int

    def __str__(self) -> str:
        return f"{self.score} (real against real {self.reference}, {self.records} records each)"

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "score": self.score.to_dict(),
            "real_versus_real": self.reference.to_dict(),
            "excess": self.excess.to_dict(),
            "records": self.records,
            "repeats": self.repeats,
        }


@dataclass(frozen=True)
class FidelityResult:
    """Fidelity of a generated set, each number beside what real records score.

    band_power holds the errors of `band_power_error`, signed, by band; its reference lies around 0
    and tells by its spread which errors are noise.
    """

    frechet: Comparison
    prdc: dict[str, Comparison]
    band_power: dict[str, Comparison]
    real_records: int
    generated_records: int

    def rows(self) -> list[tuple[str, str, str]]:
        """(what, generated against real, real against real) for a table, header first."""
        rows = [("measure", "generated", "real against real")]
        for name, comparison in {"Frechet distance": self.frechet, **self.prdc}.items():
            rows.append((name, str(comparison.score), str(comparison.reference)))
        for band, error in self.band_power.items():
            rows.append(
                (f"log10 power error, {band}", _signed(error.score), _signed(error.reference))
            )
        return rows

    def __str__(self) -> str:
        return "\n".join("  ".join(row) for row in self.rows())

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "frechet_distance": self.frechet.to_dict(),
            **{name: comparison.to_dict() for name, comparison in self.prdc.items()},
            "log10_power_error": {k: error.to_dict() for k, error in self.band_power.items()},
            "real_records": self.real_records,
            "generated_records": self.generated_records,
        }


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
    first, second = _checked_pair(a, b)
    if min(len(first), len(second)) < 2:
        raise CorpusError(
            f"a covariance needs at least 2 records, got {len(first)} and {len(second)}"
        )
    step = first.mean(axis=0) - second.mean(axis=0)
    root_a, root_b = _covariance_root(first), _covariance_root(second)
    return _frechet(step, root_a, root_b)


def frechet_from_moments(
    mean_a: npt.ArrayLike, cov_a: npt.ArrayLike, mean_b: npt.ArrayLike, cov_b: npt.ArrayLike
) -> float:
    """`frechet_distance` of two Gaussians given by means (F,) and covariances (F, F).

    CorpusError for shapes that do not agree, or a covariance that is not symmetric and positive
    semidefinite.
    """
    means = [np.asarray(mean, dtype=np.float64) for mean in (mean_a, mean_b)]
    covariances = [np.asarray(cov, dtype=np.float64) for cov in (cov_a, cov_b)]
    size = means[0].size
    if any(m.shape != (size,) for m in means) or any(c.shape != (size, size) for c in covariances):
        raise CorpusError(
            f"expected means (F,) and covariances (F, F), got {[m.shape for m in means]} and "
            f"{[c.shape for c in covariances]}"
        )
    roots = []
    for covariance in covariances:
        values, vectors = np.linalg.eigh(covariance)
        slack = 1e-10 * max(np.abs(values).max(), np.finfo(np.float64).tiny)
        if not (np.allclose(covariance, covariance.T) and values.min() >= -slack):
            raise CorpusError(
                "a covariance must be symmetric and positive semidefinite, lowest eigenvalue "
                f"{values.min():.3g}"
            )
        roots.append(np.sqrt(np.maximum(values, 0))[:, None] * vectors.T)
    return _frechet(means[0] - means[1], roots[0], roots[1])


def prdc(real: npt.ArrayLike, generated: npt.ArrayLike, k: int = 5) -> Prdc:
    """Precision, recall (Kynkaanniemi et al. 2019), density, coverage (Naeem et al. 2020).

    real (n, F), generated (m, F). A ball around each record reaches to its k-th nearest neighbour
    in its own set. Precision: share of generated records in a real ball; recall: share of real
    records in a generated ball; density: mean number of real balls around a generated record,
    over k; coverage: share of real balls with a generated record in them. Balls are closed, so an
    exact copy counts. Memory is bounded whatever n and m. ConfigError for k < 1; CorpusError for
    sets of at most k records, other shapes or values that are not finite.
    """
    first, second = _checked_pair(real, generated)
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    if min(len(first), len(second)) <= k:
        raise CorpusError(
            f"prdc with k = {k} needs more than {k} records a set, got {len(first)} and "
            f"{len(second)}; lower k or compare more records"
        )
    real_radius, generated_radius = _radii(first, k), _radii(second, k)
    balls_around = np.zeros(len(second), dtype=np.int64)
    recalled = np.zeros(len(first), dtype=np.bool_)
    covered = np.zeros(len(first), dtype=np.bool_)
    for rows in _row_blocks(len(first), len(second)):
        distance = cdist(first[rows], second)
        in_real_ball = distance <= real_radius[rows, None]
        balls_around += in_real_ball.sum(axis=0)
        covered[rows] = in_real_ball.any(axis=1)
        recalled[rows] = (distance <= generated_radius).any(axis=1)
    return Prdc(
        precision=float((balls_around > 0).mean()),
        recall=float(recalled.mean()),
        density=float(balls_around.mean() / k),
        coverage=float(covered.mean()),
    )


def patient_halves(
    patients: npt.ArrayLike, rng: np.random.Generator, records: int | None = None
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Two random index arrays of equal length that share no patient.

    patients (N,); `records` is the length of each, at most (N + 1 − most records of one patient)
    // 2, which is the default. CorpusError where that is less than asked or than 1.
    """
    names = np.asarray(patients)
    if names.ndim != 1 or len(names) == 0:
        raise CorpusError(f"expected one patient per record, (N,), got shape {names.shape}")
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    most = (len(names) + 1 - int(np.bincount(patient_of).max())) // 2
    length = most if records is None else records
    if not 1 <= length <= most:
        raise CorpusError(
            f"two patient-disjoint halves of {len(names)} records hold up to {most} each, "
            f"asked for {length}; give more patients or ask for fewer"
        )
    order = np.argsort(rng.permutation(patient_of.max() + 1)[patient_of], kind="stable")
    return order[:length], order[-length:]


def compare_with_halves(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    score: FeatureScore = frechet_distance,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
) -> Comparison:
    """A distance between generated and real features beside the real-versus-real reference.

    Each repeat draws two patient-disjoint halves of the real set and as many generated records:
    the score compares the first half with the generated, the reference with the second half. Both
    rest on the same number of records, so the finite-sample bias is in both. real (n, F),
    generated (m, F), patients (n,) or none (every record its own), `records` per side (default:
    as many as both sets allow). CorpusError as in `patient_halves` and where `generated` has fewer
    records than asked; ConfigError for fewer than 2 repeats.
    """
    (comparison,) = _compare(
        real,
        generated,
        patients,
        lambda a, b: np.array([score(a, b)]),
        records=records,
        repeats=repeats,
        seed=seed,
    )
    return comparison


def band_power_error(
    real_mv: npt.ArrayLike, generated_mv: npt.ArrayLike, sampling_rate_hz: float
) -> dict[str, float]:
    """Mean log10 power of generated minus real records in each of `BANDS_HZ`, by band name.

    real_mv (n, leads, T) and generated_mv (m, leads, T') in millivolts, at the same rate. Welch
    spectra of 4 s segments; a record's power in a band is summed over leads and floored at 1e-10
    mV², then log10 is averaged over records, so that a few noisy records do not decide. +0.3 means
    twice the power. ConfigError for a rate below 100 Hz (the bands reach 50 Hz); CorpusError for
    other shapes, values that are not finite, or signals shorter than one segment.
    """
    real = _log_band_power(real_mv, sampling_rate_hz)
    generated = _log_band_power(generated_mv, sampling_rate_hz)
    return dict(zip(_band_names(), _mean_difference(real, generated).tolist(), strict=True))


def measure_fidelity(
    real_features: npt.ArrayLike,
    generated_features: npt.ArrayLike,
    real_mv: npt.ArrayLike,
    generated_mv: npt.ArrayLike,
    sampling_rate_hz: float,
    patients: npt.ArrayLike | None = None,
    *,
    k: int = 5,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
) -> FidelityResult:
    """All measures of this module for one generated set against one real set.

    Features (n, F) and (m, F) of one embedding, signals (n, leads, T) and (m, leads, T) of the same
    records in millivolts; the rest as in `compare_with_halves`, `prdc` and `band_power_error`, with
    their errors; CorpusError also where features and signals differ in number.
    """
    for features, signals in ((real_features, real_mv), (generated_features, generated_mv)):
        if len(np.asarray(features)) != len(np.asarray(signals)):
            raise CorpusError(
                f"expected features and signals of the same records, got "
                f"{len(np.asarray(features))} and {len(np.asarray(signals))}"
            )
    frechet, *neighbours = _compare(
        real_features,
        generated_features,
        patients,
        lambda a, b: np.array([frechet_distance(a, b), *prdc(a, b, k)]),
        records=records,
        repeats=repeats,
        seed=seed,
    )
    bands = _compare(
        _log_band_power(real_mv, sampling_rate_hz),
        _log_band_power(generated_mv, sampling_rate_hz),
        patients,
        _mean_difference,
        records=records,
        repeats=repeats,
        seed=seed,
    )
    return FidelityResult(
        frechet=frechet,
        prdc=dict(zip(Prdc._fields, neighbours, strict=True)),
        band_power=dict(zip(_band_names(), bands, strict=True)),
        real_records=len(np.asarray(real_features)),
        generated_records=len(np.asarray(generated_features)),
    )


def _compare(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    patients: npt.ArrayLike | None,
    scores: Callable[[FloatArray, FloatArray], FloatArray],
    *,
    records: int | None,
    repeats: int,
    seed: int,
) -> list[Comparison]:
    """`compare_with_halves` for several scores of the same halves: one Comparison each."""
    first, second = _checked_pair(real, generated)
    if repeats < 2:
        raise ConfigError(f"a spread needs at least 2 repeats, got {repeats}")
    names = np.arange(len(first)) if patients is None else np.asarray(patients)
    if names.shape != (len(first),):
        raise CorpusError(f"expected one patient per record, {len(first)}, got {names.shape}")
    rng = np.random.default_rng(seed)
    if records is None:
        records = min(len(patient_halves(names, rng)[0]), len(second))
    elif records > len(second):
        raise CorpusError(
            f"asked to compare {records} records a side, but only {len(second)} are generated"
        )
    by_repeat = []
    for _ in range(repeats):
        left, right = patient_halves(names, rng, records)
        picked = rng.permutation(len(second))[:records]
        by_repeat.append((scores(first[left], second[picked]), scores(first[left], first[right])))
    drawn = np.array(by_repeat)
    comparisons = []
    for score, reference in zip(drawn[:, 0].T, drawn[:, 1].T, strict=True):
        excess = score - reference
        comparisons.append(
            Comparison(
                score=estimate(score.mean(), score),
                reference=estimate(reference.mean(), reference),
                excess=estimate(excess.mean(), excess),
                records=records,
                repeats=repeats,
            )
        )
    return comparisons


def _checked_pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Two feature sets as float64; CorpusError unless (n, F) and (m, F) and finite."""
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise CorpusError(
            f"expected features (records, F) with one F, got {first.shape} and {second.shape}"
        )
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise CorpusError("expected finite features; the encoder or its input is not")
    return first, second


def _covariance_root(features: FloatArray) -> FloatArray:
    """R (min(n, F), F) with RᵀR the covariance of (n, F) features."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r"))


def _frechet(step: FloatArray, root_a: FloatArray, root_b: FloatArray) -> float:
    """|step|² + |R_a|² + |R_b|² − 2 |R_a R_bᵀ|_*, at least 0."""
    overlap = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    squared = step @ step + np.square(root_a).sum() + np.square(root_b).sum() - 2 * overlap
    return max(float(squared), 0.0)


def _radii(features: FloatArray, k: int) -> FloatArray:
    """Distance of each record to its k-th nearest other record: (n,)."""
    radii = np.empty(len(features))
    for rows in _row_blocks(len(features), len(features)):
        distance = cdist(features[rows], features)
        distance[np.arange(len(distance)), np.arange(rows.start, rows.start + len(distance))] = -1
        radii[rows] = np.partition(distance, k, axis=1)[:, k]
    return radii


def _row_blocks(rows: int, columns: int) -> list[slice]:
    """Slices of the rows of a distance matrix that hold a bounded number of distances each."""
    step = max(1, DISTANCES_AT_ONCE // columns)
    return [slice(start, start + step) for start in range(0, rows, step)]


def _band_names() -> list[str]:
    return [f"{low:g}-{high:g} Hz" for low, high in BANDS_HZ]


def _mean_difference(first: FloatArray, second: FloatArray) -> FloatArray:
    """Mean of second − mean of first, (bands,)."""
    return np.asarray(second.mean(axis=0) - first.mean(axis=0))


def _signed(error: Estimate) -> str:
    return f"{error.value:+.2f} [{error.low:+.2f}, {error.high:+.2f}]"


def _log_band_power(signals_mv: npt.ArrayLike, sampling_rate_hz: float) -> FloatArray:
    """log10 power in mV², summed over leads, of each record and band: (n, bands)."""
    if not 2 * BANDS_HZ[-1][1] <= sampling_rate_hz < np.inf:
        raise ConfigError(
            f"band powers up to {BANDS_HZ[-1][1]:g} Hz need a sampling rate of at least "
            f"{2 * BANDS_HZ[-1][1]:g} Hz, got {sampling_rate_hz}"
        )
    signals = np.asarray(signals_mv)
    segment = round(SEGMENT_S * sampling_rate_hz)
    if signals.ndim != 3 or len(signals) == 0 or signals.shape[2] < segment:
        raise CorpusError(
            f"expected signals (records, leads, at least {segment} samples), got {signals.shape}"
        )
    if not np.isfinite(signals).all():
        raise CorpusError("expected finite signals; drop or mend the records that are not")
    powers = np.empty((len(signals), len(BANDS_HZ)))
    for rows in _row_blocks(len(signals), signals[0].size * 4):
        frequency, density = signal.welch(
            signals[rows].astype(np.float64), sampling_rate_hz, nperseg=segment
        )
        by_record = density.sum(axis=1)
        for band, (low, high) in enumerate(BANDS_HZ):
            last = high == BANDS_HZ[-1][1]
            inside = (frequency >= low) & ((frequency < high) | (last & (frequency == high)))
            powers[rows, band] = by_record[:, inside].sum(axis=1) * frequency[1]
    return np.asarray(np.log10(np.maximum(powers, POWER_FLOOR_MV2)))
