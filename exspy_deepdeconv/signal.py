"""The methods that every ``EELSSpectrum`` gains: check, run by block, put back the metadata.

HyperSpy imports this module as soon as exspy's class exists, so it imports nothing that is not
loaded by then; what the methods need they import themselves.
"""

from ._methods.classical_signal import (
    fourier_deconvolve,
    ml_deconvolve,
    rl_deconvolve,
    tgv_deconvolve,
)
from ._methods.comparison_signal import compare_deconvolution, deconvolution_residual
from ._methods.detection_signal import detection_limit
from ._methods.docstrings import with_shared_texts
from ._methods.vacuum_signal import vacuum_psf


@with_shared_texts
def deep_deconvolve(
    self,
    resolution=None,
    psf=None,
    *,
    force_psf=False,
    model=None,
    zero_loss=True,
    return_interval=False,
    confidence=0.9,
    navigation_mask=None,
    batch_size=None,
    device=None,
    interactive=False,
    display=True,
    toolkit=None,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Sharpen low-loss spectra to a stated resolution with a trained network.

    The result is what an instrument with a Gaussian response of width `resolution` would have
    counted. The response of the real instrument is read from the zero-loss peak of each spectrum,
    unless a measured one is given.

    Parameters
    ----------
    resolution : float, optional
        Full width at half maximum in eV of the zero-loss peak of the result, whatever the units
        of the energy axis. From 2 channels (or a 16th of the zero-loss width, where that is more)
        up to the zero-loss width of the data. The default is a quarter of that width, at least 2
        channels; a zero-loss peak under 3 channels wide cannot be sharpened and keeps its width.
    psf : EELSSpectrum, optional
        A measured response, for instance a spectrum taken in vacuum (several become one by
        ``vacuum_psf()``), on the same dispersion: either one for all spectra or one for each (same
        navigation shape). Its maximum is its energy zero; its length and area are free. Where its tails
        are cut off, they are continued as a power of the distance (a warning says so where that is more
        than a detail).
        A response that is wider than the zero-loss peak, whose gain-side tail is not that of the data, or
        with which the result does not explain a spectrum that is explained with the response found in it,
        is not used: that response is, as by default. One that is narrower, because of
        drift or charging, is broadened to the width of the peak. If the widths differ by over 1 %%, or the
        gain-side tails by over 6 %% (and more than noise can make), the intervals are 1.25 times as wide as
        without it.
        By default the response is estimated from each spectrum. For a map that shows fewer losses in
        some places than in others, ``s.estimate_psf(shared=True)`` finds a better one. Such an
        estimate is trusted no more than the default one, and where it does not fit (another zero-loss
        width, a result that does not explain the spectrum or gains more than it loses), the response
        is found in the spectrum itself. One warning says how often a `psf` does not fit, and why.
    force_psf : bool, default False
        If True, use the `psf` for all spectra, also where it does not fit. What its tail lacks comes out as
        losses then, and what it has too much is taken off them.
    model : str, path or model object, optional
        Name of a bundled model (see ``exspy_deepdeconv.models.available()``), path of a weights
        file or what ``exspy_deepdeconv.models.load()`` returns. The default is the newest bundled
        model.
    zero_loss : bool, default True
        If False, the elastic peak is left out of the result.
    return_interval : bool, default False
        If True, also return the lower and the upper bound of an interval around the result. What a
        window of the energy axis holds lies about as often between the sums of the bounds over it, or
        more often where the window is wide.
    confidence : float, default 0.9
        Share of the channels in which the interval is to contain the true spectrum (as seen at this
        resolution); between 0 and 1. The intervals are calibrated on simulations: the model card
        says how far this holds.
    navigation_mask : numpy.ndarray of bool or BaseSignal, optional
        True where a spectrum is left out: zeros are returned there, and the metadata tell how many
        and which they are (``flags.masked``, ``flags.maps.masked``). As in ``decomposition()``, an array
        has the shape ``s.axes_manager.navigation_shape``.
    batch_size : int, optional
        Number of spectra in one pass of the network. The default suits most computers.
    device : str, optional
        Where the network runs, for instance ``"cuda"`` or ``"cpu"``. The default is the CPU; for
        maps of 4096 spectra and more it is a graphics card, if torch finds one.
    interactive : bool, default False
        If True, show a widget with a live preview of the current spectrum, in which settings can be
        tried; its Apply button deconvolves the whole signal. Needs the extra
        ``exspy_deepdeconv[gui]``.
    display : bool, default True
        With `interactive`: whether to show the widget or to return its parts.
    toolkit : str, optional
        With `interactive`: as for HyperSpy's other tools; only ``"ipywidgets"`` is supported.
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum, or a list of three
        Counts (float32) on the same axes. ``metadata.Signal.deep_deconvolution`` holds the model
        and its sha256, the version of this package, ``resolution`` and ``zero_loss_fwhm`` (the
        median zero-loss width of the data) in eV, where the response came from, and how many
        spectra were flagged; for a map also which ones (``flags.maps``, in the order of the data; these
        maps stay whole when the result is cropped, ``places`` holds their axes). With `return_interval`,
        ``[result, lower, upper]``. With `interactive`, the tool behind the widget, which has its
        ``result`` after Apply (with ``display=False``, the dictionary of the widget).

    Raises
    ------
    NotImplementedError
        For a non-uniform energy axis.
    TypeError
        If `psf` is not an EELSSpectrum.
    ValueError
        If the energy axis has under 64 channels or its units cannot become eV; if no spectrum has a
        zero-loss peak; for a single spectrum that is empty or not finite; for a residual; for a
        `resolution` out of range; for a `psf` of another dispersion or navigation shape, or that is
        itself a result or a residual; for an unknown `model` or a weights file whose hash differs; for a
        noise variance in the metadata that is neither a positive number nor a signal of the shape of the
        data; for any other argument out of its range.

    Warns
    -----
    UserWarning
        One warning counts the flagged spectra:

        - those that are empty or have no zero-loss peak (the result is zero);
        - those that are not finite, or whose own `psf` is unusable (the result is NaN);
        - those with a saturated zero-loss peak or a spike;
        - those that the result, blurred again, does not explain: somewhere, over four zero-loss
          widths, the mean square of the difference is 30 times that of the noise, where a misfit of
          2 %% of the counts is allowed beside the noise (``deconvolution_residual`` shows smaller
          misfits); or the counts of the result differ from those of the data by more than 5 %% and
          more than their noise;
        - those whose result shows more energy gains than losses (by more than 0.3 %% of the counts),
          which no specimen does: the response, given or estimated, does not fit, or there is a
          background;
        - those that a `psf` does not fit, so that the response found in the spectrum itself was used
          (``psf_misfit``; why: ``psf_width``, ``psf_tail_low``, ``psf_tail_high``, or else because the
          result did not explain the spectrum), and those whose zero-loss peak is wider than a measured
          `psf` (``psf_narrow``).

        For a lazy result this warning comes once all of it has been computed (from a cluster of other
        processes it does not come), and the numbers are not in its metadata. Other warnings are given

        - if the zero-loss peak is under 1.8 or over 64 channels wide, if the energy axis begins less than
          three zero-loss widths before it and no measured `psf` is given, if it holds fewer than about
          800 electrons, or if its width differs much between the spectra;
        - if the peak is under 3 channels wide and therefore keeps its width;
        - if the energy axis begins above 0 eV, or has another peak at 0 eV, so that the peak that was
          found cannot be the zero-loss peak;
        - if a negative flat offset is subtracted;
        - if a `psf` is saturated, has a spike, is cut off, was cut out of the spectra themselves, rises again
          behind its peak (losses), or has less than a tenth of the electrons of a spectrum;
        - if the signal is itself a result;
        - if an interval is requested from a model that was not calibrated.

    See Also
    --------
    rl_deconvolve, tgv_deconvolve : without a network.
    compare_deconvolution : several methods side by side.
    deconvolution_residual : what a result leaves unexplained.

    Notes
    -----
    The energy axis is left as it is: the zero-loss peak is found in the data and stays where it
    is. Counts are conserved, and plural scattering is not removed (see
    ``fourier_log_deconvolution``). The method is equivariant to the scale of the data. The
    `resolution` is the same for the whole signal; it is derived from the median zero-loss width of
    at most 256 spectra spread over the signal.

    A flat dark offset stays in the result; a negative one is subtracted where channels that hold
    nothing else show it. If there are eight spectra or more, they share one offset (``dark_level``
    in the metadata), except those whose gain side clearly shows another.

    The noise is read from the data, or taken from ``set_noise_variance()`` if that was called.
    Deconvolve before `decomposition` denoises the data: in a map rebuilt from few components, only
    the remaining noise is read, not the part of the signal that these components miss, and the
    intervals are far too narrow.

    The predicted variance of every channel (the square of half the interval that covers 68 %%) is
    attached to the result as its noise variance, which model fits use as weights; where there is
    no result (empty spectra, a mask) it is 1e30. Before you use it, note that

    - the errors of neighbouring channels are correlated, over about the resolution and through the
      response as a whole, and the errors of different pixels through their common response. Summing
      results therefore does not lower their errors as it lowers noise, and ``rebin`` gives a
      variance that is too small: rebin the data instead;
    - HyperSpy scales the printed errors of a fit by its chi-square, which is almost zero for a result
      as smooth as this: such errors mean nothing;
    - the weights are nearly those of a constant relative error, so that a fit is attracted as much
      by what its model lacks between the peaks as by the peaks themselves (one Lorentzian fitted to
      measured aluminium over a wide window comes out well above its plasmon; without weights it does
      not). Fit a narrow window, or fit without the variance;
    - HyperSpy's ``crop_signal`` and ``align_zero_loss_peak`` leave the attached variance as it was,
      and ``hyperspy.api.stack`` joins variances along the energy. Align, crop and stack before
      deconvolving, or cut the result with ``isig``;
    - deleting ``metadata.Signal.Noise_properties`` removes the variance from a result;
    - a lazy result carries no variance, since that would need a second pass of the network. The three
      signals of a lazy interval share their blocks:
      ``dask.compute(result.data, lower.data, upper.data)`` runs the network once.

    The network descends from EELSpecNet [1]_.

    References
    ----------
    .. [1] S. S. Mousavi M., A. Pofelski and G. Botton, "EELSpecNet: Deep Convolutional Neural
       Network Solution for Electron Energy Loss Spectroscopy Deconvolution", Microscopy and
       Microanalysis 27 (S1), 1626-1627 (2021).

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV, sharpened to 0.03 eV:

    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> counts = 1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10)
    >>> s = EELSSpectrum(counts)
    >>> s.axes_manager[-1].scale, s.axes_manager[-1].units = 0.01, "eV"
    >>> result = s.deep_deconvolve(resolution=0.03, show_progressbar=False)
    >>> result
    <EELSSpectrum, title: after deep deconvolution, dimensions: (|512)>
    >>> round(result.metadata.Signal.deep_deconvolution.zero_loss_fwhm, 2)
    0.1
    """
    settings = {
        "force_psf": force_psf, "model": model, "zero_loss": zero_loss, "return_interval": return_interval,
        "confidence": confidence, "navigation_mask": navigation_mask, "batch_size": batch_size,
        "device": device, "show_progressbar": show_progressbar, "num_workers": num_workers,
        "lazy_output": lazy_output,
    }  # fmt: skip
    from ._arguments import check_bool

    check_bool("interactive", interactive)
    if interactive:
        from ._widget.interactive import DeepDeconvolution

        tool = DeepDeconvolution(self, resolution, psf, **settings)
        gui = tool.gui(display=display, toolkit=toolkit)
        return tool if display else gui

    from ._methods.deep_methods import deconvolve

    return deconvolve(self, resolution, psf, **settings)


@with_shared_texts
def estimate_psf(
    self, *, model=None, shared=False, show_progressbar=None, num_workers=None, lazy_output=None
):
    """Estimate the response of the instrument from the zero-loss peaks of low-loss spectra.

    The network that ``deep_deconvolve`` uses separates the elastic peak from the losses under its
    tail. The estimate can be given to every method that takes a `psf`.

    Parameters
    ----------
    model : str, path or model object, optional
        Name of a bundled model (see ``exspy_deepdeconv.models.available()``), path of a weights
        file or what ``exspy_deepdeconv.models.load()`` returns. The default is the newest bundled
        model.
    shared : bool, default False
        If True, estimate one response for the whole map, from the sum of its quietest spectra: the
        tenth of them with the least losses beside the zero-loss peak (out of at most 1024, spread
        over the map). A response from a single spectrum contains the weak losses on the tail of its
        zero-loss peak; spectra beside a particle or past an edge hold less of them. It is computed at
        once, without progress bar and workers.
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
        One response for each spectrum (float32), of unit area, on an energy axis of the same
        length and dispersion on which the zero-loss peak lies at 0 eV. With `shared`, a single one,
        in memory; ``metadata.Signal.psf_estimation.shared`` is a map (in the order of the data) that
        is True for the spectra that were summed, so that you can check that the specimen shows the
        least losses there.

    Raises
    ------
    NotImplementedError
        For a non-uniform energy axis.
    ValueError
        If the energy axis has under 64 channels or its units cannot become eV; if no spectrum has
        a zero-loss peak (with `shared`: one that is not saturated); for a residual; for
        ``lazy_output=True`` with `shared`; for an
        unknown `model` or a weights file whose hash differs.

    Warns
    -----
    UserWarning
        One warning counts the flagged spectra: those that are empty or have no zero-loss peak (the
        response is zero), those that are not finite (NaN), and those with a saturated zero-loss peak
        or a spike. With `shared` these are left out and not counted. Other warnings are given if the
        zero-loss peak is out of range, as by ``deep_deconvolve``; if the energy axis begins above 0 eV, or
        has another peak at 0 eV; if the signal is itself a result; and if `shared` is asked of a single
        spectrum, which has nothing to share.

    See Also
    --------
    vacuum_psf : from spectra that were recorded in vacuum.
    exspy.signals.EELSSpectrum.estimate_zero_loss_peak_centre : where the peak lies.

    Notes
    -----
    The energy zero is where the zero-loss peak of the spectrum was found; the highest channel of the
    response may lie a hundredth of its width beside it. Where the zero-loss peak is near the start
    of the energy axis, the axis of the response begins earlier, so that the flank of the response is
    not cut off.

    A shared response is that of one instrument in one state: where it does not fit a spectrum,
    ``deep_deconvolve`` finds that of the spectrum itself. Losses that are the same in all spectra (a
    film without holes) can be left in it, as in any estimated response.

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV:

    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> counts = 1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10)
    >>> s = EELSSpectrum(counts)
    >>> s.axes_manager[-1].scale, s.axes_manager[-1].units = 0.01, "eV"
    >>> psf = s.estimate_psf(show_progressbar=False)
    >>> psf
    <EELSSpectrum, title: estimated response, dimensions: (|512)>
    >>> energy = psf.axes_manager[-1].axis
    >>> round(float(abs(energy[psf.data.argmax()])), 6)
    0.0

    A nanorod in the middle of a map; the quiet spectra at its edges give the response:

    >>> from exspy_deepdeconv import data
    >>> s = data.plasmonic_map(shape=(8, 8))
    >>> psf = s.estimate_psf(shared=True)
    >>> psf
    <EELSSpectrum, title: simulated nanorod estimated response, dimensions: (|1024)>
    >>> result = s.deep_deconvolve(psf=psf, show_progressbar=False)
    """
    from ._methods.deep_methods import respond

    return respond(
        self, model=model, shared=shared, show_progressbar=show_progressbar,
        num_workers=num_workers, lazy_output=lazy_output,
    )  # fmt: skip


METHODS = {
    function.__name__: function
    for function in (
        deep_deconvolve,
        estimate_psf,
        vacuum_psf,
        rl_deconvolve,
        ml_deconvolve,
        fourier_deconvolve,
        tgv_deconvolve,
        deconvolution_residual,
        compare_deconvolution,
        detection_limit,
    )
}
