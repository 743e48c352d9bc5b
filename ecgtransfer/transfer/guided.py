"""The method in one function: the source's denoiser plus a slope is the target's denoiser.

score_q(x) = score_p(x) + ∇ₓ log h(x) (Ouyang, Xie, Zha, Cheng, NeurIPS 2024, theorem 1), and
with Tweedie's D(x; σ) = x + σ² score(x) that is D_q = D_p + σ² ∇ₓ log h, at weight 1 without error.
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

#: How far the guidance is followed: a number, or a function of the noise level, (B,) -> (B,).
GuidanceWeight: TypeAlias = float | Callable[[Tensor], Tensor]


def guided(denoise: Denoiser, log_h: LogH, weight: GuidanceWeight = 1.0) -> Denoiser:
    """Target denoiser D_q(x; σ, y) = D_p(x; σ, y) + w σ² ∇ₓ log h(x, σ, y); one gradient a step.

    Args:
        denoise: the source's denoiser D_p.
        log_h: the guidance, (x (B, ...), sigma (B,), label (B, K) or None) -> (B,).
        weight: a number, or a function of sigma (B,) -> (B,) such as a `NoiseLevelWeight`.

    Returns:
        A denoiser like any other. It carries no gradient to the parameters of `log_h`; training
        goes through `consistency_loss`.

    Raises:
        ConfigError: `log_h` or `weight` gives anything but one number per record.
    """

    def denoise_target(x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        strength = weight(sigma) if callable(weight) else torch.full_like(sigma, weight)
        expect_one_per_record(strength, x, "the guidance weight")
        step = (strength * sigma**2).to(x.dtype)
        return denoise(x, sigma, label) + per_record(step, x) * slope(log_h, x, sigma, label)

    return denoise_target


def guided_at_scale(
    denoise: Denoiser,
    log_h: LogH,
    scale: float,
    weight: GuidanceWeight = 1.0,
    weight_without_label: GuidanceWeight | None = None,
) -> Denoiser:
    """The target's denoiser with classifier-free guidance at a label scale.

    D_q(x; none) + scale (D_q(x; label) - D_q(x; none)), with both denoisers `guided`. For the
    exact log h that is the exact target at that scale. The source scaled and log h added once is
    not: there the label is amplified in the source's law alone.

    Args:
        denoise: the source's denoiser D_p, which knows records without a label.
        log_h: the guidance, which knows them too (`TgdpConfig.knows_no_label`).
        scale: how strongly the label counts; 1 is `guided`.
        weight: how far the guidance is followed with a label.
        weight_without_label: the same without one; None is the same weight. Both are calibrated
            at scale 1, for no denoising loss belongs to another scale.

    Raises:
        ConfigError: as `guided`.
    """
    if weight_without_label is None:
        weight_without_label = weight
    return classifier_free(
        guided(denoise, log_h, weight), scale, guided(denoise, log_h, weight_without_label)
    )


def hiding_labels(
    function: Callable[[Tensor, Tensor, Any], Tensor], hidden: Tensor
) -> Callable[[Tensor, Tensor, Any], Tensor]:
    """A `Denoiser` or `LogH` that is told no label of the records flagged in `hidden`, (B,) bool.

    They go through in a call of their own, with whatever else they are conditioned on.
    """

    def told_less(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        if label is None or as_condition(label).label is None or not hidden.any():
            return function(x, sigma, label)
        if hidden.all():
            return function(x, sigma, without_label(label))
        shown, rest = (~hidden).nonzero()[:, 0], hidden.nonzero()[:, 0]
        values = torch.cat(
            [
                function(x[shown], sigma[shown], label[shown]),
                function(x[rest], sigma[rest], without_label(label[rest])),
            ]
        )
        return values[torch.cat([shown, rest]).argsort()]

    return told_less


def slope(
    log_h: LogH,
    x: Tensor,
    sigma: Tensor,
    label: Condition | Tensor | None,
    *,
    create_graph: bool = False,
) -> Tensor:
    """∇ₓ log h(x, σ, y): (B, ...), the shape of `x`.

    Works under `torch.no_grad()` and `torch.inference_mode()` too. With `create_graph` the
    result can be differentiated once more, towards the parameters of `log_h`; without it no
    gradient leaves this function.

    Raises:
        ConfigError: `log_h` does not return one number per record.
    """
    with torch.inference_mode(False), torch.enable_grad():
        x = _ordinary(x.detach()).requires_grad_()
        value = log_h(x, _ordinary(sigma), _ordinary_condition(label))
        expect_one_per_record(value, x, "log_h")
        (gradient,) = torch.autograd.grad(value.sum(), x, create_graph=create_graph)
    return gradient


def noised(x0: Tensor, sigma: Tensor, noise: Tensor) -> Tensor:
    """The noised signal x = x0 + σ noise: (B, ...).

    Raises:
        ConfigError: sigma is not (B,), or noise has not the shape of x0.
    """
    expect_one_per_record(sigma, x0, "sigma")
    if noise.shape != x0.shape:
        raise ConfigError(
            f"expected noise of the shape of x0, {tuple(x0.shape)}, got {tuple(noise.shape)}"
        )
    return x0 + per_record(sigma, x0) * noise


def _ordinary(tensor: Tensor) -> Tensor:
    """A tensor made under inference mode cannot be saved for a gradient; its copy can."""
    return tensor.clone() if tensor.is_inference() else tensor


def _ordinary_condition(label: Condition | Tensor | None) -> Condition | Tensor | None:
    """`_ordinary` of a label or of every part of a condition."""
    if isinstance(label, Condition):
        return label.map(_ordinary)
    return None if label is None else _ordinary(label)


def expect_one_per_record(value: Tensor, x: Tensor, name: str) -> None:
    """(B, 1) and (B,) broadcast to (B, B), whose minimiser is the batch mean: refuse."""
    if value.shape != x.shape[:1]:
        raise ConfigError(
            f"expected {name} to be one number per record, shape ({x.shape[0]},), got "
            f"{tuple(value.shape)}; squeeze it"
        )
