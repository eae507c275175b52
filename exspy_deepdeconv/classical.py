"""Classical deconvolution: array functions ``f(spectra, psf, ...) -> spectra``, batched.

``spectra`` has the shape ``(..., channels)``; ``psf`` is one response or one per spectrum, of any
length and scale; its maximum is its energy zero. Single precision is kept, everything else is
computed in double precision. Every result is finite and non-negative, except for spectra that are not
finite or partly masked: theirs is NaN.
"""

from copy import copy

import numpy as np

from ._arguments import check_iterations, is_whole
from .response.convolution import as_rows, in_batches, response_convolution
from .solvers.fourier import fourier_ratio
from .solvers.stopping import loss_region, stop_when_level
from .solvers.variation import total_generalised_variation

__all__ = [
    "fourier_ratio",
    "image_space_reconstruction",
    "richardson_lucy",
    "richardson_lucy_iterates",
    "total_generalised_variation",
]


def richardson_lucy(spectra, psf, iterations=15, *, return_chosen=False):
    """Richardson-Lucy deconvolution: towards the maximum likelihood of Poisson counts.

    The iteration is the textbook's, from the data as its start: a flat offset stays in the data
    and in the answer. The ends are padded with their own values.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``; negative readings are set to zero.
    psf : numpy.ndarray
        The response, shape ``(length,)`` or ``(..., length)``.
    iterations : int or "auto"
        Number of iterations, at least 1. ``"auto"`` stops each spectrum where its misfit beyond
        the zero-loss peak has levelled off, after 600 iterations at most: see
        `exspy_deepdeconv.solvers.stopping.stop_when_level`.
    return_chosen : bool
        Return the number of iterations as well.

    Returns
    -------
    estimate : numpy.ndarray
        Non-negative, of the shape of ``spectra``.
    chosen : numpy.ndarray of int
        Iterations done, navigation shape; only if ``return_chosen``.

    Raises
    ------
    ValueError
        If ``iterations`` is below 1 or an unknown word, or a response holds no peak.

    References
    ----------
    W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55; L. B. Lucy, Astron. J. 79 (1974) 745.
    A. Gloter et al., Ultramicroscopy 96 (2003) 385, brought it to EELS.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.classical import richardson_lucy
    >>> from exspy_deepdeconv.physics import gaussian
    >>> blurred = 1e4 * gaussian(256, 100.0, 10.0)
    >>> sharp = richardson_lucy(blurred, gaussian(64, 32.0, 8.0), iterations=50)
    >>> bool(sharp.max() > 1.4 * blurred.max())
    True
    """
    return _iterated(_RichardsonLucy, spectra, psf, iterations, return_chosen)


def image_space_reconstruction(spectra, psf, iterations=15, *, return_chosen=False):
    """Image-space reconstruction (ISRA): towards least squares, all channels weighing the same.

    It converges to the maximum likelihood for white Gaussian noise, and its answer stays positive. The
    iteration is that of Richardson-Lucy with the ratio taken after, not before, the second blur.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``; negative readings are set to zero.
    psf : numpy.ndarray
        The response, shape ``(length,)`` or ``(..., length)``.
    iterations : int or "auto"
        As in `richardson_lucy`.
    return_chosen : bool
        Return the number of iterations as well.

    Returns
    -------
    estimate : numpy.ndarray
        Non-negative, of the shape of ``spectra``.
    chosen : numpy.ndarray of int
        Iterations done, navigation shape; only if ``return_chosen``.

    Raises
    ------
    ValueError
        If ``iterations`` is below 1 or an unknown word, or a response holds no peak.

    References
    ----------
    M. E. Daube-Witherspoon, G. Muehllehner, IEEE Trans. Med. Imaging 5 (1986) 61.
    A. R. De Pierro, IEEE Trans. Med. Imaging 6 (1987) 174, proves that it converges.

    Examples
    --------
    >>> from exspy_deepdeconv.classical import image_space_reconstruction
    >>> from exspy_deepdeconv.physics import gaussian
    >>> blurred = 1e4 * gaussian(256, 100.0, 10.0)
    >>> sharp = image_space_reconstruction(blurred, gaussian(64, 32.0, 8.0), iterations=50)
    >>> bool(sharp.max() > 1.4 * blurred.max())
    True
    """
    return _iterated(_ImageSpace, spectra, psf, iterations, return_chosen)


def richardson_lucy_iterates(spectra, psf, iterations):
    """Yield the Richardson-Lucy estimates after several numbers of iterations.

    Parameters
    ----------
    spectra, psf
        As for `richardson_lucy`.
    iterations : iterable of int
        Increasing numbers of iterations.

    Yields
    ------
    numpy.ndarray
        Of the shape of ``spectra``.

    Raises
    ------
    ValueError
        If the numbers do not grow, or a response holds no peak.

    Examples
    --------
    >>> from exspy_deepdeconv.classical import richardson_lucy_iterates
    >>> from exspy_deepdeconv.physics import gaussian
    >>> blurred = 1e4 * gaussian(256, 100.0, 10.0)
    >>> few, many = richardson_lucy_iterates(blurred, gaussian(64, 32.0, 8.0), (5, 50))
    >>> bool(few.max() < many.max())
    True
    """
    rows, psf = as_rows(spectra, psf)
    problem = _RichardsonLucy(rows, response_convolution(psf, rows.shape[-1], rows.dtype))
    done, estimate = 0, problem.data
    for wanted in iterations:
        if not (is_whole(wanted) and wanted > done):
            raise ValueError(
                f"iterations must be whole numbers that grow from 1 on: {wanted!r} follows {done}."
            )
        estimate = problem.advance(estimate, wanted - done)
        done = wanted
        yield estimate[:, problem.blur.window].reshape(np.shape(spectra))


class _RichardsonLucy:
    """The iteration for a batch of spectra on the padded axis."""

    def __init__(self, rows, blur):
        self.blur = blur
        self.data = np.maximum(blur.continued(rows), 0)
        # What rounding leaves in an empty channel: a model below that is meaningless.
        limits = np.finfo(self.data.dtype)
        self.floor = np.maximum(limits.eps * self.data.max(axis=-1, keepdims=True), limits.tiny)

    def of(self, rows):
        """The same for some of the spectra."""
        part = copy(self)
        part.blur, part.data, part.floor = self.blur.of(rows), self.data[rows], self.floor[rows]
        return part

    def advance(self, estimate, count):
        """The estimate after ``count`` more iterations."""
        estimate = estimate.copy()
        for _ in range(count):
            estimate *= self.correction(estimate)
        return estimate

    def correction(self, estimate):
        """What the estimate is multiplied by in one iteration."""
        ratio = np.maximum(self.blur.forward(estimate), self.floor)
        np.divide(self.data, ratio, out=ratio)
        return self.back(ratio)

    def back(self, padded):
        """Blurred with the mirrored response; what rounding leaves below zero is cut off."""
        seen = self.blur.adjoint(padded)
        return np.maximum(seen, 0, out=seen)

    def misfit(self, estimate, mask):
        """Sum of squared residuals over the channels of the window in ``mask``."""
        residual = (self.data - self.blur.forward(estimate))[:, self.blur.window]
        # Squared in double precision: single precision cannot hold the squares of 1e20 or 1e-23.
        return np.sum(np.square(residual, dtype=np.float64), axis=-1, where=mask)


class _ImageSpace(_RichardsonLucy):
    """ISRA: back-projected data over back-projected model."""

    def __init__(self, rows, blur):
        super().__init__(rows, blur)
        self.projected = self.back(self.data)

    def of(self, rows):
        part = super().of(rows)
        part.projected = self.projected[rows]
        return part

    def correction(self, estimate):
        model = np.maximum(self.back(self.blur.forward(estimate)), self.floor)
        return np.divide(self.projected, model, out=model)


def _iterated(method, spectra, psf, iterations, return_chosen):
    """Run an iterative method over all spectra, batch by batch."""
    check_iterations(iterations)
    automatic = isinstance(iterations, str)
    rows, psf = as_rows(spectra, psf)
    blur = response_convolution(psf, rows.shape[-1], rows.dtype)
    answer, chosen = np.empty_like(rows), np.zeros(len(rows), int)

    def run(batch):
        problem = method(rows[batch], blur.of(batch))
        if automatic:
            estimate, chosen[batch] = _stopped(problem, rows[batch])
        else:
            estimate, chosen[batch] = problem.advance(problem.data, iterations), iterations
        answer[batch] = estimate[:, blur.window]

    in_batches(run, len(rows), blur.size * rows.itemsize)
    answer, chosen = answer.reshape(np.shape(spectra)), chosen.reshape(np.shape(spectra)[:-1])
    return (answer, chosen) if return_chosen else answer


def _stopped(problem, spectra):
    mask, width = loss_region(spectra)

    def advance(estimate, rows, count):
        part = problem.of(rows)
        return part.advance(part.data if estimate is None else estimate, count)

    def misfit(estimate, rows):
        return problem.of(rows).misfit(estimate, mask[rows])

    return stop_when_level(advance, misfit, width)
