"""The networks of transfer methods for ECG signals."""

from torch import nn

from ecgtransfer.diffusion import DiffusionModel
from ecgtransfer.transfer.methods.base import Networks
from ecgtransfer.transfer.potential import GuidanceConfig, GuidanceNetwork


def signal_networks(model: DiffusionModel) -> Networks:
    """Return factories of networks that match a source model of ECGs."""
    config = model.config

    def guidance() -> nn.Module:
        return GuidanceNetwork(
            GuidanceConfig(
                labels=len(config.label_names),
                leads=config.unet.leads,
                masked_labels=config.masked_labels,
                condition_channels=config.unet.condition_channels,
                scalars=config.unet.scalars,
            )
        )

    def denoiser() -> nn.Module:
        new = DiffusionModel(config)
        new.units.load_state_dict(model.units.state_dict())
        if new.layout_units is not None and model.layout_units is not None:
            new.layout_units.load_state_dict(model.layout_units.state_dict())
        return new

    return Networks(guidance, denoiser)
