"""One training loop for every network.

It resumes exactly, from a checkpoint or from Ctrl-C, and stops at once on a loss that is not
finite.
"""

import csv
import json
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

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
#: Settings that a training may be resumed with another value of: they leave the weights alone.
FREE_SETTINGS = ("checkpoint_every", "log_every")


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
        checkpoint_every, validate_every, log_every: in steps; validate_every 0 means never.
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

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to zero."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        return self.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / self.steps))


@dataclass(frozen=True)
class Progress:
    """Where a training stands, for whoever draws the bar; `loss` is that of the last batch."""

    step: int
    steps: int
    loss: float
    validation: float | None


@dataclass(frozen=True)
class FitResult:
    """What a training came to.

    Attributes:
        steps: optimiser steps made; fewer than asked for where training stopped early.
        best_step: after which the weights were as they are kept.
        loss: of the last batch.
        validation: score of the weights kept, None where nothing was validated.
        seconds: of training, those before an interruption included.
    """

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

    On Ctrl-C the checkpoint is written before KeyboardInterrupt goes on: nothing is lost.

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
        ConfigError: nothing to train in the network, or a loss that is not one number a record.
        RunError: a loss, gradient or score that is not finite (the step is named), a checkpoint
            of another network or other settings, or a folder that cannot be written.
    """
    accelerator = Accelerator()
    _make_folder(folder)
    network.to(accelerator.device)
    trainable = [p for p in network.parameters() if p.requires_grad]
    if not trainable:
        raise ConfigError("expected a network with parameters that need a gradient, got none")
    optimiser = torch.optim.AdamW(
        trainable, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=config.weight_decay
    )
    average = averaged_copy(network)
    shown = average if config.ema_decay else network
    state = _State()
    if (folder / CHECKPOINT).exists():
        state = _resume(folder / CHECKPOINT, network, average, optimiser, config)
    wrapped = accelerator.prepare(network) if accelerator.num_processes > 1 else network
    log = _Log(folder / LOG, state.step if state.settled else state.step - 1)
    network.train()
    began = time.monotonic() - state.seconds

    def take_step() -> None:
        step = state.step
        for group in optimiser.param_groups:
            group["lr"] = config.rate_at(step)
        generator = step_generator(config.seed, step, accelerator.process_index)
        values = loss(wrapped, batches(step), generator)
        if values.ndim != 1:
            raise ConfigError(
                f"expected one loss for each record, (B,), got shape {tuple(values.shape)}"
            )
        value = values.mean()
        optimiser.zero_grad(set_to_none=True)
        accelerator.backward(value)
        norm = float(nn.utils.clip_grad_norm_(trainable, config.gradient_clip))
        last = float(value.detach())
        if not math.isfinite(last) or not math.isfinite(norm):
            raise RunError(
                f"the loss of step {step} is {last} with gradient norm {norm}, expected "
                f"finite numbers; lower the learning rate ({config.learning_rate:g}) or look at "
                f"the records of this batch"
            )
        with _whole_or_not_at_all():
            optimiser.step()
            update_average(average, network, config.ema_decay, step)
            state.advance(last, norm)

    def settle() -> None:
        """Validation and log row of the step just made."""
        score, ends = None, state.step == config.steps
        if validate and config.validate_every and (ends or not state.step % config.validate_every):
            network.eval()
            score = validate(shown)
            network.train()
        with _whole_or_not_at_all():
            if score is not None:
                state.judge(score, shown, config.patience)
            if score is not None or ends or not state.step % config.log_every:
                log.add(state, config.rate_at(state.step - 1), score, time.monotonic() - began)
                state.recent.clear()
            state.settled = True
        if not state.step % config.checkpoint_every and not ends and not state.stopped:
            keep()
        if progress:
            progress(Progress(state.step, config.steps, state.loss, score))

    def keep() -> None:
        if accelerator.is_main_process:
            state.seconds = time.monotonic() - began
            log.flush()
            _save(folder / CHECKPOINT, network, average, optimiser, state, config)

    try:
        if not state.settled:
            settle()
        while state.step < config.steps and not state.stopped:
            take_step()
            settle()
    except KeyboardInterrupt:
        if state.step:
            keep()
        raise
    state.seconds = time.monotonic() - began
    with _whole_or_not_at_all():
        if state.best is not None:
            network.load_state_dict(state.best)
        elif shown is not network:
            network.load_state_dict(average.state_dict())
        network.eval()
        if accelerator.is_main_process:
            log.flush()
            save_weights(network, folder / WEIGHTS)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        accelerator.wait_for_everyone()
    return FitResult(
        steps=state.step,
        best_step=state.step if state.best is None else state.best_step,
        loss=state.loss,
        validation=None if state.best is None else state.best_score,
        seconds=state.seconds,
    )


def save_weights(network: nn.Module, path: Path) -> None:
    """The state of a network as safetensors, whole or not at all."""
    _write_tensors(
        {name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()}, path, {}
    )


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill `network` from `save_weights`; RunError where file and network do not match."""
    tensors, _ = _read_tensors(path)
    if difference := _difference(network, tensors):
        raise RunError(
            f"{path} holds the weights of another network than this configuration describes "
            f"({difference}); use the run folder that it was trained in"
        )
    network.load_state_dict(tensors)


class _State:
    """What a checkpoint holds beside the tensors of network and optimiser."""

    def __init__(self) -> None:
        self.step = 0
        #: Whether validation and log row of the last step are made.
        self.settled = True
        self.seconds = 0.0
        self.loss = math.nan
        self.gradient_norm = math.nan
        #: Losses since the last row of the log.
        self.recent: list[float] = []
        self.best: dict[str, Tensor] | None = None
        self.best_score = math.inf
        self.best_step = 0
        self.failures = 0
        self.stopped = False

    def advance(self, loss: float, gradient_norm: float) -> None:
        self.step += 1
        self.loss, self.gradient_norm, self.settled = loss, gradient_norm, False
        self.recent.append(loss)

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
    """`log.csv`; rows past the step that training resumes from are dropped."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        self.rows: list[list[str]] = []
        if not path.exists() or not step:
            return
        try:
            with path.open(newline="") as file:
                self.rows = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
        except (OSError, ValueError, IndexError, csv.Error) as error:
            raise RunError(
                f"{path} is not readable as the log of this training ({error}); remove it and run "
                f"the same command again"
            ) from None

    def add(self, state: _State, rate: float, validation: float | None, seconds: float) -> None:
        loss = sum(state.recent) / len(state.recent)
        shown = "" if validation is None else f"{validation:.6g}"
        row = [f"{loss:.6g}", f"{rate:.4g}", f"{state.gradient_norm:.4g}", shown, f"{seconds:.1f}"]
        self.rows.append([str(state.step), *row])

    def flush(self) -> None:
        with _written_whole(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(LOG_COLUMNS)
            writer.writerows(self.rows)


@contextmanager
def _whole_or_not_at_all() -> Iterator[None]:
    """Ctrl-C inside waits for the end, so that what is begun here is also finished.

    Only the main thread hears Ctrl-C; in others there is nothing to do.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    pressed: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        signal.raise_signal(signal.SIGINT)


def _save(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: _State,
    config: TrainConfig,
) -> None:
    tensors = {f"network.{name}": t for name, t in network.state_dict().items()}
    tensors |= {f"average.{name}": t for name, t in average.state_dict().items()}
    tensors |= {f"best.{name}": t for name, t in (state.best or {}).items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": t for name, t in moments.items()}
    facts = {
        "step": state.step,
        "settled": state.settled,
        "seconds": state.seconds,
        "loss": state.loss,
        "gradient_norm": state.gradient_norm,
        "recent": state.recent,
        "best_score": None if state.best is None else state.best_score,
        "best_step": state.best_step,
        "failures": state.failures,
        "stopped": state.stopped,
        "settings": _binding(config),
    }
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    _write_tensors(whole, path, {"state": json.dumps(facts)})


def _resume(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
) -> _State:
    tensors, metadata = _read_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {
        part: {} for part in ("network", "average", "best", "optimiser")
    }
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        for key, tensor in tensors.items():
            part, name = key.split(".", 1)
            parts[part][name] = tensor
        for key, tensor in parts["optimiser"].items():
            number, name = key.split(".", 1)
            moments.setdefault(int(number), {})[name] = tensor
        facts = json.loads(metadata["state"])
        state = _state_from(facts)
    except (KeyError, ValueError, TypeError):
        raise RunError(
            f"{path} is not the checkpoint of a training; remove it and run the same command again"
        ) from None
    modules = {"network": network, "average": average}
    if facts["best_score"] is not None:
        modules["best"] = average
    if any(_difference(module, parts[part]) for part, module in modules.items()) or _strangers(
        optimiser, moments
    ):
        raise RunError(
            f"{path} is the checkpoint of another network than this configuration describes; go "
            f"on with the settings it was begun with, or remove it to begin anew"
        )
    # Checkpoints of the first version state no settings but the step.
    held = {"steps": max(state.step, config.steps)} | facts.get("settings", {})
    now = _binding(config)
    changed = [
        f"{name} {value}, not {now.get(name)}"
        for name, value in held.items()
        if value != now.get(name)
    ]
    if changed:
        raise RunError(
            f"{path} is the checkpoint of a training with other settings ({'; '.join(changed)}); "
            f"go on with those, or remove it to begin anew"
        )
    network.load_state_dict(parts["network"])
    average.load_state_dict(parts["average"])
    optimiser.load_state_dict(
        {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
    )
    if facts["best_score"] is not None:
        device = next(network.parameters()).device
        state.best = {name: t.to(device) for name, t in parts["best"].items()}
    return state


def _state_from(facts: dict[str, Any]) -> _State:
    """The state that a checkpoint states, all but the best weights."""
    state = _State()
    state.step, state.seconds = int(facts["step"]), float(facts["seconds"])
    state.best_step, state.failures = int(facts["best_step"]), int(facts["failures"])
    state.stopped = bool(facts["stopped"])
    if facts["best_score"] is not None:
        state.best_score = float(facts["best_score"])
    # What checkpoints of the first version, written between two rows of the log, do not state.
    state.settled = bool(facts.get("settled", True))
    state.loss = float(facts.get("loss", math.nan))
    state.gradient_norm = float(facts.get("gradient_norm", math.nan))
    state.recent = [float(loss) for loss in facts.get("recent", [])]
    return state


def _binding(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide the weights."""
    return {name: value for name, value in asdict(config).items() if name not in FREE_SETTINGS}


def _difference(network: nn.Module, tensors: dict[str, Tensor]) -> str | None:
    """In what tensors are not the state of a network; None where they are."""
    own = {name: t.shape for name, t in network.state_dict().items()}
    held = {name: t.shape for name, t in tensors.items()}
    missing, unknown = own.keys() - held.keys(), held.keys() - own.keys()
    other = {name for name in own.keys() & held.keys() if own[name] != held[name]}
    if not (first := sorted(missing | unknown | other)):
        return None
    return (
        f"{len(missing)} tensors missing, {len(unknown)} unknown, {len(other)} of another shape; "
        f"the first is {first[0]}"
    )


def _strangers(optimiser: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]) -> bool:
    """Whether moments are of other parameters than those that the optimiser moves."""
    shapes = [p.shape for group in optimiser.param_groups for p in group["params"]]
    return any(
        not 0 <= number < len(shapes)
        or any(t.shape != shapes[number] for name, t in held.items() if name != "step")
        for number, held in moments.items()
    )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"{folder} could not be made ({error.strerror}); choose another folder"
        ) from None


@contextmanager
def _written_whole(path: Path) -> Iterator[Path]:
    """A place to write beside `path`, which takes its place when all is on the disk."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.touch()
        mode = partial.stat().st_mode
        yield partial
        partial.chmod(mode)  # safetensors makes files that nobody else may read
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"{path} could not be written ({error}); make room and run the same command again"
        ) from None
    finally:
        partial.unlink(missing_ok=True)


def _write_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    with _written_whole(path) as partial:
        save_file(tensors, partial, metadata=metadata)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except FileNotFoundError:
        raise RunError(f"expected weights at {path}, found no such file; train first") from None
    except OSError as error:
        raise RunError(f"{path} could not be read ({error}); see to its permissions") from None
    except SafetensorError as error:
        raise RunError(
            f"{path} is not a whole safetensors file ({error}); remove it and run the same "
            f"command again"
        ) from None
