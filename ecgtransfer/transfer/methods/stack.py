"""Stack of guidance and fine-tuning, with weights per noise level from held-out patients.

FOLDER/fold-<index>/ has the files of `tgdp`, and finetune/ for the fine-tuned denoiser.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ecgtransfer.diffusion import Denoiser, classifier_free
from ecgtransfer.storage import from_card, to_card
from ecgtransfer.training import WEIGHTS, Bars, no_bars
from ecgtransfer.transfer.cross_fit import MeanLogH
from ecgtransfer.transfer.guided import guided
from ecgtransfer.transfer.methods.base import (
    Fitted,
    Method,
    MethodSettings,
    SourceDomain,
    TargetDomain,
    fitted_fold_folders,
    fold_folders,
)
from ecgtransfer.transfer.methods.finetune import read_denoiser, tune, unfrozen
from ecgtransfer.transfer.methods.tgdp import (
    FoldGuidance,
    fit_fold_guidance,
    fold_suffix,
    ratio_details,
    ratio_warnings,
    read_log_h,
    require_unlabelled,
    reuse_guidance,
    weight_edges,
)
from ecgtransfer.transfer.records import DomainRecords
from ecgtransfer.transfer.stacking import averaged, cross_fit_stack, measure_folds, stacked
from ecgtransfer.transfer.weight import NoiseLevelWeight

#: Parts of a stack, in the order of its weights.
PARTS = ("tgdp", "finetune")
#: Folder of a fold's fine-tuned denoiser.
TUNED = "finetune"


@dataclass(frozen=True, eq=False)
class StackedModel:
    """D_p + w₁ (guided - D_p) + w₂ (fine-tuned - D_p), each part the mean over folds.

    Attributes:
        source: the source's denoiser D_p.
        log_h: mean of the guidance networks over folds.
        tuned: the fine-tuned denoisers of all folds.
        weights: weight of each of `PARTS` per noise level.
        weights_without_label: weights for records without a label; None if the guidance was not
            trained without labels.
    """

    source: nn.Module
    log_h: MeanLogH
    tuned: Sequence[nn.Module]
    weights: Sequence[NoiseLevelWeight]
    weights_without_label: Sequence[NoiseLevelWeight] | None

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """See `TransferredModel.denoiser`."""
        require_unlabelled(cfg_scale, self.weights_without_label is not None)
        labelled = self._stacked(self.weights)
        if self.weights_without_label is None:
            return labelled
        return classifier_free(labelled, cfg_scale, self._stacked(self.weights_without_label))

    def _stacked(self, weights: Sequence[NoiseLevelWeight]) -> Denoiser:
        parts = [guided(self.source, self.log_h), averaged(self.tuned)]
        return stacked(self.source, parts, weights)


class Stack(Method):
    """Fit guidance and fine-tuning once per fold, and combine them with calibrated weights."""

    name = "stack"
    title = "tgdp and finetune, combined"
    fewest_folds = 2
    uses_source_records = True
    beat_shapes = "guide"

    def fit(
        self,
        source: SourceDomain,
        target: TargetDomain,
        settings: MethodSettings,
        folder: Path,
        *,
        bars: Bars = no_bars,
        reuse: Sequence[Path] = (),
    ) -> Fitted:
        """See `Method.fit`."""
        start_s = time.monotonic()
        records = source.records()
        folders, edges = fold_folders(folder, settings.folds), weight_edges(source)
        fitted: list[FoldGuidance] = []
        tuned: list[nn.Module] = []
        held_out: list[DomainRecords] = []

        def fit_fold(index: int, fit: DomainRecords, rest: DomainRecords) -> list[Denoiser]:
            own, suffix = folders[index], fold_suffix(index, settings.folds)
            reuse_guidance(reuse[index : index + 1], own)
            fitted.append(
                fit_fold_guidance(
                    source, records, fit, rest, settings, own, bars=bars, suffix=suffix
                )
            )
            part = TargetDomain(fit, rest, target.train)
            tuned.append(_tuned(source, part, settings, own / TUNED, bars, f"{TUNED}{suffix}"))
            held_out.append(rest)
            return [guided(source.model, fitted[-1].network), tuned[-1]]

        weights = cross_fit_stack(
            source.model,
            target.train,
            fit_fold,
            edges,
            folds=settings.folds,
            draws=settings.calibration_draws,
            seed=settings.seed,
            device=source.device,
        ).weights()
        details = ratio_details(fitted) | {"weights": _by_part(weights)}
        without = None
        if settings.tgdp.trains_without_label:
            without = measure_folds(
                source.model,
                [
                    [guided(source.model, each.network), one]
                    for each, one in zip(fitted, tuned, strict=True)
                ],
                [part.unlabelled() for part in held_out],
                edges,
                draws=settings.calibration_draws,
                seed=settings.seed,
                device=source.device,
            ).weights()
            details["weights_without_label"] = _by_part(without)
        networks = [each.network for each in fitted]
        log_h = MeanLogH(networks).eval().requires_grad_(False)
        return Fitted(
            StackedModel(source.model, log_h, tuned, weights, without),
            sum(p.numel() for network in (*networks, *tuned) for p in network.parameters()),
            time.monotonic() - start_s,
            evaluated=[
                (
                    StackedModel(source.model, MeanLogH([each]), [one], weights, None).denoiser(),
                    part,
                )
                for each, one, part in zip(networks, tuned, held_out, strict=True)
            ],
            warnings=ratio_warnings(fitted, settings.tgdp),
            details=details,
        )

    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> StackedModel:
        """See `Method.load`."""
        tuned = [
            read_denoiser(source, each / TUNED / WEIGHTS) for each in fitted_fold_folders(folder)
        ]

        def weights(name: str) -> list[NoiseLevelWeight]:
            return [from_card(NoiseLevelWeight, details, card, f"{name}.{part}") for part in PARTS]

        name = "weights_without_label"
        without = weights(name) if name in details else None
        return StackedModel(
            source.model, read_log_h(source, folder), tuned, weights("weights"), without
        )


def _tuned(
    source: SourceDomain,
    target: TargetDomain,
    settings: MethodSettings,
    folder: Path,
    bars: Bars,
    task: str,
) -> nn.Module:
    """Fine-tune the source model on one fold, or load the result if it is complete."""
    if (folder / WEIGHTS).exists():
        return read_denoiser(source, folder / WEIGHTS)
    tuned, _ = tune(
        source,
        unfrozen(source.model),
        target,
        settings.finetune,
        settings.seed,
        folder,
        bars,
        task,
        keep_checkpoint=False,
    )
    return tuned.requires_grad_(False)


def _by_part(weights: Sequence[NoiseLevelWeight]) -> dict[str, dict[str, list[float]]]:
    return {name: to_card(weight) for name, weight in zip(PARTS, weights, strict=True)}
