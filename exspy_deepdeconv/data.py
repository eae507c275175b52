"""Small simulated low-loss signals whose truth is known, made on the fly from a fixed seed.

They serve the demo, the notebooks, the examples and the tests. Nothing is downloaded: a signal
notes in ``metadata.Simulation`` how it was made, so that its truth can be computed again, at any
resolution and after saving and loading.
"""

import numpy as np

from ._arguments import is_real, is_whole
from .experiment.specimens import EnergyAxis, bell, drude_lorentz, lorentzian, plural_scattering
from .physics import FWHM_PER_SIGMA, half_height_width
from .simulate import Detector, compose, grid_for

MAP_DISPERSION = 0.01  # eV per channel
MAP_FWHM = 0.12  # eV
SPECTRUM_DISPERSION = 0.01
SPECTRUM_FWHM = 0.15
ELASTIC_COUNTS = 4e6
LOSS_SIDE, GAIN_SIDE = 0.15, 0.08  # decay of the response's flanks, in zero-loss widths
# Energies (eV) of the modes along the rod, their widths (eV) and strengths relative to I0.
ROD_MODES = ((0.26, 0.05, 9e-3), (0.48, 0.06, 7e-3), (0.68, 0.07, 5e-3))
EXCITONS = ((1.86, 0.05, 6e-3), (2.01, 0.06, 5e-3))


def plasmonic_map(shape=(24, 24), channels=1024, seed=0):
    """Spectrum image of a metal nanorod on a thin membrane, 10 meV per channel.

    The rod's three lowest standing waves lie at 0.26, 0.48 and 0.68 eV, two to six zero-loss
    widths (0.12 eV) from the zero-loss peak; the first is hidden in its tail. Surface and bulk
    plasmons follow at 3.5 and 3.8 eV. The zero-loss peak drifts by a few channels over the map.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the map.
    channels : int
        Length of the spectra, from about -2 eV on (later, where they are under 1000), at least 64.
    seed : int
        Seed of noise and drift.

    Returns
    -------
    exspy.signals.EELSSpectrum
        Counts; see `truth` for what they should have been.

    Raises
    ------
    ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> data.plasmonic_map(shape=(2, 3), channels=512)
    <EELSSpectrum, title: simulated nanorod, dimensions: (3, 2|512)>
    """
    if np.shape(shape) != (2,) or not all(is_whole(size) and size >= 1 for size in shape):
        raise ValueError(f"shape={shape!r} must be two whole numbers from 1: rows and columns.")
    _check_whole(64, channels=channels)
    _check_whole(0, seed=seed)
    recipe = {"name": "plasmonic_map", "shape": list(shape), "channels": channels, "seed": seed}
    counts = [simulation.counts for simulation in simulations(recipe)]
    return _signal(counts, recipe, "simulated nanorod", MAP_DISPERSION)


def exciton_spectrum(channels=512, seed=0):
    """One spectrum of a semiconductor: two excitons 0.15 eV apart below the onset at 2.3 eV.

    The zero-loss peak is 0.15 eV wide as well, so that the excitons merge into one.

    Parameters
    ----------
    channels : int
        Length of the spectrum, 10 meV each, from about -1 eV on; at least 128.
    seed : int
        Seed of the noise.

    Returns
    -------
    exspy.signals.EELSSpectrum

    Raises
    ------
    ValueError
        If an argument cannot be used.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> data.exciton_spectrum()
    <EELSSpectrum, title: simulated excitons, dimensions: (|512)>
    """
    _check_whole(128, channels=channels)  # the zero-loss peak lies in channel 100
    _check_whole(0, seed=seed)
    recipe = {"name": "exciton_spectrum", "shape": [], "channels": channels, "seed": seed}
    counts = [simulation.counts for simulation in simulations(recipe)]
    return _signal(counts, recipe, "simulated excitons", SPECTRUM_DISPERSION)


def vacuum_spectrum(signal, seed=1):
    """The zero-loss peak that the instrument of a simulated signal records without a specimen.

    Parameters
    ----------
    signal : exspy.signals.EELSSpectrum
        From `plasmonic_map` or `exciton_spectrum`.
    seed : int
        Seed of the noise.

    Returns
    -------
    exspy.signals.EELSSpectrum
        One spectrum on the same dispersion, for ``psf=``.

    Raises
    ------
    ValueError
        If the signal is not one of this module, or the seed is not a whole number from 0.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> data.vacuum_spectrum(data.exciton_spectrum())
    <EELSSpectrum, title: simulated vacuum, dimensions: (|512)>
    """
    from ._signals.checks import check_energy_axis

    _check_whole(0, seed=seed)
    recipe = _recipe(signal) | {"shape": [], "vacuum_seed": seed}
    counts = [simulation.counts for simulation in simulations(recipe)]
    return _signal(counts, recipe, "simulated vacuum", check_energy_axis(signal).dispersion)


def truth(signal, resolution):
    """What a simulated signal should look like through a Gaussian response, without noise.

    It is computed from the specimen itself, never by deblurring.

    Parameters
    ----------
    signal : exspy.signals.EELSSpectrum
        A whole signal of this module, as it was made or loaded again.
    resolution : float
        Full width at half maximum of the Gaussian in eV, at least 2 channels.

    Returns
    -------
    exspy.signals.EELSSpectrum
        Expected counts on the same axes, in memory.

    Raises
    ------
    ValueError
        If the signal is not one of this module, or was cropped or changed since, or the resolution
        is under 2 channels.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> s = data.exciton_spectrum()
    >>> data.truth(s, resolution=0.04)
    <EELSSpectrum, title: simulated excitons, truth at 0.04 eV, dimensions: (|512)>
    """
    from ._signals import results
    from ._signals.checks import check_energy_axis

    recipe = _recipe(signal)
    dispersion = check_energy_axis(signal).dispersion
    if not (is_real(resolution) and 2 * dispersion * (1 - 1e-9) <= resolution < np.inf):
        raise ValueError(
            f"resolution={resolution!r} must be at least two channels, {2 * dispersion:.4g} eV."
        )
    made = simulations(recipe)
    counts = np.float32([each.counts for each in made]).reshape(*recipe["shape"], -1)
    if not np.array_equal(counts, np.asarray(signal.data)):
        raise ValueError(
            "The signal was cropped or changed since it was made: its truth is not known. Compute the "
            "truth first, then crop or change both alike."
        )
    expected = np.stack([each.truth(resolution / dispersion) for each in made])
    result = results.signal_like(signal, expected.reshape(counts.shape), lazy=False)
    result.metadata.General.title += f", truth at {resolution:.4g} eV"
    return result


def simulations(recipe):
    """Make a recipe's `~exspy_deepdeconv.simulate.Simulation` objects, row by row.

    Parameters
    ----------
    recipe : dict
        As in ``metadata.Simulation`` of a signal of this module.

    Returns
    -------
    list of Simulation
        One per spectrum, in the order of the data.
    """
    shape, channels = tuple(recipe["shape"]), recipe["channels"]
    nanorod = recipe["name"] == "plasmonic_map"
    dispersion, fwhm = (
        (MAP_DISPERSION, MAP_FWHM) if nanorod else (SPECTRUM_DISPERSION, SPECTRUM_FWHM)
    )
    vacuum = "vacuum_seed" in recipe
    rng = np.random.default_rng(recipe["vacuum_seed"] if vacuum else recipe["seed"])
    grid = grid_for(channels, fwhm / dispersion)
    response = _response(grid, fwhm / dispersion)
    place = min(200.0, channels / 5) if nanorod else 100.0
    positions = place + _drift(shape, rng) if shape else np.array([place + 0.3])
    made = []
    for number, position in enumerate(positions.ravel()):
        distance = (grid.fine_channels - position) * dispersion
        axis = EnergyAxis(distance, dispersion / grid.oversampling, fwhm)
        if vacuum:
            specimen = np.zeros(grid.size)
        elif nanorod:
            specimen = _nanorod(axis, *_pixel(number, shape))
        else:
            specimen = _semiconductor(axis)
        made.append(
            compose(
                grid,
                response,
                specimen,
                position,
                ELASTIC_COUNTS * (5 if vacuum else 1),
                Detector(readout=2.0),
                dispersion,
                rng,
                recipe["name"],
            )  # fmt: skip
        )
    return made


def _check_whole(least, **argument):
    """Raise a ValueError unless the argument is a whole number from ``least``."""
    ((name, value),) = argument.items()
    if not (is_whole(value) and value >= least):
        raise ValueError(f"{name}={value!r} must be a whole number from {least}.")


def _recipe(signal):
    if not (hasattr(signal, "metadata") and signal.metadata.has_item("Simulation.name")):
        raise ValueError("The signal was not made by exspy_deepdeconv.data: no truth is known.")
    return signal.metadata.Simulation.as_dictionary()


def _signal(counts, recipe, title, dispersion):
    from exspy.signals import EELSSpectrum

    counts = np.reshape(np.float32(counts), (*recipe["shape"], -1))
    signal = EELSSpectrum(counts)
    for axis, name in zip(signal.axes_manager.navigation_axes, "xy", strict=False):
        axis.name, axis.scale, axis.units = name, 4.0, "nm"
    energy = signal.axes_manager.signal_axes[0]
    energy.name, energy.scale, energy.units = "Energy loss", dispersion, "eV"
    energy.offset = -dispersion * float(np.median(counts.argmax(axis=-1)))
    signal.metadata.General.title = title
    signal.metadata.add_dictionary({"Simulation": recipe})
    signal.metadata.Signal.quantity = "Electrons (Counts)"
    return signal


def _response(grid, fwhm):
    """A monochromator's slightly asymmetric peak with tails, ``fwhm`` channels wide, unit sum."""
    distance = grid.wrapped_channels
    stretch = 1.0
    for _ in range(3):  # what is drawn is not exactly one unit wide
        x = distance * stretch / fwhm
        core = np.exp(-0.5 * (x * FWHM_PER_SIGMA / 0.8) ** 2)
        skew = np.exp(-np.abs(x) / np.where(x >= 0, LOSS_SIDE, GAIN_SIDE))
        core = np.fft.irfft(np.fft.rfft(core) * np.fft.rfft(skew), grid.size)
        tails = 1 / (1 + (2 * x) ** 2) * np.exp(-np.abs(x) / 12)
        shape = np.maximum(core, 0) / core.max() + 0.12 * tails
        ordered = np.roll(shape, grid.size // 2)
        width = half_height_width(ordered, np.asarray(int(ordered.argmax()))) / grid.oversampling
        stretch *= float(width) / fwhm
    return shape / shape.sum()


def _drift(shape, rng):
    """Slow drift along the scan with a little jitter, in channels."""
    scan = np.linspace(-1.5, 1.5, int(np.prod(shape)))
    return scan + 0.3 * rng.standard_normal(scan.size)


def _pixel(number, shape):
    """Coordinates of a pixel, -1 .. 1 along both directions."""
    row, column = np.unravel_index(number, shape)
    y, x = ((2 * i + 1) / size - 1 for i, size in zip((row, column), shape, strict=True))
    return x, y


def _nanorod(axis, x, y):
    """s(E) at a point: standing waves around the rod, its plasmons inside, the membrane all over."""
    along = (x + 0.65) / 1.3  # 0 .. 1 from end to end
    outside = np.hypot(max(abs(x) - 0.65, 0), max(abs(y) - 0.18, 0))
    inside = outside == 0
    rise = 1 - np.exp(-((np.maximum(axis.energy, 0) / 0.08) ** 2))
    out = np.zeros_like(axis.energy)
    for order, (energy, width, strength) in enumerate(ROD_MODES, start=1):
        field = np.cos(np.pi * order * np.clip(along, 0, 1)) ** 2
        decay = np.exp(-outside / 0.25) * (0.55 if inside else 1.0)
        out += lorentzian(axis, energy, width, strength * field * decay) * rise
    out += lorentzian(axis, 3.45, 0.3, 0.01 * np.exp(-outside / 0.12)) * rise
    membrane = bell(axis, 9.0, 5.0, 0.05) * (1 - np.exp(-np.maximum(axis.energy - 4.0, 0)))
    thickness = 0.5 * np.sqrt(max(1 - (y / 0.19) ** 2, 0)) if inside else 0.0
    if thickness:
        single = drude_lorentz(axis.energy, [(0, 8.3, 0.25), (5.2, 6.0, 1.5)], background=3.2)
        out += plural_scattering(axis, single, thickness)
    return out + membrane


def _semiconductor(axis):
    """Excitons, the onset of interband transitions above them, a weak falling background."""
    out = sum(lorentzian(axis, *exciton) for exciton in EXCITONS)
    above = np.maximum(axis.energy - 2.3, 0)
    onset = np.sqrt(above) / (1 + above)
    out = out + 0.05 * onset / max(onset.sum(), 1e-300)
    energy = np.maximum(axis.energy, 0)
    falling = energy / (0.1 + energy) ** 2.5
    return (out + 2e-3 * falling / falling.sum()) * (axis.energy > 0)
