"""``detection_limit`` of every ``EELSSpectrum``.

HyperSpy imports this module as soon as exspy's class exists, so it imports nothing that is not
loaded by then; what the method needs it imports itself.
"""

from .docstrings import with_shared_texts


@with_shared_texts
def detection_limit(
    self,
    resolution=None,
    psf=None,
    *,
    width=None,
    model=None,
    device=None,
    show_progressbar=None,
    num_workers=None,
):
    """How high a loss must be for ``deep_deconvolve`` to show it, along the energy axis of a spectrum.

    What lies in the tail of the zero-loss peak can be taken for tail, and what lies in the noise cannot be
    seen. So lines are added to this spectrum, lower and higher ones, at 32 energies, as the instrument would
    have recorded them; each time the spectrum is deconvolved again, to see whether the line comes back. A
    result that shows nothing does not mean that there is nothing below this limit.

    Parameters
    ----------
    resolution, psf, model, device
        As for ``deep_deconvolve``, which must have been called with the same.
    width : float, optional
        Full width at half maximum in eV of the lines, Gaussians. The default is half of the zero-loss
        width, at least one channel.
    %(computing_eagerly)s

    Returns
    -------
    EELSSpectrum
        On the same energy axis, to be plotted with the result: the height (in counts per channel, seen at
        `resolution`, above what the result shows there) from which on lines are found, times a factor of
        three for safety. NaN closer to the zero-loss peak than 1.25 of its widths, below it, at the end of
        the axis where no whole line fits in, and where not even a line three tenths as high as the
        recorded zero-loss peak is found. ``metadata.Signal.detection_limit`` holds `width` and
        `resolution` in eV, and the model.

    Raises
    ------
    NotImplementedError
        For a non-uniform energy axis.
    TypeError
        If `psf` is not an EELSSpectrum.
    ValueError
        If the signal holds more than one spectrum; if `width` is not positive, or a quarter of the
        energy axis or more; if the energy axis ends before 1.25 zero-loss widths and a line; and where
        ``deep_deconvolve`` raises it.

    Warns
    -----
    UserWarning
        As ``deep_deconvolve``.

    See Also
    --------
    deep_deconvolve : its intervals tell how sure it is of what it shows.
    hyperspy.api.signals.BaseSignal.sum : one spectrum from a map.

    Notes
    -----
    A line counts as found if the losses within 0.75 of its width to either side gain at least half of its
    counts. The lowest that are tried have three times the counts of the noise in their channels, which is
    the usual limit of detection [1]_. The response that blurs a line is the one that the spectrum is
    deconvolved with, so a response that is itself wrong is not found out. How often losses above and below
    the limit are lost in simulations is told in ``docs/limits.md``.

    References
    ----------
    .. [1] L. A. Currie, "Limits for qualitative detection and quantitative determination", Analytical
       Chemistry 40, 586-593 (1968).

    Examples
    --------
    Near the zero-loss peak, much higher losses are needed than far away from it:

    >>> from exspy_deepdeconv import data
    >>> s = data.exciton_spectrum()
    >>> limit = s.detection_limit(show_progressbar=False)
    >>> limit
    <EELSSpectrum, title: simulated excitons detection limit, dimensions: (|512)>
    >>> near, far = limit.isig[0.25].data[0], limit.isig[1.0].data[0]
    >>> bool(near > 3 * far)
    True
    """
    from .detection_methods import limit_of

    return limit_of(
        self, resolution, psf, width=width, model=model, device=device,
        show_progressbar=show_progressbar, num_workers=num_workers,
    )  # fmt: skip
