"""Parameter-efficient fine-tuning: low-rank updates (LoRA), or biases and scales (DiffFit)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

from torch import nn

from ecgtransfer.training import WEIGHTS, Bars, is_main_process, no_bars, save_weights
from ecgtransfer.transfer.adapters import merged, with_difffit, with_lora
from ecgtransfer.transfer.methods.base import (
    Fitted,
    MethodSettings,
    SourceDomain,
    TargetDomain,
)
from ecgtransfer.transfer.methods.finetune import TrainedDenoiser, fitted_denoiser, tune


class _Adapted(TrainedDenoiser):
    """Train adapters of the source model, then fold them into its weights."""

    @abstractmethod
    def adapted(self, source: SourceDomain, settings: MethodSettings) -> nn.Module:
        """Return a copy of the source model in which only the adapters are trainable."""

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
        start = self.adapted(source, settings)
        config, own = settings.adapter, folder / "adapter"
        tuned, result = tune(source, start, target, config, settings.seed, own, bars, self.name)
        model = merged(tuned)
        if is_main_process():
            save_weights(model, folder / WEIGHTS)
        return fitted_denoiser(tuned, result, target, model)


class Lora(_Adapted):
    """Train low-rank updates of the source model's weight matrices."""

    name = "lora"
    title = "LoRA: low-rank updates"

    def adapted(self, source: SourceDomain, settings: MethodSettings) -> nn.Module:
        """See `with_lora`."""
        return with_lora(source.model, settings.lora, settings.seed)


class DiffFit(_Adapted):
    """Train biases, norms, embeddings and one scale per layer of the source model."""

    name = "difffit"
    title = "DiffFit: biases and scales"

    def adapted(self, source: SourceDomain, settings: MethodSettings) -> nn.Module:
        """See `with_difffit`."""
        return with_difffit(source.model, embeddings=source.networks.embeddings)
