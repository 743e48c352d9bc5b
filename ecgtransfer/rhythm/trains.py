"""Beat trains as padded tensors, limited to the window in which beats can be detected."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError
from ecgtransfer.signals import Beats


@dataclass(frozen=True, eq=False)
class Trains:
    """Beats of B records within a window, padded at the end.

    Attributes:
        times_s: (B, L) float64, seconds after the start of the window; 0 for padding.
        kinds: (B, L) int64, `BeatKind`; 0 for padding.
        counts: (B,) int64, beats of each record; L is at least the largest.
    """

    times_s: Tensor
    kinds: Tensor
    counts: Tensor

    @property
    def present(self) -> Tensor:
        """Mask of real beats: (B, L) bool."""
        return torch.arange(self.times_s.shape[1], device=self.counts.device) < self.counts[:, None]

    def select(self, index: Tensor) -> "Trains":
        """Select records, with as little padding as possible."""
        counts = self.counts[index]
        longest = int(counts.max()) if len(counts) else 0
        return Trains(self.times_s[index, :longest], self.kinds[index, :longest], counts)


def in_window(beats: Beats, window_s: tuple[float, float]) -> Beats:
    """Beats within [start, end) seconds, with times and duration relative to this window."""
    start, end = window_s
    within = (beats.times_s >= start) & (beats.times_s < end)
    return Beats(beats.times_s[within] - start, beats.kinds[within], end - start)


def stack_trains(beats: Sequence[Beats], window_s: tuple[float, float]) -> Trains:
    """Stack the trains of several records, limited to [start, end) seconds.

    Raises:
        ConfigError: a record is shorter than the window.
    """
    for each in beats:
        if each.duration_s < window_s[1]:
            raise ConfigError(
                f"expected beats of at least {window_s[1]:g} s, got {each.duration_s:g} s; exclude "
                f"shorter recordings"
            )
    seen = [in_window(each, window_s) for each in beats]
    counts = np.array([len(each.times_s) for each in seen], dtype=np.int64)
    longest = int(counts.max(initial=0))
    times = np.zeros((len(seen), longest))
    kinds = np.zeros((len(seen), longest), dtype=np.int64)
    for row, each in enumerate(seen):
        times[row, : counts[row]], kinds[row, : counts[row]] = each.times_s, each.kinds
    return Trains(torch.from_numpy(times), torch.from_numpy(kinds), torch.from_numpy(counts))
