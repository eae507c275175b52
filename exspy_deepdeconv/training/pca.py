"""Training pairs from a user's own map: its components by HyperSpy, its response, its noise."""

import warnings
from dataclasses import dataclass

import numpy as np

from .._arguments import check_bool, is_whole
from ..physics import SATURATED, SPIKE, find_zero_loss, inspect, shift_channels, smooth
from . import references
from .exported import MeasuredPairs
from .psf_check import of_misfit

MAX_SPECTRA = 2048  # of a large map these many, evenly spread, are decomposed
MAX_NOISE = 512  # rows of noise that are kept
FEWEST, FEW = 8, 50
SAME = 8.0  # in units of the noise variance: frames differ by less
# HyperSpy's algorithms that must be told their number of components.
TOLD = ("MLPCA", "NMF", "RPCA", "ORPCA", "ORNMF", "sparse_pca", "mini_batch_sparse_pca")


def measured_pairs(
    signal,
    psf=None,
    *,
    vacuum=None,
    components=None,
    algorithm="SVD",
    frames=None,
    seed=0,
):
    """Make training pairs of a measured low-loss map.

    The low components of the map are its references, the response is captured, what the components
    leave is its noise. A pair is a reference, drawn between and beyond the measured pixels, seen
    through the response, varied in width and asymmetry, with measured and simulated noise.

    Parameters
    ----------
    signal : exspy.signals.EELSSpectrum
        Low-loss spectra, eager or lazy, at least 8; never changed. Of more than 2048, these many
        are read, evenly spread over the map (the same ones of a lazy signal).
    psf : exspy.signals.EELSSpectrum, optional
        Zero-loss peaks measured in vacuum, on the same dispersion; several are aligned and summed.
    vacuum : numpy.ndarray or BaseSignal of bool, optional
        Instead of ``psf``: True where the map shows vacuum, in the shape of
        ``signal.axes_manager.navigation_shape``. These pixels are left out of the references.
        Where neither is given, the response is read off the map by the bundled network: of the sum of
        its quietest spectra (`exspy_deepdeconv.inference.estimate_response`, ``shared=True``), of frames
        the mean of all.
    components : int, optional
        Number of components that are signal; HyperSpy's elbow of the scree plot by default, and
        all those of an estimator that was told their number. No more than half as many as there
        are usable spectra (the elbow is cut off there): something must be left to be noise.
    algorithm : str or object
        As for `decomposition` of HyperSpy: a name, or an estimator of scikit-learn with a
        ``random_state`` of its own. Most of those without a scree plot must be told ``components``.
    frames : bool, optional
        True where all spectra are frames of one area: their mean is the only reference and the
        frames minus the mean are the noise. By default that is taken to be so where the spectra
        nowhere differ, over five zero-loss widths, by more than eight times the noise variance, and
        neither ``components`` nor ``algorithm`` is given.
    seed : int
        Seed of the batches.

    Returns
    -------
    MeasuredPairs
        Plain arrays; its ``batch(number)`` is what training asks for.

    Warns
    -----
    UserWarning
        For fewer than 50 spectra, and of a response that is cut off, saturated or wider than the
        zero-loss peaks of the map, or that does not fit more than a tenth of its spectra (of at most 64,
        judged as in ``deep_deconvolve``). It is used all the same.

    Raises
    ------
    TypeError
        If ``signal`` or ``psf`` is no EELSSpectrum, or ``algorithm`` a class.
    ValueError
        For fewer than 8 usable spectra; if ``signal`` or ``psf`` is a result of a deconvolution or a
        residual, or ``psf`` the signal itself; or if an argument is out of its range.

    Notes
    -----
    *Alignment.* Spectra are moved by fractions of a channel in Fourier space, to where
    `find_zero_loss` sees the peak. HyperSpy's own alignment interpolates linearly, which smooths
    the noise that is wanted here, and crops or fills both ends.

    *Decomposition.* Of Poisson-normalised data; what the readout adds to the variance is added to
    the counts for it, which also keeps them positive. The whole SVD of the spectra read is
    computed, in memory: it does not differ between runs, nor between eager and lazy signals.

    *What is assumed of the references.*

    - The elastic peak is the captured response, broadened to the map's zero-loss width where it
      is narrower, fitted to the core of the peak. What is left is inelastic; but what is left on
      the gain side is misfit of the response, and its mirror image is taken off the loss side.
    - Nothing is believed within half a zero-loss width of the peak, what follows is faded in up to
      one width, and there are no energy gains. Losses that do not stand above the noise of the
      components over several widths are faded out.
    - The response is removed by Richardson-Lucy from spectra smoothed to the zero-loss width. Lines
      become `MeasuredPairs.resolution` wide by that, about six tenths of the zero-loss width; above
      the response's cut-off there is nothing left, noise included.

    A reference is then taken for an unblurred specimen. It is not what this specimen is, but one
    like it, and its spectrum at any resolution is known exactly. Losses finer than
    `MeasuredPairs.resolution`, or closer to the peak, must come from simulated pairs.

    *Noise.* Its variance is ``gain * counts + floor``, read from the spectra, times what the
    components leave in excess of it, channel by channel. Beside the zero-loss peak that is misfit:
    there the noise of what follows is taken.

    References
    ----------
    M. R. Keenan, P. G. Kotula, Surf. Interface Anal. 36 (2004) 203 (Poisson normalisation).
    V. Satopää et al., ICDCS Workshops (2011) 166 (elbow).
    W. H. Richardson, J. Opt. Soc. Am. 62 (1972) 55; L. B. Lucy, Astron. J. 79 (1974) 745.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training.pca import measured_pairs
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> pairs = measured_pairs(s, data.vacuum_spectrum(s))
    >>> pairs.references().shape
    (64, 512)
    """
    axis = _check_signal(signal)
    _check_numbers(components, frames, seed)
    if isinstance(algorithm, type):
        raise TypeError(f"algorithm={algorithm!r} is a class: make an estimator of it, as PCA(3).")
    if psf is not None and vacuum is not None:
        raise ValueError("psf and vacuum are both given: the response is captured in one of them.")
    if frames and components is not None:
        raise ValueError(f"frames=True has one component, not components={components!r}.")
    captured = None if psf is None else _response_spectra(psf, signal, axis)
    left_out = _vacuum_mask(vacuum, signal)
    if left_out.any():
        captured = _rows(signal, left_out, axis)
    rows = _rows(signal, ~left_out, axis)
    spectra, zero = _aligned_map(rows)
    if zero + references.PEAK_WIDTHS * spectra.fwhm + 2 > spectra.counts.shape[-1]:
        raise ValueError(
            f"signal has its highest peak, {spectra.fwhm:.3g} channels wide, at channel {zero} of "
            f"{spectra.counts.shape[-1]}: that is no zero-loss peak with losses beyond it."
        )
    loadings, ratio = _loadings(spectra, zero, components, algorithm, frames)
    if captured is not None:
        _warn_of_misfit(rows, captured, psf, axis.dispersion)
    else:
        from ..inference import estimate_response  # torch only where it is needed

        differ = loadings.shape[1] > 1  # of frames that do not, noise alone makes quiet ones
        seen = spectra.counts if differ else spectra.counts.mean(axis=0)
        captured = estimate_response(seen, zero_channel=zero, shared=differ)[None]
    response = references.captured_response(captured, spectra.fwhm)
    return _pairs(spectra, zero, response, loadings, ratio, axis, seed)


def plot_scree(pairs, ax=None):
    """HyperSpy's scree plot of the decomposition behind pairs, its signal components marked.

    Parameters
    ----------
    pairs : MeasuredPairs
        From `measured_pairs`, or loaded again.
    ax : matplotlib.axes.Axes, optional
        Where to plot; a new figure by default.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    TypeError
        If ``pairs`` are no MeasuredPairs, but for instance the map itself.
    ValueError
        If there was no decomposition (frames of one area) or its algorithm has no scree plot.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training.pca import measured_pairs, plot_scree
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> ax = plot_scree(measured_pairs(s, data.vacuum_spectrum(s)))
    >>> ax.get_yscale()
    'log'
    """
    from hyperspy.signals import Signal1D

    if not isinstance(pairs, MeasuredPairs):
        raise TypeError(
            "pairs must be what measured_pairs(signal) returns, not of the class "
            f"{type(pairs).__name__}."
        )
    ratio = pairs.variance_ratio
    if not ratio.size:
        raise ValueError("pairs have no scree plot: there was no decomposition that explains one.")
    signal = Signal1D(np.zeros((ratio.size, 2)))
    signal.learning_results.explained_variance_ratio = ratio
    number = min(pairs.elastic.size, ratio.size)
    return signal.plot_scree_plot(n=min(30, ratio.size), threshold=number, ax=ax)


@dataclass(frozen=True)
class _Spectra:
    """Aligned spectra without their offset, and what was seen of them."""

    counts: np.ndarray
    gain: float
    floor: float
    level: float
    fwhm: float


def _check_signal(signal):
    from exspy.signals import EELSSpectrum

    from .._signals import checks

    if not isinstance(signal, EELSSpectrum):
        raise TypeError(f"signal must be an EELSSpectrum, not {type(signal).__name__}.")
    if made := checks.already_made(signal):
        raise ValueError(f"signal is {made}: measured spectra are needed.")
    return checks.check_low_loss(signal)


def _check_numbers(components, frames, seed):
    for name, value, least in (("components", components, 1), ("seed", seed, 0)):
        if value is not None and not (is_whole(value) and value >= least):
            raise ValueError(f"{name}={value!r} must be a whole number from {least}.")
    if seed is None:
        raise ValueError("seed=None: batches must be the same when training goes on.")
    if frames is not None:
        check_bool("frames", frames)


def _response_spectra(psf, signal, axis):
    """The spectra of a captured response, whatever their number."""
    from .._signals import responses

    own = responses.check_measured(psf, signal, axis.dispersion)
    rows = _rows(psf, np.ones(psf.data.shape[:-1], bool), own)
    for odd in responses.remarks(rows, psf):
        warnings.warn(f"measured_pairs: {odd}", UserWarning, stacklevel=3)
    return rows


def _warn_of_misfit(rows, captured, psf, dispersion):
    """Say that a captured response is not that of the map's spectra.

    Nothing is said of one that was estimated, as nothing is of the one that is estimated without a psf.
    """
    from .._signals.responses import was_estimated

    if was_estimated(psf):
        return
    for odd in of_misfit(rows, references.aligned_sum(captured), dispersion):
        warnings.warn(f"measured_pairs: {odd}", UserWarning, stacklevel=3)


def _vacuum_mask(vacuum, signal):
    """True where the map shows vacuum, in the order of the data (y, x)."""
    from .._signals import checks

    mask = checks.check_navigation_mask(vacuum, signal, "vacuum")
    if vacuum is not None and not mask.any():
        raise ValueError("vacuum is True nowhere: there is nothing to capture the response from.")
    return mask


def _rows(signal, wanted, axis):
    """Some of the spectra as rows of rising energy, in double precision; at most MAX_SPECTRA."""
    from .._signals import checks, sampling

    if not wanted.any():
        return np.zeros((0, signal.data.shape[-1]))
    places = sampling.spread_over(np.argwhere(wanted), MAX_SPECTRA)
    rows = np.float64(sampling.read_spectra(checks.plain_array(signal), places))
    return rows[:, ::-1] if axis.reversed else rows


def _aligned_map(rows):
    """The usable spectra, their zero-loss peaks in one channel, and that channel."""
    seen = inspect(rows) if len(rows) else None
    good = seen.usable & (seen.flags & (SPIKE | SATURATED) == 0) if len(rows) else np.zeros(0, bool)
    number = int(good.sum())
    if number < FEWEST:
        raise ValueError(
            f"signal has {number} usable low-loss spectra (of {len(rows)}): at least {FEWEST} are "
            "needed to tell signal from noise. Record a map, a line or repeated frames, or train "
            "on simulated pairs with the measured zero-loss peak."
        )
    if number < FEW:
        warnings.warn(
            f"Training pairs from {number} spectra: with fewer than {FEW}, the noise learnt from "
            "them hardly varies. Mix them with simulated pairs, as fine_tune() does.",
            UserWarning,
            stacklevel=3,
        )
    zero = int(round(float(np.median(seen.zero_loss.position[good]))))
    counts = shift_channels(seen.counts[good], zero - seen.zero_loss.position[good])
    noise = seen.noise
    gain = float(np.median(noise.gain[good]))
    aligned = _Spectra(
        counts,
        max(gain, 1e-12 * float(counts.max())),
        float(np.median(noise.floor[good])),
        float(np.median(seen.level[good])),
        float(find_zero_loss(counts.mean(axis=0)).fwhm),
    )
    return aligned, zero


def _loadings(spectra, zero, components, algorithm, frames):
    """Loadings of the components that are signal, and what all components explain."""
    total = np.maximum(spectra.counts.sum(axis=-1), 1e-300)
    scale = (total / total.mean())[:, None]
    plain = components is None and isinstance(algorithm, str) and algorithm == "SVD"
    if frames or (frames is None and plain and _same(spectra, scale, zero)):
        return scale, np.zeros(0)
    _check_most(components, min(len(total) // 2, spectra.counts.shape[1]), len(total))
    results = _decomposition(spectra, components, algorithm)
    ratio = results.explained_variance_ratio
    ratio = np.zeros(0) if ratio is None else np.asarray(ratio, float)
    loadings = np.float64(results.loadings)
    _check_most(components, loadings.shape[1], len(total))
    # An estimator's own choice of components has no elbow.
    whole = ratio.size >= min(spectra.counts.shape) - 1
    number = components or (results.number_significant_components if whole else loadings.shape[1])
    loadings = loadings[:, : min(number, len(total) // 2)]  # something must be left to be noise
    if results.mean is not None:  # centred by the estimator, after the Poisson normalisation
        loadings = np.hstack([np.sqrt(scale), loadings])
    return loadings, ratio


def _check_most(components, most, number):
    """Raise a ValueError for more components than there can be."""
    if components is not None and components > most:
        raise ValueError(
            f"components={components!r} must be at most {most} for {number} usable spectra and this "
            "algorithm: half of them must be left to be noise."
        )


def _same(spectra, scale, zero):
    """Whether the spectra hardly differ but by noise and brightness, beside the zero-loss peak.

    Repeated frames are never quite the same: the beam drifts. A map differs a hundred times more.
    """
    model = scale * (spectra.counts.sum(axis=0) / scale.sum())
    variance = spectra.gain * np.maximum(model, 0) + spectra.floor
    square = ((spectra.counts - model) ** 2 / variance).mean(axis=0)
    losses = square[zero + int(2 * spectra.fwhm) + 1 :]
    return smooth(losses, 5 * spectra.fwhm).max(initial=0.0) < SAME


def _decomposition(spectra, components, algorithm):
    """HyperSpy's results for the aligned spectra."""
    from exspy.signals import EELSSpectrum

    named = isinstance(algorithm, str)
    if named and algorithm in TOLD and components is None:
        raise ValueError(f"components=None: algorithm={algorithm!r} must be told their number.")
    # Readout noise counts as that of a few more electrons.
    shifted = np.maximum(spectra.counts + spectra.floor / spectra.gain, 0)
    line = EELSSpectrum(shifted)
    line.decomposition(
        normalize_poissonian_noise=not (named and algorithm == "MLPCA"),
        algorithm=algorithm,
        output_dimension=components if named and algorithm in TOLD else None,
        svd_solver="full",
        print_info=False,
    )
    return line.learning_results


def _pairs(spectra, zero, response, loadings, ratio, axis, seed):
    """Everything that the batches are drawn from."""
    counts, fwhm = spectra.counts, spectra.fwhm
    number, components = loadings.shape
    inverse = np.linalg.pinv(loadings)
    model = loadings @ (inverse @ counts)
    variance = spectra.gain * np.maximum(model, 0) + spectra.floor
    typical = variance.mean(axis=0)
    psf = references.sampled_response(response, counts.shape[-1])
    elastic, left = references.without_elastic(model, typical, psf, fwhm, zero)
    noise = float(np.sqrt(np.median(variance)))
    sharp, resolution = references.sharpened(left, psf, fwhm, zero, noise)
    sharp = references.believed(sharp, typical * components / number, fwhm)
    elastic, losses = inverse @ elastic, inverse @ sharp
    rows, excess = references.white_rows((counts - model) / np.sqrt(variance), fwhm, zero)
    kept = np.unique(np.linspace(0, number - 1, MAX_NOISE).astype(int))
    return MeasuredPairs(
        loadings=loadings[loadings @ elastic > 0],
        elastic=elastic,
        losses=losses,
        response=response,
        noise=rows[kept].astype(np.float32),
        excess=excess * number / (number - components),  # the components took their share
        variance_ratio=ratio,
        gain=spectra.gain,
        floor=spectra.floor,
        level=spectra.level,
        zero=zero,
        fwhm=fwhm,
        resolution=resolution,
        dispersion=axis.dispersion,
        seed=int(seed),
    )
