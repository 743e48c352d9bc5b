"""Classic augmentation of training records, and which transform keeps which diagnosis true.

The transforms are those of `ecg-augmentations` (MIT), imported where they are first used. Its
documentation says what each of them may invalidate; the table here turns that into one statement
a diagnosis, with the reason, for the ranges that stand beside it.

A transform is used where it keeps *every* diagnosis of a study true, and then on all records
alike. One that is kept from some diagnoses only would teach the classifier that its own trace, a
wandering baseline say, speaks against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import INDEPENDENT_LEADS

#: Chance of each transform for each record, independently: of five, one record in 32 meets none.
PROBABILITY = 0.5

#: The diagnoses that the table speaks about: those of `label_space("icbeb9")`.
KNOWN_LABELS = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")


@dataclass(frozen=True)
class Transform:
    """One transform of the library with its range, and the diagnoses that it may make untrue.

    Attributes:
        name: of the transform.
        kind: name of its class in `ecg_augmentations`.
        settings: its range; `timed` ones get the sampling rate as well.
        timed: whether its settings are in seconds or hertz.
        lowest_rate_hz: sampling rate under which it has no meaning.
        invalidates: reason by diagnosis.
        any_label: whether it keeps diagnoses true that the table does not know.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    timed: bool = False
    lowest_rate_hz: float = 0.0
    invalidates: Mapping[str, str] | None = None
    any_label: bool = False

    def keeps(self, label: str) -> bool:
        """Whether a record of this diagnosis still has it afterwards."""
        if label not in KNOWN_LABELS:
            return self.any_label
        return label not in (self.invalidates or {})


_LOST_BEAT = "the only early beat may lie in the half second that leaves the record"
_SEAM = "beats are cut and joined, and the joint may come early"
_INTERVALS = "PR interval and QRS duration decide it, and they change with the time axis"
_RATE = "normal rate and intervals are part of it, and they change with the time axis"
_ONSETS = "a local change of speed makes beats early or late"

#: Every transform that was considered. Ranges where the nine diagnoses stay true:
#: a gain of ±10 % moves an ST level of 0.2 mV by 0.02 mV and one of ±5 % a lead is what recorders
#: are allowed (IEC 60601-2-25), both below the half millimetre (0.05 mV) that is read on paper; a
#: wander of 0.05 mV at up to 0.3 Hz changes by at most 2π · 0.3 Hz · 0.05 mV · 0.2 s = 0.02 mV
#: between PR segment and J point; noise 25 dB under the signal has an 18th of its deviation, about
#: 0.01 mV, a tenth of a P wave.
TRANSFORMS = (
    Transform("gain", "AmplitudeScale", {"scale": (0.9, 1.1)}),
    Transform("lead gain", "AmplitudeScale", {"scale": (0.95, 1.05), "per_lead": True}),
    Transform(
        "baseline wander",
        "BaselineWander",
        {"amplitude": (0.0, 0.05), "freq": (0.05, 0.3), "relative": False},
        timed=True,
    ),
    Transform("gaussian noise", "GaussianNoise", {"snr_db": (25.0, 40.0)}, any_label=True),
    Transform(
        "muscle noise",
        "MuscleNoise",
        {"snr_db": (25.0, 40.0)},
        timed=True,
        lowest_rate_hz=50.0,
        any_label=True,
    ),
    Transform(
        "time shift",
        "TimeShift",
        {"shift": (-0.5, 0.5), "circular": False},
        timed=True,
        invalidates={"PAC": _LOST_BEAT, "PVC": _LOST_BEAT},
    ),
    Transform(
        "circular shift",
        "TimeShift",
        {"shift": (-5.0, 5.0), "circular": True},
        timed=True,
        invalidates={"NORM": _SEAM, "AFIB": _SEAM, "PAC": _SEAM, "PVC": _SEAM},
    ),
    Transform(
        "time stretch",
        "TimeStretch",
        {"factor": (0.9, 1.1)},
        invalidates={
            "NORM": _RATE,
            "1AVB": _INTERVALS,
            "CLBBB": _INTERVALS,
            "CRBBB": _INTERVALS,
            "PAC": _LOST_BEAT,
            "PVC": _INTERVALS,
        },
    ),
    Transform(
        "time warp",
        "RandomTimeWarp",
        {"sigma": (0.0, 0.2)},
        invalidates={
            "NORM": _ONSETS,
            "1AVB": _INTERVALS,
            "CLBBB": _INTERVALS,
            "CRBBB": _INTERVALS,
            "PAC": _ONSETS,
            "PVC": _ONSETS,
        },
    ),
)


def valid_transforms(label_names: Sequence[str]) -> tuple[Transform, ...]:
    """The transforms that keep every one of these diagnoses true, in the order of the table.

    Of a diagnosis that is not among `KNOWN_LABELS` only noise far below the signal is taken to
    leave it alone.
    """
    return tuple(t for t in TRANSFORMS if all(t.keeps(label) for label in label_names))


@dataclass(frozen=True)
class Augmentation:
    """Classic augmentation for records of some diagnoses at one sampling rate.

    Called with signals (B, 8, T) in millivolts and a generator it returns others of the same
    shape, each transform for each record with `PROBABILITY`; what it draws depends on the
    generator alone. It works on the eight independent leads, so the limb leads that follow from
    them agree afterwards as before.

    ConfigError for a sampling rate that is not positive, or no diagnosis.
    """

    label_names: tuple[str, ...]
    sampling_rate_hz: float

    def __post_init__(self) -> None:
        if not self.sampling_rate_hz > 0:
            raise ConfigError(f"expected a positive sampling rate, got {self.sampling_rate_hz}")
        if not self.label_names:
            raise ConfigError("expected the names of the diagnoses that are to stay true, got none")

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """What is done, in order."""
        return tuple(
            t
            for t in valid_transforms(self.label_names)
            if self.sampling_rate_hz > t.lowest_rate_hz
        )

    def describe(self) -> list[dict[str, object]]:
        """Names, ranges and chance of the transforms, for cards: everything that is drawn from."""
        return [
            {
                "transform": t.name,
                "settings": {
                    k: list(v) if isinstance(v, tuple) else v for k, v in t.settings.items()
                },
                "probability": PROBABILITY,
                **({"sampling_rate_hz": float(self.sampling_rate_hz)} if t.timed else {}),
            }
            for t in self.transforms
        ]

    def __call__(self, signals_mv: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 8, T) float millivolts -> the same, transformed; ConfigError for another shape."""
        if signals_mv.ndim != 3 or signals_mv.shape[1] != len(INDEPENDENT_LEADS):
            raise ConfigError(
                f"expected the {len(INDEPENDENT_LEADS)} independent leads of a batch, "
                f"(B, {len(INDEPENDENT_LEADS)}, T), got shape {tuple(signals_mv.shape)}"
            )
        import ecg_augmentations  # type: ignore[import-not-found,import-untyped,unused-ignore]

        for transform in self.transforms:
            rate = {"fs": self.sampling_rate_hz} if transform.timed else {}
            change = getattr(ecg_augmentations, transform.kind)(
                **rate, **transform.settings, p=PROBABILITY
            )
            signals_mv = change(signals_mv, generator=generator)
        return signals_mv
