"""Exponential moving average of a network's parameters."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """Copy a network for `update_average`; the copy has no gradients."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Update the average: a <- d a + (1 - d) w, with d = min(decay, (1 + step) / (10 + step)).

    The shorter memory of the first steps discards the random initial weights.
    """
    moving_average(average, network, decay)(step)


def moving_average(average: nn.Module, network: nn.Module, decay: float) -> Callable[[int], None]:
    """Make a function of the step that applies `update_average` to one pair of networks.

    Parameters are looked up only once, because in a small network the lookup takes longer than the
    update. They must stay the same objects, as for an optimiser; buffers may be replaced.
    """
    kept: list[Tensor] = list(average.parameters())
    new: list[Tensor] = list(network.parameters())
    buffered = [
        pair
        for pair in zip(average.modules(), network.modules(), strict=True)
        if any(True for _ in pair[1].buffers(recurse=False))
    ]

    @torch.no_grad()
    def update(step: int) -> None:
        effective = min(decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(kept, new, 1 - effective)
        for averaged, current in buffered:
            for buffer, latest in zip(
                averaged.buffers(recurse=False), current.buffers(recurse=False), strict=True
            ):
                buffer.copy_(latest)

    return update
