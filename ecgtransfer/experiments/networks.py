"""Networks for vectors in R^d: a denoiser, a guidance network and a domain encoder.

They replace the `ECGDenoiser`, the `GuidanceNetwork` and the `Encoder1d` of signals. They have the
same interfaces, preconditioning, form of the potential and initialisation, so the training code for
ECGs works with them.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ecgtransfer.diffusion import per_record
from ecgtransfer.transfer.methods import Networks

#: Powers of ln(sigma) / 4 that are inputs of a network.
LEVEL_POWERS = (1.0, 2.0, 3.0)


class VectorNetwork(nn.Module):
    """MLP with SiLU of x, the noise level and the label: (B, d), (B,), (B, K) -> (B, outputs).

    Args:
        dimension: number of coordinates d.
        labels: number of labels K; 0 for none.
        outputs: number of outputs.
        width: width of the hidden layers.
        layers: number of hidden layers.
    """

    def __init__(
        self, dimension: int, labels: int, outputs: int, width: int = 96, layers: int = 2
    ) -> None:
        super().__init__()
        # K inputs for the label, and one that is 1 if there is a label.
        inputs = dimension + len(LEVEL_POWERS) + (labels + 1 if labels else 0)
        widths = [inputs] + [width] * layers
        self.labels = labels
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.output = nn.Linear(width, outputs)
        self.register_buffer("powers", torch.tensor(LEVEL_POWERS))

    powers: Tensor

    def forward(
        self, z: Tensor, sigma: Tensor | None, label: Tensor | None, dropped: Tensor | None = None
    ) -> Tensor:
        """(B, d), (B,) or None for clean records, (B, K) or None, (B,) bool -> (B, outputs).

        Rows flagged in `dropped` are treated as unlabelled.
        """
        level = z.new_zeros(len(z), 1) if sigma is None else sigma.to(z).log()[:, None] / 4
        inputs = [z, level.pow(self.powers)]
        if self.labels:
            inputs.append(self._label(z, label, dropped))
        h = torch.cat(inputs, dim=1)
        for layer in self.layers:
            h = F.silu(layer(h))
        result: Tensor = self.output(h)
        return result

    def _label(self, z: Tensor, label: Tensor | None, dropped: Tensor | None) -> Tensor:
        """The label, and 1 if there is one: (B, K + 1)."""
        if label is None:
            return z.new_zeros(len(z), self.labels + 1)
        known = F.pad(label.to(z), (0, 1), value=1.0)
        return known if dropped is None else known * ~dropped[:, None]


class VectorDenoiser(nn.Module):
    """EDM-preconditioned denoiser of vectors (Karras et al. 2022, table 1, sigma_data = 1).

    Before training it is the optimal denoiser of standard normal data, like the `ECGDenoiser`.

    Args:
        dimension: number of coordinates d.
        labels: number of labels K; 0 for none.
    """

    def __init__(self, dimension: int, labels: int) -> None:
        super().__init__()
        self.network = VectorNetwork(dimension, labels, dimension)
        nn.init.zeros_(self.network.output.weight)
        nn.init.zeros_(self.network.output.bias)

    def forward(
        self, x: Tensor, sigma: Tensor, label: Tensor | None, dropped: Tensor | None = None
    ) -> Tensor:
        """(B, d), (B,), (B, K) or None, (B,) bool -> (B, d)."""
        variance = per_record(sigma, x) ** 2 + 1
        output = self.network(x * variance.rsqrt(), sigma, label, dropped)
        result: Tensor = x / variance + per_record(sigma, x) * variance.rsqrt() * output
        return result


class VectorGuidance(nn.Module):
    """log h = <z, V(z; sigma, y)> / sigma + v(z; sigma, y), z = x / sqrt(sigma^2 + 1): (B,).

    The potential of `GuidanceNetwork` for vectors. Before training it is 0, but the gradient of its
    parameters is not.

    Args:
        dimension: number of coordinates d.
        labels: number of labels K; 0 for none.
    """

    def __init__(self, dimension: int, labels: int) -> None:
        super().__init__()
        self.network = VectorNetwork(dimension, labels, dimension + 1)
        nn.init.zeros_(self.network.output.weight)
        nn.init.zeros_(self.network.output.bias)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None) -> Tensor:
        """(B, d), (B,) above 0, (B, K) or None -> (B,)."""
        z = x * (per_record(sigma, x) ** 2 + 1).rsqrt()
        output = self.network(z, sigma, label)
        value: Tensor = (z * output[:, :-1]).sum(dim=1) / sigma + output[:, -1]
        return value


def vector_networks(dimension: int, labels: int) -> Networks:
    """Return factories of networks for vectors, for the methods of `transfer.methods`."""
    return Networks(
        guidance=lambda: VectorGuidance(dimension, labels),
        denoiser=lambda: VectorDenoiser(dimension, labels),
        domain_encoder=lambda: VectorNetwork(dimension, labels, 1),
        # Noise level and label are inputs of the first layer, which has the role of an embedding.
        embeddings=("network.layers.0",),
    )
