"""``vacuum_psf`` of every ``EELSSpectrum``.

HyperSpy imports this module as soon as exspy's class exists, so it imports nothing that is not
loaded by then; what the method needs it imports itself.
"""

from .docstrings import with_shared_texts


@with_shared_texts
def vacuum_psf(self, *, show_progressbar=None, num_workers=None):
    """The response of the instrument from spectra that were recorded in vacuum, ready for ``psf=``.

    Their zero-loss peaks are aligned, by parts of a channel, and the spectra are summed. This signal
    stays as it is. It may hold one spectrum or many (frames, a line, a map, the part of a map that
    shows vacuum), as weak as some hundred electrons each. A lazy signal is read twice, at most 1024
    spectra the first time. Of what this method made itself, a copy is returned.

    Parameters
    ----------
    %(computing_eagerly)s

    Returns
    -------
    EELSSpectrum
        One spectrum in memory: the sum in counts (float64), not normalised, so that its noise can be
        read, with a flat offset that the spectra may have. Its energy zero, the vertex of the parabola
        through its three highest channels, is at 0 eV. Channels at the ends of the axis that drift takes
        out of view are scaled up to the sum, and cut off where less than half of it is left.
        ``metadata.Signal.vacuum_psf`` tells how many spectra were ``used`` and ``left_out`` (and for what
        reason; of several spectra also which ones, ``map``, in the order of the data), how far their peaks
        drift (``drift``, a standard deviation), the ``zero_loss_fwhm`` (both in eV), and about how many
        ``electrons`` the zero-loss peak of the sum holds (if twelve spectra or more tell by their scatter).

    Raises
    ------
    NotImplementedError
        For a non-uniform energy axis.
    ValueError
        If no spectrum can be used (the message says why), or there is none; if the energy axis has
        under 64 channels or its units cannot become eV; if the signal does not hold real numbers, or is
        lazy with chunks of unknown size; for a result, a residual or an estimated response.

    Warns
    -----
    UserWarning
        If spectra were left out, with how many and why:

        - those that are not finite, empty, saturated, or have a spike (unless most of them have one);
        - those whose zero-loss peak does not stand out of its noise (where that is more than a few, sum
          neighbours first: ``rebin``);
        - those with a wider peak than is usual: with over 10 %% more counts on its flanks (a Gaussian that
          is 6 %% wider), more than five standard errors, and more than 3e-4 of the peak;
        - those with more counts behind the peak than the quietest tenth, likewise: there is a specimen in
          the beam. A third of the spectra at least must be without.

        Others are given if channels of the detector were hot or dead in most spectra (of eight or more,
        single ones are interpolated between their neighbours), if the sum holds fewer than about 100 000
        electrons, has a spike or a tail that is cut off, or rises again somewhere behind the peak and not
        before it, as only losses do.

    See Also
    --------
    estimate_psf : where no vacuum was recorded.
    exspy.signals.EELSSpectrum.align_zero_loss_peak : in place, and by linear interpolation.

    Notes
    -----
    The maximum of a weak zero-loss peak is mostly noise. So the whole peak of each spectrum is compared with
    the mean of all, from which a spectrum of N electrons gets its position with an error of about 0.5 /
    sqrt(N) zero-loss widths. Spectra are moved by a part of their distance from the mean position only: by
    so much that neither the remaining drift broadens the sum, nor the noise that the position follows
    sharpens it; peaks under 4.5 channels wide by whole channels. ``docs/limits.md`` tells how well this
    works. Shifts are made in Fourier space, where they do not smooth the noise as interpolation would.

    Losses that are the same in all spectra cannot be told from a tail of the response, unless they are a
    peak: record the spectra far from the specimen.

    Examples
    --------
    Thirty frames between which the zero-loss peak drifts, and in the last of which the beam touches the
    specimen:

    >>> import numpy as np
    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> rng = np.random.default_rng(0)
    >>> counts = 1e5 * gaussian(512, 100 + rng.normal(0, 2, 30), np.full(30, 10.0))
    >>> counts[-1] += 1e4 * gaussian(512, 160, 20.0)
    >>> frames = EELSSpectrum(rng.poisson(counts))
    >>> frames.axes_manager[-1].scale, frames.axes_manager[-1].units = 0.01, "eV"
    >>> psf = frames.vacuum_psf(show_progressbar=False)
    >>> psf
    <EELSSpectrum, title: vacuum response, dimensions: (|512)>
    >>> note = psf.metadata.Signal.vacuum_psf
    >>> note.used, note.left_out.losses, round(note.zero_loss_fwhm, 3)
    (29, 1, 0.1)
    """
    from .vacuum_methods import measured_response

    return measured_response(self, show_progressbar=show_progressbar, num_workers=num_workers)
