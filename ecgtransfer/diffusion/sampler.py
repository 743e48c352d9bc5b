"""Samplers: three solvers of the probability-flow equation dx/dsigma = (x - D) / sigma.

A solver works with any denoiser: source, guided, fine-tuned or exact.
"""

import math
from collections import deque
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.diffusion.condition import Condition
from ecgtransfer.diffusion.denoiser import Denoiser
from ecgtransfer.errors import ConfigError


@torch.no_grad()
def sample(
    denoise: Denoiser,
    noise: Tensor,
    label: Condition | Tensor | None,
    sigmas: Tensor,
    solver: str = "dpmpp2m",
) -> Tensor:
    """Sample x0 from the distribution whose denoiser is `denoise`.

    Args:
        denoise: (x, sigma, label) -> denoised.
        noise: standard normal, (B, ...); the sample is a deterministic function of it.
        label: (B, K), a condition, or None.
        sigmas: decreasing noise levels that end in 0, as `karras_sigmas` returns them.
        solver: "dpmpp2m" or "adams" (one denoiser call per step; second and third order) or "heun"
            (two calls; second order). Runs sample records with `RECORD_SOLVER`.

    Returns:
        x0, (B, ...), with the type of `noise`.

    Raises:
        ConfigError: unknown solver, or invalid noise levels.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"expected a solver of {', '.join(sorted(SOLVERS))}, got {solver!r}")
    levels = [float(sigma) for sigma in sigmas]
    falling = all(sigma > sigma_next for sigma, sigma_next in pairwise(levels))
    if len(levels) < 2 or levels[-1] != 0 or not falling:
        raise ConfigError("expected falling noise levels that end in 0, as karras_sigmas gives")

    def denoise_at(x: Tensor, sigma: float) -> Tensor:
        return denoise(x, torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device), label)

    return SOLVERS[solver](denoise_at, noise * levels[0], levels)


def _heun(denoise_at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """Heun's method (Karras et al. 2022, algorithm 1 without churn)."""
    for sigma, sigma_next in pairwise(levels):
        slope = (x - denoise_at(x, sigma)) / sigma
        guess = x + (sigma_next - sigma) * slope
        if sigma_next > 0:
            slope = (slope + (guess - denoise_at(guess, sigma_next)) / sigma_next) / 2
            guess = x + (sigma_next - sigma) * slope
        x = guess
    return x


def _dpmpp2m(
    denoise_at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]
) -> Tensor:
    """DPM-Solver++ (2M) in the data prediction form (Lu et al. 2022, algorithm 2).

    With t = -ln sigma and h the step in t, x <- (sigma'/sigma) x - (e^-h - 1) D, where D is the
    denoised signal extrapolated from this and the previous step to the middle of the step.
    """
    before: Tensor | None = None
    for index, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise_at(x, sigma)
        if sigma_next == 0:
            return denoised
        ratio = sigma_next / sigma
        ahead = denoised
        if before is not None:
            step = torch.log(torch.tensor(sigma / sigma_next, dtype=torch.float64))
            last = torch.log(torch.tensor(levels[index - 1] / sigma, dtype=torch.float64))
            ahead = denoised + (denoised - before) * float(step / last) / 2
        x = ratio * x + (1 - ratio) * ahead
        before = denoised
    return x


def _adams(denoise_at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """Exponential Adams predictor-corrector of third order, with one denoiser call per step.

    SA-Solver (Xue et al. 2023, section 4) without noise: with t = -ln sigma the equation is
    dx/dt = D - x, and x(t + h) = e^-h x(t) + int_0^h e^(s-h) D(t + s) ds, where D is a polynomial
    through its last three values. The denoiser call at the end of a step also corrects that step.
    """
    history: deque[tuple[float, Tensor]] = deque(maxlen=3)
    start: tuple[Tensor, float] | None = None
    for sigma, sigma_next in pairwise(levels):
        history.append((sigma, denoise_at(x, sigma)))
        if sigma_next == 0:
            break
        if start is not None:
            x = _exponential_step(*start, sigma, history)
        start = (x, sigma)
        x = _exponential_step(x, sigma, sigma_next, history)
    return history[-1][1]


def _exponential_step(
    x: Tensor, sigma: float, sigma_next: float, history: deque[tuple[float, Tensor]]
) -> Tensor:
    """x(t + h) from the polynomial through `history`: pairs of noise level and denoised signal."""
    h = math.log(sigma / sigma_next)
    moments = [-math.expm1(-h)]
    for power in range(1, len(history)):
        moments.append(h**power - power * moments[-1])  # integral of s^power, by parts
    nodes = np.array([math.log(sigma / earlier) for earlier, _ in history])
    weights = np.linalg.solve(np.vander(nodes, increasing=True).T, moments)
    x = sigma_next / sigma * x
    for weight, (_, denoised) in zip(weights, history, strict=True):
        x = x + float(weight) * denoised
    return x


SOLVERS: dict[str, Callable[[Callable[[Tensor, float], Tensor], Tensor, list[float]], Tensor]] = {
    "adams": _adams,
    "dpmpp2m": _dpmpp2m,
    "heun": _heun,
}
