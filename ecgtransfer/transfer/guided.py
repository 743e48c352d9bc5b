"""Guided denoiser: the target's denoiser is the source's plus a gradient of log h.

score_q(x) = score_p(x) + ∇ₓ log h(x) (Ouyang, Xie, Zha, Cheng, NeurIPS 2024, theorem 1). With
Tweedie's formula D(x; σ) = x + σ² score(x), D_q = D_p + σ² ∇ₓ log h: exact at weight 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from ecgtransfer.diffusion import (
    Condition,
    Denoiser,
    as_condition,
    classifier_free,
    per_record,
    without_label,
)
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError

#: (x (B, ...), sigma (B,), label (B, K), a `Condition` or None) -> log h, (B,).
LogH: TypeAlias = Callable[[Tensor, Tensor, Any], Tensor]

#: Guidance weight: a number, or a function of the noise level, (B,) -> (B,).
GuidanceWeight: TypeAlias = float | Callable[[Tensor], Tensor]


def guided(denoise: Denoiser, log_h: LogH, weight: GuidanceWeight = 1.0) -> Denoiser:
    """Return the target denoiser D_q(x; σ, y) = D_p(x; σ, y) + w σ² ∇ₓ log h(x, σ, y).

    Each call computes one gradient of log h.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the guidance, (x (B, ...), sigma (B,), label (B, K) or None) -> (B,).
        weight: w, a number or a function of sigma, (B,) -> (B,), such as a `NoiseLevelWeight`.

    Returns:
        A denoiser. It passes no gradient to the parameters of `log_h`; train these with
        `consistency_loss`.

    Raises:
        ConfigError: `log_h` or `weight` does not return one value per record.
    """

    def denoise_target(x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        values = weight(sigma) if callable(weight) else torch.full_like(sigma, weight)
        expect_one_per_record(values, x, "the guidance weight")
        factor = per_record((values * sigma**2).to(x.dtype), x)
        return denoise(x, sigma, label) + factor * log_h_gradient(log_h, x, sigma, label)

    return denoise_target


def guided_at_scale(
    denoise: Denoiser,
    log_h: LogH,
    scale: float,
    weight: GuidanceWeight = 1.0,
    weight_without_label: GuidanceWeight | None = None,
) -> Denoiser:
    """Return the target denoiser with classifier-free guidance at a label scale.

    D_q(x; none) + scale (D_q(x; label) - D_q(x; none)), with both denoisers `guided`. With the
    exact log h, this is the exact target at that scale. Classifier-free guidance of the source
    with log h added once would not be: it amplifies the label in the source distribution only.

    Args:
        denoise: the source's denoiser D_p, trained with and without labels.
        log_h: the guidance, trained with and without labels (`TgdpConfig.trains_without_label`).
        scale: scale of classifier-free guidance; 1 gives `guided`.
        weight: guidance weight with a label.
        weight_without_label: guidance weight without a label; None takes `weight`. Both are
            calibrated at scale 1, the only scale at which a denoising loss is defined.

    Raises:
        ConfigError: `log_h` or a weight does not return one value per record.
    """
    if weight_without_label is None:
        weight_without_label = weight
    return classifier_free(
        guided(denoise, log_h, weight), scale, guided(denoise, log_h, weight_without_label)
    )


def hiding_labels(
    function: Callable[[Tensor, Tensor, Any], Tensor], hidden: Tensor
) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """Return a `Denoiser` or `LogH` that ignores the label of some records.

    Args:
        function: a `Denoiser` or `LogH`; it is called once with and once without labels.
        hidden: (B,) bool, records whose label is ignored; other parts of their condition are used.
    """

    def without_hidden_labels(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        if label is None or as_condition(label).label is None or not hidden.any():
            return function(x, sigma, label)
        if hidden.all():
            return function(x, sigma, without_label(label))
        labelled, unlabelled = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
        values = torch.cat(
            [
                function(x[labelled], sigma[labelled], label[labelled]),
                function(x[unlabelled], sigma[unlabelled], without_label(label[unlabelled])),
            ]
        )
        return values[torch.cat([labelled, unlabelled]).argsort()]

    return without_hidden_labels


def log_h_gradient(
    log_h: LogH,
    x: Tensor,
    sigma: Tensor,
    label: Condition | Tensor | None,
    *,
    create_graph: bool = False,
) -> Tensor:
    """Return ∇ₓ log h(x, σ, y), with the shape of `x`: (B, ...).

    Works under `torch.no_grad()` and `torch.inference_mode()` too.

    Args:
        log_h: the function to differentiate.
        x: (B, ...) noised signals.
        sigma: (B,) noise levels.
        label: (B, K), a condition, or None.
        create_graph: make the result differentiable with respect to the parameters of `log_h`;
            otherwise it is detached.

    Raises:
        ConfigError: `log_h` does not return one value per record.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = _ordinary(x.detach()).requires_grad_()
        value = log_h(x, _ordinary(sigma), _ordinary_condition(label))
        expect_one_per_record(value, x, "log_h")
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=create_graph)
    return gradient


def noised(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """Return the noised signal x = x0 + σ noise: (B, ...).

    Raises:
        ConfigError: sigma has not the shape (B,), or noise not that of x0.
    """
    expect_one_per_record(sigma, x0, "sigma")
    if noise.shape != x0.shape:
        raise ConfigError(
            f"expected noise of the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}; draw "
            "it with torch.randn(x0.shape)"
        )
    return x0 + per_record(sigma, x0) * noise


def _ordinary(tensor: Tensor) -> Tensor:
    """Copy a tensor that was created under inference mode: autograd cannot save such tensors."""
    return tensor.clone() if tensor.is_inference() else tensor


def _ordinary_condition(label: Condition | Tensor | None) -> Condition | Tensor | None:
    """Apply `_ordinary` to a label, or to every part of a condition."""
    if isinstance(label, Condition):
        return label.map(_ordinary)
    return None if label is None else _ordinary(label)


def expect_one_per_record(value: Tensor, x: Tensor, name: str) -> None:
    """Check that a value has the shape (B,).

    (B, 1) and (B,) would broadcast to (B, B), and a loss would silently fit the batch mean.

    Raises:
        ConfigError: the shape differs.
    """
    if value.shape != x.shape[:1]:
        raise ConfigError(
            f"expected {name} to be one number per record, shape ({x.shape[0]},), got "
            f"{tuple(value.shape)}; squeeze it"
        )
