"""The denoiser: its type, its conversions to score and noise, and the ECG denoiser."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion.condition import (
    Condition,
    as_condition,
    channels_of,
    label_inputs,
    scalars_of,
    without_label,
)
from ecgtransfer.errors import ConfigError

#: (x (B, ...), sigma (B,), label (B, K), a `Condition` or None) -> denoised (B, ...)
Denoiser = Callable[[Tensor, Tensor, Any], Tensor]

Precision = Literal["float32", "bfloat16"]


def per_record(value: Tensor, x: Tensor) -> Tensor:
    """Reshape one number per record, (B,), to broadcast against x: (B, 1, ..., 1).

    Raises:
        ConfigError: the shape is not (B,).
    """
    if value.shape != x.shape[:1]:
        raise ConfigError(
            f"expected one number for each of {x.shape[0]} records, got shape {tuple(value.shape)}"
        )
    return value.reshape(-1, *[1] * (x.ndim - 1))


def score_from_denoised(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """grad_x log p_sigma(x) = (D(x; sigma) - x) / sigma^2 (Tweedie; Karras et al. 2022, eq. 3)."""
    return (denoised - x) / per_record(sigma, x) ** 2


def denoised_from_score(score: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """D(x; sigma) = x + sigma^2 grad_x log p_sigma(x), inverse of `score_from_denoised`."""
    return x + per_record(sigma, x) ** 2 * score


def noise_from_denoised(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Predicted noise (x - D) / sigma."""
    return (x - denoised) / per_record(sigma, x)


def denoised_from_noise(noise: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """D = x - sigma noise, inverse of `noise_from_denoised`."""
    return x - per_record(sigma, x) * noise


def classifier_free(
    denoise: Denoiser, scale: float, unlabelled: Denoiser | None = None
) -> Denoiser:
    """Classifier-free guidance (Ho and Salimans 2022).

    D(x; none) + scale (D(x; label) - D(x; none)), where `none` drops the label but keeps beats,
    layout and all other conditions.

    Scale 1 is `denoise` itself. Above 1, records are more typical of their label and less varied.
    Apply it last: guiding a scaled source denoiser to the target is not the same as scaling the
    guided denoiser (`ecgtransfer.transfer.guided_at_scale`).

    Args:
        denoise: denoiser D that accepts records with and without a label.
        scale: guidance scale.
        unlabelled: another denoiser for records without a label; None for `denoise`.
    """
    if scale == 1.0:
        return denoise
    denoise_without = denoise if unlabelled is None else unlabelled

    def guided_by_label(x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        without = denoise_without(x, sigma, without_label(label))
        if as_condition(label).label is None:
            return without
        return without + scale * (denoise(x, sigma, label) - without)

    return guided_by_label


class ECGDenoiser(nn.Module):
    """EDM-preconditioned denoiser (Karras et al. 2022, eq. 7 and table 1, sigma_data = 1).

    D(x; sigma, label) = c_skip x + c_out F(c_in x; sigma, label), with
    c_skip = 1 / (sigma^2 + 1), c_out = sigma / sqrt(sigma^2 + 1), c_in = 1 / sqrt(sigma^2 + 1).

    `SignalUnits` gives every lead and frequency about unit variance, so that with F = 0 this is the
    best linear denoiser at every frequency.

    With `masked_labels` the network distinguishes present, absent and unknown statements (2 K
    inputs); without, unknown statements are taken at their value in the label.
    """

    def __init__(
        self,
        network: nn.Module,
        precision: Precision = "float32",
        *,
        masked_labels: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.precision = precision
        self.masked_labels = masked_labels

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Condition | Tensor | None,
        dropped: Tensor | None = None,
    ) -> Tensor:
        """Denoise a batch: (B, leads, T).

        Args:
            x: (B, leads, T).
            sigma: (B,).
            label: (B, K), a condition, or None.
            dropped: (B,) bool, rows to denoise as if they had no label.
        """
        given = as_condition(label)
        values, hidden = label_inputs(given, self.masked_labels)
        if dropped is not None:
            hidden = dropped if hidden is None else hidden | dropped
        variance = per_record(sigma, x) ** 2 + 1
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            output = self.network(
                x * variance.rsqrt(), sigma, values, hidden, **_stated_inputs(given)
            )
        c_out = per_record(sigma, x) * variance.rsqrt()
        result: Tensor = x / variance + c_out * output.to(x.dtype)
        return result


def _stated_inputs(given: Condition) -> dict[str, Tensor]:
    """Network inputs besides label and noise level; empty for a network without conditions."""
    inputs = {"channels": channels_of(given), "scalars": scalars_of(given)}
    return {name: value for name, value in inputs.items() if value is not None}


def fastest_precision() -> Precision:
    """bfloat16 if the CPU multiplies it natively, else float32."""
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    has_mkldnn: Callable[[], bool] = torch.backends.mkldnn.is_available
    native = has_mkldnn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    wide = "AVX512" in torch.backends.cpu.get_cpu_capability()
    return "bfloat16" if native and wide else "float32"
