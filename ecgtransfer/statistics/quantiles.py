"""A distribution by five percentiles."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecgtransfer.errors import ConfigError


@dataclass(frozen=True)
class Quantiles:
    """A distribution by its 5th, 25th, 50th, 75th and 95th percentile, and its count."""

    p5: float
    p25: float
    p50: float
    p75: float
    p95: float
    count: int

    def __post_init__(self) -> None:
        five = [self.p5, self.p25, self.p50, self.p75, self.p95]
        if not np.isfinite(five).all() or five != sorted(five):
            raise ConfigError(
                f"expected five finite percentiles in rising order, got {five}; leave out values "
                "that could not be measured"
            )

    def __str__(self) -> str:
        return f"{self.p50:.3g} ({self.p25:.3g} to {self.p75:.3g})"

    @classmethod
    def of(cls, values: npt.ArrayLike) -> "Quantiles | None":
        """Percentiles of the finite values; None if there is none."""
        given = np.asarray(values, dtype=np.float64)
        finite = given[np.isfinite(given)]
        if not len(finite):
            return None
        p5, p25, p50, p75, p95 = np.quantile(finite, [0.05, 0.25, 0.5, 0.75, 0.95]).tolist()
        return cls(p5, p25, p50, p75, p95, len(finite))
