"""TGDP: guidance by the density ratio (Ouyang, Xie, Zha, Cheng, NeurIPS 2024).

FOLDER/domain_classifier/, noisy_domain_classifier/   classifiers that the losses need
FOLDER/ratio.json                                     diagnostics of their density ratios
FOLDER/guidance/                                      the guidance network, log h

With several patient folds there is one such folder per fold, FOLDER/fold-<index>.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ecgtransfer.diffusion import Denoiser, NoiseConfig
from ecgtransfer.errors import ConfigError
from ecgtransfer.storage import (
    atomic_file,
    from_card,
    make_folder,
    read_json,
    to_card,
    write_json,
)
from ecgtransfer.training import (
    WEIGHTS,
    Bars,
    is_main_process,
    load_weights,
    main_process_first,
    no_bars,
    seeded_initialisation,
)
from ecgtransfer.transfer.cross_fit import MeanLogH, cross_fit
from ecgtransfer.transfer.density_ratio import DomainClassifierFit, fit_domain_classifier
from ecgtransfer.transfer.diagnostics import RatioDiagnostics
from ecgtransfer.transfer.guided import guided, guided_at_scale
from ecgtransfer.transfer.methods.base import (
    Fitted,
    Method,
    MethodSettings,
    SourceDomain,
    TargetDomain,
    fitted_fold_folders,
    fold_folders,
    with_seed,
)
from ecgtransfer.transfer.records import DomainRecords
from ecgtransfer.transfer.tgdp import TgdpConfig, fit_guidance
from ecgtransfer.transfer.weight import (
    GuidanceFit,
    NoiseLevelWeight,
    measure_guidance,
    noise_level_edges,
)

#: Folder of a guidance network, and the file with the ratios of its training.
GUIDANCE, RATIO = "guidance", "ratio.json"


@dataclass(frozen=True, eq=False)
class Classifiers:
    """Domain classifiers of clean and of noised records; None if no loss needs one."""

    clean: DomainClassifierFit | None = None
    noisy: DomainClassifierFit | None = None


@dataclass(frozen=True)
class Ratios:
    """Diagnostics of the density ratios of a guidance network.

    Attributes:
        clean, noisy: out-of-fold diagnostics of both classifiers; None if no loss needs one.
        target_positives, eta_cycle: settings of the training, see
            `TgdpConfig.without_useless_ratios`.
    """

    clean: RatioDiagnostics | None
    noisy: RatioDiagnostics | None
    target_positives: float
    eta_cycle: float

    @classmethod
    def read(cls, path: Path) -> Ratios:
        """Read `ratio.json`; null stands for infinity, which JSON lacks."""
        card = read_json(path)
        for name in ("clean", "noisy"):
            if card.get(name) is not None:
                values: dict[str, Any] = {
                    key: math.inf if value is None else value for key, value in card[name].items()
                }
                card[name] = values
        return from_card(cls, card, path)


@dataclass(frozen=True, eq=False)
class FoldGuidance:
    """A fitted guidance network.

    Attributes:
        network: the network, a `LogH`.
        ratios: diagnostics of its density ratios.
        seconds: duration of its training in seconds, without the classifiers.
    """

    network: nn.Module
    ratios: Ratios
    seconds: float

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(p.numel() for p in self.network.parameters())


@dataclass(frozen=True, eq=False)
class GuidedModel:
    """The source model with calibrated guidance.

    Attributes:
        source: the source's denoiser.
        log_h: mean of the guidance networks over folds.
        weight: guidance weight per noise level.
        weight_without_label: guidance weight for records without a label; None if the guidance was
            not trained without labels.
    """

    source: nn.Module
    log_h: MeanLogH
    weight: NoiseLevelWeight
    weight_without_label: NoiseLevelWeight | None

    def denoiser(self, cfg_scale: float = 1.0) -> Denoiser:
        """See `TransferredModel.denoiser`."""
        require_unlabelled(cfg_scale, self.weight_without_label is not None)
        return guided_at_scale(
            self.source, self.log_h, cfg_scale, self.weight, self.weight_without_label
        )


def require_unlabelled(cfg_scale: float, trained: bool) -> None:
    """Check that classifier-free guidance is possible.

    Args:
        cfg_scale: scale of classifier-free guidance.
        trained: whether the guidance was trained without labels too.

    Raises:
        ConfigError: the scale is not 1, and the guidance was not trained without labels.
    """
    if cfg_scale != 1 and not trained:
        raise ConfigError(
            "expected guidance that was trained on records without a label for label scale "
            f"{cfg_scale:g}, got one that was trained with labels only; use label scale 1, or "
            "transfer again with eta_consistency and label_dropout above 0"
        )


class Tgdp(Method):
    """Fit one guidance network per fold, calibrate the guidance weight, and use their mean."""

    name = "tgdp"
    title = "guidance by the density ratio"
    fewest_folds = 1
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
        held_out: list[DomainRecords] = []

        def fit_fold(index: int, fit: DomainRecords, rest: DomainRecords) -> nn.Module:
            reuse_guidance(reuse[index : index + 1], folders[index])
            fitted.append(
                fit_fold_guidance(
                    source,
                    records,
                    fit,
                    rest,
                    settings,
                    folders[index],
                    bars=bars,
                    suffix=fold_suffix(index, settings.folds),
                )
            )
            held_out.append(rest)
            return fitted[-1].network

        without: NoiseLevelWeight | None = None
        if settings.folds == 1:
            network = fit_fold(0, target.fit, target.held_out)

            def measured_on(part: DomainRecords) -> GuidanceFit:
                return measure_guidance(
                    source.model,
                    network,
                    part.x0,
                    part.label,
                    edges,
                    draws=settings.calibration_draws,
                    generator=torch.Generator().manual_seed(settings.seed),
                    device=source.device,
                )

            log_h, measured = MeanLogH([network]), measured_on(target.held_out)
            if settings.tgdp.trains_without_label:
                without = measured_on(target.held_out.unlabelled()).weight()
        else:
            crossed = cross_fit(
                source.model,
                target.train,
                fit_fold,
                edges,
                folds=settings.folds,
                draws=settings.calibration_draws,
                seed=settings.seed,
                device=source.device,
                without_label=settings.tgdp.trains_without_label,
            )
            log_h, measured = crossed.log_h, crossed.measured
            without = crossed.weight_without_label
        weight = measured.weight()
        details = ratio_details(fitted) | {
            "weight": to_card(weight),
            "explained": list(measured.explained(weight)),
            "explained_at_weight_1": list(measured.explained(1.0)),
        }
        if without is not None:
            details["weight_without_label"] = to_card(without)
        return Fitted(
            GuidedModel(source.model, log_h.eval().requires_grad_(False), weight, without),
            sum(each.parameters for each in fitted),
            time.monotonic() - start_s,
            evaluated=[
                (guided(source.model, each.network, weight), part)
                for each, part in zip(fitted, held_out, strict=True)
            ],
            warnings=ratio_warnings(fitted, settings.tgdp),
            details=details,
        )

    def load(
        self, source: SourceDomain, folder: Path, details: Mapping[str, Any], card: Path
    ) -> GuidedModel:
        """See `Method.load`."""
        weight = from_card(NoiseLevelWeight, details, card, "weight")
        without = None
        if "weight_without_label" in details:
            without = from_card(NoiseLevelWeight, details, card, "weight_without_label")
        return GuidedModel(source.model, read_log_h(source, folder), weight, without)


def fit_fold_guidance(
    source: SourceDomain,
    source_records: DomainRecords,
    fit: DomainRecords,
    held_out: DomainRecords,
    settings: MethodSettings,
    folder: Path,
    *,
    classifiers: Classifiers | None = None,
    bars: Bars = no_bars,
    suffix: str = "",
) -> FoldGuidance:
    """Fit one guidance network, with the domain classifiers that its losses need.

    If the folder contains a finished network, it is loaded instead.

    Args:
        source: the source.
        source_records: records of the source.
        fit: target records to fit network and classifiers on.
        held_out: target records of other patients, for early stopping of the network.
        settings: settings of the training.
        folder: folder of network and classifiers.
        classifiers: classifiers fitted on the same records; None fits them here.
        bars: returns a progress callback for each training.
        suffix: suffix of the names of the progress bars.

    Raises:
        DivergedError: a loss is not finite.
    """
    with seeded_initialisation(settings.seed):
        network = source.networks.guidance()
    network = network.to(source.device)
    if (folder / GUIDANCE / WEIGHTS).exists():
        load_weights(network, folder / GUIDANCE / WEIGHTS)
        network = network.eval().requires_grad_(False)
        return FoldGuidance(network, Ratios.read(folder / RATIO), 0.0)
    if classifiers is None:
        classifiers = fit_classifiers(source, source_records, fit, settings, folder, bars, suffix)
    clean, noisy = classifiers.clean, classifiers.noisy
    config = replace(
        with_seed(settings.tgdp, settings.seed), noise=source.noise
    ).without_useless_ratios(
        clean is None or clean.diagnostics.beats_chance,
        noisy is None or noisy.diagnostics.beats_chance,
    )
    ratios = Ratios(
        None if clean is None else clean.diagnostics,
        None if noisy is None else noisy.diagnostics,
        config.target_positives,
        config.eta_cycle,
    )
    if is_main_process():
        make_folder(folder)
        write_json(folder / RATIO, to_card(ratios))
    with bars(f"guidance{suffix}") as progress:
        result = fit_guidance(
            source.model,
            network,
            source_records,
            fit,
            held_out,
            config,
            folder / GUIDANCE,
            log_ratio=None if clean is None else clean.classifier.log_ratio(source_records),
            noisy_log_ratio=None if noisy is None else noisy.classifier,
            progress=progress,
        )
    return FoldGuidance(network.requires_grad_(False), ratios, result.seconds)


def fit_classifiers(
    source: SourceDomain,
    source_records: DomainRecords,
    fit: DomainRecords,
    settings: MethodSettings,
    folder: Path,
    bars: Bars = no_bars,
    suffix: str = "",
) -> Classifiers:
    """Fit the domain classifiers that the losses of the guidance need, on these records only."""

    def fitted(task: str, own: Path, noise: NoiseConfig | None) -> DomainClassifierFit:
        with bars(f"{task}{suffix}") as progress:
            return fit_domain_classifier(
                source_records,
                fit,
                replace(with_seed(settings.classifier, settings.seed), noise=noise),
                own,
                encoder=source.networks.domain_encoder,
                progress=progress,
                keep_checkpoint=True,
            )

    clean = noisy = None
    if settings.tgdp.needs_ratio:
        clean = fitted("domain classifier", folder / "domain_classifier", None)
    if settings.tgdp.eta_cycle:
        own = folder / "noisy_domain_classifier"
        noisy = fitted("noise-dependent classifier", own, source.noise)
    return Classifiers(clean, noisy)


def reuse_guidance(finished: Sequence[Path], folder: Path) -> None:
    """Copy a guidance network and its ratios from `finished[0]`, if there is one."""
    if not finished or (folder / GUIDANCE / WEIGHTS).exists():
        return
    with main_process_first():
        if not (folder / GUIDANCE / WEIGHTS).exists():
            make_folder(folder / GUIDANCE)
            shutil.copy2(finished[0] / RATIO, folder / RATIO)
            with atomic_file(folder / GUIDANCE / WEIGHTS) as partial:
                shutil.copy2(finished[0] / GUIDANCE / WEIGHTS, partial)


def read_log_h(source: SourceDomain, folder: Path) -> MeanLogH:
    """Load the frozen mean guidance of a finished transfer."""
    networks = []
    for each in fitted_fold_folders(folder):
        network = source.networks.guidance().to(source.device)
        load_weights(network, each / GUIDANCE / WEIGHTS)
        networks.append(network)
    return MeanLogH(networks).eval().requires_grad_(False)


def fold_suffix(index: int, folds: int) -> str:
    """Suffix of the names of a fold's progress bars."""
    return "" if folds == 1 else f", fold {index + 1} of {folds}"


def weight_edges(source: SourceDomain) -> tuple[float, ...]:
    """Edges of the noise-level bins of the guidance weight."""
    return noise_level_edges(source.noise.sigma_min, source.noise.sigma_max)


def ratio_details(fitted: Sequence[FoldGuidance]) -> dict[str, Any]:
    """Return the ratios of each fold, and the mean over folds for clean records, for the card."""
    clean = [each.ratios.clean for each in fitted if each.ratios.clean is not None]
    details: dict[str, Any] = {"ratios": [asdict(each.ratios) for each in fitted]}
    if clean:
        details["ratio"] = asdict(RatioDiagnostics.mean(clean))
    return details


def ratio_warnings(fitted: Sequence[FoldGuidance], config: TgdpConfig) -> tuple[str, ...]:
    """Warn about domains that hardly overlap, and about ratios no better than chance."""
    clean = [each.ratios.clean for each in fitted if each.ratios.clean is not None]
    if not clean:
        return ()
    mean = RatioDiagnostics.mean(clean)
    warnings = [] if mean.warning is None else [mean.warning]
    if failed := sum(not each.beats_chance for each in clean):
        where = "" if len(clean) == 1 else f" in {failed} of {len(clean)} folds"
        consequence = (
            "the guidance loss uses target records only as positives"
            if config.classifies
            else "the guidance loss pulls log h towards a constant; use the logistic form"
        )
        warnings.append(
            f"the density ratio is no better than chance{where} (out-of-fold log loss "
            f"{mean.log_loss:.3f}, {math.log(2):.3f} at chance), so {consequence}"
        )
    return tuple(warnings)
