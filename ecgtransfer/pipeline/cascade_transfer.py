"""Transfer of the first two stages of a factorised source, rhythm and beat shapes.

RUN/transfer-<method>/rhythm.json     which of the source's trains are selected
RUN/transfer-<method>/beat_shapes/    guidance of each fold, or the fine-tuned model

Rhythm is selected (`RhythmSelection`) by tgdp, stack and finetune. Beat shapes are guided by tgdp
and stack, and fine-tuned by finetune. lora, difffit, scratch and source leave both as the source
has them: two small models that were fitted to 20,000 records have no low-rank part worth the name,
and from a hundred records alone neither is learned.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecgtransfer.diffusion import (
    BeatShapeModel,
    Cascade,
    Condition,
    Denoiser,
    classifier_free,
    denoising_loss,
    shape_loss,
)
from ecgtransfer.pipeline.conditioned import FEWEST_BEATS, record_shapes
from ecgtransfer.pipeline.run import CARD
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_stage import BEAT_SHAPES
from ecgtransfer.pipeline.target import Target
from ecgtransfer.rhythm import in_window
from ecgtransfer.signals import Beats
from ecgtransfer.statistics import streams
from ecgtransfer.storage import from_card, read_card, to_card, write_json
from ecgtransfer.training import WEIGHTS, Bars, TrainConfig, is_main_process, load_weights
from ecgtransfer.transfer import (
    BeatShapeGuidance,
    DomainRecords,
    FinetuneConfig,
    MeanLogH,
    NoiseLevelWeight,
    RhythmSelection,
    TgdpConfig,
    TunableBeatShapes,
    cross_fit,
    finetune,
    fit_guidance,
    guided,
    measure_guidance,
    noise_level_edges,
)
from ecgtransfer.transfer.methods import METHODS
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.records import HeldOutDraws
from ecgtransfer.transfer.rhythm_selection import (
    FEWEST_PATIENTS_A_FOLD,
    FEWEST_RECORDS,
    FOLDS,
    error_of_mean,
)

RHYTHM_CARD = "rhythm.json"
#: Noise draws a held-out record behind the loss of beat shapes.
DRAWS_A_RECORD = 16


def shape_guidance() -> TgdpConfig:
    """Training of the guidance of beat shapes."""
    return TgdpConfig(
        target_positives=1.0,
        eta_guidance=0.0,
        eta_cycle=0.0,
        eta_consistency=1.0,
        train=TrainConfig(
            steps=600,
            batch_size=64,
            learning_rate=3e-3,
            warmup_steps=20,
            weight_decay=0.1,
            ema_decay=0.98,
            validate_every=10,
            patience=8,
            gradient_clip=10.0,
        ),
    )


def shape_finetuning() -> FinetuneConfig:
    """Training of fine-tuned beat shapes."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, batch_size=64, learning_rate=1e-4))


@dataclass(frozen=True)
class CascadeSettings:
    """How rhythm and beat shapes are carried over.

    Attributes:
        draws: trains, and beat shapes where the guidance loss is asked for, that are drawn from
            the source's models for each target record.
        tgdp: losses and training of the guidance of beat shapes; it has no domain classifier, so
            that the positives of its guidance loss are target records.
        finetune: training of fine-tuned beat shapes.
    """

    draws: int = 8
    tgdp: TgdpConfig = field(default_factory=shape_guidance)
    finetune: FinetuneConfig = field(default_factory=shape_finetuning)


@dataclass(frozen=True, eq=False)
class CascadeChanges:
    """What a target's records are drawn with in place of the source's rhythm and beat shapes.

    Attributes:
        select_rhythm: which of the source's trains are taken; None takes them as they come.
        shape_denoiser: of the target's beat shapes, its labels already followed as far as was
            asked for; None for the source's.
    """

    select_rhythm: RhythmSelection | None = None
    shape_denoiser: Denoiser | None = None


@dataclass(frozen=True, eq=False)
class _Part:
    """Target records of a part of the split, with their beats and the vectors of their shapes."""

    records: DomainRecords
    beats: Sequence[Beats]

    @classmethod
    def of(
        cls, source: Source, target: Target, numbers: np.ndarray, told: DomainRecords
    ) -> "_Part":
        """Those in which enough beats were found.

        Args:
            source: of a factorised record.
            target: the set.
            numbers: of the records.
            told: the same records as the record stage is given them.
        """
        assert source.cascade is not None
        assert isinstance(told.label, Condition)
        all_beats = [target.ecgset.beats[number] for number in numbers]
        rows = np.array([row for row, each in enumerate(all_beats) if len(each) >= FEWEST_BEATS])
        beats = [all_beats[row] for row in rows]
        condition = told.label[rows].to("cpu")
        shapes, model = record_shapes(target.ecgset, numbers[rows]), source.cascade.beat_shapes
        assert condition.level is not None
        device = model.spread.device
        x0 = model.encode(torch.from_numpy(shapes).to(device), condition.level.to(device)).cpu()
        given = model.condition(
            condition.label, beats, known=condition.known, age=condition.age, sex=condition.sex
        )
        return cls(DomainRecords(x0, given, tuple(told.patient[row] for row in rows)), beats)


def transfer_cascade(
    source: Source,
    target: Target,
    parts: tuple[DomainRecords, DomainRecords, DomainRecords],
    method: str,
    settings: CascadeSettings,
    folder: Path,
    *,
    folds: int,
    seed: int,
    bars: Bars,
) -> dict[str, Any]:
    """Carry rhythm and beat shapes over, and say on the transfer's card how well.

    Args:
        source: the source; one that is not factorised has neither, and nothing is done.
        target: the set.
        parts: its records to fit on, those held out, and both, as the record stage takes them.
        method: of the transfer.
        settings: of these two stages.
        folder: of the transfer's stage.
        folds: of patients, see `TransferSettings`.
        seed: of everything that is drawn.
        bars: gives a progress callback for each training, by its name.

    Returns:
        {"cascade": {"rhythm": ..., "beat_shapes": ...}}, or nothing.

    Raises:
        RunError: a training diverged.
    """
    if source.cascade is None or METHODS[method].beat_shapes == "keep":
        return {}
    numbers = (target.fit, target.held_out, target.train)
    fit, held_out, train = (
        _Part.of(source, target, those, told) for those, told in zip(numbers, parts, strict=True)
    )
    rhythm = _select_rhythm(source.cascade, train, settings, folder, seed)
    work = ShapeWork(
        copy.deepcopy(source.cascade.beat_shapes).to(source.device),
        settings,
        folder / BEAT_SHAPES,
        folds,
        seed,
        bars,
    )
    if METHODS[method].beat_shapes == "guide":
        _, shapes = guide_beat_shapes(work, fit.records, held_out.records, train.records)
    else:
        _, shapes = tune_beat_shapes(work, fit.records, held_out.records)
    return {"cascade": {"rhythm": rhythm, "beat_shapes": shapes}}


def load_cascade_changes(
    source: Source,
    method: str,
    folder: Path,
    card: dict[str, Any],
    label_scale: float = 1.0,
) -> CascadeChanges | None:
    """What a finished transfer changed of rhythm and beat shapes; None for what it left alone.

    Args:
        source: of the run.
        method: of the transfer.
        folder: of its stage.
        card: `details["cascade"]` of its results; empty for one that carried the record alone.
        label_scale: classifier-free guidance of beat shapes, 1 for none.
    """
    if source.cascade is None or not card:
        return None
    selection = None
    if (folder / RHYTHM_CARD).exists():
        selection = read_card(RhythmSelection, folder / RHYTHM_CARD)
    model = source.cascade.beat_shapes
    if METHODS[method].beat_shapes == "finetune":
        tuned = TunableBeatShapes(copy.deepcopy(model))
        load_weights(tuned, folder / BEAT_SHAPES / WEIGHTS)
        tuned.eval().requires_grad_(False)
        return CascadeChanges(selection, classifier_free(tuned.model, label_scale))
    path = folder / CARD
    if not from_card(bool, card, path, "beat_shapes.guides"):
        return CascadeChanges(selection)
    folders = fold_folders(folder / BEAT_SHAPES, from_card(int, card, path, "beat_shapes.folds"))
    networks: list[nn.Module] = []
    for each in folders:
        network = BeatShapeGuidance(model).to(model.spread.device)
        load_weights(network, each / WEIGHTS)
        networks.append(network)
    log_h = MeanLogH(networks).eval().requires_grad_(False)
    weight = from_card(NoiseLevelWeight, card, path, "beat_shapes.weight")
    return CascadeChanges(selection, guided(classifier_free(model, label_scale), log_h, weight))


def source_trains(
    cascade: Cascade, condition: Condition, draws: int, seed: int
) -> list[list[Beats]]:
    """Trains of the source's rhythm model for the label, age and sex of each record.

    Args:
        cascade: of the source.
        condition: of N records.
        draws: trains a record.
        seed: of the trains.
    """
    assert condition.label is not None
    assert condition.age is not None
    assert condition.sex is not None
    records = len(condition)
    known = condition.known
    if known is None:
        known = torch.ones_like(condition.label, dtype=torch.bool)
    rows = np.repeat(np.arange(records), draws)
    seeds = np.random.SeedSequence([seed, streams.COMPARED_TRAINS]).generate_state(
        len(rows), np.uint64
    )
    drawn = cascade.rhythm.sample(
        condition.label[rows],
        known[rows],
        condition.age[rows],
        condition.sex[rows],
        [int(each) for each in seeds],
    )
    return [drawn[row * draws : (row + 1) * draws] for row in range(records)]


def source_shapes(
    model: BeatShapeModel, condition: Condition, draws: int, seed: int
) -> DomainRecords:
    """Vectors of beat shapes that the source's model draws under the condition of each record."""
    rows = np.repeat(np.arange(len(condition)), draws)
    seeds = np.random.SeedSequence([seed, streams.COMPARED_SHAPES]).generate_state(
        len(rows), np.uint64
    )
    told = condition[rows]
    shapes, level = model.draw(told, [int(each >> np.uint64(1)) for each in seeds])
    device = model.spread.device
    x0 = model.encode(torch.from_numpy(shapes).to(device), torch.from_numpy(level).to(device))
    return DomainRecords(x0.cpu(), told, tuple(f"drawn {number}" for number in range(len(rows))))


def _select_rhythm(
    cascade: Cascade, train: _Part, settings: CascadeSettings, folder: Path, seed: int
) -> dict[str, Any]:
    """Fit and write the selection of rhythms, or say why there is none."""
    people = len(set(train.records.patient))
    if len(train.beats) < FEWEST_RECORDS or people < FOLDS * FEWEST_PATIENTS_A_FOLD:
        return {"left_alone": f"{len(train.beats)} records of {people} patients are too few"}
    assert isinstance(train.records.label, Condition)
    window_s = cascade.rhythm.config.window_s
    selection = RhythmSelection.fitted(
        [in_window(each, window_s) for each in train.beats],
        source_trains(cascade, train.records.label, settings.draws, seed),
        train.records.patient,
        seed=seed,
    )
    if is_main_process():
        write_json(folder / RHYTHM_CARD, to_card(selection))
    return {
        "log_loss": selection.log_loss,
        "standard_error": selection.standard_error,
        "log_loss_of_chance": math.log(2),
        "selects": not selection.is_constant,
    }


@dataclass(frozen=True)
class ShapeWork:
    """What a transfer of beat shapes is given.

    Attributes:
        model: of the source, on the device of training.
        settings: of the training.
        folder: for weights and logs.
        folds: of patients; 1 calibrates guidance on the held-out records.
        seed: of everything that is drawn.
        bars: gives a progress callback for each training, by its name.
    """

    model: BeatShapeModel
    settings: CascadeSettings
    folder: Path
    folds: int
    seed: int
    bars: Bars


def guide_beat_shapes(
    work: ShapeWork, fit: DomainRecords, held_out: DomainRecords, train: DomainRecords
) -> tuple[Denoiser, dict[str, Any]]:
    """TGDP on the vectors of beat shapes: a network for each fold, calibrated on what it missed.

    The guidance is followed where, on the patients that a fold missed, it lowers the denoising
    loss by more than the standard error over patients; else its weight is 0 and "guides" on the
    card is false. "gain" and "held_out_loss" are those of the calibrated weight in either case.

    Args:
        work: settings and source model.
        fit: target records to fit on, and
        held_out: of other patients to calibrate on, where there is a single fold.
        train: all target records, which more folds divide among them.

    Returns:
        The target's denoiser, and what the card states of it.

    Raises:
        CorpusError: fewer patients than folds.
        RunError: the training diverged.
    """
    noise = work.model.config.noise
    edges, device = noise_level_edges(noise.sigma_min, noise.sigma_max), work.model.spread.device
    folders = fold_folders(work.folder, work.folds)
    if work.folds == 1:
        network = _fit_shape_guidance(work, fit, held_out, folders[0])
        missed = [(network, held_out)]
        measured = measure_guidance(
            work.model,
            network,
            held_out.x0,
            held_out.label,
            edges,
            draws=DRAWS_A_RECORD,
            generator=torch.Generator().manual_seed(work.seed),
            device=device,
        )
    else:
        missed = []

        def fit_fold(number: int, seen: DomainRecords, unseen: DomainRecords) -> nn.Module:
            title = f", fold {number + 1} of {work.folds}"
            network = _fit_shape_guidance(work, seen, unseen, folders[number], title)
            missed.append((network, unseen))
            return network

        measured = cross_fit(
            work.model,
            train,
            fit_fold,
            edges,
            folds=work.folds,
            draws=DRAWS_A_RECORD,
            seed=work.seed,
            device=device,
        ).measured
    weight = calibrated = measured.weight()
    explained = list(measured.explained(weight))
    before, after = [], []
    patients: list[str] = []
    for network, part in missed:
        before.append(_losses(work, work.model, part))
        after.append(_losses(work, guided(work.model, network, weight), part))
        patients += part.patient
    whitened, plain = (
        (
            np.concatenate([loss[kind] for loss in before]),
            np.concatenate([loss[kind] for loss in after]),
        )
        for kind in (0, 1)
    )
    gain = plain[0] - plain[1]
    error = error_of_mean(gain, patients)
    guides = bool(gain.mean() > error)
    if not guides:
        weight = NoiseLevelWeight(weight.sigmas, (0.0,) * len(weight.sigmas))
    log_h = MeanLogH([network for network, _ in missed]).eval().requires_grad_(False)
    return guided(work.model, log_h, weight), {
        "folds": work.folds,
        "weight": to_card(weight),
        "calibrated": to_card(calibrated),
        "explained": explained,
        "source_loss": float(whitened[0].mean()),
        "held_out_loss": float(whitened[1].mean()),
        "gain": float(gain.mean()),
        "standard_error": error,
        "guides": guides,
    }


def _fit_shape_guidance(
    work: ShapeWork, fit: DomainRecords, held_out: DomainRecords, folder: Path, title: str = ""
) -> BeatShapeGuidance:
    """One guidance network, or as an interrupted transfer finished it there."""
    network = BeatShapeGuidance(work.model).to(work.model.spread.device)
    if (folder / WEIGHTS).exists():
        load_weights(network, folder / WEIGHTS)
        return network.eval().requires_grad_(False)
    config = work.settings.tgdp
    config = replace(
        config, noise=work.model.config.noise, train=replace(config.train, seed=work.seed)
    )
    assert isinstance(fit.label, Condition)
    drawn = fit  # that no loss looks at
    if config.eta_guidance:
        drawn = source_shapes(work.model, fit.label, work.settings.draws, work.seed)
    with work.bars(f"beat shapes{title}") as progress:
        fit_guidance(work.model, network, drawn, fit, held_out, config, folder, progress=progress)
    return network.eval().requires_grad_(False)


def tune_beat_shapes(
    work: ShapeWork, fit: DomainRecords, held_out: DomainRecords
) -> tuple[Denoiser, dict[str, Any]]:
    """The model of beat shapes goes on training on the target; its units stay.

    Args:
        work: settings and source model.
        fit: target records to train on.
        held_out: of other patients, whose loss stops the training.

    Returns:
        The target's denoiser, and what the card states of it.

    Raises:
        RunError: the training diverged.
    """
    start = TunableBeatShapes(copy.deepcopy(work.model)).requires_grad_(True)
    if (work.folder / WEIGHTS).exists():
        tuned = start
        load_weights(tuned, work.folder / WEIGHTS)
    else:
        config = work.settings.finetune
        config = replace(
            config, noise=work.model.config.noise, train=replace(config.train, seed=work.seed)
        )
        with work.bars("beat shapes") as progress:
            tuned, _ = finetune(start, fit, held_out, config, work.folder, progress=progress)
    tuned = tuned.eval().requires_grad_(False)
    before, after = (_losses(work, one, held_out)[0] for one in (work.model, tuned.model))
    return tuned.model, {
        "source_loss": float(before.mean()),
        "held_out_loss": float(after.mean()),
    }


def _losses(
    work: ShapeWork, denoise: Denoiser, records: DomainRecords
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`shape_loss` and `denoising_loss` of each record, with the same noise every time: 2 (n,).

    Of the first the best linear denoiser of records that the units fit scores 1; the second is
    what is trained on.
    """
    model = work.model
    device = model.spread.device
    draws = HeldOutDraws.of(records, model.config.noise, draws=DRAWS_A_RECORD, seed=work.seed)
    x0, condition = records.take(draws.index, device)
    sigma, noise = draws.sigma.to(device), draws.noise.to(device)
    with torch.no_grad():
        both = (
            shape_loss(model, denoise, x0, condition, sigma, noise),
            denoising_loss(denoise, x0, condition, sigma, noise),
        )
    whitened, plain = (
        loss.cpu().numpy().astype(np.float64).reshape(-1, len(records)).mean(axis=0)
        for loss in both
    )
    return whitened, plain
