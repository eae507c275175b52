"""``compare_deconvolution`` and ``deconvolution_residual`` of every ``EELSSpectrum``.

HyperSpy imports this module as soon as exspy's class exists, so it imports nothing that is not
loaded by then; what the methods need they import themselves.
"""

from .docstrings import with_shared_texts


@with_shared_texts
def deconvolution_residual(
    self,
    result,
    psf=None,
    *,
    return_maps=False,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """What a deconvolved signal leaves unexplained of these data, in units of the noise.

    The result is blurred again and subtracted from the data; the difference is divided by the
    expected noise. Where the result explains the data, the mean square is 1.

    Parameters
    ----------
    result : EELSSpectrum
        The result of deconvolving this signal. Both may have been cropped alike, but the zero-loss
        peak must still be in the window (otherwise crop the residual instead).
    psf : EELSSpectrum, optional
        The response with which to blur it: the one that the deconvolution was given. (For results of
        ``deep_deconvolve``, a response that is narrower than the zero-loss peak is broadened here as
        it was there; where an estimated response was not used, the one that was found in the spectrum
        is used here, too. A lazy result does not tell where: the one that leaves less is used.) By
        default, the model that made the result estimates the response from the data, as
        ``estimate_psf()`` does; if that model is neither bundled nor in memory, the default
        model does, and a warning says so.
    return_maps : bool, default False
        Whether to return two measures of each spectrum as well.
    %(computing)s

    Returns
    -------
    residual : EELSSpectrum or LazyEELSSpectrum
        (data - result blurred again) / standard deviation of the noise, on the same axes. NaN
        where data, result or response are unusable, zeros where the data are empty.
    chi2, whiteness : BaseSignal
        Only with ``return_maps=True``, then all three in a list. Both have the navigation axes of the
        data and describe the loss region, which begins one zero-loss width past the zero-loss peak.
        ``chi2`` is the mean square of the residual (reduced chi-square). ``whiteness`` is the
        correlation between neighbouring channels of the residual, minus that of the noise itself, in
        units of the standard error of white noise, 1 / sqrt(channels). For a result that explains
        simulated data they are near 1 and within a few units of 0; for measured data with many
        counts they can be farther off, because of misfits near the zero-loss peak.

    Raises
    ------
    NotImplementedError
        For a non-uniform energy axis.
    TypeError
        If `result` or `psf` is not an EELSSpectrum.
    ValueError
        If `result` has another shape or energy per channel than the data (one that begins at
        another energy is compared channel by channel, with a warning); for a `psf` of another
        dispersion or navigation shape; if the noise variance in the metadata is neither a positive
        number nor a signal of the shape of the data; if the energy axis has under 64 channels or its
        units cannot become eV; if `result` is the bound of an interval, a residual or an estimated
        response.

    Warns
    -----
    UserWarning
        If data and result seem to be exchanged; if the result was made with a measured response and
        none is given here, or the reverse; if the result has lost the metadata that describe it; if
        its model is not available; if some of the spectra have a result but no zero-loss peak, which
        a crop may have cut off (NaN); if a result with the zero-loss peak holds less than 0.8 or more
        than 1.25 times the counts of the data (median over the spectra), as after it was rescaled or its
        peak was taken out. For a lazy residual the last two come when all of it has been computed.

    See Also
    --------
    compare_deconvolution : several methods side by side.

    Notes
    -----
    A result of resolution R (full width at half maximum of the Gaussian g, read from the metadata
    of the result) is blurred again as ``I0 p + q (*) (x - I0 g)``: p is the response, q with
    ``q (*) g = p`` is regularised, and the elastic counts I0 and the sub-channel shift of the
    elastic peak are fitted to the core of the zero-loss peak. A result without a resolution is
    blurred with p. A peak or a change of level beyond the upper end of the axis adds counts
    near that end; they are fitted there (over eight zero-loss widths or a quarter of the
    axis, whichever is more).

    The noise is read from the data (Poisson and readout noise and its correlation between
    channels), or is the variance that ``set_noise_variance`` has set.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> s = data.exciton_spectrum()
    >>> result = s.deep_deconvolve(show_progressbar=False)
    >>> residual, chi2, whiteness = s.deconvolution_residual(
    ...     result, return_maps=True, show_progressbar=False
    ... )
    >>> residual
    <EELSSpectrum, title: simulated excitons deconvolution residual, dimensions: (|512)>
    >>> bool(0.7 < chi2.data[0] < 1.4)
    True
    """
    from .. import _arguments
    from . import residual_methods

    _arguments.check_bool("return_maps", return_maps)
    signals = residual_methods.residual_of(
        self,
        result,
        psf,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )
    return signals if return_maps else signals[0]


@with_shared_texts
def compare_deconvolution(
    self,
    methods=("deep", "rl", "fourier"),
    psf=None,
    truth=None,
    *,
    resolution=None,
    model=None,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Deconvolve with several methods and put the results side by side.

    Parameters
    ----------
    methods : sequence of str
        Of ``"deep"``, ``"rl"``, ``"ml"``, ``"fourier"`` and ``"tgv"``, for ``deep_deconvolve``,
        ``rl_deconvolve`` and so on, each with its automatic settings.
    psf : EELSSpectrum, optional
        A measured response for all of them, as for ``deep_deconvolve``. By default each reads it
        off the data with the same network.
    truth : EELSSpectrum, optional
        What the results should be, with the axes of this signal and seen at `resolution`: then
        the table holds their errors.
    resolution : float, optional
        Full width at half maximum in eV for all methods. By default that of ``deep_deconvolve``
        for the methods that need one; the others are left as they are.
    model : str, path or model object, optional
        The network of ``deep_deconvolve``, which also reads the response for the other methods where
        no `psf` is given, for instance one that was fine-tuned. The default is the newest bundled
        model.
    %(computing)s

    Returns
    -------
    exspy_deepdeconv.compare.Comparison
        ``.signals``: the data and the results by name; ``.table()``: time, resolution, noise,
        residual and errors; ``.plot()``: spectra and residuals of one pixel. The numbers in the
        table are medians over at most 64 usable spectra spread over the map; the time is that for the whole
        signal, unless the results are lazy: then it is that for these spectra.

    Raises
    ------
    TypeError
        If `psf` or `truth` is not an EELSSpectrum.
    ValueError
        For an unknown method, or none; for a `psf`, `truth` or `resolution` that does not fit; for
        an unknown `model` or a weights file whose hash differs;
        for data that ``deep_deconvolve`` refuses as well. A method that fails later does not stop
        the others: the table says why it failed.

    See Also
    --------
    deconvolution_residual : what a result leaves unexplained.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> s = data.exciton_spectrum()
    >>> comparison = s.compare_deconvolution(
    ...     ("deep", "rl"), truth=data.truth(s, 0.05), resolution=0.05, show_progressbar=False
    ... )
    >>> list(comparison.signals)
    ['data', 'deep', 'rl']
    >>> comparison.table().field_names[:3]
    ['method', 'time (s)', 'resolution (eV)']
    """
    from .. import compare

    return compare.compare(
        self,
        methods,
        psf,
        truth,
        resolution,
        model=model,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )
