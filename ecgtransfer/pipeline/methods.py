"""Stages `transfer-<method>`: each ends in a `Denoiser` of the target, by whatever way."""

import copy
import math
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

from ecgtransfer.defaults import TRANSFER_FOLDS
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
from ecgtransfer.pipeline.run import Run, Stage
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_records import drawn_source, recorded_source
from ecgtransfer.pipeline.source_stage import WEIGHTS
from ecgtransfer.pipeline.target import Target, target_records
from ecgtransfer.statistics import streams
from ecgtransfer.storage import (
    OMIT_AT_DEFAULT,
    atomic_file,
    from_card,
    make_folder,
    read_json,
    to_card,
    write_json,
)
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
    DomainClassifierConfig,
    DomainClassifierFit,
    DomainRecords,
    FinetuneConfig,
    GuidanceConfig,
    GuidanceFit,
    GuidanceNetwork,
    LoraConfig,
    MeanLogH,
    NoiseLevelWeight,
    RatioDiagnostics,
    TgdpConfig,
    averaged,
    cross_fit,
    cross_fit_stack,
    finetune,
    fit_domain_classifier,
    fit_guidance,
    guided,
    guided_at_scale,
    measure_folds,
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
#: Folders of a fold's trainings, and what the file beside them says of its density ratios.
GUIDANCE, TUNED, RATIO = "guidance", "finetune", "ratio.json"
#: Methods that leave a whole model of the target beside their card.
WITH_OWN_WEIGHTS = ("finetune", "lora", "difffit", "scratch")
#: Ten times the rate of full fine-tuning, at which adapters are far from done after 600 steps.
ADAPTER_LEARNING_RATE = 2e-3

Bars = Callable[[str], AbstractContextManager[Callable[[Progress], None]]]
#: From random weights a tenth of the rate of fine-tuning gets nowhere; ten times it may.
SCRATCH_RATE_FACTORS = (1.0, 10.0)

Trained = TypeVar("Trained", TgdpConfig, FinetuneConfig)
WithTraining = TypeVar("WithTraining", DomainClassifierConfig, TgdpConfig, FinetuneConfig)


def adapter_training() -> FinetuneConfig:
    """Training of lora and difffit: that of fine-tuning at higher rates."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, learning_rate=ADAPTER_LEARNING_RATE))


def scratch_training() -> FinetuneConfig:
    """Training of scratch: that of fine-tuning, offered higher rates in place of lower ones."""
    return FinetuneConfig(rate_factors=SCRATCH_RATE_FACTORS)


@dataclass(frozen=True)
class TransferSettings:
    """What `transfer` is asked for.

    Attributes:
        method: tgdp, stack (of tgdp and finetune), finetune, lora, difffit, scratch or source.
        source_records: "real", or "model" for records drawn from the source model itself.
        n_source: how many of them; their labels follow the target's, see `matched_source`.
        tgdp: weights of the loss terms and the guidance network's training.
        classifier: training of the domain classifiers.
        finetune: training of finetune, and of that part of a stack.
        adapter: training of lora and difffit.
        scratch: training of scratch.
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
    scratch: FinetuneConfig = field(default_factory=scratch_training)
    lora: LoraConfig = field(default_factory=LoraConfig)
    folds: int = TRANSFER_FOLDS
    seed: int = 0
    cascade: CascadeSettings = field(default=CascadeSettings(), metadata=OMIT_AT_DEFAULT)

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
        self, steps: int | None = None, learning_rates: Sequence[float] = ()
    ) -> "TransferSettings":
        """The same with other steps or rates for what the method trains, guidance or denoiser.

        Args:
            steps: None leaves them.
            learning_rates: the ones that held-out records choose from; none leaves the defaults.

        Raises:
            ConfigError: a number of steps below 1, or a rate that is not above 0.
        """

        def changed(config: Trained) -> Trained:
            train = config.train
            if steps is not None:
                train = replace(train, steps=steps)
            if not learning_rates:
                return replace(config, train=train)
            train = replace(train, learning_rate=learning_rates[0])
            factors = tuple(rate / learning_rates[0] for rate in learning_rates)
            return replace(config, train=train, rate_factors=factors)

        return replace(
            self,
            tgdp=changed(self.tgdp),
            finetune=changed(self.finetune),
            adapter=changed(self.adapter),
            scratch=changed(self.scratch),
        )


@dataclass(frozen=True)
class TransferSummary:
    """What a transfer came to.

    Attributes:
        held_out_loss: denoising loss of the target's denoiser at label scale 1 on held-out target
            records, with other noise than that which stopped and chose its training, and
        source_loss: that of the source's denoiser on the same records with the same noise. Those
            records also stop the training and calibrate the guidance weight, which flatters the
            method: `benchmarks/test_loss.py` scores test records. Over folds each network is
            judged alone, on the records that it missed; the loss is convex, so that on new records
            their mean is expected to do no worse.
        warnings: sentences that the user should read.
        details: diagnostics of the ratios that guide (`ratio` is their mean over folds, `ratios`
            each of them) and the guidance weights at label scale 1, where the method has them; of a
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
        return stage.read(TransferSummary, "results")
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
        label_scale: classifier-free guidance of the target's denoiser, 1 for none. Guidance
            networks have learned of records without a label, and have a weight for them.

    Raises:
        ConfigError: a label scale other than 1 for guidance that was told every label.
        RunError: no finished transfer by that method.
    """
    stage = run.stage(stage_name(method))
    model = source.model
    if method == "source" and not stage.is_done:
        return TargetModel(classifier_free(model, label_scale), source, method, source.fingerprint)
    settings = stage.read(dict[str, Any], "settings.transfer")
    details = stage.read(dict[str, Any], "results.details")
    if method in WITH_OWN_WEIGHTS:
        model = _read_model(model, stage.folder / WEIGHTS)
    denoise = classifier_free(model, label_scale)
    if method in GUIDED:
        folders = _fold_folders(stage.folder, settings.get("folds", 1))
        networks = [_guidance_network(model, settings["seed"]) for _ in folders]
        for network, folder in zip(networks, folders, strict=True):
            load_weights(network, folder / GUIDANCE / WEIGHTS)
        named = "weight" if method == "tgdp" else "weights"
        without = details.get(f"{named}_without_label")
        if without is None and label_scale != 1:
            raise ConfigError(
                f"expected guidance that knows records without a label for label scale "
                f"{label_scale:g}, got that of {stage.folder}, which was told every label; take "
                "label scale 1, or transfer again with a weight on the consistency loss"
            )
    if method == "tgdp":
        denoise = guided_at_scale(
            model,
            MeanLogH(networks).eval().requires_grad_(False),
            label_scale,
            stage.read(NoiseLevelWeight, "results.details.weight"),
            without and stage.read(NoiseLevelWeight, "results.details.weight_without_label"),
        )
    elif method == "stack":
        tuned = [_read_model(model, folder / TUNED / WEIGHTS) for folder in folders]
        parts = ("weights", "weights_without_label" if without else "weights")
        labelled, unlabelled = (
            _stacked(model, networks, tuned, _weights_from(stage, part)) for part in parts
        )
        denoise = classifier_free(labelled, label_scale, unlabelled)
    changes = load_cascade_changes(
        source, method, stage.folder, details.get("cascade", {}), label_scale
    )
    return TargetModel(denoise, source, method, stage.read(str, "fingerprint"), changes)


def _weights_from(stage: Stage, name: str) -> list[NoiseLevelWeight]:
    """Weights of a stack from its card, in the order of `STACKED`."""
    return [stage.read(NoiseLevelWeight, f"results.details.{name}.{each}") for each in STACKED]


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
        draws = judging_draws(records, noise, seed)
        x0, label = records.take(draws.index, device)
        total += len(records) * mean_denoising_loss(
            denoise, x0, label, draws.sigma.to(device), draws.noise.to(device), batch_size=64
        )
    return total / sum(len(records) for _, records in judged)


def judging_draws(records: DomainRecords, noise: NoiseConfig, seed: int) -> HeldOutDraws:
    """Noise that judges a transfer: no training was stopped, chosen or weighed by it."""
    own = int(np.random.SeedSequence([seed, streams.JUDGING_NOISE]).generate_state(1)[0])
    return HeldOutDraws.of(records, noise, draws=DRAWS_A_RECORD, seed=own)


def _tgdp(work: _Work) -> _Result:
    """Guidance by the density ratio: classifiers, log h, calibrated weight."""
    settings, model = work.settings, work.source.model
    began = time.monotonic()
    sources = _source_records(work)
    edges, device = _weight_edges(model), _device_of(model)
    fitted: list[_Guidance] = []
    guidance: nn.Module
    if settings.folds == 1:
        fitted.append(_fit_guidance(work, sources, work.fit, work.held_out, work.folder))
        guidance = fitted[0].network

        def measured_on(records: DomainRecords) -> GuidanceFit:
            return measure_guidance(
                model,
                guidance,
                records.x0,
                records.label,
                edges,
                generator=torch.Generator().manual_seed(settings.seed),
                device=device,
            )

        measured, without = measured_on(work.held_out), None
        if settings.tgdp.knows_no_label:
            without = measured_on(work.held_out.unlabelled()).weight()
        judged = [(guided(model, guidance, measured.weight()), work.held_out)]
    else:
        held_outs: list[DomainRecords] = []

        def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> nn.Module:
            fold = _Fold.of(work, number)
            fitted.append(_fit_guidance(work, sources, fit, held_out, fold.folder, fold.title))
            held_outs.append(held_out)
            return fitted[-1].network

        crossed = cross_fit(
            model,
            work.train,
            fit_fold,
            edges,
            folds=settings.folds,
            seed=settings.seed,
            device=device,
            without_label=settings.tgdp.knows_no_label,
        )
        guidance, measured = crossed.log_h, crossed.measured
        without = crossed.weight_without_label
        judged = [
            (guided(model, one.network, crossed.weight), part)
            for one, part in zip(fitted, held_outs, strict=True)
        ]
    weight = measured.weight()
    details = _ratio_details(fitted) | {
        "weight": to_card(weight),
        "explained": list(measured.explained(weight)),
        "explained_at_weight_1": list(measured.explained(1.0)),
    }
    if without is not None:
        details["weight_without_label"] = to_card(without)
    return _Result(
        denoise=guided(model, guidance, weight),
        trained_parameters=sum(p.numel() for p in guidance.parameters()),
        seconds=time.monotonic() - began,
        warnings=_warnings(fitted, settings.tgdp),
        details=details,
        judged=judged,
    )


def _stack(work: _Work) -> _Result:
    """Guidance and fine-tuning, each fitted once a fold, in the best sum at each noise level."""
    settings, model = work.settings, work.source.model
    began = time.monotonic()
    sources = _source_records(work)
    fitted: list[_Guidance] = []
    tuned: list[DiffusionModel] = []
    held_outs: list[DomainRecords] = []

    def fit_fold(number: int, fit: DomainRecords, held_out: DomainRecords) -> list[Denoiser]:
        fold = _Fold.of(work, number)
        _take_guidance_over(work, number)
        fitted.append(_fit_guidance(work, sources, fit, held_out, fold.folder, fold.title))
        tuned.append(_fit_tuned(work, fit, held_out, fold))
        held_outs.append(held_out)
        return [guided(model, fitted[-1].network), tuned[-1]]

    edges, device = _weight_edges(model), _device_of(model)
    weights = cross_fit_stack(
        model,
        work.train,
        fit_fold,
        edges,
        folds=settings.folds,
        seed=settings.seed,
        device=device,
    ).weights()
    details = _ratio_details(fitted) | {"weights": _weights_by_part(weights)}
    if settings.tgdp.knows_no_label:
        parts = zip(fitted, tuned, strict=True)
        without = measure_folds(
            model,
            [[guided(model, guidance.network), one] for guidance, one in parts],
            [held_out.unlabelled() for held_out in held_outs],
            edges,
            seed=settings.seed,
            device=device,
        ).weights()
        details["weights_without_label"] = _weights_by_part(without)
    networks = [guidance.network for guidance in fitted]
    return _Result(
        denoise=_stacked(model, networks, tuned, weights),
        trained_parameters=sum(
            p.numel() for network in (*networks, *tuned) for p in network.parameters()
        ),
        seconds=time.monotonic() - began,
        warnings=_warnings(fitted, settings.tgdp),
        details=details,
        judged=[
            (_stacked(model, [network], [one], weights), held_out)
            for network, one, held_out in zip(networks, tuned, held_outs, strict=True)
        ],
    )


def _weights_by_part(weights: Sequence[NoiseLevelWeight]) -> dict[str, dict[str, list[float]]]:
    return {name: to_card(weight) for name, weight in zip(STACKED, weights, strict=True)}


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
    theirs, ours = stage.card["settings"], to_card(asked)
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
            shutil.copy2(theirs.parent / RATIO, ours.parent / RATIO)
            with atomic_file(ours / WEIGHTS) as partial:
                shutil.copy2(theirs / WEIGHTS, partial)


@dataclass(frozen=True)
class _Ratios:
    """What the density ratios behind one guidance network were worth.

    Attributes:
        clean, noisy: of the classifier of clean records and the noise-dependent one, out of fold;
            None where the loss asks for none.
        target_positives, eta_cycle: as the training used them, see `TgdpConfig.trusting`.
    """

    clean: RatioDiagnostics | None
    noisy: RatioDiagnostics | None
    target_positives: float
    eta_cycle: float

    @classmethod
    def read(cls, path: Path) -> "_Ratios":
        """What `to_card` made of it; a number that JSON has not was infinite."""
        held = read_json(path)
        for name in ("clean", "noisy"):
            if held[name] is not None:
                finite: dict[str, Any] = {
                    key: math.inf if value is None else value for key, value in held[name].items()
                }
                held[name] = finite
        return from_card(cls, held, path)


@dataclass(frozen=True)
class _Guidance:
    """A fitted guidance network, and the ratios that guided it."""

    network: GuidanceNetwork
    ratios: _Ratios


def _ratio_details(fitted: Sequence[_Guidance]) -> dict[str, Any]:
    """The ratios that guide, and the mean over folds of those of clean records."""
    clean = [each.ratios.clean for each in fitted if each.ratios.clean is not None]
    details: dict[str, Any] = {"ratios": [asdict(each.ratios) for each in fitted]}
    if clean:
        details["ratio"] = asdict(RatioDiagnostics.mean(clean))
    return details


def _warnings(fitted: Sequence[_Guidance], config: TgdpConfig) -> tuple[str, ...]:
    """Sentences on domains that hardly overlap, and on ratios that know nothing."""
    clean = [each.ratios.clean for each in fitted if each.ratios.clean is not None]
    if not clean:
        return ()
    mean = RatioDiagnostics.mean(clean)
    warnings = [] if mean.warning is None else [mean.warning]
    if failed := sum(not each.beats_chance for each in clean):
        of = "" if len(clean) == 1 else f" in {failed} of {len(clean)} folds"
        instead = (
            "the positives of the guidance loss are target records alone"
            if config.classifies
            else "the guidance loss pulls log h to a constant; use the logistic form"
        )
        warnings.append(
            f"the density ratio tells the domains apart no better than chance{of} (log loss "
            f"{mean.log_loss:.3f} out of fold, {math.log(2):.3f} at chance): there {instead}"
        )
    return tuple(warnings)


def _fit_guidance(
    work: _Work,
    sources: DomainRecords,
    fit: DomainRecords,
    held_out: DomainRecords,
    folder: Path,
    title: str = "",
) -> _Guidance:
    """One guidance network, with the classifiers that its losses ask for.

    A network that an interrupted transfer finished in this folder is taken as it is.

    Args:
        work: settings and source model.
        sources: source records.
        fit: target records.
        held_out: target records of other patients, which neither network nor classifiers learn
            from.
        folder: for all of them.
        title: after the names of the progress bars.
    """
    settings, model = work.settings, work.source.model
    guidance = _guidance_network(model, settings.seed)
    if (folder / GUIDANCE / WEIGHTS).exists():
        load_weights(guidance, folder / GUIDANCE / WEIGHTS)
        return _Guidance(guidance.eval().requires_grad_(False), _Ratios.read(folder / RATIO))
    config = replace(_with_seed(settings.tgdp, settings.seed), noise=model.config.noise)
    clean = noisy = clean_facts = noisy_facts = None
    if config.needs_ratio:
        with work.bars(f"domain classifier{title}") as progress:
            found = _fit_classifier(work, sources, fit, folder / "domain_classifier", progress)
        clean, clean_facts = found.classifier.log_ratio(sources), found.diagnostics
    if config.eta_cycle:
        own = folder / "noisy_domain_classifier"
        with work.bars(f"noise-dependent classifier{title}") as progress:
            found = _fit_classifier(work, sources, fit, own, progress, model.config.noise)
        noisy, noisy_facts = found.classifier, found.diagnostics
    config = config.trusting(
        clean_facts is None or clean_facts.beats_chance,
        noisy_facts is None or noisy_facts.beats_chance,
    )
    ratios = _Ratios(clean_facts, noisy_facts, config.target_positives, config.eta_cycle)
    if is_main_process():
        make_folder(folder)
        write_json(folder / RATIO, to_card(ratios))
    with work.bars(f"guidance{title}") as progress:
        fit_guidance(
            model,
            guidance,
            sources,
            fit,
            held_out,
            config,
            folder / GUIDANCE,
            log_ratio=clean,
            noisy_log_ratio=noisy,
            progress=progress,
        )
    return _Guidance(guidance.requires_grad_(False), ratios)


def _fit_classifier(
    work: _Work,
    sources: DomainRecords,
    fit: DomainRecords,
    folder: Path,
    progress: Callable[[Progress], None],
    noise: NoiseConfig | None = None,
) -> DomainClassifierFit:
    """A domain classifier of these records alone."""
    settings = work.settings
    return fit_domain_classifier(
        sources,
        fit,
        replace(_with_seed(settings.classifier, settings.seed), noise=noise),
        folder,
        progress=progress,
        keep_checkpoint=True,
    )


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
    return _result(*_trained(work, fresh.to(device), work.settings.scratch, work.folder))


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
        details={
            "best_step": fitted.best_step,
            "steps": fitted.steps,
            "learning_rate": fitted.learning_rate,
        },
    )


def _source_records(work: _Work) -> DomainRecords:
    """Source records that classifiers and guidance learn from."""
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
