"""What the benchmarks share: held-out spectra, processes to work on them, the line above figures."""

import shlex
import sys
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

import hyperspy.api as hs
import numpy as np
import torch
from tqdm import tqdm

from exspy_deepdeconv import models
from exspy_deepdeconv.physics import prepare
from exspy_deepdeconv.simulate import FAMILIES, simulate
from exspy_deepdeconv.simulate import SCENES as RANGES

SEED = 20_211_105
SCENES = ("vibrational", "plasmonic", "gap", "doublet", "bulk")
LENGTHS = (512, 1024, 2048, 4096)


def held_out(scene, cases, channels=None, seed=SEED, shoulders=0.0):
    """Yield simulated spectra with their measured zero-loss width in channels."""
    drawn = replace(RANGES[scene], shoulders=shoulders)
    rng = np.random.default_rng([seed, FAMILIES.index(scene)])
    while cases:
        length = int(rng.choice(LENGTHS)) if channels is None else channels
        simulation = simulate(drawn, rng, length)
        width = float(prepare(simulation.counts)[1].fwhm)
        if np.isfinite(width):
            cases -= 1
            yield simulation, width


def announced(name, arguments=None):
    """The model of this name, or path; printed above the figures, with the command that makes them."""
    model = models.load(name)
    print("python", shlex.join(sys.argv if arguments is None else arguments))
    print(f"model {model.name} ({model.sha256[:12]})")
    return model


@contextmanager
def workers(number):
    """A function ``run(function, cases)``: the list of ``function(*case)``, by processes."""
    if number == 1:
        yield lambda function, cases: [function(*case) for case in _with_bar(list(cases))]
        return
    # Spawned, since torch's threads do not survive a fork.
    with ProcessPoolExecutor(number, get_context("spawn"), initializer=_prepare_worker) as pool:
        yield partial(_run, pool)


def _prepare_worker():
    hs.set_log_level("ERROR")
    torch.set_num_threads(1)  # the processes share the cores


def _run(pool, function, cases):
    futures = [pool.submit(function, *case) for case in cases]
    return [future.result() for future in _with_bar(futures)]


def _with_bar(cases):
    return tqdm(cases, leave=False, disable=None)
