"""Small rhythm models and trains of beats for the tests of this package."""

import numpy as np
import torch

from ecgtransfer.rhythm import RhythmConfig, RhythmModel
from ecgtransfer.signals import Beats
from ecgtransfer.training import seeded_initialisation

NAMES = ("SLOW", "FAST")
#: A short window, so that a train has few beats.
CONFIG = RhythmConfig(
    NAMES, duration_s=2.0, window_s=(0.1, 1.9), width=8, components=2, first_components=2
)


def model(config=CONFIG, seed=0, spread=0.5):
    """A model in float64 whose outputs depend on all that it is told."""
    with seeded_initialisation(seed):
        made = RhythmModel(config).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(spread * noise / max(parameter.shape) ** 0.5)
    return made


def conditions(records, label=(0.0, 1.0)):
    """The same label for all records, age and sex unknown."""
    nothing = torch.full((records,), torch.nan)
    shown = torch.tensor([label]).repeat(records, 1)
    return shown, torch.ones_like(shown, dtype=torch.bool), nothing, nothing.clone()


def train_of(*times_s, kinds=None, duration_s=2.0):
    """Beats at these times, ordinary unless stated."""
    kinds = np.ones(len(times_s)) if kinds is None else np.array(kinds)
    return Beats(np.array(times_s, dtype=np.float64), kinds.astype(np.int8), duration_s)
