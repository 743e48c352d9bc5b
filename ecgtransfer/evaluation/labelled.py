"""Signals with their labels, on which classifiers are trained and tested."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import CorpusError
from ecgtransfer.statistics import (
    checked_labels,
)


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Signals with their labels and patients; the arrays are not copied and must not change.

    Attributes:
        signals_mv: independent leads (n, 8, T) in millivolts.
        labels: multi-hot labels (n, K).
        patients: patients (n,); None if every record is its own patient.

    Raises:
        CorpusError: the shapes differ from these, there are no records, or a signal is not finite.
    """

    signals_mv: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    patients: npt.NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        signals, labels = self.signals_mv, checked_labels(self.labels)
        if signals.ndim != 3 or signals.shape[0] != labels.shape[0]:
            raise CorpusError(
                f"expected signals (records, leads, samples) with one row of labels each, got "
                f"shapes {signals.shape} and {labels.shape}; pass both of the same records"
            )
        if not np.isfinite(signals).all():
            raise CorpusError(
                "expected finite signals, got some that are not; drop or repair those records"
            )
        if self.patients is not None and np.shape(self.patients) != (len(signals),):
            raise CorpusError(
                f"expected one patient per record, {len(signals)}, got shape "
                f"{np.shape(self.patients)}; pass one name for each"
            )

    def __len__(self) -> int:
        return len(self.signals_mv)

    def select(self, index: npt.NDArray[np.integer]) -> "LabelledRecords":
        """Return the records at `index`."""
        return LabelledRecords(
            self.signals_mv[index],
            self.labels[index],
            None if self.patients is None else np.asarray(self.patients)[index],
        )

    def joined(self, other: "LabelledRecords") -> "LabelledRecords":
        """Return these records followed by the others, each record as its own patient.

        Raises:
            CorpusError: the numbers of leads or samples differ.
        """
        if self.signals_mv.shape[1:] != other.signals_mv.shape[1:]:
            raise CorpusError(
                f"expected signals of {self.signals_mv.shape[1]} leads and "
                f"{self.signals_mv.shape[2]} samples to join with, got {other.signals_mv.shape[1]} "
                f"and {other.signals_mv.shape[2]}; cut or pad them"
            )
        return LabelledRecords(
            np.concatenate([self.signals_mv, other.signals_mv]),
            np.concatenate([self.labels, other.labels]),
        )

    def fingerprint(self) -> str:
        """SHA-256 of signals and labels."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self.signals_mv.shape, self.labels.shape)).encode())
        digest.update(np.ascontiguousarray(self.signals_mv, dtype=np.float32).data)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.float32).data)
        return digest.hexdigest()
