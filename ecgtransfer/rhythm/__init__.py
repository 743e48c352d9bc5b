"""Stand-in until the rhythm model is merged."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.signals import BeatKind, Beats
from ecgtransfer.training import fit


@dataclass(frozen=True)
class RhythmConfig:
    """Stand-in."""

    label_names: tuple[str, ...]
    duration_s: float


class RhythmModel(nn.Module):
    """Stand-in."""

    def __init__(self, config: RhythmConfig) -> None:
        super().__init__()
        self.config = config
        self.log_rr = nn.Parameter(torch.zeros(2))

    def sample(self, condition: Any, seeds: Any, heart_rate_bpm: Any = None) -> list[Beats]:
        """Stand-in."""
        found = []
        for seed in seeds:
            rng = np.random.default_rng(seed)
            rr = float(np.exp(self.log_rr[0].item() + 0.2 * rng.normal()))
            if heart_rate_bpm:
                rr = 60 / rng.uniform(*heart_rate_bpm)
            times = np.arange(rng.uniform(0, rr), self.config.duration_s - 0.01, rr)
            found.append(
                Beats(times, np.full(len(times), BeatKind.ORDINARY, np.int8), self.config.duration_s)
            )
        return found


def fit_rhythm(
    model: RhythmModel,
    records: Any,
    train: Any,
    held_out: Any,
    config: Any,
    folder: Path,
    *,
    progress: Any = None,
    keep_checkpoint: bool = False,
) -> Any:
    """Stand-in."""
    rr = torch.tensor([float(np.median(records.beats[k].rr_s)) for k in train]).log()

    def loss(network: Any, batch: Tensor, generator: Any) -> Tensor:
        return (network.log_rr[0] - batch).square() + network.log_rr[1] ** 2

    return fit(
        model, loss, lambda step: rr, config, folder, progress=progress, keep_checkpoint=keep_checkpoint
    )
