"""Diffusion in the EDM form: noise levels, denoisers, their loss, and the way back to a signal."""

from ecgtransfer.diffusion.denoiser import (
    Denoiser,
    ECGDenoiser,
    Precision,
    classifier_free,
    denoised_from_noise,
    denoised_from_score,
    fastest_precision,
    noise_from_denoised,
    per_record,
    score_from_denoised,
)
from ecgtransfer.diffusion.loss import denoising_loss, gaussian_denoiser, mean_denoising_loss
from ecgtransfer.diffusion.model import (
    DiffusionConfig,
    DiffusionModel,
    Records,
    fit_diffusion,
    gaussian_identity,
    held_out_loss,
)
from ecgtransfer.diffusion.noise import NoiseConfig, draw_sigma, karras_sigmas, sampling_sigmas
from ecgtransfer.diffusion.sampler import sample
from ecgtransfer.diffusion.units import SignalUnits

__all__ = [
    "Denoiser",
    "DiffusionConfig",
    "DiffusionModel",
    "ECGDenoiser",
    "NoiseConfig",
    "Precision",
    "Records",
    "SignalUnits",
    "classifier_free",
    "denoised_from_noise",
    "denoised_from_score",
    "denoising_loss",
    "draw_sigma",
    "fastest_precision",
    "fit_diffusion",
    "gaussian_denoiser",
    "gaussian_identity",
    "held_out_loss",
    "karras_sigmas",
    "mean_denoising_loss",
    "noise_from_denoised",
    "per_record",
    "sample",
    "sampling_sigmas",
    "score_from_denoised",
]
