"""Transfer methods, one file each, registered in `METHODS`.

A `Method` has `fit` and `load`, which return a model; its `denoiser(cfg_scale)` returns the
target's denoiser. The pipeline for ECGs and the study on Gaussian mixtures run the same methods
with different `Networks`. To add a method, write its file and add it to `METHODS`.
"""

from collections.abc import Mapping

from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.methods.adapters import DiffFit, Lora
from ecgtransfer.transfer.methods.base import (
    Fitted,
    Method,
    MethodSettings,
    Networks,
    SourceDomain,
    TargetDomain,
    TransferredModel,
)
from ecgtransfer.transfer.methods.finetune import Finetune
from ecgtransfer.transfer.methods.scratch import Scratch
from ecgtransfer.transfer.methods.signals import signal_networks
from ecgtransfer.transfer.methods.stack import Stack
from ecgtransfer.transfer.methods.tgdp import Tgdp
from ecgtransfer.transfer.methods.unchanged import Unchanged

#: All methods by name, in the order in which help and tables list them.
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (Tgdp(), Stack(), Finetune(), Lora(), DiffFit(), Scratch(), Unchanged())
}


def transfer_method(name: str) -> Method:
    """Return the method of this name.

    Raises:
        ConfigError: there is no such method.
    """
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}; choose one")
    return METHODS[name]


__all__ = [
    "METHODS",
    "Fitted",
    "Method",
    "MethodSettings",
    "Networks",
    "SourceDomain",
    "TargetDomain",
    "TransferredModel",
    "signal_networks",
    "transfer_method",
]
