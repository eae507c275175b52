"""Random responses of electron sources, spectrometers and detectors (NumPy and SciPy only).

A response is an array of unit sum on the fine axis of a `~exspy_deepdeconv.experiment.grid.Grid`,
its maximum near index 0 and its negative side wrapped around, ready for the Fourier transform.
"""

import numpy as np
import scipy.fft as fft

from ..physics import FWHM_PER_SIGMA
from ..spectrum.blur import gaussian_transfer


def random_response(grid, fwhm, spread_channels, rng, measured=(), shoulders=0.0):
    """Draw a response about ``fwhm`` channels wide.

    Parameters
    ----------
    grid : Grid
        The fine axis.
    fwhm : float
        Full width at half maximum aimed at, in channels.
    spread_channels : float
        FWHM of the detector's point spread, part of every response.
    rng : numpy.random.Generator
        Source of randomness.
    measured : sequence of numpy.ndarray
        Measured zero-loss peaks (any length, any units), stretched to the width; one in ten
        responses is made of one of them.
    shoulders : float
        Share of the responses with a shoulder on either side, as a monochromator that is not
        quite in tune makes them.

    Returns
    -------
    numpy.ndarray
        Unit sum, shape ``(grid.size,)``.
    """
    distance = grid.wrapped_channels / fwhm  # in units of the width, negative side included
    # What is drawn is not exactly one unit wide: it is drawn again, alike, on a stretched axis.
    draw, seed = _one_peak(distance, rng, measured)
    core = draw(distance, np.random.default_rng(seed))
    stretch = _full_width(core) / (fwhm * grid.oversampling)
    core = draw(distance * stretch, np.random.default_rng(seed))
    core = np.roll(core, -int(np.argmax(core)))
    if shoulders and rng.random() < shoulders:
        core = _with_shoulders(core, distance, rng)
    core = tapered(_with_tails(core, distance, rng), grid)
    if spread_channels > 0:
        core = _blurred(core, spread_channels * grid.oversampling)
    # Integration over a detector channel is part of what a zero-loss peak shows.
    core = np.maximum(_boxed(core, grid.oversampling), 0)
    return core / core.sum()


def _one_peak(distance, rng, measured):
    """Draw until all that is above half the height is in one piece: two peaks are no zero-loss peak."""
    while True:
        seed, draw = rng.integers(2**63), _core_maker(rng, measured)
        core = draw(distance, np.random.default_rng(seed))
        above = np.roll(core > 0.5 * core.max(), core.size // 2)
        if np.count_nonzero(np.diff(above.astype(int)) == 1) <= 1:
            return draw, seed


def _core_maker(rng, measured):
    """Choose a kind of response: a function of the axis and of a generator of its own."""
    if len(measured) and rng.random() < 0.1:
        peak = measured[rng.integers(len(measured))]
        return lambda x, _: _measured(x, peak)
    kind = KINDS[rng.integers(len(KINDS))]
    if rng.random() < 0.7:
        return kind
    other, ratio = KINDS[rng.integers(len(KINDS))], rng.uniform(1.5, 4)

    def both(x, generator):
        first, second = kind(x, generator), other(x * ratio, generator)
        return _convolve(first / first.sum(), second / second.sum())

    return both


def tapered(response, grid):
    """Let both far ends, which meet on the circle, end at zero."""
    distance = np.abs(np.arange(grid.size) - grid.loss_side)
    return response * np.clip(distance / (grid.size // 32), 0, 1)


def _convolve(a, b):
    return np.maximum(fft.irfft(fft.rfft(a) * fft.rfft(b), a.size), 0)


def _blurred(response, fwhm):
    transfer = gaussian_transfer(fft.rfftfreq(response.size), fwhm)
    return fft.irfft(fft.rfft(response) * transfer, response.size)


def _boxed(response, width):
    if width == 1:
        return response
    frequency = fft.rfftfreq(response.size)
    # Fine samples are midpoints: the box over `width` of them has a real transfer function.
    transfer = np.sinc(frequency * width)
    return fft.irfft(fft.rfft(response) * transfer, response.size)


def _full_width(core):
    """Width at half maximum in fine samples, crossings interpolated."""
    ordered = np.roll(core, core.size // 2 - int(np.argmax(core)))
    above = np.flatnonzero(ordered > 0.5 * ordered.max())
    low, high, half = above[0], above[-1], 0.5 * ordered.max()
    left = (ordered[low] - half) / max(ordered[low] - ordered[low - 1], 1e-300)
    right = (ordered[high] - half) / max(ordered[high] - ordered[high + 1], 1e-300)
    return max(high - low + min(left, 1.0) + min(right, 1.0), 1.0)


def _cold_field_emission(x, rng):
    """Tunnelling: exponential towards lower energy (loss), Fermi edge on the other side."""
    tunnel, thermal = rng.uniform(0.3, 0.8), rng.uniform(0.05, 0.2)
    distribution = np.exp(-x / tunnel - np.logaddexp(0, -x / thermal))
    kernel = np.exp(-0.5 * (x * FWHM_PER_SIGMA / rng.uniform(0.2, 0.8)) ** 2)
    return _convolve(distribution / distribution.sum(), kernel / kernel.sum())


def _schottky(x, rng):
    """Thermal emission over the barrier, broadened by Coulomb interactions."""
    thermal = rng.uniform(0.25, 0.5)
    distribution = np.where(
        x < 0.5, np.clip(0.5 - x, 0, None) * np.exp(-np.clip(0.5 - x, 0, 60) / thermal), 0.0
    )
    kernel = np.exp(-0.5 * (x * FWHM_PER_SIGMA / rng.uniform(0.3, 0.9)) ** 2)
    core = _convolve(distribution / distribution.sum(), kernel / kernel.sum())
    return core if rng.random() < 0.5 else np.roll(core[::-1], 1)


def _monochromated(x, rng):
    """A slit cuts the source's distribution: flat-topped core, slit-scattering tails."""
    order = rng.uniform(1.6, 3.5)
    core = np.exp(-np.log(2) * np.abs(2 * x) ** order)
    tail = 1 / (1 + np.abs(2 * x / rng.uniform(0.8, 2.0)) ** rng.uniform(1.8, 3.5))
    side = np.where(x > 0, np.exp(0.25 * rng.standard_normal()), 1.0)
    return core + np.exp(rng.uniform(np.log(1e-3), np.log(0.15))) * tail * side


def _voigt(x, rng):
    """Sum of a Gaussian and a Lorentzian of about the same width, slightly skewed."""
    skew = 1 + rng.uniform(-0.25, 0.25) * np.tanh(x)
    share = rng.uniform(0, 1) ** 1.5
    return (1 - share) * np.exp(-np.log(2) * (2 * x * skew) ** 2) + share / (
        1 + (2 * x * skew) ** 2
    )


def _pearson(x, rng):
    """Pearson VII with slightly different exponents on both sides."""
    gain_side = rng.uniform(0, 2)
    loss_side = max(gain_side + 0.25 * rng.standard_normal(), 0)
    exponent = np.exp(np.where(x > 0, loss_side, gain_side))
    width = np.sqrt(np.power(2.0, 1 / exponent) - 1)
    return (1 + (2 * x * width) ** 2) ** -exponent


def _jitter(x, rng):
    """A Lorentzian smeared by random energy shifts (EELSpecNet's published recipe)."""
    width = rng.uniform(0.5, 1.0)
    shifts = rng.uniform(-0.5, 0.5, 25) * rng.uniform(0.2, 1.4)
    return np.mean([1 / (1 + (2 * (x - shift) / width) ** 2) for shift in shifts], axis=0)


def _free_form(x, rng):
    """A few Gaussians side by side: drift, charging, a badly tuned spectrometer."""
    number = rng.integers(2, 5)
    centres, widths = rng.normal(0, 0.35, number), rng.uniform(0.3, 1.0, number)
    weights = rng.dirichlet(np.ones(number) * 2)
    return sum(
        w * np.exp(-0.5 * ((x - c) * FWHM_PER_SIGMA / s) ** 2)
        for w, c, s in zip(weights, centres, widths, strict=True)
    )


def _measured(x, peak):
    """A measured zero-loss peak, its width brought to 1, its tails freed of noise and continued."""
    peak = np.asarray(peak, float)
    top = int(np.argmax(peak))
    above = np.flatnonzero(peak > 0.5 * peak[top])
    width = max(above[-1] - above[0] + 1, 2)
    core = np.interp(np.abs(x) * width, *side_of(peak[top:], width))
    gain_side = np.interp(np.abs(x) * width, *side_of(peak[top::-1], width))
    return np.exp(np.where(x > 0, core, gain_side))


def side_of(counts, width):
    """One side of a peak: channels from the maximum, and the logarithm of its height there.

    Past one width a channel is the mean over a tenth of its distance; past the data the tail goes
    on as the power of the distance that it had in their outer half.
    """
    reach = counts.size - 1
    far = np.unique(np.geomspace(width, reach, 60).astype(int)) if reach > 2 * width else []
    near = np.arange(min(width, reach) if len(far) else reach + 1)
    means = [counts[max(n - n // 10, 0) : n + n // 10 + 1].mean() for n in far]
    distance = np.concatenate([near, far])
    height = np.maximum(np.concatenate([counts[near], means]), 1e-9 * counts[0])
    outer = distance >= max(reach / 2, 1)
    slope = np.polyfit(np.log(distance[outer]), np.log(height[outer]), 1)[0] if len(far) else -2.0
    beyond = reach * np.array([2.0, 4.0, 16.0, 64.0])
    height = np.concatenate([height, height[-1] * (beyond / reach) ** min(slope, -1.0)])
    return np.concatenate([distance, beyond]), np.log(height)


KINDS = (
    _cold_field_emission,
    _schottky,
    _monochromated,
    _voigt,
    _pearson,
    _jitter,
    _free_form,
)


def _with_shoulders(core, x, rng):
    """Add a low bell on both sides, at the same distance and of similar height; or lower on the loss side.

    Of ten spectra of a monochromated map, two have a gain side that is up to three times as high as
    the loss side, two to six widths from the peak. A bell on the loss side alone would be a loss.
    """
    place = np.exp(rng.uniform(np.log(0.8), np.log(4.0)))
    width = place * rng.uniform(0.4, 1.3)
    height = core.max() * np.exp(rng.uniform(np.log(1e-3), np.log(0.05)))
    loss_side = rng.uniform(0, 1) if rng.random() < 0.3 else np.exp(0.15 * rng.standard_normal())
    for centre, share in ((-place, 1.0), (place * np.exp(0.05 * rng.standard_normal()), loss_side)):
        core = core + share * height * np.exp(-0.5 * ((x - centre) * FWHM_PER_SIGMA / width) ** 2)
    return core


def _with_tails(core, x, rng):
    """Add detector tails (exponential) and a weak halo of power-law scattering.

    Light and charge spread in the same way to both sides of a channel: in one monochromated peak
    measured in vacuum, one side is 0.95 to 1.05 times the other between one and six widths, in another
    0.6 to 0.9 times. In one case of ten, the two sides are drawn independently, so that the
    network cannot rely on it. These peaks fall with the power 2.4 of the distance near the maximum and
    with its first power far away.
    """
    core = core / core.sum()
    if rng.random() < 0.6:
        weight = np.exp(rng.uniform(np.log(1e-3), np.log(0.06)))
        left, right = np.exp(rng.uniform(np.log(0.7), np.log(8), 2))
        if rng.random() < 0.9:
            right = left * np.exp(0.1 * rng.standard_normal())
        tail = np.exp(-np.abs(x) / np.where(x > 0, right, left))
        core = (1 - weight) * core + weight * tail / tail.sum()
    if rng.random() < 0.5:
        weight = np.exp(rng.uniform(np.log(3e-4), np.log(0.03)))
        scale, power = rng.uniform(0.5, 3.0), rng.uniform(0.9, 3.0)
        tail = (1 + (x / scale) ** 2) ** (-power / 2) * np.where(
            x > 0, np.exp(0.2 * rng.standard_normal()), 1.0
        )
        core = (1 - weight) * core + weight * tail / tail.sum()
    return core


def read_response(path):
    """Read a measured zero-loss peak from a file, to draw responses from.

    Parameters
    ----------
    path : str or pathlib.Path
        A NumPy ``.npy`` file of counts or a HyperSpy file (``.hspy``, ``.zspy``) of one signal, whose
        spectra are summed, or a text file whose last column holds counts (commas or white space
        between columns; lines that are not numbers are passed over).

    Returns
    -------
    numpy.ndarray
        Counts, one-dimensional.

    Raises
    ------
    ValueError
        If the file holds no positive peak inside its axis, or several signals.
    """
    if str(path).endswith(".npy"):
        counts = _summed(np.load(path, allow_pickle=False))
    elif str(path).endswith((".hspy", ".zspy")):
        import hyperspy.api as hs  # not there on a bare GPU node, which gets .npy files

        signal = hs.load(path)
        if isinstance(signal, list):
            raise ValueError(f"{path} holds several signals: save the zero-loss peak alone.")
        counts = _summed(signal.data)
        if signal.axes_manager[-1].scale < 0:  # the energy falls along the axis
            counts = counts[::-1]
    else:
        with open(path, encoding="utf-8", errors="replace") as file:
            rows = [line.replace(",", " ").split() for line in file]
        counts = np.array([float(row[-1]) for row in rows if row and _is_number(row[-1])])
    counts = np.asarray(counts, float)
    usable = counts.size >= 16 and np.isfinite(counts).all() and counts.max() > 0
    # With its maximum at an end of the axis, one of its sides is not there.
    if not (usable and 0 < counts.argmax() < counts.size - 1):
        raise ValueError(f"{path} holds no zero-loss peak.")
    return counts


def _summed(data):
    """The sum of all spectra; a single one may be a row or a column."""
    spectra = np.atleast_1d(np.squeeze(data))
    return spectra.reshape(-1, spectra.shape[-1]).sum(axis=0)


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True
