"""Bundled weights: a registry of names and hashes, and safe loading and saving.

Weights are safetensors files that carry their configuration; nothing is ever unpickled, nothing
is downloaded, and a bundled file is refused unless its sha256 is the registered one.
"""

import hashlib
import json
import os
import warnings
import weakref
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..estimate.intervals import Calibration

FOLDER = Path(__file__).parent
# The newest last: it is the default.
REGISTRY = {
    "lowloss-v10": "2c70bef6545fcdf2f829fcbd6103bb5fec65249553f703748eef079cfb910202",
    "lowloss-v11": "f90a5f8ca69044dbefd22b7acfc9f9d2cf93a70b50bb76bfbf52cfcca6fe4c07",
    "lowloss-v12": "ec3228bd6bb354e0c39766988b2010ec57e4d0240f9b32f3b037399946c37573",
    "lowloss-v13": "30a37bb5e5fe8e49d4fa84e18ee8052a42c571a38467156a6637f80648dc42e3",
}
_LOADED = weakref.WeakSet()  # models that are in memory


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its name, hash and history.

    Attributes
    ----------
    name : str
        Registered name, or the stem of the file.
    sha256 : str
        Hash of the weights file.
    network : torch.nn.Module
        The `~exspy_deepdeconv.network.DeconvolutionNet`, in evaluation mode.
    provenance : dict
        How it was trained.
    calibration : Calibration
        What its intervals are multiplied by.
    """

    name: str
    sha256: str
    network: object
    provenance: dict
    calibration: Calibration = Calibration()

    def __repr__(self):
        """One line: a notebook would fill a page with the layers."""
        return f"<Model {self.name}, sha256 {self.sha256[:12]}>"

    def __reduce__(self):
        """Send a bundled model to another process by its name: each process reads the weights once.

        A model that was changed, as by ``dataclasses.replace(model, calibration=...)``, is sent whole.
        """
        if REGISTRY.get(self.name) == self.sha256 and load(self.name) is self:
            return load, (self.name,)
        return super().__reduce__()

    def warn_if_not_calibrated(self, stacklevel=2):
        """Say that intervals of this model are not to be trusted, where that is so."""
        if self.calibration == Calibration():
            warnings.warn(
                f"model={self.name!r}: its intervals and variances are not calibrated "
                "(python -m exspy_deepdeconv.training.calibrate calibrates them).",
                UserWarning,
                stacklevel=stacklevel + 1,
            )


def available():
    """Names of the bundled models, the newest last.

    Examples
    --------
    >>> import exspy_deepdeconv
    >>> exspy_deepdeconv.models.load().name == exspy_deepdeconv.models.available()[-1]
    True
    """
    return list(REGISTRY)


def load(name=None):
    """Load a model.

    Parameters
    ----------
    name : str, pathlib.Path or Model, optional
        A bundled name, the path of a ``.safetensors`` file, or a model, which is returned as it
        is. The newest bundled model by default.

    Returns
    -------
    Model

    Raises
    ------
    ValueError
        If the name is unknown, or the file damaged, of another kind or not the registered one.

    Examples
    --------
    >>> import exspy_deepdeconv
    >>> model = exspy_deepdeconv.models.load()
    >>> model.name == exspy_deepdeconv.models.available()[-1]
    True
    """
    if isinstance(name, Model):
        return name
    if name is None:
        name = available()[-1]
    if not isinstance(name, (str, Path)):
        raise ValueError(f"model={name!r} must be a name, a path or a loaded model.")
    if name in REGISTRY:
        return _load_file(FOLDER / f"{name}.safetensors", name, REGISTRY[name])
    path = Path(name).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        # A file that was overwritten is read again, also within one tick of the file system's clock.
        about = path.stat()
        version = about.st_mtime_ns, about.st_size, about.st_ino
        return _load_file(path.resolve(), path.stem, None, version)
    raise ValueError(
        f"model={str(name)!r} is neither one of the bundled models ({', '.join(available())}) "
        "nor the path of an existing .safetensors file."
    )


@lru_cache(maxsize=8)
def _load_file(path, name, expected_hash, _version=None):
    import safetensors.torch
    import torch

    from ..network import Config, DeconvolutionNet

    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    if expected_hash is not None and sha256 != expected_hash:
        raise ValueError(
            f"model={name!r}: the sha256 of {path} is {sha256}, not the registered "
            f"{expected_hash}. The file was changed or damaged; reinstall the package."
        )
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        about = json.loads(header["__metadata__"]["exspy_deepdeconv"])
        # The network draws initial weights: not from the user's random numbers.
        with torch.random.fork_rng(devices=[]):
            network = DeconvolutionNet(Config.from_dict(about["config"]))
        network.load_state_dict({key: value.float() for key, value in tensors.items()})
        if not all(torch.isfinite(value).all() for value in tensors.values()):
            raise ValueError("it holds weights that are not finite")
        calibration = Calibration.from_dict(about.get("calibration", {}))
        provenance = dict(about["provenance"])
    except Exception as error:
        raise ValueError(f"model={str(path)!r} is not a usable weights file: {error}") from error
    network.eval().requires_grad_(False)
    model = Model(name, sha256, network, provenance, calibration)
    _LOADED.add(model)
    return model


def of_hash(sha256):
    """The model whose weights file has this hash, as the metadata of results tell it.

    Parameters
    ----------
    sha256 : str
        The hash.

    Returns
    -------
    Model or None
        None if it is neither bundled nor loaded and still in memory.

    Examples
    --------
    >>> from exspy_deepdeconv import models
    >>> models.of_hash(models.load().sha256) is models.load()
    True
    """
    for name, known in REGISTRY.items():
        if known == sha256:
            return load(name)
    return next((model for model in _LOADED if model.sha256 == sha256), None)


def save_model(network, path, *, name, provenance=None, calibration=None):
    """Write a network with its configuration and calibration as a safetensors file.

    Parameters
    ----------
    network : DeconvolutionNet
        Its weights are written as they are.
    path : str or pathlib.Path
        The file; replaced if it exists, once the new one is whole.
    name : str
        What the model was called when it was made; it is kept in the file. Once loaded, the model
        has the name of its file.
    provenance : dict, optional
        How it came to be, in what JSON can hold.
    calibration : Calibration, optional
        Factors of its intervals; a model without them warns when it is asked for intervals.

    Returns
    -------
    pathlib.Path

    Examples
    --------
    >>> import tempfile
    >>> from exspy_deepdeconv import models
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = models.save_model(models.load().network, f"{folder}/mine.safetensors", name="run 3")
    ...     models.load(path).name
    'mine'
    """
    import safetensors.torch

    tensors = {
        key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()
    }
    # One entry only: safetensors does not keep the order of several, and the hash would vary.
    about = {
        "name": name,
        "config": network.config.to_dict(),
        "provenance": provenance or {},
        "calibration": (calibration or Calibration()).to_dict(),
    }
    metadata = {"exspy_deepdeconv": json.dumps(about)}
    path = Path(path).expanduser()
    part = path.with_name(f"{path.name}.part")
    try:
        # Written by hand: the library's own function makes a file that only its owner can read.
        part.write_bytes(safetensors.torch.save(tensors, metadata=metadata))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path
