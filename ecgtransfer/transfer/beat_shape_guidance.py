"""Networks for the transfer of beat shapes: log h of their vectors, and a denoiser to fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import BeatShapeModel, Condition, as_condition, per_record
from ecgtransfer.diffusion.beat_shape_model import RHYTHM_NUMBERS
from ecgtransfer.diffusion.condition import PATIENT_SCALARS, masked_label, patient_numbers
from ecgtransfer.models import ResidualMLP, ResidualMLPConfig


@dataclass(frozen=True)
class BeatShapeGuidanceConfig:
    """Shape of a `BeatShapeGuidance`; small, for a target has a hundred records.

    Attributes:
        width, blocks, conditioning: of the network, see `ResidualMLPConfig`.
    """

    width: int = 64
    blocks: int = 1
    conditioning: int = 64


class BeatShapeGuidance(nn.Module):
    """Log h of the vectors of a `BeatShapeModel`, given what they are conditioned on: a `LogH`.

    With d the standard deviations of x0, (D,), and c the condition,
        log h(x, sigma, c) = sum_i d_i z_i V_i(z; sigma, c) / sigma + v(z; sigma, c),
        z_i = x_i / sqrt(sigma^2 + d_i^2).
    In sigma^2 grad log h the first term becomes V times the output scale of the model's own
    denoiser, sigma d / sqrt(sigma^2 + d^2), as in a `GuidanceNetwork`. V and v start at zero, with
    a gradient that is not. Components that a record lacks, those of ventricular beats, count for
    nothing.

    Args:
        model: whose vectors they are; not trained and not part of the weights.
        config: shape of the network.
    """

    spread: Tensor

    def __init__(
        self, model: BeatShapeModel, config: BeatShapeGuidanceConfig | None = None
    ) -> None:
        super().__init__()
        config = config or BeatShapeGuidanceConfig()
        self.register_buffer("spread", model.spread.clone())
        self._present: Callable[[Condition, Tensor], Tensor] = model.present
        self.network = ResidualMLP(
            ResidualMLPConfig(
                # The last input is 1, and the last output v.
                features=model.dimensions + 1,
                labels=2 * len(model.config.label_names),
                scalars=RHYTHM_NUMBERS + PATIENT_SCALARS,
                width=config.width,
                blocks=config.blocks,
                conditioning=config.conditioning,
            )
        )

    def forward(self, x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        """(B, D), (B,) above 0, a condition, bare label or None -> (B,)."""
        given = as_condition(label)
        values, hidden = masked_label(given)
        rhythm = given.rhythm
        if rhythm is None:
            rhythm = x.new_zeros(len(x), RHYTHM_NUMBERS)
        scalars = torch.cat([rhythm.to(x), patient_numbers(given, x)], dim=1)
        total = per_record(sigma, x).square() + self.spread.square()
        z = x * total.rsqrt() * self._present(given, x)
        inputs = torch.cat([z, torch.ones_like(z[:, :1])], dim=1)
        output: Tensor = self.network(inputs, sigma, values, hidden, scalars)
        energy = (self.spread * z * output[:, :-1]).sum(dim=1) / sigma
        value: Tensor = energy + output[:, -1]
        return value


class TunableBeatShapes(nn.Module):
    """A `BeatShapeModel` as `finetune` takes it: some rows may be denoised without their label."""

    def __init__(self, model: BeatShapeModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        x: Tensor,
        sigma: Tensor,
        label: Condition | Tensor | None,
        dropped: Tensor | None = None,
    ) -> Tensor:
        """(B, D), (B,), a condition, bare label or None, (B,) bool -> (B, D)."""
        given = as_condition(label)
        denoised: Tensor = self.model(
            x, sigma, given if dropped is None else given.without_label(dropped)
        )
        return denoised
