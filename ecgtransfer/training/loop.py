"""One training loop for every network.

It resumes exactly from a checkpoint, also after Ctrl-C, and stops if the loss is not finite.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError, DivergedError
from ecgtransfer.storage import OMIT_AT_DEFAULT, make_folder, to_card
from ecgtransfer.training import processes
from ecgtransfer.training.batches import step_generator
from ecgtransfer.training.checkpoint import TrainingState, resume, save_checkpoint
from ecgtransfer.training.ema import averaged_copy, moving_average
from ecgtransfer.training.files import save_weights
from ecgtransfer.training.log import TrainingLog

Batch = TypeVar("Batch")

WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
#: Settings that may change when a training is resumed, because they do not affect the weights.
FREE_SETTINGS = ("checkpoint_every", "log_every")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one training.

    Attributes:
        steps: number of optimiser steps; the cosine schedule ends at the last one.
        batch_size: records per batch.
        learning_rate: peak learning rate (AdamW), reached after `warmup_steps`, 0 at the end.
        warmup_steps: steps of linear warm-up.
        weight_decay: decoupled weight decay, as in AdamW.
        gradient_clip: maximum norm of the gradient.
        ema_decay: decay of the weight average, which is the result; 0 returns the last weights.
        checkpoint_every, validate_every, log_every: intervals in steps; validate_every 0 disables
            validation.
        patience: validations without improvement before training stops early; 0 for never.
        seed: seed of batches, noise and all other draws.
        accumulate: batches per step in each process; their gradients are averaged.
        validate_from: first step at which weights are validated. 0 includes the initial weights,
            which are the result if no later ones are better.
    """

    steps: int
    batch_size: int = 64
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    weight_decay: float = 0.01
    gradient_clip: float = 1.0
    ema_decay: float = 0.999
    checkpoint_every: int = 250
    validate_every: int = 0
    log_every: int = 25
    patience: int = 0
    seed: int = 0
    accumulate: int = field(default=1, metadata=OMIT_AT_DEFAULT)
    validate_from: int = field(default=0, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"expected at least 1 step and a batch size of at least 1, got {self.steps} and "
                f"{self.batch_size}"
            )
        if self.accumulate < 1:
            raise ConfigError(f"expected at least 1 batch per step, got {self.accumulate}")
        if not 0 < self.learning_rate < math.inf or not self.gradient_clip > 0:
            raise ConfigError(
                f"expected a finite learning rate and a gradient clip above 0, got "
                f"{self.learning_rate} and {self.gradient_clip}"
            )
        if not 0 <= self.weight_decay < math.inf:
            raise ConfigError(f"expected weight_decay of at least 0, got {self.weight_decay}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"expected 0 <= ema_decay < 1, got {self.ema_decay}")
        if min(self.checkpoint_every, self.log_every) < 1:
            raise ConfigError(
                f"expected checkpoint_every and log_every of at least 1, got "
                f"{self.checkpoint_every} and {self.log_every}"
            )
        if min(self.warmup_steps, self.validate_every, self.patience, self.seed) < 0:
            raise ConfigError(
                f"expected warmup_steps, validate_every, patience and seed of at least 0, got "
                f"{self.warmup_steps}, {self.validate_every}, {self.patience} and {self.seed}"
            )
        if not 0 <= self.validate_from <= self.steps:
            raise ConfigError(
                f"expected validate_from from 0 to the {self.steps} steps, got {self.validate_from}"
            )

    @property
    def binding(self) -> dict[str, Any]:
        """Settings that affect the weights and therefore cannot change when resuming."""
        return {name: getattr(self, name) for name in to_card(self) if name not in FREE_SETTINGS}

    def validates_at(self, step: int) -> bool:
        """Whether the weights are validated after `step` steps; 0 is before the first."""
        due = step == self.steps or not step % max(self.validate_every, 1)
        return self.validate_every > 0 and step >= self.validate_from and due

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then cosine decay to 0."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Progress:
    """Progress of a training, for progress bars.

    Attributes:
        step: steps made.
        steps: steps in total.
        loss: loss of the last step.
        validation: validation score after this step; None if there was none.
    """

    step: int
    steps: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class FitResult:
    """Result of a training.

    Attributes:
        steps: optimiser steps made; fewer than configured if training stopped early.
        best_step: step of the returned weights; 0 if no step improved on the initial weights.
        loss: loss of the last step, averaged over all batches and processes.
        validation: validation score of the returned weights; None without validation.
        seconds: training time, including time before an interruption.
        learning_rate: as configured, or as chosen by `fit_best_rate`.
    """

    steps: int
    best_step: int
    loss: float
    validation: float | None
    seconds: float
    learning_rate: float


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch, torch.Generator], Tensor],
    batches: Callable[[int], Batch],
    config: TrainConfig,
    folder: Path,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    progress: Callable[[Progress], None] | None = None,
    keep_checkpoint: bool = False,
) -> FitResult:
    """Train `network` in place; its best weights go to `folder/weights.safetensors` as well.

    On Ctrl-C a checkpoint is written before KeyboardInterrupt is re-raised, so that no step is
    lost. With several processes (`torchrun`, `accelerate launch`) each process takes its own
    batches: P processes that accumulate A batches see the same batches and noise, and make the same
    step, as one process that accumulates P * A.

    Args:
        network: only parameters that require a gradient are trained.
        loss: (network, batch, generator) -> (B,) loss of each record; the mean is minimised.
        batches: index -> batch, a pure function; the batches of a step have consecutive indices.
        config: training settings.
        folder: receives the weights, `log.csv` and, during training, the checkpoint. An existing
            checkpoint is resumed; the result is the same as without the interruption.
        validate: score of the averaged network on held-out records, lower is better; the weights
            with the lowest score are the result. The initial weights are validated too
            (`TrainConfig.validate_from`), so that training cannot make the network worse.
        progress: called after every step.
        keep_checkpoint: keep the last checkpoint until `remove_checkpoints` is called; the same
            call then returns at once. For longer work that may be interrupted after this training.

    Returns:
        The result; the weights are in `network`.

    Raises:
        ConfigError: no trainable parameters, or a loss that is not one number per record.
        DivergedError: a loss, gradient or score is not finite; the message names the step.
        RunError: the checkpoint belongs to another network, other settings or another number of
            processes; or the folder cannot be written.
    """
    accelerator = processes.accelerator()
    make_folder(folder)
    network.to(accelerator.device)
    trainable = [p for p in network.parameters() if p.requires_grad]
    if not trainable:
        raise ConfigError("expected a network with parameters that need a gradient, got none")
    optimiser = torch.optim.AdamW(
        trainable,
        lr=config.learning_rate,
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
        fused=_fusible(trainable) or None,
    )
    average = averaged_copy(network)
    shown = average if config.ema_decay else network
    several = accelerator.num_processes > 1
    binding = config.binding | ({"processes": accelerator.num_processes} if several else {})
    state = TrainingState()
    if (folder / CHECKPOINT).exists():
        state = resume(folder / CHECKPOINT, network, average, optimiser, binding)
    batches_per_step = accelerator.num_processes * config.accumulate
    wrapped = accelerator.prepare(network) if several else network
    backward = accelerator.backward if several else Tensor.backward
    update_average = moving_average(average, network, config.ema_decay)
    log = TrainingLog(folder / LOG, _last_logged(state))
    deferred_interrupt = _DeferredInterrupt()
    network.train()
    began = time.monotonic() - state.seconds

    def mean_loss(step: int) -> float:
        """Compute the loss of a step over all batches and processes, and its gradient."""
        for parameter in trainable:
            parameter.grad = None
        first = accelerator.process_index * config.accumulate
        last = first + config.accumulate - 1
        total = torch.zeros((), device=accelerator.device)
        for turn in range(first, last + 1):
            with nullcontext() if turn == last else accelerator.no_sync(wrapped):
                generator = step_generator(config.seed, step, turn)
                values = loss(wrapped, batches(step * batches_per_step + turn), generator)
                if values.ndim != 1:
                    raise ConfigError(
                        f"expected one loss for each record, (B,), got shape {tuple(values.shape)}"
                    )
                share = values.mean() / config.accumulate
                backward(share)
            total = total + share.detach()
        return float(accelerator.reduce(total, "mean") if several else total)

    def take_step() -> None:
        step = state.step
        for group in optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        last = mean_loss(step)
        gradients = [p.grad for p in trainable if p.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        if not math.isfinite(last) or not math.isfinite(norm):
            raise DivergedError(
                f"the loss of step {step} is {last} with gradient norm {norm}, expected "
                f"finite numbers; lower the learning rate ({config.learning_rate:g}) or check "
                f"the records of this batch"
            )
        clip = config.gradient_clip / (norm + 1e-6)
        with deferred_interrupt:
            if clip < 1:
                torch._foreach_mul_(gradients, clip)
            optimiser.step()
            update_average(step)
            state.advance(last, norm)

    def validation_score() -> float | None:
        """Validation score of the current weights; None if no validation is due."""
        if validate is None or not config.validates_at(state.step):
            return None
        network.eval()
        score = validate(shown)
        network.train()
        return score

    def validate_start() -> None:
        """Validate and log the initial weights."""
        score = validation_score()
        if score is not None:
            with deferred_interrupt:
                state.judge(score, shown, config.patience)
                log.add_start(score, time.monotonic() - began)

    def finish_step() -> None:
        """Validate and log the last step; write a checkpoint if one is due."""
        score, ends = validation_score(), state.step == config.steps
        with deferred_interrupt:
            if score is not None:
                state.judge(score, shown, config.patience)
            if score is not None or ends or not state.step % config.log_every:
                log.add(state, config.rate_at(state.step - 1), score, time.monotonic() - began)
                state.recent.clear()
            state.settled = True
        last = ends or state.stopped
        if keep_checkpoint if last else not state.step % config.checkpoint_every:
            write_checkpoint()
        if progress:
            progress(Progress(state.step, config.steps, state.loss, score))

    def write_checkpoint() -> None:
        if accelerator.is_main_process:
            state.seconds = time.monotonic() - began
            log.flush()
            save_checkpoint(folder / CHECKPOINT, network, average, optimiser, state, binding)

    with deferred_interrupt.listening():
        try:
            if state.step == 0:
                validate_start()
            elif not state.settled:
                finish_step()
            while state.step < config.steps and not state.stopped:
                take_step()
                finish_step()
        except KeyboardInterrupt:
            if state.step:
                write_checkpoint()
            raise
        state.seconds = time.monotonic() - began
        with deferred_interrupt:
            if state.best is not None:
                network.load_state_dict(state.best)
            elif shown is not network:
                network.load_state_dict(average.state_dict())
            network.eval()
            if accelerator.is_main_process:
                log.flush()
                save_weights(network, folder / WEIGHTS)
                if not keep_checkpoint:
                    (folder / CHECKPOINT).unlink(missing_ok=True)
            accelerator.wait_for_everyone()
    return FitResult(
        steps=state.step,
        best_step=state.step if state.best is None else state.best_step,
        loss=state.loss,
        validation=None if state.best is None else state.best_score,
        seconds=state.seconds,
        learning_rate=config.learning_rate,
    )


def remove_checkpoints(folder: Path) -> None:
    """Delete the checkpoints that `keep_checkpoint` left in a folder and its subfolders."""
    for checkpoint in folder.rglob(CHECKPOINT):
        checkpoint.unlink(missing_ok=True)


def _last_logged(state: TrainingState) -> int:
    """Last step whose log row is valid; -1 for a new training."""
    if state.step == 0:
        return -1
    return state.step if state.settled else state.step - 1


def _fusible(parameters: Sequence[Tensor]) -> bool:
    """Whether AdamW can use its fused CPU kernel, several times faster for a small network.

    The kernel reads memory contiguously and ignores strides.
    """
    return all(
        p.device.type == "cpu" and p.is_floating_point() and p.is_contiguous() for p in parameters
    )


class _DeferredInterrupt:
    """Context that defers Ctrl-C to its end, so that a step is completed before it stops.

    It acts only inside `listening`, which installs the signal handler once for all steps, and only
    in the main thread, the only one that receives signals.
    """

    def __init__(self) -> None:
        self.active = False
        self.pressed = False
        self.handler: Callable[[int, FrameType | None], Any] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return
        self.handler = before
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def __enter__(self) -> None:
        self.pressed, self.active = False, True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.active = False
        if self.pressed and error is None and self.handler is not None:
            self.handler(signal.SIGINT, None)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.active:
            self.pressed = True
        elif self.handler is not None:
            self.handler(number, frame)
