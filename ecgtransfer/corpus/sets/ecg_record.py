"""One record of a set: a recording with its name, labels and origin."""

from dataclasses import dataclass

from ecgtransfer.signals import Recording


@dataclass(frozen=True, eq=False)
class ECGRecord(Recording):
    """A recording of a set, with what the set states about it.

    Attributes:
        name: name of the record.
        labels: names of its labels.
        origin: `recorded`, `simulated` or `generated`.

    Raises:
        SignalError: as in `Recording`.
    """

    name: str = ""
    labels: tuple[str, ...] = ()
    origin: str = "recorded"

    @property
    def is_synthetic(self) -> bool:
        """Whether the record is not the ECG of a patient."""
        return self.origin != "recorded"
