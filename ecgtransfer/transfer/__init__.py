"""Transfer: turn the denoiser of the source into a denoiser of the target."""

from ecgtransfer.transfer.adapters import (
    LoraConfig,
    merged,
    trainable_parameters,
    with_difffit,
    with_lora,
)
from ecgtransfer.transfer.beat_shape_guidance import (
    BeatShapeGuidance,
    TunableBeatShapes,
)
from ecgtransfer.transfer.calibration import log_density_ratio
from ecgtransfer.transfer.cross_fit import CrossFittedGuidance, MeanLogH, cross_fit
from ecgtransfer.transfer.density_ratio import (
    DomainClassifierConfig,
    DomainClassifierFit,
    fit_domain_classifier,
)
from ecgtransfer.transfer.diagnostics import RatioDiagnostics, ratio_diagnostics
from ecgtransfer.transfer.domain_classifier import DomainClassifier, EncoderEnsemble
from ecgtransfer.transfer.extrapolated import extrapolated
from ecgtransfer.transfer.finetune import FinetuneConfig, finetune
from ecgtransfer.transfer.guidance import (
    GuidanceForm,
    clip_log_ratio,
    consistency_loss,
    cycle_loss,
    guidance_loss,
    noised_classification_loss,
    sobolev_penalty,
)
from ecgtransfer.transfer.guided import GuidanceWeight, LogH, guided, guided_at_scale
from ecgtransfer.transfer.potential import GuidanceConfig, GuidanceNetwork
from ecgtransfer.transfer.records import DomainRecords, patient_folds
from ecgtransfer.transfer.rhythm_selection import (
    SELECTION_FEATURES,
    RhythmSelection,
    selection_features,
)
from ecgtransfer.transfer.stacking import (
    StackFit,
    averaged,
    cross_fit_stack,
    measure_folds,
    measure_stack,
    stacked,
)
from ecgtransfer.transfer.tgdp import TgdpConfig, fit_guidance
from ecgtransfer.transfer.weight import (
    GuidanceFit,
    NoiseLevelWeight,
    measure_guidance,
    noise_level_edges,
)

__all__ = [
    "SELECTION_FEATURES",
    "BeatShapeGuidance",
    "CrossFittedGuidance",
    "DomainClassifier",
    "DomainClassifierConfig",
    "DomainClassifierFit",
    "DomainRecords",
    "EncoderEnsemble",
    "FinetuneConfig",
    "GuidanceConfig",
    "GuidanceFit",
    "GuidanceForm",
    "GuidanceNetwork",
    "GuidanceWeight",
    "LogH",
    "LoraConfig",
    "MeanLogH",
    "NoiseLevelWeight",
    "RatioDiagnostics",
    "RhythmSelection",
    "StackFit",
    "TgdpConfig",
    "TunableBeatShapes",
    "averaged",
    "clip_log_ratio",
    "consistency_loss",
    "cross_fit",
    "cross_fit_stack",
    "cycle_loss",
    "extrapolated",
    "finetune",
    "fit_domain_classifier",
    "fit_guidance",
    "guidance_loss",
    "guided",
    "guided_at_scale",
    "log_density_ratio",
    "measure_folds",
    "measure_guidance",
    "measure_stack",
    "merged",
    "noise_level_edges",
    "noised_classification_loss",
    "patient_folds",
    "ratio_diagnostics",
    "selection_features",
    "sobolev_penalty",
    "stacked",
    "trainable_parameters",
    "with_difffit",
    "with_lora",
]
