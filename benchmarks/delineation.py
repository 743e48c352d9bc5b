"""R peaks and intervals of real ECGs against the marks of cardiologists (LUDB).

    python benchmarks/delineation.py --data DATA [--to JSON]

DATA/ludb/data holds records and annotations of the Lobachevsky University Database (Kalyakulina et
al., IEEE Access 2020; 10 s, 500 Hz, 200 patients, https://physionet.org/content/ludb), all or some.
The cardiologists marked onset, peak and end of P, QRS and T in each lead. Measured at 500 Hz and
resampled to 100 Hz:

- R peaks of `signals.find_beats`, of neurokit2 and of wfdb's XQRS (both on lead II): sensitivity
  and positive predictive value within 50 and 150 ms of the median mark over the leads, between the
  first and the last mark of a record, with and without records of paced hearts, whose marks lie on
  the pacing spike;
- PR, QRS and QT of `evaluation.delineate` and of two delineators of neurokit2 (on lead II) against
  three readings of the marks: "leads", the median over leads of each lead's own interval; "widest",
  from the earliest onset to the latest end in any lead, which is the global interval of AHA, ACC
  and HRS (Kligfield et al., Circulation 2007); "second", the same without the most extreme lead.
  neurokit2's are also held against the marks of lead II alone.

The limits of our detector were chosen with LUDB in view, so that it is no blind test of it; nothing
of our delineation was.

Intervals of a record are medians over its beats; errors are ours less theirs, in ms; intervals of
the medians are 95 % of 2,000 bootstrap resamples of patients, each of whom has one record.

The gains in LUDB's headers make every lead span 1 mV, so that limb leads contradict each other by
0.4 mV. The digital values obey Einthoven's law and are taken as microvolts.

Writes `benchmarks/delineation.json`.
"""

import argparse
import json
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import neurokit2
import numpy as np
import numpy.typing as npt
import wfdb
from wfdb.processing import xqrs_detect

from ecgtransfer.evaluation.delineation import delineate
from ecgtransfer.evaluation.median_beat import NEUROKIT_ERRORS
from ecgtransfer.signals import LEADS, Recording, find_beats, resample

FloatArray = npt.NDArray[np.float64]

HERE = Path(__file__).resolve().parent
RATES_HZ = (500, 100)

#: Marks of different leads this near to each other are of one beat; a beat is one that at least
#: half of the leads have.
SAME_BEAT_S, FEWEST_LEADS = 0.15, 6
#: A beat counts as found within each of these.
TOLERANCES_S = (0.05, 0.15)
#: A P wave belongs to a QRS that begins within this time.
LONGEST_PR_S = 0.4

MEASURES = ("pr", "qrs", "qt")
READINGS = ("leads", "second", "widest", "lead II")
NEUROKIT_METHODS = ("dwt", "prominence")

RESAMPLES, SEED = 2000, 0


@dataclass(frozen=True, eq=False)
class Marks:
    """What cardiologists marked in one record, seconds; NaN where a lead lacks the mark.

    r_s (beats,): median over the leads. p_on, qrs_on, qrs_end, t_end (12, beats).
    """

    r_s: FloatArray
    p_on: FloatArray
    qrs_on: FloatArray
    qrs_end: FloatArray
    t_end: FloatArray

    def intervals_ms(self) -> dict[str, dict[str, float]]:
        """PR, QRS and QT of the record by each reading, NaN where it has none."""
        pairs = {
            "pr": (self.p_on, self.qrs_on),
            "qrs": (self.qrs_on, self.qrs_end),
            "qt": (self.qrs_on, self.t_end),
        }
        found: dict[str, dict[str, float]] = {}
        for measure, (start, end) in pairs.items():
            each = nan_median(end - start, axis=1)
            found[measure] = {
                "leads": float(nan_median(each)),
                "second": float(nan_median(self._between(measure, start, end, 1))),
                "widest": float(nan_median(self._between(measure, start, end, 0))),
                "lead II": float(each[LEADS.index("II")]),
            }
        return {
            measure: {reading: 1000 * seconds for reading, seconds in readings.items()}
            for measure, readings in found.items()
        }

    @staticmethod
    def _between(measure: str, start: FloatArray, end: FloatArray, spared: int) -> FloatArray:
        """Global interval of each beat (beats,): PR ends at the earliest QRS onset too."""
        first = np.sort(start, axis=0)[spared]
        if measure == "pr":
            return np.asarray(np.sort(end, axis=0)[spared] - first)
        last = np.sort(np.where(np.isnan(end), -np.inf, end), axis=0)[-1 - spared]
        return np.where(np.isfinite(last), last, np.nan) - first


@dataclass(frozen=True, eq=False)
class Patient:
    """One record with its marks; `paced` as its header says."""

    name: str
    recording: Recording
    marks: Marks
    paced: bool


def nan_median(values: FloatArray, axis: int | None = None) -> Any:
    """Median of what is there; NaN, without a warning, where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanmedian(values, axis=axis)


def read_patient(path: Path) -> Patient:
    """The record at a path without extension, with the marks of all leads."""
    record = wfdb.rdrecord(str(path), physical=False)
    rows = [[name.casefold() for name in record.sig_name].index(lead.casefold()) for lead in LEADS]
    microvolts = record.d_signal.T[rows].astype(np.float64)
    recording = Recording(microvolts / 1000, record.fs)
    leads = [lead_marks(path, lead, float(record.fs)) for lead in LEADS]
    return Patient(
        path.name, recording, together(leads), "pacing" in " ".join(record.comments).casefold()
    )


def lead_marks(path: Path, lead: str, rate_hz: float) -> list[dict[str, float]]:
    """The beats of one lead: r, p_on, qrs_on, qrs_end, t_end in seconds, as far as marked."""
    annotation = wfdb.rdann(str(path), lead.casefold())
    times = np.asarray(annotation.sample) / rate_hz
    symbols = [*annotation.symbol, ""]
    waves = []
    for k, symbol in enumerate(symbols[:-1]):
        if symbol in ("p", "N", "t"):
            start = times[k - 1] if k and symbols[k - 1] == "(" else np.nan
            end = times[k + 1] if symbols[k + 1] == ")" else np.nan
            waves.append((symbol, start, times[k], end))
    beats = []
    for k, (symbol, start, peak, end) in enumerate(waves):
        if symbol != "N":
            continue
        beat = {"r": peak, "p_on": np.nan, "qrs_on": start, "qrs_end": end, "t_end": np.nan}
        if k and waves[k - 1][0] == "p" and start - waves[k - 1][1] <= LONGEST_PR_S:
            beat["p_on"] = waves[k - 1][1]
        if k + 1 < len(waves) and waves[k + 1][0] == "t":
            beat["t_end"] = waves[k + 1][3]
        beats.append(beat)
    return beats


def together(leads: list[list[dict[str, float]]]) -> Marks:
    """Marks of all leads, sorted into beats."""
    every = sorted(
        (beat["r"], row, k) for row, lead in enumerate(leads) for k, beat in enumerate(lead)
    )
    groups: list[list[tuple[float, int, int]]] = []
    for mark in every:
        if groups and mark[0] - groups[-1][-1][0] <= SAME_BEAT_S:
            groups[-1].append(mark)
        else:
            groups.append([mark])
    groups = [group for group in groups if len({row for _, row, _ in group}) >= FEWEST_LEADS]
    columns = {
        name: np.full((len(leads), len(groups)), np.nan)
        for name in ("p_on", "qrs_on", "qrs_end", "t_end")
    }
    for column, group in enumerate(groups):
        for _, row, k in group:
            for name, values in columns.items():
                values[row, column] = leads[row][k][name]
    r_s = np.array([np.median([time for time, _, _ in group]) for group in groups])
    return Marks(r_s, **columns)


def neurokit_peaks(recording: Recording) -> FloatArray:
    """R peaks, seconds, of neurokit2's own pipeline on lead II."""
    rate = recording.sampling_rate_hz
    lead = neurokit2.ecg_clean(recording.lead_mv("II").astype(np.float64), sampling_rate=rate)
    return np.asarray(neurokit2.ecg_peaks(lead, sampling_rate=rate)[1]["ECG_R_Peaks"]) / rate


def xqrs_peaks(recording: Recording) -> FloatArray:
    """R peaks, seconds, of wfdb's XQRS on lead II."""
    rate = recording.sampling_rate_hz
    return (
        np.asarray(xqrs_detect(recording.lead_mv("II").astype(float), rate, verbose=False)) / rate
    )


DETECTORS: dict[str, Callable[[Recording], FloatArray]] = {
    "ours": lambda recording: find_beats(recording).times_s,
    "neurokit2, lead II": neurokit_peaks,
    "wfdb XQRS, lead II": xqrs_peaks,
}


def match(found_s: FloatArray, marked_s: FloatArray, within_s: float) -> tuple[int, FloatArray]:
    """Peaks found between first and last mark, and the errors (hits,) of those near a mark.

    A mark takes the nearest peak, and a peak belongs to one mark.
    """
    if len(marked_s) == 0:
        return 0, np.empty(0)
    inside = (found_s >= marked_s[0] - within_s) & (found_s <= marked_s[-1] + within_s)
    peaks = found_s[inside]
    free = np.ones(len(peaks), dtype=np.bool_)
    errors = []
    for mark in marked_s:
        distance = np.where(free, np.abs(peaks - mark), np.inf)
        if len(peaks) and distance.min() <= within_s:
            k = int(distance.argmin())
            free[k] = False
            errors.append(peaks[k] - mark)
    return len(peaks), np.array(errors)


def score_detector(
    patients: list[Patient], detect: Callable[[Recording], FloatArray], rate_hz: int
) -> Iterator[dict[str, Any]]:
    """Sensitivity, positive predictive value and errors, of all records and of the unpaced."""
    found = [quietly(detect, resample(patient.recording, rate_hz)) for patient in patients]
    for group in ("all", "not paced"):
        chosen = [k for k, patient in enumerate(patients) if group == "all" or not patient.paced]
        row: dict[str, Any] = {"rate_hz": rate_hz, "records": group, "n": len(chosen)}
        marks = sum(len(patients[k].marks.r_s) for k in chosen)
        for tolerance in TOLERANCES_S:
            scored = [match(found[k], patients[k].marks.r_s, tolerance) for k in chosen]
            hits = sum(len(errors) for _, errors in scored)
            peaks = sum(count for count, _ in scored)
            name = f"within {1000 * tolerance:g} ms"
            row[name] = {"sensitivity": hits / marks, "ppv": hits / peaks if peaks else None}
            if tolerance == TOLERANCES_S[-1] and hits:
                errors_ms = 1000 * np.concatenate([errors for _, errors in scored])
                row["median_error_ms"] = float(np.median(errors_ms))
                row["median_absolute_error_ms"] = float(np.median(np.abs(errors_ms)))
        row["beats"] = marks
        yield row


def quietly(detect: Callable[[Recording], FloatArray], recording: Recording) -> FloatArray:
    """What a detector finds, which is nothing where it fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return np.asarray(detect(recording), dtype=np.float64)
        except NEUROKIT_ERRORS:
            return np.empty(0)


def our_intervals(recording: Recording) -> dict[str, float]:
    """PR, QRS and QT, ms, by `evaluation.delineate`; NaN for what it does not state."""
    found = delineate(recording)
    values = (found.pr_ms, found.qrs_ms, found.qt_ms)
    return {
        measure: np.nan if value is None else value
        for measure, value in zip(MEASURES, values, strict=True)
    }


def neurokit_intervals(recording: Recording, method: str) -> dict[str, float]:
    """PR, QRS and QT, ms, of neurokit2's own pipeline on lead II: medians over the beats."""
    rate = recording.sampling_rate_hz
    nothing = dict.fromkeys(MEASURES, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            lead = recording.lead_mv("II").astype(np.float64)
            lead = neurokit2.ecg_clean(lead, sampling_rate=rate)
            peaks = neurokit2.ecg_peaks(lead, sampling_rate=rate)[1]["ECG_R_Peaks"]
            waves = neurokit2.ecg_delineate(lead, peaks, sampling_rate=rate, method=method)[1]
        except NEUROKIT_ERRORS:
            return nothing
    at = {
        name: 1000 / rate * np.asarray(waves.get(f"ECG_{name}", [np.nan] * len(peaks)), float)
        for name in ("P_Onsets", "R_Onsets", "R_Offsets", "T_Offsets")
    }
    if len({len(times) for times in at.values()}) != 1:
        return nothing
    return {
        "pr": float(nan_median(at["R_Onsets"] - at["P_Onsets"])),
        "qrs": float(nan_median(at["R_Offsets"] - at["R_Onsets"])),
        "qt": float(nan_median(at["T_Offsets"] - at["R_Onsets"])),
    }


DELINEATORS: dict[str, Callable[[Recording], dict[str, float]]] = {
    "ours": our_intervals,
    **{
        f"neurokit2 {method}, lead II": lambda recording, method=method: neurokit_intervals(
            recording, method
        )
        for method in NEUROKIT_METHODS
    },
}


def summary(found_ms: FloatArray, marked_ms: FloatArray) -> dict[str, Any]:
    """Errors of the records that have a mark, with the share for which nothing was found."""
    marked = np.isfinite(marked_ms)
    errors = (found_ms - marked_ms)[marked]
    errors = errors[np.isfinite(errors)]
    if len(errors) == 0:
        return {"records": int(marked.sum()), "failed": 1.0}
    drawn = np.random.default_rng(SEED).integers(len(errors), size=(RESAMPLES, len(errors)))
    return {
        "records": int(marked.sum()),
        "failed": 1 - len(errors) / int(marked.sum()),
        "median_bias_ms": interval(errors, drawn),
        "median_absolute_error_ms": interval(np.abs(errors), drawn),
        "p90_absolute_error_ms": float(np.quantile(np.abs(errors), 0.9)),
    }


def interval(values: FloatArray, drawn: npt.NDArray[np.int64]) -> list[float]:
    """Median of the values with the 95 % interval over resamples: [median, low, high]."""
    low, high = np.quantile(np.median(values[drawn], axis=1), (0.025, 0.975))
    return [float(np.median(values)), float(low), float(high)]


def score_delineator(
    patients: list[Patient], measure: Callable[[Recording], dict[str, float]], rate_hz: int
) -> dict[str, dict[str, Any]]:
    """Summary by interval and reading of the marks."""
    found = [measure(resample(patient.recording, rate_hz)) for patient in patients]
    marked = [patient.marks.intervals_ms() for patient in patients]
    return {
        name: {
            reading: summary(
                np.array([one[name] for one in found]),
                np.array([one[name][reading] for one in marked]),
            )
            for reading in READINGS
        }
        for name in MEASURES
    }


def unmarked_p(patients: list[Patient], rate_hz: int) -> dict[str, int]:
    """Records in which no lead has a P mark, and how many of them get a PR interval from us."""
    without = [patient for patient in patients if np.isnan(patient.marks.p_on).all()]
    stated = [our_intervals(resample(patient.recording, rate_hz))["pr"] for patient in without]
    return {"records": len(without), "pr_stated": int(np.isfinite(stated).sum())}


def read_all(data: Path) -> list[Patient]:
    """Every record of DATA/ludb/data, by number."""
    headers = sorted((data / "ludb" / "data").glob("*.hea"), key=lambda path: int(path.stem))
    if not headers:
        raise SystemExit(f"expected records of LUDB (1.hea, 1.i, ...) in {data / 'ludb' / 'data'}")
    return [read_patient(path.with_suffix("")) for path in headers]


def benchmark(patients: list[Patient]) -> dict[str, Any]:
    """All that this page measures."""
    return {
        "r_peaks": {
            name: [row for rate in RATES_HZ for row in score_detector(patients, detect, rate)]
            for name, detect in DETECTORS.items()
        },
        "intervals": {
            name: {f"{rate} Hz": score_delineator(patients, measure, rate) for rate in RATES_HZ}
            for name, measure in DELINEATORS.items()
        },
        "without_p_marks": {f"{rate} Hz": unmarked_p(patients, rate) for rate in RATES_HZ},
        "records": len(patients),
        "paced": sum(patient.paced for patient in patients),
        "beats": sum(len(patient.marks.r_s) for patient in patients),
    }


def rounded(value: Any) -> Any:
    """The same with four digits after the point."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 4) if isinstance(value, float) else value


def show(result: dict[str, Any]) -> None:
    """The main figures as text."""
    for name, rows in result["r_peaks"].items():
        for row in rows:
            near = row["within 50 ms"]
            print(
                f"R peaks, {name}, {row['rate_hz']} Hz, {row['records']}: sensitivity "
                f"{near['sensitivity']:.4f}, PPV {near['ppv']:.4f} within 50 ms; median absolute "
                f"error {row['median_absolute_error_ms']:.1f} ms"
            )
    for name, rates in result["intervals"].items():
        for rate, measures in rates.items():
            for measure, readings in measures.items():
                for reading, one in readings.items():
                    if "median_bias_ms" not in one:
                        continue
                    bias, size = one["median_bias_ms"], one["median_absolute_error_ms"]
                    print(
                        f"{measure.upper()}, {name}, {rate}, {reading}: bias {bias[0]:+.0f} "
                        f"[{bias[1]:+.0f}, {bias[2]:+.0f}], absolute {size[0]:.0f} "
                        f"[{size[1]:.0f}, {size[2]:.0f}], 90th percentile "
                        f"{one['p90_absolute_error_ms']:.0f} ms, failed {one['failed']:.0%}"
                    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--to", type=Path, default=HERE / "delineation.json")
    options = parser.parse_args()
    began = time.process_time()
    result = rounded(benchmark(read_all(options.data)))
    result["command"] = "python benchmarks/delineation.py --data DATA"
    result["versions"] = {
        "neurokit2": neurokit2.__version__,
        "wfdb": wfdb.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
    result["cpu_seconds"] = round(time.process_time() - began, 1)
    show(result)
    options.to.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
