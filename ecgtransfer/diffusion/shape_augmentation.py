"""Augmentation of beat shapes that is conditioned on, so that samples do not show it.

Small changes of a training record's beat shapes show the network more shapes than there are
records: waves that come earlier or later, larger or smaller waves, and displaced electrodes. The
network is given the parameters of the change, and zeros when it is sampled (Karras et al. 2022,
appendix F.2, "non-leaky" augmentation).
"""

import numpy as np
import torch
from torch import Tensor

from ecgtransfer.diffusion.beat_windows import shape_times_s, wave_windows
from ecgtransfer.signals.leads import INDEPENDENT_LEADS

#: Displacements in time of the P wave, of both ends of the QRS (and T after it), and of the T wave:
#: (seconds from R, fraction of the standard deviation).
DISPLACEMENTS = (
    ((-0.36, 0.0), (-0.30, 0.6), (-0.17, 1.0), (-0.06, 0.3), (-0.04, 0.0)),
    ((-0.10, 0.0), (-0.07, -0.4), (-0.04, -0.8), (0.0, 0.0), (0.04, 0.8), (0.08, 1.0), (0.14, 1.0)),
    ((0.04, 0.0), (0.12, 0.5), (0.30, 1.0), (0.42, 0.8), (0.60, 0.6)),
)
#: Standard deviation of each displacement, seconds.
DISPLACEMENT_S = (0.02, 0.01, 0.02)
#: Standard deviation of the amplitude of each of the three windows, and of the log gain of a lead.
WINDOW_GAIN, LEAD_GAIN = 0.2, 0.1
#: Probability that the displacements, the window gains or the lead gains of a record change.
CHANGED_SHARE = 0.7
#: Number of parameters of a change: three displacements, three windows, eight leads.
AUGMENTATION_PARAMETERS = 2 * len(DISPLACEMENT_S) + len(INDEPENDENT_LEADS)


class ShapeAugmentation:
    """Draws changes and applies them to beat shapes of a sampling rate."""

    def __init__(self, sampling_rate_hz: float) -> None:
        times = shape_times_s(sampling_rate_hz)
        profiles = [
            deviation * sampling_rate_hz * np.interp(times, *np.array(points).T)
            for deviation, points in zip(DISPLACEMENT_S, DISPLACEMENTS, strict=True)
        ]
        self.profiles = torch.from_numpy(np.stack(profiles)).float()
        self.windows = torch.from_numpy(wave_windows(sampling_rate_hz)).float()

    def draw(self, records: int, generator: torch.Generator) -> Tensor:
        """Parameters of the changes of B records, (B, AUGMENTATION_PARAMETERS), on the CPU.

        Each is standard normal, or zero for no change.
        """
        sizes = [len(self.profiles), len(self.windows), len(INDEPENDENT_LEADS)]
        parameters = torch.randn(records, sum(sizes), generator=generator)
        changed = torch.rand(records, len(sizes), generator=generator) < CHANGED_SHARE
        return parameters * changed.repeat_interleave(torch.tensor(sizes), dim=1)

    def apply(self, shapes_mv: Tensor, parameters: Tensor) -> Tensor:
        """Change shapes (B, rows, 8, W) by parameters (B, AUGMENTATION_PARAMETERS)."""
        device = shapes_mv.device
        sizes = [len(self.profiles), len(self.windows), len(INDEPENDENT_LEADS)]
        moves, waves, leads = torch.split(parameters.to(device), sizes, dim=1)
        moved = _interpolated(shapes_mv, moves @ self.profiles.to(device))
        gain = 1 + WINDOW_GAIN * waves @ self.windows.to(device)
        changed: Tensor = moved * gain[:, None, None] * (LEAD_GAIN * leads).exp()[:, None, :, None]
        return changed


def _interpolated(shapes: Tensor, displacement: Tensor) -> Tensor:
    """Value of shapes (B, rows, leads, W) at each sample plus a displacement (B, W) in samples.

    Cubic Lagrange interpolation; positions beyond an end take the value there.
    """
    width = shapes.shape[-1]
    grid = torch.arange(width, device=shapes.device, dtype=shapes.dtype)
    position = (grid + displacement).clamp(0, width - 1)
    first = position.floor().clamp(1, width - 3)
    u = (position - first)[:, None, None]
    taps = [
        shapes.gather(-1, (first.long() + offset)[:, None, None].expand_as(shapes))
        for offset in (-1, 0, 1, 2)
    ]
    weights = (
        -u * (u - 1) * (u - 2) / 6,
        (u + 1) * (u - 1) * (u - 2) / 2,
        -(u + 1) * u * (u - 2) / 2,
        (u + 1) * u * (u - 1) / 6,
    )
    return sum((weight * tap for weight, tap in zip(weights, taps, strict=True)), 0 * shapes)
