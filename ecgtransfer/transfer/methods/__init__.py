"""Every transfer method: one file each, registered in `METHODS`.

A method is a `Method` with `fit` and `load`; both return a model whose `denoiser(cfg_scale)` is the
target's denoiser. The clinic's pipeline and the study on Gaussian mixtures call the same methods,
with the `Networks` of their kind of record. To add a method, write its file and list it here.
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

#: All methods by name, in the order of help and tables.
METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (Tgdp(), Stack(), Finetune(), Lora(), DiffFit(), Scratch(), Unchanged())
}


def transfer_method(name: str) -> Method:
    """The method of this name.

    Raises:
        ConfigError: there is none; the sentence lists them.
    """
    if name not in METHODS:
        raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {name!r}")
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
