"""A transfer as a user asks for it: source, target, split and method in one call."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ecgtransfer.pipeline.methods import TransferSettings, TransferSummary, transfer
from ecgtransfer.pipeline.pretrained import find_source
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import adopt_source, load_source, read_source
from ecgtransfer.pipeline.target import TARGET, TargetSettings, check_target, settle_target
from ecgtransfer.training import Bars, no_bars
from ecgtransfer.transfer.methods import METHODS

#: The guidance learns from records of the source model, because no others are here.
SOURCE_RECORDS_DRAWN = (
    "the source's records are not here, so that the guidance learns from records that the source "
    "model draws (--source-records model); name their set with --source-set"
)


@dataclass(frozen=True)
class TransferRequest:
    """What `request_transfer` needs.

    Attributes:
        target: the target set and its split; `split_seed` replaces its seed.
        settings: of the transfer; `source_records` replaces theirs.
        source: a source model to import into the run, as `find_source` knows it; None for a run
            that has one.
        source_set: folder of the source's records, where they are not where they were.
        source_records: "real" or "model"; None takes real records where they are here, else those
            of the model.
        split_seed: of the split; None takes that of the run's target, 0 in a run without one.
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
    """Import the source, split the target, and transfer; what is done already is kept.

    Args:
        folder: of the run; new or empty where a source is imported.
        request: what to do.
        bars: gives a progress callback for each training.
        warn: called with each sentence that the user should read.

    Raises:
        ConfigError: settings that do not go together, or no such source model.
        CorpusError: a target that does not suit the source.
        RunError: the run holds a source, a target or this transfer with other settings.
    """
    run = Run.open(folder) if request.source is None else Run.create(folder)
    if request.source is not None or request.source_set is not None:
        theirs = find_source(request.source or str(folder))
        if not folder.exists():
            split = replace(request.target, seed=request.split_seed or 0)
            check_target(read_source(theirs), split)  # so that a refused target leaves no run
        adopt_source(run, theirs, request.source_set)
    source = load_source(run)
    settings = request.settings
    if request.source_records is not None:
        settings = replace(settings, source_records=request.source_records)
    elif source.location is None:
        settings = replace(settings, source_records="model")
        if METHODS[settings.method].uses_source_records:
            warn(SOURCE_RECORDS_DRAWN)
    split = replace(request.target, seed=_split_seed(run, request))
    target = settle_target(run, source, split)
    summary = transfer(run, source, target, settings, bars)
    for sentence in summary.warnings:
        warn(sentence)
    return summary


def _split_seed(run: Run, request: TransferRequest) -> int:
    """The seed of the split that is asked for, or of the run's own."""
    stage = run.stage(TARGET)
    if request.split_seed is not None:
        return request.split_seed
    return stage.read(TargetSettings, "settings.target").seed if stage.is_done else 0
