"""The fine energy axis on which responses and specimens are drawn (NumPy and SciPy only)."""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft


@dataclass(frozen=True)
class Grid:
    """A padded energy axis ``oversampling`` times finer than the detector's channels."""

    channels: int
    pad: int
    oversampling: int

    @property
    def size(self):
        """Fine samples on the circle."""
        # A third more than the window: room for the gain side of a response placed anywhere.
        length = self.channels + self.channels // 3 + 2 * self.pad
        return fft.next_fast_len(length, real=True) * self.oversampling

    @property
    def loss_side(self):
        """Fine samples on the loss side of a response's energy zero; the rest is gain side."""
        return (self.channels + 2 * self.pad) * self.oversampling

    @property
    def frequency(self):
        """Frequencies of its real transform, in cycles per fine sample."""
        return fft.rfftfreq(self.size)

    @property
    def fine_channels(self):
        """Positions of the fine samples, in detector channels."""
        return np.arange(self.size) / self.oversampling - self.pad

    @property
    def wrapped_channels(self):
        """Channels from a response's energy zero at index 0, negative on its gain side."""
        index = np.arange(self.size)
        return np.where(index < self.loss_side, index, index - self.size) / self.oversampling

    def to_channels(self, transform):
        """Inverse transform, read at the channel centres; counts per channel."""
        fine = fft.irfft(transform, self.size)
        first = self.pad * self.oversampling
        stop = first + self.channels * self.oversampling
        return fine[first : stop : self.oversampling] * self.oversampling


def grid_for(channels, fwhm_channels):
    """The fine axis for a response of this width."""
    oversampling = 4 if fwhm_channels < 6 else 2 if fwhm_channels < 40 else 1
    return Grid(channels, int(min(8 * fwhm_channels, channels / 3)) + 16, oversampling)
