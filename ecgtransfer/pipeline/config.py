"""Settings of each stage, resolved: what goes to disk is what was used."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from ecgtransfer.diffusion import condition_inputs
from ecgtransfer.errors import ConfigError
from ecgtransfer.models import UNetConfig
from ecgtransfer.storage import OMIT_AT_DEFAULT
from ecgtransfer.training import TrainConfig

PrecisionName = Literal["auto", "float32", "bfloat16"]

#: Training of the rhythm and beat-shape models of a factorised source: minutes of one core each.
RHYTHM_TRAINING = TrainConfig(
    steps=5000, batch_size=256, learning_rate=3e-3, ema_decay=0.995, validate_every=500
)
SHAPE_TRAINING = TrainConfig(
    steps=8000, batch_size=256, learning_rate=2e-3, ema_decay=0.999, validate_every=500
)


@dataclass(frozen=True)
class SourcePreset:
    """Shape of the source model and the training that suits it."""

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
        """The network for a label space of `labels` diagnoses.

        A factorised model's knows of each whether it is present, absent or unknown, and is given
        beats, layout and level.
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


#: tiny: tests and first trials, minutes on two cores. cpu: hours on two cores. gpu: one large card.
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
    """The preset of that name, or a sentence that lists them."""
    for known, value in PRESETS.items():
        if known == name:
            return value
    raise ConfigError(f"expected a preset of {', '.join(PRESETS)}, got {name!r}")


@dataclass(frozen=True)
class SourceSettings:
    """What `train` is asked for.

    Attributes:
        source: folder of the prepared source set.
        select: which of its records are source, as `select_records` reads it.
        validation: which of those are only scored; empty takes a patient-disjoint twentieth.
        preset: shape and training of the model.
        steps, batch_size, learning_rate: in place of the preset's.
        seed: of everything that is drawn.
        precision: arithmetic of the network; "auto" takes the fastest.
        accumulate: batches a step in each process.
        factorised: whether the model is one of rhythm, of beat shapes given the rhythm, and of
            records given both (`diffusion.Cascade`); else one of records given the label.
        least_records: statements with fewer training records are left out of the label space,
            but for those of the ICBEB classes.
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
            raise ConfigError(f"expected least_records of at least 0, got {self.least_records}")
        if self.precision not in get_args(PrecisionName):
            raise ConfigError(
                f"expected a precision of {', '.join(get_args(PrecisionName))}, got "
                f"{self.precision!r}"
            )
        self.train()

    def train(self) -> TrainConfig:
        """The preset's training with what was asked for in its place."""
        config = replace(preset(self.preset).train, seed=self.seed, accumulate=self.accumulate)
        if self.steps is not None:
            config = replace(config, steps=self.steps)
        if self.batch_size is not None:
            config = replace(config, batch_size=self.batch_size)
        if self.learning_rate is not None:
            config = replace(config, learning_rate=self.learning_rate)
        return config
