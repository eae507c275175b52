"""The options of ``python -m exspy_deepdeconv.training.loop``: how a bare node is told what to train."""

import argparse
from dataclasses import asdict

from ..experiment.instruments import read_response
from . import eelspecnet
from .exported import MeasuredPairs
from .mixed import MixedPairs
from .pairs import SimulatedPairs
from .plan import Plan


def read_options(arguments=None):
    """The plan of a run, and the other arguments of `exspy_deepdeconv.training.train`.

    Parameters
    ----------
    arguments : list of str, optional
        Those of the process by default. What cannot be used ends the process with a message.

    Returns
    -------
    plan : Plan
    options : dict
    """
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    try:
        plan = Plan(**{key: options.pop(key) for key in asdict(Plan())})
        pairs = _pairs(plan.seed, options)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return plan, options | {"pairs": pairs}


def _pairs(seed, options):
    """What is trained on; the options that say so are taken out of the others."""
    measured, exported, share, recipe = (
        options.pop(key) for key in ("measured", "pairs", "share", "recipe_share")
    )
    keys = ("channels_per_batch", "psf_share", "shown_again", "altered")
    drawn = {key: options.pop(key) for key in keys}
    pairs = SimulatedPairs(seed, measured=tuple(map(read_response, measured)), **drawn)
    share = share if exported else 0.0
    for name, value in (("--share", share), ("--recipe-share", recipe)):
        if not 0 <= value < 1:
            raise ValueError(f"{name} {value}: must be at least 0 and below 1")
    others = []
    if exported:
        others.append((MeasuredPairs.load(exported), share))
    if recipe:
        size = max(drawn["channels_per_batch"] // eelspecnet.CHANNELS, 1)
        others.append((eelspecnet.RecipePairs(seed, size), recipe))
    rest = 1 - share - recipe
    if not rest > 0:
        raise ValueError(f"--share {share} and --recipe-share {recipe}: their sum must be below 1")
    return MixedPairs((pairs, rest), *others, seed=seed) if others else pairs


def _parser():
    parser = argparse.ArgumentParser(
        description="The training loop: plain torch, from seeds to a weights file."
    )
    parser.add_argument("--folder", required=True)
    parser.add_argument("--name", default="model")
    parser.add_argument("--init", help="bundled model or weights file to start from")
    parser.add_argument("--measured", nargs="*", default=[], help="files of zero-loss peaks")
    parser.add_argument("--pairs", help="file of exported measured pairs to mix in")
    parser.add_argument("--share", type=float, default=0.3, help="share of the measured pairs")
    parser.add_argument(
        "--channels-per-batch",
        type=int,
        default=SimulatedPairs().channels_per_batch,
        help="spectra times channels: a graphics card is idle with few",
    )
    parser.add_argument(
        "--psf-share",
        type=float,
        default=SimulatedPairs().psf_share,
        help="share of the simulated spectra whose response is handed over",
    )
    parser.add_argument(
        "--shown-again", type=float, default=0.0, help="share that is shown with its response, too"
    )
    parser.add_argument(
        "--altered",
        type=float,
        default=0.0,
        help="share of the handed responses that are not quite those of their spectra",
    )
    parser.add_argument(
        "--recipe-share", type=float, default=0.0, help="share of batches of EELSpecNet's recipe"
    )
    parser.add_argument("--minutes", type=float, help="end after this time")
    parser.add_argument("--device", help="a torch device")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    for key, value in asdict(Plan()).items():
        kind = _is_yes if isinstance(value, bool) else type(value)
        parser.add_argument(f"--{key.replace('_', '-')}", type=kind, default=value)
    return parser


def _is_yes(text):
    yes, no = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
    if text.lower() not in yes + no:
        raise argparse.ArgumentTypeError(f"{text!r} is neither yes nor no")
    return text.lower() in yes
