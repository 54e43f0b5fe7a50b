"""Shared by the tests of skipping: points in clusters, answers at an ε, and a count of the computed tiles."""

import torch

import jessl_kernels as jk


def clusters(n, D, seed, spread=10.0, dtype=torch.float64, count=12):
    """Points around `count` centers, in random order."""
    g = torch.Generator().manual_seed(seed)
    centers = spread * torch.randn(count, D, generator=g, dtype=dtype)
    which = torch.randint(count, (n,), generator=g)
    return centers[which] + torch.randn(n, D, generator=g, dtype=dtype)


class Counting:
    """The native core; `tiles` are those of its last call: looked at beforehand, scored, pulled."""

    def __init__(self, core):
        self.core, self.tiles = core, (0, 0, 0)

    def __getattr__(self, name):
        function = getattr(self.core, name)

        def counted(*arguments):
            result = function(*arguments)
            if name in ("row_sums", "row_grads"):
                self.tiles = result
            elif name in ("total", "row_loss"):
                self.tiles = result[1:]
            return result

        return counted if callable(function) and name != "Problem" else function


def answers(loss, *batches, epsilon):
    """The value and its gradients."""
    leaves = [b.detach().requires_grad_() for b in batches]
    with jk.use_backend(skip_below=epsilon):
        value = loss(*leaves)
        return [value.detach(), *torch.autograd.grad(value.sum(), leaves)]
