"""One training loop for every network.

It resumes exactly, from a checkpoint or from Ctrl-C, and stops at once on a loss that is not
finite.
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
#: Settings that a training may be resumed with another value of: they leave the weights alone.
FREE_SETTINGS = ("checkpoint_every", "log_every")


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast a network learns.

    Attributes:
        steps: optimiser steps in all; the cosine schedule ends there.
        batch_size: records a batch.
        learning_rate: its peak (AdamW), reached after `warmup_steps`, zero at the end.
        weight_decay: decoupled, as in AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights, which are the ones kept; 0 keeps the last weights.
        checkpoint_every, validate_every, log_every: in steps; validate_every 0 means never.
        validate_from: first step that validation judges; 0 also judges the weights that training
            starts from, which are kept if none does better.
        patience: validations without improvement before training stops; 0 goes on to the end.
        seed: of batches, noise and everything else that is drawn.
        accumulate: batches a step in each process; the step follows the mean of their gradients.
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
            raise ConfigError(f"expected at least 1 batch a step, got {self.accumulate}")
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
        """The settings that decide the weights."""
        return {name: getattr(self, name) for name in to_card(self) if name not in FREE_SETTINGS}

    def validates_at(self, step: int) -> bool:
        """Whether the weights are judged after so many steps; 0 is before the first."""
        due = step == self.steps or not step % max(self.validate_every, 1)
        return self.validate_every > 0 and step >= self.validate_from and due

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to zero."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever draws the bar; `loss` is that of the last step."""

    step: int
    steps: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Attributes:
        steps: optimiser steps made; fewer than asked for where training stopped early.
        best_step: after which the weights were as they are kept; 0 where no step did better than
            the start.
        loss: of the last step, the mean over all its batches in all processes.
        validation: score of the weights kept, None where nothing was validated.
        seconds: of training, those before an interruption included.
        learning_rate: of the configuration; of the candidate that was kept, see `fit_best_rate`.
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
    """Train `network` in place, leave its best weights in it and in `folder/weights.safetensors`.

    On Ctrl-C the checkpoint is written before KeyboardInterrupt goes on: nothing is lost. With
    several processes (`torchrun`, `accelerate launch`) each takes batches of its own in every step:
    P of them that accumulate A see the batches and the noise, and follow the gradient, of one that
    accumulates P * A.

    Args:
        network: its trainable parameters move; parameters that need no gradient do not.
        loss: (network, batch, generator) -> (B,) losses per record; their mean is minimised.
        batches: the batch of a number, a pure function of it; those of a step follow one another.
        config: how long and how fast.
        folder: gets the weights, `log.csv` and, while training, the checkpoint. A checkpoint
            found there is resumed, and the result is the same as without the interruption.
        validate: score of the averaged network on held-out records, lower is better; the weights
            with the lowest score are kept. The start is judged too (`TrainConfig.validate_from`),
            so that a training that only does harm changes nothing.
        progress: called after every step.
        keep_checkpoint: leave the last checkpoint in the folder, with which the same call ends at
            once, until `remove_checkpoints` is called. For work that goes on with the result and
            can itself be interrupted.

    Raises:
        ConfigError: nothing to train in the network, or a loss that is not one number a record.
        DivergedError: a loss, gradient or score that is not finite; the step is named.
        RunError: a checkpoint of another network, other settings or another number of processes,
            or a folder that cannot be written.
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
    batches_a_step = accelerator.num_processes * config.accumulate
    wrapped = accelerator.prepare(network) if several else network
    backward = accelerator.backward if several else Tensor.backward
    update_average = moving_average(average, network, config.ema_decay)
    log = TrainingLog(folder / LOG, _last_logged(state))
    whole = _WholeOrNotAtAll()
    network.train()
    began = time.monotonic() - state.seconds

    def mean_loss(step: int) -> float:
        """Loss of a step over all its batches in all processes; leaves its gradient behind."""
        for parameter in trainable:
            parameter.grad = None
        first = accelerator.process_index * config.accumulate
        last = first + config.accumulate - 1
        total = torch.zeros((), device=accelerator.device)
        for turn in range(first, last + 1):
            with nullcontext() if turn == last else accelerator.no_sync(wrapped):
                generator = step_generator(config.seed, step, turn)
                values = loss(wrapped, batches(step * batches_a_step + turn), generator)
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
                f"finite numbers; lower the learning rate ({config.learning_rate:g}) or look at "
                f"the records of this batch"
            )
        clip = config.gradient_clip / (norm + 1e-6)
        with whole:
            if clip < 1:
                torch._foreach_mul_(gradients, clip)
            optimiser.step()
            update_average(step)
            state.advance(last, norm)

    def score_now() -> float | None:
        """Validation score of the weights as they are; None where none is due."""
        if validate is None or not config.validates_at(state.step):
            return None
        network.eval()
        score = validate(shown)
        network.train()
        return score

    def judge_start() -> None:
        """Validation and log row of the weights that training starts from."""
        score = score_now()
        if score is not None:
            with whole:
                state.judge(score, shown, config.patience)
                log.add_start(score, time.monotonic() - began)

    def settle() -> None:
        """Validation and log row of the step just made."""
        score, ends = score_now(), state.step == config.steps
        with whole:
            if score is not None:
                state.judge(score, shown, config.patience)
            if score is not None or ends or not state.step % config.log_every:
                log.add(state, config.rate_at(state.step - 1), score, time.monotonic() - began)
                state.recent.clear()
            state.settled = True
        last = ends or state.stopped
        if keep_checkpoint if last else not state.step % config.checkpoint_every:
            keep()
        if progress:
            progress(Progress(state.step, config.steps, state.loss, score))

    def keep() -> None:
        if accelerator.is_main_process:
            state.seconds = time.monotonic() - began
            log.flush()
            save_checkpoint(folder / CHECKPOINT, network, average, optimiser, state, binding)

    with whole.listening():
        try:
            if state.step == 0:
                judge_start()
            elif not state.settled:
                settle()
            while state.step < config.steps and not state.stopped:
                take_step()
                settle()
        except KeyboardInterrupt:
            if state.step:
                keep()
            raise
        state.seconds = time.monotonic() - began
        with whole:
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
    """Remove what `keep_checkpoint` left in a folder and in those below it."""
    for checkpoint in folder.rglob(CHECKPOINT):
        checkpoint.unlink(missing_ok=True)


def _last_logged(state: TrainingState) -> int:
    """The last step whose row of the log stands; -1 where the training is new."""
    if state.step == 0:
        return -1
    return state.step if state.settled else state.step - 1


def _fusible(parameters: Sequence[Tensor]) -> bool:
    """Whether AdamW can be one loop on the CPU, several times faster for a small network.

    That loop goes through memory as it lies, without a look at strides.
    """
    return all(
        p.device.type == "cpu" and p.is_floating_point() and p.is_contiguous() for p in parameters
    )


class _WholeOrNotAtAll:
    """Ctrl-C inside `with` waits for the end, so that what is begun there is also finished.

    Only while `listening`, which changes the handler once for all steps, and only in the main
    thread, which alone hears Ctrl-C.
    """

    def __init__(self) -> None:
        self.under_way = False
        self.pressed = False
        self.handler: Callable[[int, FrameType | None], Any] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        before = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(before):
            yield
            return
        self.handler = before
        signal.signal(signal.SIGINT, self._hear)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def __enter__(self) -> None:
        self.pressed, self.under_way = False, True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.under_way = False
        if self.pressed and error is None and self.handler is not None:
            self.handler(signal.SIGINT, None)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.under_way:
            self.pressed = True
        elif self.handler is not None:
            self.handler(number, frame)
