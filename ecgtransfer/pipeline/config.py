"""Presets and settings of the source model; cards state the settings that were used."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from ecgtransfer.diffusion import condition_inputs
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNetConfig
from ecgtransfer.storage import OMIT_AT_DEFAULT
from ecgtransfer.training import TrainConfig

PrecisionName = Literal["auto", "float32", "bfloat16"]

#: Training of the rhythm and beat-shape models of a factorised source: minutes on one core each.
RHYTHM_TRAINING = TrainConfig(
    steps=5000, batch_size=256, learning_rate=3e-3, ema_decay=0.995, validate_every=500
)
SHAPE_TRAINING = TrainConfig(
    steps=12000, batch_size=256, learning_rate=2e-3, ema_decay=0.999, validate_every=500
)


@dataclass(frozen=True)
class SourcePreset:
    """Shape and training of the source model.

    Attributes:
        widths: channels of each level of the U-Net.
        blocks: residual blocks per level.
        fold: samples folded into channels before the first convolution.
        attention: number of deepest levels with self-attention.
        conditioning: size of the embedding of noise level and condition.
        train: training of the record model.
        spectral: number of shallowest levels with spectral gates.
        rhythm: training of the rhythm model of a factorised source.
        beat_shapes: training of the beat-shape model of a factorised source.
    """

    widths: tuple[int, ...]
    blocks: int
    fold: int
    attention: int
    conditioning: int
    train: TrainConfig
    spectral: int = 0
    rhythm: TrainConfig = RHYTHM_TRAINING
    beat_shapes: TrainConfig = SHAPE_TRAINING

    def unet(self, labels: int, leads: int, factorised: bool = False) -> UNetConfig:
        """Return the configuration of the network for `labels` diagnoses.

        The network of a factorised model is given for each diagnosis whether it is present, absent
        or unknown, and also beats, layout and level.
        """
        channels, scalars = condition_inputs(leads) if factorised else (0, 0)
        return UNetConfig(
            labels=labels * (1 + factorised),
            leads=leads,
            fold=self.fold,
            widths=self.widths,
            blocks=self.blocks,
            attention=self.attention,
            spectral=self.spectral,
            conditioning=self.conditioning,
            condition_channels=channels,
            scalars=scalars,
        )


#: tiny: for tests and first trials, minutes on two cores. cpu: hours on two cores. gpu: for one
#: large GPU.
PRESETS: dict[str, SourcePreset] = {
    "tiny": SourcePreset(
        widths=(48, 96, 128),
        blocks=1,
        fold=8,
        attention=1,
        conditioning=128,
        train=TrainConfig(
            steps=500, batch_size=32, learning_rate=2e-3, ema_decay=0.99, validate_every=250
        ),
        rhythm=replace(RHYTHM_TRAINING, steps=100, batch_size=32, ema_decay=0.9),
        beat_shapes=replace(SHAPE_TRAINING, steps=200, batch_size=32, ema_decay=0.9),
    ),
    "cpu": SourcePreset(
        widths=(128, 192, 256),
        blocks=1,
        fold=8,
        attention=1,
        conditioning=256,
        train=TrainConfig(
            steps=20000, batch_size=32, learning_rate=1e-3, ema_decay=0.999, validate_every=1000
        ),
    ),
    "gpu": SourcePreset(
        widths=(128, 256, 384, 512),
        blocks=2,
        fold=4,
        attention=2,
        conditioning=512,
        train=TrainConfig(
            steps=60000, batch_size=512, learning_rate=5e-4, ema_decay=0.9995, validate_every=2000
        ),
    ),
}


def preset(name: str) -> SourcePreset:
    """Return the preset with this name.

    Raises:
        ConfigError: there is no such preset.
    """
    for known, value in PRESETS.items():
        if known == name:
            return value
    raise ConfigError(
        f"expected a preset of {', '.join(PRESETS)}, got {name!r}; choose one of these"
    )


@dataclass(frozen=True)
class SourceSettings:
    """Settings of the training of a source model.

    Attributes:
        source: folder of the prepared source set.
        select: selection of its source records, in the form of `select_records`.
        validation: selection of the held-out records; empty for a patient-disjoint twentieth.
        preset: name of the preset for shape and training.
        steps: training steps; None for the preset's.
        batch_size: records per step; None for the preset's.
        learning_rate: peak learning rate; None for the preset's.
        seed: seed of all random draws.
        precision: arithmetic of the network; "auto" for the fastest.
        accumulate: batches per step in each process.
        factorised: True for three models: rhythm, beat shapes given the rhythm, and records given
            both (`diffusion.Cascade`); False for one model of records given the label.
        least_records: statements with fewer training records are not learned, except for the ICBEB
            classes.

    Raises:
        ConfigError: a setting is out of its range.
    """

    source: Path
    select: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    preset: str = "cpu"
    steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    precision: str = "auto"
    accumulate: int = field(default=1, metadata=OMIT_AT_DEFAULT)
    factorised: bool = field(default=False, metadata=OMIT_AT_DEFAULT)
    least_records: int = field(default=1, metadata=OMIT_AT_DEFAULT)

    def __post_init__(self) -> None:
        preset(self.preset)
        if self.least_records < 0:
            raise ConfigError(
                f"expected least_records of at least 0, got {self.least_records}; raise it"
            )
        if self.precision not in get_args(PrecisionName):
            raise ConfigError(
                f"expected a precision of {', '.join(get_args(PrecisionName))}, got "
                f"{self.precision!r}; choose one of these"
            )
        self.train()

    def train(self) -> TrainConfig:
        """Return the preset's training with the steps, batch size and rate of these settings."""
        config = replace(preset(self.preset).train, seed=self.seed, accumulate=self.accumulate)
        if self.steps is not None:
            config = replace(config, steps=self.steps)
        if self.batch_size is not None:
            config = replace(config, batch_size=self.batch_size)
        if self.learning_rate is not None:
            config = replace(config, learning_rate=self.learning_rate)
        return config
