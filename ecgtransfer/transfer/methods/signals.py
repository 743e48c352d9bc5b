"""The networks of ECG signals, for any transfer method."""

from torch import nn

from ecgtransfer.diffusion import DiffusionModel
from ecgtransfer.transfer.methods.base import Networks
from ecgtransfer.transfer.potential import GuidanceConfig, GuidanceNetwork


def signal_networks(model: DiffusionModel) -> Networks:
    """Networks of the shape of a source model of ECGs, in its units."""
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
        fresh = DiffusionModel(config)
        fresh.units.load_state_dict(model.units.state_dict())
        if fresh.layout_units is not None and model.layout_units is not None:
            fresh.layout_units.load_state_dict(model.layout_units.state_dict())
        return fresh

    return Networks(guidance, denoiser)
