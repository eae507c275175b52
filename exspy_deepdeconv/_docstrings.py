"""Texts that the docstrings of the signal methods share."""

from hyperspy.docstrings.signal import LAZY_OUTPUT_ARG, NUM_WORKERS_ARG, SHOW_PROGRESSBAR_ARG

SHARED = {
    # HyperSpy's texts are indented for a method inside a class.
    "computing": "\n    ".join(
        text.replace("\n    ", "\n")
        for text in (SHOW_PROGRESSBAR_ARG, NUM_WORKERS_ARG, LAZY_OUTPUT_ARG)
    ),
    "classical_psf": """psf : EELSSpectrum, optional
        A measured response, for instance a spectrum taken in vacuum, on the same dispersion. Its
        length and area are free; its maximum is its energy zero. Either one for all spectra or
        one for each (same navigation shape). By default ``estimate_psf()`` reads it off each spectrum;
        ``s.estimate_psf(shared=True)`` reads one off the quietest spectra of a map.""",
    "smoothing": """resolution : float, optional
        Full width at half maximum in eV of a Gaussian with which the result is smoothed, from 2
        channels up to the zero-loss width of the data. By default it is left as it is. Its zero-loss
        peak may stay wider: ``compare_deconvolution`` tells the width that was reached.""",
    "classical_errors": """NotImplementedError
        For a non-uniform energy axis.
    TypeError
        If `psf` is not an EELSSpectrum.
    ValueError
        If the energy axis has under 64 channels or its units cannot become eV; for a `psf` of
        another dispersion or navigation shape; without `psf`, if no spectrum has a zero-loss peak;
        for a residual; for a `resolution` out of range""",
    "classical_warnings": """UserWarning
        One warning with the counts of flagged spectra: empty ones and, without `psf`, ones without a
        zero-loss peak (zeros are returned); ones that are not finite or whose own `psf` is unusable
        (NaN); ones with a saturated zero-loss peak or a spike; and ones that the result, blurred
        again, does not explain (see Notes). For a lazy result it comes when all of it has been
        computed, and the counts are not in its metadata. One for a `psf` that is saturated, has a
        spike or is cut off; one if the signal is itself a result.""",
}


def with_shared_texts(method):
    """Fill the texts in that the docstring of a method names."""
    method.__doc__ %= SHARED
    return method
