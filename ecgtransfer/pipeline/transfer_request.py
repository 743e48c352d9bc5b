"""A complete transfer in one call: import of the source, split of the target, and method."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecgtransfer.pipeline.methods import TransferSettings, TransferSummary, transfer
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import import_source_model, load_source, read_source
from ecgtransfer.pipeline.target import TARGET, TargetSettings, check_target, split_target
from ecgtransfer.training import Bars, no_bars
from ecgtransfer.transfer.methods import METHODS

#: Warning for a guidance that is trained on records of the source model for want of others.
SOURCE_RECORDS_DRAWN = (
    "the source's records are not here, so the guidance is trained on records sampled from the "
    "source model (--source-records model); to use the recorded ones, name their set with "
    "--source-set"
)


@dataclass(frozen=True)
class TransferRequest:
    """Settings of `request_transfer`.

    Attributes:
        target: target set and split; `split_seed` replaces its seed.
        settings: settings of the transfer; `source_records` replaces the value in them.
        source: source model to import into the run, as for `find_source`; None for a run that has
            one.
        source_set: folder of the source's records, if they have moved.
        source_records: "real" or "model"; None for real records if they are on this machine, else
            records sampled from the model.
        split_seed: seed of the split; None for that of the run's target, or 0 in a run without one.
    """

    target: TargetSettings
    settings: TransferSettings = field(default_factory=TransferSettings)
    source: str | None = None
    source_set: Path | None = None
    source_records: str | None = None
    split_seed: int | None = None


def request_transfer(
    folder: Path,
    request: TransferRequest,
    bars: Bars = no_bars,
    warn: Callable[[str], None] = lambda sentence: None,
) -> TransferSummary:
    """Import the source, split the target, and transfer; finished stages are kept.

    Args:
        folder: run folder; new or empty if a source is imported.
        request: settings of all stages.
        bars: makes a progress callback for each training.
        warn: called with each sentence that the user should read.

    Raises:
        ConfigError: the settings contradict each other.
        CorpusError: the target does not suit the source.
        RunError: the source model does not exist, or the run has a source, a target or this
            transfer with other settings.
    """
    run = Run.open(folder) if request.source is None else Run.create(folder)
    if request.source is not None or request.source_set is not None:
        model = find_source(request.source or str(folder))
        if not folder.exists():
            split = replace(request.target, seed=request.split_seed or 0)
            check_target(read_source(model), split)  # so that a refused target leaves no run
        import_source_model(run, model, request.source_set)
    source = load_source(run)
    settings = request.settings
    if request.source_records is not None:
        settings = replace(settings, source_records=request.source_records)
    elif source.location is None:
        settings = replace(settings, source_records="model")
        if METHODS[settings.method].uses_source_records:
            warn(SOURCE_RECORDS_DRAWN)
    split = replace(request.target, seed=_split_seed(run, request))
    target = split_target(run, source, split)
    summary = transfer(run, source, target, settings, bars)
    for sentence in summary.warnings:
        warn(sentence)
    return summary


def _split_seed(run: Run, request: TransferRequest) -> int:
    """Seed of the split: the requested one, or that of the run's target."""
    stage = run.stage(TARGET)
    if request.split_seed is not None:
        return request.split_seed
    return stage.read(TargetSettings, "settings.target").seed if stage.is_done else 0
