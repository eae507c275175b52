"""From arrays of spectra to arrays of deconvolved spectra, and to responses."""

import warnings

import numpy as np
import torch

from . import physics
from ._arguments import (
    check_batch_size,
    check_bool,
    check_resolution,
    check_settings,
    is_real,
    is_whole,
    unmasked,
)
from .estimate.batched import deconvolve_block, response_block
from .estimate.quietest import MOST_READ, quietest_sum
from .models import load

MANY_SPECTRA = 4096  # from which a map is worth the way to a graphics card


def deconvolve(
    spectra,
    dispersion,
    psf=None,
    resolution=None,
    *,
    psf_estimated=False,
    model=None,
    zero_loss=True,
    return_interval=False,
    confidence=0.9,
    batch_size=None,
    device=None,
):
    """Deconvolve arrays of low-loss spectra, blindly or with a measured response.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``, at least 64 channels. Masked values count as NaN.
    dispersion : float
        eV per channel.
    psf : numpy.ndarray, optional
        A measured response on the same dispersion: one (nothing of it masked), or one per spectrum,
        of any length and scale. Where it does not fit, and by default, the response is found in the
        spectrum itself.
    resolution : float, optional
        FWHM in eV of the Gaussian through which the answer is seen; a quarter of the median
        zero-loss width by default, never under 2 channels.
    psf_estimated : bool
        Whether ``psf`` is from `exspy_deepdeconv.inference.estimate_response`: it is not trusted then, and
        where it does not fit, the response is found in the spectrum itself.
    model : str, pathlib.Path or Model, optional
        The network; the newest bundled one by default.
    zero_loss : bool
        Whether the elastic peak is part of the answer.
    return_interval : bool
        Whether to return an interval as well.
    confidence : float
        Share of the truth that the interval is to contain, between 0 and 1.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    numpy.ndarray or list of numpy.ndarray
        float32, of the shape of ``spectra``. Spectra that are empty or have no zero-loss peak, or
        whose own response is empty, give zeros; spectra with NaN or infinity, or whose own response
        is otherwise unusable, give NaN. With ``return_interval`` a list of the answer, the lower and
        the upper bound.

    Raises
    ------
    ValueError
        If an argument is out of its range, or no spectrum has a zero-loss peak.

    Warns
    -----
    UserWarning
        As the method of the signals: of spectra that could not be deconvolved, of doubtful results
        (how many of each kind), and of what is odd about the spectra or the responses.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv import deconvolve
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> deconvolve(spectrum.counts, spectrum.dispersion).shape
    (512,)
    """
    # HyperSpy is not needed for the rest, nor for training.
    from ._signals.sampling import typical_zero_loss

    spectra = np.asarray(unmasked(spectra))
    psf = None if psf is None else np.asarray(unmasked(psf))
    if not (is_real(dispersion) and 0 < dispersion < np.inf):
        raise ValueError(f"dispersion must be a positive number of eV, not {dispersion!r}.")
    check_settings(resolution, confidence, batch_size, zero_loss, return_interval)
    check_bool("psf_estimated", psf_estimated)
    if psf_estimated and psf is None:
        raise ValueError("psf_estimated=True needs a psf that it is true of.")
    _check_arguments(spectra, psf, device)
    model = load(model)
    if return_interval:
        model.warn_if_not_calibrated()
    found = typical_zero_loss(spectra, np.zeros(spectra.shape[:-1], bool))
    wanted = check_resolution(resolution, found.fwhm, dispersion)
    estimate, flags, *interval = _deconvolved(
        spectra,
        psf,
        model=model,
        resolution=wanted,
        dispersion=dispersion,
        estimated=psf_estimated,
        dark=found.dark,
        zero_loss=zero_loss,
        interval=confidence if return_interval else None,
        batch_size=batch_size,
        device=device,
    )
    _warn(flags, found, psf, psf_estimated, spectra, stacklevel=3)
    return [estimate, *interval] if return_interval else estimate


def _deconvolved(spectra, psf, **options):
    """As `deconvolve_block`; spectra whose own response is unusable give what those of signals do."""
    from ._signals import responses, runner

    own = psf is not None and not responses.one_for_all(psf)
    usable = responses.usable_responses(psf) if own else np.array(True)
    if usable.all():
        return deconvolve_block(spectra, psf=psf, **options)
    nothing, flags = runner.zeros_or_nan(spectra, psf)
    found, flags[usable], *bounds = deconvolve_block(spectra[usable], psf=psf[usable], **options)
    answers = []
    for known in (found, *bounds):
        answers.append(np.broadcast_to(nothing, spectra.shape).astype(np.float32))
        answers[-1][usable] = known
    return answers[0], flags, *answers[1:]


def _warn(flags, found, psf, psf_estimated, spectra, stacklevel):
    """The warnings of `deconvolve`, as of the method of the signals."""
    from ._signals import responses
    from ._signals.runner import FlagTally
    from ._signals.sampling import remarks

    none = np.zeros(flags.shape, bool)
    tally = FlagTally(none, False, "deconvolve")
    tally.hand_in(np.arange(flags.size), flags.ravel())
    tally.warn_of_flags(stacklevel)
    measured = psf is not None and not psf_estimated
    of_psf = []
    if measured:
        reach = spectra.shape[-1] - found.position
        of_psf = responses.of_own_part(psf, spectra)
        of_psf += responses.remarks(psf, None, found.electrons, reach)
    for odd in remarks(found, measured) + of_psf:
        warnings.warn(f"deconvolve: {odd}", UserWarning, stacklevel=stacklevel)


def estimate_response(
    spectra, *, model=None, zero_channel=None, shared=False, batch_size=None, device=None
):
    """Read the response of the instrument off the zero-loss peaks of spectra.

    Parameters
    ----------
    spectra : numpy.ndarray
        Counts, shape ``(..., channels)``, at least 64 channels. Masked values count as NaN.
    model : str, pathlib.Path or Model, optional
        The network; the newest bundled one by default.
    zero_channel : int, optional
        Where the energy zero of the responses is to lie. By default the middle of the axis; of a
        shared one where the zero-loss peak lies, so that it reaches as far as the spectra do.
    shared : bool
        Whether one response is wanted for all: that of the sum of the quietest spectra (of at most 1024,
        evenly spread), see `exspy_deepdeconv.estimate.quietest.quietest_sum`.
    batch_size : int, optional
        Spectra per forward pass.
    device : str, optional
        A torch device.

    Returns
    -------
    numpy.ndarray
        Responses of unit area, float32, of the shape of ``spectra``. Spectra that are empty or
        have no zero-loss peak give zeros, spectra with NaN or infinity give NaN. One of ``(channels,)``
        if it is ``shared``.

    Raises
    ------
    ValueError
        If an argument is out of its range, or no spectrum is fit for a shared response.

    Examples
    --------
    >>> import numpy as np
    >>> from exspy_deepdeconv.inference import estimate_response
    >>> from exspy_deepdeconv.simulate import simulate
    >>> spectrum = simulate("gap", np.random.default_rng(0), channels=512)
    >>> response = estimate_response(spectrum.counts, zero_channel=200)
    >>> int(response.argmax()), round(float(response.sum()), 4)
    (200, 1.0)
    """
    spectra = np.asarray(unmasked(spectra))
    check_batch_size(batch_size)
    check_bool("shared", shared)
    _check_arguments(spectra, None, device)
    channels = spectra.shape[-1]
    inside = is_whole(zero_channel) and 0 < zero_channel < channels - 1
    if not (zero_channel is None or inside):
        raise ValueError(
            f"zero_channel={zero_channel!r} must be a whole number inside the {channels} channels."
        )
    usual = channels // 2
    if shared:
        from ._signals.sampling import response_zero, spread_over

        spectra, _ = quietest_sum(spread_over(spectra.reshape(-1, channels), MOST_READ))
        usual = response_zero(physics.find_zero_loss(spectra), channels)
    zero_channel = usual if zero_channel is None else zero_channel
    return response_block(
        spectra,
        model=load(model),
        zero_channel=int(zero_channel),
        batch_size=batch_size,
        device=device,
    )[0]


def _check_arguments(spectra, psf, device):
    if spectra.ndim == 0 or spectra.shape[-1] < physics.MIN_CHANNELS:
        raise ValueError(
            f"spectra must have at least {physics.MIN_CHANNELS} channels along the last axis; "
            f"their shape is {spectra.shape}."
        )
    if spectra.size == 0:
        raise ValueError(f"spectra hold nothing: their shape is {spectra.shape}.")
    for name, array in (("spectra", spectra), ("psf", psf)):
        if array is not None and array.dtype.kind not in "buif":
            raise ValueError(f"{name} must be real numbers, not {array.dtype}.")
    if psf is not None:
        from ._signals import responses

        if responses.same_counts(psf, spectra):
            raise ValueError(responses.ITSELF)
        shape, one = psf.shape, responses.one_for_all(psf)
        if not one and (len(shape) < 2 or shape[:-1] != spectra.shape[:-1]):
            raise ValueError(
                f"psf has the shape {shape}; it must be one response, or one for each of the "
                f"spectra of shape {spectra.shape}."
            )
        if one or shape[-1] < 3:  # of one for each spectrum, some may be unusable
            physics.centred_response(psf, physics.MIN_CHANNELS)  # raises if it is no response
        responses.check_psf_counts(psf)
    check_device(device)


def usual_device(device, spectra):
    """What is used where none is asked for: a graphics card, if there is one, for many spectra."""
    return "auto" if device is None and spectra >= MANY_SPECTRA else device


def check_device(device):
    """Raise a ValueError if torch cannot use ``device`` (None is the processor)."""
    if device is None:
        return
    try:
        there = torch.empty(0, device=device)
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"device={device!r} cannot be used: {error}") from error
    if there.is_meta:
        raise ValueError(f"device={device!r} cannot be used: nothing is computed there.")
