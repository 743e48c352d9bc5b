"""Records of one side of a privacy test, and checks that the sides are compatible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.privacy.lag_correlation import (
    Float32Array,
)

#: Fewest patients per side for a bootstrap.
FEWEST_PATIENTS = 5


@dataclass(frozen=True, eq=False)
class PrivacySide:
    """Records of one side of a privacy test: training, hold-out or generated.

    Attributes:
        signals_mv: independent leads (n, 8, T) in millivolts.
        features: features (n, F) of a classifier that was trained on neither side, standardised by
            one scale for all sides; or None.
        patients: patients (n,); None if every record is its own patient.
        names: names (n,); None for the indices from 0.

    Raises:
        CorpusError: the shapes differ from these, there are no records, or a value is not finite.
    """

    signals_mv: Float32Array
    features: npt.NDArray[np.floating] | None = None
    patients: npt.NDArray[np.generic] | None = None
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        signals = np.asarray(self.signals_mv)
        if signals.ndim != 3 or 0 in signals.shape or not np.isfinite(signals).all():
            raise CorpusError(
                f"expected finite signals (records, leads, samples), got shape {signals.shape} or "
                "values that are not finite; exclude those records"
            )
        n = len(signals)
        if self.features is not None:
            features = np.asarray(self.features)
            if features.ndim != 2 or len(features) != n or not np.isfinite(features).all():
                raise CorpusError(
                    f"expected finite features (records, F) of the {n} records, got "
                    f"{features.shape}; embed the same records"
                )
        for what, values in (("patient", self.patients), ("name", self.names)):
            if values is not None and np.shape(values) != (n,):
                raise CorpusError(
                    f"expected one {what} per record, {n}, got shape {np.shape(values)}; give all "
                    "or none"
                )

    def __len__(self) -> int:
        return len(self.signals_mv)

    def name(self, index: int) -> str:
        """Name of the record at `index`."""
        return str(index) if self.names is None else str(self.names[index])


def patients_of(side: PrivacySide) -> npt.NDArray[np.generic]:
    """Patients (n,) as text, or the indices from 0 if every record is its own patient."""
    if side.patients is None:
        return np.arange(len(side))
    return np.asarray(side.patients).astype(str)


def check_alike(sides: Sequence[PrivacySide]) -> None:
    """Check that all sides have the same numbers of leads, samples and features.

    Raises:
        CorpusError: they differ, or only some sides have features.
    """
    shapes = {np.asarray(side.signals_mv).shape[1:] for side in sides}
    if len(shapes) > 1:
        raise CorpusError(
            f"expected signals of one number of leads and samples, got {sorted(shapes)}; prepare "
            "all sides at one rate and length"
        )
    features = [side.features for side in sides if side.features is not None]
    widths = {np.asarray(values).shape[1] for values in features}
    if len(widths) > 1 or len(features) not in (0, len(sides)):
        raise CorpusError(
            f"expected features of one embedding for all sides or for none, got "
            f"{len(features)} sides with {sorted(widths)}; embed all of them with one classifier"
        )


def check_patients(
    training: PrivacySide,
    hold_out: PrivacySide,
    members: npt.NDArray[np.generic],
    non_members: npt.NDArray[np.generic],
) -> None:
    """Check that both sides have enough patients and share none.

    Args:
        training: training records.
        hold_out: hold-out records.
        members: patients of the training records, from `patients_of`.
        non_members: patients of the hold-out records, from `patients_of`.

    Raises:
        CorpusError: a side has fewer than `FEWEST_PATIENTS`, or a patient is on both sides.
    """
    for patients in (members, non_members):
        require_patients(len(np.unique(patients)))
    if training.patients is None or hold_out.patients is None:
        return
    if shared := sorted(set(members) & set(non_members)):
        raise CorpusError(
            f"{len(shared)} patients are in training and in hold-out, such as {shared[0]}; exclude "
            "their records from the hold-out, because the generator was trained on them"
        )


def require_patients(count: int) -> None:
    """Check the number of patients.

    Raises:
        CorpusError: there are fewer than `FEWEST_PATIENTS`.
    """
    if count < FEWEST_PATIENTS:
        raise CorpusError(
            f"expected at least {FEWEST_PATIENTS} patients per side, got {count}; hold out more"
        )
