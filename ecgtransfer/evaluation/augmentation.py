"""Classic augmentation of training records with transforms that preserve the diagnoses.

The transforms come from `ecg-augmentations` (MIT), which is imported on first use. Its
documentation says which findings a transform may invalidate. `TRANSFORMS` states this per
diagnosis, with the reason, for the ranges used here.

A transform is used only if it preserves *every* diagnosis of a study, and then on all records.
If it were skipped for some diagnoses, the classifier could learn that the trace of the transform,
such as a wandering baseline, is evidence against them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import INDEPENDENT_LEADS

#: Probability of each transform per record, independently: with five transforms, one record in 32
#: stays unchanged.
PROBABILITY = 0.5

#: Diagnoses that `TRANSFORMS` covers: those of `label_space("icbeb9")`.
KNOWN_LABELS = ("NORM", "AFIB", "1AVB", "CLBBB", "CRBBB", "PAC", "PVC", "STD_", "STE_")


@dataclass(frozen=True)
class Transform:
    """One transform of the library with its range, and the diagnoses that it may invalidate.

    Attributes:
        name: name of the transform on cards.
        kind: name of its class in `ecg_augmentations`.
        settings: arguments of that class, mostly ranges.
        timed: whether the settings are in seconds or hertz; the class then gets the sampling rate.
        lowest_rate_hz: the transform is skipped at this sampling rate or below.
        invalidates: the diagnoses that it may invalidate, each with the reason.
        any_label: whether it preserves diagnoses outside `KNOWN_LABELS`.
    """

    name: str
    kind: str
    settings: Mapping[str, Any]
    timed: bool = False
    lowest_rate_hz: float = 0.0
    invalidates: Mapping[str, str] | None = None
    any_label: bool = False

    def keeps(self, label: str) -> bool:
        """Whether a record still has this diagnosis after the transform."""
        if label not in KNOWN_LABELS:
            return self.any_label
        return label not in (self.invalidates or {})


_LOST_BEAT = "the only early beat may lie in the half second that is shifted out of the record"
_SEAM = "the record is joined at a new place, where a beat may look early"
_INTERVALS = "it is defined by PR interval or QRS duration, which change with the time axis"
_RATE = "it includes a normal rate and normal intervals, which change with the time axis"
_ONSETS = "a local change of speed makes beats early or late"

#: All transforms that were considered. The ranges preserve the nine diagnoses:
#: - A gain of ±10 % changes an ST level of 0.2 mV by 0.02 mV, and recorders may have errors of
#:   ±5 % per lead (IEC 60601-2-25). Both are below the half millimetre (0.05 mV) that is read on
#:   paper.
#: - A baseline wander of 0.05 mV at up to 0.3 Hz changes by at most
#:   2π · 0.3 Hz · 0.05 mV · 0.2 s = 0.02 mV between PR segment and J point.
#: - Noise 25 dB below the signal has 1/18 of its standard deviation, about 0.01 mV, a tenth of a
#:   P wave.
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
    """Return the transforms that preserve all of these diagnoses, in the order of `TRANSFORMS`.

    A diagnosis outside `KNOWN_LABELS` allows weak noise only.
    """
    return tuple(t for t in TRANSFORMS if all(t.keeps(label) for label in label_names))


@dataclass(frozen=True)
class Augmentation:
    """Classic augmentation of records at one sampling rate that preserves the given diagnoses.

    Call it with signals (B, 8, T) in millivolts and a generator. It applies each transform to each
    record with `PROBABILITY` and returns signals of the same shape. All randomness comes from the
    generator. It changes the eight independent leads; the other four are computed from
    them, so the limb leads stay consistent.

    Attributes:
        label_names: diagnoses to preserve.
        sampling_rate_hz: sampling rate of the signals.

    Raises:
        ConfigError: the sampling rate is not positive, or there is no diagnosis.
    """

    label_names: tuple[str, ...]
    sampling_rate_hz: float

    def __post_init__(self) -> None:
        if not self.sampling_rate_hz > 0:
            raise ConfigError(
                f"expected a positive sampling rate, got {self.sampling_rate_hz}; pass that of the "
                "records in hertz"
            )
        if not self.label_names:
            raise ConfigError(
                "expected the names of the diagnoses to preserve, got none; pass those of the study"
            )

    @property
    def transforms(self) -> tuple[Transform, ...]:
        """Transforms that are applied, in order."""
        return tuple(
            t
            for t in valid_transforms(self.label_names)
            if self.sampling_rate_hz > t.lowest_rate_hz
        )

    def describe(self) -> list[dict[str, object]]:
        """Return name, range and probability of each transform, for cards."""
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
        """Transform signals (B, 8, T) in millivolts; the result has the same shape.

        Raises:
            ConfigError: the signals have another shape.
        """
        if signals_mv.ndim != 3 or signals_mv.shape[1] != len(INDEPENDENT_LEADS):
            raise ConfigError(
                f"expected the {len(INDEPENDENT_LEADS)} independent leads of a batch, "
                f"(B, {len(INDEPENDENT_LEADS)}, T), got shape {tuple(signals_mv.shape)}; select "
                "them with independent_leads"
            )
        import ecg_augmentations  # type: ignore[import-not-found,import-untyped,unused-ignore]

        for transform in self.transforms:
            rate = {"fs": self.sampling_rate_hz} if transform.timed else {}
            change = getattr(ecg_augmentations, transform.kind)(
                **rate, **transform.settings, p=PROBABILITY
            )
            signals_mv = change(signals_mv, generator=generator)
        return signals_mv
