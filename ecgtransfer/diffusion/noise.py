"""Noise levels of training and sampling."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ecgtransfer.errors import ConfigError

#: Widest range of noise levels that records are sampled through. At 30 the signal has 0.1 % of the
#: variance; at 0.1 the noise has 1 %, which the last denoising step removes.
SAMPLING_SIGMA_MAX, SAMPLING_SIGMA_MIN = 30.0, 0.1
#: `rho` of `sampling_sigmas`; the default of `karras_sigmas` is that of Karras et al. (2022).
SAMPLING_RHO = 4.0


@dataclass(frozen=True)
class NoiseConfig:
    """Noise levels in model units (sigma_data = 1).

    Attributes:
        log_mean, log_std: training noise levels, ln sigma ~ N(log_mean, log_std^2)
            (Karras et al. 2022, table 1).
        sigma_min, sigma_max: range in which the denoiser is used: guidance weights are defined on
            it, and no sampling schedule exceeds it. `sampling_sigmas` further limits it to
            `SAMPLING_SIGMA_MIN` and `SAMPLING_SIGMA_MAX`.
    """

    log_mean: float = 0.7
    log_std: float = 1.3
    sigma_min: float = 0.03
    sigma_max: float = 40.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max:
            raise ConfigError(
                f"expected 0 < sigma_min < sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )
        if not self.log_std > 0:
            raise ConfigError(f"expected log_std above 0, got {self.log_std}")


def draw_sigma(n: int, config: NoiseConfig, generator: torch.Generator) -> Tensor:
    """Draw noise levels of training records, (n,), on the CPU."""
    return torch.exp(config.log_mean + config.log_std * torch.randn(n, generator=generator))


def karras_sigmas(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Decreasing noise levels that end in 0, (steps + 1,) float64 (Karras et al. 2022, eq. 5).

    Raises:
        ConfigError: fewer than 2 steps, or not 0 < sigma_min < sigma_max.
    """
    if steps < 2:
        raise ConfigError(f"expected at least 2 sampler steps, got {steps}")
    if not 0 < sigma_min < sigma_max:
        raise ConfigError(f"expected 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    ends = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    sigmas = (ends[0] + ramp * (ends[1] - ends[0])) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def sampling_sigmas(steps: int, config: NoiseConfig) -> Tensor:
    """Decreasing noise levels for sampling records, ending in 0: (steps + 1,) float64.

    They lie between `config.sigma_min` and `config.sigma_max`, limited to `SAMPLING_SIGMA_MIN` and
    `SAMPLING_SIGMA_MAX`: beyond these, steps change the record little (docs/experiments.md, "how to
    draw").

    Raises:
        ConfigError: as in `karras_sigmas`.
    """
    least = max(config.sigma_min, SAMPLING_SIGMA_MIN)
    most = min(config.sigma_max, SAMPLING_SIGMA_MAX)
    return karras_sigmas(steps, least, most, SAMPLING_RHO)
