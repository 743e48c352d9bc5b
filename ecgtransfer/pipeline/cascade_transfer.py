"""Transfer of rhythm and beat shapes, the first two models of a factorised source.

RUN/transfer-<method>/rhythm.json     selection of the source's rhythms
RUN/transfer-<method>/beat_shapes/    guidance of each fold, or the fine-tuned model

The methods tgdp, stack and finetune select rhythms (`RhythmSelection`). Beat shapes are guided by
tgdp and stack, and fine-tuned by finetune. The methods lora, difffit, scratch and source use the
source's rhythm and beat shapes: both models are too small for low-rank updates, and a hundred
records are too few to train them from scratch.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ecgtransfer.diffusion import (
    Cascade,
    Condition,
    Denoiser,
    classifier_free,
)
from ecgtransfer.pipeline.beat_shape_transfer import ShapeWork, guide_beat_shapes, tune_beat_shapes
from ecgtransfer.pipeline.cascade_settings import CascadeSettings
from ecgtransfer.pipeline.conditioned import FEWEST_BEATS, record_shapes
from ecgtransfer.pipeline.run import CARD
from ecgtransfer.pipeline.source import Source
from ecgtransfer.pipeline.source_stage import BEAT_SHAPES
from ecgtransfer.pipeline.target import Target
from ecgtransfer.rhythm import in_window
from ecgtransfer.signals import Beats
from ecgtransfer.statistics import streams
from ecgtransfer.storage import from_card, read_card, to_card, write_json
from ecgtransfer.training import WEIGHTS, Bars, is_main_process, load_weights
from ecgtransfer.transfer import (
    BeatShapeGuidance,
    DomainRecords,
    MeanLogH,
    NoiseLevelWeight,
    RhythmSelection,
    TunableBeatShapes,
    guided,
)
from ecgtransfer.transfer.methods import METHODS
from ecgtransfer.transfer.methods.base import fold_folders
from ecgtransfer.transfer.rhythm_selection import (
    FEWEST_PATIENTS_A_FOLD,
    FEWEST_RECORDS,
    FOLDS,
)

RHYTHM_CARD = "rhythm.json"


@dataclass(frozen=True, eq=False)
class CascadeChanges:
    """Rhythm and beat shapes of a target that replace the source's when records are generated.

    Attributes:
        select_rhythm: selection of the source's rhythms; None for no selection.
        shape_denoiser: denoiser of the target's beat shapes, including the label scale; None for
            the source's.
    """

    select_rhythm: RhythmSelection | None = None
    shape_denoiser: Denoiser | None = None


@dataclass(frozen=True, eq=False)
class _Part:
    """Target records of a part of the split, with their beats and beat-shape vectors."""

    records: DomainRecords
    beats: Sequence[Beats]

    @classmethod
    def of(
        cls, source: Source, target: Target, indices: np.ndarray, given: DomainRecords
    ) -> "_Part":
        """Select the records with enough beats and encode their beat shapes.

        Args:
            source: a factorised source.
            target: target set.
            indices: indices of the records.
            given: these records with their conditions, as for the record model.
        """
        assert source.cascade is not None
        assert isinstance(given.label, Condition)
        all_beats = [target.ecgset.beats[index] for index in indices]
        rows = np.array([row for row, each in enumerate(all_beats) if len(each) >= FEWEST_BEATS])
        beats = [all_beats[row] for row in rows]
        condition = given.label[rows].to("cpu")
        shapes, model = record_shapes(target.ecgset, indices[rows]), source.cascade.beat_shapes
        assert condition.level is not None
        device = model.spread.device
        x0 = model.encode(torch.from_numpy(shapes).to(device), condition.level.to(device)).cpu()
        of_shapes = model.condition(
            condition.label, beats, known=condition.known, age=condition.age, sex=condition.sex
        )
        return cls(DomainRecords(x0, of_shapes, tuple(given.patient[row] for row in rows)), beats)


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
    """Transfer rhythm and beat shapes of a factorised source; do nothing for another source.

    Args:
        source: source model.
        target: target set.
        parts: target records to fit on, held-out records, and both together, with the conditions of
            the record model.
        method: transfer method.
        settings: settings of this transfer.
        folder: folder of the transfer's stage.
        folds: folds of patients, see `TransferSettings`.
        seed: seed of all random draws.
        bars: makes a progress callback for each training, by its name.

    Returns:
        Entries of the transfer's card, {"cascade": {"rhythm": ..., "beat_shapes": ...}}; empty if
        nothing was transferred.

    Raises:
        RunError: a training diverged.
    """
    if source.cascade is None or METHODS[method].beat_shapes == "keep":
        return {}
    split = (target.fit, target.held_out, target.train)
    fit, held_out, train = (
        _Part.of(source, target, indices, given)
        for indices, given in zip(split, parts, strict=True)
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
    """Load the rhythm and beat shapes of a finished transfer; None if it has none.

    Args:
        source: source of the run.
        method: transfer method.
        folder: folder of the transfer's stage.
        card: `details["cascade"]` of its results; empty if only the record model was transferred.
        label_scale: scale of classifier-free guidance for beat shapes; 1 for none.
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
    """Sample rhythms from the source's rhythm model for the label, age and sex of each record.

    Args:
        cascade: models of the source.
        condition: conditions of N records.
        draws: rhythms per record.
        seed: seed of the rhythms.

    Returns:
        For each record, a list of `draws` rhythms.
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


def _select_rhythm(
    cascade: Cascade, train: _Part, settings: CascadeSettings, folder: Path, seed: int
) -> dict[str, Any]:
    """Fit and write the selection of rhythms; return the entries of the transfer's card."""
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
