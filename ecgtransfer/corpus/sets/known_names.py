"""Detect repeated record names with 8 bytes of memory per name."""

import numpy as np
from numpy.typing import NDArray


class KnownNames:
    """64-bit hashes of many names, in sorted runs, each at least twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.int64]] = []

    def add(self, names: list[str]) -> None:
        """Add names."""
        if not names:
            return
        run = np.sort(_hashes(names))
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]))
        self._runs.append(run)

    def may_hold(self, names: list[str]) -> set[str]:
        """Names whose hash is known; a few of them may nevertheless be new."""
        hashes = _hashes(names)
        known = np.zeros(len(names), dtype=bool)
        for run in self._runs:
            place = np.searchsorted(run, hashes).clip(max=len(run) - 1)
            known |= run[place] == hashes
        return {names[k] for k in np.flatnonzero(known)}


def _hashes(names: list[str]) -> NDArray[np.int64]:
    return np.fromiter(map(hash, names), np.int64, len(names))
