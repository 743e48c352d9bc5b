"""Losses that train log h.

After Ouyang, Xie, Zha, Cheng (Transfer learning for diffusion models, NeurIPS 2024), with the
noised signal x = x0 + σ noise. Each loss takes its noise as an argument and returns one value per
record, (B,); the caller samples the noise and averages.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from ecgtransfer.diffusion import Denoiser, per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.guided import LogH, expect_one_per_record, log_h_gradient, noised

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
    """Strictly proper loss of f = log h with target r = q/p, on source records: (B,).

    "mse": (eᶠ - r)²; "kl": eᶠ - r f; "logistic": softplus(f) + r softplus(-f). All three are
    minimised by e^f(x) = E_p[r given x], *not* by f(x) = E_p[log r given x], which is smaller
    (Jensen). The gradient of the logistic form with respect to f lies in [-r, 1]; that of the
    other two grows with eᶠ. In the logistic form, a record with log_ratio = -inf is an ordinary
    negative, softplus(f).

    Args:
        log_h: the network to train.
        x0: (B, ...) source records in model units.
        label: (B, K) or None.
        log_ratio: (B,) log q/p of each record; use `clip_log_ratio` so that no single record
            dominates the loss.
        sigma: (B,) noise levels.
        noise: (B, ...) standard normal.
        form: "mse", "kl" or "logistic".

    Raises:
        ConfigError: the form is unknown, or log_h, log_ratio or sigma has not the shape (B,).
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
    raise ConfigError(f"expected guidance loss form mse, kl or logistic, got {form!r}; choose one")


def noised_classification_loss(
    log_h: LogH,
    x0: Tensor,
    label: Given,
    is_target: Tensor,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Logistic loss of log h as the logit of P(target given x), at any noise level: (B,).

    With equal numbers of positives and negatives, the minimiser is log q_σ/p_σ = log h. Positives
    are target records, source records resampled with probability proportional to r, or a mixture
    of both. With resampled source records, this is the logistic form of `guidance_loss` with less
    variance.

    Args:
        log_h: the network to train.
        x0: (B, ...) positives and negatives in model units.
        label: (B, K) or None.
        is_target: (B,) bool, True for positives.
        sigma: (B,) noise levels.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h, is_target or sigma has not the shape (B,).
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
    """Huber loss of log h and the log-ratio of a noise-dependent classifier: (B,).

    Both estimate log q_σ(x)/p_σ(x), so the exact functions are equal. The loss is quadratic for
    differences below one nat and linear above. The log-ratio of a record is a sum over time and
    can be wrong by tens of nats, whose square would dominate the other losses. The minimiser is
    the same as that of the squared error, because the classifier is a fixed function of x. No
    gradient reaches the classifier.

    Args:
        log_h: the network to train.
        x0: (B, ...) target records in model units.
        label: (B, K) or None.
        noisy_log_ratio: the noise-dependent classifier, (x, sigma, label) -> (B,).
        sigma: (B,) noise levels.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h or noisy_log_ratio does not return one value per record.
    """
    f, x = _value(log_h, x0, label, sigma, noise)
    with torch.no_grad():
        log_ratio = noisy_log_ratio(x, sigma, label)
    expect_one_per_record(log_ratio, x0, "noisy_log_ratio")
    return F.smooth_l1_loss(f, log_ratio, reduction="none")


def consistency_loss(
    denoise: Denoiser,
    log_h: LogH,
    x0: Tensor,
    label: Given,
    sigma: Tensor,
    noise: Tensor,
) -> Tensor:
    """Denoising loss of the guided denoiser on target records, mean over coordinates: (B,).

    λ(σ) ‖D_p + σ² ∇ₓ log h - x0‖², differentiable through ∇ₓ. With λ the optimal denoiser of
    standard normal data has loss 1 (Karras et al. 2022, with sigma_data = 1). No gradient reaches
    the source's denoiser. The loss does not depend on a constant in log h, which is not trained.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the network to train.
        x0: (B, ...) target records in model units.
        label: (B, K) or None.
        sigma: (B,) noise levels.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h does not return one value per record.
    """
    x = noised(x0, sigma, noise)
    with torch.no_grad():
        denoised = denoise(x, sigma, label)
    gradient = log_h_gradient(log_h, x, sigma, label, create_graph=torch.is_grad_enabled())
    error = denoised + per_record(sigma, x) ** 2 * gradient - x0
    weight = (sigma**2 + 1) / sigma**2
    return weight * error.square().flatten(1).mean(1)


def sobolev_penalty(log_h: LogH, x0: Tensor, label: Given, sigma: Tensor, noise: Tensor) -> Tensor:
    """Sobolev penalty ‖∇ₓ f‖², summed over coordinates (Xie, Blanchet, Xu, ICML 2026): (B,).

    Regularises the logit of a domain classifier, or log h, that is fitted on few records: it
    keeps the gradient between them small.

    Args:
        log_h: the function f, (x, sigma, label) -> (B,).
        x0: (B, ...) records in model units.
        label: (B, K) or None.
        sigma: (B,) noise levels.
        noise: (B, ...) standard normal.

    Raises:
        ConfigError: log_h does not return one value per record.
    """
    x = noised(x0, sigma, noise)
    gradient = log_h_gradient(log_h, x, sigma, label, create_graph=torch.is_grad_enabled())
    return gradient.square().flatten(1).sum(1)


def clip_log_ratio(log_ratio: Tensor, limit: float) -> Tensor:
    """Clip log-ratios to [-limit, limit]; this lowers the variance of r but biases E_p[r].

    Clip the ratio that a loss uses, not the one that is diagnosed.

    Raises:
        ConfigError: the limit is not above 0.
    """
    if not limit > 0:
        raise ConfigError(
            f"expected a limit of the log-ratio above 0, got {limit}; use inf for no limit"
        )
    return log_ratio.clamp(-limit, limit)


def _value(
    log_h: LogH, x0: Tensor, label: Given, sigma: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return f = log h at x = x0 + σ noise, (B,), and x, (B, ...)."""
    x = noised(x0, sigma, noise)
    f = log_h(x, sigma, label)
    expect_one_per_record(f, x, "log_h")
    return f, x
