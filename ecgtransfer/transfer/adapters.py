"""Parameter-efficient fine-tuning: low-rank updates (LoRA), or biases and scales (DiffFit).

`with_lora` and `with_difffit` return a copy of a denoiser for `finetune`, which trains the
parameters with `requires_grad`. `merged` folds the adapters into the weights afterwards, so that
the result has the architecture of the original.
"""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError
from ecgtransfer.models import Conditioning
from ecgtransfer.training import seeded_initialisation

AnyModule = TypeVar("AnyModule", bound=nn.Module)

#: Layers that get an adapter: their weight is (out, in) or (out, in, kernel).
WEIGHT_LAYERS = (nn.Linear, nn.Conv1d)


@dataclass(frozen=True)
class LoraConfig:
    """Settings of the low-rank update W + (alpha / rank) B A.

    Attributes:
        rank: columns of B and rows of A.
        alpha: scale of the update; alpha = rank adds B A itself.

    Raises:
        ConfigError: rank is below 1, or alpha is not finite and above 0.
    """

    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise ConfigError(
                f"expected a rank of at least 1 and a finite alpha above 0, got {self.rank} and "
                f"{self.alpha}; correct the lora settings"
            )


def with_lora(denoiser: AnyModule, config: LoraConfig, seed: int) -> AnyModule:
    """Return a copy with trainable low-rank factors (Hu et al., ICLR 2022; library peft).

    Every linear layer and convolution W (out, in * kernel) becomes W + (alpha / rank) B A with
    A (rank, in * kernel) and B (out, rank). All other parameters are frozen. B starts at zero, so
    the copy computes the same function as the original.

    Args:
        denoiser: network to adapt; it is not modified.
        config: rank and scale of the update.
        seed: seed of the random A.

    Raises:
        ConfigError: the denoiser contains no linear layer or convolution.
    """
    import peft

    adapted = copy.deepcopy(denoiser)
    settings = peft.LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules="|".join(map(re.escape, _weight_layers(adapted))),  # whole names
    )
    with seeded_initialisation(seed):
        peft.inject_adapter_in_model(settings, adapted)
    return adapted


def with_difffit(denoiser: AnyModule, embeddings: Sequence[str] = ()) -> AnyModule:
    """Return a copy for DiffFit (Xie et al., ICCV 2023): weight matrices are frozen and scaled.

    Trainable are all biases, all parameters outside linear layers and convolutions (such as those
    of normalisation), and the embeddings of noise level and label (`Conditioning` modules). Each
    other linear layer or convolution becomes gamma (W x + b) with frozen W and a trainable scalar
    gamma. Gamma starts at 1, so the copy computes the same function as the original. The paper
    puts one gamma at the end of each residual branch; here each layer has one, so that networks
    without residual branches can be adapted too.

    Args:
        denoiser: network to adapt; it is not modified.
        embeddings: dotted names of further modules whose parameters are all trained, for networks
            that embed noise level or label without `Conditioning`.

    Raises:
        ConfigError: the denoiser contains no linear layer or convolution, or no module of a name
            in `embeddings`.
    """
    adapted = copy.deepcopy(denoiser).requires_grad_(True)
    modules = dict(adapted.named_modules())
    if unknown := set(embeddings) - modules.keys():
        raise ConfigError(
            f"expected embeddings among the modules of the {type(denoiser).__name__}, got "
            f"{', '.join(sorted(unknown))}; give dotted names as `named_modules` does"
        )
    embedders = [
        m for name, m in modules.items() if name in embeddings or isinstance(m, Conditioning)
    ]
    unfrozen = {layer for module in embedders for layer in module.modules()}
    for name, layer in _weight_layers(adapted).items():
        if layer not in unfrozen:
            layer.get_parameter("weight").requires_grad_(False)
            _replace(adapted, name, _Scaled(layer))
    return adapted


def merged(module: AnyModule) -> AnyModule:
    """Return a frozen copy with the adapters of `with_lora` or `with_difffit` folded in.

    The copy has the architecture and parameter names of the network without adapters. A module
    without adapters is only copied and frozen.
    """
    result = copy.deepcopy(module)
    for name, layer in list(result.named_modules()):
        if isinstance(layer, _Scaled) or hasattr(layer, "lora_A"):
            layer.merge()
            _replace(result, name, layer.get_submodule("base_layer"))
    if hasattr(result, "peft_config"):
        del result.peft_config
    return result.requires_grad_(False)


def trainable_parameters(module: nn.Module) -> int:
    """Count the scalar parameters of a module that have `requires_grad`."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


class _Scaled(nn.Module):
    """A layer times a trainable scalar, which starts at 1."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer
        self.factor = nn.Parameter(layer.get_parameter("weight").new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base_layer(x)
        return self.factor * output

    @torch.no_grad()
    def merge(self) -> None:
        """Multiply the parameters of the layer by the factor."""
        for parameter in self.base_layer.parameters():
            parameter.mul_(self.factor)


def _replace(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the submodule with this dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


def _weight_layers(denoiser: nn.Module) -> dict[str, nn.Module]:
    """Return the linear layers and convolutions of a denoiser by dotted name.

    Raises:
        ConfigError: there are none.
    """
    layers: dict[str, nn.Module] = {
        name: layer
        for name, layer in denoiser.named_modules()
        if name and isinstance(layer, WEIGHT_LAYERS)
    }
    if not layers:
        raise ConfigError(
            f"expected a denoiser with linear layers or convolutions inside, got a "
            f"{type(denoiser).__name__} with none; use full fine-tuning"
        )
    return layers
