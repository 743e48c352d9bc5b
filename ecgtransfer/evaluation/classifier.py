"""The downstream classifier: its settings, its records, and one training of it."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.defaults import CLASSIFIER_FOLDS, CLASSIFIER_STEPS
from ecgtransfer.errors import ConfigError, CorpusError, RunError
from ecgtransfer.evaluation.augmentation import Augmentation
from ecgtransfer.evaluation.embedding import BATCH_SIZE, embed, in_batches
from ecgtransfer.evaluation.labelled import LabelledRecords
from ecgtransfer.evaluation.metrics import (
    macro_auroc,
)
from ecgtransfer.models import Encoder1d, EncoderConfig
from ecgtransfer.statistics import (
    FloatArray,
    streams,
    undefined_classes,
)
from ecgtransfer.storage import from_card, make_folder, read_json, write_json
from ecgtransfer.training import (
    WEIGHTS,
    Progress,
    TrainConfig,
    fit,
    label_weights,
    load_weights,
    seeded_initialisation,
    shuffled_batches,
    step_generator,
)

#: Smallest lead amplitude in millivolts that a signal is divided by: one int16 microvolt.
SMALLEST_SCALE_MV = 1e-3

CARD = "card.json"


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of one classifier, the same for every arm.

    widths and blocks: shape of the `Encoder1d`. steps, batch_size, learning_rate, weight_decay,
    ema_decay: its training, fixed in advance. balance: power of `training.label_weights`, 0 draws
    the records as they come, 1 balances the classes. added_share: share of each batch drawn from
    the added records, so that many of them do not drown the few real ones; none means by number.
    folds: parts of the cross-fitting behind the thresholds. thresholds: the rule of
    `choose_thresholds`. validate_every, patience, selection: early stopping where
    `train_classifier` is given validation records. pretraining_steps, finetuning_rate: steps on
    the source and learning rate on the target of an arm that is pre-trained.

    Defaults by trial on 80 records of one PTB-XL device, alone and with 828 records of the other
    devices (test macro AUROC 0.69 and 0.91): a learning rate of 5e-3 gained 0.03 alone, but lost up
    to 0.2 on some seeds with the added records at 100 steps. Pre-training on 6,000 PTB-XL records
    without that device: 300, 1000 and 2000 steps gave 0.93, 0.96 and 0.96 on it as they were.
    Training on from the second gave 0.96, 0.95 and 0.93 at rates of 2e-4, 5e-4 and 2e-3 on the
    device's 80 records, and 0.92, 0.92 and 0.91 at 2e-4, 5e-4 and 1e-3 on 53 of ICBEB (0.88
    before).
    """

    widths: tuple[int, ...] = (32, 64, 96, 128)
    blocks: int = 1
    steps: int = CLASSIFIER_STEPS
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    ema_decay: float = 0.99
    balance: float = 0.5
    added_share: float | None = 0.5
    folds: int = CLASSIFIER_FOLDS
    thresholds: Literal["g_beta", "youden"] = "g_beta"
    validate_every: int = 25
    patience: int = 8
    selection: Literal["bce", "macro_auroc"] = "bce"
    pretraining_steps: int = 1000
    finetuning_rate: float = 2e-4

    def __post_init__(self) -> None:
        self.training(seed=0)
        dataclasses.replace(
            self.training(seed=0), steps=self.pretraining_steps, learning_rate=self.finetuning_rate
        )
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

    def pretraining(self) -> "ClassifierConfig":
        """The settings of a pre-training on the source."""
        return dataclasses.replace(self, steps=self.pretraining_steps)

    def finetuning(self) -> "ClassifierConfig":
        """The settings of the training that goes on from there."""
        return dataclasses.replace(self, learning_rate=self.finetuning_rate)


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

    def fingerprint(self) -> str:
        """SHA-256 of weights, scale and label names."""
        digest = hashlib.sha256(repr((self.label_names, self.lead_scale_mv.tolist())).encode())
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
        return digest.hexdigest()

    def _scaled(self, signals_mv: npt.ArrayLike) -> npt.NDArray[np.float32]:
        signals = np.asarray(signals_mv, dtype=np.float32)
        if signals.ndim != 3 or signals.shape[1] != len(self.lead_scale_mv):
            raise CorpusError(
                f"expected signals (records, {len(self.lead_scale_mv)} leads, samples), got shape "
                f"{signals.shape}"
            )
        return np.asarray(signals / self.lead_scale_mv[:, None], dtype=np.float32)


def lead_scale(records: LabelledRecords) -> FloatArray:
    """What a classifier of these records divides each lead by, in millivolts: (leads,)."""
    signals = records.signals_mv
    deviations = [
        signals[start : start + BATCH_SIZE].std(axis=2, dtype=np.float64)
        for start in range(0, len(signals), BATCH_SIZE)  # all at once would be twice the records
    ]
    scale = np.median(np.concatenate(deviations), axis=0)
    floored: FloatArray = np.maximum(scale, SMALLEST_SCALE_MV)
    return floored


@dataclass(frozen=True, eq=False)
class ClassifierTraining:
    """One training, described whole: two with the same `key` end in the same weights.

    Attributes:
        records: what it is about.
        label_names: of the K labels, in order.
        config: shape and training.
        seed: of initial weights, batches and augmentation.
        added: records drawn beside them with `config.added_share`.
        start: classifier whose weights it starts from; none starts at random.
        augmentation: changes every record each time that it is drawn.
        validation: training patients on whose records it is stopped early.
        lead_scale_mv: what each lead is divided by, (leads,); by default that of `records`.

    Raises:
        CorpusError: labels or leads that do not agree, or validation records by which nothing can
            be selected.
        ConfigError: a `start` of another shape or other labels.
    """

    records: LabelledRecords
    label_names: tuple[str, ...]
    config: ClassifierConfig
    seed: int = 0
    added: LabelledRecords | None = None
    start: Classifier | None = None
    augmentation: Augmentation | None = None
    validation: LabelledRecords | None = None
    lead_scale_mv: FloatArray | None = None

    def __post_init__(self) -> None:
        for part in (self.records, self.added, self.validation):
            check_agreement(self.records, part, self.label_names)
        if self.added is not None and (
            self.added.signals_mv.shape[1:] != self.records.signals_mv.shape[1:]
        ):
            raise CorpusError(
                f"expected added signals of {self.records.signals_mv.shape[2]} samples, as the "
                f"others have, got {self.added.signals_mv.shape[2]}; cut or pad them"
            )
        if self.start is not None and (
            self.start.label_names != self.label_names or self.start.encoder.config != self._shape
        ):
            raise ConfigError(
                f"expected to start from a classifier of {self._shape} for "
                f"{', '.join(self.label_names)}, got one of {self.start.encoder.config} for "
                f"{', '.join(self.start.label_names)}; pre-train it with the same settings"
            )
        if (
            self.validation is not None
            and self.config.selection == "macro_auroc"
            and undefined_classes(self.validation.labels).all()
        ):
            raise CorpusError(
                "no class of the validation records has both positives and negatives; select by "
                '"bce" or give more records'
            )

    @property
    def _shape(self) -> EncoderConfig:
        return EncoderConfig(
            outputs=len(self.label_names),
            leads=self.records.signals_mv.shape[1],
            widths=self.config.widths,
            blocks=self.config.blocks,
        )

    @cached_property
    def _scale(self) -> FloatArray:
        return lead_scale(self.records) if self.lead_scale_mv is None else self.lead_scale_mv

    @property
    def _train(self) -> TrainConfig:
        return self.config.training(self.seed, validated=self.validation is not None)

    @cached_property
    def card(self) -> dict[str, Any]:
        """All that decides the weights, and what `load_classifier` needs."""
        records = {"real": self.records, "added": self.added, "validation": self.validation}
        return {
            "kind": "classifier",
            "encoder": {"widths": list(self.config.widths), "blocks": self.config.blocks},
            "train": self._train.binding,
            "balance": self.config.balance,
            "added_share": None if self.added is None else self.config.added_share,
            "selection": None if self.validation is None else self.config.selection,
            "augmentation": None if self.augmentation is None else self.augmentation.describe(),
            "start": None if self.start is None else self.start.fingerprint(),
            "label_names": list(self.label_names),
            "records": {k: None if v is None else v.fingerprint() for k, v in records.items()},
            "lead_scale_mv": self._scale.tolist(),
        }

    @property
    def key(self) -> str:
        """A name of the training, 16 hexadecimal digits of the hash of its card."""
        return hashlib.sha256(json.dumps(self.card, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, folder: Path, progress: Callable[[Progress], None] | None = None) -> Classifier:
        """Train with binary cross-entropy on every label, or read what is done; see `fit`.

        `folder` gets card and weights. RunError where it holds a training of other records or
        settings, or the loss is not finite.
        """
        _claim(folder, self.card)
        if (folder / WEIGHTS).exists():
            return load_classifier(folder)
        with seeded_initialisation(self.seed):
            encoder = Encoder1d(self._shape)
        if self.start is not None:
            encoder.load_state_dict(self.start.encoder.state_dict())
        classifier = Classifier(encoder, self._scale, self.label_names)
        fit(
            encoder,
            _cross_entropy,
            self._batches(),
            self._train,
            folder,
            validate=None if self.validation is None else self._score_of(classifier),
            progress=progress,
        )
        return classifier

    def _batches(self) -> Callable[[int], tuple[Tensor, Tensor]]:
        """Scaled signals (B, leads, T) and labels (B, K) of a step, a pure function of it."""
        parts = [self.records] if self.added is None else [self.records, self.added]
        labels = np.concatenate([part.labels for part in parts]).astype(np.float32)
        draw = shuffled_batches(
            len(labels), self.config.batch_size, self.seed, self._drawing_weights()
        )
        first = len(self.records)
        divisor = torch.from_numpy(self._scale[:, None].astype(np.float32))

        def signals_of(index: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
            if self.added is None:
                return self.records.signals_mv[index].astype(np.float32, copy=False)
            inside = index < first
            signals = np.empty((len(index), *self.records.signals_mv.shape[1:]), np.float32)
            signals[inside] = self.records.signals_mv[index[inside]]
            signals[~inside] = self.added.signals_mv[index[~inside] - first]
            return signals

        def batch(step: int) -> tuple[Tensor, Tensor]:
            index = draw(step)
            signals = torch.from_numpy(signals_of(index))
            if self.augmentation is not None:
                generator = step_generator(self.seed, step, streams.STEP_AUGMENTATION)
                signals = self.augmentation(signals, generator)
            return signals / divisor, torch.from_numpy(labels[index])

        return batch

    def _drawing_weights(self) -> FloatArray | None:
        """Chance of each record (records, then added) to be drawn; none where all are equal."""
        config = self.config
        if self.added is None:
            return label_weights(self.records.labels, config.balance) if config.balance else None
        if config.added_share is None:
            labels = np.concatenate([self.records.labels, self.added.labels])
            return label_weights(labels, config.balance) if config.balance else None
        return np.concatenate(
            [
                (1 - config.added_share) * label_weights(self.records.labels, config.balance),
                config.added_share * label_weights(self.added.labels, config.balance),
            ]
        )

    def _score_of(self, classifier: Classifier) -> Callable[[nn.Module], float]:
        """Score of a network on the validation records, lower is better."""
        held_out = self.validation
        assert held_out is not None
        scaled = classifier._scaled(held_out.signals_mv)
        truth = torch.from_numpy(held_out.labels.astype(np.float32))

        def validate(network: nn.Module) -> float:
            given = in_batches(network, network, scaled, scaled.shape[1])
            if self.config.selection == "macro_auroc":
                return -macro_auroc(held_out.labels, given)
            return float(F.binary_cross_entropy_with_logits(torch.from_numpy(given), truth))

        return validate


def train_classifier(
    records: LabelledRecords,
    label_names: Sequence[str],
    config: ClassifierConfig,
    folder: Path,
    *,
    seed: int = 0,
    added: LabelledRecords | None = None,
    start: Classifier | None = None,
    augmentation: Augmentation | None = None,
    validation: LabelledRecords | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Classifier:
    """Train an `Encoder1d` on labelled records, with binary cross-entropy on every label.

    `added` records are drawn with `config.added_share`. Training starts from the weights of
    `start`, if given, and `augmentation` changes every record anew each time that it is drawn. With
    `validation` records (training patients, never test patients) training stops early on
    `config.selection` and keeps the best weights; without, it runs `config.steps`. `folder` gets
    card and weights; a finished training of the same records and settings found there is read
    instead of repeated, an interrupted one goes on. CorpusError where shapes or names do not agree;
    ConfigError for a `start` of another shape; RunError where the folder holds a training of other
    records or settings, or the loss is not finite.
    """
    training = ClassifierTraining(
        records,
        tuple(label_names),
        config,
        seed=seed,
        added=added,
        start=start,
        augmentation=augmentation,
        validation=validation,
    )
    return training.run(folder, progress)


def load_classifier(folder: Path) -> Classifier:
    """The classifier that `train_classifier` left in `folder`; RunError where there is none."""
    path = folder / CARD
    try:
        card = read_json(path)
        scale = np.array(from_card(tuple[float, ...], card, path, "lead_scale_mv"))
        names = from_card(tuple[str, ...], card, path, "label_names")
        shape = EncoderConfig(
            outputs=len(names),
            leads=len(scale),
            widths=from_card(tuple[int, ...], card, path, "encoder.widths"),
            blocks=from_card(int, card, path, "encoder.blocks"),
        )
    except RunError as error:
        raise RunError(
            f"{folder} holds no classifier ({error}); train one there, or remove the folder"
        ) from None
    with seeded_initialisation(0):
        encoder = Encoder1d(shape)
    load_weights(encoder, folder / WEIGHTS)
    return Classifier(encoder.eval(), scale, names)


def check_agreement(
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


def _cross_entropy(
    network: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Binary cross-entropy of each record, mean over labels: (B,)."""
    device = next(network.parameters()).device
    x, label = (part.to(device) for part in batch)
    return F.binary_cross_entropy_with_logits(network(x), label, reduction="none").mean(dim=1)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the card of a training, or check that the one in the folder is the same."""
    path = folder / CARD
    if not path.exists():
        make_folder(folder)
        write_json(path, settings)
    elif read_json(path) != json.loads(json.dumps(settings)):
        raise RunError(
            f"{folder} holds a classifier of other records or settings; use another folder, or "
            "remove this one to train again"
        )
