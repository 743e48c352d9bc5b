"""Does a generated set look like the real one? Every measure beside real against real.

An absolute distance says little: with fewer records than feature dimensions the Frechet distance
of two samples of one law is far from 0. So each measure of `distances` and `two_sample` is read at
one number of records three times: generated against real, one half of the real patients against
the other, and the source's real records against the target's (`measure_fidelity`,
`compare_with_halves`).

Few records let nearly anything pass: the distances of a classifier's features are then mostly
chance. So the same rules are asked of negative controls, at the same number of records: real ECGs
altered in ways that no heart allows (`negative_controls`). Where one keeps all rules, a set that
keeps them too is not known to be any better, and the answer is open.

Intervals. Resampling with replacement is no help to these measures: a record drawn twice is its own
nearest neighbour and shrinks covariances. Instead each repeat draws half of the patients without
replacement (McCarthy 1969; Politis and Romano 1994), and the score is the mean over the repeats: an
unbiased estimate of what `records` a side are expected to score, a U-statistic. The value that an
interval covers is this expected one. Where a measure is smooth, its variance over the draws of m of
n records times m / (n − m) is the variance of the estimate (the jackknife of Shao and Wu 1989 that
deletes n − m records; 1 for halves), and the interval is Student's: for the root of the Frechet
distance, which is a squared one; at least Wilson's for a share. In simulations of Gaussian clouds
with 40 to 200 records a set, 95 % intervals covered in 91 to 98 % where the laws differ. They are
too wide, up to 100 %, where laws hardly differ and for measures of neighbours, for the variance of
what is not smooth is overestimated.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus.splits import in_patient_order, largest_half, patient_halves
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.evaluation.distances import (
    FREE_OF_BIAS,
    Distances,
    Moments,
    Prdc,
    band_names,
    check_neighbours,
    checked_pair,
    extrapolated,
    frechet_distance,
    frechet_of_moments,
    gaussian_kernel,
    half_moments,
    lead_correlations,
    log_band_power,
    log_spectra,
    mean_kernel,
    median_distance,
    mixing_of_distances,
    moments,
    prdc_of_distances,
    radii,
    spectral_distances,
    spectral_names,
    vendi_score,
)
from ecgtransfer.evaluation.fidelity_result import (
    CLASS,
    Comparison,
    FidelityResult,
    Interval,
)
from ecgtransfer.evaluation.two_sample import (
    FEWEST_TESTED,
    KINDS,
    Kind,
    cross_validated_auc,
    label_patterns,
    matched,
    shared_groups,
)
from ecgtransfer.signals import INDEPENDENT_LEADS
from ecgtransfer.statistics import (
    Estimate,
    FloatArray,
    estimate,
    share_estimate,
    streams,
    student_reach,
)

#: Repeated random halves behind a comparison with the real set.
HALVES = 50

#: Of those, how many the boosted classifier sees: each costs it seconds.
BOOSTED_HALVES = 10

#: Records of a set that take part at most, drawn at random: five matrices of their distances are
#: 320 MiB, and more change the third digit.
LARGEST_SET = 4000

#: Records a side behind the diversity at most: eigenvalues cost their cube.
DIVERSITY_RECORDS = 500

#: Fewest records a side in a class that is measured on its own: with 5 neighbours each, a ball
#: around one of fewer reaches through most of the class.
FEWEST_IN_A_CLASS = 20


#: Names of the negative controls, as they stand in a sentence, and where the chest leads begin.
BACKWARDS, CHEST_OF_ANOTHER = "ECGs played backwards", "V1 to V6 of another patient"
FIRST_CHEST_LEAD = INDEPENDENT_LEADS.index("V1")


#: (real features (n, F), other features (m, F)) -> a number.
FeatureScore = Callable[[FloatArray, FloatArray], float]


#: (repeats done, repeats in all).
Progress = Callable[[int, int], None]

Indices = npt.NDArray[np.intp]
Distance32 = npt.NDArray[np.float32]

#: How the interval of a measure is made: ± its error; cut at 0; cut at 0 and 1; for the root of a
#: squared distance; or as that of a share of records.
Scale = Literal["any", "positive", "unit", "squared", "share"]


def negative_controls(
    signals_mv: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    seed: int = 0,
) -> dict[str, npt.NDArray[np.floating]]:
    """Real records altered so that no heart could have made them, by name: (n, 8, T) each.

    signals_mv (n, 8, T) the independent leads, patients (n,) or none. "ECGs played backwards" have
    the waves in the wrong order; "V1 to V6 of another patient" have limb and chest leads that
    never beat together. Both keep each lead's spectrum and amplitudes. CorpusError for another
    shape or fewer than 2 patients.
    """
    signals = np.asarray(signals_mv)
    if signals.ndim != 3 or signals.shape[1] != len(INDEPENDENT_LEADS):
        raise CorpusError(
            f"expected signals (records, {len(INDEPENDENT_LEADS)} independent leads, samples), got "
            f"shape {signals.shape}"
        )
    names = _patients(patients, len(signals))
    if len(np.unique(names)) < 2:
        raise CorpusError("expected records of at least 2 patients, whose leads can be exchanged")
    order = in_patient_order(names, streams.generator(seed, streams.NEGATIVE_CONTROLS))
    other = np.empty(len(signals), dtype=np.intp)
    # Patient after patient, the record as many places on as one patient fills at most is another's
    # (unless one patient has more than half of all records).
    _, of_patient = np.unique(names, return_counts=True)
    other[order] = np.roll(order, -int(of_patient.max()))
    exchanged = signals.copy()
    exchanged[:, FIRST_CHEST_LEAD:] = signals[other, FIRST_CHEST_LEAD:]
    return {BACKWARDS: signals[..., ::-1].copy(), CHEST_OF_ANOTHER: exchanged}


def compare_with_halves(
    real: npt.ArrayLike,
    generated: npt.ArrayLike,
    patients: npt.ArrayLike | None = None,
    *,
    generated_patients: npt.ArrayLike | None = None,
    score: FeatureScore = frechet_distance,
    scale: Scale | None = None,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
) -> Comparison:
    """A distance between generated and real features beside the real-versus-real reference.

    Each repeat draws two patient-disjoint halves of the real set and as many generated records:
    the score compares the first half with the generated, the reference with the second half. Both
    rest on the same number of records, so the finite-sample bias is in both. real (n, F),
    generated (m, F), `patients` (n,) and `generated_patients` (m,) or none (every record its own),
    `records` per side, by default as many as half of either set holds, which intervals of
    confidence need (see the module and `Comparison`). `scale` says what the score is: never
    negative ("positive"), in [0, 1] ("unit"), a share of records ("share", whose interval is at
    least Wilson's) or a squared distance ("squared", whose interval is made for its root, where it
    is nearer to normal); by default "squared" for `frechet_distance` and "any" for another score.
    CorpusError as in `patient_halves` and where
    `generated` has fewer records than asked; ConfigError for fewer than 2 repeats.
    """
    first, second = checked_pair(real, generated)
    plan = _plan(
        _patients(patients, len(first)),
        _patients(generated_patients, len(second)),
        None,
        records,
        repeats,
    )
    drawn = np.array(
        [
            (
                score(first[draw.left], second[draw.generated]),
                score(first[draw.left], first[draw.right]),
            )
            for draw in plan.draws(seed)
        ]
    )
    if scale is None:
        scale = "squared" if score is frechet_distance else "any"
    return plan.comparison(drawn[:, 0], drawn[:, 1], None, plan.records, scale)


def measure_fidelity(
    real_features: npt.ArrayLike,
    generated_features: npt.ArrayLike,
    real_mv: npt.ArrayLike,
    generated_mv: npt.ArrayLike,
    sampling_rate_hz: float,
    patients: npt.ArrayLike | None = None,
    *,
    source_features: npt.ArrayLike | None = None,
    source_mv: npt.ArrayLike | None = None,
    generated_patients: npt.ArrayLike | None = None,
    source_patients: npt.ArrayLike | None = None,
    labels: npt.ArrayLike | None = None,
    generated_labels: npt.ArrayLike | None = None,
    source_labels: npt.ArrayLike | None = None,
    label_names: Sequence[str] | None = None,
    controls: Mapping[str, tuple[npt.ArrayLike, npt.ArrayLike]] | None = None,
    k: int = 5,
    records: int | None = None,
    repeats: int = HALVES,
    seed: int = 0,
    progress: Progress | None = None,
) -> FidelityResult:
    """All measures of this module for one generated set against one real set.

    Features (n, F) and (m, F) of one embedding, signals (n, leads, T) and (m, leads, T) of the same
    records in millivolts, best the eight independent leads; of the source too, which is measured
    where it has at least `records`. Patients and `records` as in `compare_with_halves`. Give sets
    of one class mix: all measures see a difference, the two-sample test alone matches classes
    itself, where labels are given.

    labels (n, K), generated_labels (m, K), label_names (K): with them the same is measured for the
    records of each class of which both sides allow 20 records a side; source_labels (l, K) add the
    source. controls: features (n, F) and signals (n, leads, T) of `negative_controls` of the real
    records, by name; without them a pass says less. Of more than 4,000 records a set as many are
    drawn at random. progress(done, total) counts repeats.

    Errors as in `compare_with_halves`, `prdc`, `median_distance` and `band_power_error`;
    CorpusError also where features, signals, patients, labels or controls differ in number, or
    labels or source come without what belongs to them.
    """
    if (source_features is None) != (source_mv is None):
        raise CorpusError("expected features and signals of the source or neither; add the others")
    if (labels is None) != (generated_labels is None) or (labels is None) != (label_names is None):
        raise CorpusError(
            "expected labels, generated_labels and label_names or none of them; add the others"
        )
    checked_pair(real_features, generated_features)
    given = [
        (real_features, real_mv, patients, labels),
        (generated_features, generated_mv, generated_patients, generated_labels),
    ]
    if source_features is not None and source_mv is not None:
        checked_pair(real_features, source_features)
        given.append(
            (source_features, source_mv, source_patients, None if labels is None else source_labels)
        )
    rng = streams.generator(seed, streams.FIDELITY_RECORDS)
    kept = [_thinned(len(np.asarray(parts[0])), rng) for parts in given]
    sides = [
        _side(*parts, sampling_rate_hz, index) for parts, index in zip(given, kept, strict=True)
    ]
    altered = {}
    for name, (features, signals_mv) in (controls or {}).items():
        if len(np.asarray(features)) != len(np.asarray(real_features)):
            raise CorpusError(
                f"expected {len(np.asarray(real_features))} records of the control {name!r}, one "
                f"of each real record, got {len(np.asarray(features))}"
            )
        checked_pair(real_features, features)
        altered[name] = _side(features, signals_mv, None, None, sampling_rate_hz, kept[0])
    sides_of_all = [*sides, *altered.values()]
    if len({side.spectra.shape[1] for side in sides_of_all}) > 1:
        raise CorpusError("expected signals with the same leads in every set")
    real, generated = sides[:2]
    source = sides[2] if len(sides) > 2 else None
    classes, left_out = _classes(real, generated, source, label_names)
    tick = _Ticker(progress, repeats * (1 + len(classes)))
    whole = _measure(real, generated, source, altered, KINDS, k, records, repeats, seed, tick)
    per_class = {
        name: _measure(*members, {}, ("linear",), k, None, repeats, seed, tick)
        for name, members in classes.items()
    }
    return replace(whole, per_class=per_class, not_measured=whole.not_measured | left_out)


@dataclass(frozen=True, eq=False)
class _Draw:
    """Record numbers of one repeat: two real halves, as many generated and, if any, source."""

    left: Indices
    right: Indices
    generated: Indices
    source: Indices | None


@dataclass(frozen=True, eq=False)
class _Plan:
    """How many records of which patients each repeat draws, and what intervals follow from it."""

    real: Indices
    generated: Indices
    source: Indices | None
    records: int
    repeats: int

    def draws(self, seed: int) -> Iterator[_Draw]:
        """The repeats, one after another."""
        rng = np.random.default_rng(seed)
        for _ in range(self.repeats):
            left, right = patient_halves(self.real, rng, self.records)
            yield _Draw(
                left,
                right,
                in_patient_order(self.generated, rng)[: self.records],
                None if self.source is None else in_patient_order(self.source, rng)[: self.records],
            )

    def comparison(
        self,
        score: FloatArray,
        reference: FloatArray,
        source: FloatArray | None,
        records: int,
        scale: Scale,
    ) -> Comparison:
        """Of the values of the repeats (repeats,), which rest on `records` a side."""
        value, kind = self._estimate(score, self.generated, records, scale)
        expected = float(reference.mean())
        excess = Estimate(value.value - expected, value.low - expected, value.high - expected)
        source_value, source_kind = None, None
        if source is not None and self.source is not None:
            source_value, source_kind = self._estimate(source, self.source, records, scale)
        return Comparison(
            score=value,
            reference=estimate(expected, reference),
            excess=excess,
            records=records,
            repeats=len(score),
            interval=kind,
            source=source_value,
            source_interval=source_kind,
        )

    def _estimate(
        self, values: FloatArray, other: Indices, records: int, scale: Scale
    ) -> tuple[Estimate, Interval]:
        """Mean and interval of the repeats of a measure of the real and one other set."""
        mean = float(values.mean())
        if self.records > largest_half(other):
            return estimate(mean, values), "spread"
        sets = self.real, other
        ratio = min(max(records / (len(patients) - records) for patients in sets), 1.0)
        reach = student_reach(values, ratio + 1 / len(values))
        if scale == "share":
            fewest = min(len(np.unique(patients)) for patients in sets)
            return share_estimate(mean, reach, fewest), "confidence"
        if scale == "squared" and mean > 0:
            root = np.sqrt(mean)
            low, high = max(root - reach / (2 * root), 0.0) ** 2, (root + reach / (2 * root)) ** 2
            return Estimate(mean, float(low), float(high)), "confidence"
        low = mean - reach if scale == "any" else max(mean - reach, 0.0)
        high = min(mean + reach, 1.0) if scale == "unit" else mean + reach
        return Estimate(mean, low, high), "confidence"


@dataclass(frozen=True, eq=False)
class _Side:
    """What is measured of each record of a set: n rows everywhere."""

    features: FloatArray
    spectra: npt.NDArray[np.float32]
    bands: FloatArray
    correlations: FloatArray
    patients: npt.NDArray[np.generic] | None
    labels: npt.NDArray[np.bool_] | None

    def __len__(self) -> int:
        return len(self.features)

    def select(self, index: Indices) -> "_Side":
        return _Side(
            self.features[index],
            self.spectra[index],
            self.bands[index],
            self.correlations[index],
            None if self.patients is None else self.patients[index],
            None if self.labels is None else self.labels[index],
        )


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What one repeat needs to know of the records it drew of one set."""

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
class _Ticker:
    """Counts repeats towards `total`."""

    progress: Progress | None
    total: int
    done: int = 0

    def __call__(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _measure(
    real: _Side,
    generated: _Side,
    source: _Side | None,
    controls: Mapping[str, _Side],
    kinds: Sequence[Kind],
    k: int,
    records: int | None,
    repeats: int,
    seed: int,
    tick: _Ticker,
) -> FidelityResult:
    """`measure_fidelity` of sets that are prepared, without their classes.

    A control is the real records altered, row by row: each repeat compares the left half with the
    altered right half.
    """
    not_measured = {}
    plan = _plan(
        _patients(real.patients, len(real)),
        _patients(generated.patients, len(generated)),
        None if source is None else _patients(source.patients, len(source)),
        records,
        repeats,
    )
    if source is not None and plan.source is None:
        not_measured["source against target"] = (
            f"{plan.records} records a side are compared, of the source there are {len(source)}"
        )
        source = None
    check_neighbours(plan.records, plan.records, k, "prdc")
    least = max(4, FREE_OF_BIAS * real.features.shape[1])
    with_limit = plan.records >= least
    if not with_limit:
        not_measured["Frechet, n = ∞"] = (
            f"{least} records a side are needed for {real.features.shape[1]} features, got "
            f"{plan.records}"
        )
    bandwidth = median_distance(real.features)
    others = {"score": generated} | ({} if source is None else {"source": source})
    within_real = _distances(real.features, real.features)
    within = {name: _distances(side.features, side.features) for name, side in others.items()}
    between = {name: _distances(real.features, side.features) for name, side in others.items()}

    def drawn(side: _Side, index: Indices, matrix: Distance32) -> _Drawn:
        return _drawn(side, index, matrix, k, bandwidth, with_limit)

    of_controls = {
        name: (
            side,
            _distances(side.features, side.features),
            _distances(real.features, side.features),
        )
        for name, side in controls.items()
    }
    values: dict[str, list[Mapping[str, float]]] = {"score": [], "reference": [], "source": []}
    altered: dict[str, list[Mapping[str, float]]] = {name: [] for name in controls}
    tests = _TwoSampleTests(real, others, kinds, seed)
    for number, draw in enumerate(plan.draws(seed)):
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
            values[name].append({**found, **tests(name, draw, number)})
        for name, (side, within_control, to_control) in of_controls.items():
            other = drawn(side, draw.right, within_control)
            matrix = to_control[np.ix_(draw.left, draw.right)]
            altered[name].append(_pair(left, other, matrix, k, bandwidth))
        tick()
    result = _result(values, plan, real, generated, source, not_measured)
    on_controls = replace(plan, generated=plan.real)
    return replace(
        result,
        controls={
            name: _result(
                {"score": found, "reference": values["reference"], "source": []},
                on_controls,
                real,
                real,
                None,
                {},
            )
            for name, found in altered.items()
        },
    )


def _result(
    values: Mapping[str, Sequence[Mapping[str, float]]],
    plan: _Plan,
    real: _Side,
    generated: _Side,
    source: _Side | None,
    not_measured: dict[str, str],
) -> FidelityResult:
    """Summaries of the values of all repeats, by side and name."""

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
        not_measured["two-sample AUC"] = "of a control no rule asks for it"
    elif all(np.isfinite(of(side, "linear")).all() for side in ("score", "reference")):
        two_sample = {
            kind: replace(compared(kind, "share"), records=tested)
            for kind in KINDS
            if kind in values["score"][0]
        }
    else:
        not_measured["two-sample AUC"] = (
            f"{FEWEST_TESTED} patients a side are needed in each repeat, got {tested} records of "
            "matching classes"
        )
    with_limit = "frechet limit" in values["score"][0]
    return FidelityResult(
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
    side: _Side, index: Indices, matrix: Distance32, k: int, bandwidth: float, with_limit: bool
) -> _Drawn:
    """The records `index` of a set whose distances to one another are `matrix`."""
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
    """Every measure of two drawn sets by its name, from the distances real to other."""
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
    """The classifier two-sample tests of each repeat, class-matched where there are labels."""

    def __init__(
        self, real: _Side, others: Mapping[str, _Side], kinds: Sequence[Kind], seed: int
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

    def __call__(self, name: str, draw: _Draw, number: int) -> dict[str, float]:
        """AUC by kind for the left half against another set, and "tested" records a side.

        NaN where fewer are left than a test needs.
        """
        left, right = self._records(name, draw, number)
        groups = self.groups["reference"][left], self.groups[name][right]
        kinds = [kind for kind in self.kinds if kind == "linear" or number < BOOSTED_HALVES]
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

    def _records(self, name: str, draw: _Draw, number: int) -> tuple[Indices, Indices]:
        """Of the left half, and of what it is tested against."""
        drawn = {"reference": draw.right, "score": draw.generated, "source": draw.source}[name]
        assert drawn is not None
        if name not in self.patterns:
            return draw.left, drawn
        rng = streams.generator(self.seed, streams.FIDELITY_LABEL_MIX, number)
        mine, theirs = self.patterns["reference"][draw.left], self.patterns[name]
        if name == "reference":
            left, right = matched(mine, theirs[draw.right], rng)
            return draw.left[left], draw.right[right]
        left, right = matched(mine, theirs, rng, most_of_second=0.5)
        return draw.left[left], right


def _thinned(records: int, rng: np.random.Generator) -> Indices | slice:
    """All of so many records, or `LARGEST_SET` of them drawn at random."""
    if records <= LARGEST_SET:
        return slice(None)
    return np.sort(rng.permutation(records)[:LARGEST_SET])


def _side(
    features: npt.ArrayLike,
    signals_mv: npt.ArrayLike,
    patients: npt.ArrayLike | None,
    labels: npt.ArrayLike | None,
    sampling_rate_hz: float,
    kept: Indices | slice,
) -> _Side:
    """The kept records of a set, with what is measured of each."""
    values, signals = np.asarray(features, dtype=np.float64), np.asarray(signals_mv)
    if len(values) != len(signals):
        raise CorpusError(
            f"expected features and signals of the same records, got {len(values)} and "
            f"{len(signals)}"
        )
    names = None if patients is None else np.asarray(patients)
    hot = None if labels is None else np.asarray(labels) > 0
    if names is not None and names.shape != (len(values),):
        raise CorpusError(f"expected one patient per record, {len(values)}, got {names.shape}")
    if hot is not None and (hot.ndim != 2 or len(hot) != len(values)):
        raise CorpusError(f"expected labels ({len(values)} records, K), got shape {hot.shape}")
    signals = signals[kept]
    return _Side(
        features=values[kept],
        spectra=log_spectra(signals, sampling_rate_hz),
        bands=log_band_power(signals, sampling_rate_hz),
        correlations=lead_correlations(signals),
        patients=None if names is None else names[kept],
        labels=None if hot is None else hot[kept],
    )


def _classes(
    real: _Side, generated: _Side, source: _Side | None, label_names: Sequence[str] | None
) -> tuple[dict[str, tuple[_Side, _Side, _Side | None]], dict[str, str]]:
    """Members of each class that can be measured, and why others cannot."""
    members: dict[str, tuple[_Side, _Side, _Side | None]] = {}
    left_out = {}
    for number, name in enumerate(label_names or ()):
        sides = [
            None if side is None else _members(side, number, len(label_names or ()))
            for side in (real, generated, source)
        ]
        mine, theirs, others = sides
        if mine is None or theirs is None:
            continue
        allowed = min(
            largest_half(_patients(side.patients, len(side))) if len(side) else 0
            for side in (mine, theirs)
        )
        if allowed < FEWEST_IN_A_CLASS:
            left_out[CLASS + name] = (
                f"{len(mine)} real and {len(theirs)} generated records allow {allowed} a side, "
                f"{FEWEST_IN_A_CLASS} are needed"
            )
        else:
            members[name] = mine, theirs, others
    return members, left_out


def _members(side: _Side, number: int, classes: int) -> _Side | None:
    """The records of a class; None for a set without labels."""
    if side.labels is None:
        return None
    if side.labels.shape[1] != classes:
        raise CorpusError(
            f"expected labels (records, {classes}), one column for each name, got "
            f"{side.labels.shape}"
        )
    return side.select(np.flatnonzero(side.labels[:, number]))


def _plan(
    real: Indices, generated: Indices, source: Indices | None, records: int | None, repeats: int
) -> _Plan:
    """Checked; a source with fewer records than are compared is left out."""
    if repeats < 2:
        raise ConfigError(f"a spread needs at least 2 repeats, got {repeats}")
    if min(len(real), len(generated)) < 2:
        raise CorpusError(
            f"expected at least 2 records a set, got {len(real)} and {len(generated)}"
        )
    if records is None:
        records = min(largest_half(real), largest_half(generated))
    elif records > len(generated):
        raise CorpusError(
            f"asked to compare {records} records a side, but only {len(generated)} are generated"
        )
    enough = source is not None and len(source) >= records
    return _Plan(real, generated, source if enough else None, records, repeats)


def _patients(patients: npt.ArrayLike | None, records: int) -> Indices:
    """Patients numbered from 0; none means that every record is its own."""
    if patients is None:
        return np.arange(records)
    names = np.asarray(patients)
    if names.shape != (records,):
        raise CorpusError(f"expected one patient per record, {records}, got {names.shape}")
    return np.unique(names, return_inverse=True)[1].reshape(-1)


def _distances(a: FloatArray, b: FloatArray) -> Distance32:
    """All distances (n, m) in float32: half the memory, and no measure sees the difference."""
    matrix = np.empty((len(a), len(b)), dtype=np.float32)
    for rows, distance in Distances.between(a, b).blocks():
        matrix[rows] = distance
    return matrix
