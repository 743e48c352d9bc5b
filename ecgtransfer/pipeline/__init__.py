"""Runs: the only room that knows a run folder; each stage is a function that a command calls."""

from ecgtransfer.pipeline.config import METHODS, PRESETS, SourcePreset, SourceSettings, preset
from ecgtransfer.pipeline.data import READERS, Description, prepare_set
from ecgtransfer.pipeline.demo import DemoSettings, DemoSummary, run_demo
from ecgtransfer.pipeline.evaluation import EvaluateSettings, Evaluation, evaluate
from ecgtransfer.pipeline.exported import export_set
from ecgtransfer.pipeline.methods import (
    TargetModel,
    TransferSettings,
    TransferSummary,
    load_target_model,
    transfer,
)
from ecgtransfer.pipeline.run import Run, Stage, fingerprint, read_json, write_json
from ecgtransfer.pipeline.shown import (
    ShownRecord,
    ShownSet,
    show_record,
    show_recording,
    show_set,
)
from ecgtransfer.pipeline.source import (
    Source,
    SourceSummary,
    adopt_source,
    load_source,
    train_source,
)
from ecgtransfer.pipeline.synthetic import GenerateSettings, SamplerSettings, export, synthesise
from ecgtransfer.pipeline.target import Target, TargetSettings, load_target, settle_target

__all__ = [
    "METHODS",
    "PRESETS",
    "READERS",
    "DemoSettings",
    "DemoSummary",
    "Description",
    "EvaluateSettings",
    "Evaluation",
    "GenerateSettings",
    "Run",
    "SamplerSettings",
    "ShownRecord",
    "ShownSet",
    "Source",
    "SourcePreset",
    "SourceSettings",
    "SourceSummary",
    "Stage",
    "Target",
    "TargetModel",
    "TargetSettings",
    "TransferSettings",
    "TransferSummary",
    "adopt_source",
    "evaluate",
    "export",
    "export_set",
    "fingerprint",
    "load_source",
    "load_target",
    "load_target_model",
    "prepare_set",
    "preset",
    "read_json",
    "run_demo",
    "settle_target",
    "show_record",
    "show_recording",
    "show_set",
    "synthesise",
    "train_source",
    "transfer",
    "write_json",
]
