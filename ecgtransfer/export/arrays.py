"""Export a set as numpy arrays, as classifiers in scikit-learn and torch take them."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecgtransfer.corpus import ECGSet
from ecgtransfer.signals import LEADS
from ecgtransfer.storage import disk_errors, require_space, write_json, write_resumable

#: What the arrays are, see `export_arrays`.
INDEX = "arrays.json"

#: Records written at a time: 12 MB at 100 Hz and 10 s.
WRITTEN_RECORDS = 256

#: Upper bound of a record's rows in the other arrays, in bytes.
ROW_BYTES = 1024


class TrainingArrays(NamedTuple):
    """A set in memory, ready for a classifier.

    Attributes:
        X: signals (n, 12, T) float32 in millivolts, leads in the order of `LEADS`.
        y: labels (n, K) float32, multi-hot.
        groups: patients (n,), text; records of one patient must not be separated.
        weight: weights (n,) float32 of the records.
    """

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    groups: npt.NDArray[np.str_]
    weight: npt.NDArray[np.float32]


def training_arrays(ecgset: ECGSet) -> TrainingArrays:
    """Signals, labels, patients and weights of a set; records of a set without weights weigh 1."""
    return TrainingArrays(
        ecgset.signals_mv(),
        np.array(ecgset.labels, dtype=np.float32),
        patients_of(ecgset),
        weights_of(ecgset),
    )


def patients_of(ecgset: ECGSet) -> npt.NDArray[np.str_]:
    """Patient of each record, (n,); a record without patient is its own."""
    records = ecgset.records
    return np.array(records["patient"].fillna(records["name"]).astype(str).tolist(), dtype=np.str_)


def weights_of(ecgset: ECGSet) -> npt.NDArray[np.float32]:
    """Column `weight` of the table, (n,); 1 where it is missing."""
    if "weight" not in ecgset.records:
        return np.ones(len(ecgset), np.float32)
    return ecgset.records["weight"].fillna(1.0).to_numpy(np.float32)


def export_arrays(
    ecgset: ECGSet,
    folder: Path | str,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write a set as numpy arrays, atomically.

    The folder holds `X.npy` (n, 12, T) float32 millivolts, `y.npy` (n, K) float32, and (n,) each:
    `groups.npy` (patients, text), `weight.npy` (float32), `fold.npy` (int64, -1 where none is
    stated), `origin.npy` and `names.npy` (text). `arrays.json` names leads, labels, unit and
    sampling rate; `export.json` has the card of the set. `numpy.load` reads them without pickles.

    Args:
        ecgset: any set.
        folder: destination of the export; a finished export of the same set is not changed.
        progress: called with (records written, records in the set).

    Returns:
        The folder.

    Raises:
        RunError: there is too little disk space, the disk refuses to write, another process writes
            the folder, or it holds other files.
    """
    folder = Path(folder)
    shape = (len(ecgset), len(LEADS), ecgset.n_samples)

    def write(files: Path) -> None:
        require_space(folder, int(np.prod(shape)) * 4 + len(ecgset) * ROW_BYTES)
        records = ecgset.records
        fold = records["fold"].fillna(-1) if "fold" in records else np.full(len(ecgset), -1)
        others = {
            "y": np.array(ecgset.labels, dtype=np.float32),
            "groups": patients_of(ecgset),
            "weight": weights_of(ecgset),
            "fold": np.asarray(fold, dtype=np.int64),
            "origin": np.array(ecgset.record_origins, dtype=np.str_),
            "names": np.array(records["name"].astype(str).tolist(), dtype=np.str_),
        }
        with disk_errors(folder):
            files.mkdir(exist_ok=True)
            signals = np.lib.format.open_memmap(
                files / "X.npy", mode="w+", dtype=np.float32, shape=shape
            )
            for start in range(0, len(ecgset), WRITTEN_RECORDS):
                stop = min(start + WRITTEN_RECORDS, len(ecgset))
                signals[start:stop] = ecgset.signals_mv(slice(start, stop))
                if progress is not None:
                    progress(stop, len(ecgset))
            signals.flush()
            for name, array in others.items():
                np.save(files / f"{name}.npy", array, allow_pickle=False)
        index = {
            "labels": list(ecgset.names),
            "leads": list(LEADS),
            "sampling_rate_hz": ecgset.sampling_rate_hz,
            "unit": "millivolt",
            "records": len(ecgset),
            "origin": ecgset.origin,
        }
        write_json(files / INDEX, index)

    plan = {"layout": "arrays", "set_fingerprint": ecgset.fingerprint}
    write_resumable(folder, plan, ecgset.card, write)
    return folder
