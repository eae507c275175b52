"""The training loop: plain torch, from seeds to a weights file.

Runs where only torch, numpy, scipy and safetensors are installed. Batch ``n`` depends on the seed
and ``n`` alone, checkpoints are written atomically, and a resumed run goes on where it stopped:
on the same device, with the same number of threads, it ends with the weights of an unbroken one.
"""

import copy
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch

from .. import models
from .._arguments import check_bool, is_real
from ..estimate.forward import denormals_flushed
from ..estimate.intervals import Calibration
from ..inference import check_device
from ..network import DeconvolutionNet
from .batches import loader, to_spectra
from .card import data_hash, versions, write_card
from .gain import gains
from .loss import training_loss
from .monitor import Log, Monitor
from .options import read_options
from .pairs import SimulatedPairs
from .plan import CHECKPOINT, Plan, learning_rate, refuse_checkpoint
from .progress import Steps, progress_bar, record, stop, stop_signals, warn_of_few_steps
from .state import TrainingState

__all__ = ["Plan", "main", "train", "training_step"]


def train(
    plan,
    folder,
    *,
    pairs=None,
    config=None,
    init=None,
    resume=True,
    name="model",
    minutes=None,
    device=None,
    instrument=None,
    show_progressbar=None,
    echo=None,
    about=None,
):
    """Train a network and save it.

    Into ``folder`` go the weights (``<name>.safetensors``), their model card (``<name>.md``), the
    log (``log.csv``, and ``log.png`` where matplotlib and HyperSpy are installed) and the checkpoint,
    which is also written when the process is told to stop (SIGTERM, Ctrl-C).

    Parameters
    ----------
    plan : Plan
        The settings.
    folder : str or pathlib.Path
        Made if it is missing.
    pairs : object with a ``batch(number)`` method, optional
        Source of the training batches; simulated pairs of the plan's seed by default.
    config : Config, optional
        The network's; not with ``init``, which has its own.
    init : str, pathlib.Path or Model, optional
        Weights to start from, as `exspy_deepdeconv.models.load` takes them.
    resume : bool
        Go on from a checkpoint found in ``folder``, of a run with the same ``init``. Otherwise a
        checkpoint there is an error: nothing is trained over.
    name : str
        Name of the model and stem of its files.
    minutes : float, optional
        End after this time, all parts of a resumed run together; the learning rate is down by then.
        The scores of a warm start count, and at least one step is made; reading the data before,
        scoring the outcome and comparing it with ``init`` come on top. How many steps that makes depends on the machine: such a run
        cannot be repeated exactly.
    device : str or torch.device, optional
        A torch device; the graphics card if there is one.
    instrument : callable, optional
        ``instrument(rng)`` gives a `~exspy_deepdeconv.simulate.Simulation` of an instrument: on these
        and on the scenes the outcome is compared with ``init``, unless the run is too short to be
        scored (`exspy_deepdeconv.training.gain`; into the provenance, as ``gain``).
    show_progressbar : bool, optional
        Show tqdm's bar (where tqdm is installed); by default on a terminal only.
    echo : callable, optional
        Is given every line of the log, as JSON.
    about : dict, optional
        Put into the provenance.

    Returns
    -------
    Model
        The averaged weights, as read back from their file.

    Warns
    -----
    UserWarning
        If the time was over before the warm-up was.

    Raises
    ------
    FileExistsError
        If ``folder`` holds a checkpoint and ``resume`` is False.
    FloatingPointError
        If the loss is no number any more; nothing more is written then.
    TypeError, ValueError
        If an argument cannot be used, or the checkpoint is damaged, of another run or other data.

    Examples
    --------
    >>> import tempfile
    >>> from exspy_deepdeconv.network import Config
    >>> from exspy_deepdeconv.training import Plan, SimulatedPairs, train
    >>> tiny = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))
    >>> plan = Plan(steps=2, workers=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model = train(plan, folder, pairs=SimulatedPairs(0, 2048), config=tiny, name="tiny")
    >>> model.name, model.provenance["steps"]
    ('tiny', 2)
    """
    check_run(name, minutes)
    check_bool("resume", resume)
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, not {type(plan).__name__}.")
    if config is not None and init is not None:
        raise ValueError("config and init are both given: weights to start from have their own.")
    if pairs is not None and not hasattr(pairs, "batch"):
        raise TypeError(f"pairs must have a method batch(number), unlike {type(pairs).__name__}.")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        refuse_checkpoint(folder)
    if plan.keep_start and init is None and not (folder / CHECKPOINT).exists():
        raise ValueError(f"keep_start={plan.keep_start!r} needs init=: weights to keep some of.")
    check_device(device)
    device = str(torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu")))
    pairs = SimulatedPairs(plan.seed) if pairs is None else pairs
    init = None if init is None else models.load(init)
    started = None if init is None else f"{init.name} ({init.sha256[:12]})"
    with torch.random.fork_rng(), denormals_flushed():
        torch.manual_seed(plan.seed)
        network = DeconvolutionNet(config) if init is None else copy.deepcopy(init.network)
        state = TrainingState(
            network.to(device),
            plan,
            init is not None,
            folder / CHECKPOINT,
            data=data_hash(pairs),
            init=started,
        )
        if resume:
            state.load(device)
        monitor = Monitor(pairs, plan.held_out, plan.cases, device)
        scores = _run(state, pairs, monitor, folder, minutes, device, show_progressbar, echo)
    outcome = state.outcome()
    if state.best:
        outcome.load_state_dict(state.best["weights"])
        # What is told of these weights is theirs. (A checkpoint of an older version does not hold it.)
        scores["after"] = state.best.get("scores", scores["after"])
    provenance = _provenance(state, device, scores, about or {})
    if instrument is not None and init is not None and scores:
        provenance["gain"] = gains(init, outcome, instrument, device)
    warn_of_few_steps(plan, state.step, minutes, "train", stacklevel=3)
    return _saved(outcome, folder / f"{name}.safetensors", provenance, init)


def check_run(name, minutes):
    """Raise a ValueError for a name or a time that no run can have, before any of it is done."""
    if minutes is not None and not (is_real(minutes) and 0 < minutes < math.inf):
        raise ValueError(f"minutes={minutes!r} must be a positive number, or None.")
    if not isinstance(name, str) or Path(name).name != name or name in ("", ".."):
        raise ValueError(f"name={name!r} must be a plain name: it becomes the stem of a file.")
    if name in models.available():
        raise ValueError(f"name={name!r} is that of a bundled model.")


def _provenance(state, device, scores, about):
    """What a run tells of itself in its weights file and on its card."""
    return {
        "plan": asdict(state.plan),
        "start": state.init,
        **about,
        "data_sha256": state.data,
        "steps": state.step,
        "seconds": round(state.seconds, 1),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "versions": versions(),
        "scores": scores,
    }


def _saved(network, path, provenance, init):
    """The model of a network, as read back from the file; its card lies beside it."""
    # Intervals are told by the weights that were started from, and so is what they are scaled by.
    calibration = None if init is None else init.calibration
    models.save_model(network, path, name=path.stem, provenance=provenance, calibration=calibration)
    write_card(path, provenance, calibrated=calibration not in (None, Calibration()))
    return models.load(path)


def _run(state, pairs, monitor, folder, minutes, device, show_progressbar, echo):
    """All steps that are left; returns the last scores, and the first of a warm start."""
    plan, log = state.plan, Log(folder, state.step)
    # A run that has come to its end before is not trained on by the same command.
    over = state.tired() or (minutes and state.seconds >= 60 * minutes)
    batches = loader(pairs, state.step, state.step if over else plan.steps, plan.workers)
    bar = progress_bar(plan, state, minutes, show_progressbar)
    before, began = state.seconds, time.monotonic()
    scores = state.scores
    if state.warm and state.step == 0 and plan.steps >= plan.evaluate_every:
        scores["before"] = monitor.scores(state.average)
    saved = time.monotonic()
    steps = Steps(saved)
    with stop_signals() as told, bar:
        for batch in batches:
            spent = state.seconds / (60 * minutes) if minutes else 0.0
            parts = training_step(state, plan, batch, device, spent)
            state.hear(parts["loss"])
            steps.add(parts, len(batch["counts"]))
            now = time.monotonic()
            state.seconds = before + now - began
            bar.update((round(state.seconds) if minutes else state.step) - bar.n)
            last = state.step == plan.steps or (minutes and state.seconds >= 60 * minutes)
            due = state.step % plan.evaluate_every == 0
            if due or (last and scores):
                scores["after"] = monitor.scores(state.outcome())
                state.judge(scores["after"])
                last = last or state.tired()
            if due or state.step % plan.log_every == 0 or last:
                row = {
                    "step": state.step,
                    "minutes": state.seconds / 60,
                    "learning_rate": learning_rate(plan, state.step, spent),
                } | steps.means(now)
                record(log, row | (scores["after"] if due else {}), bar, echo)
                steps = Steps(time.monotonic())
            if now - saved > 60 * plan.checkpoint_minutes or told or last:
                state.save()
                log.draw()
                saved = now
            if told:
                stop(told[0], state.step)
            if last:
                break
    return scores


def training_step(state, plan, batch, device, spent=0.0):
    """Learn from one batch.

    Parameters
    ----------
    state : TrainingState
        Changed.
    plan : Plan
        The settings.
    batch : dict of torch.Tensor
        From the `loader`, on any device.
    device : str
        Where the network lies.
    spent : float
        Share of the time that is spent, for the learning rate.

    Returns
    -------
    dict of str to float
        Loss, its parts, and the norm of the gradient.
    """
    batch = {key: value.to(device, non_blocking=True) for key, value in batch.items()}
    rate = learning_rate(plan, state.step, spent)
    for optimiser in state.optimisers:
        for group in optimiser.param_groups:
            group["lr"] = rate * group["relative_rate"]
    kind = torch.device(device).type
    with torch.autocast(kind, torch.bfloat16, enabled=plan.bf16 and kind != "cpu"):
        answer = state.network(to_spectra(batch))
    # A network that knows something already needs no guide.
    guide = 0.0 if state.warm else max(1 - state.step / max(3 * plan.warmup, 1), 0.0)
    loss, parts = training_loss(answer, batch, guide)
    state.network.zero_grad(set_to_none=True)
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(state.network.parameters(), plan.clip)
    if torch.isfinite(norm):
        for optimiser in state.optimisers:
            optimiser.step()
    decay = min(plan.ema, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        for mean, value in zip(state.average.parameters(), state.network.parameters(), strict=True):
            mean.lerp_(value, 1 - decay)
    state.step += 1
    return parts | {"loss": float(loss.detach()), "gradient": float(norm)}


def main(arguments=None):
    """Command line of a bare node: ``python -m exspy_deepdeconv.training.loop --folder runs/mine``."""
    plan, options = read_options(arguments)
    echo = None if sys.stderr.isatty() else lambda line: print(line, flush=True)
    try:
        model = train(plan, **options, echo=echo)
    except (FileExistsError, FloatingPointError, ValueError) as error:
        raise SystemExit(f"Error: {error}") from error
    print(Path(options["folder"]) / f"{model.name}.safetensors")


if __name__ == "__main__":
    main()
