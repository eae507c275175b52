"""What is known about a trained model: its provenance, and the model card made of it."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from .gain import in_words

PACKAGES = ("numpy", "scipy", "torch", "hyperspy", "exspy")

CARD = """# {name}

Weights for `exspy_deepdeconv`: `s.deep_deconvolve(model="{name}.safetensors")`. This page was
generated when they were trained.

| | |
|---|---|
{about}

## Settings

| | |
|---|---|
{plan}

## On held-out data

The held-out loss is that of batches which were not trained on (the lower the better).{scenes}

{scores}
{gain}
## Limits

The network knows what it was trained on. It can be wrong, without saying so, on specimens,
responses and detectors unlike those; a peak of which nothing is seen in the data deserves
doubt. Intervals{calibrated}. Core-loss spectra are out of its range.
"""

SCENES = """ The rows of
scenes give the blind loss error on simulated spectra, in units of the error of Richardson-Lucy
told the exact response and stopped at its best iteration (median of the cases; below 1 is
better than that oracle)."""

GAIN = """
## Compared with what it started from

Blind loss errors after the training over those before it, of the same simulated spectra, which were
not trained on: specimens seen through this instrument's response with its noise, and those of each
scene, on other instruments. Geometric means of the cases' own ratios with one standard error; below
1 is better than what it started from. What lies within two standard errors of 1 may be chance.

| | after / before | cases |
|---|--:|--:|
{rows}
"""


def data_hash(pairs):
    """The sha256 of a source's first batch, and of all arrays that it draws from.

    It tells data, settings, seed and generator apart. Of mixed sources each counts, and its share; and
    the seed that chooses between them.

    Parameters
    ----------
    pairs : object with a ``batch(number)`` method
        What a network is trained on.

    Returns
    -------
    str

    Examples
    --------
    >>> from exspy_deepdeconv.training import SimulatedPairs
    >>> from exspy_deepdeconv.training.card import data_hash
    >>> data_hash(SimulatedPairs(seed=1)) == data_hash(SimulatedPairs(seed=2))
    False
    """
    digest = hashlib.sha256(np.array(getattr(pairs, "shares", ())).tobytes())
    if hasattr(pairs, "pairs"):
        digest.update(f"seed {getattr(pairs, 'seed', None)}".encode())
    for source in getattr(pairs, "pairs", (pairs,)):
        kept = {}
        for key, value in getattr(source, "__dict__", {}).items():
            several = value if isinstance(value, tuple | list) else (value,)
            arrays = {f"{key} {n}": x for n, x in enumerate(several) if isinstance(x, np.ndarray)}
            kept |= arrays
        for key, value in sorted({**kept, **source.batch(0)}.items()):
            digest.update(f"{key} {np.shape(value)}".encode())
            digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


def versions():
    """Version of this package, of Python and of what it was trained with."""
    from .. import __version__

    found = {"exspy_deepdeconv": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write_card(path, provenance, calibrated=False):
    """Write the model card beside a weights file.

    Parameters
    ----------
    path : str or pathlib.Path
        The weights, ``<name>.safetensors``.
    provenance : dict
        As `exspy_deepdeconv.training.train` stores it.
    calibrated : bool
        Whether intervals were calibrated for the weights that it started from.

    Returns
    -------
    pathlib.Path
        ``<name>.md``.
    """
    path = Path(path)
    apart = "plan", "scores", "gain"
    about = {key: value for key, value in provenance.items() if key not in apart}
    # The steps that were run are told already; those of a run that ends by the clock are endless.
    plan = {key: value for key, value in provenance["plan"].items() if key != "steps"}
    text = CARD.format(
        name=path.stem,
        about=_rows(about),
        plan=_rows(plan),
        scenes=SCENES if plan.get("cases", 1) else "",
        scores=_scores(provenance.get("scores", {})),
        gain=_gain(provenance.get("gain", {})),
        calibrated=" keep the calibration of the weights that it started from"
        if calibrated
        else " are not calibrated",
    )
    card = path.with_suffix(".md")
    card.write_text(text, encoding="utf-8")
    return card


def _rows(values):
    return "\n".join(
        f"| {key.replace('_', ' ')} | {_text(value)} |" for key, value in values.items()
    )


def _text(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "none"
    return f"{value:.6g}" if isinstance(value, float) else "none" if value is None else str(value)


def _gain(gain):
    """The section on a fine-tuned model's gain; nothing where it was not compared."""
    rows = [f"| {key} | {in_words(value)} | {value['cases']} |" for key, value in gain.items()]
    return GAIN.format(rows="\n".join(rows)) if rows else ""


def _scores(scores):
    """A column for each moment that was scored: before and after, where there is a before."""
    if not scores:
        return "Not measured."
    names = list(dict.fromkeys(name for column in scores.values() for name in column))
    lines = ["| | " + " | ".join(scores) + " |", "|---|" + "--:|" * len(scores)]
    for name in names:
        cells = [f"{column[name]:.3f}" if name in column else "" for column in scores.values()]
        lines.append(f"| {name.replace('_', ' ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
