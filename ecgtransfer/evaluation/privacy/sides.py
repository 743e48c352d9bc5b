"""The records of one side of a privacy test, and checks that the sides go together."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import CorpusError
from ecgtransfer.evaluation.privacy.lag_correlation import (
    Float32Array,
)

#: Fewest patients a side that resampling can say anything about.
FEWEST_PATIENTS = 5


@dataclass(frozen=True, eq=False)
class PrivacySide:
    """Records of one side of the comparison.

    signals_mv (n, 8, T) the independent leads in millivolts; features (n, F) of a classifier that
    learned from neither side, standardised by one scale for all sides, or none; patients (n,) or
    none where every record is its own patient; names (n,) or none for numbers from 0. CorpusError
    for other shapes, no records, or values that are not finite.
    """

    signals_mv: Float32Array
    features: npt.NDArray[np.floating] | None = None
    patients: npt.NDArray[np.generic] | None = None
    names: Sequence[str] | None = None

    def __post_init__(self) -> None:
        signals = np.asarray(self.signals_mv)
        if signals.ndim != 3 or 0 in signals.shape or not np.isfinite(signals).all():
            raise CorpusError(
                f"expected finite signals (records, leads, samples), got {signals.shape}; leave "
                "out the records that are not"
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
                    f"expected one {what} per record, {n}, got {np.shape(values)}; give all or none"
                )

    def __len__(self) -> int:
        return len(self.signals_mv)

    def name(self, number: int) -> str:
        """What the record is called."""
        return str(number) if self.names is None else str(self.names[number])


def patients_of(side: PrivacySide) -> npt.NDArray[np.generic]:
    """(n,) patients, as text; numbers from 0 where every record is its own patient."""
    if side.patients is None:
        return np.arange(len(side))
    return np.asarray(side.patients).astype(str)


def check_alike(sides: Sequence[PrivacySide]) -> None:
    """One number of leads, of samples and of features."""
    shapes = {np.asarray(side.signals_mv).shape[1:] for side in sides}
    if len(shapes) > 1:
        raise CorpusError(
            f"expected signals of one number of leads and samples, got {sorted(shapes)}; bring all "
            "sides to one rate and length"
        )
    features = [side.features for side in sides if side.features is not None]
    widths = {np.asarray(values).shape[1] for values in features}
    if len(widths) > 1 or len(features) not in (0, len(sides)):
        raise CorpusError(
            f"expected features of one embedding for all sides or for none, got "
            f"{len(features)} sides with {sorted(widths)}; embed them all alike"
        )


def check_patients(
    training: PrivacySide,
    hold_out: PrivacySide,
    members: npt.NDArray[np.generic],
    strangers: npt.NDArray[np.generic],
) -> None:
    """Raise CorpusError for too few patients, or one who is on both sides."""
    for patients in (members, strangers):
        require_patients(len(np.unique(patients)))
    if training.patients is None or hold_out.patients is None:
        return
    if shared := sorted(set(members) & set(strangers)):
        raise CorpusError(
            f"{len(shared)} patients are in training and in hold-out, such as {shared[0]}; the "
            "generator has seen them, so leave their records out of the hold-out"
        )


def require_patients(count: int) -> None:
    """Raise CorpusError for fewer patients than resampling can say anything about."""
    if count < FEWEST_PATIENTS:
        raise CorpusError(
            f"expected at least {FEWEST_PATIENTS} patients a side, got {count}; hold out more"
        )
