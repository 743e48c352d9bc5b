"""Simulated 12-lead ECGs with known ground truth: a dipole model of the heart, two hospitals."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.simulation.hospitals import (
        SOURCE_HOSPITAL,
        TARGET_HOSPITAL,
        Hospital,
        draw_label_names,
        simulate,
        simulate_ecgset,
    )
    from ecgtransfer.simulation.rhythm import DIAGNOSES
    from ecgtransfer.simulation.vectorcardiogram import Truth
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "DIAGNOSES",
    "SOURCE_HOSPITAL",
    "TARGET_HOSPITAL",
    "Hospital",
    "Truth",
    "draw_label_names",
    "simulate",
    "simulate_ecgset",
]
