"""Lazy results on a cluster of separate processes."""

import os
import pickle
import signal as signals

import numpy as np
import pytest

from exspy_deepdeconv import models

distributed = pytest.importorskip("distributed")

pytestmark = pytest.mark.filterwarnings("ignore:Sending large graph")


@pytest.fixture(scope="module")
def client():
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    before = dict(os.environ)
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client
    # A cluster leaves OMP_NUM_THREADS=1 behind: processes that later tests start would compute
    # with another number of threads than this one, hence with other last bits.
    os.environ.clear()
    os.environ.update(before)


def run(signal, **arguments):
    return signal.deep_deconvolve(resolution=0.05, show_progressbar=False, **arguments)


def test_a_cluster_gives_the_same_as_one_process(client, make_signal):
    s = make_signal(4, 6)
    here = run(s)
    lazy = run(s.as_lazy(chunks=(2, 2, 100)))
    there = client.compute(lazy.data).result()
    np.testing.assert_allclose(there, here.data, atol=1e-6 * here.data.max())


def test_weights_are_read_once_by_each_worker(client, make_signal):
    lazy = run(make_signal(4, 6).as_lazy(chunks=(1, 2, 256)))
    client.compute(lazy.data).result()

    def loads():
        from exspy_deepdeconv import models

        return models._load_file.cache_info().misses

    misses = client.run(loads).values()
    assert all(number <= 1 for number in misses) and sum(misses) >= 1
    assert len(pickle.dumps(models.load())) < 1000  # the weights do not travel with every block


@pytest.mark.skipif(os.name != "posix", reason="kills like a POSIX system")
def test_a_killed_worker_is_made_up_for(client, make_signal):
    s = make_signal(8, 8)
    future = client.compute(run(s.as_lazy(chunks=(1, 1, 256))).data)
    victim = next(iter(client.run(os.getpid).values()))
    os.kill(victim, signals.SIGKILL)
    want = run(s).data
    np.testing.assert_allclose(future.result(timeout=120), want, atol=1e-6 * want.max())


def with_odd_pixels(signal):
    signal.data[0, 0] = np.nan
    signal.data[1, 2] = 0
    return signal


def test_flags_and_warnings_come_from_a_cluster(client, make_signal):
    s = with_odd_pixels(make_signal(3, 4))
    with pytest.warns(UserWarning, match="of 12 spectra 1 .*zeros returned.*, 1 .*NaN returned"):
        flags = run(s).metadata.Signal.deep_deconvolution.flags
    assert flags.counted and (flags.empty, flags.not_finite) == (1, 1)
    np.testing.assert_array_equal(np.argwhere(flags.maps.empty), [[1, 2]])


def test_choices_come_from_a_cluster(client, make_signal):
    s = with_odd_pixels(make_signal(3, 4))
    with pytest.warns(UserWarning, match="NaN returned"):
        result = s.rl_deconvolve(show_progressbar=False)
    chosen = result.metadata.Signal.rl_deconvolution.chosen
    assert chosen.counted and np.isfinite(chosen.map).sum() == 10


def test_the_residual_of_a_cluster_warns(client, make_signal):
    s = make_signal(3, 4)
    result = run(s)
    s.data[0, 0] = np.random.default_rng(0).poisson(50, 256)
    with pytest.warns(UserWarning, match="of 12 spectra 1 without a zero-loss peak"):
        s.deconvolution_residual(result, show_progressbar=False)


def test_vacuum_spectra_are_summed_by_a_cluster(client, make_signal):
    s = make_signal(4, 6)
    here, there = (x.vacuum_psf(show_progressbar=False) for x in (s, s.as_lazy(chunks=(2, 2, 100))))
    np.testing.assert_allclose(there.data, here.data, rtol=1e-9)
