"""Simulated 12-lead ECGs with known ground truth: a dipole model of the heart, two hospitals."""

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
