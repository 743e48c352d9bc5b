"""Stages `transfer-<method>`: each ends in a `Denoiser` of the target, by whatever way."""

import copy
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.corpus import patient_split
from ecgtransfer.diffusion import (
    Denoiser,
    DiffusionModel,
    NoiseConfig,
    classifier_free,
    karras_sigmas,
    mean_denoising_loss,
    sample,
)
from ecgtransfer.errors import ConfigError, CorpusError
from ecgtransfer.pipeline.config import METHODS
from ecgtransfer.pipeline.run import Run
from ecgtransfer.pipeline.source import WEIGHTS, Source
from ecgtransfer.pipeline.target import Target, domain_records, labels_in
from ecgtransfer.training import (
    FitResult,
    Progress,
    is_main_process,
    load_weights,
    record_noise,
    save_weights,
    seeded_initialisation,
)
from ecgtransfer.transfer import (
    DomainClassifier,
    DomainClassifierConfig,
    DomainRecords,
    FinetuneConfig,
    GuidanceConfig,
    GuidanceNetwork,
    LoraConfig,
    MeanLogH,
    NoiseLevelWeight,
    TgdpConfig,
    cross_fit,
    finetune,
    fit_domain_classifier,
    fit_guidance,
    guided,
    measure_guidance,
    merged,
    noise_level_edges,
    trainable_parameters,
    with_difffit,
    with_lora,
)
from ecgtransfer.transfer.records import HeldOutDraws

#: Share of the source records that validate and calibrate the domain classifiers.
SOURCE_HELD_OUT_SHARE = 0.25
#: Sampler steps, and records at a time, for source records that are drawn from the model.
MODEL_RECORD_STEPS, MODEL_RECORD_BATCH = 20, 32
#: Noise draws a held-out target record behind the loss that a transfer is judged by.
DRAWS_A_RECORD = 8
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
        method: tgdp, finetune, lora, difffit, scratch or source.
        source_records: "real", or "model" for records drawn from the source model itself.
        n_source: how many of them; their labels follow the target's, see `matched_source`.
        tgdp: weights of the loss terms and the guidance network's training.
        classifier: training of the domain classifiers.
        finetune: training of finetune and scratch.
        adapter: training of lora and difffit.
        lora: shape of the low-rank update.
        folds: of patients, for tgdp: 1 holds a fifth out of the target records, once; more fit
            the guidance as often, on all but one fold each, and take the mean (see `cross_fit`).
        seed: of everything that is drawn.
    """

    method: str = "tgdp"
    source_records: str = "real"
    n_source: int = 2000
    tgdp: TgdpConfig = field(default_factory=TgdpConfig)
    classifier: DomainClassifierConfig = field(default_factory=DomainClassifierConfig)
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    adapter: FinetuneConfig = field(default_factory=adapter_training)
    lora: LoraConfig = field(default_factory=LoraConfig)
    folds: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"expected a method of {', '.join(METHODS)}, got {self.method!r}")
        if self.source_records not in ("real", "model"):
            raise ConfigError(
                f"expected source records that are real or model, got {self.source_records!r}"
            )
        if self.folds < 1:
            raise ConfigError(f"expected at least 1 fold, got {self.folds}")
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
        details: diagnostics of the ratio and the guidance weight, where the method has them.
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
    """A denoiser of the target with what generation has to know beside it."""

    denoise: Denoiser
    source: Source
    method: str
    fingerprint: str


def stage_name(method: str) -> str:
    """The stage folder of a method."""
    return f"transfer-{method}"


def transfer(
    run: Run, source: Source, target: Target, settings: TransferSettings, bars: Bars
) -> TransferSummary:
    """Carry the source model over to the target by one method, or find it done.

    Raises:
        RunError: the run holds this method with other settings, or a training diverged.
    """
    stage = run.stage(stage_name(settings.method))
    asked = {
        "transfer": settings,
        "source": source.fingerprint,
        "target": target.fingerprint,
    }
    if stage.begin(asked):
        results = stage.card["results"]
        return TransferSummary(**results | {"warnings": tuple(results["warnings"])})
    units, noise = source.model.units, source.model.config.noise
    work = _Work(
        source=source,
        settings=settings,
        fit=domain_records(target.ecgset, target.labels, target.fit, units),
        held_out=domain_records(target.ecgset, target.labels, target.held_out, units),
        train=domain_records(target.ecgset, target.labels, target.train, units),
        folder=stage.folder,
        bars=bars,
    )
    result = _BY_METHOD[settings.method](work)
    device = units.amplitude_mv.device
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
        details=result.details,
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
        label_scale: classifier-free guidance of the denoiser that learned with labels hidden,
            1 for none. For tgdp that is the source's, and log h is added to it once.
    """
    stage = run.stage(stage_name(method))
    model = source.model
    if method == "source" and not stage.is_done:
        return TargetModel(classifier_free(model, label_scale), source, method, source.fingerprint)
    card = stage.card
    settings, results = card["settings"]["transfer"], card["results"]
    if method in WITH_OWN_WEIGHTS:
        model = DiffusionModel(model.config).to(model.units.amplitude_mv.device)
        load_weights(model, stage.folder / WEIGHTS)
        model.eval().requires_grad_(False)
    denoise = classifier_free(model, label_scale)
    if method == "tgdp":
        networks = []
        for folder in _guidance_folders(stage.folder, settings.get("folds", 1)):
            networks.append(_guidance_network(source.model, settings["seed"]))
            load_weights(networks[-1], folder / "guidance" / WEIGHTS)
        log_h = MeanLogH(networks).eval().requires_grad_(False)
        weight = NoiseLevelWeight.from_dict(results["details"]["weight"])
        denoise = guided(denoise, log_h, weight)
    return TargetModel(denoise, source, method, str(card["fingerprint"]))


def matched_source(
    source: Source, target_labels: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of source training records whose labels follow the target's, with their labels.

    For each of n draws from the target's label rows, a source record of the very same labels.
    Given its label a record is as the source has it, and only that matters: log h is used
    through its slope in x, which the law of the labels does not touch. What is gained is that
    the classifier cannot tell the domains by their class mix, and the ratio varies less.

    Raises:
        CorpusError: no label combination of the target occurs in the source.
    """
    ecgset, train, _ = source.records()
    labels = labels_in(source.label_space, ecgset)
    by_labels: dict[bytes, list[int]] = {}
    for number in train:
        by_labels.setdefault(labels[number].tobytes(), []).append(int(number))
    rows = [row.tobytes() for row in target_labels if row.tobytes() in by_labels]
    if not rows:
        raise CorpusError(
            "expected source records with the labels of the target, found none of any combination "
            "of them; use --source-records model"
        )
    rng = np.random.default_rng([seed, 4])
    wanted: dict[bytes, int] = {}
    for place in rng.integers(len(rows), size=n):
        wanted[rows[place]] = wanted.get(rows[place], 0) + 1
    numbers = np.sort(
        np.concatenate(
            [rng.permutation(by_labels[row])[:count] for row, count in sorted(wanted.items())]
        )
    )
    return numbers, labels


@dataclass(frozen=True)
class _Work:
    """What every method is given; `train` are the records of `fit` and `held_out` together."""

    source: Source
    settings: TransferSettings
    fit: DomainRecords
    held_out: DomainRecords
    train: DomainRecords
    folder: Path
    bars: Bars


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
    noise = model.config.noise
    began = time.monotonic()
    sources = _source_records(work)
    edges = noise_level_edges(noise.sigma_min, noise.sigma_max)
    device = model.units.amplitude_mv.device
    with work.bars("domain classifier") as progress:
        clean = fit_domain_classifier(
            sources[0],
            work.fit,
            sources[1],
            work.held_out,
            _with_seed(settings.classifier, settings.seed),
            work.folder / "domain_classifier",
            progress=progress,
        )
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
            folder = _guidance_folders(work.folder, settings.folds)[number]
            title = f", fold {number + 1} of {settings.folds}"
            fitted.append(
                (_fit_guidance(work, sources, fit, held_out, folder, None, title), held_out)
            )
            return fitted[-1][0]

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
    warning = clean.diagnostics.warning
    return _Result(
        denoise=guided(model, guidance, weight),
        trained_parameters=sum(p.numel() for p in guidance.parameters()),
        seconds=time.monotonic() - began,
        warnings=() if warning is None else (warning,),
        details={
            "ratio": asdict(clean.diagnostics),
            "ratio_uncalibrated": asdict(clean.uncalibrated),
            "weight": weight.as_dict(),
            "explained": list(measured.explained(weight)),
            "explained_at_weight_1": list(measured.explained(1.0)),
        },
        judged=judged,
    )


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
    if (folder / "guidance" / WEIGHTS).exists():
        load_weights(guidance, folder / "guidance" / WEIGHTS)
        return guidance.eval().requires_grad_(False)
    noise = model.config.noise
    domains = (sources[0], fit, sources[1], held_out)
    classifier = _with_seed(settings.classifier, settings.seed)
    noisy = None
    if settings.tgdp.needs_ratio and clean is None:
        with work.bars(f"domain classifier{title}") as progress:
            clean = fit_domain_classifier(
                *domains, classifier, folder / "domain_classifier", progress=progress
            ).classifier
    if settings.tgdp.eta_cycle:
        with work.bars(f"noise-dependent classifier{title}") as progress:
            noisy = fit_domain_classifier(
                *domains,
                replace(classifier, noise=noise),
                folder / "noisy_domain_classifier",
                progress=progress,
            ).classifier
    with work.bars(f"guidance{title}") as progress:
        fit_guidance(
            model,
            guidance,
            sources[0],
            fit,
            held_out,
            replace(_with_seed(settings.tgdp, settings.seed), noise=noise),
            folder / "guidance",
            log_ratio=None if clean is None else clean.log_ratio(sources[0]),
            noisy_log_ratio=noisy,
            progress=progress,
        )
    return guidance.requires_grad_(False)


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
    fresh.units.load_state_dict(work.source.model.units.state_dict())
    device = work.source.model.units.amplitude_mv.device
    return _result(*_trained(work, fresh.to(device), work.settings.finetune, work.folder))


def _source(work: _Work) -> _Result:
    """The source model as it is: the floor that every method has to beat."""
    return _Result(denoise=work.source.model, trained_parameters=0, seconds=0.0)


_BY_METHOD: dict[str, Callable[[_Work], _Result]] = {
    "tgdp": _tgdp,
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
        return finetune(start, work.fit, work.held_out, config, folder, progress=progress)


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
    settings, source = work.settings, work.source
    target_labels = torch.cat([_labels(work.fit), _labels(work.held_out)]).numpy()
    if settings.source_records == "model":
        return _drawn_from_model(work, target_labels)
    numbers, labels = matched_source(source, target_labels, settings.n_source, settings.seed)
    ecgset, _, _ = source.records()
    share = (1 - SOURCE_HELD_OUT_SHARE, SOURCE_HELD_OUT_SHARE)
    fit, held_out = patient_split(
        ecgset.records.iloc[numbers], labels[numbers], share, settings.seed
    )
    units = source.model.units
    return (
        domain_records(ecgset, labels, numbers[fit], units),
        domain_records(ecgset, labels, numbers[held_out], units),
    )


def _drawn_from_model(
    work: _Work, target_labels: np.ndarray
) -> tuple[DomainRecords, DomainRecords]:
    """Records of the very law that the guidance corrects: the source model's own."""
    settings, model = work.settings, work.source.model
    device = model.units.amplitude_mv.device
    rng = np.random.default_rng([settings.seed, 5])
    rows = target_labels[rng.integers(len(target_labels), size=settings.n_source)]
    label = torch.from_numpy(rows)
    noise = model.config.noise
    sigmas = karras_sigmas(MODEL_RECORD_STEPS, noise.sigma_min, noise.sigma_max)
    seeds = rng.integers(2**62, size=settings.n_source).tolist()
    parts = []
    with work.bars("source records from the model") as progress:
        for start in range(0, settings.n_source, MODEL_RECORD_BATCH):
            part = slice(start, start + MODEL_RECORD_BATCH)
            drawn = record_noise(seeds[part], model.units.shape).to(device)
            parts.append(sample(model, drawn, label[part].to(device), sigmas).cpu())
            done = min(start + MODEL_RECORD_BATCH, settings.n_source)
            progress(Progress(done, settings.n_source, 0.0, None))
    x0, names = torch.cat(parts), tuple(f"drawn {number}" for number in range(settings.n_source))
    cut = round(settings.n_source * (1 - SOURCE_HELD_OUT_SHARE))
    return (
        DomainRecords(x0[:cut], label[:cut], names[:cut]),
        DomainRecords(x0[cut:], label[cut:], names[cut:]),
    )


def _labels(records: DomainRecords) -> Tensor:
    if records.label is None:
        raise CorpusError("expected labelled records, got records without labels")
    return records.label


def _guidance_folders(stage: Path, folds: int) -> list[Path]:
    """Where each fold's trainings lie: in the stage's own folder where there is but one."""
    return [stage] if folds == 1 else [stage / f"fold-{number}" for number in range(folds)]


def _guidance_network(model: DiffusionModel, seed: int) -> GuidanceNetwork:
    config = model.config
    with seeded_initialisation(seed):
        network = GuidanceNetwork(
            GuidanceConfig(labels=len(config.label_names), leads=config.unet.leads)
        )
    return network.to(model.units.amplitude_mv.device)


def _with_seed(config: WithTraining, seed: int) -> WithTraining:
    return replace(config, train=replace(config.train, seed=seed))
