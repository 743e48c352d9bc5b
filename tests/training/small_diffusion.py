"""A diffusion model of a few simulated ECGs, trained for some steps in float32 (not a test)."""

from pathlib import Path

import numpy as np
import torch

from ecgtransfer.diffusion import DiffusionConfig, DiffusionModel, fit_diffusion
from ecgtransfer.models import UNetConfig
from ecgtransfer.simulation import SOURCE_HOSPITAL, simulate
from ecgtransfer.training import TrainConfig, seeded_initialisation

NAMES = ("NORM", "AFIB")
TRAIN = TrainConfig(steps=6, batch_size=4, learning_rate=3e-3, warmup_steps=1, ema_decay=0.5)


class Simulated:
    """24 records of one hospital, as `fit_diffusion` reads them."""

    def __init__(self):
        names = [(NAMES[number % 2],) for number in range(24)]
        recordings, _ = simulate(names, SOURCE_HOSPITAL, seed=1, seconds=6.0)
        twelve = np.stack([recording.signal_mv for recording in recordings])
        self.signals = np.concatenate([twelve[:, :2], twelve[:, 6:]], axis=1)
        self.labels = np.eye(2, dtype=np.float32)[np.arange(24) % 2]

    def independent_mv(self, index):
        return self.signals[index]


def trained(config: TrainConfig, folder: Path) -> dict[str, list[float]]:
    """Loss of every step, and all weights in the end."""
    records = Simulated()
    unet = UNetConfig(labels=2, fold=4, widths=(16, 32), blocks=1, attention=1, conditioning=32)
    with seeded_initialisation(0):
        model = DiffusionModel(DiffusionConfig(NAMES, records.signals.shape[-1], 100, unet))
    losses: list[float] = []
    fit_diffusion(
        model,
        records,
        np.arange(24),
        np.arange(0),
        config,
        folder,
        progress=lambda now: losses.append(now.loss),
    )
    return {
        "losses": losses,
        "weights": torch.nn.utils.parameters_to_vector(model.parameters()).tolist(),
    }
