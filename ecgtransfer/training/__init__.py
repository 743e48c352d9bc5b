"""One loop that trains every network, and the order in which it sees the records."""

from ecgtransfer.training.batches import (
    BatchIndices,
    label_weights,
    record_noise,
    seeded_initialisation,
    shuffled_batches,
    step_generator,
)
from ecgtransfer.training.ema import averaged_copy, update_average
from ecgtransfer.training.files import load_weights, save_weights
from ecgtransfer.training.fit import WEIGHTS, FitResult, Progress, TrainConfig, fit

__all__ = [
    "WEIGHTS",
    "BatchIndices",
    "FitResult",
    "Progress",
    "TrainConfig",
    "averaged_copy",
    "fit",
    "label_weights",
    "load_weights",
    "record_noise",
    "save_weights",
    "seeded_initialisation",
    "shuffled_batches",
    "step_generator",
    "update_average",
]
