"""Transfer by training little of the denoiser: low-rank factors, or biases and scale factors.

`with_lora` and `with_difffit` prepare a copy for `finetune`, which trains what needs a gradient;
`merged` folds what was learned into the weights, so that the result is an ordinary denoiser again.
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

#: Layers with a weight matrix, (out, in) or (out, in, kernel), that adapters are made for.
WEIGHT_LAYERS = (nn.Linear, nn.Conv1d)


@dataclass(frozen=True)
class LoraConfig:
    """Shape of the low-rank update W + (alpha / rank) B A.

    Attributes:
        rank: columns of B and rows of A.
        alpha: how strongly the update counts; alpha equal to the rank counts it once.
    """

    rank: int = 8
    alpha: float = 8.0

    def __post_init__(self) -> None:
        if self.rank < 1 or not 0 < self.alpha < math.inf:
            raise ConfigError(
                f"expected a rank of at least 1 and a finite alpha above 0, got {self.rank} and "
                f"{self.alpha}"
            )


def with_lora(denoiser: AnyModule, config: LoraConfig, seed: int) -> AnyModule:
    """A copy whose low-rank factors alone need a gradient (Hu et al., ICLR 2022; library peft).

    Every linear layer and convolution W (out, in * kernel) becomes W + (alpha / rank) B A with
    A (rank, in * kernel) and B (out, rank). B starts at zero: the copy equals the original.

    Args:
        denoiser: stays as it is.
        config: rank and strength of the update.
        seed: of the random A.

    Raises:
        ConfigError: no linear layer or convolution inside the denoiser.
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
    """A copy ready for DiffFit (Xie et al., ICCV 2023): all but its weight matrices is trained.

    Biases, normalisation and the embeddings of noise level and label (`Conditioning`, or any
    parameter of no linear layer or convolution) need a gradient. Of the other linear layers and
    convolutions the weight is frozen, and a factor is learned, gamma (W x + b), which starts at 1:
    the copy equals the original. The paper has such a factor at the end of each residual branch;
    here every layer has one, so that networks without residual branches are adapted as well.

    Args:
        denoiser: stays as it is.
        embeddings: dotted names of modules that are trained whole as well, where noise level or
            label enter by another way than `Conditioning`.

    Raises:
        ConfigError: no linear layer or convolution inside the denoiser, or no module of a name.
    """
    adapted = copy.deepcopy(denoiser).requires_grad_(True)
    modules = dict(adapted.named_modules())
    if unknown := set(embeddings) - modules.keys():
        raise ConfigError(
            f"expected embeddings among the modules of the {type(denoiser).__name__}, got "
            f"{', '.join(sorted(unknown))}; give dotted names as `named_modules` does"
        )
    whole = [m for name, m in modules.items() if name in embeddings or isinstance(m, Conditioning)]
    trained_whole = {layer for module in whole for layer in module.modules()}
    for name, layer in _weight_layers(adapted).items():
        if layer not in trained_whole:
            layer.get_parameter("weight").requires_grad_(False)
            _put(adapted, name, _Scaled(layer))
    return adapted


def merged(module: AnyModule) -> AnyModule:
    """A copy with its adapters folded into the weights: the network that `with_...` was given.

    Its parameters have the names of the original's and need no gradient. A module without
    adapters is copied as it is.
    """
    plain = copy.deepcopy(module)
    for name, layer in list(plain.named_modules()):
        if isinstance(layer, _Scaled) or hasattr(layer, "lora_A"):
            layer.merge()
            _put(plain, name, layer.get_submodule("base_layer"))
    if hasattr(plain, "peft_config"):
        del plain.peft_config
    return plain.requires_grad_(False)


def trainable_parameters(module: nn.Module) -> int:
    """How many numbers of a module need a gradient."""
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


class _Scaled(nn.Module):
    """A layer times one learned number that starts at 1."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = layer
        self.factor = nn.Parameter(layer.get_parameter("weight").new_ones(()))

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.base_layer(x)
        return self.factor * output

    @torch.no_grad()
    def merge(self) -> None:
        """Fold the factor into the layer."""
        for parameter in self.base_layer.parameters():
            parameter.mul_(self.factor)


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Set the layer of that dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


def _weight_layers(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The linear layers and convolutions inside a denoiser, by name."""
    layers: dict[str, nn.Module] = {
        name: layer
        for name, layer in denoiser.named_modules()
        if name and isinstance(layer, WEIGHT_LAYERS)
    }
    if not layers:
        raise ConfigError(
            f"expected a denoiser with linear layers or convolutions inside, got a "
            f"{type(denoiser).__name__} with none; train all of it instead"
        )
    return layers
