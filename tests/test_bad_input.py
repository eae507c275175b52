"""Whatever files and users bring: a result that is checked, or an error that names what is wrong.

The caller's signal stays as it was, bit for bit, whatever comes of it.
"""

import re
import tempfile
import warnings
from dataclasses import dataclass
from types import SimpleNamespace

import dask.array as da
import hyperspy.api as hs
import numpy as np
import pytest

import exspy_deepdeconv
from exspy_deepdeconv import physics

exspy_deepdeconv.register()


@dataclass(frozen=True)
class Case:
    """A row of the table: how a signal is made, and what comes of it.

    ``build`` takes the factory of conftest.py and returns a signal, or a signal and arguments.
    Then either ``checks`` hold and there is no warning but ``warns``, or ``error`` is raised.
    """

    build: object
    lazy: bool
    checks: tuple = ()
    warns: str = ""
    error: type = None
    message: str = ""


def works(name, build, *checks, warns="", lazy=True):
    """Rows of the table, eager and lazy."""
    return _rows(name, build, lazy, checks=checks, warns=warns)


def refused(name, build, message, error=ValueError, lazy=True):
    return _rows(name, build, lazy, error=error, message=message)


def _rows(name, build, lazy, **expected):
    return [
        pytest.param(Case(build, kind, **expected), id=name + "-lazy" * kind)
        for kind in ((False, True) if lazy else (False,))
    ]


def deconvolve(signal, **arguments):
    """The method; signals of other classes do not have it."""
    from exspy.signals import EELSSpectrum

    return EELSSpectrum.deep_deconvolve(signal, show_progressbar=False, **arguments)


def quietly(signal, **arguments):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return deconvolve(signal, **arguments)


# Signals


def made(*shape, **arguments):
    return lambda make: make(*shape, **arguments)


def with_data(function, *shape, **arguments):
    """A signal whose data were put through a function."""

    def build(make):
        s = make(*shape, **arguments)
        s.data = function(s.data)
        return s

    return build


def with_values(place, value, *shape):
    def function(data):
        data = data.astype(np.result_type(data, np.min_scalar_type(value)))
        data[place] = value
        return data

    return with_data(function, *shape)


def of_type(dtype, top=None):
    """A spectrum of this type, scaled where the type does not hold so many counts."""
    return with_data(lambda d: np.round(d * (top / d.max() if top else 1)).astype(dtype))


def few_counts(share):
    return with_data(lambda data: np.random.default_rng(0).poisson(share * data).astype("f4"))


def with_axis(**values):
    def build(make):
        s = make()
        for name, value in values.items():
            setattr(s.axes_manager.signal_axes[0], name, value)
        return s

    return build


def part(function, *shape):
    """What HyperSpy makes of a larger signal."""
    return lambda make: function(make(*shape))


def cropped(make):
    s = make(2, 3)
    s.crop_signal(-0.3, 1.5)
    return s


def non_uniform(number):
    def build(make):
        s = make(3)
        s.axes_manager[number].convert_to_non_uniform_axis()
        return s

    return build


def with_mask(mask, shape=(2, 3), nan=None):
    def build(make):
        s = make(*shape)
        if nan:
            s.data[nan] = np.nan
        return s, {"navigation_mask": mask}

    return build


def memory_mapped(data):
    array = np.memmap(tempfile.TemporaryFile(), data.dtype, "w+", shape=data.shape)
    array[:] = data
    return array


def read_only(data):
    data.flags.writeable = False
    return data


def spread_out(data):
    """A view on every second element of a larger array, along all of its axes."""
    larger = np.full([2 * size for size in data.shape], -1, data.dtype)
    view = larger[(slice(None, None, 2),) * data.ndim]
    view[...] = data
    return view


def reversed_view(data):
    return np.ascontiguousarray(data[..., ::-1])[..., ::-1]


def readout_noise(data):
    return data - 2 + np.random.default_rng(0).normal(0, 5, data.shape)


def falling_background(data):
    return np.random.default_rng(0).poisson(1e3 * np.linspace(2, 1, data.shape[-1]))


def two_peaks(second):
    """Peaks 10 channels wide at channels 100.3 and 200.3; the height of the second is given."""

    def function(data):
        first, other = (physics.gaussian(512, place, 10.0) for place in (100.3, 200.3))
        return np.random.default_rng(0).poisson(1e5 * (first + second * other) + 2.0)

    return with_data(function, channels=512)


def lazily_masked(make):
    """Not by ``as_lazy()``, which fills what is masked."""
    s = make(3).as_lazy()
    mask = np.zeros(s.data.shape, bool)
    mask[1, 7] = True
    s.data = da.ma.masked_array(s.data, mask)
    return s


def masked(data, place):
    data = np.ma.array(data)
    data[place] = np.ma.masked
    return data


def ragged(make):
    data = np.empty(2, object)
    data[0], data[1] = make().data, make(channels=300).data
    return hs.signals.BaseSignal(data, ragged=True)


# Checks: of the result, the caller's signal, his other arguments, and the factory


def counts(seen):
    """Conserved within 1 %."""
    was = np.asarray(seen.signal.data, np.float64).sum(axis=-1)
    np.testing.assert_allclose(seen.result.data.sum(axis=-1, dtype=np.float64), was, rtol=0.01)


def peak(seen):
    """The zero-loss peak is where it was, and narrower."""
    was, now = (physics.find_zero_loss(s.data) for s in (seen.signal, seen.result))
    np.testing.assert_allclose(now.position, was.position, atol=1.0)
    assert (now.fwhm < 0.7 * was.fwhm).all()


def as_float64(seen):
    """What the same data give as contiguous float64 in memory."""
    close(seen.result.data, reference(seen.signal))


def as_of(build, change=lambda data: data):
    """What another signal gives."""
    return lambda seen: close(seen.result.data, change(reference(build(seen.make))))


def others_as_without(*places):
    """The other spectra of a line give what they give without those."""

    def check(seen):
        kept = in_memory(seen.signal, np.delete(np.array(seen.signal.data), places, axis=0))
        resolution = seen.result.metadata.Signal.deep_deconvolution.resolution
        want = quietly(kept, resolution=resolution).data
        close(np.delete(seen.result.data, places, axis=0), want)

    return check


def without_level(level):
    """Counts are conserved but for a level, which is taken off."""

    def check(seen):
        want = np.asarray(seen.signal.data, np.float64).sum() - level * seen.signal.data.size
        assert seen.result.data.sum() == pytest.approx(want, rel=2e-3)

    return check


def values(place, wanted):
    return lambda seen: np.testing.assert_array_equal(seen.result.data[place], wanted)


def masked_left_out(seen):
    """Zeros where the mask is; elsewhere what the map gives without a mask."""
    resolution = seen.result.metadata.Signal.deep_deconvolution.resolution
    want = quietly(seen.make(2, 3), resolution=resolution).data
    close(seen.result.data, want * ~MASK.T[..., None])


def flagged(**wanted):
    """The counts in the metadata; those of a lazy result are not known."""

    def check(seen):
        flags = seen.result.metadata.Signal.deep_deconvolution.flags.as_dictionary()
        if not seen.lazy:
            assert {name: flags[name] for name in wanted} == wanted
        else:
            assert flags["counted"] is False

    return check


def in_eV(seen):
    """Resolution and width in the metadata, whatever the units of the axis."""
    note = seen.result.metadata.Signal.deep_deconvolution
    assert note.zero_loss_fwhm == pytest.approx(0.1, rel=0.03)
    assert note.resolution == pytest.approx(0.025, rel=0.03)


def on_the_plateau(seen):
    was, now = np.asarray(seen.signal.data), seen.result.data
    assert was[now.argmax()] == was.max()


def like_clean_data(seen):
    """Away from a spike, losses and zero-loss peak are those of the spectrum without it."""
    clean, spike = quietly(seen.make()).data, int(np.asarray(seen.signal.data).argmax())
    difference = np.abs(seen.result.data - clean)
    difference[spike - 10 : spike + 11] = 0
    assert difference.max() < 0.1 * clean[75:].max()
    assert seen.result.data.argmax() == clean.argmax()


def reference(signal):
    """The result of a signal as contiguous float64; many rows share theirs."""
    data = np.array(signal.data, np.float64, order="C")
    key = data.shape, data.tobytes()
    if key not in REFERENCES:
        REFERENCES[key] = quietly(in_memory(signal, data)).data
    return REFERENCES[key]


REFERENCES = {}


def in_memory(signal, data):
    """A signal with the energy axis of another one."""
    from exspy.signals import EELSSpectrum

    new = EELSSpectrum(data)
    axis, other = (s.axes_manager.signal_axes[0] for s in (new, signal))
    axis.scale, axis.offset, axis.units = other.scale, other.offset, other.units
    return new


def close(got, want):
    np.testing.assert_allclose(got, want, atol=1e-4 * want.max())


GOOD = (counts, peak, as_float64)
MASK = np.array([[True, False], [False, False], [False, True]])  # (x, y), as HyperSpy has it

TABLE = [
    # Types of numbers
    *works("int8", of_type("i1", 120), *GOOD),
    *works("uint8", of_type("u1", 250), *GOOD, lazy=False),
    *works("int16", of_type("i2"), *GOOD),
    *works("uint16", of_type("u2"), *GOOD),
    *works("uint16-full", of_type("u2", 65535), *GOOD, lazy=False),
    *works("int32", of_type("i4"), *GOOD, lazy=False),
    *works("uint32", of_type("u4"), *GOOD, lazy=False),
    *works("int64", of_type("i8"), *GOOD, lazy=False),
    *works("uint64", of_type("u8"), *GOOD),
    *works("float16", of_type("f2"), *GOOD, lazy=False),
    *works("float32", of_type("f4"), *GOOD, lazy=False),
    *works("float64", of_type("f8"), *GOOD, lazy=False),
    *works("longdouble", of_type(np.longdouble), *GOOD, lazy=False),
    *works("big-endian-int", of_type(">i2"), *GOOD, lazy=False),
    *works("big-endian-float", of_type(">f8"), *GOOD),
    # One bit a channel: whether an electron came
    *works("bool", with_data(lambda d: np.random.default_rng(0).random(256) < d / d.max()), peak,
           as_float64, lazy=False, warns="fewer than any in the training"),
    *refused("complex64", of_type("c8"), "The signal must hold real numbers, not complex64",
             lazy=False),
    *refused("complex128", of_type("c16"), "real numbers, not complex128", lazy=False),
    *refused("objects", with_data(lambda d: d.astype(object)), "real numbers, not object",
             lazy=False),
    *refused("text", with_data(lambda d: d.astype(str)), "real numbers, not <U", lazy=False),
    # Arrays in memory
    *works("read-only", with_data(read_only, 3), *GOOD),
    *works("memory-mapped", with_data(memory_mapped, 3), *GOOD),
    *works("view-with-gaps", with_data(spread_out, 2, 3), *GOOD),
    *works("fortran-order", with_data(np.asfortranarray, 2, 3), *GOOD, lazy=False),
    *works("reversed-view", with_data(reversed_view, 3), *GOOD, lazy=False),
    *works("broadcast-view", with_data(lambda d: np.broadcast_to(d[:1], d.shape), 3), *GOOD,
           lazy=False),
    # Values
    *refused("zeros", with_values(..., 0), "The spectrum holds nothing but zeros"),
    *works("zeros-in-map", with_values(1, 0, 3), values(1, 0), others_as_without(1),
           flagged(empty=1), warns=r"of 3 spectra 1 empty \(zeros returned\)\.$"),
    *refused("nothing-but-zeros-in-map", with_values(..., 0, 3), "None of 3 spectra.*3 empty"),
    *works("readout-noise", with_data(readout_noise), *GOOD, lazy=False),
    *works("negative-offset", with_data(lambda d: d - 500, channels=512, position=200.3), peak,
           without_level(-498), warns=r"a flat offset of -4\d\d counts lies under the spectra", lazy=False),
    *refused("all-negative", with_data(lambda d: -1 - d), "No zero-loss peak"),
    *refused("nan", with_values(100, np.nan), "The spectrum holds NaN, infinite"),
    *refused("inf", with_values(100, np.inf), "The spectrum holds NaN, infinite"),
    *refused("minus-inf", with_values(100, -np.inf), "The spectrum holds NaN, infinite"),
    *works("nan-in-map", with_values((1, 7), np.nan, 3), values(1, np.nan), others_as_without(1),
           flagged(not_finite=1), warns=r"of 3 spectra 1 not finite \(NaN returned\)\.$"),
    *works("inf-in-map", with_values((1, 7), np.inf, 3), values(1, np.nan), others_as_without(1),
           flagged(not_finite=1), warns=r"of 3 spectra 1 not finite \(NaN returned\)\.$",
           lazy=False),
    *refused("masked", with_data(lambda d: masked(d, 100)), "The spectrum holds NaN, infinite or masked"),
    *works("masked-in-map", with_data(lambda d: masked(d, (1, 7)), 3), values(1, np.nan),
           others_as_without(1), flagged(not_finite=1), warns="of 3 spectra 1 not finite"),
    *works("lazily-masked-in-map", lazily_masked, values(1, np.nan), others_as_without(1),
           warns="of 3 spectra 1 not finite")[1:],
    *refused("beyond-float32", with_values(100, 1e200), "NaN, infinite or masked values, or values above"),
    *works("beyond-float32-in-map", with_values((1, 7), -1e200, 3), values(1, np.nan),
           others_as_without(1), warns="of 3 spectra 1 not finite"),
    *refused("constant", with_values(..., 7), "No zero-loss peak was found"),
    *works("constant-in-map", with_values(1, 7, 3), values(1, 0), others_as_without(1),
           flagged(no_zero_loss=1), warns=r"of 3 spectra 1 without a zero-loss peak \(zeros"),
    *works("saturated", with_data(lambda d: np.minimum(d, 6000)), counts, on_the_plateau,
           flagged(saturated=1), warns="deep_deconvolve: a spectrum with a saturated zero-loss peak",
           lazy=False),
    *works("saturated-uint16", with_data(lambda d: np.minimum(10 * d, 65535).astype("u2")), counts,
           on_the_plateau, flagged(saturated=1), warns="deep_deconvolve: a spectrum with a saturated",
           lazy=False),
    *works("saturated-in-map", with_data(lambda d: np.stack([d[0], np.minimum(d[1], 6000)]), 2),
           counts, others_as_without(1), flagged(saturated=1), warns="of 2 spectra 1 with a satur"),
    *works("350-counts", few_counts(3e-3), counts, peak, as_float64, lazy=False,
           warns="fewer than any in the training"),
    *works("30-counts", few_counts(3e-4), counts, lazy=False,
           warns="fewer than any in the training"),
    *refused("one-count", with_data(lambda d: (np.arange(256) == 60) * 1.0), "No zero-loss peak"),
    *works("spike", with_values(180, 3e4), like_clean_data, flagged(spike=1),
           warns="deep_deconvolve: a spectrum with a spike", lazy=False),
    *works("spike-in-map", with_values((1, 180), 3e4, 3), others_as_without(1), flagged(spike=1),
           warns="of 3 spectra 1 with a spike"),
    # Zero-loss peaks
    *refused("no-zero-loss", with_data(falling_background), "No zero-loss peak was found"),
    *refused("zero-loss-in-first-channel", made(position=0.0), "No zero-loss peak was found"),
    *refused("zero-loss-in-last-channel", made(position=254.9), "No zero-loss peak was found"),
    *works("zero-loss-at-the-edge", made(position=6.0), peak, as_float64,
           flagged(no_gain_side=True), warns="gain side of the zero-loss peak", lazy=False),
    *works("zero-loss-near-the-edge", made(position=16.0), *GOOD,
           flagged(no_gain_side=True), warns="1.6 zero-loss widths long", lazy=False),
    *works("zero-loss-at-minus-4-eV", with_axis(offset=-4.6), *GOOD, as_of(made()), lazy=False),
    *works("zero-loss-at-200-eV", with_axis(offset=199.4), *GOOD, as_of(made()),
           flagged(elsewhere=True), warns="begins above 0 eV", lazy=False),
    *works("second-peak-half-as-high", two_peaks(0.5), *GOOD, lazy=False),
    *works("second-peak-higher", two_peaks(1.2), flagged(gains=1),
           warns="a spectrum with more energy gains than losses", lazy=False),
    # The energy axis
    *works("falling-axis", lambda make: make(3).isig[::-1], counts,
           as_of(made(3), lambda data: data[..., ::-1])),
    *refused("non-uniform-axis", non_uniform(-1), "non-uniform energy axes: the axis 'Energy loss'",
             NotImplementedError),
    *works("non-uniform-navigation", non_uniform(0), *GOOD, lazy=False),
    *works("meV", with_axis(scale=10.0, units="meV"), *GOOD, as_of(made()), in_eV, lazy=False),
    *works("keV", with_axis(scale=1e-5, units="keV"), as_of(made()), in_eV, lazy=False),
    *works("joule", with_axis(scale=1.602176634e-21, units="J"), as_of(made()), in_eV, lazy=False),
    *works("spaces-in-units", with_axis(units=" eV "), as_of(made()), in_eV, lazy=False),
    *refused("no-units", lambda make: type(make())(make().data), r"<undefined>.*units = \"eV\""),
    *refused("empty-units", with_axis(units=""), r"in units of ''.*units = \"eV\""),
    *refused("unknown-units", with_axis(units="px"), "'Energy loss' of the signal is in .* 'px'"),
    *refused("inverse-units", with_axis(units="1/eV"), "in units of '1/eV'"),
    *refused("code-for-units", with_axis(units="__import__('os').abort()"), "units of .*os.*abort"),
    *refused("scale-0", with_axis(scale=0.0), "scale of the axis 'Energy loss' of the .* is 0.0"),
    *refused("scale-nan", with_axis(scale=np.nan), "scale of the axis 'Energy loss' .* is nan"),
    *works("binned", with_axis(is_binned=True), *GOOD, lazy=False),
    *works("unbinned", with_axis(is_binned=False), *GOOD, lazy=False),
    *refused("63-channels", made(channels=63, position=20.3), "63 channels; at least 64"),
    *works("64-channels", made(channels=64, position=20.3, fwhm=6.0), *GOOD, lazy=False),
    *works("65-channels", made(channels=65, position=20.3, fwhm=6.0), *GOOD, lazy=False),
    *works("1023-channels", made(channels=1023), *GOOD, lazy=False),
    *works("4096-channels", made(channels=4096), *GOOD, lazy=False),
    *works("16384-channels", made(channels=16384), *GOOD, lazy=False),
    # Shapes
    *works("one-pixel", made(1), *GOOD, lazy=False),
    *works("line", made(4), *GOOD),
    *works("3-D-with-size-1", made(2, 1, 2), *GOOD),
    *works("3-D-of-one", made(1, 1, 1), *GOOD, as_of(made(1), lambda data: data[None, None]),
           lazy=False),
    # HyperSpy has no lazy signals without data.
    *works("size-0", made(0), lazy=False),
    *works("map-with-size-0", made(2, 0), lazy=False),
    *works("3-D-with-size-0", made(0, 2, 2), lazy=False),
    *refused("ragged", ragged, r"one signal axis \(the energy\), not 0", lazy=False),
    *refused("image", lambda make: make(2, 70).as_signal2D((0, 1)), r"one signal axis .*, not 2"),
    *works("inav", part(lambda s: s.inav[1, 0], 2, 3), *GOOD),
    *works("inav-range", part(lambda s: s.inav[1:, ::-1], 2, 3), *GOOD, lazy=False),
    *works("isig", part(lambda s: s.isig[10:200], 3), *GOOD, lazy=False),
    *works("isig-in-eV", part(lambda s: s.isig[-0.3:1.5], 3), *GOOD),
    *works("isig-every-second", part(lambda s: s.isig[::2], 3), *GOOD, lazy=False),
    *works("cropped", cropped, *GOOD),
    *works("rebinned-energy", part(lambda s: s.rebin(scale=(1, 2)), 3), *GOOD),
    *works("rebinned-navigation", part(lambda s: s.rebin(scale=(3, 1, 1)), 2, 3), *GOOD,
           lazy=False),
    *works("swapped-axes", part(lambda s: s.swap_axes(0, 1), 2, 3), *GOOD, lazy=False),
    # Masks
    *works("mask-array", with_mask(MASK, nan=(0, 0, 5)), masked_left_out),
    *works("mask-signal", with_mask(hs.signals.BaseSignal(MASK.T).T, nan=(1, 2, 5)),
           masked_left_out),
    *works("mask-of-nothing", with_mask(np.zeros((3, 2), bool)), as_of(made(2, 3))),
    *refused("all-masked", with_mask(np.ones((3, 2), bool)), "navigation_mask leaves out every"),
    *refused("single-masked", with_mask(np.array(True), ()), "navigation_mask leaves out every"),
    *refused("mask-of-other-shape", with_mask(MASK[:2]), r"navigation_mask has the shape \(2, 2\)"),
    *refused("mask-of-numbers", with_mask(MASK * 1), "navigation_mask must hold bool, not int"),
]  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_input(make_signal, case):
    signal, arguments = built(case, make_signal)
    before = snapshots(signal, arguments)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        if case.error:
            with pytest.raises(case.error, match=case.message):
                deconvolve(signal, **arguments)
        else:
            result = deconvolve(signal, **arguments)
            assert result._lazy is case.lazy
            if case.lazy:
                result.compute(show_progressbar=False)
    assert snapshots(signal, arguments) == before
    told = [str(warning.message) for warning in heard]
    assert len(told) == bool(case.warns), told
    assert not told or re.search(case.warns, told[0]), told
    if not case.error:
        sound(result, signal)
        seen = SimpleNamespace(
            result=result, signal=signal, arguments=arguments, make=make_signal, lazy=case.lazy
        )
        for check in case.checks:
            check(seen)


def built(case, make_signal):
    signal, arguments = case.build(make_signal), {}
    if isinstance(signal, tuple):
        signal, arguments = signal
    signal.original_metadata.add_dictionary({"Detector": {"gain": 2.5}})
    signal.tmp_parameters.filename = "file"
    return (signal.as_lazy() if case.lazy else signal), arguments


def snapshots(signal, arguments):
    """All that a caller can see of what he gave."""
    return [
        snapshot(given) if isinstance(given, hs.signals.BaseSignal) else np.array(given).tobytes()
        for given in (signal, *arguments.values())
    ]


def snapshot(signal):
    data = signal.data
    own = (data.name, data.chunks) if signal._lazy else (id(data), data.flags.writeable)
    rows = data.ravel() if data.dtype == object else [data]
    return (
        type(signal),
        own,
        data.dtype,
        data.shape,
        [np.asarray(row).tobytes() for row in rows],
        signal.axes_manager.as_dictionary(),
        signal.metadata.as_dictionary(),
        signal.original_metadata.as_dictionary(),
        signal.tmp_parameters.as_dictionary(),
    )


def sound(result, signal):
    """What holds for every result; NaN only where the data are not finite."""
    assert result.data.dtype == np.float32 and result.data.shape == signal.data.shape
    # Copies that eXSpy makes are always binned.
    copy = signal.deepcopy()
    assert result.axes_manager.as_dictionary() == copy.axes_manager.as_dictionary()
    assert result.original_metadata.as_dictionary() == signal.original_metadata.as_dictionary()
    data = signal.data.compute() if signal._lazy else signal.data
    finite = np.ma.filled((np.abs(data.astype(np.float64)) < 1e18).all(axis=-1), False)
    finite &= ~np.ma.getmaskarray(data).any(axis=-1)
    assert (result.data[finite] >= 0).all() and np.isfinite(result.data[finite]).all()
