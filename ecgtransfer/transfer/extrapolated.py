"""From the source's denoiser through the fine-tuned one and beyond."""

from torch import Tensor

from ecgtransfer.diffusion import Denoiser, without_label
from ecgtransfer.diffusion.condition import Given


def extrapolated(denoise_source: Denoiser, denoise_tuned: Denoiser, scale: float) -> Denoiser:
    """D_source(x; none) + scale (D_tuned(x; label) - D_source(x; none)).

    Domain Guidance (Zhong et al., ICLR 2025): the fine-tuned model is guided away from the
    *unconditional* source. In scores this is the density p (q / p)^scale at every noise level,
    with p the source's without a label and q the fine-tuned model's: scale 0 is that source, 1 the
    fine-tuned model, above 1 exaggerates what tells a labelled target record from any source
    record. Without labels and with an exact q it is `guided` at that weight.

    Args:
        denoise_source: the source's denoiser; it is never told a label.
        denoise_tuned: the same after fine-tuning on the target.
        scale: how far to go; 0 and 1 call one denoiser alone.
    """
    if scale == 1.0:
        return denoise_tuned

    def denoise(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        source = denoise_source(x, sigma, without_label(label))
        if scale == 0.0:
            return source
        return source + scale * (denoise_tuned(x, sigma, label) - source)

    return denoise
