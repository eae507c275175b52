"""The block runner behind the signal methods: chunks, sampling, flags."""

import warnings

import dask
import dask.array as da
import numpy as np
import pytest
from _helpers import deconvolve, energy_axis
from dask.callbacks import Callback

from exspy_deepdeconv._signals import runner, sampling


@pytest.mark.parametrize(
    "chunks", [(4, 5, 256), (1, 1, 256), (4, 5, 100), ((1, 3), (2, 2, 1), (250, 6))]
)
def test_eager_and_lazy_agree_whatever_the_chunks(make_signal, chunks):
    s = make_signal(4, 5)
    lazy = s.as_lazy(chunks=chunks)
    before = lazy.data.chunks
    result = deconvolve(lazy)
    assert lazy.data.chunks == before
    scale = s.data.max()
    np.testing.assert_allclose(result.data.compute(), deconvolve(s).data, atol=1e-5 * scale)


def test_each_spectrum_goes_through_the_network_once(make_signal, network, monkeypatch):
    monkeypatch.setattr(runner, "SPECTRA_PER_BLOCK", 4)
    s = make_signal(5, 3)
    deconvolve(s)
    assert len(network.calls) > 1
    assert sum(int(np.prod(shape[:-1])) for shape in network.calls) == 15
    network.calls.clear()
    lazy = deconvolve(s.as_lazy())
    assert network.calls == []
    lazy.compute(show_progressbar=False)
    assert sum(int(np.prod(shape[:-1])) for shape in network.calls) == 15


def test_more_spectra_than_are_sampled(make_signal, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_SAMPLED", 4)
    s = make_signal(5, 3)
    note, lazy_note = (
        deconvolve(x).metadata.Signal.deep_deconvolution for x in (s, s.as_lazy(chunks=(2, 2, 100)))
    )
    assert note.zero_loss_fwhm == lazy_note.zero_loss_fwhm
    assert note.zero_loss_fwhm == pytest.approx(0.1, rel=0.05)


def test_spectra_in_many_pieces_are_read_with_few_tasks():
    """DigitalMicrograph's maps are: their energy is the slowest axis of the file."""
    data = np.random.default_rng(0).normal(size=(8, 8, 256))
    places, tasks = np.argwhere(np.ones((8, 8), bool))[::-3], []
    with Callback(pretask=lambda key, *_: tasks.append(key)):
        read = sampling.read_spectra(da.from_array(data, chunks=(8, 8, 4)), places)
    np.testing.assert_array_equal(read, data.reshape(64, 256)[::-3])
    assert 0 < len(tasks) < 5 * 64


def test_lazy_reads_only_the_sampled_spectra(make_signal, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_SAMPLED", 2)
    s = make_signal(4, 4)
    read = []

    class File:
        shape, dtype, ndim = s.data.shape, s.data.dtype, 3

        def __getitem__(self, index):
            part = s.data[index]
            read.append(part.size // 256)
            return part

    lazy = s.as_lazy()
    lazy.data = da.from_array(File(), chunks=(2, 2, 256))
    deconvolve(lazy)
    assert sum(read) == 2


def test_map_without_spectra(make_signal):
    s = make_signal(0)
    result = deconvolve(s)
    assert result.data.shape == (0, 256)
    assert result.data.dtype == np.float32


@pytest.mark.parametrize("shape", [(), (3,)])
def test_falling_energy_axis(make_signal, shape):
    s = make_signal(*shape)
    psf = make_signal(position=64)
    falling, falling_psf = s.deepcopy(), psf.deepcopy()
    for x in (falling, falling_psf):
        x.data = np.ascontiguousarray(x.data[..., ::-1])
        energy_axis(x).scale *= -1
    want = deconvolve(s, psf=psf).data
    np.testing.assert_allclose(deconvolve(falling, psf=psf).data[..., ::-1], want, rtol=1e-6)
    np.testing.assert_allclose(
        deconvolve(falling, psf=falling_psf).data[..., ::-1], want, rtol=1e-6
    )


def test_schedulers_agree(make_signal):
    s = make_signal(3)
    want = deconvolve(s).data
    with dask.config.set(scheduler="synchronous"):
        np.testing.assert_array_equal(deconvolve(s).data, want)


def flagged(make_signal):
    s = make_signal(4, 5)
    s.data[0, 0] = 0
    s.data[1, 1] = s.data[1, 2] = np.random.default_rng(1).normal(0, 1, 256)
    s.data[2, 2, 30] = np.nan
    s.data[3, 3, 200] = np.inf
    s.data[3, 4] = np.minimum(s.data[3, 4], 6000)
    s.data[0, 4, 200] = 5e4
    return s


FLAGGED = (
    "of 20 spectra 1 empty .zeros returned., 2 without a zero-loss peak .zeros returned., "
    "2 not finite .NaN returned., 1 with a saturated zero-loss peak .result doubtful., "
    "1 with a spike"
)


def check_flagged(data):
    assert (data[0, 0] == 0).all()
    assert (data[1, 1:3] == 0).all()
    assert np.isnan(data[2, 2]).all()
    assert np.isnan(data[3, 3]).all()
    data = data.copy()
    data[2, 2] = data[3, 3] = 1
    assert np.isfinite(data).all()


@pytest.mark.parametrize("lazy", [False, True])
def test_flagged_spectra_are_counted_in_one_warning(make_signal, lazy):
    s = flagged(make_signal)
    s = s.as_lazy(chunks=(2, 2, 256)) if lazy else s
    with pytest.warns(UserWarning, match=FLAGGED) as caught:
        result = s.deep_deconvolve(lazy_output=False, show_progressbar=False)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    check_flagged(result.data)
    flags = result.metadata.Signal.deep_deconvolution.flags.as_dictionary()
    maps = flags.pop("maps")
    assert {name: int(where.sum()) for name, where in maps.items()} == {
        name: flags[name] for name in maps
    }
    assert flags == {
        "counted": True,
        "empty": 1,
        "no_zero_loss": 2,
        "not_finite": 2,
        "saturated": 1,
        "spike": 1,
        "unexplained": 1,  # the spike
        "gains": 0,
        **dict.fromkeys(
            (
                "undersampled",
                "narrow",
                "wide",
                "no_gain_side",
                "few_electrons",
                "uneven",
                "elsewhere",
            ),
            False,
        ),
    }


def test_lazy_result_warns_once_when_all_is_computed(make_signal, monkeypatch):
    monkeypatch.setattr(runner, "SPECTRA_PER_BLOCK", 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = deconvolve(flagged(make_signal).as_lazy())
        result.inav[0, 0].compute(show_progressbar=False)
    with pytest.warns(UserWarning, match=FLAGGED) as caught:
        result.compute(show_progressbar=False)
    assert len(caught) == 1
    check_flagged(result.data)


def test_process_scheduler_or_partial_compute_claims_no_counts(make_signal):
    tally = runner.FlagTally(np.zeros((2, 2), bool), warn=True)
    tally.hand_in(np.array([0, 3]), np.array([1, 0], np.uint8))
    assert tally.counts() == {"counted": False}
    with pytest.warns(UserWarning, match="of 4 spectra 1 empty"):
        tally.hand_in(np.array([1, 2, 3]), np.array([0, 0, 0], np.uint8))
    assert tally.counts()["empty"] == 1


def test_few_spectra_in_a_large_empty_map(make_signal, monkeypatch):
    monkeypatch.setattr(sampling, "MAX_SAMPLED", 3)
    s = make_signal(5, 5)
    s.data[:] = 0
    s.data[1, 3] = make_signal().data
    with pytest.warns(UserWarning, match="24 empty"):
        result = deconvolve(s)
    assert result.data[1, 3].any()
    with pytest.raises(ValueError, match="navigation_mask"):
        deconvolve(s.as_lazy())


def test_thread_count_is_left_as_it_was(make_signal, monkeypatch):
    """Also what a new thread would start with, after several blocks at a time."""
    import threading

    import torch

    def in_a_new_thread():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return seen[0]

    monkeypatch.setattr(runner, "SPECTRA_PER_BLOCK", 2)
    kept = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        before = torch.get_num_threads(), in_a_new_thread()
        for workers in (1, 4):
            deconvolve(make_signal(6, 4), num_workers=workers)
            assert (torch.get_num_threads(), in_a_new_thread()) == before
    finally:
        torch.set_num_threads(kept)
