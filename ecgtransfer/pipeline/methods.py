"""Stages `transfer-<method>`: each ends in a `Denoiser` of the target, by whatever way."""

import copy
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from ecgtransfer.diffusion import (
    Denoiser,
    DiffusionModel,
    NoiseConfig,
    classifier_free,
    mean_denoising_loss,
)
from ecgtransfer.errors import ConfigError
from ecgtransfer.pipeline.cascade_transfer import (
    CascadeChanges,
    CascadeSettings,
    load_cascade_changes,
    transfer_cascade,
)
from ecgtransfer.pipeline.config import METHODS
from ecgtransfer.pipeline.run import Run, as_json, make_folder, written_whole
from ecgtransfer.pipeline.source import WEIGHTS, Source
from ecgtransfer.pipeline.source_records import drawn_source, recorded_source
from ecgtransfer.pipeline.target import Target, target_records
from ecgtransfer.settings import UNSTATED_AT_DEFAULT
from ecgtransfer.training import (
    FitResult,
    Progress,
    is_main_process,
    load_weights,
    main_process_first,
    save_weights,
    seeded_initialisation,
)
from ecgtransfer.transfer import (
    DomainClassifier,
    DomainClassifierConfig,
    DomainClassifierFit,
    DomainRecords,
    FinetuneConfig,
    GuidanceConfig,
    GuidanceNetwork,
    LoraConfig,
    MeanLogH,
    NoiseLevelWeight,
    TgdpConfig,
    averaged,
    cross_fit,
    cross_fit_stack,
    finetune,
    fit_domain_classifier,
    fit_guidance,
    guided,
    measure_guidance,
    merged,
    noise_level_edges,
    stacked,
    trainable_parameters,
    with_difffit,
    with_lora,
)
from ecgtransfer.transfer.records import HeldOutDraws, refuse_folds_without_patients

#: Noise draws a held-out target record behind the loss that a transfer is judged by.
DRAWS_A_RECORD = 8
#: Methods that rest on guidance networks, and the parts of a stack in the order of its weights.
GUIDED, STACKED = ("tgdp", "stack"), ("tgdp", "finetune")
#: Settings that a guidance network depends on, beside source and target.
OF_GUIDANCE = ("source_records", "n_source", "tgdp", "classifier", "folds", "seed")
#: Folders of a fold's trainings.
GUIDANCE, TUNED = "guidance", "finetune"
#: Methods that leave a whole model of the target beside their card.
WITH_OWN_WEIGHTS = ("finetune", "lora", "difffit", "scratch")
#: Ten times the rate of full fine-tuning, at which adapters are far from done after 600 steps.
ADAPTER_LEARNING_RATE = 2e-3

Bars = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]
WithTraining = TypeVar("WithTraining", DomainClassifierConfig, TgdpConfig, FinetuneConfig)


def adapter_training() -> FinetuneConfig:
    """Training of lora and difffit: that of fine-tuning at a higher rate."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, learning_rate=ADAPTER_LEARNING_RATE))


@dataclass(frozen=True)
class TransferSettings:
    """What `transfer` is asked for.

    Attributes:
        method: tgdp, stack (of tgdp and finetune), finetune, lora, difffit, scratch or source.
        source_records: "real", or "model" for records drawn from the source model itself.
        n_source: how many of them; their labels follow the target's, see `matched_source`.
        tgdp: weights of the loss terms and the guidance network's training.
        classifier: training of the domain classifiers.
        finetune: training of finetune and scratch.
        adapter: training of lora and difffit.
        lora: shape of the low-rank update.
        folds: of patients, for tgdp and stack: 1 holds a fifth out of the target records, once,
            which a stack cannot be weighed on; more fit guidance and denoiser as often, on all but
            one fold each, and take the mean (see `cross_fit`, `cross_fit_stack`;
            `docs/decisions/005` for the default).
        seed: of everything that is drawn.
        cascade: training of rhythm and beat shapes, of a factorised source.
    """

    method: str = "tgdp"
    source_records: str = "real"
    n_source: int = 2000
    tgdp: TgdpConfig = field(default_factory=TgdpConfig)
    classifier: DomainClassifierConfig = field(default_factory=DomainClassifierConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    adapter: FinetuneConfig = field(default_factory=adapter_training)
    lora: LoraConfig = field(default_factory=LoraConfig)
    folds: int = 3
    seed: int = 0
    cascade: CascadeSettings = field(default=CascadeSettings(), metadata=UNSTATED_AT_DEFAULT)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {self.method!r}")
        if self.source_records not in ("real", "model"):
            raise ConfigError(
                f"expected source records that are real or model, got {self.source_records!r}"
            )
        if self.folds < 1:
            raise ConfigError(f"expected at least 1 fold, got {self.folds}")
        if self.method == "stack" and self.folds < 2:
            raise ConfigError(f"expected at least 2 folds for a stack, got {self.folds}")
        if self.n_source < 8:
            raise ConfigError(f"expected at least 8 source records, got {self.n_source}")

    def trained_for(
        self, steps: int | None = None, learning_rate: float | None = None
    ) -> "TransferSettings":
        """The same with other steps or rate for what the method trains, guidance or denoiser."""
        changes: dict[str, Any] = {}
        if steps is not None:
            changes["steps"] = steps
        if learning_rate is not None:
            changes["learning_rate"] = learning_rate
        return replace(
            self,
            tgdp=replace(self.tgdp, train=replace(self.tgdp.train, **changes)),
            finetune=replace(self.finetune, train=replace(self.finetune.train, **changes)),
            adapter=replace(self.adapter, train=replace(self.adapter.train, **changes)),
        )


@dataclass(frozen=True)
class TransferSummary:
    """What a transfer came to.

    Attributes:
        held_out_loss: denoising loss of the target's denoiser on held-out target records, and
        source_loss: that of the source's denoiser on the same records with the same noise. Those
            records also stop the training and calibrate the guidance weight, which flatters the
            method: `benchmarks/test_loss.py` scores test records.
        warnings: sentences that the user should read.
        details: diagnostics of the ratio and the guidance weight, where the method has them; of a
            factorised source also those of rhythm and beat shapes, "cascade".
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
    """A denoiser of the target with what generation has to know beside it.

    `cascade_changes` are the target's rhythm and beat shapes, where the transfer changed them.
    """

    denoise: Denoiser
    source: Source
    method: str
    fingerprint: str
    cascade_changes: CascadeChanges | None = None


def stage_name(method: str) -> str:
    """The stage folder of a method."""
    return f"transfer-{method}"


def transfer(
    run: Run, source: Source, target: Target, settings: TransferSettings, bars: Bars
) -> TransferSummary:
    """Carry the source model over to the target by one method, or find it done.

    Raises:
        CorpusError: more folds than patients; nothing is begun.
        RunError: the run holds this method with other settings, or a training diverged.
    """
    if settings.method in GUIDED and settings.folds > 1:
        patients = target.ecgset.records.patient.iloc[target.train]
        refuse_folds_without_patients(settings.folds, set(patients))
    stage = run.stage(stage_name(settings.method))
    asked = {
        "transfer": settings,
        "source": source.fingerprint,
        "target": target.fingerprint,
    }
    if stage.begin(asked):
        results = stage.card["results"]
        return TransferSummary(**results | {"warnings": tuple(results["warnings"])})
    noise = source.model.config.noise
    work = _Work(
        source=source,
        settings=settings,
        target=target,
        fit=target_records(source, target, target.fit),
        held_out=target_records(source, target, target.held_out),
        train=target_records(source, target, target.train),
        folder=stage.folder,
        bars=bars,
        finished_guidance=_finished_guidance(run, asked) if settings.method == "stack" else None,
    )
    result = _BY_METHOD[settings.method](work)
    cascade = transfer_cascade(
        source,
        target,
        (work.fit, work.held_out, work.train),
        settings.method,
        settings.cascade,
        stage.folder,
        folds=settings.folds,
        seed=settings.seed,
        bars=bars,
    )
    device = source.device
    judged = result.judged or ((result.denoise, work.held_out),)
    summary = TransferSummary(
        method=settings.method,
        target_records=len(target.train),
        trained_parameters=result.trained_parameters,
        held_out_loss=_target_loss(judged, noise, settings.seed, device),
        source_loss=_target_loss(
            [(source.model, part) for _, part in judged], noise, settings.seed, device
        ),
        seconds=result.seconds,
        warnings=result.warnings,
        details=result.details | cascade,
    )
    stage.finish(summary)
    return summary


def load_target_model(
    run: Run, source: Source, method: str, label_scale: float = 1.0
) -> TargetModel:
    """The denoiser that a finished transfer left; RunError where there is none.

    Args:
        run: the run.
        source: its source.
        method: of `METHODS`; "source" needs no transfer.
        label_scale: classifier-free guidance of the denoisers that learned with labels hidden,
            1 for none. For tgdp that is the source's, and log h is added to it once.
    """
    stage = run.stage(stage_name(method))
    model = source.model
    if method == "source" and not stage.is_done:
        return TargetModel(classifier_free(model, label_scale), source, method, source.fingerprint)
    card = stage.card
    settings, results = card["settings"]["transfer"], card["results"]
    if method in WITH_OWN_WEIGHTS:
        model = _read_model(model, stage.folder / WEIGHTS)
    denoise = classifier_free(model, label_scale)
    if method in GUIDED:
        folders = _fold_folders(stage.folder, settings.get("folds", 1))
        networks = [_guidance_network(model, settings["seed"]) for _ in folders]
        for network, folder in zip(networks, folders, strict=True):
            load_weights(network, folder / GUIDANCE / WEIGHTS)
    if method == "tgdp":
        log_h = MeanLogH(networks).eval().requires_grad_(False)
        denoise = guided(denoise, log_h, NoiseLevelWeight.from_dict(results["details"]["weight"]))
    elif method == "stack":
        tuned = [_read_model(model, folder / TUNED / WEIGHTS) for folder in folders]
        denoise = _stacked(
            denoise,
            networks,
            [classifier_free(one, label_scale) for one in tuned],
            [NoiseLevelWeight.from_dict(results["details"]["weights"][each]) for each in STACKED],
        )
    changes = load_cascade_changes(
        source, method, stage.folder, results["details"].get("cascade", {}), label_scale
    )
    return TargetModel(denoise, source, method, str(card["fingerprint"]), changes)


@dataclass(frozen=True)
class _Work:
    """What every method is given; `train` are the records of `fit` and `held_out` together.

    `finished_guidance` is the stage of a tgdp whose guidance networks serve here too.
    """

    source: Source
    settings: TransferSettings
    target: Target
    fit: DomainRecords
    held_out: DomainRecords
    train: DomainRecords
    folder: Path
    bars: Bars
    finished_guidance: Path | None


@dataclass(frozen=True)
class _Result:
    """What every method gives.

    `judged` are denoisers, each with records that it was not fitted on, where that is not the
    whole result with the held-out records.
    """

    denoise: Denoiser
    trained_parameters: int
    seconds: float
    warnings: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    judged: Sequence[tuple[Denoiser, DomainRecords]] = ()


def _target_loss(
    judged: Sequence[tuple[Denoiser, DomainRecords]],
    noise: NoiseConfig,
    seed: int,
    device: torch.device,
) -> float:
    """Denoising loss on target records, with the same noise for every method.

    The best linear denoiser of records that the units fit scores 1.
    """
    total = 0.0
    for denoise, records in judged:
        draws = HeldOutDraws.of(records, noise, draws=DRAWS_A_RECORD, seed=seed)
        x0, label = records.take(draws.index, device)
        total += len(records) * mean_denoising_loss(
            denoise, x0, label, draws.sigma.to(device), draws.noise.to(device), batch_size=64
        )
    return total / sum(len(records) for _, records in judged)


def _tgdp(work: _Work) -> _Result:
    """Guidance by the density ratio: classifiers, log h, calibrated weight."""
    settings, model = work.settings, work.source.model
    began = time.monotonic()
    sources = _source_records(work)
    clean = _domain_classifier(work, sources)
    edges, device = _weight_edges(model), _device_of(model)
    guidance: nn.Module
    if settings.folds == 1:
        guidance = _fit_guidance(
            work, sources, work.fit, work.held_out, work.folder, clean.classifier
        )
        measured = measure_guidance(
            model,
            guidance,
            work.held_out.x0,
            work.held_out.label,
            edges,
            generator=torch.Generator().manual_seed(settings.seed),
            device=device,
        )
        judged = [(guided(model, guidance, measured.weight()), work.held_out)]
    else:
        fitted: list[tuple[nn.Module, DomainRecords]] = []

        def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> nn.Module:
            fold = _Fold.of(work, number)
            network = _fit_guidance(work, sources, fit, held_out, fold.folder, None, fold.title)
            fitted.append((network, held_out))
            return network

        crossed = cross_fit(
            model,
            work.train,
            fit_fold,
            edges,
            folds=settings.folds,
            seed=settings.seed,
            device=device,
        )
        guidance, measured = crossed.log_h, crossed.measured
        judged = [(guided(model, network, crossed.weight), part) for network, part in fitted]
    weight = measured.weight()
    return _Result(
        denoise=guided(model, guidance, weight),
        trained_parameters=sum(p.numel() for p in guidance.parameters()),
        seconds=time.monotonic() - began,
        warnings=_warnings(clean),
        details=_ratio_details(clean)
        | {
            "weight": weight.as_dict(),
            "explained": list(measured.explained(weight)),
            "explained_at_weight_1": list(measured.explained(1.0)),
        },
        judged=judged,
    )


def _stack(work: _Work) -> _Result:
    """Guidance and fine-tuning, each fitted once a fold, in the best sum at each noise level."""
    settings, model = work.settings, work.source.model
    began = time.monotonic()
    sources = _source_records(work)
    clean = _domain_classifier(work, sources)
    networks: list[nn.Module] = []
    tuned: list[DiffusionModel] = []
    held_outs: list[DomainRecords] = []

    def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> list[Denoiser]:
        fold = _Fold.of(work, number)
        _take_guidance_over(work, number)
        networks.append(_fit_guidance(work, sources, fit, held_out, fold.folder, None, fold.title))
        tuned.append(_fit_tuned(work, fit, held_out, fold))
        held_outs.append(held_out)
        return [guided(model, networks[-1]), tuned[-1]]

    measured = cross_fit_stack(
        model,
        work.train,
        fit_fold,
        _weight_edges(model),
        folds=settings.folds,
        seed=settings.seed,
        device=_device_of(model),
    )
    weights = measured.weights()
    return _Result(
        denoise=_stacked(model, networks, tuned, weights),
        trained_parameters=sum(
            p.numel() for network in (*networks, *tuned) for p in network.parameters()
        ),
        seconds=time.monotonic() - began,
        warnings=_warnings(clean),
        details=_ratio_details(clean)
        | {"weights": dict(zip(STACKED, (weight.as_dict() for weight in weights), strict=True))},
        judged=[
            (_stacked(model, [network], [one], weights), held_out)
            for network, one, held_out in zip(networks, tuned, held_outs, strict=True)
        ],
    )


def _stacked(
    source: Denoiser,
    networks: Sequence[nn.Module],
    tuned: Sequence[Denoiser],
    weights: Sequence[NoiseLevelWeight],
) -> Denoiser:
    """Both parts in the order of `STACKED`, each the mean over folds."""
    log_h = MeanLogH(networks).eval().requires_grad_(False)
    return stacked(source, [guided(source, log_h), averaged(tuned)], weights)


def _finished_guidance(run: Run, asked: dict[str, Any]) -> Path | None:
    """The stage of a finished tgdp of this run that was asked for the very same guidance."""
    stage = run.stage(stage_name("tgdp"))
    if not stage.is_done:
        return None
    theirs, ours = stage.card["settings"], as_json(asked)
    inputs = all(theirs[name] == ours[name] for name in ("source", "target"))
    same = (theirs["transfer"].get(name) == ours["transfer"][name] for name in OF_GUIDANCE)
    return stage.folder if inputs and all(same) else None


def _take_guidance_over(work: _Work, number: int) -> None:
    """Copy a fold's guidance network from the finished tgdp, where there is one."""
    ours = _fold_folders(work.folder, work.settings.folds)[number] / GUIDANCE
    if work.finished_guidance is None or (ours / WEIGHTS).exists():
        return
    theirs = _fold_folders(work.finished_guidance, work.settings.folds)[number] / GUIDANCE
    with main_process_first():
        if not (ours / WEIGHTS).exists():
            make_folder(ours)
            with written_whole(ours / WEIGHTS) as partial:
                shutil.copy2(theirs / WEIGHTS, partial)


def _domain_classifier(
    work: _Work, sources: tuple[DomainRecords, DomainRecords]
) -> DomainClassifierFit:
    """The classifier of clean records whose diagnostics the card shows."""
    with work.bars("domain classifier") as progress:
        return fit_domain_classifier(
            sources[0],
            work.fit,
            sources[1],
            work.held_out,
            _with_seed(work.settings.classifier, work.settings.seed),
            work.folder / "domain_classifier",
            progress=progress,
            keep_checkpoint=True,
        )


def _ratio_details(clean: DomainClassifierFit) -> dict[str, Any]:
    return {
        "ratio": asdict(clean.diagnostics),
        "ratio_uncalibrated": asdict(clean.uncalibrated),
    }


def _warnings(clean: DomainClassifierFit) -> tuple[str, ...]:
    warning = clean.diagnostics.warning
    return () if warning is None else (warning,)


def _fit_guidance(
    work: _Work,
    sources: tuple[DomainRecords, DomainRecords],
    fit: DomainRecords,
    held_out: DomainRecords,
    folder: Path,
    clean: DomainClassifier | None,
    title: str = "",
) -> GuidanceNetwork:
    """One guidance network, with the classifiers that its losses ask for.

    A network that an interrupted transfer finished in this folder is taken as it is.

    Args:
        work: settings and source model.
        sources: source records to fit on, and held out.
        fit: target records.
        held_out: target records of other patients, which neither network nor classifiers learn
            from.
        folder: for all of them.
        clean: domain classifier of clean records that was fitted on just these; None fits one
            where it is needed.
        title: after the names of the progress bars.
    """
    settings, model = work.settings, work.source.model
    guidance = _guidance_network(model, settings.seed)
    if (folder / GUIDANCE / WEIGHTS).exists():
        load_weights(guidance, folder / GUIDANCE / WEIGHTS)
        return guidance.eval().requires_grad_(False)
    noise = model.config.noise
    domains = (sources[0], fit, sources[1], held_out)
    classifier = _with_seed(settings.classifier, settings.seed)
    noisy = None
    if settings.tgdp.needs_ratio and clean is None:
        with work.bars(f"domain classifier{title}") as progress:
            clean = fit_domain_classifier(
                *domains,
                classifier,
                folder / "domain_classifier",
                progress=progress,
                keep_checkpoint=True,
            ).classifier
    if settings.tgdp.eta_cycle:
        with work.bars(f"noise-dependent classifier{title}") as progress:
            noisy = fit_domain_classifier(
                *domains,
                replace(classifier, noise=noise),
                folder / "noisy_domain_classifier",
                progress=progress,
                keep_checkpoint=True,
            ).classifier
    with work.bars(f"guidance{title}") as progress:
        fit_guidance(
            model,
            guidance,
            sources[0],
            fit,
            held_out,
            replace(_with_seed(settings.tgdp, settings.seed), noise=noise),
            folder / GUIDANCE,
            log_ratio=None if clean is None else clean.log_ratio(sources[0]),
            noisy_log_ratio=noisy,
            progress=progress,
        )
    return guidance.requires_grad_(False)


def _fit_tuned(
    work: _Work, fit: DomainRecords, held_out: DomainRecords, fold: "_Fold"
) -> DiffusionModel:
    """The source model fine-tuned on one fold, or as an interrupted transfer finished it there."""
    settings, model = work.settings, work.source.model
    folder = fold.folder / TUNED
    if (folder / WEIGHTS).exists():
        return _read_model(model, folder / WEIGHTS)
    config = replace(_with_seed(settings.finetune, settings.seed), noise=model.config.noise)
    start = copy.deepcopy(model).requires_grad_(True)
    with work.bars(f"finetune{fold.title}") as progress:
        tuned, _ = finetune(start, fit, held_out, config, folder, progress=progress)
    return tuned.requires_grad_(False)


def _finetune(work: _Work) -> _Result:
    """The whole source model goes on training on the target."""
    start = copy.deepcopy(work.source.model).requires_grad_(True)
    return _result(*_trained(work, start, work.settings.finetune, work.folder))


def _lora(work: _Work) -> _Result:
    """Low-rank updates of the source model's weights, and nothing else."""
    return _adapted(work, with_lora(work.source.model, work.settings.lora, work.settings.seed))


def _difffit(work: _Work) -> _Result:
    """Biases, norms, embeddings and scale factors of the source model, and nothing else."""
    return _adapted(work, with_difffit(work.source.model))


def _scratch(work: _Work) -> _Result:
    """The same network from random weights, on the target alone."""
    with seeded_initialisation(work.settings.seed):
        fresh = DiffusionModel(work.source.model.config)
    source = work.source.model
    fresh.units.load_state_dict(source.units.state_dict())
    if fresh.layout_units is not None and source.layout_units is not None:
        fresh.layout_units.load_state_dict(source.layout_units.state_dict())
    device = work.source.device
    return _result(*_trained(work, fresh.to(device), work.settings.finetune, work.folder))


def _source(work: _Work) -> _Result:
    """The source model as it is: the floor that every method has to beat."""
    return _Result(denoise=work.source.model, trained_parameters=0, seconds=0.0)


_BY_METHOD: dict[str, Callable[[_Work], _Result]] = {
    "tgdp": _tgdp,
    "stack": _stack,
    "finetune": _finetune,
    "lora": _lora,
    "difffit": _difffit,
    "scratch": _scratch,
    "source": _source,
}


def _trained(
    work: _Work, start: DiffusionModel, config: FinetuneConfig, folder: Path
) -> tuple[DiffusionModel, FitResult]:
    """What of `start` needs a gradient, trained on the target."""
    config = replace(_with_seed(config, work.settings.seed), noise=start.config.noise)
    with work.bars(work.settings.method) as progress:
        return finetune(
            start,
            work.fit,
            work.held_out,
            config,
            folder,
            progress=progress,
            keep_checkpoint=True,
        )


def _adapted(work: _Work, start: DiffusionModel) -> _Result:
    """Train the adapters of `start`, and leave a model like any other: they are folded in."""
    tuned, fitted = _trained(work, start, work.settings.adapter, work.folder / "adapter")
    model = merged(tuned)
    if is_main_process():
        save_weights(model, work.folder / WEIGHTS)
    return replace(_result(tuned, fitted), denoise=model)


def _result(tuned: DiffusionModel, fitted: FitResult) -> _Result:
    trained = trainable_parameters(tuned)
    return _Result(
        denoise=tuned.requires_grad_(False),
        trained_parameters=trained,
        seconds=fitted.seconds,
        details={"best_step": fitted.best_step, "steps": fitted.steps},
    )


def _source_records(work: _Work) -> tuple[DomainRecords, DomainRecords]:
    """Source records to fit on and to hold out, of other patients."""
    settings = work.settings
    target = work.target
    labels = target.labels[np.concatenate([target.fit, target.held_out])]
    asked = (work.source, target.label_space, labels, settings.n_source, settings.seed)
    if settings.source_records == "real":
        return recorded_source(*asked)
    with work.bars("source records from the model") as progress:
        return drawn_source(*asked, progress)


@dataclass(frozen=True)
class _Fold:
    """Where a fold's trainings lie, and what follows the names of their progress bars."""

    folder: Path
    title: str

    @classmethod
    def of(cls, work: _Work, number: int) -> "_Fold":
        folds = work.settings.folds
        return cls(_fold_folders(work.folder, folds)[number], f", fold {number + 1} of {folds}")


def _fold_folders(stage: Path, folds: int) -> list[Path]:
    """Where each fold's trainings lie: in the stage's own folder where there is but one."""
    return [stage] if folds == 1 else [stage / f"fold-{number}" for number in range(folds)]


def _weight_edges(model: DiffusionModel) -> tuple[float, ...]:
    """Noise levels that get a weight of their own."""
    return noise_level_edges(model.config.noise.sigma_min, model.config.noise.sigma_max)


def _device_of(model: DiffusionModel) -> torch.device:
    return model.units.amplitude_mv.device


def _read_model(like: DiffusionModel, weights: Path) -> DiffusionModel:
    """A frozen model of the same shape with weights from a file."""
    model = DiffusionModel(like.config).to(_device_of(like))
    load_weights(model, weights)
    return model.eval().requires_grad_(False)


def _guidance_network(model: DiffusionModel, seed: int) -> GuidanceNetwork:
    config = model.config
    with seeded_initialisation(seed):
        network = GuidanceNetwork(
            GuidanceConfig(
                labels=len(config.label_names),
                leads=config.unet.leads,
                masked_labels=config.masked_labels,
                condition_channels=config.unet.condition_channels,
                scalars=config.unet.scalars,
            )
        )
    return network.to(model.units.amplitude_mv.device)


def _with_seed(config: WithTraining, seed: int) -> WithTraining:
    return replace(config, train=replace(config.train, seed=seed))
