"""Run folders and their stages; each stage is one function that a command calls."""

from typing import TYPE_CHECKING

from ecgtransfer.lazy import lazy_names

if TYPE_CHECKING:
    from ecgtransfer.defaults import ARMS
    from ecgtransfer.evaluation import (
        OF_SOURCE_RECORDS,
        FidelitySettings,
        PhysiologySettings,
        PrivacySettings,
        UtilitySettings,
    )
    from ecgtransfer.evaluation.gate import GateSettings
    from ecgtransfer.pipeline.adapted import AdaptedModel, SourceModel, load
    from ecgtransfer.pipeline.augment_request import (
        AugmentPlan,
        AugmentRequest,
        default_run,
        request_augmentation,
        request_augmented_sets,
    )
    from ecgtransfer.pipeline.augmented import (
        Augmentation,
        AugmentSettings,
        AugmentSummary,
        augment,
    )
    from ecgtransfer.pipeline.augmented_files import AugmentedSets, write_augmented
    from ecgtransfer.pipeline.blind import BlindSettings, write_blind
    from ecgtransfer.pipeline.config import PRESETS, SourcePreset, SourceSettings, preset
    from ecgtransfer.pipeline.data import READERS, Description, prepare_set
    from ecgtransfer.pipeline.data_sheet import judged_unlike, recorded_share
    from ecgtransfer.pipeline.demo import DemoSettings, run_demo
    from ecgtransfer.pipeline.demo_summary import Benefit, DemoSummary
    from ecgtransfer.pipeline.evaluation import (
        QUESTIONS,
        Answer,
        Question,
        QuestionSettings,
        evaluate,
        evaluate_all,
    )
    from ecgtransfer.pipeline.methods import (
        TargetModel,
        TransferSettings,
        TransferSummary,
        load_target_model,
        transfer,
    )
    from ecgtransfer.pipeline.model_export import export_source
    from ecgtransfer.pipeline.pretrained import (
        PretrainedModel,
        find_source,
        pretrained_models,
    )
    from ecgtransfer.pipeline.report import ReportSettings, report_run
    from ecgtransfer.pipeline.run import Run, Stage
    from ecgtransfer.pipeline.source import (
        Source,
        absolute,
        import_source_model,
        load_source,
        read_source,
    )
    from ecgtransfer.pipeline.source_stage import SourceSummary, StageSummary, corpus_in_words
    from ecgtransfer.pipeline.source_training import train_source
    from ecgtransfer.pipeline.steering import Steering, parse_heart_rate, read_beats
    from ecgtransfer.pipeline.surrogate import draw_surrogate_source
    from ecgtransfer.pipeline.synthetic import (
        GenerateSettings,
        SamplerSettings,
        export,
        synthesise,
        unfinished_shards,
    )
    from ecgtransfer.pipeline.target import (
        Target,
        TargetSettings,
        check_target,
        load_target,
        split_target,
    )
    from ecgtransfer.pipeline.transfer_config import read_transfer_config
    from ecgtransfer.pipeline.transfer_request import TransferRequest, request_transfer
    from ecgtransfer.transfer.methods import METHODS
else:
    __getattr__, __dir__ = lazy_names(__name__)

__all__ = [
    "ARMS",
    "METHODS",
    "OF_SOURCE_RECORDS",
    "PRESETS",
    "QUESTIONS",
    "READERS",
    "AdaptedModel",
    "Answer",
    "AugmentPlan",
    "AugmentRequest",
    "AugmentSettings",
    "AugmentSummary",
    "Augmentation",
    "AugmentedSets",
    "Benefit",
    "BlindSettings",
    "DemoSettings",
    "DemoSummary",
    "Description",
    "FidelitySettings",
    "GateSettings",
    "GenerateSettings",
    "PhysiologySettings",
    "PretrainedModel",
    "PrivacySettings",
    "Question",
    "QuestionSettings",
    "ReportSettings",
    "Run",
    "SamplerSettings",
    "Source",
    "SourceModel",
    "SourcePreset",
    "SourceSettings",
    "SourceSummary",
    "Stage",
    "StageSummary",
    "Steering",
    "Target",
    "TargetModel",
    "TargetSettings",
    "TransferRequest",
    "TransferSettings",
    "TransferSummary",
    "UtilitySettings",
    "absolute",
    "augment",
    "check_target",
    "corpus_in_words",
    "default_run",
    "draw_surrogate_source",
    "evaluate",
    "evaluate_all",
    "export",
    "export_source",
    "find_source",
    "import_source_model",
    "judged_unlike",
    "load",
    "load_source",
    "load_target",
    "load_target_model",
    "parse_heart_rate",
    "prepare_set",
    "preset",
    "pretrained_models",
    "read_beats",
    "read_source",
    "read_transfer_config",
    "recorded_share",
    "report_run",
    "request_augmentation",
    "request_augmented_sets",
    "request_transfer",
    "run_demo",
    "split_target",
    "synthesise",
    "train_source",
    "transfer",
    "unfinished_shards",
    "write_augmented",
    "write_blind",
]
