"""Numbers as they are printed: decimals, signs, powers of ten, intervals."""

import math
from collections.abc import Iterable
from typing import Protocol, runtime_checkable

#: Decimals follow the largest of the numbers that stand side by side: four digits in front and
#: behind the point, at most three behind it (a score, a share), and three significant ones where
#: all are small; below `TINY_NUMBER` powers of ten.
SMALL_NUMBER, TINY_NUMBER = 1e-2, 1e-4

SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

#: Printed where there is no number.
NO_VALUE = "no value"


@runtime_checkable
class EstimateLike(Protocol):
    """A number with its interval, such as an `Estimate`."""

    @property
    def value(self) -> float:
        """The number itself."""

    @property
    def low(self) -> float:
        """Lower end of the interval."""

    @property
    def high(self) -> float:
        """Upper end of the interval."""


def decimals_for(values: Iterable[float]) -> int | None:
    """Decimals for numbers that stand side by side; None where powers of ten read better."""
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0 or SMALL_NUMBER <= largest < 1:
        return 3
    exponent = math.floor(math.log10(largest))
    if largest < SMALL_NUMBER:
        return 2 - exponent if largest >= TINY_NUMBER else None
    return max(3 - exponent, 0)


def number_text(value: float, decimals: int | None, *, signed: bool = False) -> str:
    """A number in print: 1,204.5, −0.012, +0.3, 1.2 × 10⁻⁵, ∞."""
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
    """An estimate with its interval: 0.902 [0.850, 0.934]."""
    if estimate is None:
        return NO_VALUE
    value, low, high = (
        number_text(each, decimals, signed=signed)
        for each in (estimate.value, estimate.low, estimate.high)
    )
    return f"{value} [{low}, {high}]"
