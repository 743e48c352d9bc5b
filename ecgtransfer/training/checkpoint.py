"""Checkpoints: the complete state of a training on disk, for an exact resume."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ecgtransfer.errors import RunError
from ecgtransfer.training.files import difference, read_tensors, write_tensors


class TrainingState:
    """State of a training apart from the tensors of network and optimiser."""

    def __init__(self) -> None:
        self.step = 0
        #: Whether the last step has been validated and logged.
        self.settled = True
        self.seconds = 0.0
        self.loss = math.nan
        self.gradient_norm = math.nan
        #: Losses since the last log row.
        self.recent: list[float] = []
        self.best: dict[str, Tensor] | None = None
        self.best_score = math.inf
        self.best_step = 0
        self.failures = 0
        self.stopped = False

    def advance(self, loss: float, gradient_norm: float) -> None:
        """Record a step that has been made but not yet validated and logged."""
        self.step += 1
        self.loss, self.gradient_norm, self.settled = loss, gradient_norm, False
        self.recent.append(loss)

    def judge(self, score: float, network: nn.Module, patience: int) -> None:
        """Keep the weights with the lowest score; stop after `patience` scores without improvement.

        At step 0 these are the initial weights.

        Raises:
            RunError: the score is not finite.
        """
        if not math.isfinite(score):
            raise RunError(
                f"the validation score after step {self.step} is {score}, expected a finite "
                f"number; check the held-out records"
            )
        if score < self.best_score:
            self.best_score, self.best_step, self.failures = score, self.step, 0
            self.best = {name: t.detach().clone() for name, t in network.state_dict().items()}
        else:
            self.failures += 1
            self.stopped = bool(patience) and self.failures >= patience


def save_checkpoint(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    state: TrainingState,
    settings: Mapping[str, Any],
) -> None:
    """Write everything that the remaining steps depend on, atomically.

    Raises:
        StorageError: the checkpoint cannot be written.
    """
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
        "settings": dict(settings),
    }
    on_cpu = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    write_tensors(on_cpu, path, {"state": json.dumps(facts)})


def resume(
    path: Path,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    settings: Mapping[str, Any],
) -> TrainingState:
    """Load a checkpoint into network, average and optimiser; on an error, none is changed.

    Raises:
        RunError: the file is damaged, is not a checkpoint, or belongs to a training with another
            network, other trainable parameters or other settings.
    """
    tensors, metadata = read_tensors(path)
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
    other = any(difference(module, parts[part]) for part, module in modules.items())
    if other or _other_parameters(optimiser, moments):
        raise RunError(
            f"{path} is the checkpoint of another network than this configuration describes; "
            f"continue with its original settings, or remove it to start over"
        )
    # Checkpoints of the first version store no settings except the step.
    held = facts.get("settings", {**settings, "steps": max(state.step, settings["steps"])})
    changed = [
        f"{name} {held.get(name, 'at its default')}, not {settings.get(name, 'at its default')}"
        for name in {**held, **settings}
        if held.get(name) != settings.get(name)
    ]
    if changed:
        raise RunError(
            f"{path} is the checkpoint of a training with other settings ({'; '.join(changed)}); "
            f"continue with those, or remove it to start over"
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


def _state_from(facts: dict[str, Any]) -> TrainingState:
    """State stored in a checkpoint, without the best weights."""
    state = TrainingState()
    state.step, state.seconds = int(facts["step"]), float(facts["seconds"])
    state.best_step, state.failures = int(facts["best_step"]), int(facts["failures"])
    state.stopped = bool(facts["stopped"])
    if facts["best_score"] is not None:
        state.best_score = float(facts["best_score"])
    # Fields that checkpoints of the first version lack; those were written between two log rows.
    state.settled = bool(facts.get("settled", True))
    state.loss = float(facts.get("loss", math.nan))
    state.gradient_norm = float(facts.get("gradient_norm", math.nan))
    state.recent = [float(loss) for loss in facts.get("recent", [])]
    return state


def _other_parameters(
    optimiser: torch.optim.Optimizer, moments: dict[int, dict[str, Tensor]]
) -> bool:
    """Whether the moments belong to other parameters than those of the optimiser."""
    shapes = [p.shape for group in optimiser.param_groups for p in group["params"]]
    return any(
        not 0 <= number < len(shapes)
        or any(t.shape != shapes[number] for name, t in held.items() if name != "step")
        for number, held in moments.items()
    )
