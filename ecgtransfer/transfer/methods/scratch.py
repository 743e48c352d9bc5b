"""Training from random weights on the target alone, without the source model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecgtransfer.training import Bars, no_bars, seeded_initialisation
from ecgtransfer.transfer.methods.base import (
    Fitted,
    MethodSettings,
    SourceDomain,
    TargetDomain,
)
from ecgtransfer.transfer.methods.finetune import TrainedDenoiser, fitted_denoiser, tune


class Scratch(TrainedDenoiser):
    """Train the source model's network from random weights on the target alone."""

    name = "scratch"
    title = "target records only"

    def fit(
        self,
        source: SourceDomain,
        target: TargetDomain,
        settings: MethodSettings,
        folder: Path,
        *,
        bars: Bars = no_bars,
        reuse: Sequence[Path] = (),
    ) -> Fitted:
        """See `Method.fit`."""
        with seeded_initialisation(settings.seed):
            start = source.networks.denoiser()
        start = start.to(source.device)
        tuned, result = tune(
            source, start, target, settings.scratch, settings.seed, folder, bars, self.name
        )
        return fitted_denoiser(tuned, result, target)
