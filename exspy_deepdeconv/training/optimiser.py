"""What turns gradients into steps: Muon for the convolutions, AdamW for everything else (torch)."""

import torch

# Steps of Muon have a fixed size in each direction; AdamW's are smaller for the same progress.
MUON_RATE = 10.0
# Nothing in the network keeps its activations in bounds: without this decay the kernels grew
# tenfold in 1600 steps, and the training came to nothing.
MUON_DECAY = 0.3
# Coefficients of the fifth-order Newton-Schulz iteration, see `orthogonalised`.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


def optimisers(network, plan):
    """The optimisers of a run; each group of parameters has a ``relative_rate``.

    Parameters
    ----------
    network : torch.nn.Module
        Its parameters are shared out.
    plan : Plan
        ``plan.muon`` says whether the kernels of the convolutions are Muon's, but for the last ones
        of the U-Nets, which are plain linear read-outs.

    Returns
    -------
    list of torch.optim.Optimizer
    """
    named = list(network.named_parameters())
    kernels = [p for name, p in named if plan.muon and p.ndim == 3 and ".head." not in name]
    others = [p for name, p in named if not any(p is kernel for kernel in kernels)]
    adamw = torch.optim.AdamW(
        [{"params": others, "relative_rate": 1.0}], weight_decay=plan.weight_decay
    )
    if not kernels:
        return [adamw]
    group = {"params": kernels, "relative_rate": MUON_RATE}
    return [adamw, Muon([group], weight_decay=MUON_DECAY)]


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised: every direction of a kernel moves at the same speed.

    A kernel of shape ``(out, in, length)`` is taken for a matrix of ``out`` rows. Kernels of the
    same shape are worked on together.

    Parameters
    ----------
    params : iterable
        Tensors of two or more dimensions, or groups of them.
    lr : float
        Size of a step.
    momentum : float
        Decay of the averaged gradient (Nesterov's way).
    weight_decay : float
        As AdamW's.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024),
    https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> import torch
    >>> from exspy_deepdeconv.training.optimiser import Muon
    >>> kernel = torch.nn.Parameter(torch.zeros(8, 4, 3))
    >>> kernel.grad = torch.randn(8, 4, 3)
    >>> Muon([kernel], lr=0.1).step()
    >>> bool((kernel != 0).all())
    True
    """

    def __init__(self, params, lr=0.02, momentum=0.95, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        """Move all parameters that have a gradient."""
        for group in self.param_groups:
            alike = {}
            for kernel in group["params"]:
                if kernel.grad is not None:
                    alike.setdefault(kernel.shape, []).append(kernel)
            for kernels in alike.values():
                self._move(kernels, group)

    def _move(self, kernels, group):
        wanted = torch.stack([self._momentum(kernel, group["momentum"]) for kernel in kernels])
        number, rows = wanted.shape[:2]
        steps = orthogonalised(wanted.reshape(number, rows, -1)).reshape(wanted.shape)
        # A tall matrix has fewer directions than rows: its rows would hardly move.
        tall = max(1.0, rows / (wanted[0].numel() / rows)) ** 0.5
        for kernel, change in zip(kernels, steps, strict=True):
            kernel.mul_(1 - group["lr"] * group["weight_decay"])
            kernel.add_(change, alpha=-group["lr"] * tall)

    def _momentum(self, kernel, decay):
        state = self.state[kernel]
        if "average" not in state:
            state["average"] = torch.zeros_like(kernel)
        average = state["average"].lerp_(kernel.grad, 1 - decay)
        return kernel.grad.lerp(average, decay)


def orthogonalised(matrices):
    """Matrices with the same singular vectors, all singular values near 1.

    A quintic Newton-Schulz iteration takes singular values from 0.01 to 1 (of a matrix of unit norm)
    to 0.7 to 1.2: nearer to 1 would gain nothing.

    Parameters
    ----------
    matrices : torch.Tensor
        ``(batch, rows, columns)``.

    Returns
    -------
    torch.Tensor
        Of the same shape.

    Examples
    --------
    >>> import torch
    >>> from exspy_deepdeconv.training.optimiser import orthogonalised
    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> values = torch.linalg.svdvals(orthogonalised(torch.randn(1, 6, 9)))
    >>> bool((0.6 < values).all() and (values < 1.3).all())
    True
    """
    x = matrices / (torch.linalg.norm(matrices, dim=(1, 2), keepdim=True) + 1e-12)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    a, b, c = NEWTON_SCHULZ
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT
