"""Patients and signals on which a source model was trained or validated.

They are excluded from every target, so that no transfer is tested on them. SOURCE/seen.parquet has
64-bit hashes of the patients and signals of these records, including those of the model from which
the training started. The hash of a patient includes the name of the corpus: patient 17 of two
corpora is two patients, and patient 17 of two sets prepared from one corpus is one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import RunError
from ecgtransfer.storage import atomic_file

SEEN = "seen.parquet"
#: Number of records read at a time.
READ_RECORDS = 1024

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Seen:
    """Hashes of patients and signals, each sorted and without repeats.

    Attributes:
        patients: hashes of patients, `patient_hashes`.
        signals: hashes of signals, `signal_hashes`.
    """

    patients: Hashes
    signals: Hashes

    @classmethod
    def of(cls, ecgset: ECGSet, indices: NDArray[np.integer]) -> "Seen":
        """Hash the patients and signals of the records at `indices` of a set."""
        return cls(
            np.unique(patient_hashes(ecgset, indices)), np.unique(signal_hashes(ecgset, indices))
        )

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(
            np.union1d(self.patients, other.patients), np.union1d(self.signals, other.signals)
        )

    def holds(self, ecgset: ECGSet, indices: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Whether the patient or the signal of each record at `indices` was seen: (n,).

        If one signal of a patient was seen, all records of that patient count as seen.
        """
        own = patient_hashes(ecgset, indices)
        signal = np.isin(signal_hashes(ecgset, indices), self.signals)
        return np.isin(own, self.patients) | np.isin(own, own[signal])

    def write(self, folder: Path) -> None:
        """Write `seen.parquet` into a folder.

        Raises:
            StorageError: the file cannot be written.
        """
        import pyarrow
        import pyarrow.parquet

        kinds = ["patient"] * len(self.patients) + ["signal"] * len(self.signals)
        table = pyarrow.table(
            {
                "kind": pyarrow.array(kinds).dictionary_encode(),
                "hash": pyarrow.array(np.concatenate([self.patients, self.signals])),
            }
        )
        with atomic_file(folder / SEEN) as partial:
            pyarrow.parquet.write_table(table, partial)

    @classmethod
    def read(cls, folder: Path) -> "Seen | None":
        """Read the hashes that `write` wrote into a folder; None without such a file.

        Raises:
            RunError: the file cannot be read.
        """
        import pyarrow
        import pyarrow.parquet

        path = folder / SEEN
        if not path.exists():
            return None
        try:
            table = pyarrow.parquet.read_table(path)
            kinds = np.array(table["kind"].to_pylist())
            hashes = table["hash"].to_numpy().astype(np.uint64)
        except (OSError, KeyError, pyarrow.ArrowException) as error:
            raise RunError(
                f"{path} cannot be read ({error}); copy the source model again"
            ) from None
        return cls(np.sort(hashes[kinds == "patient"]), np.sort(hashes[kinds == "signal"]))


def corpus_name(ecgset: ECGSet) -> str | None:
    """Name of the corpus from which a set was prepared; None if its card does not state one."""
    corpus = ecgset.card.get("corpus")
    name = corpus.get("name") if isinstance(corpus, dict) else None
    return str(name) if name else None


def patient_hashes(ecgset: ECGSet, indices: NDArray[np.integer]) -> Hashes:
    """Hash of corpus and patient of each record at `indices`, (n,).

    For a set that states no corpus, the fingerprint of the set takes its place.
    """
    corpus = corpus_name(ecgset) or ecgset.fingerprint
    names = ecgset.records.patient.astype(str).to_numpy()[indices]
    return np.array([_hash(f"{corpus}\n{name}".encode()) for name in names], np.uint64)


def signal_hashes(ecgset: ECGSet, indices: NDArray[np.integer]) -> Hashes:
    """Hash of the signal of each record at `indices`, in whole microvolts: (n,)."""
    found = []
    for start in range(0, len(indices), READ_RECORDS):
        signals_mv = ecgset.independent_mv(np.asarray(indices)[start : start + READ_RECORDS])
        signals_uv = np.rint(signals_mv * 1000.0).astype(np.int16)
        found += [_hash(np.ascontiguousarray(signal).tobytes()) for signal in signals_uv]
    return np.array(found, np.uint64)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
