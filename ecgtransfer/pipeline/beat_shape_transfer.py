"""Transfer of beat shapes to the target, by guidance or by fine-tuning."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ecgtransfer.diffusion import (
    BeatShapeModel,
    Condition,
    Denoiser,
    denoising_loss,
    shape_loss,
)
from ecgtransfer.pipeline.cascade_settings import CascadeSettings
from ecgtransfer.statistics import streams
from ecgtransfer.storage import to_card
from ecgtransfer.training import WEIGHTS, Bars, load_weights
from ecgtransfer.transfer import (
    BeatShapeGuidance,
    DomainRecords,
    MeanLogH,
    NoiseLevelWeight,
    TunableBeatShapes,
    cross_fit,
    finetune,
    fit_guidance,
    guided,
    measure_guidance,
    noise_level_edges,
)
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.records import HeldOutDraws
from ecgtransfer.transfer.rhythm_selection import (
    error_of_mean,
)

#: Noise draws per held-out record for the loss of beat shapes.
DRAWS_PER_RECORD = 16


@dataclass(frozen=True)
class ShapeWork:
    """Inputs of a transfer of beat shapes.

    Attributes:
        model: beat-shape model of the source, on the device of training.
        settings: settings of the training.
        folder: folder of weights and logs.
        folds: folds of patients; with 1, guidance is calibrated on the held-out records.
        seed: seed of all random draws.
        bars: makes a progress callback for each training, by its name.
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
    """Train TGDP guidance for beat shapes, one network per fold of patients.

    The guidance weight is calibrated on the patients that each fold leaves out. The guidance is
    used if it lowers their denoising loss by more than the standard error over patients. Otherwise
    its weight is 0, and "guides" on the card is false. "gain" and "held_out_loss" on the card are
    those of the calibrated weight in both cases.

    Args:
        work: source model and settings.
        fit: target records for training with a single fold.
        held_out: target records of other patients for calibration with a single fold.
        train: all target records, which several folds split among them.

    Returns:
        The target's denoiser, and the entries of the transfer's card.

    Raises:
        CorpusError: there are fewer patients than folds.
        RunError: the training diverged.
    """
    noise = work.model.config.noise
    edges, device = noise_level_edges(noise.sigma_min, noise.sigma_max), work.model.spread.device
    folders = fold_folders(work.folder, work.folds)
    if work.folds == 1:
        network = _fit_shape_guidance(work, fit, held_out, folders[0])
        tested = [(network, held_out)]
        measured = measure_guidance(
            work.model,
            network,
            held_out.x0,
            held_out.label,
            edges,
            draws=DRAWS_PER_RECORD,
            generator=torch.Generator().manual_seed(work.seed),
            device=device,
        )
    else:
        tested = []

        def fit_fold(fold: int, seen: DomainRecords, unseen: DomainRecords) -> nn.Module:
            title = f", fold {fold + 1} of {work.folds}"
            network = _fit_shape_guidance(work, seen, unseen, folders[fold], title)
            tested.append((network, unseen))
            return network

        measured = cross_fit(
            work.model,
            train,
            fit_fold,
            edges,
            folds=work.folds,
            draws=DRAWS_PER_RECORD,
            seed=work.seed,
            device=device,
        ).measured
    weight = calibrated = measured.weight()
    explained = list(measured.explained(weight))
    before, after = [], []
    patients: list[str] = []
    for network, part in tested:
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
    log_h = MeanLogH([network for network, _ in tested]).eval().requires_grad_(False)
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
    """Train one guidance network, or load it if an interrupted transfer has finished it."""
    network = BeatShapeGuidance(work.model).to(work.model.spread.device)
    if (folder / WEIGHTS).exists():
        load_weights(network, folder / WEIGHTS)
        return network.eval().requires_grad_(False)
    config = work.settings.tgdp
    config = replace(
        config, noise=work.model.config.noise, train=replace(config.train, seed=work.seed)
    )
    assert isinstance(fit.label, Condition)
    drawn = fit  # not used by any loss without eta_guidance
    if config.eta_guidance:
        drawn = source_shapes(work.model, fit.label, work.settings.draws, work.seed)
    with work.bars(f"beat shapes{title}") as progress:
        fit_guidance(work.model, network, drawn, fit, held_out, config, folder, progress=progress)
    return network.eval().requires_grad_(False)


def tune_beat_shapes(
    work: ShapeWork, fit: DomainRecords, held_out: DomainRecords
) -> tuple[Denoiser, dict[str, Any]]:
    """Fine-tune the beat-shape model on the target, without changing its units.

    Args:
        work: source model and settings.
        fit: target records for training.
        held_out: target records of other patients, whose loss stops the training.

    Returns:
        The target's denoiser, and the entries of the transfer's card.

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
    """`shape_loss` and `denoising_loss` of each record, (n,) each, with the same noise every time.

    The first is 1 for the best linear denoiser if the units fit the records. The second is the
    training loss.
    """
    model = work.model
    device = model.spread.device
    draws = HeldOutDraws.of(records, model.config.noise, draws=DRAWS_PER_RECORD, seed=work.seed)
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


def source_shapes(
    model: BeatShapeModel, condition: Condition, draws: int, seed: int
) -> DomainRecords:
    """Sample beat shapes from the source's model under the condition of each record, as vectors."""
    rows = np.repeat(np.arange(len(condition)), draws)
    seeds = np.random.SeedSequence([seed, streams.COMPARED_SHAPES]).generate_state(
        len(rows), np.uint64
    )
    repeated = condition[rows]
    shapes, level = model.draw(repeated, [int(each >> np.uint64(1)) for each in seeds])
    device = model.spread.device
    x0 = model.encode(torch.from_numpy(shapes).to(device), torch.from_numpy(level).to(device))
    return DomainRecords(x0.cpu(), repeated, tuple(f"drawn {index}" for index in range(len(rows))))
