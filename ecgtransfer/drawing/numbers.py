"""Format numbers for print: decimals, signs, powers of ten, intervals."""

import math
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

#: Decimals follow the largest of the numbers that are shown together: four digits in total before
#: and after the point, at most three after it; three significant digits if all are below
#: `SMALL_NUMBER`; powers of ten if all are below `TINY_NUMBER`.
SMALL_NUMBER, TINY_NUMBER = 1e-2, 1e-4

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Printed for a missing number.
NO_VALUE = "no value"


@runtime_checkable
class EstimateLike(Protocol):
    """A number with its interval, such as an `Estimate`."""

    @property
    def value(self) -> float:
        """The estimate itself."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def decimals_for(values: Iterable[float]) -> int | None:
    """Number of decimals for numbers that are shown together; None for powers of ten."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or SMALL_NUMBER <= largest < 1:
        return 3
    exponent = math.floor(math.log10(largest))
    if largest < SMALL_NUMBER:
        return 2 - exponent if largest >= TINY_NUMBER else None
    return max(3 - exponent, 0)


def number_text(value: float, decimals: int | None, *, signed: bool = False) -> str:
    """Format a number: 1,204.5, −0.012, +0.3, 1.2 × 10⁻⁵, ∞."""
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    sign = "+" if signed else ""
    if decimals is not None:
        rounded = round(value, decimals) + 0.0  # never −0
        return f"{rounded:{sign},.{decimals}f}".replace("-", "−")
    mantissa, _, exponent = f"{value:{sign}.1e}".partition("e")
    power = str(int(exponent)).translate(SUPERSCRIPT)
    return "0" if value == 0 else f"{mantissa} × 10{power}".replace("-", "−")


def estimate_text(
    estimate: EstimateLike | None, decimals: int | None, *, signed: bool = False
) -> str:
    """Format an estimate with its interval: 0.902 [0.850, 0.934]."""
    if estimate is None:
        return NO_VALUE
    value, low, high = (
        number_text(each, decimals, signed=signed)
        for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"
