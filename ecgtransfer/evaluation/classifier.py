"""The downstream classifier: its settings, its training, and the trained network."""

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

#: Smallest lead scale in millivolts: one microvolt, the resolution of an `ECGSet`.
SMALLEST_SCALE_MV = 1e-3

CARD = "card.json"


@dataclass(frozen=True)
class ClassifierConfig:
    """Settings of the classifier, the same for every arm.

    The defaults were chosen on 80 records of one PTB-XL device. All scores are test macro AUROC:
    - Training on these records alone gave 0.69, and 0.91 with 828 records of the other devices. A
      learning rate of 5e-3 gained 0.03 alone, but lost up to 0.2 for some seeds with the added
      records at 100 steps.
    - Pre-training on 6,000 PTB-XL records without that device, for 300, 1000 and 2000 steps, gave
      0.93, 0.96 and 0.96 on the device without fine-tuning.
    - Fine-tuning after 1000 steps gave 0.96, 0.95 and 0.93 at rates of 2e-4, 5e-4 and 2e-3 on the
      80 records, and 0.92, 0.92 and 0.91 at 2e-4, 5e-4 and 1e-3 on 53 records of ICBEB (0.88
      before).

    Attributes:
        widths: channels of each level of the `Encoder1d`.
        blocks: residual blocks per level.
        steps: training steps.
        batch_size: records per step.
        learning_rate: peak learning rate.
        weight_decay: weight decay of the optimizer.
        ema_decay: decay of the moving average of the weights.
        balance: power of `training.label_weights`; 0 draws records uniformly, 1 balances classes.
        added_share: share of each batch that is drawn from the added records, so that many of them
            do not outweigh the few real ones; None draws in proportion to the record counts.
        folds: folds of the cross-fitting from which thresholds are chosen.
        thresholds: rule of `choose_thresholds`.
        validate_every: steps between validations, if validation records are given.
        patience: validations without improvement before training stops.
        selection: validation score by which the weights are selected.
        pretraining_steps: steps on the source, in an arm that is pre-trained.
        finetuning_rate: learning rate on the target, in an arm that is pre-trained.

    Raises:
        ConfigError: a setting is out of its range.
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
            raise ConfigError(f"expected balance in [0, 1], got {self.balance}; change it")
        if self.added_share is not None and not 0 < self.added_share < 1:
            raise ConfigError(
                f"expected added_share between 0 and 1, or None, got {self.added_share}; change it"
            )
        if self.folds < 2:
            raise ConfigError(
                f"expected at least 2 folds for cross-fitting, got {self.folds}; raise folds"
            )
        if self.thresholds not in ("g_beta", "youden"):
            raise ConfigError(
                f'unknown threshold rule {self.thresholds!r}; expected "g_beta" or "youden"'
            )
        if self.validate_every < 1 or self.patience < 1:
            raise ConfigError(
                f"expected validate_every and patience of at least 1, got {self.validate_every} "
                f"and {self.patience}; raise them"
            )
        if self.selection not in ("bce", "macro_auroc"):
            raise ConfigError(
                f'unknown selection {self.selection!r}; expected "bce" or "macro_auroc"'
            )

    def training(self, seed: int, *, validated: bool = False) -> TrainConfig:
        """Return the settings of `training.fit`, with early stopping if `validated`."""
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
        """Return the settings for pre-training on the source."""
        return dataclasses.replace(self, steps=self.pretraining_steps)

    def finetuning(self) -> "ClassifierConfig":
        """Return the settings for fine-tuning a pre-trained classifier on the target."""
        return dataclasses.replace(self, learning_rate=self.finetuning_rate)


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier: signals in millivolts to one probability per label.

    Attributes:
        encoder: network from scaled signals to K logits.
        lead_scale_mv: value that each lead is divided by, (leads,): the median over the training
            records of the lead's standard deviation.
        label_names: names of the K outputs, in order.
    """

    encoder: Encoder1d
    lead_scale_mv: FloatArray
    label_names: tuple[str, ...]

    def __call__(
        self, signals_mv: npt.ArrayLike, *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Return probabilities (n, K) of signals (n, leads, T) in millivolts.

        Raises:
            CorpusError: the signals have another shape or number of leads.
            ConfigError: the batch size is below 1.
        """
        leads = self.encoder.config.leads
        scaled = self._scaled(signals_mv)
        return in_batches(
            self.encoder, lambda x: self.encoder(x).sigmoid(), scaled, leads, batch_size
        )

    def features(
        self, signals_mv: npt.ArrayLike, *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Return the features (n, F) before the last layer; same arguments and errors as a call."""
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
                f"{signals.shape}; pass the leads that the classifier was trained on"
            )
        return np.asarray(signals / self.lead_scale_mv[:, None], dtype=np.float32)


def lead_scale(records: LabelledRecords) -> FloatArray:
    """Median over records of each lead's standard deviation, in millivolts: (leads,)."""
    signals = records.signals_mv
    deviations = [
        signals[start : start + BATCH_SIZE].std(axis=2, dtype=np.float64)
        for start in range(0, len(signals), BATCH_SIZE)  # in blocks, to bound the memory
    ]
    scale = np.median(np.concatenate(deviations), axis=0)
    floored: FloatArray = np.maximum(scale, SMALLEST_SCALE_MV)
    return floored


@dataclass(frozen=True, eq=False)
class ClassifierTraining:
    """Everything that determines one training: two with the same `key` give the same weights.

    Attributes:
        records: real training records.
        label_names: names of the K labels, in order.
        config: shape of the network and settings of the training.
        seed: seed of the initial weights, batches and augmentation.
        added: synthetic records that are drawn with `config.added_share`.
        start: classifier whose weights the training starts from; None starts at random.
        augmentation: transforms applied to every record each time it is drawn.
        validation: records of other training patients, for early stopping.
        lead_scale_mv: value that each lead is divided by, (leads,); by default that of `records`.

    Raises:
        CorpusError: labels or leads of the records differ, or no weights can be selected on the
            validation records.
        ConfigError: `start` has another shape or other labels.
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
        """All settings that determine the weights, and the fields that `load_classifier` reads."""
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
        """Identifier of the training: 16 hexadecimal digits of the hash of its card."""
        return hashlib.sha256(json.dumps(self.card, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, folder: Path, progress: Callable[[Progress], None] | None = None) -> Classifier:
        """Train with binary cross-entropy, or load the classifier if the training is finished.

        Args:
            folder: folder of card and weights; an interrupted training in it is resumed.
            progress: called as by `training.fit`.

        Raises:
            RunError: the folder has a training with other records or settings, or the loss is not
                finite.
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
        """Function from a step to its batch: scaled signals (B, leads, T) and labels (B, K)."""
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
        """Weights for drawing each record (`records`, then `added`); None if all are equal."""
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
        """Function from a network to its score on the validation records; lower is better."""
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
    """Train an `Encoder1d` on labelled records with binary cross-entropy on every label.

    Args:
        records: training records.
        label_names: names of the K labels, in order.
        config: shape of the network and settings of the training.
        folder: folder of card and weights. A finished training with the same records and settings
            is loaded from it, an interrupted one is resumed.
        seed: seed of the initial weights, batches and augmentation.
        added: records that are drawn with `config.added_share`.
        start: classifier whose weights the training starts from; None starts at random.
        augmentation: transforms applied to every record each time it is drawn.
        validation: records of training patients, never of test patients. With them, training stops
            early and keeps the best weights by `config.selection`; without, it runs all steps.
        progress: called as by `training.fit`.

    Raises:
        CorpusError: shapes or label names differ.
        ConfigError: `start` has another shape or other labels.
        RunError: the folder has a training with other records or settings, or the loss is not
            finite.
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
    """Load the classifier that `train_classifier` wrote into `folder`.

    Raises:
        RunError: the folder has no complete classifier.
    """
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
    """Check that labels fit the names and that signals have the leads of `first`.

    Raises:
        CorpusError: they do not.
    """
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
            f"{other.signals_mv.shape[1]}; select the same leads in all sets"
        )


def _cross_entropy(
    network: nn.Module, batch: tuple[Tensor, Tensor], generator: torch.Generator
) -> Tensor:
    """Binary cross-entropy of each record, mean over labels: (B,)."""
    device = next(network.parameters()).device
    x, label = (part.to(device) for part in batch)
    return F.binary_cross_entropy_with_logits(network(x), label, reduction="none").mean(dim=1)


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Write the card of a training, or check that the card in the folder is the same."""
    path = folder / CARD
    if not path.exists():
        make_folder(folder)
        write_json(path, settings)
    elif read_json(path) != json.loads(json.dumps(settings)):
        raise RunError(
            f"expected a classifier of these records and settings in {folder}, found one of other "
            "records or settings; use another folder, or remove this one to train again"
        )
