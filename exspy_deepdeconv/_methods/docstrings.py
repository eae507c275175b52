"""Texts that the docstrings of the signal methods share."""

from hyperspy.docstrings.signal import LAZY_OUTPUT_ARG, NUM_WORKERS_ARG, SHOW_PROGRESSBAR_ARG

# HyperSpy's texts are indented for a method inside a class.
_COMPUTING = [
    text.replace("\n    ", "\n")
    for text in (SHOW_PROGRESSBAR_ARG, NUM_WORKERS_ARG, LAZY_OUTPUT_ARG)
]

SHARED = {
    "computing": "\n    ".join(_COMPUTING),
    "computing_eagerly": "\n    ".join(_COMPUTING[:2]),
    "classical_psf": """psf : EELSSpectrum, optional
        A measured response, for instance a spectrum taken in vacuum (several become one by
        ``vacuum_psf()``), on the same dispersion: either one for all spectra or one for each (same
        navigation shape). Its length and area are free; its maximum is its energy zero. By default
        ``estimate_psf()`` estimates it from each spectrum; ``s.estimate_psf(shared=True)`` estimates one
        from the quietest spectra of a map.""",
    "smoothing": """resolution : float, optional
        Full width at half maximum in eV of a Gaussian with which the result is smoothed, from 2
        channels up to the zero-loss width of the data. By default the result is not smoothed. Its
        zero-loss peak may be wider than that: ``compare_deconvolution`` shows the width that was
        reached.""",
    "classical_errors": """NotImplementedError
        For a non-uniform energy axis.
    TypeError
        If `psf` is not an EELSSpectrum.
    ValueError
        If the energy axis has under 64 channels or its units cannot become eV; for a `psf` of
        another dispersion or navigation shape; without `psf`, if no spectrum has a zero-loss peak;
        for a residual; for a `resolution` out of range""",
    "classical_warnings": """UserWarning
        One warning counts the flagged spectra: those that are empty or, without `psf`, have no
        zero-loss peak (the result is zero); those that are not finite or whose own `psf` is unusable
        (NaN); those with a saturated zero-loss peak or a spike; those that the result, blurred
        again, does not explain (see Notes); and those whose zero-loss peak clearly has another width
        than the `psf` (by over 3 % and more than noise can make), which is used all the same. For a
        lazy result it comes once all of it has been computed, and the numbers are not in its metadata.
        Other warnings are given for a `psf` that is saturated, has a spike, is cut off or rises again behind
        its peak (losses); without `psf`, if the zero-loss peak is out of range, as by ``deep_deconvolve``;
        and if the signal is itself a result.""",
}


def with_shared_texts(method):
    """Decorator: put the shared texts where the docstring of a method names them."""
    method.__doc__ %= SHARED
    return method
