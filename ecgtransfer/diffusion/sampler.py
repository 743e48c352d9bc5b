"""From noise to signal: three solvers of the probability-flow equation dx/dsigma = (x - D) / sigma.

The solver never learns which denoiser it walks with: source, guided, fine-tuned or exact.
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
    """Draw x0 from the law whose denoiser is `denoise`.

    Args:
        denoise: (x, sigma, label) -> denoised.
        noise: standard normal, (B, ...); it alone decides which record comes out.
        label: (B, K), a condition or None.
        sigmas: falling noise levels that end in 0, as `karras_sigmas` gives them.
        solver: "dpmpp2m" and "adams" (one denoiser call a step; second and third order in the
            step) or "heun" (two calls; second order). Records of a run are drawn by
            `RECORD_SOLVER`.

    Returns:
        x0, (B, ...), in the type of `noise`.
    """
    if solver not in SOLVERS:
        raise ConfigError(f"expected a solver of {', '.join(sorted(SOLVERS))}, got {solver!r}")
    levels = [float(sigma) for sigma in sigmas]
    falling = all(here > there for here, there in pairwise(levels))
    if len(levels) < 2 or levels[-1] != 0 or not falling:
        raise ConfigError("expected falling noise levels that end in 0, as karras_sigmas gives")

    def at(x: Tensor, sigma: float) -> Tensor:
        return denoise(x, torch.full((x.shape[0],), sigma, dtype=x.dtype, device=x.device), label)

    return SOLVERS[solver](at, noise * levels[0], levels)


def _heun(at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """Heun's method (Karras et al. 2022, algorithm 1 without churn)."""
    for here, there in pairwise(levels):
        slope = (x - at(x, here)) / here
        guess = x + (there - here) * slope
        if there > 0:
            slope = (slope + (guess - at(guess, there)) / there) / 2
            guess = x + (there - here) * slope
        x = guess
    return x


def _dpmpp2m(at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """DPM-Solver++ (2M) in the data prediction form (Lu et al. 2022, algorithm 2).

    With t = -ln sigma and h the step in t, x <- (sigma'/sigma) x - (e^-h - 1) D, where D is the
    denoised signal extrapolated to the middle of the step from this one and the one before.
    """
    before: Tensor | None = None
    for number, (here, there) in enumerate(pairwise(levels)):
        denoised = at(x, here)
        if there == 0:
            return denoised
        ratio = there / here
        ahead = denoised
        if before is not None:
            step = torch.log(torch.tensor(here / there, dtype=torch.float64))
            last = torch.log(torch.tensor(levels[number - 1] / here, dtype=torch.float64))
            ahead = denoised + (denoised - before) * float(step / last) / 2
        x = ratio * x + (1 - ratio) * ahead
        before = denoised
    return x


def _adams(at: Callable[[Tensor, float], Tensor], x: Tensor, levels: list[float]) -> Tensor:
    """Exponential Adams predictor and corrector of third order, one call a step.

    SA-Solver (Xue et al. 2023, section 4) without noise: with t = -ln sigma the equation is
    dx/dt = D - x, and x(t + h) = e^-h x(t) + int_0^h e^(s-h) D(t + s) ds, D being a polynomial
    through its last three values. What is found at the end of a step also corrects that step.
    """
    seen: deque[tuple[float, Tensor]] = deque(maxlen=3)
    start: tuple[Tensor, float] | None = None
    for here, there in pairwise(levels):
        seen.append((here, at(x, here)))
        if there == 0:
            break
        if start is not None:
            x = _exponential_step(*start, here, seen)
        start = (x, here)
        x = _exponential_step(x, here, there, seen)
    return seen[-1][1]


def _exponential_step(
    x: Tensor, here: float, there: float, seen: deque[tuple[float, Tensor]]
) -> Tensor:
    """x(t + h) by the polynomial through what was `seen`: pairs of noise level and denoised x."""
    h = math.log(here / there)
    moments = [-math.expm1(-h)]
    for power in range(1, len(seen)):
        moments.append(h**power - power * moments[-1])  # of s^power, by parts
    nodes = np.array([math.log(here / sigma) for sigma, _ in seen])
    weights = np.linalg.solve(np.vander(nodes, increasing=True).T, moments)
    x = there / here * x
    for weight, (_, denoised) in zip(weights, seen, strict=True):
        x = x + float(weight) * denoised
    return x


SOLVERS: dict[str, Callable[[Callable[[Tensor, float], Tensor], Tensor, list[float]], Tensor]] = {
    "adams": _adams,
    "dpmpp2m": _dpmpp2m,
    "heun": _heun,
}
