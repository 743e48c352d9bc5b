"""Networks that transfer beat shapes: log h of their vectors, and a denoiser to fine-tune."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import BeatShapeModel, Condition, as_condition, per_record
from ecgtransfer.diffusion.beat_shape_model import RHYTHM_SCALARS
from ecgtransfer.diffusion.condition import PATIENT_SCALARS, masked_label, patient_scalars

#: Number of noise levels with coefficients of their own (knots), evenly spaced in ln sigma, and
#: width of the Gaussian weights that interpolate between them, in ln sigma.
KNOTS, KNOT_WIDTH = 4, 1.5
#: Distance of the first and the last knot from the ends of the noise levels, as a fraction of
#: their range in ln sigma.
KNOT_MARGIN = 0.08
#: Factor of statements, age and sex in the inputs; the rhythm scalars have factor 1. A smaller
#: input is learned more slowly: effects that all records share are learned first.
CONDITION_SCALE = 0.3


class BeatShapeGuidance(nn.Module):
    """Log h of the vectors of a `BeatShapeModel`, given their condition; a `LogH`.

    With d the standard deviations of x0, (D,), c the condition and f(c) its features,
        log h(x, sigma, c) = sum_i d_i z_i V_i / sigma + v(sigma) + <w, f(c)>,
        V_i = a_i(sigma) + b_i(sigma) z_i / 2 + <c_i, f(c)>, z_i = x_i / sqrt(sigma^2 + d_i^2),
    where a, b and v are smooth in ln sigma. In sigma^2 grad log h this is a shift and a gain of
    each component, times the output scale of the model's own denoiser,
    sigma d / sqrt(sigma^2 + d^2). It is exact if source and target are Gaussian with the same
    principal components. All coefficients start at zero, where their gradient is not zero.
    Components that a record lacks (those of ventricular beats) are masked.

    The form is simple because target sets are small: with 80 records, a `ResidualMLP` in place of V
    explained a third as much of the source's error on held-out records.

    Args:
        model: the source model of the vectors; it is neither trained nor part of the weights.
    """

    spread: Tensor
    knots: Tensor

    def __init__(self, model: BeatShapeModel) -> None:
        super().__init__()
        noise, components = model.config.noise, model.dimensions
        lowest, highest = math.log(noise.sigma_min), math.log(noise.sigma_max)
        margin = KNOT_MARGIN * (highest - lowest)
        self.register_buffer("spread", model.spread.clone())
        self.register_buffer("knots", torch.linspace(lowest + margin, highest - margin, KNOTS))
        self.statements = len(model.config.label_names)
        self._present: Callable[[Condition, Tensor], Tensor] = model.present
        self.shift = nn.Parameter(torch.zeros(KNOTS, components))
        self.gain = nn.Parameter(torch.zeros(KNOTS, components))
        self.offset = nn.Parameter(torch.zeros(KNOTS))
        self.of_condition = nn.Linear(
            2 * self.statements + RHYTHM_SCALARS + PATIENT_SCALARS, components + 1, bias=False
        )
        nn.init.zeros_(self.of_condition.weight)

    def forward(self, x: Tensor, sigma: Tensor, label: Condition | Tensor | None) -> Tensor:
        """(B, D), (B,) above 0, a condition, a label (B, K) or None -> (B,)."""
        given = as_condition(label)
        noise = per_record(sigma, x)
        z = x * (noise.square() + self.spread.square()).rsqrt() * self._present(given, x)
        away = (sigma.to(x).log()[:, None] - self.knots) / KNOT_WIDTH
        level = torch.softmax(-away.square() / 2, dim=1)
        conditioned = self.of_condition(self._features(given, x))
        field = level @ self.shift + (level @ self.gain) * z / 2 + conditioned[:, :-1]
        energy = (self.spread * z * field).sum(dim=1) / sigma
        value: Tensor = energy + level @ self.offset + conditioned[:, -1]
        return value

    def _features(self, given: Condition, x: Tensor) -> Tensor:
        """Features f(c) of the condition, 0 where it is unknown: (B, F)."""
        statements, _ = masked_label(given)
        if statements is None:
            statements = x.new_zeros(len(x), 2 * self.statements)
        rhythm = given.rhythm
        if rhythm is None:
            rhythm = x.new_zeros(len(x), RHYTHM_SCALARS)
        patient = patient_scalars(given, x)
        parts = [CONDITION_SCALE * statements.to(x), rhythm.to(x), CONDITION_SCALE * patient]
        return torch.cat(parts, dim=1)


class TunableBeatShapes(nn.Module):
    """A `BeatShapeModel` with the interface that `finetune` needs: it can drop labels.

    Args:
        model: the model to fine-tune.
    """

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
        """(B, D), (B,), a condition, a label (B, K) or None, (B,) bool -> (B, D).

        Rows flagged in `dropped` are denoised without their label.
        """
        given = as_condition(label)
        denoised: Tensor = self.model(
            x, sigma, given if dropped is None else given.without_label(dropped)
        )
        return denoised
