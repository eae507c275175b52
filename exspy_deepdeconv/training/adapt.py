"""Adapt a trained network to one instrument: minutes of training on a measured map of it."""

import hashlib
import os
import sys
import tempfile
import time
import warnings
from dataclasses import fields

import numpy as np
from scipy.interpolate import PchipInterpolator

from .. import models
from .._arguments import check_bool
from ..experiment.specimens import random_specimen
from ..inference import check_device
from ..simulate import SCENES
from .exported import MeasuredPairs
from .gain import of_no_gain
from .loop import check_run, train
from .mixed import MixedPairs
from .pairs import SimulatedPairs
from .plan import Plan, refuse_checkpoint
from .progress import warn_of_few_steps

# Of the batches: simulated specimens on this instrument, its measured references, and simulations
# of everything, without which the network would forget what it is not shown.
INSTRUMENT, MEASURED, EVERYTHING = 0.3, 0.1, 0.6
ENDLESS = 1_000_000  # steps of a run that ends by the clock
COUNTS_SPREAD = 1.2  # of the logarithm of the elastic counts, about the measured ones


class InstrumentPairs(MeasuredPairs):
    """Simulated specimens, seen through a captured response and with the measured noise.

    Their truth is exact in every detail, where that of measured references ends at what the
    measurement resolved. `SimulatedPairs` has other responses, and noise that is assumed.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training import measured_pairs
    >>> from exspy_deepdeconv.training.adapt import InstrumentPairs
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> pairs = InstrumentPairs.of(measured_pairs(s, data.vacuum_spectrum(s)), seed=1)
    >>> pairs.batch(0)["counts"].shape
    (64, 512)
    """

    @classmethod
    def of(cls, measured, seed=0):
        """The instrument that `MeasuredPairs` were measured with."""
        if not isinstance(measured, MeasuredPairs):
            raise TypeError(f"measured must be MeasuredPairs, not {type(measured).__name__}.")
        arrays = {f.name: getattr(measured, f.name) for f in fields(measured)}
        return cls(**arrays | {"seed": seed})

    def specimens(self):
        """Simulated ones in the place of the measured references."""
        return _Drawn(self)

    def simulation(self, rng):
        """One spectrum with its truth, a `~exspy_deepdeconv.simulate.Simulation`."""
        return self._simulation(self.specimens(), PchipInterpolator(*self.response), rng)

    def peak(self):
        """The captured response on whole channels: an array with its maximum in the middle."""
        distance = np.arange(-self.channels, self.channels)
        log_height = PchipInterpolator(*self.response)
        return np.exp(log_height(np.clip(distance, *log_height.x[[0, -1]])))


class _Drawn:
    """Simulated specimens, of families that suit the instrument, with about its elastic counts."""

    def __init__(self, pairs):
        self.pairs, self.counts = pairs, pairs.loadings @ pairs.elastic
        width = pairs.fwhm * pairs.dispersion
        self.families = ["free", "doublet"] + [
            family
            for family in ("vibrational", "plasmonic", "gap", "bulk")
            if SCENES[family].fwhm_ev[0] / 2 < width < 2 * SCENES[family].fwhm_ev[1]
        ]

    def draw(self, rng):
        """Inelastic counts per elastic count and channel, and elastic counts in data units."""
        pairs, family = self.pairs, str(rng.choice(self.families))
        distance = np.arange(pairs.channels) - pairs.zero
        losses = random_specimen(family, distance, pairs.dispersion, pairs.fwhm, 1.0, rng)
        counts = rng.choice(self.counts) * np.exp(COUNTS_SPREAD * rng.standard_normal())
        return losses, float(counts)


def fine_tune(
    model,
    signal,
    psf=None,
    minutes=10,
    *,
    vacuum=None,
    components=None,
    frames=None,
    steps=None,
    learning_rate=1e-4,
    keep_start=0.3,
    seed=0,
    folder=None,
    name="fine-tuned",
    resume=False,
    workers=None,
    device=None,
    show_progressbar=None,
):
    """Train a network on with a measured map, so that it knows the instrument.

    Batches come from three sources: simulated specimens seen through the captured response with
    measured noise, the map's own references (`measured_pairs`), and simulations of all instruments,
    which keep the network's general ability.

    Parameters
    ----------
    model : str, pathlib.Path, Model or None
        What to start from, as `exspy_deepdeconv.models.load` takes it; None is the newest bundled.
    signal : exspy.signals.EELSSpectrum or MeasuredPairs
        A low-loss map of the instrument, or the pairs made of it (``psf``, ``vacuum``,
        ``components`` and ``frames`` are then none of ours). Never changed.
    psf : exspy.signals.EELSSpectrum, optional
        Its zero-loss peak, measured in vacuum; strongly advised, if it fits the map (a warning says where
        it does not). See `measured_pairs` for what is done without: an estimated one (``estimate_psf``)
        gains nothing over that, and the model card calls it estimated.
    minutes : float, optional
        Time until the last step: pairs and first scores count, comparing the outcome with the start
        comes on top (some two hundred spectra through both), and at least one step is made. None: as
        long as ``steps`` take.
    vacuum, components, frames : optional
        As for `measured_pairs`.
    steps : int, optional
        End after this many batches, if it is earlier. With ``minutes=None`` the same seed gives
        the same weights on the same processor.
    learning_rate : float
        The highest. More gains more on this instrument and forgets more of the others.
    keep_start : float
        Share of the weights started from that the outcome keeps, 0 to 1. It costs little of what
        was gained on this instrument, and keeps most of what was known of the others.
    seed : int
        Seed of everything that is drawn.
    folder : str or pathlib.Path, optional
        Where weights, model card, log and checkpoint are kept; nothing is kept by default.
    name : str
        Name of the model and stem of its files.
    resume : bool
        Go on from the checkpoint in ``folder``; otherwise one that is there is an error.
    workers : int, optional
        Processes that draw batches; one on Linux, else none.
    device : str, optional
        A torch device; the graphics card if there is one.
    show_progressbar : bool, optional
        Show a progress bar; HyperSpy's preference by default.

    Returns
    -------
    Model
        For ``deep_deconvolve(model=...)``. Its ``provenance["gain"]`` compares it with what it started
        from (`exspy_deepdeconv.training.gain.gains`): loss errors after over before, with standard errors,
        on simulations of the instrument and of other ones. Runs of fewer than 100 ``steps`` have none.

    Warns
    -----
    UserWarning
        For fewer than 50 spectra; if the response does not fit them; if the time was over before the
        warm-up was; and if the error on simulations of the instrument did not fall, or by so little that
        it cannot be told (within two standard errors).

    Raises
    ------
    FileExistsError
        If ``folder`` holds a checkpoint and ``resume`` is False.
    TypeError, ValueError
        If an argument cannot be used.

    Notes
    -----
    Intervals keep the calibration of the model that is started from.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv.training import fine_tune
    >>> s = data.plasmonic_map(shape=(8, 8), channels=512)
    >>> vacuum = data.vacuum_spectrum(s)
    >>> model = fine_tune(None, s, vacuum, minutes=None, steps=2, workers=0, show_progressbar=False)
    >>> s.inav[:2, 0].deep_deconvolve(model=model, show_progressbar=False)
    <EELSSpectrum, title: simulated nanorod after deep deconvolution, dimensions: (2|512)>
    """
    began = time.monotonic()
    _check(name, minutes, steps, folder, resume)
    plan = _plan(steps, seed, learning_rate, keep_start, workers)
    check_device(device)
    start = models.load(model)
    measured, sources = _measured(
        signal, psf, seed, vacuum=vacuum, components=components, frames=frames
    )
    instrument = InstrumentPairs.of(measured, seed)
    everything = SimulatedPairs(seed, measured=(instrument.peak(),))
    pairs = MixedPairs(
        (instrument, INSTRUMENT), (measured, MEASURED), (everything, EVERYTHING), seed=seed
    )
    left = None if minutes is None else max(minutes - (time.monotonic() - began) / 60, 0.01)
    with tempfile.TemporaryDirectory() as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "train: ")  # told below, at the user's line
        tuned = train(
            plan,
            folder or temporary,
            pairs=pairs,
            init=start,
            resume=resume,
            name=name,
            minutes=left,
            device=device,
            instrument=instrument.simulation,
            show_progressbar=_wanted_bar(show_progressbar),
            about={"recipe": "fine_tune"} | sources,
        )
    warn_of_few_steps(plan, tuned.provenance["steps"], minutes, "fine_tune", stacklevel=3)
    gain = tuned.provenance.get("gain")
    for odd in of_no_gain(gain["instrument"]) if gain else []:
        warnings.warn(f"fine_tune: {odd}", UserWarning, stacklevel=2)
    return tuned


def array_hash(data):
    """The sha256 of an array's values in their order; a lazy one is read piece by piece.

    Parameters
    ----------
    data : numpy.ndarray or dask.array.Array
        Any shape.

    Returns
    -------
    str

    Examples
    --------
    >>> import dask.array as da, numpy as np
    >>> from exspy_deepdeconv.training.adapt import array_hash
    >>> array_hash(np.eye(5)) == array_hash(da.from_array(np.eye(5), chunks=2))
    True
    """
    digest = hashlib.sha256()
    flat = data.reshape(-1, data.shape[-1])
    rows = max(2**24 // max(flat.shape[-1], 1), 1)
    for first in range(0, flat.shape[0], rows):
        digest.update(np.ascontiguousarray(flat[first : first + rows]).tobytes())
    return digest.hexdigest()


def _check(name, minutes, steps, folder, resume):
    """Refuse what cannot work before any of it is done."""
    if minutes is None and steps is None:
        raise ValueError("minutes=None needs a number of steps: the training would never end.")
    check_run(name, minutes)
    check_bool("resume", resume)
    if resume and folder is None:
        raise ValueError("resume=True needs the folder of the run to go on with.")
    if folder is not None and not resume:
        refuse_checkpoint(folder)


def _plan(steps, seed, learning_rate, keep_start, workers):
    """A short run of small steps on what is known already."""
    forks = sys.platform == "linux" and (os.cpu_count() or 1) > 1
    return Plan(
        steps=ENDLESS if steps is None else steps,
        seed=seed,
        learning_rate=learning_rate,
        keep_start=keep_start,
        muon=False,
        warmup=20,
        ema=0.99,
        workers=int(forks) if workers is None else workers,
        checkpoint_minutes=1.0,
        log_every=10,
        evaluate_every=100,
        cases=0,  # errors are compared with those of the start, on many more cases, at the end
    )


def _measured(signal, psf, seed, **options):
    """The pairs of a map, and what they are made of; finished ones stay as they are."""
    if isinstance(signal, MeasuredPairs):
        given = [key for key, value in ({"psf": psf} | options).items() if value is not None]
        if given:
            raise ValueError(f"signal holds finished pairs: {given[0]}= comes too late for them.")
        return signal, {}
    from .._signals.results import psf_source
    from .pca import measured_pairs

    with warnings.catch_warnings(record=True) as heard:
        pairs = measured_pairs(signal, psf, seed=seed, **options)
    for each in heard:
        if each.filename == __file__:  # told to who calls `measured_pairs`: it is the user's matter
            warnings.warn(each.message, stacklevel=3)
        else:
            warnings.warn_explicit(each.message, each.category, each.filename, each.lineno)
    told = options.get("vacuum") is None
    about = {"psf": psf_source(psf) if told else "measured: vacuum pixels of the map"}
    about["signal_sha256"] = array_hash(signal.data)
    return pairs, about | ({} if psf is None else {"psf_sha256": array_hash(psf.data)})


def _wanted_bar(show):
    if show is not None or "hyperspy" not in sys.modules:
        return show
    import hyperspy.api as hs

    return hs.preferences.General.show_progressbar
