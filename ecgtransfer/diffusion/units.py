"""Conversion between millivolts and model units, in which all leads and frequencies are whitened.

The power of an ECG falls by three decades between 5 and 45 Hz. In millivolts, white noise that
hides the beats would exceed the fine detail a hundredfold, and an imperfect network would leave
residual noise there that exceeds the signal. Model units divide the cosine transform of each lead
by the spectrum of the source, so that a noise level means the same at every frequency.
"""

from collections.abc import Iterable

import numpy as np
import torch
from scipy.fft import dct
from scipy.ndimage import gaussian_filter1d
from torch import Tensor, nn

from ecgtransfer.errors import ConfigError, SignalError

#: Lower bound of spectral amplitudes, in microvolts per coefficient: below is quantisation noise.
FLOOR_UV = 3.0
#: When the spectrum is estimated, cosine coefficients beyond this quantile are clipped.
CLIP_QUANTILE = 0.995
#: Width, in coefficients, of the smoothing of the log spectrum.
SMOOTHING = 4.0


class SignalUnits(nn.Module):
    """Invertible linear map between millivolts and model units, fitted to the source.

    x0 = C^T diag(1 / amplitude) C signal_mv with the orthonormal cosine transform C (DCT-II): a
    zero-phase filter for each lead. The spectrum is estimated on source training records and is
    part of the model; target and test records do not affect it.
    """

    amplitude_mv: Tensor
    cosine: Tensor

    def __init__(self, leads: int, samples: int) -> None:
        super().__init__()
        self.register_buffer("amplitude_mv", torch.ones(leads, samples))
        matrix = dct(np.eye(samples), norm="ortho", axis=0)
        self.register_buffer("cosine", torch.tensor(matrix, dtype=torch.float32), persistent=False)

    @classmethod
    def fitted(cls, chunks: Iterable[np.ndarray]) -> "SignalUnits":
        """Estimate the spectrum from chunks of source records, (n, leads, T) in millivolts.

        Raises:
            ConfigError: fewer than 2 records.
        """
        coefficients = np.concatenate([dct(chunk, norm="ortho", axis=-1) for chunk in chunks])
        if len(coefficients) < 2:
            raise ConfigError(
                f"expected at least 2 source records to measure the spectrum, got "
                f"{len(coefficients)}"
            )
        size = np.abs(coefficients)
        clipped = np.minimum(size, np.quantile(size, CLIP_QUANTILE, axis=0))
        power = np.mean(np.square(clipped, dtype=np.float64), axis=0)
        power = np.maximum(power, (FLOOR_UV / 1e3) ** 2)
        smooth = gaussian_filter1d(np.log(power), SMOOTHING, axis=-1, mode="nearest")
        units = cls(*power.shape)
        units.amplitude_mv.copy_(torch.tensor(np.exp(smooth / 2), dtype=torch.float32))
        return units

    @property
    def shape(self) -> tuple[int, int]:
        """(leads, samples) of the records that can be converted."""
        leads, samples = self.amplitude_mv.shape
        return leads, samples

    def to_model(self, signals_mv: Tensor) -> Tensor:
        """Convert millivolts (B, leads, T) to x0 (B, leads, T)."""
        return (self._checked(signals_mv) @ self.cosine.T / self.amplitude_mv) @ self.cosine

    def to_mv(self, x0: Tensor) -> Tensor:
        """Convert x0 (B, leads, T) to millivolts (B, leads, T)."""
        return (self._checked(x0) @ self.cosine.T * self.amplitude_mv) @ self.cosine

    def _checked(self, signal: Tensor) -> Tensor:
        if signal.shape[-2:] != self.amplitude_mv.shape:
            raise SignalError(
                f"expected records of {self.shape[0]} leads and {self.shape[1]} samples, as the "
                f"source model was trained on, got shape {tuple(signal.shape)}; prepare the set "
                f"with the source's sampling rate and length"
            )
        return signal.to(self.amplitude_mv.dtype)
