"""From the source's denoiser through the fine-tuned one and beyond."""

from torch import Tensor

from ecgtransfer.diffusion import Denoiser
from ecgtransfer.diffusion.condition import Given


def extrapolated(denoise_source: Denoiser, denoise_tuned: Denoiser, scale: float) -> Denoiser:
    """D_source + scale (D_tuned - D_source) (Domain Guidance, Zhong et al., ICLR 2025).

    In scores this is the density p (q / p)^scale at every noise level, with p the source's and q
    the fine-tuned model's: scale 0 is the source, 1 the fine-tuned model, above 1 exaggerates what
    tells the target from the source. With an exact q it is `guided` at that weight.

    Args:
        denoise_source: the source's denoiser.
        denoise_tuned: the same after fine-tuning on the target.
        scale: how far to go; 0 and 1 are the denoisers themselves and call no other.
    """
    if scale == 0.0:
        return denoise_source
    if scale == 1.0:
        return denoise_tuned

    def denoise(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        source = denoise_source(x, sigma, label)
        return source + scale * (denoise_tuned(x, sigma, label) - source)

    return denoise
