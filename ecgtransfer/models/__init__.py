"""Networks: plain `nn.Module`s that know nothing of noise schedules, losses or files."""

from ecgtransfer.models.blocks import (
    Conditioning,
    FourierFeatures,
    ResidualBlock,
    SelfAttention,
    fold,
    group_norm,
    unfold,
    zero,
)
from ecgtransfer.models.encoder import Encoder1d, EncoderConfig
from ecgtransfer.models.unet import UNet1d, UNetConfig

__all__ = [
    "Conditioning",
    "Encoder1d",
    "EncoderConfig",
    "FourierFeatures",
    "ResidualBlock",
    "SelfAttention",
    "UNet1d",
    "UNetConfig",
    "fold",
    "group_norm",
    "unfold",
    "zero",
]
