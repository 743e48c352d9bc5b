"""The network of a domain classifier, which sees what a record is conditioned on."""

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import as_condition
from ecgtransfer.diffusion.condition import Given, channels_of, label_inputs
from ecgtransfer.models import Encoder1d


class ConditionedEncoder(nn.Module):
    """An `Encoder1d` of a signal with its beats and layout as further leads.

    Of the label it sees what is known, present and absent as two columns. Both domains must know
    the same statements: else what is known would reveal the domain.

    Args:
        encoder: its leads are those of signal, beats and layout together, its labels twice the
            statements.
    """

    def __init__(self, encoder: Encoder1d) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, sigma: Tensor | None, label: Given) -> Tensor:
        """(B, leads, T), (B,) or None, a condition with beats and layout -> (B, outputs)."""
        given = as_condition(label)
        values, _ = label_inputs(given, masked=True)
        channels = channels_of(given)
        whole = x if channels is None else torch.cat([x, channels.to(x)], dim=1)
        result: Tensor = self.encoder(whole, sigma, values)
        return result
