"""Settings of the transfer of rhythm and beat shapes."""

from dataclasses import dataclass, field, replace

from ecgtransfer.training import TrainConfig
from ecgtransfer.transfer import (
    FinetuneConfig,
    TgdpConfig,
)


def shape_guidance() -> TgdpConfig:
    """Return the default training of the guidance of beat shapes."""
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
    """Return the default training of fine-tuned beat shapes."""
    config = FinetuneConfig()
    return replace(config, train=replace(config.train, batch_size=64, learning_rate=1e-4))


@dataclass(frozen=True)
class CascadeSettings:
    """Settings of the transfer of rhythm and beat shapes.

    Attributes:
        draws: rhythms (and beat shapes, if the guidance loss is used) sampled from the source's
            models per target record.
        tgdp: losses and training of the guidance of beat shapes. There is no domain classifier, so
            the positives of the guidance loss are target records.
        finetune: training of fine-tuned beat shapes.
    """

    draws: int = 8
    tgdp: TgdpConfig = field(default_factory=shape_guidance)
    finetune: FinetuneConfig = field(default_factory=shape_finetuning)
