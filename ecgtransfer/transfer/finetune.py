"""Fine-tuning: continue the training of a denoiser, or of its adapters, on target records."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import NoiseConfig, denoising_loss
from ecgtransfer.errors import ConfigError
from ecgtransfer.training import (
    FitResult,
    Progress,
    TrainConfig,
    check_factors,
    fit_best_rate,
    shuffled_batches,
)
from ecgtransfer.transfer.adapters import trainable_parameters
from ecgtransfer.transfer.records import (
    DomainRecords,
    HeldOutDraws,
    device_of,
    draw_noise,
    refuse_other_labels,
    refuse_shared_patients,
)

#: A denoiser with a fourth argument `dropped`, such as `ECGDenoiser` or `DiffusionModel`.
DenoiserModule = TypeVar("DenoiserModule", bound=nn.Module)

#: Noise draws per held-out record for the validation loss.
HELD_OUT_DRAWS = 8


@dataclass(frozen=True)
class FinetuneConfig:
    """Settings of fine-tuning.

    Attributes:
        label_dropout: fraction of records that are denoised without their label, so that
            classifier-free guidance still works afterwards.
        noise: noise levels of training.
        rate_factors: factors of `train.learning_rate` to try from the same initial weights; the
            one with the lowest held-out loss is kept. On few records, the full rate made a good
            source model worse.
        train: steps, batch size and optimiser; the weights with the lowest held-out loss are kept,
            which may be the initial ones.

    Raises:
        ConfigError: a setting is out of range.
    """

    label_dropout: float = 0.1
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    rate_factors: tuple[float, ...] = (1.0, 0.1)
    train: TrainConfig = field(
        default_factory=lambda: TrainConfig(
            steps=600,
            batch_size=32,
            learning_rate=2e-4,
            warmup_steps=50,
            ema_decay=0.99,
            validate_every=50,
            patience=4,
        )
    )

    def __post_init__(self) -> None:
        if not 0 <= self.label_dropout < 1:
            raise ConfigError(
                f"expected 0 <= label_dropout < 1, got {self.label_dropout}; correct the setting"
            )
        if self.train.validate_every < 1:
            raise ConfigError(
                f"expected validate_every of at least 1, got {self.train.validate_every}; "
                "early stopping needs validation"
            )
        check_factors(self.rate_factors)


def finetune(
    denoiser: DenoiserModule,
    target: DomainRecords,
    held_out_target: DomainRecords,
    config: FinetuneConfig,
    folder: Path,
    *,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> tuple[DenoiserModule, FitResult]:
    """Train a copy of a denoiser on target records; the original is not modified.

    The parameters with `requires_grad` are trained: all of them for full fine-tuning, or those of
    `with_lora` or `with_difffit`. A denoiser with random weights is trained from scratch.

    Args:
        denoiser: initial weights, a module (x, sigma, label, dropped) -> denoised.
        target: training records.
        held_out_target: target records of other patients. Training stops early when their denoising
            loss no longer falls, and the weights with the lowest loss are kept, which may be the
            initial ones.
        config: settings of fine-tuning.
        folder: receives weights, log and, during training, the checkpoint.
        progress: called after every step.
        keep_checkpoint: leave the last checkpoint in the folder, see `fit`.

    Returns:
        The trained copy, in evaluation mode and with its adapters (see `merged`), and the result
        of its training.

    Raises:
        ConfigError: no parameter of the denoiser has `requires_grad`.
        CorpusError: training and held-out records share a patient or differ in their labels.
        DivergedError: the loss is not finite.
    """
    if not trainable_parameters(denoiser):
        raise ConfigError(
            "expected a denoiser with parameters that need a gradient, got a frozen one; call "
            "requires_grad_(True) on a copy, or use with_lora or with_difffit"
        )
    refuse_shared_patients(target, held_out_target)
    refuse_other_labels(target, held_out_target)
    train = config.train
    order = shuffled_batches(len(target), train.batch_size, train.seed)
    draws = HeldOutDraws.of(held_out_target, config.noise, draws=HELD_OUT_DRAWS, seed=train.seed)

    def loss(
        network: nn.Module, batch: tuple[Tensor, Tensor | None], generator: torch.Generator
    ) -> Tensor:
        device = device_of(network)
        x0, label = batch[0].to(device), None if batch[1] is None else batch[1].to(device)
        sigma, noise = draw_noise(x0, config.noise, generator)
        dropped = (torch.rand(len(x0), generator=generator) < config.label_dropout).to(device)

        def denoise(x: Tensor, level: Tensor, y: Tensor | None) -> Tensor:
            denoised: Tensor = network(x, level, y, dropped)
            return denoised

        return denoising_loss(denoise, x0, label, sigma, noise)

    @torch.no_grad()
    def validate(network: nn.Module) -> float:
        device, total = device_of(network), 0.0
        for start in range(0, len(draws.index), train.batch_size):
            part = slice(start, start + train.batch_size)
            x0, label = held_out_target.take(draws.index[part], device)
            sigma, noise = draws.sigma[part].to(x0), draws.noise[part].to(x0)
            total += float(denoising_loss(network, x0, label, sigma, noise).sum())
        return total / len(draws.index)

    tuned = copy.deepcopy(denoiser)
    result = fit_best_rate(
        tuned,
        loss,
        lambda step: target.take(order(step)),
        train,
        folder,
        config.rate_factors,
        validate=validate,
        progress=progress,
        keep_checkpoint=keep_checkpoint,
    )
    return tuned, result
