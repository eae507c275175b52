"""The tool behind ``deep_deconvolve(interactive=True)``: settings, live preview, the whole run.

Imported inside the method, not by ``import hyperspy.api``. It knows no widget: ``widget.py`` shows
it in a notebook.
"""

import numpy as np
import traits.api as t
from hyperspy.ui_registry import add_gui_method

from .. import _arguments, models, physics
from .._signals import checks, responses, sampling
from .._signals.inputs import Input
from ..estimate.forward import Wanted
from ..inference import check_device
from .preview import Answer, Preview

SETTINGS = "resolution, model, zero_loss, show_interval, show_residual"


@add_gui_method(toolkey="exspy_deepdeconv.DeepDeconvolution")
class DeepDeconvolution(t.HasTraits):
    """Settings of a deconvolution, tried on the current spectrum before all of them are run.

    Parameters
    ----------
    signal : EELSSpectrum or LazyEELSSpectrum
        The data. The preview is that of the spectrum at ``signal.axes_manager.indices`` and
        follows it.
    resolution, psf, force_psf, model, zero_loss, return_interval, confidence, navigation_mask, batch_size, \
device, show_progressbar, num_workers, lazy_output
        As for ``signal.deep_deconvolve``; the first settings, or passed on as they are.

    Attributes
    ----------
    resolution : float
        FWHM in eV of the zero-loss peak of the result, from ``finest`` to ``coarsest``.
    model : str
        One of ``model_names``.
    zero_loss, show_interval, show_residual : bool
        Whether the elastic peak is part of the result, and whether interval and residual are
        wanted.
    preview : Preview
        The current spectrum with these settings.
    message : str
        One line for the user: a remark on the spectrum, an error, or what was done.
    result, lower, upper : EELSSpectrum or None
        What `apply` made.

    Raises
    ------
    NotImplementedError, TypeError, ValueError
        As ``deep_deconvolve`` does.

    Examples
    --------
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv._widget.interactive import DeepDeconvolution
    >>> tool = DeepDeconvolution(data.exciton_spectrum(), show_progressbar=False)
    >>> tool.resolution = tool.finest
    >>> tool.preview.result.shape
    (512,)
    >>> tool.apply()
    <EELSSpectrum, title: simulated excitons after deep deconvolution, dimensions: (|512)>
    >>> tool.close()
    """

    finest = t.Float
    coarsest = t.Float
    resolution = t.Range(low="finest", high="coarsest", value="coarsest")
    model_names = t.List(t.Str)
    model = t.Enum(values="model_names")
    zero_loss = t.Bool(True)
    show_interval = t.Bool(False)
    show_residual = t.Bool(False)
    preview = t.Instance(Preview)
    message = t.Str
    result = t.Any
    lower = t.Any
    upper = t.Any

    def __init__(
        self,
        signal,
        resolution=None,
        psf=None,
        *,
        force_psf=False,
        model=None,
        zero_loss=True,
        return_interval=False,
        confidence=0.9,
        navigation_mask=None,
        batch_size=None,
        device=None,
        show_progressbar=None,
        num_workers=None,
        lazy_output=None,
    ):
        super().__init__()
        _arguments.check_settings(resolution, confidence, batch_size, zero_loss, return_interval)
        _arguments.check_force_psf(force_psf, psf)
        _arguments.check_num_workers(num_workers)
        checks.wants_lazy(signal, lazy_output)
        self.signal = signal
        self._look_at_signal(psf, navigation_mask)
        self._opened_on = self._axis()
        chosen = models.load(model)
        check_device(device)
        dispersion = self._given.axis.dispersion
        channels = _arguments.check_resolution(resolution, self._zero_loss.fwhm, dispersion)
        self.resolution = channels * dispersion
        self._models = {name: name for name in models.available()} | {chosen.name: chosen}
        self.model_names = list(self._models)
        self.model, self.zero_loss = chosen.name, bool(zero_loss)
        self.show_interval = bool(return_interval)

        self._device, self._confidence = device, float(confidence)
        self._passed_on = {
            "psf": psf,
            "force_psf": force_psf,
            "confidence": confidence,
            "navigation_mask": navigation_mask,
            "batch_size": batch_size,
            "device": device,
            "show_progressbar": show_progressbar,
            "num_workers": num_workers,
            "lazy_output": lazy_output,
        }
        self._answer = self._asked = None
        self.update()
        self.observe(self._on_setting, SETTINGS)
        signal.axes_manager.events.indices_changed.connect(self.update, [])
        signal.events.data_changed.connect(self._on_data, [])
        self._following = True

    def __repr__(self):
        made = "press Apply" if self.result is None else f".result: {self.result!r}"
        return f"<DeepDeconvolution of {self.signal!r}; {made}>"

    def apply(self):
        """Deconvolve the whole signal with these settings.

        Returns
        -------
        EELSSpectrum or LazyEELSSpectrum
            Also in ``result``; with ``show_interval``, the bounds are in ``lower`` and ``upper``.

        Raises
        ------
        ValueError
            If the energy axis is not what it was when the tool was opened.
        """
        self._check_axis()
        made = self.signal.deep_deconvolve(
            self.resolution,
            model=self._models[self.model],
            zero_loss=self.zero_loss,
            return_interval=self.show_interval,
            **self._passed_on,
        )
        self.result, self.lower, self.upper = made if self.show_interval else (made, None, None)
        self.message = f"Done: {self.result!r}"
        return self.result

    def close(self):
        """Stop following the signal and the settings; the results stay."""
        if not self._following:
            return
        self._following = False
        self.observe(self._on_setting, SETTINGS, remove=True)
        self.signal.axes_manager.events.indices_changed.disconnect(self.update)
        self.signal.events.data_changed.disconnect(self._on_data)

    def zero_loss_peak(self):
        """Where the zero-loss peak of the current spectrum is.

        Returns
        -------
        energy, fwhm : float
            In units of the energy axis; NaN where there is no peak.
        """
        axis = self.signal.axes_manager.signal_axes[0]
        if self._answer is None or not self._answer.seen.usable[0]:
            return np.nan, np.nan
        found, step = self._answer.seen.zero_loss, abs(axis.scale)
        lowest = min(axis.low_value, axis.high_value)
        return lowest + found.position[0] * step, found.fwhm[0] * step

    def update(self):
        """Deconvolve the current spectrum; an error becomes the `message`."""
        measured = self._spectrum()
        try:
            self._check_axis()
            preview = self._deconvolved(measured)
        except Exception as error:  # whatever it is, the user must see it and may go on
            preview = Preview(measured, remark=kind_and_text(error))
        said = [preview.remark] if preview.remark else []
        if self._given.mask[self.signal.axes_manager.indices[::-1]]:
            said.append("This spectrum is left out by the mask: it has no result.")
        self.message = " ".join(said + self._remarks)
        self.preview = preview.reversed() if self._given.axis.reversed else preview

    def _on_setting(self, event):
        self.update()

    def _on_data(self):
        self._asked = None
        try:
            self._look_at_signal(self._passed_on["psf"], self._passed_on["navigation_mask"])
        except (TypeError, ValueError, NotImplementedError) as error:
            self.message = kind_and_text(error)
        else:
            self.resolution = np.clip(self.resolution, self.finest, self.coarsest)
            self.update()

    def _look_at_signal(self, psf, navigation_mask):
        given = Input.of(self.signal, psf, navigation_mask)
        if not given.mask.size:
            raise ValueError("The signal holds no spectra: there is nothing to show.")
        self._given, self._zero_loss = given, given.zero_loss
        self._remarks = self._what_is_odd(psf)
        limits = physics.resolution_range(self._zero_loss.fwhm)
        finest, coarsest = (limit * given.axis.dispersion for limit in limits)
        self.trait_set(finest=finest, coarsest=coarsest)

    def _what_is_odd(self, psf):
        """Sentences on data and response, whatever the current spectrum is."""
        given, found = self._given, self._zero_loss
        odd = checks.of_result(self.signal) + sampling.remarks(found, given.measured)
        odd += [] if psf is None else responses.of_own_part(psf.data, self.signal.data)
        reach = given.data.shape[-1] - found.position
        return odd + responses.remarks(given.response, psf, found.electrons, reach)

    def _axis(self):
        axis = self.signal.axes_manager.signal_axes[0]
        return axis.size, axis.scale, axis.offset, str(axis.units)

    def _check_axis(self):
        """The slider's limits are energies: on another axis they would mean something else."""
        if self._axis() != self._opened_on:
            raise ValueError(
                "the energy axis was changed since this tool was opened: close it and open it again."
            )

    def _spectrum(self):
        """The current spectrum, its energy rising."""
        counts = _arguments.unmasked(self.signal._get_current_data(as_numpy=True))
        return counts[::-1] if self._given.axis.reversed else counts

    def _deconvolved(self, counts):
        """Preview of the current spectrum."""
        here, given = self.signal.axes_manager.indices[::-1], self._given
        if self._asked != (here, self.model):  # another resolution needs no new answer
            variance, psf = given.variance, given.response
            if np.ndim(variance):
                variance = np.asarray(variance[here])
                variance = variance[::-1] if given.axis.reversed else variance
            if np.ndim(psf) > 1:
                psf = np.asarray(psf[here])
            model = models.load(self._models[self.model])
            self._answer = Answer(
                counts,
                model,
                psf,
                estimated=given.estimated,
                variance=variance,
                dark=self._zero_loss.dark,
                device=self._device,
            )
            self._asked = here, self.model
        channels = _arguments.check_resolution(
            self.resolution, self._zero_loss.fwhm, given.axis.dispersion
        )
        confidence = self._confidence if self.show_interval else None
        wanted = Wanted(
            channels,
            self.zero_loss,
            confidence=confidence,
            dispersion=given.axis.dispersion,
            force_psf=self._passed_on["force_psf"],
        )
        zero_channel = sampling.response_zero(self._zero_loss, counts.size)
        return self._answer.preview(wanted, zero_channel if self.show_residual else None)


def kind_and_text(error):
    """Kind and text of an error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
