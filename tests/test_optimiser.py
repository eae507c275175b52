"""Muon, on problems whose answer is known."""

import pytest
import torch

from exspy_deepdeconv.network import Config, DeconvolutionNet
from exspy_deepdeconv.training import Plan
from exspy_deepdeconv.training.optimiser import Muon, optimisers, orthogonalised

TINY = Config(response_width=(4,) * 4, estimate_width=(4,) * 4, iterates=(1, 2, 3, 4))


@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 8, 5), (1, 4, 4)])
def test_singular_vectors_stay_and_singular_values_become_alike(shape):
    torch.manual_seed(0)
    matrices = torch.randn(shape, dtype=torch.float64)
    u, before, v = torch.linalg.svd(matrices, full_matrices=False)
    got = orthogonalised(matrices)
    inside = u.mT @ got @ v.mT
    values = inside.diagonal(dim1=1, dim2=2)
    assert (before.max() / before.min() > 2) and values.min() > 0.6 and values.max() < 1.3
    torch.testing.assert_close(u @ inside @ v, got)
    off = inside - torch.diag_embed(values)
    assert off.abs().max() < 1e-9


def test_scale_of_the_gradient_does_not_matter():
    kernels = [torch.nn.Parameter(torch.ones(4, 3, 3)) for _ in range(2)]
    torch.manual_seed(1)
    gradient = torch.randn(4, 3, 3)
    for kernel, scale in zip(kernels, (1.0, 1e-4), strict=True):
        kernel.grad = scale * gradient
    Muon(kernels, lr=0.1).step()
    torch.testing.assert_close(kernels[0], kernels[1], rtol=1e-4, atol=1e-5)


def test_a_badly_scaled_least_squares_problem_is_solved():
    """Directions that hardly change the loss are found as quickly as the others."""
    torch.manual_seed(2)
    target, inputs = torch.randn(6, 6), torch.randn(200, 6) * torch.logspace(0, -2, 6)
    kernel = torch.nn.Parameter(torch.zeros(6, 6))
    optimiser = Muon([kernel], lr=0.1)
    for step in range(400):
        optimiser.param_groups[0]["lr"] = 0.1 * (1 - step / 400)
        kernel.grad = (kernel - target) @ (inputs.T @ inputs) / 200
        optimiser.step()
    assert (kernel - target).abs().max() < 0.02


def test_parameters_are_shared_out_once():
    network = DeconvolutionNet(TINY)
    adamw, muon = optimisers(network, Plan(muon=True))
    groups = [group for each in (adamw, muon) for group in each.param_groups]
    shared = [id(p) for group in groups for p in group["params"]]
    assert sorted(shared) == sorted(id(p) for p in network.parameters())
    names = {id(p): name for name, p in network.named_parameters()}
    kernels = [names[id(p)] for p in muon.param_groups[0]["params"]]
    assert all("weight" in name and ".head." not in name for name in kernels) and kernels
    assert len(optimisers(network, Plan())) == 1
