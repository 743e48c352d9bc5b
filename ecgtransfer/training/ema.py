"""Exponential moving average of a network's parameters."""

import copy

import torch
from torch import nn


def averaged_copy(network: nn.Module) -> nn.Module:
    """A copy that `update_average` moves and no gradient does."""
    return copy.deepcopy(network).requires_grad_(False).eval()


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, decay: float, step: int) -> None:
    """Move the average: a <- d a + (1 - d) w, with d = min(decay, (1 + step) / (10 + step)).

    The shorter memory at the start forgets the random weights that training began with.
    """
    effective = min(decay, (1 + step) / (10 + step))
    for kept, new in zip(average.parameters(), network.parameters(), strict=True):
        kept.lerp_(new.detach(), 1 - effective)
    for buffer, latest in zip(average.buffers(), network.buffers(), strict=True):
        buffer.copy_(latest)
