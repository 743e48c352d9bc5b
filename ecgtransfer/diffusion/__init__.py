"""Diffusion models in EDM form: noise levels, denoisers, losses, samplers, and conditions."""

from ecgtransfer.defaults import RECORD_SOLVER, RECORD_STEPS
from ecgtransfer.diffusion.beat_channels import BEAT_CHANNELS, beat_channels
from ecgtransfer.diffusion.beat_shape_model import (
    BeatShapeConfig,
    BeatShapeModel,
    rhythm_summary,
)
from ecgtransfer.diffusion.beat_shape_training import (
    encode_records,
    fit_beat_shapes,
    held_out_shape_loss,
    shape_loss,
)
from ecgtransfer.diffusion.cascade import Cascade, CascadeConditions, spread_label
from ecgtransfer.diffusion.condition import Condition, as_condition, label_of, without_label
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
    LayoutBatch,
    condition_inputs,
    fit_diffusion,
    gaussian_identity,
    held_out_loss,
    measure_units,
    true_condition,
)
from ecgtransfer.diffusion.noise import NoiseConfig, draw_sigma, karras_sigmas, sampling_sigmas
from ecgtransfer.diffusion.principal_components import PrincipalComponents
from ecgtransfer.diffusion.records import ConditionedRecords, Records
from ecgtransfer.diffusion.sampler import SOLVERS, sample
from ecgtransfer.diffusion.units import SignalUnits

__all__ = [
    "BEAT_CHANNELS",
    "RECORD_SOLVER",
    "RECORD_STEPS",
    "SOLVERS",
    "BeatShapeConfig",
    "BeatShapeModel",
    "Cascade",
    "CascadeConditions",
    "Condition",
    "ConditionedRecords",
    "Denoiser",
    "DiffusionConfig",
    "DiffusionModel",
    "ECGDenoiser",
    "LayoutBatch",
    "NoiseConfig",
    "Precision",
    "PrincipalComponents",
    "Records",
    "SignalUnits",
    "as_condition",
    "beat_channels",
    "classifier_free",
    "condition_inputs",
    "denoised_from_noise",
    "denoised_from_score",
    "denoising_loss",
    "draw_sigma",
    "encode_records",
    "fastest_precision",
    "fit_beat_shapes",
    "fit_diffusion",
    "gaussian_denoiser",
    "gaussian_identity",
    "held_out_loss",
    "held_out_shape_loss",
    "karras_sigmas",
    "label_of",
    "mean_denoising_loss",
    "measure_units",
    "noise_from_denoised",
    "per_record",
    "rhythm_summary",
    "sample",
    "sampling_sigmas",
    "score_from_denoised",
    "shape_loss",
    "spread_label",
    "true_condition",
    "without_label",
]
