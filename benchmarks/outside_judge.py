"""Does a program that others trained on other records call generated ECGs by their class?

    pip install -e '.[benchmarks]'
    python benchmarks/outside_judge.py --real SET --select fold=10 --generated SET ... [--to JSON]

The judge is `openecg` (Apache-2.0): a network of one lead at 500 Hz that finds waves, kinds of
beats and the rhythm. It reads leads II and V1 of at most 300 records of each class and side. Told
for each class: the share of its real and of its generated records that the judge calls by that
class (Wilson intervals, in which the records of one patient count as one), generated minus real
(Newcombe), and the share of the real records *without* the class that it calls so, which says how
far it can be trusted. Class by class it also tells what else it calls them.

What in its output counts as a class is one of a few criteria (`CANDIDATES`). It was decided on
PTB-XL's folds 1 to 8 alone, before fold 10 was looked at:

    python benchmarks/outside_judge.py --real SET --select fold=1-8 --most 100 --choose

tells how each of them separates; `CHOSEN` are the best. The judge knows one kind of bundle branch
block: left and right are told apart by our own code, by the sign of the second half of QRS in V1.

PTB-XL may be known to the judge: its model card names other data for this version of the network,
but PTB-XL for an earlier one that it was continued from. Real records may look better for that.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

# Before NumPy is loaded: one thread, also where the judge multiplies without its network.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecgtransfer.corpus import ECGSet, select_records
from ecgtransfer.signals import resample
from ecgtransfer.statistics import (
    Estimate,
    effective_records,
    newcombe_difference,
    wilson_estimate,
)

CLASSES = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PVC")
#: Records a class and side.
MOST = 300
#: Fewer than this tell nothing.
FEWEST = 10
#: Generated records may be called by their class this much more or less often than real ones.
MARGIN = 0.10
#: Rate and length that the judge was trained on.
RATE_HZ, SECONDS = 500, 10
#: A QRS is wide, and a PR long, from here on.
WIDE_QRS_MS, LONG_PR_MS = 120, 200
#: Level before a QRS, from which its second half is measured.
BASELINE_S = 0.04
TOLD_EVERY = 50


class LeadReading(NamedTuple):
    """What the judge says of one lead.

    rhythm: sinus, avb, paced, afib, bbb or ventricular; unknown where it found no QRS.
    qrs_ms, pr_ms: medians over beats, None where it found none.
    """

    rhythm: str
    qrs_ms: float | None
    pr_ms: float | None
    ventricular_beats: int


#: Of a lead without any QRS.
NOTHING = LeadReading("unknown", None, None, 0)


class Reading(NamedTuple):
    """What the judge says of a record, and the one thing that we measure for it.

    late_qrs_v1_mv: level of the second half of the QRS complexes that the judge found in V1.
    """

    ii: LeadReading
    v1: LeadReading
    late_qrs_v1_mv: float | None


Criterion = Callable[[Reading], bool]


def _rhythm(name: str) -> Criterion:
    return lambda found: found.ii.rhythm == name


def _rhythm_v1(name: str) -> Criterion:
    return lambda found: found.v1.rhythm == name


def _ventricular(found: Reading) -> bool:
    return found.ii.ventricular_beats > 0


def _ventricular_v1(found: Reading) -> bool:
    return found.v1.ventricular_beats > 0


def _wide(found: Reading) -> bool:
    return found.ii.qrs_ms is not None and found.ii.qrs_ms >= WIDE_QRS_MS


def _wide_v1(found: Reading) -> bool:
    return found.v1.qrs_ms is not None and found.v1.qrs_ms >= WIDE_QRS_MS


def _long_pr(found: Reading) -> bool:
    return found.ii.pr_ms is not None and found.ii.pr_ms > LONG_PR_MS


def _left(found: Reading) -> bool:
    return found.late_qrs_v1_mv is not None and found.late_qrs_v1_mv < 0


def _right(found: Reading) -> bool:
    return found.late_qrs_v1_mv is not None and found.late_qrs_v1_mv > 0


def _every(*criteria: Criterion) -> Criterion:
    return lambda found: all(criterion(found) for criterion in criteria)


def _either(*criteria: Criterion) -> Criterion:
    return lambda found: any(criterion(found) for criterion in criteria)


def _no(criterion: Criterion) -> Criterion:
    return lambda found: not criterion(found)


def _block(side: Criterion, direction: str) -> dict[str, Criterion]:
    block = _rhythm("bbb")
    late = f", second half of QRS in V1 {direction} (ours)"
    return {
        f"rhythm bbb in II{late}": _every(block, side),
        f"QRS >= 120 ms in V1{late}": _every(_wide_v1, side),
        f"QRS >= 120 ms in II or V1{late}": _every(_either(_wide, _wide_v1), side),
        f"rhythm bbb in II or QRS >= 120 ms in V1{late}": _every(_either(block, _wide_v1), side),
        f"rhythm bbb in II and QRS >= 120 ms in V1{late}": _every(block, _wide_v1, side),
    }


_SINUS = _rhythm("sinus")

#: What may count as a class, simple ones first.
CANDIDATES: Mapping[str, Mapping[str, Criterion]] = {
    "NORM": {
        "sinus rhythm in II": _SINUS,
        "sinus rhythm, no ventricular beat in II": _every(_SINUS, _no(_ventricular)),
        "sinus rhythm, no ventricular beat, QRS < 120 ms in II": _every(
            _SINUS, _no(_ventricular), _no(_wide)
        ),
        "sinus rhythm, no ventricular beat, QRS < 120 ms, PR <= 200 ms in II": _every(
            _SINUS, _no(_ventricular), _no(_wide), _no(_long_pr)
        ),
    },
    "AFIB": {
        "rhythm afib in II": _rhythm("afib"),
        "rhythm afib in V1": _rhythm_v1("afib"),
        "rhythm afib in II or V1": _either(_rhythm("afib"), _rhythm_v1("afib")),
        "rhythm afib in II and V1": _every(_rhythm("afib"), _rhythm_v1("afib")),
    },
    "1AVB": {
        "rhythm avb in II": _rhythm("avb"),
        "PR > 200 ms in II": _long_pr,
        "rhythm avb or PR > 200 ms in II": _either(_rhythm("avb"), _long_pr),
    },
    "CLBBB": _block(_left, "negative"),
    "CRBBB": _block(_right, "positive"),
    "PVC": {
        "a ventricular beat in II": _ventricular,
        "a ventricular beat in V1": _ventricular_v1,
        "a ventricular beat in II or V1": _either(_ventricular, _ventricular_v1),
        "a ventricular beat in II and V1": _every(_ventricular, _ventricular_v1),
    },
}

#: What counts as a class, decided by `choose` on PTB-XL's folds 1 to 8.
CHOSEN: Mapping[str, str] = {
    "NORM": "sinus rhythm, no ventricular beat, QRS < 120 ms in II",
    "AFIB": "rhythm afib in II",
    "1AVB": "rhythm avb or PR > 200 ms in II",
    "CLBBB": "rhythm bbb in II, second half of QRS in V1 negative (ours)",
    "CRBBB": "rhythm bbb in II or QRS >= 120 ms in V1, second half of QRS in V1 positive (ours)",
    "PVC": "a ventricular beat in II or V1",
}


@dataclass(frozen=True)
class Judged:
    """The records of a side that were read.

    labels (N, K) and patients (N,) of the records that were read, and one reading each; drawn: the
    rows of these N that were drawn for each class.
    """

    labels: npt.NDArray[np.bool_]
    names: tuple[str, ...]
    patients: npt.NDArray[Any]
    readings: Sequence[Reading]
    drawn: Mapping[str, npt.NDArray[np.int64]]

    def without(self, name: str) -> npt.NDArray[np.int64]:
        """Rows of the records that do not state a class."""
        return np.flatnonzero(~self.labels[:, self.names.index(name)])

    def share(self, rows: npt.NDArray[np.int64], criterion: Criterion) -> "Share | None":
        """Of these rows, how many the judge calls so; None for fewer than `FEWEST`."""
        if len(rows) < FEWEST:
            return None
        called = sum(criterion(self.readings[row]) for row in rows)
        return Share(called, len(rows), effective_records(self.patients[rows]))


class Share(NamedTuple):
    """So many of so many records, which are worth so many independent ones."""

    called: int
    records: int
    worth: float

    @property
    def value(self) -> float:
        """The share itself."""
        return self.called / self.records

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers for JSON, with Wilson's interval."""
        return {
            "called": self.called,
            "records": self.records,
            "share": _rounded(wilson_estimate(self.value, self.worth)),
        }

    def minus(self, other: "Share", comparisons: int = 1) -> Estimate:
        """Difference of two shares with Newcombe's interval."""
        return newcombe_difference(
            other.value, other.worth, self.value, self.worth, comparisons=comparisons
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", type=Path, required=True, help="a prepared set")
    parser.add_argument("--select", action="append", help="records of it, as in fold=10")
    parser.add_argument("--generated", type=Path, action="append", help="or another real set")
    parser.add_argument("--select-generated", action="append", help="records of these")
    parser.add_argument("--choose", action="store_true", help="compare the criteria instead")
    parser.add_argument("--most", type=int, default=MOST, help="records a class and side")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--work", type=Path, help="folder where readings are kept for the next call"
    )
    parser.add_argument("--to", type=Path, help="file for the JSON")
    options = parser.parse_args()
    if (options.generated is None) != options.choose:
        parser.error("give either --generated or --choose")
    judge = one_threaded_judge()
    real = judged(options.real, options.select, judge, options, others=True)
    found: dict[str, Any] = {
        "judge": {name: version(name) for name in ("openecg", "onnxruntime")},
        "most": options.most,
        "seed": options.seed,
        "real": described(options.real, options.select, real),
    }
    if options.choose:
        found["criteria"] = choose(real)
    else:
        found["real"]["called"] = confusion(real)
        found["generated"] = []
        for folder in options.generated:
            made = judged(folder, options.select_generated, judge, options, others=False)
            described_made = described(folder, options.select_generated, made)
            found["generated"].append(
                described_made | {"called": confusion(made), "classes": compared(real, made)}
            )
    text = json.dumps(found, indent=1)
    print(text)
    if options.to is not None:
        options.to.write_text(text + "\n")


def one_threaded_judge() -> Any:
    """The judge's network in onnxruntime, in one thread: `openecg` leaves no choice of threads."""
    try:
        import onnxruntime
        from openecg.deploy import OnnxCodec
    except ImportError as missing:
        raise SystemExit(
            f"the outside judge needs the package {missing.name}, which is not installed; "
            "install it by: pip install -e '.[benchmarks]'"
        ) from None
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    session = partial(onnxruntime.InferenceSession, sess_options=settings)
    with mock.patch.object(onnxruntime, "InferenceSession", session):
        return OnnxCodec()


def judged(
    folder: Path,
    selection: Sequence[str] | None,
    judge: Any,
    options: argparse.Namespace,
    *,
    others: bool,
) -> Judged:
    """Reads the records drawn for each class, and with `others` those of every other label."""
    ecgset = ECGSet.open(folder)
    names = ecgset.label_space.names
    require_readable(names, ecgset.n_samples / ecgset.sampling_rate_hz)
    candidates = select_records(ecgset.records, selection or ())
    labels = np.asarray(ecgset.labels)[candidates] == 1
    drawn = draw(labels, names, names if others else CLASSES, options.most, options.seed)
    rows = np.unique(np.concatenate(list(drawn.values())))
    readings = read_all(ecgset, candidates[rows].tolist(), judge, options.work)
    return Judged(
        labels=labels[rows],
        names=names,
        patients=patients_of(ecgset.records.iloc[candidates[rows]]),
        readings=readings,
        drawn={name: np.searchsorted(rows, numbers) for name, numbers in drawn.items()},
    )


def patients_of(table: pd.DataFrame) -> npt.NDArray[Any]:
    """The patient of each record; one without, as are generated ones, is a patient of its own."""
    return table["patient"].astype(object).where(table["patient"].notna(), table["name"]).to_numpy()


def read_all(
    ecgset: ECGSet, numbers: Sequence[int], judge: Any, work: Path | None
) -> list[Reading]:
    """Readings of these records; those that are in `work` already are not made again."""
    kept: dict[int, Reading] = {}
    file = None
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        file = work / f"{ecgset.fingerprint[:12]}-openecg-{version('openecg')}.jsonl"
        for line in file.read_text().splitlines() if file.exists() else ():
            number, (ii, v1, late) = json.loads(line)
            kept[number] = Reading(LeadReading(*ii), LeadReading(*v1), late)
    for done, number in enumerate(numbers):
        if done % TOLD_EVERY == 0:
            told = f"{ecgset.folder.name}: {done} of {len(numbers)} read"
            print(told, file=sys.stderr, flush=True)
        if number in kept:
            continue
        kept[number] = read(ecgset, number, judge)
        if file is not None:
            with file.open("a") as lines:
                lines.write(json.dumps((number, kept[number])) + "\n")
    return [kept[number] for number in numbers]


def require_readable(names: Sequence[str], seconds: float) -> None:
    """Stops, in a sentence, before a set that has not the classes or not the judge's length."""
    missing = [name for name in CLASSES if name not in names]
    if missing:
        raise SystemExit(
            f"expected a set with the labels {', '.join(CLASSES)}, got one without "
            f"{', '.join(missing)}; prepare it with --labels icbeb9"
        )
    if seconds != SECONDS:
        raise SystemExit(
            f"expected records of {SECONDS} s, which the judge was trained on, got {seconds:g} s; "
            f"prepare the set with --seconds {SECONDS}"
        )


def draw(
    labels: npt.NDArray[np.bool_],
    names: Sequence[str],
    wanted: Iterable[str],
    most: int,
    seed: int,
) -> dict[str, npt.NDArray[np.int64]]:
    """At most `most` of the rows of labels (N, K) that state each class, ascending; NORM alone."""
    drawn = {}
    for name in wanted:
        column = names.index(name)
        states = labels[:, column]
        if name == "NORM":
            states = states & (labels.sum(axis=1) == 1)
        # A draw of its own for each class: another class more or less changes no other draw.
        rng = np.random.default_rng([seed, column])
        drawn[name] = np.sort(rng.permutation(np.flatnonzero(states))[:most])
    return drawn


def read(ecgset: ECGSet, number: int, judge: Any) -> Reading:
    """The judge's reading of one record, resampled to its rate."""
    recording = resample(ecgset.recording(number), RATE_HZ)
    ii, _ = read_lead(recording.lead_mv("II"), judge)
    v1, spans = read_lead(recording.lead_mv("V1"), judge)
    return Reading(ii, v1, late_level_mv(recording.lead_mv("V1"), spans, RATE_HZ))


def read_lead(
    signal_mv: npt.NDArray[np.floating], judge: Any
) -> tuple[LeadReading, list[tuple[int, int]]]:
    """The reading of a lead (n,) in mV at `RATE_HZ`, and the samples of its QRS complexes."""
    import openecg
    from openecg.eval import ALL_SUPER_QRS_CLASSES

    if len(openecg.detect_qrs(signal_mv, RATE_HZ)) == 0:
        return NOTHING, []  # where `openecg.report` breaks
    remembering = Remembering(judge)
    report = openecg.report(signal_mv, fs=RATE_HZ, model=remembering).to_dict()
    found = lead_reading(report)
    waves = remembering.waves.events("frame")
    return found, [(start, end) for start, end, wave in waves if wave in ALL_SUPER_QRS_CLASSES]


class Remembering:
    """The judge's network, and the waves that it found last: a report keeps but their medians."""

    def __init__(self, judge: Any) -> None:
        self.judge = judge
        self.waves: Any = None

    def encode(self, signal: npt.NDArray[np.floating], fs: int) -> Any:
        """Waves, beats and rhythm, sample by sample; what `openecg` asks of a network."""
        self.waves = self.judge.encode(signal, fs=fs)
        return self.waves


def lead_reading(report: Mapping[str, Any]) -> LeadReading:
    """What counts of an `openecg.EcgReport` as a dictionary.

    A report whose network failed is one of heart rate alone; it stops us.
    """
    failed = [flag for flag in report["flags"] if flag.startswith("codec_")]
    if failed:
        raise RuntimeError(f"the judge's network failed: {', '.join(failed)}")
    intervals = report["intervals_ms"]
    return LeadReading(
        rhythm=report["rhythm"]["label"],
        qrs_ms=intervals.get("qrs_duration"),
        pr_ms=intervals.get("pr"),
        ventricular_beats=report["beats"]["vpc_count"],
    )


def late_level_mv(
    signal_mv: npt.NDArray[np.floating], spans: Iterable[tuple[int, int]], rate_hz: float
) -> float | None:
    """Mean of the second half of QRS less the median of the 40 ms before it, median over beats.

    signal_mv (n,), spans of QRS in samples, end excluded. A QRS that touches an end of the signal
    is left out; None where none is left.
    """
    before = round(BASELINE_S * rate_hz)
    levels = [
        signal_mv[(start + end) // 2 : end].mean() - np.median(signal_mv[start - before : start])
        for start, end in spans
        if start >= before and end < len(signal_mv)
    ]
    return float(np.median(levels)) if levels else None


def compared(real: Judged, generated: Judged) -> dict[str, Any]:
    """Each class in real and generated records: shares, difference, verdict, and the others."""
    found = {}
    for name in CLASSES:
        criterion = CANDIDATES[name][CHOSEN[name]]
        own, made = (side.share(side.drawn[name], criterion) for side in (real, generated))
        others = real.share(real.without(name), criterion)
        told: dict[str, Any] = {"criterion": CHOSEN[name]}
        told |= {
            side: None if share is None else share.to_dict()
            for side, share in (("real", own), ("generated", made), ("real others", others))
        }
        if own is not None and others is not None:
            told["real minus real others"] = _rounded(own.minus(others))
        if own is not None and made is not None:
            told["generated minus real"] = _rounded(made.minus(own))
            told["verdict"] = verdict(made.minus(own), made.minus(own, len(CLASSES)))
        else:
            told["verdict"] = f"not tested: fewer than {FEWEST} records"
        found[name] = told
        print(f"{name}: {told['verdict']}", file=sys.stderr, flush=True)
    return found


def verdict(difference: Estimate, adjusted: Estimate) -> str:
    """Whether the interval lies within 10 points, or the one adjusted for six classes beyond.

    Equivalence of each class needs no adjustment for all to be equivalent (intersection-union
    test); that some class differs does (Bonferroni).
    """
    if difference.low > -MARGIN and difference.high < MARGIN:
        return "within 10 points"
    if adjusted.high < -MARGIN or adjusted.low > MARGIN:
        return "beyond 10 points"
    return "undecided"


def confusion(side: Judged) -> dict[str, dict[str, float]]:
    """Of the records drawn for each class (outer), the share called by each class (inner).

    A record may be called by several classes, or by none.
    """
    return {
        stated: {
            name: round(
                float(
                    np.mean([CANDIDATES[name][CHOSEN[name]](side.readings[row]) for row in rows])
                ),
                3,
            )
            for name in CLASSES
        }
        for stated, rows in side.drawn.items()
        if len(rows)
    }


def choose(real: Judged) -> dict[str, Any]:
    """How each criterion separates the class from the others, and the one that is taken.

    Separation is Youden's J: the share of the class that is called so less that of the others.
    The highest is taken, of equals the first.
    """
    found = {}
    for name, criteria in CANDIDATES.items():
        shares = {
            words: (real.share(real.drawn[name], each), real.share(real.without(name), each))
            for words, each in criteria.items()
        }
        separation = {}
        for words, (own, others) in shares.items():
            if own is None or others is None:
                raise SystemExit(
                    f"expected {FEWEST} records with and without {name}, got fewer; select more"
                )
            separation[words] = round(own.value - others.value, 3)
        found[name] = {
            "records": len(real.drawn[name]),
            "others": len(real.without(name)),
            "own, others, own minus others": {
                words: [round(own.value, 3), round(others.value, 3), separation[words]]
                for words, (own, others) in shares.items()
            },
            "taken": max(separation, key=separation.__getitem__),
        }
    return found


def described(folder: Path, selection: Sequence[str] | None, side: Judged) -> dict[str, Any]:
    """A side for the JSON: the set by its name and fingerprint, never by its path."""
    ecgset = ECGSet.open(folder)
    return {
        "set": folder.name,
        "fingerprint": ecgset.fingerprint[:12],
        "origin": ecgset.origin,
        "selection": list(selection or ()),
        "records read": len(side.readings),
    }


def _rounded(value: Estimate) -> dict[str, float]:
    return {name: round(number, 3) for name, number in value.to_dict().items()}


if __name__ == "__main__":
    main()
