"""One 12-lead ECG with its unit, sampling rate and lead order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError
from ecgtransfer.signals.leads import LEADS, canonical_lead

#: Millivolts per unit; files use both micro signs of Unicode.
MILLIVOLTS = {"mV": 1.0, "uV": 1e-3, "µV": 1e-3, "μV": 1e-3, "V": 1e3}


@dataclass(frozen=True, eq=False)
class Recording:
    """One 12-lead ECG in physical units.

    Attributes:
        signal_mv: (12, n) float32 in millivolts, rows in the order of `LEADS`, all finite; other
            floating-point types are converted on construction.
        sampling_rate_hz: samples per second, above 0; whole numbers become int.
        leads: always `LEADS`, so that a recording describes itself.

    Raises:
        SignalError: one of these conditions does not hold.
    """

    signal_mv: NDArray[np.float32]
    sampling_rate_hz: int | float
    leads: tuple[str, ...] = LEADS

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampling_rate_hz", _checked_rate(self.sampling_rate_hz))
        if tuple(self.leads) != LEADS:
            raise SignalError(
                f"expected the leads {', '.join(LEADS)} in this order, got "
                f"{', '.join(map(str, self.leads))}; sort them with reorder_leads"
            )
        object.__setattr__(self, "leads", LEADS)
        object.__setattr__(self, "signal_mv", _checked_signal(self.signal_mv))

    @property
    def n_samples(self) -> int:
        """Samples per lead."""
        return int(self.signal_mv.shape[1])

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sampling_rate_hz

    def lead_mv(self, name: str) -> NDArray[np.float32]:
        """One lead, (n,) in mV, by any spelling of its name.

        Raises:
            SignalError: unknown lead.
        """
        lead: NDArray[np.float32] = self.signal_mv[LEADS.index(canonical_lead(name))]
        return lead


def _checked_rate(rate: int | float) -> int | float:
    """Convert `rate` to int or float; raise unless it is a positive number."""
    is_number = isinstance(rate, Real) and not isinstance(rate, bool | np.bool_)
    if not is_number or not math.isfinite(rate) or rate <= 0:
        raise SignalError(
            f"expected a sampling rate above 0 Hz, got {rate!r}; pass the recorder's rate"
        )
    return int(rate) if rate == int(rate) else float(rate)


def _checked_signal(signal_mv: NDArray[np.float32] | Sequence[object]) -> NDArray[np.float32]:
    """Convert to float32 (12, n); raise unless the samples are finite and of that shape."""
    given = np.asarray(signal_mv)
    if not np.issubdtype(given.dtype, np.floating):
        raise SignalError(
            f"expected floating-point millivolts, got {given.dtype} samples; "
            "divide by the gain of the recorder first"
        )
    if given.ndim != 2 or given.shape[0] != len(LEADS) or given.shape[1] == 0:
        raise SignalError(
            f"expected a signal of shape (12, n), n > 0, got {given.shape}; "
            "pass one row for each of the 12 leads"
        )
    with np.errstate(over="ignore"):  # values beyond float32 become infinite and are rejected below
        signal = given.astype(np.float32, copy=False)
    finite = np.isfinite(signal)
    if not finite.all():
        broken = [name for name, row in zip(LEADS, finite, strict=True) if not row.all()]
        raise SignalError(
            f"expected finite samples, got {int(finite.size - finite.sum())} missing (NaN) or "
            f"infinite ones in {', '.join(broken)}; cut them out, or exclude the recording"
        )
    return signal
