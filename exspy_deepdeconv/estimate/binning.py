"""Spectra with wide zero-loss peaks on a coarser axis: bins of several channels (torch).

A response tens of channels wide is oversampled: a spectrum holds nothing finer. The field of view of
the network is a fixed number of samples, so it works better, and faster, on bins that suit the width of
the peak. Its answer is band-limited and is brought back to all channels by Fourier interpolation.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F

from ..layers.frame import Frame
from ..network import Answer, Spectra
from ..physics import MIN_CHANNELS

SUITABLE_WIDTH = 15.0  # bins: smallest width of a zero-loss peak on bins of two channels and more
LEAST_RESOLUTION = 3.0  # bins: finest resolution of an answer that is to be interpolated
WIDEST_SEEN = 64.0  # bins: the widest zero-loss peaks that the networks are trained on
MOST = 16  # channels in a bin


def channels_in_bins(fwhm, channels, resolution=np.inf):
    """How many channels there are in a bin, for each spectrum.

    Parameters
    ----------
    fwhm : numpy.ndarray
        Zero-loss widths in channels.
    channels : int
        Length of the spectra.
    resolution : float
        FWHM in channels of the answer asked for, no finer than a sixteenth of the width.

    Returns
    -------
    numpy.ndarray of int
        1 where there is nothing to gain.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.estimate.binning import channels_in_bins
    >>> channels_in_bins(np.array([12.0, 40.0, 60.0]), 2048, 12.0)
    array([1, 2, 4])
    >>> channels_in_bins(np.array([60.0, 80.0]), 2048, 5.0)  # sharpened twelve and sixteen times
    array([1, 2])
    """
    fwhm = np.nan_to_num(np.asarray(fwhm, float))
    suitable = np.floor(np.minimum(fwhm / SUITABLE_WIDTH, resolution / LEAST_RESOLUTION))
    number = np.maximum(suitable, np.ceil(fwhm / WIDEST_SEEN))
    return np.clip(number, 1, max(min(channels // MIN_CHANNELS, MOST), 1)).astype(int)


def answer_of(network, spectra, number):
    """The network's answer on all channels, from bins of ``number`` channels.

    Parameters
    ----------
    network : DeconvolutionNet
        It sees the bins.
    spectra : Spectra
        On all channels.
    number : int
        Channels in a bin.

    Returns
    -------
    Answer
    """
    if number == 1:
        return network(spectra)
    # The zero-loss channel is in the middle of a bin: a shift of the data must change nothing.
    before = torch.remainder(number // 2 - (spectra.position + 0.5).floor().long(), number)
    answer = network(_binned(spectra, number, before))
    size, left = number * answer.frame.size, number * answer.frame.left + before
    frame = Frame(spectra.position, spectra.counts.shape[1], size, left)
    told = answer.told.flatten(1, 2)
    return Answer(
        inelastic=_finer(answer.inelastic, number),
        elastic=_finer(answer.elastic, number).clamp(min=0),
        elastic_counts=number * answer.elastic_counts,
        shift=number * answer.shift,
        base=_between(answer.base[:, None], number)[:, 0],
        told=_between(told, number).reshape(*answer.told.shape[:3], size),
        fwhm=spectra.fwhm,
        frame=frame,
        least=number * answer.least,
        used=None if answer.used is None else _finer(answer.used, number).clamp(min=0),
    )


def _binned(spectra, number, before):
    """The spectra in bins, with their noise; the first bin begins ``before`` channels early."""
    channels = spectra.counts.shape[1]
    bins = -(-(channels + number - 1) // number)
    index = torch.arange(bins * number, device=before.device) - before[:, None]
    inside = torch.gather(spectra.counts, 1, index.clamp(0, channels - 1))
    return Spectra(
        inside.reshape(len(inside), bins, number).mean(2),
        (spectra.position + before + 0.5) / number - 0.5,
        spectra.fwhm / number,
        spectra.gain / number,
        spectra.floor / number,
        None if spectra.psf is None else _binned_response(spectra.psf, number),
        spectra.has_psf,
        spectra.estimated,
    )


def _binned_response(psf, number):
    """Sums over bins, the energy zero in the middle of one; even bins take half a channel at each end."""
    zero = psf.shape[1] // 2
    reach = (zero - number) // number
    summed = F.pad(torch.cumsum(psf.double(), 1), (1, 0))
    edges = zero + number * torch.arange(-reach, reach + 1, device=psf.device) - number / 2 + 0.5
    low = edges.floor().long()
    at_edges = 0.5 * (summed[:, low] + summed[:, edges.ceil().long()])
    return at_edges.diff(dim=1).to(psf.dtype)


def _finer(framed, number):
    """Fourier interpolation on the circle, ``(batch, size)`` to ``(batch, number * size)``.

    The bins' middles lie between channels where their number is even.
    """
    size = framed.shape[1]
    spectrum = torch.fft.rfft(framed)
    spectrum[:, -1] *= 0.5  # the highest frequency of the bins, which counts twice on more channels
    index = torch.arange(spectrum.shape[1], device=framed.device)
    angle = 2 * math.pi * index / size * (0.5 / number - 0.5)
    spectrum = spectrum * torch.polar(torch.ones_like(angle), angle)
    return number * torch.fft.irfft(spectrum, number * size)


def _between(framed, number):
    """Linear interpolation, which keeps positive values positive."""
    return F.interpolate(framed, scale_factor=float(number), mode="linear", align_corners=False)
