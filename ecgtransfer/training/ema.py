"""Exponential moving average of a network's parameters."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy that `update_average` moves and no gradient does."""
    return copy.deepcopy(network).requires_grad_(False).eval()


def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average: a <- d a + (1 - d) w, with d = min(decay, (1 + step) / (10 + step)).

    The shorter memory at the start forgets the random weights that training began with.
    """
    moving_average(average, network, decay)(step)


def moving_average(average: nn.Module, network: nn.Module, decay: float) -> Callable[[int], None]:
    """`update_average` of one pair of networks as a function of the step.

    It looks the parameters up once: in a small network that takes longer than the sum itself.
    They must stay the same objects, as an optimiser asks too; buffers may be replaced.
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
        for ours, theirs in buffered:
            for buffer, latest in zip(
                ours.buffers(recurse=False), theirs.buffers(recurse=False), strict=True
            ):
                buffer.copy_(latest)

    return update
