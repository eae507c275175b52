"""Random specimens: the inelastic distribution s(E) per elastic intensity (NumPy and SciPy only).

Each maker returns s integrated over the samples of an energy axis, in units of the elastic
intensity. Energies are in eV; ``energy`` is the loss relative to the zero-loss peak and may be
negative (energy gain).
"""

from dataclasses import dataclass

import numpy as np
import scipy.fft as fft

BOLTZMANN_EV = 8.617333262e-5  # eV / K


@dataclass(frozen=True)
class EnergyAxis:
    """Loss energies (eV), their spacing (eV) and the zero-loss width (eV) they will be seen with."""

    energy: np.ndarray
    step: float
    fwhm: float

    @property
    def top(self):
        """Highest loss on the axis, in eV."""
        return float(self.energy[-1])


def random_specimen(family, distance, dispersion, fwhm_channels, step_channels, rng):
    """Draw s(E) of a family.

    Parameters
    ----------
    family : str
        One of `exspy_deepdeconv.simulate.FAMILIES`.
    distance : numpy.ndarray
        Channels from the zero-loss peak, on the fine axis.
    dispersion : float
        eV per channel.
    fwhm_channels : float
        Zero-loss width in channels.
    step_channels : float
        Spacing of the fine axis in channels.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    numpy.ndarray
        s(E) integrated over each fine sample; non-negative.
    """
    axis = EnergyAxis(distance * dispersion, step_channels * dispersion, fwhm_channels * dispersion)
    makers = {
        "vibrational": _vibrational,
        "plasmonic": _plasmonic,
        "gap": _gap,
        "doublet": _doublet,
        "bulk": _bulk,
        "free": _free,
        "featureless": _featureless,
        "near": _near,
    }
    loss = np.maximum(makers[family](axis, rng), 0) * (axis.energy > 0)
    return gain_side(axis, loss, rng.uniform(80, 1000))


# ------------------------------------------------------------------ building blocks


def lorentzian(axis, centre, width, area):
    """Lorentzian of FWHM ``width`` (eV), integrated exactly over the samples."""
    edges = np.append(axis.energy - axis.step / 2, axis.energy[-1] + axis.step / 2)
    return area * np.diff(np.arctan(2 * (edges - centre) / width)) / np.pi


def bell(axis, centre, width, area):
    """Gaussian of FWHM ``width`` (eV) and ``area``; at least one fine sample wide."""
    # Rounded: exact values would change every spectrum that is simulated from a seed.
    fwhm_per_sigma, root_2_pi = 2.3548, 2.5066
    sigma = max(width, axis.step) / fwhm_per_sigma
    density = np.exp(-0.5 * ((axis.energy - centre) / sigma) ** 2)
    return area * axis.step * density / (sigma * root_2_pi)


def drude_lorentz(energy, oscillators, background=1.0, core=1.0):
    """Loss function Im(-1 / (epsilon + core - 1)) of a sum of oscillators.

    Parameters
    ----------
    energy : numpy.ndarray
        Energies in eV; the answer is zero at and below 0.
    oscillators : sequence of (float, float, float)
        Centre, plasma energy and damping of each, in eV; a centre of 0 is a Drude metal.
    background : float
        Permittivity of the bound electrons.
    core : float
        1 gives the bulk loss function, 2 the planar surface's Im(-1 / (epsilon + 1)).

    References
    ----------
    R. F. Egerton, *Electron Energy-Loss Spectroscopy in the Electron Microscope*, 3rd ed.,
    Springer 2011, sections 3.3.1 and 3.3.5.
    """
    positive = np.maximum(energy, 1e-9)
    epsilon = background + 0j
    for centre, plasma, damping in oscillators:
        epsilon = epsilon + plasma**2 / (centre**2 - positive**2 - 1j * positive * damping)
    return np.where(energy > 0, np.maximum(np.imag(-1 / (epsilon + core - 1)), 0), 0.0)


def plural_scattering(axis, single, thickness):
    """Poisson series of a slab: s = exp(t/lambda * S1) - 1 in Fourier space.

    Parameters
    ----------
    axis : EnergyAxis
        The energies.
    single : numpy.ndarray
        Single-scattering distribution; scaled to unit area here.
    thickness : float
        t / lambda.

    References
    ----------
    R. F. Egerton, *Electron Energy-Loss Spectroscopy in the Electron Microscope*, 3rd ed.,
    Springer 2011, equation 4.8.
    """
    area = single.sum()
    if not area > 0:
        return np.zeros_like(single)
    zero = int(np.clip(np.searchsorted(axis.energy, 0.0), 0, axis.energy.size - 1))
    # Put the loss energies from zero upwards first, with room for ten orders: none may come back.
    size = fft.next_fast_len(10 * (single.size - zero), real=True)
    shift = np.exp(2j * np.pi * fft.rfftfreq(size) * -axis.energy[zero] / axis.step)
    transform = fft.rfft(single[zero:] * thickness / area, size)
    offset = np.conj(shift)  # the first sample lies a fraction of a step above zero loss
    # Simpler forms round otherwise, and random spectra drawn after one that differs by a count are other ones:
    # benchmarks would no longer see the spectra that their figures are of.
    series = fft.irfft((np.exp(transform * np.conj(offset)) - 1) * offset, size)
    out = np.zeros_like(single)
    out[zero:] = np.maximum(series[: single.size - zero], 0)
    return out


def gain_side(axis, loss, temperature):
    """Add the energy-gain partner: s(-E) = s(E) exp(-E / kT) (detailed balance)."""
    mirrored = np.interp(-axis.energy, axis.energy, loss, left=0, right=0)
    weight = np.exp(-np.clip(-axis.energy, 0, None) / (BOLTZMANN_EV * temperature))
    return np.where(axis.energy < 0, mirrored * weight, loss)


def _loguniform(rng, low, high, size=None):
    return np.exp(rng.uniform(np.log(low), np.log(high), size))


def _falling_background(axis, rng, area):
    """Smooth losses that fall with energy (relativistic, phonon continuum, tails of plasmons)."""
    start = axis.fwhm * _loguniform(rng, 0.2, 4)
    power = rng.uniform(0.7, 3.0)
    e = np.maximum(axis.energy, 0)
    shape = e / (start + e) * (1 + e / start) ** -power
    return area * shape / max(shape.sum(), 1e-300)


def _smooth_continuum(axis, rng, area):
    """Wide features that rise or fall slowly over the window."""
    shape = np.zeros_like(axis.energy)
    for _ in range(rng.integers(1, 4)):
        centre = axis.top * rng.uniform(0.1, 1.4)
        shape += bell(axis, centre, axis.top * rng.uniform(0.3, 1.5), rng.uniform(0.2, 1))
    rise = 1 - np.exp(-np.maximum(axis.energy, 0) / (axis.fwhm * _loguniform(rng, 0.5, 6)))
    shape = shape * rise
    return area * shape / max(shape.sum(), 1e-300)


def _lines(axis, rng, number, low, high, widths, areas):
    """Random lines between two energies; ``widths`` and ``areas`` are ranges."""
    out = np.zeros_like(axis.energy)
    for centre in rng.uniform(low, high, number):
        width, area = _loguniform(rng, *widths), _loguniform(rng, *areas)
        out += (lorentzian if rng.random() < 0.75 else bell)(axis, centre, width, area)
    return out


# ------------------------------------------------------------------ families


def _vibrational(axis, rng):
    low, high = 1.2 * axis.fwhm, min(0.95 * axis.top, max(0.5, 4 * axis.fwhm))
    strength = _loguniform(rng, 1e-4, 3e-2)
    peaks = _lines(axis, rng, rng.integers(1, 7), low, max(high, 2 * low),
                   (0.05 * axis.fwhm, 1.5 * axis.fwhm), (0.05 * strength, strength))  # fmt: skip
    out = peaks + _falling_background(axis, rng, strength * _loguniform(rng, 0.1, 10))
    if rng.random() < 0.4:
        out += _smooth_continuum(axis, rng, strength * _loguniform(rng, 0.05, 2))
    return out


def _plasmonic(axis, rng):
    out = np.zeros_like(axis.energy)
    strength = _loguniform(rng, 1e-3, 0.2)
    if rng.random() < 0.3:
        plasma = rng.uniform(1.2, 4.0) * min(1, axis.top / 3)
        shape = drude_lorentz(
            axis.energy, [(0, plasma * 1.4, plasma * rng.uniform(0.02, 0.2))], core=2
        )
        out += strength * shape / max(shape.sum(), 1e-300)
    out += _lines(axis, rng, rng.integers(1, 7), 0.8 * axis.fwhm, 0.9 * axis.top,
                  (0.2 * axis.fwhm, 6 * axis.fwhm), (0.05 * strength, strength))  # fmt: skip
    out += _falling_background(axis, rng, strength * _loguniform(rng, 0.05, 3))
    if rng.random() < 0.6:
        out += _smooth_continuum(axis, rng, strength * _loguniform(rng, 0.1, 5))
    return out


def _gap(axis, rng):
    edge = rng.uniform(2 * axis.fwhm, max(0.6 * axis.top, 4 * axis.fwhm))
    above = np.maximum(axis.energy - edge, 0)
    power = 0.5 if rng.random() < 0.5 else rng.uniform(1.0, 2.0)
    shape = above**power / (
        1 + (above / (axis.top * rng.uniform(0.1, 1.0))) ** rng.uniform(1.0, 3.0)
    )
    shape /= max(shape.sum(), 1e-300)
    strength = _loguniform(rng, 2e-3, 0.5)
    out = strength * shape
    for _ in range(rng.integers(0, 4)):
        centre = edge - axis.fwhm * rng.uniform(-1.0, 3.0)
        out += lorentzian(axis, centre, axis.fwhm * _loguniform(rng, 0.15, 2),
                          strength * _loguniform(rng, 1e-3, 0.1))  # fmt: skip
    if rng.random() < 0.5:
        out += _falling_background(axis, rng, strength * _loguniform(rng, 1e-3, 0.5))
    if rng.random() < 0.4:
        out += _lines(axis, rng, rng.integers(1, 4), edge, axis.top, (axis.fwhm, 10 * axis.fwhm),
                      (0.01 * strength, 0.3 * strength))  # fmt: skip
    return out * (axis.energy > 0)


def _doublet(axis, rng):
    strength = _loguniform(rng, 5e-3, 0.5)
    out = np.zeros_like(axis.energy)
    for _ in range(rng.integers(1, 4)):
        centre = rng.uniform(1.5 * axis.fwhm, max(0.9 * axis.top, 3 * axis.fwhm))
        split = axis.fwhm * rng.uniform(0.25, 1.6)
        width = axis.fwhm * _loguniform(rng, 0.05, 0.7)
        area = strength * _loguniform(rng, 0.1, 1)
        shape = lorentzian if rng.random() < 0.6 else bell
        out += shape(axis, centre - split / 2, width, area)
        out += shape(axis, centre + split / 2, width * _loguniform(rng, 0.6, 1.6),
                     area * _loguniform(rng, 0.3, 1.5))  # fmt: skip
    if rng.random() < 0.7:
        out += _falling_background(axis, rng, strength * _loguniform(rng, 0.01, 1))
    if rng.random() < 0.4:
        out += _smooth_continuum(axis, rng, strength * _loguniform(rng, 0.1, 2))
    return out


def _bulk(axis, rng):
    """Volume plasmons with interband transitions and plural scattering."""
    oscillators = []
    for number in range(rng.integers(1, 5)):
        centre = 0.0 if number == 0 and rng.random() < 0.5 else rng.uniform(1.5, 15)
        plasma = rng.uniform(3, 22) * (1 if number == 0 else 0.6)
        oscillators.append((centre, plasma, max(plasma, 4) * _loguniform(rng, 0.02, 0.5)))
    single = drude_lorentz(axis.energy, oscillators, background=rng.uniform(1, 3))
    angular = np.log1p((_loguniform(rng, 2, 20) * 500 / np.maximum(axis.energy, 0.3)) ** 2)
    surface = drude_lorentz(axis.energy, oscillators, core=2) * _loguniform(rng, 0.01, 0.5)
    single = single * angular + surface
    if rng.random() < 0.3:
        onset = rng.uniform(0.4, 1.1) * axis.top
        step = np.where(axis.energy > onset, (np.maximum(axis.energy, onset) / onset) ** -3.0, 0)
        single = single + step * single.max() * _loguniform(rng, 1e-3, 0.1)
    out = plural_scattering(axis, single, _loguniform(rng, 0.05, 1.5))
    if rng.random() < 0.3:
        out += _lines(axis, rng, rng.integers(1, 4), 2 * axis.fwhm, axis.top,
                      (0.2 * axis.fwhm, 2 * axis.fwhm), (1e-3 * out.sum(), 0.05 * out.sum()))  # fmt: skip
    return out


def _free(axis, rng):
    """Anything: lines of all widths and strengths on smooth losses, at any dispersion."""
    strength = _loguniform(rng, 3e-4, 1.5)
    out = _lines(axis, rng, rng.integers(1, 16), 0.5 * axis.fwhm, axis.top,
                 (0.05 * axis.fwhm, min(15 * axis.fwhm, axis.top)), (0.003 * strength, strength))  # fmt: skip
    if rng.random() < 0.6:
        out += _falling_background(axis, rng, strength * _loguniform(rng, 0.01, 3))
    if rng.random() < 0.6:
        out += _smooth_continuum(axis, rng, strength * _loguniform(rng, 0.05, 5))
    if rng.random() < 0.3:
        out *= 1 - np.exp(-np.maximum(axis.energy, 0) / (axis.fwhm * _loguniform(rng, 0.3, 3)))
    if rng.random() < 0.2:
        out = plural_scattering(axis, out * (axis.energy > 0), _loguniform(rng, 0.05, 1.5))
    return out


def _featureless(axis, rng):
    strength = _loguniform(rng, 1e-5, 0.3)
    out = np.zeros_like(axis.energy)
    if rng.random() < 0.6:
        out += _falling_background(axis, rng, strength * rng.uniform(0.2, 1))
    if rng.random() < 0.6:
        out += _smooth_continuum(axis, rng, strength)
    return out


def _near(axis, rng):
    """A few lone losses within some widths of the zero-loss peak, hardly anything beside them."""
    out = np.zeros_like(axis.energy)
    for _ in range(rng.integers(1, 4)):
        centre, width = axis.fwhm * _loguniform(rng, 1.1, 6), axis.fwhm * _loguniform(rng, 0.1, 1.5)
        shape = lorentzian if rng.random() < 0.6 else bell
        out += shape(axis, centre, width, _loguniform(rng, 3e-4, 0.6))
    if rng.random() < 0.3:
        out += _falling_background(axis, rng, out.sum() * _loguniform(rng, 0.03, 2))
    if rng.random() < 0.6:
        far, area = axis.top * rng.uniform(0.4, 1.2), _loguniform(rng, 0.01, 0.5)
        out += bell(axis, far, axis.top * rng.uniform(0.05, 0.4), area)
    return out
