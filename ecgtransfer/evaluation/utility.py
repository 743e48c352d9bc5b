"""Does the synthetic set help a classifier of held-out target patients?

Every arm trains the same network with the same settings and seeds; arms differ only in the records
added to the target's training records. Target training sets are small (80 records, nine classes),
so nothing is held out of them for good: the number of steps is fixed before, and thresholds come
from out-of-fold predictions of the training records. The test records are used once, for the
scores.

Added records of any kind also regularise: with a handful of target records even additions with
shuffled labels can gain a little. Where a small gain matters, make such a set one more arm.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.evaluation.embedding import BATCH_SIZE, embed, in_batches
from ecgtransfer.evaluation.metrics import (
    BOOTSTRAP_RESAMPLES,
    Estimate,
    FloatArray,
    WeightedScore,
    apply_thresholds,
    checked_labels,
    choose_thresholds,
    draw_resamples,
    estimate,
    macro_auroc,
    score_resamples,
    undefined_classes,
    weighted_auroc,
    weighted_f2,
    weighted_g2,
)
from ecgtransfer.models import Encoder1d, EncoderConfig
from ecgtransfer.training import (
    Progress,
    TrainConfig,
    fit,
    label_weights,
    load_weights,
    shuffled_batches,
)

#: Name of the arm that every other is compared to.
TARGET_ONLY = "target only"

#: Smallest lead amplitude in millivolts that a signal is divided by: one int16 microvolt.
SMALLEST_SCALE_MV = 1e-3

CARD = "card.json"
WEIGHTS = "weights.safetensors"

#: (steps done, steps in all) of all trainings together.
StepsDone = Callable[[int, int], None]


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of one classifier, the same for every arm.

    widths and blocks: shape of the `Encoder1d`. steps, batch_size, learning_rate, weight_decay,
    ema_decay: its training, fixed in advance. balance: power of `training.label_weights`, 0 draws
    the records as they come, 1 balances the classes. added_share: share of each batch drawn from
    the added (synthetic) records, so that many of them do not drown the few real ones; none means
    by number. folds: parts of the cross-fitting behind the thresholds. thresholds: the rule of
    `choose_thresholds`. validate_every, patience, selection: early stopping where
    `train_classifier` is given validation records.

    Defaults by trial on 80 records of one PTB-XL device, alone and with 828 records of the other
    devices (test macro AUROC 0.69 and 0.91): a learning rate of 5e-3 gained 0.03 alone, but lost up
    to 0.2 on some seeds with the added records at 100 steps.
    """

    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 1
    steps: int = 300
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    balance: float = 0.5
    added_share: float | None = 0.5
    folds: int = 3
    thresholds: Literal["g_beta", "youden"] = "g_beta"
    validate_every: int = 25
    patience: int = 8
    selection: Literal["bce", "macro_auroc"] = "bce"

    def __post_init__(self) -> None:
        self.training(seed=0)
        EncoderConfig(outputs=1, widths=self.widths, blocks=self.blocks)
        if not 0 <= self.balance <= 1:
            raise ConfigError(f"expected balance in [0, 1], got {self.balance}")
        if self.added_share is not None and not 0 < self.added_share < 1:
            raise ConfigError(
                f"expected added_share between 0 and 1, or none, got {self.added_share}"
            )
        if self.folds < 2:
            raise ConfigError(f"cross-fitting needs at least 2 folds, got {self.folds}")
        if self.thresholds not in ("g_beta", "youden"):
            raise ConfigError(
                f'unknown threshold rule {self.thresholds!r}; expected "g_beta" or "youden"'
            )
        if self.validate_every < 1 or self.patience < 1:
            raise ConfigError(
                f"expected validate_every and patience of at least 1, got {self.validate_every} "
                f"and {self.patience}"
            )
        if self.selection not in ("bce", "macro_auroc"):
            raise ConfigError(
                f'unknown selection {self.selection!r}; expected "bce" or "macro_auroc"'
            )

    def training(self, seed: int, *, validated: bool = False) -> TrainConfig:
        """The same as settings of `training.fit`, with early stopping if `validated`."""
        return TrainConfig(
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            ema_decay=self.ema_decay,
            warmup_steps=min(50, max(self.steps // 10, 1)),
            validate_every=self.validate_every if validated else 0,
            patience=self.patience if validated else 0,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class LabelledRecords:
    """Signals with their labels: what a classifier is trained and tested on.

    signals_mv (n, 8, T) the independent leads in millivolts, labels (n, K) multi-hot, patients
    (n,) or none where every record is its own patient. CorpusError for other shapes, no records,
    or signals that are not finite.
    """

    signals_mv: npt.NDArray[np.float32]
    labels: npt.NDArray[np.float32]
    patients: npt.NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        signals, labels = self.signals_mv, checked_labels(self.labels)
        if signals.ndim != 3 or signals.shape[0] != labels.shape[0]:
            raise CorpusError(
                f"expected signals (records, leads, samples) with one row of labels each, got "
                f"shapes {signals.shape} and {labels.shape}"
            )
        if not np.isfinite(signals).all():
            raise CorpusError("expected finite signals; drop or mend the records that are not")
        if self.patients is not None and np.shape(self.patients) != (len(signals),):
            raise CorpusError(
                f"expected one patient per record, {len(signals)}, got shape "
                f"{np.shape(self.patients)}"
            )

    def __len__(self) -> int:
        return len(self.signals_mv)

    def select(self, index: npt.NDArray[np.integer]) -> "LabelledRecords":
        """The records at `index`."""
        return LabelledRecords(
            self.signals_mv[index],
            self.labels[index],
            None if self.patients is None else np.asarray(self.patients)[index],
        )

    def fingerprint(self) -> str:
        """SHA-256 of signals and labels."""
        digest = hashlib.sha256(repr((self.signals_mv.shape, self.labels.shape)).encode())
        digest.update(np.ascontiguousarray(self.signals_mv, dtype=np.float32).data)
        digest.update(np.ascontiguousarray(self.labels, dtype=np.float32).data)
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network from millivolts to one probability per label.

    encoder: logits of signals divided by `lead_scale_mv` (leads,), the median over the training
    records of each lead's standard deviation. label_names: the K outputs in order.
    """

    encoder: Encoder1d
    lead_scale_mv: FloatArray
    label_names: tuple[str, ...]

    def __call__(
        self, signals_mv: npt.ArrayLike, *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Probabilities (n, K) of signals (n, leads, T) in millivolts.

        CorpusError for another shape, ConfigError for a batch size below 1.
        """
        leads = self.encoder.config.leads
        scaled = self._scaled(signals_mv)
        return in_batches(
            self.encoder, lambda x: self.encoder(x).sigmoid(), scaled, leads, batch_size
        )

    def features(
        self, signals_mv: npt.ArrayLike, *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Features (n, F) under the last layer, for `fidelity`; errors as in `__call__`."""
        return embed(self.encoder, self._scaled(signals_mv), batch_size=batch_size)

    def _scaled(self, signals_mv: npt.ArrayLike) -> npt.NDArray[np.float32]:
        signals = np.asarray(signals_mv, dtype=np.float32)
        if signals.ndim != 3 or signals.shape[1] != len(self.lead_scale_mv):
            raise CorpusError(
                f"expected signals (records, {len(self.lead_scale_mv)} leads, samples), got shape "
                f"{signals.shape}"
            )
        return np.asarray(signals / self.lead_scale_mv[:, None], dtype=np.float32)


@dataclass(frozen=True)
class ArmResult:
    """Scores of one arm on the test records, means over its trainings (seeds)."""

    name: str
    target_records: int
    added_records: int
    macro_auroc: Estimate
    f2: Estimate
    g2: Estimate
    per_class_auroc: dict[str, Estimate]
    macro_auroc_by_seed: tuple[float, ...]

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "name": self.name,
            "target_records": self.target_records,
            "added_records": self.added_records,
            "macro_auroc": self.macro_auroc.to_dict(),
            "f2": self.f2.to_dict(),
            "g2": self.g2.to_dict(),
            "per_class_auroc": {k: v.to_dict() for k, v in self.per_class_auroc.items()},
            "macro_auroc_by_seed": list(self.macro_auroc_by_seed),
        }


@dataclass(frozen=True)
class ArmDifference:
    """An arm minus the target-only arm, on the same resampled patients and seeds."""

    name: str
    macro_auroc: Estimate
    f2: Estimate
    g2: Estimate

    @property
    def verdict(self) -> Literal["helps", "no evidence", "harms"]:
        """By the interval of the macro AUROC difference: above 0, around 0, below 0."""
        if self.macro_auroc.low > 0:
            return "helps"
        return "harms" if self.macro_auroc.high < 0 else "no evidence"

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "name": self.name,
            "macro_auroc": self.macro_auroc.to_dict(),
            "f2": self.f2.to_dict(),
            "g2": self.g2.to_dict(),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class UtilityResult:
    """What added records do for a classifier of held-out target patients.

    arms: the target-only arm first. differences: one for each other arm. left_out: classes that
    cannot be scored, because the test records hold none or nothing but them.
    """

    arms: tuple[ArmResult, ...]
    differences: tuple[ArmDifference, ...]
    test_records: int
    test_patients: int
    left_out: tuple[str, ...]

    def verdicts(self) -> tuple[str, ...]:
        """One sentence for each arm but the first."""
        first = self.arms[0]
        words = {
            "helps": "helps",
            "no evidence": "shows no evidence of helping or harming",
            "harms": "harms",
        }
        sentences = []
        for arm, change in zip(self.arms[1:], self.differences, strict=True):
            d = change.macro_auroc
            sentences.append(
                f"{arm.name} {words[change.verdict]}: macro AUROC {arm.macro_auroc.value:.3f} "
                f"against {first.macro_auroc.value:.3f} with {first.name}, difference "
                f"{d.value:+.3f} [{d.low:+.3f}, {d.high:+.3f}] over "
                f"{len(arm.macro_auroc_by_seed)} training seeds and {self.test_patients} test "
                "patients."
            )
        return tuple(sentences)

    def rows(self) -> list[tuple[str, ...]]:
        """Measures down, arms across, then the differences; header first."""
        names = [arm.name for arm in self.arms]
        rows = [("measure", *names, *(f"difference, {change.name}" for change in self.differences))]
        for label, field in (("macro AUROC", "macro_auroc"), ("F2", "f2"), ("G2", "g2")):
            rows.append(
                (
                    label,
                    *(str(getattr(arm, field)) for arm in self.arms),
                    *(str(getattr(change, field)) for change in self.differences),
                )
            )
        for name in self.arms[0].per_class_auroc:
            scores = (str(arm.per_class_auroc[name]) for arm in self.arms)
            rows.append((f"AUROC {name}", *scores, *("" for _ in self.differences)))
        return rows

    def __str__(self) -> str:
        return "\n".join(["  ".join(row) for row in self.rows()] + list(self.verdicts()))

    def to_dict(self) -> dict[str, object]:
        """Plain numbers for JSON."""
        return {
            "arms": [arm.to_dict() for arm in self.arms],
            "differences": [change.to_dict() for change in self.differences],
            "verdicts": list(self.verdicts()),
            "test_records": self.test_records,
            "test_patients": self.test_patients,
            "classes_left_out": list(self.left_out),
        }


def stratified_folds(
    labels: npt.ArrayLike, patients: npt.ArrayLike | None, folds: int, seed: int
) -> npt.NDArray[np.int64]:
    """The fold, 0 ... folds − 1, of each record: (N,); a patient's records share one.

    Patients with rare labels are dealt first, each to the fold that has fewest records of its
    rarest label, then fewest records (after Sechidis et al. 2011). CorpusError for fewer patients
    than folds or a `patients` of another length.
    """
    hot = checked_labels(labels)
    names = np.arange(len(hot)) if patients is None else np.asarray(patients)
    if names.shape != (len(hot),):
        raise CorpusError(f"expected one patient per record, {len(hot)}, got shape {names.shape}")
    patient_of = np.unique(names, return_inverse=True)[1].reshape(-1)
    count = int(patient_of.max()) + 1
    if count < folds:
        raise CorpusError(f"{folds} folds need at least {folds} patients, got {count}")
    by_patient = np.zeros((count, hot.shape[1] + 1))
    np.add.at(by_patient[:, :-1], patient_of, hot)
    by_patient[:, -1] = np.bincount(patient_of)
    frequency = np.append(hot.sum(axis=0), len(hot) + 1)
    rarest = np.where(by_patient > 0, frequency, np.inf).argmin(axis=1)
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(count)
    held = np.zeros((folds, hot.shape[1] + 1))
    fold_of = np.empty(count, dtype=np.int64)
    for patient in shuffled[np.argsort(frequency[rarest[shuffled]], kind="stable")]:
        fold = int(np.lexsort((held[:, -1], held[:, rarest[patient]]))[0])
        fold_of[patient] = fold
        held[fold] += by_patient[patient]
    return fold_of[patient_of]


def train_classifier(
    records: LabelledRecords,
    label_names: Sequence[str],
    config: ClassifierConfig,
    folder: Path,
    *,
    seed: int = 0,
    added: LabelledRecords | None = None,
    validation: LabelledRecords | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Classifier:
    """Train an `Encoder1d` on labelled records, with binary cross-entropy on every label.

    `added` records are drawn with `config.added_share`. With `validation` records (training
    patients, never test patients) training stops early on `config.selection` and keeps the best
    weights; without, it runs `config.steps`. `folder` gets card and weights; a finished training
    of the same records and settings found there is read instead of repeated, an interrupted one
    goes on. CorpusError where shapes or names do not agree; RunError where the folder holds a
    training of other records or settings, or the loss is not finite.
    """
    names = tuple(label_names)
    for part in (records, added, validation):
        _check_agreement(records, part, names)
    scale = np.median(records.signals_mv.std(axis=2, dtype=np.float64), axis=0)
    scale = np.maximum(scale, SMALLEST_SCALE_MV)
    settings = {
        "kind": "classifier",
        "config": dataclasses.asdict(config),
        "seed": seed,
        "label_names": list(names),
        "records": {
            name: None if part is None else part.fingerprint()
            for name, part in (("real", records), ("added", added), ("validation", validation))
        },
        "lead_scale_mv": scale.tolist(),
    }
    _claim(folder, settings)
    if (folder / WEIGHTS).exists():
        return load_classifier(folder)
    parts = [records] if added is None else [records, added]
    signals = np.concatenate([part.signals_mv for part in parts]).astype(np.float32, copy=False)
    labels = np.concatenate([part.labels for part in parts]).astype(np.float32)
    draw = shuffled_batches(
        len(signals), config.batch_size, seed, _drawing_weights(records, added, config)
    )
    divisor = scale[:, None].astype(np.float32)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        index = draw(step)
        return torch.from_numpy(signals[index] / divisor), torch.from_numpy(labels[index])

    encoder = _new_encoder(config, len(names), signals.shape[1], seed)
    classifier = Classifier(encoder, scale, names)
    validate: Callable[[nn.Module], float] | None = None
    if validation is not None:
        held_out = validation
        if config.selection == "macro_auroc" and undefined_classes(held_out.labels).all():
            raise CorpusError(
                "no class of the validation records has both positives and negatives; select by "
                '"bce" or give more records'
            )

        def validate(network: nn.Module) -> float:
            given = in_batches(
                network, network, classifier._scaled(held_out.signals_mv), signals.shape[1]
            )
            if config.selection == "macro_auroc":
                return -macro_auroc(held_out.labels, given)
            truth = torch.from_numpy(held_out.labels.astype(np.float32))
            return float(F.binary_cross_entropy_with_logits(torch.from_numpy(given), truth))

    fit(
        encoder,
        _cross_entropy,
        batch,
        config.training(seed, validated=validation is not None),
        folder,
        validate=validate,
        progress=progress,
    )
    return classifier


def load_classifier(folder: Path) -> Classifier:
    """The classifier that `train_classifier` left in `folder`; RunError where there is none."""
    try:
        card = json.loads((folder / CARD).read_text())
        scale = np.asarray(card["lead_scale_mv"], dtype=np.float64)
        names = tuple(card["label_names"])
        settings = dict(card["config"])
        settings["widths"] = tuple(settings["widths"])
        config = ClassifierConfig(**settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{folder} holds no classifier ({error}); train one there, or remove the folder"
        ) from None
    encoder = _new_encoder(config, len(names), len(scale), 0)
    load_weights(encoder, folder / WEIGHTS)
    return Classifier(encoder.eval(), scale, names)


def compare_arms(
    target: LabelledRecords,
    additions: Mapping[str, LabelledRecords],
    test: LabelledRecords,
    label_names: Sequence[str],
    config: ClassifierConfig,
    folder: Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    resamples: int = BOOTSTRAP_RESAMPLES,
    progress: StepsDone | None = None,
) -> UtilityResult:
    """Target alone against target + each of `additions`, tested on held-out target patients.

    For each arm and seed: `config.folds` trainings, each without one fold of the target records,
    predict that fold, and the thresholds come from these out-of-fold predictions; one training on
    all target records predicts the test records. Synthetic records made by a model that saw the
    held-out fold make the thresholds, never the test scores, slightly optimistic.

    Intervals resample test patients and, because a training is random too, seeds; arms are paired
    in both. Classes without positive (or without negative) test records are left out and named. A
    part that is done in `folder` is not repeated. Errors of `train_classifier` and
    `draw_resamples`; CorpusError also for a patient in both target and test; ConfigError for no or
    repeated seeds, or an addition named as the target-only arm.
    """
    names = tuple(label_names)
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"expected one or more different seeds, got {list(seeds)}")
    if TARGET_ONLY in additions:
        raise ConfigError(f"{TARGET_ONLY!r} is the arm without additions; give another name")
    for part in (target, test, *additions.values()):
        _check_agreement(target, part, names)
    _check_disjoint(target, test)
    undefined = undefined_classes(test.labels)
    if undefined.all():
        raise CorpusError("no class has both positive and negative test records; test on more")
    arms: dict[str, LabelledRecords | None] = {TARGET_ONLY: None, **additions}
    total = len(arms) * len(seeds) * (config.folds + 1) * config.steps
    done = 0
    probabilities: dict[str, list[FloatArray]] = {}
    predictions: dict[str, list[FloatArray]] = {}
    for number, (arm, added) in enumerate(arms.items()):
        probabilities[arm], predictions[arm] = [], []
        for seed in seeds:
            fold_of = stratified_folds(target.labels, target.patients, config.folds, seed)
            out_of_fold = np.empty(target.labels.shape)
            for fold in range(config.folds + 1):
                inside = fold_of != fold
                classifier = train_classifier(
                    target.select(np.flatnonzero(inside)),
                    names,
                    config,
                    folder / f"arm{number}" / f"seed{seed}" / _part(fold, config.folds),
                    seed=seed,
                    added=added,
                    progress=_reporter(progress, done, total),
                )
                done += config.steps
                if progress:
                    progress(done, total)
                if fold < config.folds:
                    out_of_fold[~inside] = classifier(target.signals_mv[~inside])
            thresholds = choose_thresholds(target.labels, out_of_fold, config.thresholds)
            scores = classifier(test.signals_mv).astype(np.float64)
            probabilities[arm].append(scores)
            predictions[arm].append(apply_thresholds(scores, thresholds).astype(np.float64))
    return _scored(arms, probabilities, predictions, target, test, names, seeds, resamples)


def _scored(
    arms: Mapping[str, LabelledRecords | None],
    probabilities: Mapping[str, Sequence[FloatArray]],
    predictions: Mapping[str, Sequence[FloatArray]],
    target: LabelledRecords,
    test: LabelledRecords,
    names: tuple[str, ...],
    seeds: Sequence[int],
    resamples: int,
) -> UtilityResult:
    """The result of all arms from their test probabilities and predictions, a list by seed each."""
    undefined = undefined_classes(test.labels)
    truth = test.labels[:, ~undefined]
    drawn = draw_resamples(truth, test.patients, resamples=resamples)
    picks = np.random.default_rng(0).multinomial(
        len(seeds), np.full(len(seeds), 1 / len(seeds)), size=resamples
    )
    share = picks[:, :, None] / len(seeds)
    whole = np.ones((1, len(truth)), dtype=np.uint16)

    def table(score: WeightedScore, by_seed: Sequence[FloatArray]) -> tuple[FloatArray, FloatArray]:
        """By seed (S, M) on the whole set, and the resampled means over seeds (R, M)."""
        kept = [values[:, ~undefined] for values in by_seed]
        value = np.stack([score(truth, v, whole).reshape(1, -1)[0] for v in kept])
        draws = [score_resamples(score, truth, v, drawn).reshape(resamples, -1) for v in kept]
        return value, (np.stack(draws, axis=1) * share).sum(axis=1)

    results, differences = [], []
    first: dict[str, tuple[FloatArray, FloatArray]] = {}
    for arm, added in arms.items():
        by_class, class_draws = table(weighted_auroc, probabilities[arm])
        tables = {
            "macro_auroc": (by_class.mean(axis=1, keepdims=True), class_draws.mean(axis=1)),
            "f2": table(weighted_f2, predictions[arm]),
            "g2": table(weighted_g2, predictions[arm]),
        }
        results.append(
            ArmResult(
                name=arm,
                target_records=len(target),
                added_records=0 if added is None else len(added),
                per_class_auroc={
                    name: estimate(by_class[:, k].mean(), class_draws[:, k])
                    for k, name in enumerate(np.asarray(names)[~undefined].tolist())
                },
                macro_auroc_by_seed=tuple(by_class.mean(axis=1).tolist()),
                **{
                    name: estimate(value.mean(), draws.ravel())
                    for name, (value, draws) in tables.items()
                },
            )
        )
        if first:
            changes = {
                name: estimate(
                    value.mean() - first[name][0].mean(), draws.ravel() - first[name][1].ravel()
                )
                for name, (value, draws) in tables.items()
            }
            differences.append(ArmDifference(name=arm, **changes))
        else:
            first = tables
    patients = len(test) if test.patients is None else len(np.unique(test.patients))
    return UtilityResult(
        arms=tuple(results),
        differences=tuple(differences),
        test_records=len(test),
        test_patients=patients,
        left_out=tuple(np.asarray(names)[undefined].tolist()),
    )


def _cross_entropy(
    network: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Binary cross-entropy of each record, mean over labels: (B,)."""
    device = next(network.parameters()).device
    x, label = (part.to(device) for part in batch)
    return F.binary_cross_entropy_with_logits(network(x), label, reduction="none").mean(dim=1)


def _drawing_weights(
    records: LabelledRecords, added: LabelledRecords | None, config: ClassifierConfig
) -> FloatArray | None:
    """Chance of each record (real, then added) to be drawn; none where all are equal."""
    if added is None:
        return label_weights(records.labels, config.balance) if config.balance else None
    if config.added_share is None:
        labels = np.concatenate([records.labels, added.labels])
        return label_weights(labels, config.balance) if config.balance else None
    return np.concatenate(
        [
            (1 - config.added_share) * label_weights(records.labels, config.balance),
            config.added_share * label_weights(added.labels, config.balance),
        ]
    )


def _new_encoder(config: ClassifierConfig, outputs: int, leads: int, seed: int) -> Encoder1d:
    """An encoder whose initial weights depend on the seed alone; global randomness untouched."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return Encoder1d(
            EncoderConfig(outputs=outputs, leads=leads, widths=config.widths, blocks=config.blocks)
        )


def _claim(folder: Path, settings: dict[str, object]) -> None:
    """Write the card of a training, or check that the one in the folder is the same."""
    card = folder / CARD
    wanted = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    if card.exists():
        if card.read_text() != wanted:
            raise RunError(
                f"{folder} holds a classifier of other records or settings; use another folder, or "
                "remove this one to train again"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    partial = card.with_name(card.name + ".partial")
    partial.write_text(wanted)
    partial.replace(card)


def _check_agreement(
    first: LabelledRecords, other: LabelledRecords | None, names: tuple[str, ...]
) -> None:
    """CorpusError unless labels fit the names and signals have the leads of `first`."""
    if other is None:
        return
    if other.labels.shape[1] != len(names):
        raise CorpusError(
            f"expected labels of {len(names)} classes ({', '.join(names)}), got "
            f"{other.labels.shape[1]}; encode all sets with one LabelSpace"
        )
    if other.signals_mv.shape[1] != first.signals_mv.shape[1]:
        raise CorpusError(
            f"expected signals of {first.signals_mv.shape[1]} leads in every set, got "
            f"{other.signals_mv.shape[1]}"
        )


def _check_disjoint(target: LabelledRecords, test: LabelledRecords) -> None:
    """CorpusError where a patient is in both sets (checked where both name their patients)."""
    if target.patients is None or test.patients is None:
        return
    shared = np.intersect1d(target.patients, test.patients)
    if len(shared):
        raise CorpusError(
            f"{len(shared)} patients are in both target and test, {shared[0]} for one; split by "
            "patient"
        )


def _part(fold: int, folds: int) -> str:
    """Folder name of a training: without fold 0, 1, ..., then on all records."""
    return "all" if fold == folds else f"without-fold{fold}"


def _reporter(
    progress: StepsDone | None, done: int, total: int
) -> Callable[[Progress], None] | None:
    """A `fit` progress that counts on from the trainings before."""
    if progress is None:
        return None
    return lambda now: progress(done + now.step, total)
