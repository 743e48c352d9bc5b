"""All measures of fidelity over repeated halves, with the two-sample tests of each repeat."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ecgtransfer.evaluation.answer import StepsDone
from ecgtransfer.evaluation.distances import (
    FREE_OF_BIAS,
    Distances,
    Moments,
    Prdc,
    check_neighbours,
    extrapolated,
    frechet_of_moments,
    gaussian_kernel,
    half_moments,
    mean_kernel,
    median_distance,
    mixing_of_distances,
    moments,
    prdc_of_distances,
    radii,
    vendi_score,
)
from ecgtransfer.evaluation.fidelity.records import (
    Distance32,
    RecordMeasures,
    distance_matrix,
)
from ecgtransfer.evaluation.fidelity.result import (
    FidelityMeasures,
)
from ecgtransfer.evaluation.fidelity.two_sample import (
    FEWEST_TESTED,
    KINDS,
    Kind,
    cross_validated_auc,
    label_patterns,
    matched,
    shared_groups,
)
from ecgtransfer.evaluation.halves import (
    Comparison,
    Draw,
    Indices,
    Plan,
    Scale,
    patient_indices,
    plan_halves,
)
from ecgtransfer.evaluation.signal_distances import (
    band_names,
    spectral_distances,
    spectral_names,
)
from ecgtransfer.statistics import (
    FloatArray,
    streams,
)

#: Number of repeats with a boosted two-sample test, which takes seconds.
BOOSTED_HALVES = 10

#: Largest number of records per side for the diversity: the cost of eigenvalues grows with its
#: cube.
DIVERSITY_RECORDS = 500


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Statistics of the records that one repeat drew of one set; `variety` is the Vendi score."""

    moments: Moments
    half_moments: tuple[Moments, Moments] | None
    within: Distances
    radii: FloatArray
    mean_kernel: float
    variety: float
    spectra: FloatArray
    correlations: FloatArray
    bands: FloatArray


@dataclass
class Ticker:
    """Counter of repeats that reports progress."""

    progress: StepsDone | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        """Count one repeat and report it."""
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def compare_sets(
    real: RecordMeasures,
    generated: RecordMeasures,
    source: RecordMeasures | None,
    controls: Mapping[str, RecordMeasures],
    kinds: Sequence[Kind],
    k: int,
    records: int | None,
    repeats: int,
    seed: int,
    tick: Ticker,
) -> tuple[FidelityMeasures, dict[str, FidelityMeasures]]:
    """Measure a generated set and each negative control against the real set.

    A control has the altered real records in the same order. Each repeat compares the left half of
    the real records with the altered right half.

    Args:
        real: measurements of the real records.
        generated: measurements of the generated records.
        source: measurements of the source records, or None.
        controls: measurements of the negative controls, by name.
        kinds: classifiers of the two-sample test.
        k: number of neighbours.
        records: records per side; None for half of the smaller set.
        repeats: number of repeats.
        seed: seed of the draws.
        tick: called after each repeat.
    """
    not_measured = {}
    plan = plan_halves(
        patient_indices(real.patients, len(real)),
        patient_indices(generated.patients, len(generated)),
        None if source is None else patient_indices(source.patients, len(source)),
        records,
        repeats,
    )
    if source is not None and plan.source is None:
        not_measured["source against target"] = (
            f"{plan.records} records per side are compared, but the source has {len(source)}"
        )
        source = None
    check_neighbours(plan.records, plan.records, k, "prdc")
    least = max(4, FREE_OF_BIAS * real.features.shape[1])
    with_limit = plan.records >= least
    if not with_limit:
        not_measured["Frechet, n = ∞"] = (
            f"{least} records per side are needed for {real.features.shape[1]} features, got "
            f"{plan.records}"
        )
    bandwidth = median_distance(real.features)
    others = {"score": generated} | ({} if source is None else {"source": source})
    within_real = distance_matrix(real.features, real.features)
    within = {name: distance_matrix(side.features, side.features) for name, side in others.items()}
    between = {name: distance_matrix(real.features, side.features) for name, side in others.items()}

    def drawn(side: RecordMeasures, index: Indices, matrix: Distance32) -> _Drawn:
        return _drawn(side, index, matrix, k, bandwidth, with_limit)

    of_controls = {
        name: (
            side,
            distance_matrix(side.features, side.features),
            distance_matrix(real.features, side.features),
        )
        for name, side in controls.items()
    }
    values: dict[str, list[Mapping[str, float]]] = {"score": [], "reference": [], "source": []}
    altered: dict[str, list[Mapping[str, float]]] = {name: [] for name in controls}
    tests = _TwoSampleTests(real, others, kinds, seed)
    for repeat, draw in enumerate(plan.draws(seed)):
        left = drawn(real, draw.left, within_real)
        right = drawn(real, draw.right, within_real)
        matrix = within_real[np.ix_(draw.left, draw.right)]
        scored = {"reference": _pair(left, right, matrix, k, bandwidth)}
        for name, side in others.items():
            index = draw.generated if name == "score" else draw.source
            assert index is not None
            other = drawn(side, index, within[name])
            matrix = between[name][np.ix_(draw.left, index)]
            scored[name] = _pair(left, other, matrix, k, bandwidth)
        for name, found in scored.items():
            values[name].append({**found, **tests(name, draw, repeat)})
        for name, (side, within_control, to_control) in of_controls.items():
            other = drawn(side, draw.right, within_control)
            matrix = to_control[np.ix_(draw.left, draw.right)]
            altered[name].append(_pair(left, other, matrix, k, bandwidth))
        tick()
    result = _result(values, plan, real, generated, source, not_measured)
    on_controls = replace(plan, generated=plan.real)
    return result, {
        name: _result(
            {"score": found, "reference": values["reference"], "source": []},
            on_controls,
            real,
            real,
            None,
            {},
        )
        for name, found in altered.items()
    }


def _result(
    values: Mapping[str, Sequence[Mapping[str, float]]],
    plan: Plan,
    real: RecordMeasures,
    generated: RecordMeasures,
    source: RecordMeasures | None,
    not_measured: dict[str, str],
) -> FidelityMeasures:
    """Summarise the values of all repeats, given by side and name."""

    def of(side: str, name: str) -> FloatArray:
        return np.array([found[name] for found in values[side] if name in found])

    def compared(name: str, scale: Scale, records: int = plan.records) -> Comparison:
        source_values = of("source", name)
        return plan.comparison(
            of("score", name),
            of("reference", name),
            source_values if len(source_values) and np.isfinite(source_values).all() else None,
            records,
            scale,
        )

    two_sample: dict[str, Comparison] = {}
    counts = of("score", "tested")
    tested = int(min(counts.min(), of("reference", "tested").min())) if len(counts) else 0
    if not len(counts):
        not_measured["two-sample AUC"] = "not needed: no rule for controls uses it"
    elif all(np.isfinite(of(side, "linear")).all() for side in ("score", "reference")):
        two_sample = {
            kind: replace(compared(kind, "share"), records=tested)
            for kind in KINDS
            if kind in values["score"][0]
        }
    else:
        not_measured["two-sample AUC"] = (
            f"{FEWEST_TESTED} patients per side are needed in each repeat, got {tested} records of "
            "matching classes"
        )
    with_limit = "frechet limit" in values["score"][0]
    return FidelityMeasures(
        frechet=compared("frechet", "squared"),
        prdc={
            name: compared(name, "positive" if name == "density" else "share")
            for name in Prdc._fields
        },
        band_power={name: compared(f"band {name}", "any") for name in band_names()},
        real_records=len(real),
        generated_records=len(generated),
        source_records=0 if source is None else len(source),
        mmd=compared("mmd", "any"),
        diversity=compared("diversity", "positive", min(plan.records, DIVERSITY_RECORDS)),
        mixing=compared("mixing", "unit"),
        lead_correlation=compared("correlation", "positive"),
        spectral_distance={
            name: compared(f"spectrum {name}", "positive")
            for name in spectral_names(real.spectra.shape[1])
        },
        frechet_limit=compared("frechet limit", "any") if with_limit else None,
        two_sample=two_sample,
        not_measured=not_measured,
    )


def _drawn(
    side: RecordMeasures,
    index: Indices,
    matrix: Distance32,
    k: int,
    bandwidth: float,
    with_limit: bool,
) -> _Drawn:
    """Statistics of the records `index` of a set with the distance matrix `matrix`."""
    features = side.features[index]
    within = matrix[np.ix_(index, index)]
    distances = Distances.stored(within)
    few = within[:DIVERSITY_RECORDS, :DIVERSITY_RECORDS]
    return _Drawn(
        moments=moments(features),
        half_moments=half_moments(features) if with_limit else None,
        within=distances,
        radii=radii(distances, k),
        mean_kernel=mean_kernel(distances, bandwidth, within=True),
        variety=vendi_score(gaussian_kernel(few, bandwidth)),
        spectra=side.spectra[index].mean(axis=0, dtype=np.float64),
        correlations=side.correlations[index].mean(axis=0),
        bands=side.bands[index].mean(axis=0),
    )


def _pair(
    real: _Drawn, other: _Drawn, matrix: Distance32, k: int, bandwidth: float
) -> dict[str, float]:
    """All measures of two drawn sets by name; `matrix` has the distances from real to other."""
    between = Distances.stored(matrix)
    scores = {"frechet": frechet_of_moments(real.moments, other.moments)}
    if real.half_moments is not None and other.half_moments is not None:
        halves = list(zip(real.half_moments, other.half_moments, strict=True))
        scores["frechet limit"] = extrapolated((real.moments, other.moments), halves)
    neighbours = prdc_of_distances(between, real.radii, other.radii, k)
    spectra = spectral_distances(real.spectra, other.spectra)
    bands = other.bands - real.bands
    return {
        **scores,
        **neighbours._asdict(),
        "mmd": real.mean_kernel
        + other.mean_kernel
        - 2 * mean_kernel(between, bandwidth, within=False),
        "diversity": other.variety / real.variety,
        "mixing": mixing_of_distances(
            real.within, other.within, between, Distances.stored(matrix.T), k
        ),
        "correlation": float(np.abs(other.correlations - real.correlations).mean()),
        **{
            f"spectrum {name}": float(value)
            for name, value in zip(spectral_names(len(real.spectra)), spectra, strict=True)
        },
        **{f"band {name}": float(b) for name, b in zip(band_names(), bands, strict=True)},
    }


class _TwoSampleTests:
    """Classifier two-sample tests of each repeat, with matched classes if there are labels."""

    def __init__(
        self,
        real: RecordMeasures,
        others: Mapping[str, RecordMeasures],
        kinds: Sequence[Kind],
        seed: int,
    ) -> None:
        self.sides = {"reference": real, **others}
        self.kinds = kinds
        self.seed = seed
        sides = list(self.sides.values())
        groups = shared_groups(
            *(len(side) if side.patients is None else side.patients for side in sides)
        )
        self.groups = dict(zip(self.sides, groups, strict=True))
        labels = {name: side.labels for name, side in self.sides.items() if side.labels is not None}
        self.patterns = dict(zip(labels, label_patterns(*labels.values()), strict=True))

    def __call__(self, name: str, draw: Draw, repeat: int) -> dict[str, float]:
        """Test the left half against another set.

        Returns:
            The AUC of each kind of classifier, and the number of records per side as "tested". The
            AUC is NaN if there are too few patients.
        """
        left, right = self._records(name, draw, repeat)
        groups = self.groups["reference"][left], self.groups[name][right]
        kinds = [kind for kind in self.kinds if kind == "linear" or repeat < BOOSTED_HALVES]
        if min(len(np.unique(patients)) for patients in groups) < FEWEST_TESTED:
            return {"tested": len(left), **dict.fromkeys(kinds, np.nan)}
        first = self.sides["reference"].features[left]
        second = self.sides[name].features[right]
        together = np.concatenate(groups)
        return {
            "tested": len(left),
            **{
                kind: cross_validated_auc(first, second, together, kind, self.seed)
                for kind in kinds
            },
        }

    def _records(self, name: str, draw: Draw, repeat: int) -> tuple[Indices, Indices]:
        """Indices of records of the left half and of the other set, with matched classes."""
        drawn = {"reference": draw.right, "score": draw.generated, "source": draw.source}[name]
        assert drawn is not None
        if name not in self.patterns:
            return draw.left, drawn
        rng = streams.generator(self.seed, streams.FIDELITY_LABEL_MIX, repeat)
        of_left, of_other = self.patterns["reference"][draw.left], self.patterns[name]
        if name == "reference":
            left, right = matched(of_left, of_other[draw.right], rng)
            return draw.left[left], draw.right[right]
        left, right = matched(of_left, of_other, rng, most_of_second=0.5)
        return draw.left[left], right
