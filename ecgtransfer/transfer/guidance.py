"""The losses that train log h.

After Ouyang, Xie, Zha, Cheng (Transfer learning for diffusion models, NeurIPS 2024), in the form
x = x0 + σ noise. Each loss takes its noise as an argument and returns (B,); the caller draws and
averages.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgtransfer.diffusion import Denoiser, per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.guided import LogH, expect_one_per_record, noised, slope

GuidanceForm: TypeAlias = Literal["mse", "kl", "logistic"]


def guidance_loss(
    log_h: LogH,
    x0: Tensor,
    label: Given,
    log_ratio: Tensor,
    sigma: Tensor,
    noise: Tensor,
    form: GuidanceForm = "logistic",
) -> Tensor:
    """A strictly proper loss of f = log h against r = q/p on source records: (B,).

    "mse": (eᶠ - r)²; "kl": eᶠ - r f; "logistic": softplus(f) + r softplus(-f). All three have
    the minimiser e^f(x) = E_p[r given x], *not* f(x) = E_p[log r given x], which is smaller
    (Jensen). The gradient of the logistic form in f stays within [-r, 1]; the other two grow
    with eᶠ. A record with log_ratio = -inf is a plain negative, softplus(f), in that form.

    Args:
        log_h: the network that learns.
        x0: (B, ...) source records in model units.
        label: (B, K) or None.
        log_ratio: (B,) log q/p of each record; bound it with `clip_log_ratio` where one record
            may outweigh all others.
        sigma: (B,) noise level.
        noise: (B, ...) standard normal.
        form: which of the three.

    Raises:
        ConfigError: an unknown form, or log_h, log_ratio or sigma not of shape (B,).
    """
    f, _ = _value(log_h, x0, label, sigma, noise)
    expect_one_per_record(log_ratio, x0, "log_ratio")
    ratio = log_ratio.detach().exp()
    if form == "mse":
        return (f.exp() - ratio).square()
    if form == "kl":
        return f.exp() - ratio * f
    if form == "logistic":
        return F.softplus(f) + ratio * F.softplus(-f)
    raise ConfigError(f"expected a form of the guidance loss, mse, kl or logistic, got {form!r}")


def noised_classification_loss(
    log_h: LogH,
    x0: Tensor,
    label: Given,
    is_target: Tensor,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Logistic loss of log h as the logit of "target" at the noise level of each record: (B,).

    With as many target as source records its minimiser is log q_σ/p_σ = log h. "Target" records
    are target records, or source records drawn in proportion to r (importance resampling), which
    makes it the logistic form of `guidance_loss` with less variance; any mixture will do.

    Args:
        log_h: the network that learns.
        x0: (B, ...) records of both kinds in model units.
        label: (B, K) or None.
        is_target: (B,) bool.
        sigma: (B,) noise level.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h, is_target or sigma not of shape (B,).
    """
    f, _ = _value(log_h, x0, label, sigma, noise)
    expect_one_per_record(is_target, x0, "is_target")
    return F.softplus(torch.where(is_target, -f, f))


def cycle_loss(
    log_h: LogH,
    x0: Tensor,
    label: Given,
    noisy_log_ratio: LogH,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Distance of log h from the log-ratio of a noise-dependent classifier, target records: (B,).

    h(x) = q_σ(x)/p_σ(x), so both are the same function of x. Square for differences below one
    nat and linear above (Huber): the log-ratio of a whole record is a sum over time and may be
    off by tens of nats, whose squares would drown every other term. The minimiser is the same,
    for the classifier is a fixed function of x. No gradient reaches the classifier.

    Args:
        log_h: the network that learns.
        x0: (B, ...) target records in model units.
        label: (B, K) or None.
        noisy_log_ratio: the noise-dependent classifier, (x, sigma, label) -> (B,).
        sigma: (B,) noise level.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h or noisy_log_ratio does not give one number per record.
    """
    f, x = _value(log_h, x0, label, sigma, noise)
    with torch.no_grad():
        aim = noisy_log_ratio(x, sigma, label)
    expect_one_per_record(aim, x0, "noisy_log_ratio")
    return F.smooth_l1_loss(f, aim, reduction="none")


def consistency_loss(
    denoise: Denoiser,
    log_h: LogH,
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """λ(σ) ‖D_p + σ² ∇ₓ log h - x0‖², mean over coordinates, on target records: (B,).

    Denoising score matching of the guided denoiser, differentiated through the gradient; λ makes
    the best denoiser of standard normal data score 1 (Karras et al. 2022, with sigma_data = 1).
    The denoiser is frozen: no gradient reaches it. A constant in log h has no slope and stays.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the network that learns.
        x0: (B, ...) target records in model units.
        label: (B, K) or None.
        sigma: (B,) noise level.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h does not give one number per record.
    """
    x = noised(x0, sigma, noise)
    with torch.no_grad():
        denoised = denoise(x, sigma, label)
    gradient = slope(log_h, x, sigma, label, create_graph=torch.is_grad_enabled())
    error = denoised + per_record(sigma, x) ** 2 * gradient - x0
    weight = (sigma**2 + 1) / sigma**2
    return weight * error.square().flatten(1).mean(1)


def sobolev_penalty(log_h: LogH, x0: Tensor, label: Given, sigma: Tensor, noise: Tensor) -> Tensor:
    """‖∇ₓ f‖² of each record, summed over coordinates (Xie, Blanchet, Xu, ICML 2026): (B,).

    For the logit of a domain classifier or for log h; it keeps a function fitted on few records
    from growing steep between them. Arguments as in `consistency_loss`.

    Raises:
        ConfigError: log_h does not give one number per record.
    """
    x = noised(x0, sigma, noise)
    gradient = slope(log_h, x, sigma, label, create_graph=torch.is_grad_enabled())
    return gradient.square().flatten(1).sum(1)


def clip_log_ratio(log_ratio: Tensor, limit: float) -> Tensor:
    """Log-ratio within [-limit, limit]: the variance of r falls, E_p[r] no longer is 1.

    Only what the ratio is *used* for is clipped; diagnostics want the unclipped one, where
    records at the limit show as an E_p[r] away from 1.

    Raises:
        ConfigError: limit is not above 0.
    """
    if not limit > 0:
        raise ConfigError(f"expected a limit of the log-ratio above 0, got {limit}")
    return log_ratio.clamp(-limit, limit)


def _value(
    log_h: LogH, x0: Tensor, label: Given, sigma: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """The value f = log h at x = x0 + σ noise, (B,), and x itself."""
    x = noised(x0, sigma, noise)
    f = log_h(x, sigma, label)
    expect_one_per_record(f, x, "log_h")
    return f, x
