"""The classical methods that every ``EELSSpectrum`` gains.

HyperSpy imports this module as soon as exspy's class exists, so it imports nothing that is not
loaded by then; what the methods need they import themselves.
"""

from .docstrings import with_shared_texts


@with_shared_texts
def rl_deconvolve(
    self,
    psf=None,
    iterations="auto",
    *,
    resolution=None,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Sharpen low-loss spectra with the Richardson-Lucy iteration.

    The iteration converges to the most likely non-negative spectrum for counts with Poisson noise.
    It is stopped early, before it turns the noise into peaks.

    Parameters
    ----------
    %(classical_psf)s
    iterations : int or "auto", default "auto"
        Number of iterations: the more, the sharper and the noisier is the result. By default it is
        chosen for each spectrum, see Notes.
    %(smoothing)s
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
        Counts on the same axes; float64 where the data are, else float32.
        ``metadata.Signal.rl_deconvolution`` holds the method, the `iterations` asked for and, with
        "auto", the numbers chosen (``chosen``: map in the order of the data, median and range; not
        for a lazy result, for which they are not known before it is computed), where the response
        came from, the resolution, the version of this package and how many spectra were flagged.

    Raises
    ------
    %(classical_errors)s;
        for an `iterations` that is neither a whole number from 1 nor "auto".

    Warns
    -----
    %(classical_warnings)s
        With a `psf`, saturated peaks and spikes are not looked for.

    See Also
    --------
    ml_deconvolve : for noise that is the same in all channels.
    exspy.signals.EELSSpectrum.richardson_lucy_deconvolution : exspy's, spectrum by spectrum.

    Notes
    -----
    In double precision and away from the ends of the axis, the result is the same as that of exspy.
    Integers, zeros and negative readings are allowed (negative ones count as zero), and so is a
    response of another length. Counts are conserved. How `iterations` are chosen is documented in
    ``exspy_deepdeconv.classical.richardson_lucy``.

    A result does not explain its spectrum if, over a window of four zero-loss widths, the mean square
    of the misfit is more than 30 times that of the noise; a misfit of 2 %% of the counts is allowed
    beside the noise. This is checked after automatically chosen iterations and after 15 or more:
    fewer than that are meant to leave a misfit. With a `psf`, 16 spectra of each block of about
    500 are checked, for its width too, and the others only if one of these is flagged: checking
    all of them would take longer than 15 iterations do.

    References
    ----------
    .. [1] W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55; L. B. Lucy, Astron. J. 79 (1974) 745.
    .. [2] A. Gloter, A. Douiri, M. Tencé and C. Colliex, Ultramicroscopy 96 (2003) 385-400.
    .. [3] E. P. Bellido, D. Rossouw and G. A. Botton, Microsc. Microanal. 20 (2014) 767-778.

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV, and the response:

    >>> import numpy as np
    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> mean = 1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10)
    >>> s = EELSSpectrum(np.random.default_rng(0).poisson(mean))
    >>> psf = EELSSpectrum(gaussian(64, 32, 10))
    >>> for x in (s, psf):
    ...     x.axes_manager[-1].scale, x.axes_manager[-1].units = 0.01, "eV"
    >>> sharp = s.rl_deconvolve(psf, iterations=15, show_progressbar=False)
    >>> sharp
    <EELSSpectrum, title: after Richardson-Lucy deconvolution, dimensions: (|512)>
    >>> bool(sharp.data.max() > 1.5 * s.data.max())
    True
    """
    from .. import _arguments
    from . import classical_methods

    _arguments.check_iterations(iterations)
    return classical_methods.deconvolve(
        self,
        "rl",
        psf,
        iterations,
        resolution,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )


@with_shared_texts
def ml_deconvolve(
    self,
    psf=None,
    iterations="auto",
    *,
    resolution=None,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Sharpen low-loss spectra with the image-space reconstruction algorithm (ISRA).

    The iteration converges to the most likely non-negative spectrum for noise that is Gaussian and
    the same in all channels, as readout noise is.

    Parameters
    ----------
    %(classical_psf)s
    iterations : int or "auto", default "auto"
        Number of iterations: the more, the sharper and the noisier is the result. By default it is
        chosen for each spectrum, see Notes.
    %(smoothing)s
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
        Counts on the same axes; float64 where the data are, else float32.
        ``metadata.Signal.ml_deconvolution`` holds the method, the `iterations` asked for and, with
        "auto", the numbers chosen (``chosen``: map in the order of the data, median and range; not
        for a lazy result, for which they are not known before it is computed), where the response
        came from, the resolution, the version of this package and how many spectra were flagged.

    Raises
    ------
    %(classical_errors)s;
        for an `iterations` that is neither a whole number from 1 nor "auto".

    Warns
    -----
    %(classical_warnings)s
        With a `psf`, saturated peaks and spikes are not looked for.

    See Also
    --------
    rl_deconvolve : for counts with Poisson noise.

    Notes
    -----
    Counts are not conserved exactly. How `iterations` are chosen is documented in
    ``exspy_deepdeconv.classical.image_space_reconstruction``.

    A result does not explain its spectrum if, over a window of four zero-loss widths, the mean square
    of the misfit is more than 200 times that of the noise; a misfit of 2 %% of the counts is allowed
    beside the noise. (The limit is high because weak losses are fitted late: all channels weigh the
    same.) This is checked after automatically chosen iterations and after 15 or more: fewer than
    that are meant to leave a misfit. With a `psf`, 16 spectra of each block of about 500 are
    checked, for its width too, and the others only if one of these is flagged: checking all of them
    would take longer than 15 iterations do.

    References
    ----------
    .. [1] M. E. Daube-Witherspoon and G. Muehllehner, IEEE Trans. Med. Imaging 5 (1986) 61-66.

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV, and the response:

    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> s = EELSSpectrum(1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10))
    >>> psf = EELSSpectrum(gaussian(64, 32, 10))
    >>> for x in (s, psf):
    ...     x.axes_manager[-1].scale, x.axes_manager[-1].units = 0.01, "eV"
    >>> sharp = s.ml_deconvolve(psf, iterations=15, show_progressbar=False)
    >>> bool(sharp.data.max() > 1.2 * s.data.max())
    True
    """
    from .. import _arguments
    from . import classical_methods

    _arguments.check_iterations(iterations)
    return classical_methods.deconvolve(
        self,
        "ml",
        psf,
        iterations,
        resolution,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )


@with_shared_texts
def fourier_deconvolve(
    self,
    psf=None,
    resolution=None,
    *,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Sharpen low-loss spectra by a damped Fourier ratio.

    The transform of a spectrum is divided by that of the response and multiplied by that of a
    Gaussian of width `resolution`; frequencies at which noise dominates are damped.

    Parameters
    ----------
    %(classical_psf)s
    resolution : float, optional
        Full width at half maximum in eV of the zero-loss peak of the result, from 2 channels
        up to the zero-loss width of the data. The default is a quarter of that width, at least 2
        channels.
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
        Counts on the same axes; float64 where the data are, else float32.
        ``metadata.Signal.fourier_deconvolution`` holds the method, where the response came
        from, the resolution, the version of this package and how many spectra were flagged.

    Raises
    ------
    %(classical_errors)s.

    Warns
    -----
    %(classical_warnings)s

    See Also
    --------
    exspy.signals.EELSSpectrum.fourier_ratio_deconvolution : exspy's, for core losses.

    Notes
    -----
    The zero-loss peak is fitted with the response and replaced by the Gaussian. The result is
    linear in the data except for that fit, the damping and the cut-off at zero: see
    ``exspy_deepdeconv.classical.fourier_ratio``. A measured response that does not quite fit the
    data leaves a difference, which a fine `resolution` turns into ringing: look at
    ``deconvolution_residual()``, and choose a coarser resolution. Losses within about three zero-loss
    widths of the peak are damped separately from the rest: what a wrong response leaves of the peak
    may cause ripples there, but adds hardly any noise farther away. (A strong line between two and
    four widths from the peak leaves a trace beyond.)

    A result does not explain its spectrum if, over a window of four zero-loss widths, the mean square
    of the misfit is more than 100 times that of the noise; a misfit of 2 %% of the counts is allowed
    beside the noise.

    References
    ----------
    .. [1] R. F. Egerton, "Electron Energy-Loss Spectroscopy in the Electron Microscope", 3rd ed.,
       Springer (2011), section 4.3.

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV, and the response:

    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> s = EELSSpectrum(1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10))
    >>> psf = EELSSpectrum(gaussian(64, 32, 10))
    >>> for x in (s, psf):
    ...     x.axes_manager[-1].scale, x.axes_manager[-1].units = 0.01, "eV"
    >>> sharp = s.fourier_deconvolve(psf, resolution=0.05, show_progressbar=False)
    >>> bool(sharp.data.max() > 1.5 * s.data.max())
    True
    """
    from . import classical_methods

    return classical_methods.deconvolve(
        self,
        "fourier",
        psf,
        None,
        resolution,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )


@with_shared_texts
def tgv_deconvolve(
    self,
    psf=None,
    weight="auto",
    *,
    resolution=None,
    show_progressbar=None,
    num_workers=None,
    lazy_output=None,
):
    """Sharpen low-loss spectra under a total-generalised-variation prior.

    The result is the most likely non-negative spectrum, given the noise of the data and a preference
    for spectra that consist of a few nearly straight pieces: the strongest of the classical methods,
    and the slowest.

    Parameters
    ----------
    %(classical_psf)s
    weight : float or "auto", default "auto"
        Weight of the prior: a larger one smooths more. By default it is chosen for each spectrum,
        see Notes.
    %(smoothing)s
    %(computing)s

    Returns
    -------
    EELSSpectrum or LazyEELSSpectrum
        Counts on the same axes; float64 where the data are, else float32.
        ``metadata.Signal.tgv_deconvolution`` holds the method, the `weight` asked for and, with
        "auto", the weights chosen (``chosen``: map in the order of the data, median and range; not
        for a lazy result, for which they are not known before it is computed), where the response
        came from, the resolution, the version of this package and how many spectra were flagged.

    Raises
    ------
    %(classical_errors)s;
        for a `weight` that is neither a positive number nor "auto".

    Warns
    -----
    %(classical_warnings)s

    See Also
    --------
    rl_deconvolve : faster.

    Notes
    -----
    Without a `resolution`, the result has a resolution of two channels. How `weight` is chosen, and
    how long the method takes, is documented in
    ``exspy_deepdeconv.classical.total_generalised_variation``. A result does not explain its
    spectrum if, over a window of four zero-loss widths, the mean square of the misfit is more than 30
    times that of the noise; a misfit of 2 %% of the counts is allowed beside the noise.

    References
    ----------
    .. [1] C. Zietlow and J. K. N. Lindner, "An unbiased ADMM-TGV algorithm for the deconvolution
       of STEM-EELS maps", Ultramicroscopy 275 (2025) 114159.
    .. [2] K. Bredies, K. Kunisch and T. Pock, SIAM J. Imaging Sci. 3 (2010) 492-526.

    Examples
    --------
    A zero-loss peak 0.1 eV wide and a weak one at a loss of 1 eV, and the response:

    >>> from exspy.signals import EELSSpectrum
    >>> from exspy_deepdeconv.physics import gaussian
    >>> s = EELSSpectrum(1e6 * gaussian(512, 100, 10) + 2e4 * gaussian(512, 200, 10))
    >>> psf = EELSSpectrum(gaussian(64, 32, 10))
    >>> for x in (s, psf):
    ...     x.axes_manager[-1].scale, x.axes_manager[-1].units = 0.01, "eV"
    >>> sharp = s.tgv_deconvolve(psf, weight=1.0, show_progressbar=False)
    >>> bool(sharp.data.max() > 1.5 * s.data.max())
    True
    """
    from .. import _arguments
    from . import classical_methods

    _arguments.check_weight(weight)
    return classical_methods.deconvolve(
        self,
        "tgv",
        psf,
        weight,
        resolution,
        show_progressbar=show_progressbar,
        num_workers=num_workers,
        lazy_output=lazy_output,
    )
