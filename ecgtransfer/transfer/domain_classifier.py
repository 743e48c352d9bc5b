"""Domain classifiers: networks, and linear classifiers beside them, that give log q/p."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ecgtransfer.diffusion import per_record
from ecgtransfer.diffusion.condition import Given
from ecgtransfer.errors import ConfigError
from ecgtransfer.transfer.records import DomainRecords, device_of


class EncoderEnsemble(nn.Module):
    """Encoders of one shape; the output is their mean.

    Args:
        members: each (x (B, ...), sigma (B,) or None, label (B, K) or None) -> (B, outputs).

    Raises:
        ConfigError: there is no member.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ConfigError("expected at least one network in an ensemble, got none")
        self.members = nn.ModuleList(members)

    def forward(
        self, x: Tensor, sigma: Tensor | None, label: Given, member: Tensor | None = None
    ) -> Tensor:
        """(B, ...), (B,) or None, (B, K) or None -> (B, outputs).

        Args:
            x: records.
            sigma: noise levels, for encoders that are given them.
            label: labels, for encoders that are given them.
            member: (B,) int64, index of the one member that evaluates each record; None takes the
                mean of all members.
        """
        if member is None:
            return torch.stack([network(x, sigma, label) for network in self.members]).mean(0)
        values, rows = [], []
        for number, network in enumerate(self.members):
            own = (member == number).nonzero()[:, 0]
            if len(own):
                values.append(
                    network(
                        x[own],
                        None if sigma is None else sigma[own],
                        None if label is None else label[own],
                    )
                )
                rows.append(own)
        return torch.cat(values)[torch.cat(rows).argsort()]


class DomainClassifier(nn.Module):
    """log q(x0, y)/p(x0, y), or log q_σ/p_σ of noised records: a `LogH`, without bounds.

    An encoder, and optionally a linear classifier beside it, give one logit each. The log-ratio is
    a weighted sum of them plus an offset (stacking: Wolpert 1992). Weights and offset come from a
    calibration on records out of fold; they are buffers, so that they are saved with the weights.

    Args:
        encoder: (x (B, ...), sigma (B,) or None, label (B, K) or None) -> (B, 1), such as an
            `Encoder1d`, or an `EncoderEnsemble` of them.
        sees_noise: whether the encoder is given, and trained on, noise levels.
        linear: another of the same form, without noise levels; None for the encoder alone.

    Attributes:
        slope: (1,) weight of the encoder's logit, or (2,) with that of the linear classifier's.
        offset: ().

    Raises:
        ConfigError: a linear classifier beside an encoder that is given noise levels.
    """

    slope: Tensor
    offset: Tensor

    def __init__(
        self, encoder: nn.Module, sees_noise: bool, linear: nn.Module | None = None
    ) -> None:
        super().__init__()
        if sees_noise and linear is not None:
            raise ConfigError(
                "expected no linear classifier beside a domain classifier that sees noise, got "
                f"{type(linear).__name__}; it is for clean records"
            )
        self.encoder = encoder
        self.linear = linear
        self.sees_noise = sees_noise
        self.register_buffer("slope", torch.ones(1 if linear is None else 2))
        self.register_buffer("offset", torch.zeros(()))

    def logit(
        self,
        x: Tensor,
        sigma: Tensor | None,
        label: Given,
        member: Tensor | None = None,
    ) -> Tensor:
        """The encoder's uncalibrated log P(target)/P(source), for balanced domains: (B,).

        Args:
            x: (B, ...) records.
            sigma: (B,) noise levels, or None.
            label: (B, K) or None.
            member: (B,) index of the member of an ensemble that evaluates each record; None takes
                the mean.

        Raises:
            ConfigError: a noise level is missing, or given to a classifier of clean records; or
                the encoder does not return (B, 1).
        """
        if (sigma is not None) != self.sees_noise:
            raise ConfigError(
                "expected sigma for a domain classifier that sees noise and None for one that "
                f"does not, got {'sigma' if sigma is not None else 'None'}; set "
                "DomainClassifierConfig.noise to choose"
            )
        if sigma is None:
            return _one_logit(self.encoder, x, None, label, member)
        # Noise of size sigma leaves of log q/p a part of order 1 / sigma.
        scale = (sigma**2 + 1).rsqrt()
        return scale * _one_logit(self.encoder, per_record(scale, x) * x, sigma, label, member)

    def forward(
        self,
        x: Tensor,
        sigma: Tensor | None,
        label: Given,
        member: Tensor | None = None,
    ) -> Tensor:
        """Calibrated log-ratio: (B, ...), (B,) or None, (B, K) or None -> (B,).

        The training batches were balanced and the calibration counts both domains alike, so no
        correction for the number of records is due. Arguments and errors as in `logit`.
        """
        log_ratio = self.slope[0] * self.logit(x, sigma, label, member) + self.offset
        if self.linear is None:
            return log_ratio
        return log_ratio + self.slope[1] * _one_logit(self.linear, x, None, label, member)

    @torch.no_grad()
    def log_ratio(self, records: DomainRecords, batch_size: int = 256) -> Tensor:
        """Log r of clean records, for a classifier of clean records: (N,), on the CPU."""
        parts = []
        for start in range(0, len(records), batch_size):
            index = np.arange(start, min(start + batch_size, len(records)))
            x0, label = records.take(index, device_of(self))
            parts.append(self(x0, None, label).cpu())
        return torch.cat(parts)


def _one_logit(
    encoder: nn.Module, x: Tensor, sigma: Tensor | None, label: Given, member: Tensor | None
) -> Tensor:
    """The one output of an encoder per record: (B,)."""
    of_member = () if member is None else (member,)
    logit: Tensor = encoder(x, sigma, label, *of_member)
    if logit.shape != (len(x), 1):
        raise ConfigError(
            f"expected an encoder with one number for each record, shape ({len(x)}, 1), got "
            f"{tuple(logit.shape)}; end it in a layer of one output"
        )
    return logit[:, 0]
