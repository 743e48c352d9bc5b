"""Networks as plain `nn.Module`s, independent of noise schedules, losses and files."""

from ecgtransfer.models.blocks import (
    Conditioning,
    FeedForward,
    FourierFeatures,
    ResidualBlock,
    Rotation,
    SelfAttention,
    SpectralGate,
    attend,
    fold,
    group_norm,
    unfold,
    zero_init_,
)
from ecgtransfer.models.encoder import Encoder1d, EncoderConfig
from ecgtransfer.models.residual_mlp import ResidualMLP, ResidualMLPConfig
from ecgtransfer.models.unet import UNet1d, UNetConfig

__all__ = [
    "Conditioning",
    "Encoder1d",
    "EncoderConfig",
    "FeedForward",
    "FourierFeatures",
    "ResidualBlock",
    "ResidualMLP",
    "ResidualMLPConfig",
    "Rotation",
    "SelfAttention",
    "SpectralGate",
    "UNet1d",
    "UNetConfig",
    "attend",
    "fold",
    "group_norm",
    "unfold",
    "zero_init_",
]
