"""Domain Guidance: extrapolation from the source's denoiser beyond the fine-tuned one."""

from torch import Tensor

from ecgtransfer.diffusion import Denoiser, without_label
from ecgtransfer.diffusion.condition import Given


def extrapolated(denoise_source: Denoiser, denoise_tuned: Denoiser, scale: float) -> Denoiser:
    """Return D_source(x; none) + scale (D_tuned(x; label) - D_source(x; none)).

    Domain Guidance (Zhong et al., ICLR 2025) guides the fine-tuned model away from the
    *unconditional* source. Its score is that of the density p (q / p)^scale at every noise level,
    with p the unconditional source and q the fine-tuned model. Scale 0 gives p, scale 1 gives q,
    and a larger scale amplifies the difference between labelled target records and source records.
    Without labels and with an exact q, the result equals `guided` with this scale as weight.

    Args:
        denoise_source: the source's denoiser; it is called without labels.
        denoise_tuned: the denoiser after fine-tuning on the target.
        scale: factor of the difference; at 0 and 1 only one of the denoisers is called.
    """
    if scale == 1.0:
        return denoise_tuned

    def denoise(x: Tensor, sigma: Tensor, label: Given) -> Tensor:
        source = denoise_source(x, sigma, without_label(label))
        if scale == 0.0:
            return source
        return source + scale * (denoise_tuned(x, sigma, label) - source)

    return denoise
