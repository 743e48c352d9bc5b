"""Rhythm: a generative model of the times and kinds of the beats in a record."""

from ecgtransfer.rhythm.baselines import GammaRenewal, ResampledTrains
from ecgtransfer.rhythm.densities import MODELLED_KINDS, FirstBeat, NextBeat
from ecgtransfer.rhythm.features import (
    RHYTHM_FEATURES,
    early_intervals,
    is_regular,
    rhythm_features,
)
from ecgtransfer.rhythm.model import (
    RhythmConfig,
    RhythmModel,
    fit_rhythm,
    hidden_statements,
)
from ecgtransfer.rhythm.trains import Trains, in_window, stack_trains

__all__ = [
    "MODELLED_KINDS",
    "RHYTHM_FEATURES",
    "FirstBeat",
    "GammaRenewal",
    "NextBeat",
    "ResampledTrains",
    "RhythmConfig",
    "RhythmModel",
    "Trains",
    "early_intervals",
    "fit_rhythm",
    "hidden_statements",
    "in_window",
    "is_regular",
    "rhythm_features",
    "stack_trains",
]
