"""The notebook widget of ``deep_deconvolve(interactive=True)`` (ipywidgets).

HyperSpy finds it through ``hyperspy_extension.yaml`` and imports it when it is shown. The preview
is a picture (PNG), so it needs no interactive backend of matplotlib.
"""

import html
import io

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ._widget.interactive import kind_and_text
from .plotting._curves import COLOURS, axis_name, energy_label, log_limits, residual_reach

try:
    import ipywidgets
except ImportError:  # an extra; `deep_deconvolution_ipy` says so
    ipywidgets = None

SLIDER_STEPS = 200
PEAK_ENDS = 2.0  # zero-loss widths behind the peak, from where losses set the linear scale
WIDE = {"style": {"description_width": "initial"}, "layout": {"width": "310px"}}  # of a control
HELP = """
<p>The preview is the spectrum at the chosen position, measured and deconvolved; where the signal is
plotted, it follows the navigator.</p>
<p><b>Resolution</b>: width (FWHM) that the zero-loss peak will have. Finer shows more, and what it
shows is less certain. <b>Zero-loss peak</b>: whether it stays in the result. <b>Interval</b>: where
the true spectrum is expected; Apply then makes its bounds, too. <b>Residual</b>: the result blurred
again and taken from the data, in units of the noise. Where it leaves the grey band over more than a
few channels in a row, the result does not explain the data.</p>
<p><b>Apply</b> deconvolves the whole signal with these settings. The result is <code>.result</code>
of what <code>deep_deconvolve(interactive=True)</code> returned. <b>Close</b> ends the preview; the
result stays.</p>
"""


def deep_deconvolution_ipy(obj, display=True):
    """Build the widget of a tool.

    Parameters
    ----------
    obj : exspy_deepdeconv._widget.interactive.DeepDeconvolution
        The tool that is shown and steered.
    display : bool
        Whether to show the widget.

    Returns
    -------
    dict or None
        Unless it is shown: ``"widget"``, the container; ``"wdict"``, its parts by name (the
        settings of the tool, ``"position_0"`` and so on, ``"log_scale"``, ``"energy_range"``,
        ``"picture"``, ``"message"``, ``"output"``, ``"apply_button"``, ``"close_button"``,
        ``"help"``); ``"tool"``, which is ``obj``.

    Raises
    ------
    ImportError
        Without ipywidgets.

    Examples
    --------
    >>> import pytest
    >>> _ = pytest.importorskip("ipywidgets")
    >>> from exspy_deepdeconv import data
    >>> from exspy_deepdeconv._widget.interactive import DeepDeconvolution
    >>> tool = DeepDeconvolution(data.exciton_spectrum())
    >>> parts = tool.gui(display=False, toolkit="ipywidgets")["ipywidgets"]["wdict"]
    >>> parts["resolution"].value = tool.finest
    >>> bool(tool.resolution == tool.finest)
    True
    >>> parts["close_button"].click()
    """
    if ipywidgets is None:
        raise ImportError(
            'The widget needs ipywidgets: python -m pip install "exspy_deepdeconv[gui]"'
        )
    widget = _Widget(obj)
    if not display:
        return {"widget": widget.box, "wdict": widget.parts, "tool": obj}
    from IPython.display import display as show

    show(widget.box)


class _Widget:
    """Controls and picture of a tool, joined to it until it is closed."""

    def __init__(self, tool):
        self.tool = tool
        self.picture = _Picture(energy_label(tool.signal))
        self.parts = _parts(tool)
        self.box = _arranged(self.parts)
        self.linked = []
        for name in ("resolution", "model", "zero_loss", "show_interval", "show_residual"):
            self._link(name)
        for name in ("finest", "coarsest"):
            self._observe(name, self._limit)
        for number, axis in enumerate(tool.signal.axes_manager.navigation_axes):
            self._steer(self.parts[f"position_{number}"], axis)
        self._observe("preview", self._show)
        self._observe("message", self._tell)
        self._tell()
        self._show()
        for name in ("log_scale", "energy_range"):
            self.parts[name].observe(self._show, "value")
        self.parts["apply_button"].on_click(self._apply)
        self.parts["close_button"].on_click(self._close)

    def _observe(self, name, function):
        self.tool.observe(function, name)
        self.linked.append((function, name))

    def _link(self, name):
        """Keep a setting of the tool and its control the same."""
        control = self.parts[name]
        control.observe(lambda change: self._try(setattr, self.tool, name, change.new), "value")
        self._observe(name, lambda event: setattr(control, "value", event.new))

    def _limit(self, _):
        """Give the slider the limits of the tool; in between they may be crossed."""
        slider, low, high = self.parts["resolution"], self.tool.finest, self.tool.coarsest
        if low <= high:
            slider.max = max(slider.max, high)  # never below its `min`
            slider.min, slider.max = low, high
            slider.step, slider.disabled = _step(low, high), low == high

    def _steer(self, control, axis):
        control.observe(lambda change: self._try(setattr, axis, "index", change.new), "value")

    def _try(self, function, *arguments):
        """Call a function; the user sees its error, which Jupyter would hide in a log."""
        try:
            return function(*arguments)
        except Exception as error:
            self.tool.message = kind_and_text(error)

    def _tell(self, _=None):
        # Never empty, so that the widget does not jump.
        self.parts["message"].value = html.escape(self.tool.message) or "&nbsp;"

    def _show(self, _=None):
        for number, index in enumerate(self.tool.signal.axes_manager.indices):
            self.parts[f"position_{number}"].value = index
        self._try(self._draw)

    def _draw(self):
        energy = self.tool.signal.axes_manager.signal_axes[0].axis
        self.parts["picture"].value = self.picture.png(
            energy,
            self.tool.preview,
            limits=self.parts["energy_range"].value,
            log=self.parts["log_scale"].value,
            with_residual=self.tool.show_residual,
            peak=self.tool.zero_loss_peak(),
        )

    def _apply(self, button):
        button.disabled = True
        self.tool.message = "Deconvolving the whole signal ..."
        self.parts["output"].clear_output()
        # Progress bar and warnings appear in the output; an error is told in one line.
        with self.parts["output"]:
            self._try(self.tool.apply)
        button.disabled = False

    def _close(self, _):
        for function, name in self.linked:
            self.tool.observe(function, name, remove=True)
        self.parts["apply_button"].on_click(self._apply, remove=True)
        self.parts["apply_button"].disabled = True
        self.tool.close()
        _close_all(self.box)


def _close_all(widget):
    for child in getattr(widget, "children", ()):
        _close_all(child)
    widget.close()


def _parts(tool):
    """All parts by name, not yet joined to the tool."""
    return _settings(tool) | _views(tool.signal.axes_manager) | _outputs()


def _step(finest, coarsest):
    return (coarsest - finest) / SLIDER_STEPS or 1.0


def _settings(tool):
    """The controls of what the tool is asked for."""
    parts = {
        "resolution": ipywidgets.FloatSlider(
            value=tool.resolution,
            min=tool.finest,
            max=tool.coarsest,
            step=_step(tool.finest, tool.coarsest),
            disabled=tool.coarsest == tool.finest,  # an undersampled zero-loss peak
            description="Resolution (eV)",
            readout_format=".3g",
            **WIDE,
        ),
        "model": ipywidgets.Dropdown(
            options=tool.model_names, value=tool.model, description="Model", **WIDE
        ),
    }
    for name, words in (
        ("zero_loss", "Zero-loss peak"),
        ("show_interval", "Interval"),
        ("show_residual", "Residual"),
    ):
        parts[name] = _checkbox(getattr(tool, name), words)
    return parts


def _views(axes_manager):
    """The controls of what is seen: which spectrum, and how."""
    parts = {}
    for number, axis in enumerate(axes_manager.navigation_axes):
        parts[f"position_{number}"] = ipywidgets.IntSlider(
            value=axis.index,
            max=axis.size - 1,
            description=axis_name(axis, f"axis {number}"),
            **WIDE,
        )
    parts["log_scale"] = _checkbox(True, "Logarithmic")
    energy = axes_manager.signal_axes[0]
    ends = energy.low_value, energy.high_value
    parts["energy_range"] = ipywidgets.FloatRangeSlider(
        value=ends, min=min(ends), max=max(ends), step=abs(energy.scale),
        description="Energies", readout_format=".3g", **WIDE,
    )  # fmt: skip
    return parts


def _outputs():
    """What is shown and told, and the buttons."""
    flexible = {
        "flex": "1 1 400px",
        "min_width": "0",
        "max_width": "720px",
        "object_fit": "contain",
    }
    return {
        "picture": ipywidgets.Image(format="png", layout=flexible),
        "message": ipywidgets.HTML(),
        "output": ipywidgets.Output(),
        "apply_button": ipywidgets.Button(
            description="Apply", button_style="primary", tooltip="Deconvolve the whole signal."
        ),
        "close_button": ipywidgets.Button(
            description="Close", tooltip="End the preview; the result stays."
        ),
        "help": ipywidgets.Accordion([ipywidgets.HTML(HELP)], titles=("Help",)),
    }


def _checkbox(value, words):
    return ipywidgets.Checkbox(
        value=value, description=words, indent=False, layout={"width": "140px"}
    )


def _arranged(parts):
    """The box that holds the parts."""
    rows, columns = ipywidgets.VBox, ipywidgets.HBox
    positions = [part for name, part in parts.items() if name.startswith("position_")]
    switches = columns([parts["zero_loss"], parts["show_interval"]])
    views = columns([parts["show_residual"], parts["log_scale"]])
    controls = rows(
        [
            parts["resolution"],
            parts["model"],
            switches,
            views,
            parts["energy_range"],
            *positions,
            columns([parts["apply_button"], parts["close_button"]]),
        ],
        layout={"flex": "0 0 auto"},
    )
    top = columns(
        [controls, parts["picture"]], layout={"flex_flow": "row wrap", "align_items": "flex-start"}
    )
    return rows([top, parts["message"], parts["output"], parts["help"]])


class _Picture:
    """Spectrum before and after as a PNG; the figure is kept, since drawing one anew is slow."""

    def __init__(self, energy_label):
        self.energy_label = energy_label
        self.with_residual = None

    def _start(self, with_residual):
        """Lay the figure out; the margins hold what words there can be."""
        self.with_residual = with_residual
        figure = Figure(figsize=(7.2, 4.6), dpi=100)
        self.canvas = FigureCanvasAgg(figure)
        margins = {"left": 0.1, "right": 0.965, "top": 0.94, "bottom": 0.11, "hspace": 0.06}
        ratios = (3, 1) if with_residual else (1,)
        axes = figure.subplots(
            len(ratios), sharex=True, squeeze=False, height_ratios=ratios, gridspec_kw=margins
        )[:, 0]
        self.top, self.bottom = axes[0], axes[-1]
        self.lines = {
            name: self.top.plot([], [], color=COLOURS[label], lw=1.4, label=label)[0]
            for name, label in (("measured", "measured"), ("result", "deconvolved"))
        }
        self.band = None
        self.top.set_ylabel("Counts")
        self.bottom.set_xlabel(self.energy_label)
        if with_residual:
            self.bottom.axhspan(-1, 1, color="0.9", zorder=0)
            self.bottom.set_ylabel("Residual\n(noise)")  # on one line, longer than the panel
            colour = COLOURS["deconvolved"]
            (self.lines["residual"],) = self.bottom.plot([], [], color=colour, lw=0.8)

    def png(self, energy, preview, *, limits, log, with_residual, peak=(np.nan, np.nan)):
        """Bytes of the picture of a `Preview`; ``peak`` is where the zero-loss peak is, and its width."""
        step = abs(energy[1] - energy[0])
        limits = limits if limits[1] > limits[0] else (limits[0] - step, limits[1] + step)
        if with_residual != self.with_residual:
            self._start(with_residual)
        inside = (energy >= limits[0]) & (energy <= limits[1])
        shown = {}
        for name, line in self.lines.items():
            values = getattr(preview, name)
            shown[name] = np.full(inside.sum(), np.nan) if values is None else values[inside]
            line.set_data(energy[inside], shown[name])
        self._draw_band(energy[inside], preview, inside)
        counts = [shown["measured"], shown["result"]]
        if preview.upper is not None:
            counts.append(preview.upper[inside])
        self._scale(counts, log, _losses(energy[inside], *peak))
        self.top.set_xlim(*limits)
        if with_residual:
            reach = residual_reach(shown["residual"])
            self.bottom.set_ylim(-reach, reach)
        out = io.BytesIO()
        self.canvas.print_png(out)
        return out.getvalue()

    def _draw_band(self, energy, preview, inside):
        if self.band:
            self.band.remove()
        self.band = None
        if preview.lower is not None:
            # A bound of zero lies nowhere on a logarithmic scale.
            low = np.maximum(preview.lower[inside], 1e-9 * np.nanmax(preview.measured))
            style = {"color": COLOURS["deconvolved"], "alpha": 0.25, "lw": 0, "label": "interval"}
            self.band = self.top.fill_between(energy, low, preview.upper[inside], **style)
        self.top.legend(frameon=False, loc="upper right")

    def _scale(self, counts, log, losses):
        """Limits for these curves; the linear ones are those of the channels ``losses``, if there are any."""
        self.top.set_yscale("log" if log else "linear")
        known = np.concatenate(counts)
        known = known[np.isfinite(known)]
        if log:
            self.top.set_ylim(*log_limits([known]))
        elif known.size:
            self.top.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
            of_losses = np.concatenate([each[losses] for each in counts])
            of_losses = of_losses[np.isfinite(of_losses)]
            shown = of_losses if of_losses.max(initial=0) > 0 else known
            low, high = min(shown.min(), 0), max(shown.max(), 0)
            self.top.set_ylim(1.05 * low, 1.05 * high or 1)


def _losses(energy, zero_loss, fwhm):
    """Which energies lie behind the zero-loss peak: beside it, they would be a flat line."""
    return energy > zero_loss + PEAK_ENDS * fwhm  # none where the peak is unknown
