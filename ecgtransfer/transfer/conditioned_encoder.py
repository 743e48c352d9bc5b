"""The network of a domain classifier of conditioned records."""

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import as_condition
from ecgtransfer.diffusion.condition import Given, channels_of, label_inputs
from ecgtransfer.models import Encoder1d


class ConditionedEncoder(nn.Module):
    """An `Encoder1d` that reads the beats and the layout of a record as additional leads.

    It reads each statement as two columns, present and absent; both are 0 if the statement is
    unknown. The same statements must be known in both domains; otherwise the pattern of unknown
    statements would reveal the domain.

    Args:
        encoder: network for the leads of signal, beats and layout together, and for two label
            columns per statement.
    """

    def __init__(self, encoder: Encoder1d) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """(B, leads, T), (B,) or None, a condition with beats and layout -> (B, outputs)."""
        given = as_condition(label)
        values, _ = label_inputs(given, masked=True)
        channels = channels_of(given)
        inputs = x if channels is None else torch.cat([x, channels.to(x)], dim=1)
        result: Tensor = self.encoder(inputs, sigma, values)
        return result
