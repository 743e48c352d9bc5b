"""Tables and figures of the fidelity evaluation."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from ecgtransfer.drawing import Cell, Curve, Figure, Formatted, Table, scatter_svg, spectrum_svg
from ecgtransfer.evaluation.cohorts import Cohort, Cohorts, match_class_mix
from ecgtransfer.evaluation.fidelity.result import (
    CLASS,
    MMD,
    FidelityEvaluation,
    FidelityMeasures,
    FidelityResult,
)
from ecgtransfer.evaluation.halves import Interval
from ecgtransfer.statistics import Estimate

#: Largest number of records of a spectrum.
SPECTRUM_RECORDS = 500

#: Length of a Welch segment in seconds: a resolution of 0.5 Hz is smooth enough for a small figure.
SEGMENT_S = 2.0

#: Measures in the table of classes.
SHOWN_OF_CLASSES = ("Frechet distance", "precision", "recall", "coverage", "diversity")


def tables(evaluation: FidelityEvaluation) -> Iterator[Table]:
    """Yield the tables of distances, negative controls and classes of each method."""
    for method, result in evaluation.methods.items():
        yield distance_table(result, f"Distances, {method}")
        yield control_table(result, f"Negative controls, {method}")
        yield class_table(result, f"By class, {method}")


def figures(evaluation: FidelityEvaluation, cohorts: Cohorts, with_real: bool) -> Iterator[Figure]:
    """Yield the spectra of lead II and the map of the feature space."""
    rate_hz = float(cohorts.sampling_rate_hz)
    rng = np.random.default_rng(0)
    wanted = cohorts.test.own_labels
    curves = [_curve("target", cohorts.test.subsample(SPECTRUM_RECORDS, rng), rate_hz)]
    for method, cohort in cohorts.synthetic.items():
        chosen = match_class_mix(cohort.own_labels, wanted, rng, SPECTRUM_RECORDS)
        curves.append(_curve(method, cohort.select(chosen), rate_hz))
    frequency_hz = np.fft.rfftfreq(round(SEGMENT_S * rate_hz), 1 / rate_hz)
    shown = frequency_hz > 0
    yield spectrum_svg(
        frequency_hz[shown],
        [
            Curve(c.name, *(np.asarray(part)[shown] for part in (c.power, c.low, c.high)))
            for c in curves
        ],
        title="Power spectrum of lead II",
        caption="Medians over records, with the class mix of the test records. Bands contain the "
        "central half of the records.",
    )
    if evaluation.feature_map is not None:
        yield scatter_svg(
            {
                "target" if name == "real" else name: np.array(points)
                for name, points in evaluation.feature_map.points.items()
            },
            title="Feature space of the target's classifier",
            caption=evaluation.feature_map.caption,
        )


def distance_table(result: FidelityResult, title: str = "Distances") -> Table:
    """Table of all measures: generated, target against target, and source against target if known.

    "(spread)" marks an interval that is not a confidence interval. The interval of target against
    target is always a spread and has no mark.
    """
    compared = result.measures()
    header = ("measure", "generated", "target against target", "source against target")
    rows = [
        (
            name,
            _score(name, measure.score, measure.interval),
            _score(name, measure.reference),
            None
            if measure.source is None
            else _score(name, measure.source, measure.source_interval),
        )
        for name, measure in compared.items()
    ]
    columns = 4 if any(measure.source is not None for measure in compared.values()) else 3
    return Table(title, header[:columns], tuple(row[:columns] for row in rows))


def control_table(result: FidelityResult, title: str = "Negative controls") -> Table:
    """Table of the measures with a rule: two halves of the target, generated, and controls."""
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (
            name,
            Formatted.of(measure.reference),
            Formatted.of(measure.score),
            *(Formatted.of(control.ruled()[name].score) for control in result.controls.values()),
        )
        for name, measure in result.ruled().items()
    )
    return Table(title, ("measure", "target against target", "generated", *result.controls), rows)


def class_table(result: FidelityResult, title: str = "By class") -> Table:
    """Table of classes: records per side and measures, with target against target in brackets.

    For a class with too few records, `not_measured` states how many are needed.
    """
    measured: list[tuple[Cell, ...]] = [
        (name, own.frechet.records, *(_of_class(own, key) for key in SHOWN_OF_CLASSES))
        for name, own in result.per_class.items()
    ]
    left_out: list[tuple[Cell, ...]] = [
        (name.removeprefix(CLASS), "too few", *[None] * len(SHOWN_OF_CLASSES))
        for name in result.not_measured
        if name.startswith(CLASS)
    ]
    return Table(title, ("class", "records per side", *SHOWN_OF_CLASSES), (*measured, *left_out))


def _of_class(result: FidelityMeasures, name: str) -> Formatted:
    measure = result.measures()[name]
    return Formatted.of(measure.score, after=f"({measure.reference.value:.3f})")


def _score(name: str, score: Estimate, interval: Interval | None = None) -> Formatted:
    """Format an estimate as is usual for its measure."""
    after = "(spread)" if interval == "spread" else ""
    if name.startswith("log10"):
        return Formatted.of(score, "+.2f", after)
    if name == MMD:
        thousandths = Estimate(1000 * score.value, 1000 * score.low, 1000 * score.high)
        return Formatted.of(thousandths, ".1f", after)
    return Formatted.of(score, after=after)


def _curve(name: str, cohort: Cohort, rate_hz: float) -> Curve:
    """Spectrum of lead II of a cohort: median and quartiles over its records."""
    from scipy.signal import welch

    lead_mv: npt.NDArray[np.float64] = cohort.signals_mv()[:, 1].astype(np.float64)
    _, power = welch(lead_mv, rate_hz, nperseg=round(SEGMENT_S * rate_hz))
    low, middle, high = np.quantile(power, [0.25, 0.5, 0.75], axis=0)
    return Curve(name, middle, low, high)
