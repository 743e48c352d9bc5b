"""A prepared set as a PyTorch `Dataset`, for other training loops."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ecgtransfer.corpus import ECGSet
from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import INDEPENDENT_LEADS, LEADS


class ECGDataset(Dataset[tuple[Tensor, Tensor]]):
    """Records of an ECGSet: (signal (leads, T) in millivolts, label (K,)), both float32.

    Signals stay memory-mapped on disk; the workers of a `DataLoader` open the set themselves.

    Args:
        ecgset: a set or its folder.
        leads: 12 for the order of LEADS, 8 for the order of INDEPENDENT_LEADS.

    Raises:
        CorpusError: the set cannot be opened, see `ECGSet.open`.
        ConfigError: `leads` is neither 12 nor 8.
    """

    def __init__(self, ecgset: ECGSet | str | Path, leads: int = 12) -> None:
        if leads not in (len(LEADS), len(INDEPENDENT_LEADS)):
            raise ConfigError(f"expected 12 or 8 leads, got {leads}; take one of them")
        self.ecgset = ecgset if isinstance(ecgset, ECGSet) else ECGSet.open(ecgset)
        self.leads = leads

    def __len__(self) -> int:
        return len(self.ecgset)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return record `index` as (signal (leads, T), label (K,)).

        Raises:
            IndexError: there is no such record.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"{self.ecgset.folder} has {len(self)} records, asked for {index}")
        read = self.ecgset.signals_mv if self.leads == len(LEADS) else self.ecgset.independent_mv
        label = torch.from_numpy(self.ecgset.labels[index].copy())
        return torch.from_numpy(read(int(index))[0]), label

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.ecgset.folder.resolve(), "leads": self.leads}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.ecgset, self.leads = ECGSet.open(state["folder"]), state["leads"]
