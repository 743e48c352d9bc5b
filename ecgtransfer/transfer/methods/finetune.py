"""Full fine-tuning, and functions for all methods that train a denoiser on target records."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from ecgtransfer.diffusion import Denoiser, classifier_free
from ecgtransfer.training import WEIGHTS, Bars, FitResult, load_weights, no_bars
from ecgtransfer.transfer.adapters import trainable_parameters
from ecgtransfer.transfer.finetune import FinetuneConfig, finetune
from ecgtransfer.transfer.methods.base import (
    Fitted,
    Method,
    MethodSettings,
    SourceDomain,
    TargetDomain,
    with_seed,
)


@dataclass(frozen=True, eq=False)
class TunedModel:
    """A denoiser that was trained on the target.

    Attributes:
        model: the denoiser, (x, sigma, label) -> denoised.
    """

    model: nn.Module

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """See `TransferredModel.denoiser`."""
        return classifier_free(self.model, cfg_scale)


def tune(
    source: SourceDomain,
    start: nn.Module,
    target: TargetDomain,
    config: FinetuneConfig,
    seed: int,
    folder: Path,
    bars: Bars,
    task: str,
    *,
    keep_checkpoint: bool = True,
) -> tuple[nn.Module, FitResult]:
    """Train the parameters of `start` with `requires_grad` on target records; see `finetune`."""
    config = replace(with_seed(config, seed), noise=source.noise)
    with bars(task) as progress:
        return finetune(
            start,
            target.fit,
            target.held_out,
            config,
            folder,
            progress=progress,
            keep_checkpoint=keep_checkpoint,
        )


def unfrozen(model: nn.Module) -> nn.Module:
    """Return a copy whose parameters are all trainable."""
    return copy.deepcopy(model).requires_grad_(True)


def read_denoiser(source: SourceDomain, weights: Path) -> nn.Module:
    """Load a frozen denoiser with the architecture of the source model."""
    model = source.networks.denoiser().to(source.device)
    load_weights(model, weights)
    return model.eval().requires_grad_(False)


def fitted_denoiser(
    tuned: nn.Module, result: FitResult, target: TargetDomain, model: nn.Module | None = None
) -> Fitted:
    """Return the result of a method from its trained denoiser.

    Args:
        tuned: the trained denoiser; its trainable parameters are counted.
        result: result of the training.
        target: records of the training.
        model: denoiser to return instead, such as `tuned` with merged adapters.
    """
    parameters = trainable_parameters(tuned)
    model = (tuned if model is None else model).eval().requires_grad_(False)
    details = {
        "best_step": result.best_step,
        "steps": result.steps,
        "learning_rate": result.learning_rate,
    }
    return Fitted(
        TunedModel(model),
        parameters,
        result.seconds,
        evaluated=[(model, target.held_out)],
        details=details,
    )


class TrainedDenoiser(Method):
    """A method whose result is a complete denoiser of the target."""

    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> TunedModel:
        """See `Method.load`."""
        return TunedModel(read_denoiser(source, folder / WEIGHTS))


class Finetune(TrainedDenoiser):
    """Continue training the whole source model on the target."""

    name = "finetune"
    title = "full fine-tuning"
    beat_shapes = "finetune"

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
        start = unfrozen(source.model)
        tuned, result = tune(
            source, start, target, settings.finetune, settings.seed, folder, bars, self.name
        )
        return fitted_denoiser(tuned, result, target)
