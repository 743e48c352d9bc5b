"""One training loop for every network: resumes exactly, stops at once on a loss that is not finite."""

import csv
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError, RunError
from ecgtransfer.training.batches import step_generator
from ecgtransfer.training.ema import averaged_copy, update_average

Batch = TypeVar("Batch")

WEIGHTS = "weights.safetensors"
CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
LOG_COLUMNS = ("step", "loss", "learning_rate", "gradient_norm", "validation", "seconds")


@dataclass(frozen=True)
class TrainConfig:
    """How long and how fast a network learns.

    Attributes:
        steps: optimiser steps in all; the cosine schedule ends there.
        batch_size: records a step.
        learning_rate: its peak (AdamW), reached after `warmup_steps`, zero at the end.
        weight_decay: decoupled, as in AdamW.
        gradient_clip: largest norm of the gradient.
        ema_decay: of the averaged weights, which are the ones kept; 0 keeps the last weights.
        checkpoint_every, validate_every, log_every: in steps; 0 validations means none.
        patience: validations without improvement before training stops; 0 goes on to the end.
        seed: of batches, noise and everything else that is drawn.
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

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1:
            raise ConfigError(
                f"expected at least 1 step and a batch size of at least 1, got {self.steps} and "
                f"{self.batch_size}"
            )
        if not self.learning_rate > 0 or not self.gradient_clip > 0:
            raise ConfigError(
                f"expected a learning rate and a gradient clip above 0, got {self.learning_rate} "
                f"and {self.gradient_clip}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"expected 0 <= ema_decay < 1, got {self.ema_decay}")
        if min(self.checkpoint_every, self.log_every) < 1:
            raise ConfigError(
                f"expected checkpoint_every and log_every of at least 1, got "
                f"{self.checkpoint_every} and {self.log_every}"
            )

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to zero."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever draws the bar."""

    step: int
    steps: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class FitResult:
    """What a training came to; `validation` is that of the weights kept, if any was made."""

    steps: int
    best_step: int
    loss: float
    validation: float | None
    seconds: float


def fit(
    network: nn.Module,
    loss: Callable[[nn.Module, Batch, torch.Generator], Tensor],
    batches: Callable[[int], Batch],
    config: TrainConfig,
    folder: Path,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FitResult:
    """Train `network` in place, leave its best weights in it and in `folder/weights.safetensors`.

    Args:
        network: its trainable parameters move; parameters that need no gradient do not.
        loss: (network, batch, generator) -> (B,) losses per record; their mean is minimised.
        batches: the batch of a step, a pure function of the step.
        config: how long and how fast.
        folder: gets the weights, `log.csv` and, while training, the checkpoint. A checkpoint
            found there is resumed, and the result is the same as without the interruption.
        validate: score of the averaged network on held-out records, lower is better; the weights
            with the lowest score are kept.
        progress: called after every step.

    Raises:
        RunError: a loss or gradient that is not finite (the step is named), or a checkpoint of
            another network.
    """
    accelerator = Accelerator()
    folder.mkdir(parents=True, exist_ok=True)
    network.to(accelerator.device)
    trainable = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(
        trainable, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    average = averaged_copy(network)
    state = _State()
    if (folder / CHECKPOINT).exists():
        state = _resume(folder / CHECKPOINT, network, average, optimiser)
    wrapped = accelerator.prepare(network) if accelerator.num_processes > 1 else network
    log = _Log(folder / LOG, state.step)
    network.train()
    resumed_at, last_loss = time.monotonic(), float("nan")
    recent: list[float] = []
    while state.step < config.steps and not state.stopped:
        step = state.step
        rate = config.rate_at(step)
        for group in optimiser.param_groups:
            group["lr"] = rate
        generator = step_generator(config.seed, step, accelerator.process_index)
        value = loss(wrapped, batches(step), generator).mean()
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(value)
        norm = float(nn.utils.clip_grad_norm_(trainable, config.gradient_clip))
        last_loss = float(value.detach())
        if not math.isfinite(last_loss) or not math.isfinite(norm):
            raise RunError(
                f"the loss of step {step} is {last_loss} with gradient norm {norm}, expected "
                f"finite numbers; lower the learning rate ({config.learning_rate:g}) or look at "
                f"the records of this batch"
            )
        optimiser.step()
        update_average(average, network, config.ema_decay, step)
        state.step += 1
        recent.append(last_loss)
        validation = None
        ends = state.step == config.steps
        if validate and config.validate_every and (ends or not state.step % config.validate_every):
            network.eval()
            validation = validate(average if config.ema_decay else network)
            network.train()
            state.judge(validation, average if config.ema_decay else network, config.patience)
        seconds = state.seconds + time.monotonic() - resumed_at
        if accelerator.is_main_process:
            if validation is not None or ends or not state.step % config.log_every:
                log.add(state.step, sum(recent) / len(recent), rate, norm, validation, seconds)
                recent.clear()
            if not state.step % config.checkpoint_every and not ends:
                log.flush()
                _save(folder / CHECKPOINT, network, average, optimiser, state, seconds)
        if progress:
            progress(Progress(state.step, config.steps, last_loss, validation))
    state.seconds += time.monotonic() - resumed_at
    kept = state.best or {
        name: tensor.detach().clone()
        for name, tensor in (average if config.ema_decay else network).state_dict().items()
    }
    network.load_state_dict(kept)
    network.eval()
    if accelerator.is_main_process:
        log.flush()
        save_weights(network, folder / WEIGHTS)
        (folder / CHECKPOINT).unlink(missing_ok=True)
    return FitResult(
        state.step,
        state.best_step if state.best else state.step,
        last_loss,
        state.best_score if state.best else None,
        state.seconds,
    )


def save_weights(network: nn.Module, path: Path) -> None:
    """The state of a network as safetensors, whole or not at all."""
    _write_tensors(
        {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, path, {}
    )


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from `save_weights`; RunError where file and network do not match."""
    tensors, _ = _read_tensors(path)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(
            f"{path} holds the weights of another network than this configuration describes "
            f"({str(error).splitlines()[-1].strip()}); use the run folder that it was trained in"
        ) from None


class _State:
    """What a checkpoint holds beside the tensors of network and optimiser."""

    def __init__(self) -> None:
        self.step = 0
        self.seconds = 0.0
        self.best: dict[str, Tensor] | None = None
        self.best_score = math.inf
        self.best_step = 0
        self.failures = 0
        self.stopped = False

    def judge(self, score: float, network: nn.Module, patience: int) -> None:
        if not math.isfinite(score):
            raise RunError(
                f"the validation score after step {self.step} is {score}, expected a finite "
                f"number; look at the held-out records"
            )
        if score < self.best_score:
            self.best_score, self.best_step, self.failures = score, self.step, 0
            self.best = {name: t.detach().clone() for name, t in network.state_dict().items()}
        else:
            self.failures += 1
            self.stopped = bool(patience) and self.failures >= patience


class _Log:
    """`log.csv`; rows past the checkpoint that training resumes from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[list[str]] = []
        if path.exists() and step:
            with path.open(newline="") as file:
                self.rows = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]

    def add(
        self,
        step: int,
        loss: float,
        rate: float,
        norm: float,
        validation: float | None,
        seconds: float,
    ) -> None:
        shown = "" if validation is None else f"{validation:.6g}"
        self.rows.append(
            [str(step), f"{loss:.6g}", f"{rate:.4g}", f"{norm:.4g}", shown, f"{seconds:.1f}"]
        )

    def flush(self) -> None:
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LOG_COLUMNS)
            writer.writerows(self.rows)
        partial.replace(self.path)


def _save(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: _State,
    seconds: float,
) -> None:
    tensors = {f"network.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in average.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in (state.best or {}).items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": t for name, t in moments.items()}
    facts = {
        "step": state.step,
        "seconds": seconds,
        "best_score": state.best_score if state.best else None,
        "best_step": state.best_step,
        "failures": state.failures,
        "stopped": state.stopped,
    }
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    _write_tensors(whole, path, {"state": json.dumps(facts)})


def _resume(
    path: Path, network: nn.Module, average: nn.Module, optimiser: torch.optim.Optimizer
) -> _State:
    tensors, metadata = _read_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {
        part: {} for part in ("network", "average", "best", "optimiser")
    }
    for key, tensor in tensors.items():
        part, name = key.split(".", 1)
        parts[part][name] = tensor
    moments: dict[int, dict[str, Tensor]] = {}
    for key, tensor in parts["optimiser"].items():
        number, name = key.split(".", 1)
        moments.setdefault(int(number), {})[name] = tensor
    try:
        network.load_state_dict(parts["network"])
        average.load_state_dict(parts["average"])
        optimiser.load_state_dict(
            {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
        )
    except (RuntimeError, ValueError):
        raise RunError(
            f"{path} is the checkpoint of another network than this configuration describes; go "
            f"on with the settings it was begun with, or remove it to begin anew"
        ) from None
    facts = json.loads(metadata["state"])
    state = _State()
    state.step, state.seconds = facts["step"], facts["seconds"]
    state.best_step, state.failures = facts["best_step"], facts["failures"]
    state.stopped = facts["stopped"]
    if facts["best_score"] is not None:
        state.best_score = facts["best_score"]
        device = next(network.parameters()).device
        state.best = {name: t.to(device) for name, t in parts["best"].items()}
    return state


def _write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(tensors, partial, metadata=metadata)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        partial.unlink(missing_ok=True)
        raise RunError(
            f"{path} could not be written ({error}); make room and run the same command again"
        ) from None


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"expected weights at {path}, found no such file; train first") from None
    except SafetensorError as error:
        raise RunError(
            f"{path} is not a whole safetensors file ({error}); remove it and run the same "
            f"command again"
        ) from None
