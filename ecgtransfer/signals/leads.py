"""The twelve leads: their names, their order, and the equations that relate the limb leads."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError

#: The order of the lead axis everywhere in this package.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

#: The eight leads that models use; the other four are computed from I and II.
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

#: Rows of the independent leads among the twelve.
_INDEPENDENT_ROWS = [LEADS.index(name) for name in INDEPENDENT_LEADS]

#: For each of the twelve leads, the row of the eight to start from (derived leads: lead I).
_START_ROWS = [INDEPENDENT_LEADS.index(name) if name in INDEPENDENT_LEADS else 0 for name in LEADS]

#: Prefixes that recorders put before a lead's name, in lower case without spaces.
_PREFIXES = ("", "lead", "ecg", "ekg", "ecglead", "mdcecglead")

#: Accepted spellings in lower case without spaces or underscores. "DI", "DII", "DIII" are the
#: Romance names of I, II, III. Not accepted, because they are other signals: MLII (electrodes on
#: the torso), -aVR (Cabrera's inverted aVR), V7 and V3R (other positions on the chest).
_SPELLINGS = {
    prefix + spelling: name
    for name in LEADS
    for spelling in (name.lower(), *(["d" + name.lower()] if set(name) == {"I"} else []))
    for prefix in _PREFIXES
}


class SignalArray(Protocol):
    """The part of the array interface that the lead algebra needs; NumPy and torch both have it."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each axis."""

    @property
    def dtype(self) -> Any:
        """Type of one sample."""

    def __getitem__(self, key: Any, /) -> Any:
        """Select samples; a list of rows gives a copy."""

    def __setitem__(self, key: Any, value: Any, /) -> None:
        """Overwrite samples."""


ArrayT = TypeVar("ArrayT", bound=SignalArray)


def canonical_lead(name: str) -> str:
    """Convert a spelling of a lead to its name in `LEADS`: "AVR" or "MDC_ECG_LEAD_AVR" to "aVR".

    Raises:
        SignalError: the name is not a spelling of one of the twelve leads.
    """
    folded = "".join(name.split()).replace("_", "").lower()
    try:
        return _SPELLINGS[folded]
    except KeyError:
        raise SignalError(
            f"unknown lead {name!r}: expected one of {', '.join(LEADS)} in any spelling; "
            "rename the lead, or exclude the recording"
        ) from None


@lru_cache(maxsize=1024)
def lead_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """Position of each of `LEADS` in `names`, matched by name.

    Raises:
        SignalError: a lead is missing, duplicate or unknown; the message names it.
    """
    canonical = [canonical_lead(name) for name in names]
    twice = [lead for lead in LEADS if canonical.count(lead) > 1]
    if twice:
        raise SignalError(
            f"expected each of the 12 leads once, got {', '.join(twice)} more than once "
            f"in {', '.join(names)}; give each lead a name of its own"
        )
    missing = [lead for lead in LEADS if lead not in canonical]
    if missing:
        raise SignalError(
            f"expected 12 leads, got {len(names)}: {', '.join(missing)} missing "
            f"from {', '.join(names) or 'an empty list'}; use recordings of all 12 leads"
        )
    return tuple(canonical.index(lead) for lead in LEADS)


def reorder_leads(signal: NDArray[Any], leads: Sequence[str]) -> NDArray[Any]:
    """Sort the rows of `signal` (n_leads, n) into the order of `LEADS`, by name: (12, n).

    Raises:
        SignalError: the numbers of names and rows differ, or a lead is missing, duplicate or
            unknown.
    """
    if signal.ndim != 2 or signal.shape[0] != len(leads):
        raise SignalError(
            f"expected a signal of shape ({len(leads)}, n) for {len(leads)} lead names, "
            f"got {signal.shape}; pass one row per lead"
        )
    return signal[list(lead_order(tuple(leads)))]


def independent_leads(x12: ArrayT) -> ArrayT:
    """Select I, II, V1-V6 from (..., 12, T) in the order of `LEADS`: (..., 8, T), a copy.

    Raises:
        SignalError: the second-to-last axis does not have length 12.
    """
    _require_leads(x12, len(LEADS))
    chosen: ArrayT = x12[..., _INDEPENDENT_ROWS, :]
    return chosen


def expand_leads(x8: ArrayT) -> ArrayT:
    """Compute all twelve leads (..., 12, T) from I, II, V1-V6 (..., 8, T), same float dtype.

    Einthoven: III = II - I.  Goldberger: aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
    Accepts NumPy arrays and torch tensors, with gradients.

    Raises:
        SignalError: the second-to-last axis does not have length 8, or samples are integers, whose
            halves would be truncated.
    """
    _require_leads(x8, len(INDEPENDENT_LEADS))
    if not _is_floating(x8.dtype):
        raise SignalError(f"expected floating-point leads, got {x8.dtype}; convert to float first")
    i, ii = x8[..., 0, :], x8[..., 1, :]
    x12: ArrayT = x8[..., _START_ROWS, :]
    x12[..., 2, :] = ii - i
    x12[..., 3, :] = -(i + ii) / 2
    x12[..., 4, :] = i - ii / 2
    x12[..., 5, :] = ii - i / 2
    return x12


def _require_leads(x: SignalArray, count: int) -> None:
    """Raise unless the shape is (..., count, T)."""
    if len(x.shape) < 2 or x.shape[-2] != count:
        raise SignalError(
            f"expected an array of shape (..., {count}, T), got {tuple(x.shape)}; "
            "put the leads on the second-to-last axis"
        )


def _is_floating(dtype: Any) -> bool:
    """Whether a dtype of NumPy or torch is floating-point."""
    own_word = getattr(dtype, "is_floating_point", None)
    return bool(np.issubdtype(dtype, np.floating)) if own_word is None else bool(own_word)
