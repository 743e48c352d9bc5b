"""The denoising loss."""

import torch
from torch import Tensor

from ecgtransfer.diffusion.condition import Condition
from ecgtransfer.diffusion.denoiser import Denoiser, per_record


def denoising_loss(
    denoise: Denoiser,
    x0: Tensor,
    label: Condition | Tensor | None,
    sigma: Tensor,
    noise: Tensor,
    sigma_data: float = 1.0,
) -> Tensor:
    """lambda(sigma) || D(x0 + sigma noise; sigma) - x0 ||^2, averaged over the record: (B,).

    lambda = (sigma^2 + sigma_data^2) / (sigma sigma_data)^2 makes the best linear denoiser score
    exactly 1 at every noise level (Karras et al. 2022, eq. 2 and table 1).
    """
    x = x0 + per_record(sigma, x0) * noise
    weight = (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
    return weight * (denoise(x, sigma, label) - x0).square().flatten(1).mean(1)


def gaussian_denoiser(x: Tensor, sigma: Tensor, label: object) -> Tensor:
    """D(x; sigma) = x / (1 + sigma^2), exact for standard normal data; has weighted loss 1."""
    return x / (1 + per_record(sigma, x) ** 2)


@torch.no_grad()
def mean_denoising_loss(
    denoise: Denoiser,
    x0: Tensor,
    label: Condition | Tensor | None,
    sigma: Tensor,
    noise: Tensor,
    batch_size: int = 128,
) -> float:
    """Mean of `denoising_loss` over held-out records with given noise, computed in batches."""
    total = 0.0
    for start in range(0, len(x0), batch_size):
        part = slice(start, start + batch_size)
        labels = None if label is None else label[part]
        total += float(denoising_loss(denoise, x0[part], labels, sigma[part], noise[part]).sum())
    return total / len(x0)
