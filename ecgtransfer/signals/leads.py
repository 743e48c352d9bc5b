"""The twelve leads: their names, their order, and the two equations that bind the limb leads."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from ecgtransfer.errors import SignalError

#: The order of the lead axis everywhere in this package.
LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6")

#: The eight leads that a model sees; the other four follow from I and II.
INDEPENDENT_LEADS = ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")

#: Rows of the independent leads among the twelve.
_INDEPENDENT_ROWS = [LEADS.index(name) for name in INDEPENDENT_LEADS]

#: For each of the twelve rows the row of the eight that it starts from (derived rows: lead I).
_START_ROWS = [INDEPENDENT_LEADS.index(name) if name in INDEPENDENT_LEADS else 0 for name in LEADS]

#: What recorders write before a lead's own name, once folded to lower case without blanks.
_PREFIXES = ("", "lead", "ecg", "ekg", "ecglead", "mdcecglead")

#: Every accepted spelling in lower case without blanks or underscores. "DI", "DII", "DIII" are the
#: Romance names of I, II, III. Refused because they are other signals: MLII (electrodes on the
#: torso), -aVR (Cabrera's inverted aVR), V7 and V3R (other places on the chest).
_SPELLINGS = {
    prefix + spelling: name
    for name in LEADS
    for spelling in (name.lower(), *(["d" + name.lower()] if set(name) == {"I"} else []))
    for prefix in _PREFIXES
}


class SignalArray(Protocol):
    """What the lead algebra needs of an array: numpy arrays have it, and torch tensors too."""

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
    """The name in `LEADS` that a spelling stands for: "AVR", "lead aVR", "MDC_ECG_LEAD_AVR": "aVR".

    Raises SignalError for a name that is none of the twelve leads, or only resembles one.
    """
    folded = "".join(name.split()).replace("_", "").lower()
    try:
        return _SPELLINGS[folded]
    except KeyError:
        raise SignalError(
            f"unknown lead {name!r}: expected one of {', '.join(LEADS)} in any spelling; "
            "rename the lead, or leave the recording out"
        ) from None


@lru_cache(maxsize=1024)
def lead_order(names: tuple[str, ...]) -> tuple[int, ...]:
    """For each of `LEADS` its position in `names`, matched by name; twelve numbers.

    Raises SignalError that names every missing, duplicate or unknown lead.
    """
    canonical = [canonical_lead(name) for name in names]
    twice = [lead for lead in LEADS if canonical.count(lead) > 1]
    if twice:
        raise SignalError(
            f"expected each of the 12 leads once, got {', '.join(twice)} more than once "
            f"in {', '.join(names)}; name the leads apart"
        )
    missing = [lead for lead in LEADS if lead not in canonical]
    if missing:
        raise SignalError(
            f"expected 12 leads, got {len(names)}: {', '.join(missing)} missing "
            f"from {', '.join(names) or 'an empty list'}; use recordings of all 12 leads"
        )
    return tuple(canonical.index(lead) for lead in LEADS)


def reorder_leads(signal: NDArray[Any], leads: Sequence[str]) -> NDArray[Any]:
    """Rows of `signal` (n_leads, n) put in the order of `LEADS`, by name: (12, n), same dtype.

    Raises SignalError where names and rows differ in number, or a lead is missing, duplicate or
    unknown.
    """
    if signal.ndim != 2 or signal.shape[0] != len(leads):
        raise SignalError(
            f"expected a signal of shape ({len(leads)}, n) for {len(leads)} lead names, "
            f"got {signal.shape}; pass one row a lead"
        )
    return signal[list(lead_order(tuple(leads)))]


def independent_leads(x12: ArrayT) -> ArrayT:
    """I, II, V1-V6 of (..., 12, T) in the order of `LEADS`: (..., 8, T), a copy.

    Raises SignalError where the second last axis is not the twelve leads.
    """
    _require_leads(x12, len(LEADS))
    chosen: ArrayT = x12[..., _INDEPENDENT_ROWS, :]
    return chosen


def expand_leads(x8: ArrayT) -> ArrayT:
    """All twelve leads (..., 12, T) from I, II, V1-V6 (..., 8, T), same float dtype.

    Einthoven: III = II - I.  Goldberger: aVR = -(I + II) / 2, aVL = I - II / 2, aVF = II - I / 2.
    Takes torch tensors as well as numpy arrays; their gradient goes through.

    Raises SignalError where the second last axis is not 8 long, or samples are whole numbers (whose
    halves would be cut off).
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
    """Refuse anything but (..., count, T)."""
    if len(x.shape) < 2 or x.shape[-2] != count:
        raise SignalError(
            f"expected an array of shape (..., {count}, T), got {tuple(x.shape)}; "
            "put the leads on the second last axis"
        )


def _is_floating(dtype: Any) -> bool:
    """True for a floating-point dtype of numpy or torch (the latter says so itself)."""
    own_word = getattr(dtype, "is_floating_point", None)
    return bool(np.issubdtype(dtype, np.floating)) if own_word is None else bool(own_word)
