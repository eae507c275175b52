"""From pairs objects to batches of tensors, drawn by worker processes."""

import signal
import sys

import torch

from ..network import Spectra


def tensors(batch, device="cpu"):
    """A batch of arrays as tensors on a device."""
    return {key: torch.from_numpy(value).to(device) for key, value in batch.items()}


def to_spectra(batch):
    """The network's input from a batch of tensors."""
    keys = ("counts", "position", "fwhm", "gain", "floor", "psf", "has_psf")
    return Spectra(**{key: batch.get(key) for key in keys})


def loader(pairs, start, stop, workers):
    """Batches ``start`` to ``stop - 1`` in their order, whatever the number of workers."""
    return torch.utils.data.DataLoader(
        _Batches(pairs, start, stop),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        worker_init_fn=_leave_signals_to_parent,
        # A forked worker needs no importable main module: it works in notebooks, too.
        multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
    )


class _Batches(torch.utils.data.Dataset):
    def __init__(self, pairs, start, stop):
        self.pairs, self.start, self.stop = pairs, start, stop

    def __len__(self):
        return self.stop - self.start

    def __getitem__(self, index):
        return tensors(self.pairs.batch(self.start + index))


def _leave_signals_to_parent(_):
    """What stops the whole group must not kill the workers before the checkpoint is written."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
