"""Train at several learning rates and keep the one with the lowest validation score."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.training import processes
from ecgtransfer.training.files import load_weights, save_weights
from ecgtransfer.training.loop import (
    WEIGHTS,
    Batch,
    FitResult,
    Progress,
    TrainConfig,
    fit,
    remove_checkpoints,
)


def fit_best_rate(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch, torch.Generator], Tensor],
    batches: Callable[[int], Batch],
    config: TrainConfig,
    folder: Path,
    factors: Sequence[float],
    *,
    validate: Callable[[nn.Module], float],
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Call `fit` for each learning rate and keep the training with the lowest validation score.

    Every candidate starts from the same weights, sees the same batches and is validated on the same
    held-out records. A candidate that diverges is never chosen.

    Args:
        network: receives the weights of the chosen candidate.
        loss: as in `fit`.
        batches: as in `fit`.
        config: as in `fit`, with `validate_every` above 0.
        folder: receives the weights. With several candidates, each has its log in a subfolder.
        factors: candidates as multiples of `config.learning_rate`.
        validate: score on held-out records, lower is better.
        progress: called after every step; all candidates count as one training.
        keep_checkpoint: as in `fit`.

    Returns:
        The result of the chosen candidate, with the training time of all.

    Raises:
        ConfigError: no factor, a factor that is not above 0, or no validation.
        DivergedError: every candidate diverged.
    """
    check_factors(factors)
    if len(factors) == 1:
        train = replace(config, learning_rate=config.learning_rate * factors[0])
        return fit(
            network,
            loss,
            batches,
            train,
            folder,
            validate=validate,
            progress=progress,
            keep_checkpoint=keep_checkpoint,
        )
    if not config.validate_every:
        raise ConfigError(
            "expected validate_every of at least 1 to choose between learning rates, got 0"
        )
    found: list[tuple[FitResult, Path]] = []
    for number, factor in enumerate(factors):
        train = replace(config, learning_rate=config.learning_rate * factor)
        own = folder / f"rate-{train.learning_rate:g}"
        try:
            result = fit(
                copy.deepcopy(network),
                loss,
                batches,
                train,
                own,
                validate=validate,
                progress=progress and _in_turn(progress, number, len(factors)),
                keep_checkpoint=True,
            )
        except DivergedError as error:
            diverged = error
        else:
            found.append((result, own))
    if not found:
        raise diverged
    best, at = min(found, key=lambda each: _score(each[0]))
    network.to(processes.accelerator().device)
    load_weights(network, at / WEIGHTS)
    network.eval()
    processes.wait_for_everyone()
    if processes.is_main_process():
        save_weights(network, folder / WEIGHTS)
        for _, own in found:
            (own / WEIGHTS).unlink(missing_ok=True)
        if not keep_checkpoint:
            remove_checkpoints(folder)
    processes.wait_for_everyone()
    return replace(best, seconds=sum(result.seconds for result, _ in found))


def check_factors(factors: Sequence[float]) -> None:
    """Check the learning-rate factors of `fit_best_rate`.

    Raises:
        ConfigError: there is no factor, or one is not above 0.
    """
    if not factors or not all(0 < factor < float("inf") for factor in factors):
        raise ConfigError(
            f"expected at least one finite factor of the learning rate above 0, got {factors}"
        )


def _score(result: FitResult) -> float:
    return float("inf") if result.validation is None else result.validation


def _in_turn(
    progress: Callable[[Progress], None], number: int, candidates: int
) -> Callable[[Progress], None]:
    """Adapt the progress callback of one candidate to the progress of all."""

    def report(now: Progress) -> None:
        progress(replace(now, step=number * now.steps + now.step, steps=candidates * now.steps))

    return report
