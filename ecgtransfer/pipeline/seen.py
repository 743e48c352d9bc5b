"""Which patients and signals a source model has seen, so that no target tests on them.

SOURCE/seen.parquet holds 64-bit hashes of the patients and of the signals of all records that the
model was trained or validated on, those of the model that it was started from included. Patients
are hashed with the name of their corpus: patient 17 of two corpora is two people, and patient 17 of
two sets prepared from one corpus is one.
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
#: Records that are read at a time.
READ_RECORDS = 1024

Hashes = NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Seen:
    """Hashes of patients and signals, each sorted and without repeats."""

    patients: Hashes
    signals: Hashes

    @classmethod
    def of(cls, ecgset: ECGSet, numbers: NDArray[np.integer]) -> "Seen":
        """Of some records of a set."""
        return cls(
            np.unique(patient_hashes(ecgset, numbers)), np.unique(signal_hashes(ecgset, numbers))
        )

    def __or__(self, other: "Seen") -> "Seen":
        return Seen(
            np.union1d(self.patients, other.patients), np.union1d(self.signals, other.signals)
        )

    def holds(self, ecgset: ECGSet, numbers: NDArray[np.integer]) -> NDArray[np.bool_]:
        """Which of some records are of a patient seen, or have a signal seen: (n,) bool.

        All records of a patient of whom one signal was seen count.
        """
        own = patient_hashes(ecgset, numbers)
        signal = np.isin(signal_hashes(ecgset, numbers), self.signals)
        return np.isin(own, self.patients) | np.isin(own, own[signal])

    def write(self, folder: Path) -> None:
        """Write `seen.parquet` into a folder; RunError where the disk does not take it."""
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
        """What `write` wrote into a folder; None where nothing is there.

        Raises:
            RunError: a file that cannot be read.
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
    """Name of the corpus that a set was prepared from; None where its card does not state one."""
    corpus = ecgset.card.get("corpus")
    name = corpus.get("name") if isinstance(corpus, dict) else None
    return str(name) if name else None


def patient_hashes(ecgset: ECGSet, numbers: NDArray[np.integer]) -> Hashes:
    """Hash of corpus and patient of some records; of the set where it states no corpus: (n,)."""
    corpus = corpus_name(ecgset) or ecgset.fingerprint
    names = ecgset.records.patient.astype(str).to_numpy()[numbers]
    return np.array([_hash(f"{corpus}\n{name}".encode()) for name in names], np.uint64)


def signal_hashes(ecgset: ECGSet, numbers: NDArray[np.integer]) -> Hashes:
    """Hash of the signal of some records, whole microvolts: (n,)."""
    found = []
    for start in range(0, len(numbers), READ_RECORDS):
        signals_mv = ecgset.independent_mv(np.asarray(numbers)[start : start + READ_RECORDS])
        signals_uv = np.rint(signals_mv * 1000.0).astype(np.int16)
        found += [_hash(np.ascontiguousarray(signal).tobytes()) for signal in signals_uv]
    return np.array(found, np.uint64)


def _hash(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
