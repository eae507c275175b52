"""The frame's invariances, the network's configuration and loading of weights."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from exspy_deepdeconv import models
from exspy_deepdeconv.estimate.intervals import Calibration
from exspy_deepdeconv.layers.frame import Frame
from exspy_deepdeconv.network import Circular, Config, DeconvolutionNet, UNet

OLDEST = models.available()[0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    network = DeconvolutionNet()
    path = tmp_path_factory.mktemp("weights") / "untrained.safetensors"
    return models.save_model(network, path, name="untrained", provenance={"seed": 0})


@pytest.mark.parametrize("channels", [64, 500, 1024, 4096])
def test_frame_gives_back_what_it_was_given(channels):
    data = torch.rand(3, channels)
    frame = Frame(torch.tensor([10.2, 30.9, 0.4]), channels)
    torch.testing.assert_close(frame.take(frame.put(data)), data)
    zero_loss = torch.round(frame.position)
    assert (zero_loss % 64 == 0).all()


def test_frame_joins_the_ends():
    data = torch.linspace(5, 1, 256).repeat(1, 1)
    framed = Frame(torch.tensor([100.0]), 256).put(data)[0]
    assert (framed - framed.roll(1)).abs().max() < 0.1


def test_moving_far_loses_nothing():
    """In 32 bits hundreds of turns once left 1e-6 of a high peak all over the spectrum."""
    frame = Frame(torch.tensor([1229.3]), 4096)
    index = np.arange(frame.size)
    peak = np.exp(-0.5 * ((index - 900.0) / 3) ** 2)
    spectrum = torch.fft.rfft(torch.tensor(peak[None], dtype=torch.float32))
    shift = torch.tensor([1229.3])
    moved = torch.fft.irfft(spectrum * frame.phase(shift), frame.size)[0].numpy()
    expected = np.exp(-0.5 * ((index - 900.0 - float(shift)) / 3) ** 2)
    assert np.abs(moved - expected).max() < 2e-7


@pytest.mark.parametrize(("fold", "levels"), [(1, 7), (2, 6), (4, 5)])
def test_unet_is_equivariant_on_the_circle(fold, levels):
    torch.manual_seed(0)
    net = UNet(3, 2, (8, 8, 12, 12, 16, 16, 16)[:levels], 5, fold).double()
    torch.nn.init.normal_(net.head.weight)
    x = torch.rand(1, 3, 512, dtype=torch.float64)
    moved = net(x.roll(128, -1))
    assert moved.shape == (1, 2, 512) and moved.std() > 0
    torch.testing.assert_close(moved, net(x).roll(128, -1))


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "dilation"),
    [(64, 5, 1, 1), (8, 3, 1, 4), (9, 3, 1, 2), (20, 1, 1, 1), (16, 4, 2, 1), (4, 4, 2, 1)],
)
def test_convolution_on_a_circle_is_torchs_own(size, kernel, stride, dilation):
    """Its ends are done again where the circle closes; torch pads all of it first."""
    torch.manual_seed(0)
    ours = Circular(3, 4, kernel, stride=stride, dilation=dilation).double()
    padding = dilation * (kernel - 1) // 2
    torchs = torch.nn.Conv1d(3, 4, kernel, stride, padding, dilation, padding_mode="circular")
    torchs = torchs.double()
    torchs.load_state_dict(ours.state_dict())
    x = torch.rand(2, 3, size, dtype=torch.float64)
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    expected = torchs(inputs[0])
    found = ours(inputs[1].transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(found, expected)
    weight = torch.rand_like(expected)
    for out in (expected, found):
        (out * weight).sum().backward()
    torch.testing.assert_close(inputs[1].grad, inputs[0].grad)
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)


@pytest.mark.parametrize("fold", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_folding_puts_neighbours_side_by_side_and_back(fold, dtype):
    net = UNet(2, 2, (4, 4), 3, fold=fold)
    x = torch.arange(2 * 5 * 12.0, dtype=dtype).reshape(2, 5, 12)
    folded = net._refolded(x)
    plain = x.reshape(2, 5, 12 // fold, fold).transpose(1, 2).reshape(2, 12 // fold, 5 * fold)
    torch.testing.assert_close(folded, plain)
    torch.testing.assert_close(net._refolded(folded), x)


def test_config_round_trip():
    config = Config(estimate_width=(8, 8, 8), damping=(0.1, 0.2))
    assert Config.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_network_that_does_not_fit_the_frame():
    with pytest.raises(ValueError, match=r"response_width=\(8, 8, 8, 8, 8\) with fold=8"):
        Config(response_width=(8,) * 5, fold=8)


def test_kernels_that_lean_to_a_side():
    with pytest.raises(ValueError, match="kernel=4 must be odd"):
        Config(kernel=4)


def test_saved_model_loads(weights):
    model = models.load(weights)
    assert model.name == "untrained" and len(model.sha256) == 64
    assert model.provenance == {"seed": 0}
    assert not any(p.requires_grad for p in model.network.parameters())
    assert models.load(model) is model
    assert models.load(str(weights)) is model  # cached


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of that kind")
def test_weights_are_written_whole_or_not_at_all(weights):
    """Where there is no room for the new ones, the old ones are still there, and nothing else."""
    code = """
import resource, sys
from exspy_deepdeconv import models
network = models.load(sys.argv[1]).network
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
models.save_model(network, sys.argv[1], name="again")
"""
    before = weights.read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", code, str(weights)], capture_output=True, text=True, check=False
    )
    assert "OSError" in done.stderr
    assert weights.read_bytes() == before and list(weights.parent.iterdir()) == [weights]


def test_another_calibration_goes_along_to_another_process():
    """A bundled model goes by its name, but not one that was changed."""
    changed = replace(models.load(), calibration=Calibration(elastic=((0.1,) * 6,) * 2))
    assert pickle.loads(pickle.dumps(changed)).calibration == changed.calibration


def test_a_file_replaced_within_a_tick_of_the_clock_is_read_anew(weights, tmp_path):
    path, other = tmp_path / "mine.safetensors", tmp_path / "other.safetensors"
    path.write_bytes(weights.read_bytes())
    network = DeconvolutionNet(models.load(weights).network.config)
    models.save_model(network, other, name="other", provenance={"seed": 1})
    before, times = models.load(path).sha256, (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    os.replace(other, path)
    os.utime(path, ns=times)
    assert models.load(path).sha256 != before


def test_weights_in_the_home_folder(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    model = models.load(weights)
    models.save_model(model.network, "~/mine.safetensors", name="mine")
    assert models.load("~/mine.safetensors").name == "mine"


def test_bundled_weights_must_have_the_registered_hash(weights, monkeypatch):
    monkeypatch.setattr(models, "FOLDER", weights.parent)
    monkeypatch.setattr(models, "REGISTRY", {"untrained": "0" * 64})
    with pytest.raises(ValueError, match="sha256"):
        models.load("untrained")


@pytest.mark.parametrize("damage", ["truncated", "pickle", "empty"])
def test_damaged_files_are_refused(weights, tmp_path, damage):
    path = tmp_path / "bad.safetensors"
    data = weights.read_bytes()
    if damage == "pickle":
        torch.save({"a": torch.zeros(3)}, path)
    else:
        path.write_bytes(data[: len(data) // 2] if damage == "truncated" else b"")
    with pytest.raises(ValueError, match="not a usable weights file"):
        models.load(path)


def test_unknown_model_lists_the_known_ones():
    with pytest.raises(ValueError, match=OLDEST):
        models.load("no-such-model")


def test_a_copy_has_its_own_name_and_is_found_by_its_hash(weights, tmp_path):
    copy = tmp_path / "mine.safetensors"
    copy.write_bytes(weights.read_bytes())
    one, other = models.load(weights), models.load(copy)
    assert (one.name, other.name) == (weights.stem, "mine")
    # One of them, or what another test holds of the same weights.
    assert models.of_hash(other.sha256).sha256 == one.sha256 == other.sha256
    assert models.of_hash("0" * 64) is None


def test_bundled_default():
    model = models.load()
    assert model.name == models.available()[-1] == "lowloss-v13"
    assert (models.FOLDER / f"{model.name}.safetensors").stat().st_size < 8e6
    values = torch.cat([p.ravel() for p in model.network.parameters()])
    assert torch.isfinite(values).all()
    assert 0.01 < float(values.std()) < 1
