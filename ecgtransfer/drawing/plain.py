"""Convert results to plain values for JSON."""

import math
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from ecgtransfer.drawing.numbers import EstimateLike
from ecgtransfer.errors import ConfigError


def plain(value: object) -> object:
    """Convert a value for JSON: numbers that are not finite become None, an estimate its parts.

    Args:
        value: text, a number, a date, a path, a mapping, sequence or array of them, or an object
            with a `to_dict()`.

    Raises:
        ConfigError: a value of another type.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value) if math.isfinite(value) else None
    if callable(to_dict := getattr(value, "to_dict", None)):
        return plain(to_dict())
    if isinstance(value, EstimateLike):
        return plain({"value": value.value, "low": value.low, "high": value.high})
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    if isinstance(value, Path) or hasattr(value, "isoformat"):
        return str(value)
    raise ConfigError(
        f"expected numbers, text and collections of them in a report, got {type(value).__name__}; "
        "give it a to_dict()"
    )
