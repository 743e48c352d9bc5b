"""Stages `transfer-<method>`: each transfer gives a denoiser of the target."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecgtransfer.diffusion import Denoiser, NoiseConfig, classifier_free, mean_denoising_loss
from ecgtransfer.errors import ConfigError
from ecgtransfer.pipeline.cascade_settings import CascadeSettings
from ecgtransfer.pipeline.cascade_transfer import (
    CascadeChanges,
    load_cascade_changes,
    transfer_cascade,
)
from ecgtransfer.pipeline.run import CARD, Run
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_records import drawn_source, recorded_source
from ecgtransfer.pipeline.target import Target, target_records
from ecgtransfer.statistics import streams
from ecgtransfer.storage import OMIT_AT_DEFAULT, to_card
from ecgtransfer.training import Bars, no_bars
from ecgtransfer.transfer import DomainRecords
from ecgtransfer.transfer.methods import (
    METHODS,
    MethodSettings,
    SourceDomain,
    TargetDomain,
    signal_networks,
    transfer_method,
)
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.records import HeldOutDraws, refuse_folds_without_patients

#: Noise draws per held-out target record for the loss on a transfer's card.
DRAWS_PER_RECORD = 8
#: Settings on which a guidance network depends, besides source and target.
OF_GUIDANCE = ("source_records", "n_source", "tgdp", "classifier", "folds", "seed")


@dataclass(frozen=True)
class TransferSettings(MethodSettings):
    """Settings of a transfer: method, source records, and the settings of all methods.

    Attributes:
        method: name of the method, a key of `METHODS`.
        source_records: "real" for recorded source records, "model" for records sampled from the
            source model.
        n_source: number of source records, in the target's class mix (`matched_source`).
        cascade: settings for rhythm and beat shapes of a factorised source.

    Raises:
        ConfigError: a setting is out of its range.
    """

    method: str = "tgdp"
    source_records: str = "real"
    n_source: int = 2000
    cascade: CascadeSettings = field(default=CascadeSettings(), metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        super().__post_init__()
        fewest = transfer_method(self.method).fewest_folds or 1
        if self.folds < fewest:
            raise ConfigError(
                f"expected at least {fewest} folds for {self.method}, got {self.folds}; raise folds"
            )
        if self.source_records not in ("real", "model"):
            raise ConfigError(
                f"expected source records that are real or model, got {self.source_records!r}; "
                "choose one of these"
            )
        if self.n_source < 8:
            raise ConfigError(
                f"expected at least 8 source records, got {self.n_source}; raise n_source"
            )


@dataclass(frozen=True)
class TransferSummary:
    """Result of a transfer.

    The two losses use the same held-out target records and the same noise, which is not the noise
    of the training's validation. These records also stop the training and calibrate the guidance
    weight, so the loss of the method is optimistic; `benchmarks/test_loss.py` scores test records.
    With several folds, each network is scored alone on the records that its fold leaves out. The
    loss is convex, so the mean of the networks is expected to do no worse on new records.

    Attributes:
        method: name of the method.
        target_records: number of the target's training records.
        trained_parameters: number of trained parameters.
        held_out_loss: denoising loss of the target's denoiser at label scale 1.
        source_loss: denoising loss of the source's denoiser.
        seconds: duration of the trainings.
        warnings: sentences that the user should read.
        details: diagnostics of the density ratios (`ratio` is the mean over folds, `ratios` has
            each fold) and the guidance weights at label scale 1, if the method has them; for a
            factorised source also the entry "cascade" on rhythm and beat shapes.
    """

    method: str
    target_records: int
    trained_parameters: int
    held_out_loss: float
    source_loss: float
    seconds: float
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class TargetModel:
    """A denoiser of the target, with everything else that generation needs.

    Attributes:
        denoise: the denoiser.
        source: source of the run.
        method: name of the transfer method.
        fingerprint: fingerprint of the transfer, or of the source for "source".
        cascade_changes: the target's rhythm and beat shapes; None if they are the source's.
    """

    denoise: Denoiser
    source: Source
    method: str
    fingerprint: str
    cascade_changes: CascadeChanges | None = None


def stage_name(method: str) -> str:
    """Name of the stage of a method."""
    return f"transfer-{method}"


def transfer(
    run: Run, source: Source, target: Target, settings: TransferSettings, bars: Bars
) -> TransferSummary:
    """Transfer the source model to the target by one method, unless that is done already.

    Args:
        run: the run.
        source: source of the run.
        target: target of the run.
        settings: settings of the transfer.
        bars: makes a progress callback for each training, by its name.

    Raises:
        CorpusError: there are more folds than patients; the stage is not started.
        RunError: the run has this method with other settings, or a training diverged.
    """
    method = METHODS[settings.method]
    if method.fewest_folds is not None and settings.folds > 1:
        patients = target.ecgset.records.patient.iloc[target.train]
        refuse_folds_without_patients(settings.folds, set(patients))
    stage = run.stage(stage_name(method.name))
    inputs = {
        "transfer": settings,
        "source": source.fingerprint,
        "target": target.fingerprint,
    }
    if stage.begin(inputs):
        return stage.read(TransferSummary, "results")
    domain = TargetDomain(
        fit=target_records(source, target, target.fit),
        held_out=target_records(source, target, target.held_out),
        train=target_records(source, target, target.train),
    )
    fitted = method.fit(
        source_domain(source, target, settings, bars),
        domain,
        settings,
        stage.folder,
        bars=bars,
        reuse=_finished_guidance(run, method.name, settings, inputs),
    )
    cascade = transfer_cascade(
        source,
        target,
        (domain.fit, domain.held_out, domain.train),
        method.name,
        settings.cascade,
        stage.folder,
        folds=settings.folds,
        seed=settings.seed,
        bars=bars,
    )
    noise, device = source.model.config.noise, source.device
    unchanged = [(source.model, part) for _, part in fitted.evaluated]
    summary = TransferSummary(
        method=method.name,
        target_records=len(target.train),
        trained_parameters=fitted.parameters,
        held_out_loss=_target_loss(fitted.evaluated, noise, settings.seed, device),
        source_loss=_target_loss(unchanged, noise, settings.seed, device),
        seconds=fitted.seconds,
        warnings=fitted.warnings,
        details={**fitted.details, **cascade},
    )
    stage.finish(summary)
    return summary


def load_target_model(
    run: Run, source: Source, method: str, label_scale: float = 1.0
) -> TargetModel:
    """Load the denoiser of a finished transfer.

    Args:
        run: the run.
        source: source of the run.
        method: name of the method; "source" needs no transfer.
        label_scale: scale of classifier-free guidance for the target's denoiser; 1 for none.
            Guidance networks must be trained with label dropout for it, and have a separate weight
            for records without a label.

    Raises:
        ConfigError: the label scale is not 1, but the guidance was trained without label dropout.
        RunError: there is no finished transfer by this method.
    """
    stage = run.stage(stage_name(method))
    if method == "source" and not stage.is_done:
        denoise = classifier_free(source.model, label_scale)
        return TargetModel(denoise, source, method, source.fingerprint)
    details = stage.read(dict[str, Any], "results.details")
    domain = SourceDomain(source.model, source.model.config.noise, signal_networks(source.model))
    model = transfer_method(method).load(domain, stage.folder, details, stage.folder / CARD)
    changes = load_cascade_changes(
        source, method, stage.folder, details.get("cascade", {}), label_scale
    )
    denoise = model.denoiser(label_scale)
    return TargetModel(denoise, source, method, stage.read(str, "fingerprint"), changes)


def source_domain(
    source: Source, target: Target, settings: TransferSettings, bars: Bars = no_bars
) -> SourceDomain:
    """Return the source's input to a method, with source records in the target's class mix."""
    labels = target.labels[np.concatenate([target.fit, target.held_out])]
    wanted = (source, target.label_space, labels, settings.n_source, settings.seed)

    def records() -> DomainRecords:
        if settings.source_records == "real":
            return recorded_source(*wanted)
        with bars("source records from the model") as progress:
            return drawn_source(*wanted, progress)

    model = source.model
    return SourceDomain(model, model.config.noise, signal_networks(model), records)


def _finished_guidance(
    run: Run, method: str, settings: TransferSettings, inputs: dict[str, Any]
) -> Sequence[Path]:
    """Folders of the guidance of a finished tgdp of this run, if its settings are the same."""
    stage = run.stage(stage_name("tgdp"))
    if method == "tgdp" or not METHODS[method].uses_source_records or not stage.is_done:
        return ()
    stored, wanted = stage.read(dict[str, Any], "settings"), to_card(inputs)
    same = all(stored[name] == wanted[name] for name in ("source", "target")) and all(
        stored["transfer"].get(name) == wanted["transfer"][name] for name in OF_GUIDANCE
    )
    return fold_folders(stage.folder, settings.folds) if same else ()


def _target_loss(
    evaluated: Sequence[tuple[Denoiser, DomainRecords]],
    noise: NoiseConfig,
    seed: int,
    device: torch.device,
) -> float:
    """Denoising loss on target records, with the same noise for every method.

    It is 1 for the best linear denoiser if the units fit the records.
    """
    total = 0.0
    for denoise, records in evaluated:
        draws = judging_draws(records, noise, seed)
        x0, label = records.take(draws.index, device)
        total += len(records) * mean_denoising_loss(
            denoise, x0, label, draws.sigma.to(device), draws.noise.to(device), batch_size=64
        )
    return total / sum(len(records) for _, records in evaluated)


def judging_draws(records: DomainRecords, noise: NoiseConfig, seed: int) -> HeldOutDraws:
    """Noise for the losses on a transfer's card; no training or calibration uses it."""
    own = int(np.random.SeedSequence([seed, streams.JUDGING_NOISE]).generate_state(1)[0])
    return HeldOutDraws.of(records, noise, draws=DRAWS_PER_RECORD, seed=own)
