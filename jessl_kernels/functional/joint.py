"""Entropies of two views together, and their mutual information, under one set of widths. In nats.

The marginal of a joint estimate p̂(x, y) is the estimate p̂(x) with the joint's widths, if the kernel's marginal is a kernel of
the same name: Gaussian, Student's t with the same ν, or a product of two von Mises–Fisher kernels. So widths are settled once,
for the joint, and H(X), H(Y) and H(X, Y) are those of one density. Widths of their own would smooth the marginals otherwise than
the joint: a difference of entropies would then hold a difference of biases, which does not vanish for independent views.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, pairs, wrong_type
from ..literals import JOINT_KERNELS, OWN_POINT, JointKernelName, OwnPoint
from .bandwidth import Bandwidth, degrees_of_freedom, kernel_of, settled_width
from .kernels import Kernel, vmf
from .log_density import log_density
from .rows import unit


def kde_joint_entropy(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: JointKernelName = "gaussian",
    df: float | None = None,
    estimator: OwnPoint = "loo",
) -> Tensor:
    """H(X, Y) of pairs (x_i, y_i) by kernel-density estimation, in nats and O(N·D) memory.

    x, y           (N, Dx) and (N, Dy) float tensors, N ≥ 2; row i of both is a pair
    bandwidth      h of the pair [x, y], as in `kde_log_density`: a number, (Dx + Dy,), a covariance (Dx + Dy, Dx + Dy), or
                   "scott", "silverman" or "likelihood", by the N points of Dx + Dy dimensions
    concentration  κ ≥ 0 of kernel="vmf", of both views
    kernel         "gaussian", "student", or "vmf": then x and y are normalised, and the kernel is a product of two
    df             ν > 0 of kernel="student"
    estimator      "loo" or "resubstitution", as in `kde_entropy`

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.kde_joint_entropy(torch.tensor([[0.0], [1.0]]), torch.zeros(2, 1), bandwidth=1.0)     # log 2π + ½
    tensor(2.3379)
    """
    both = _Views.of("kde_joint_entropy", x, y, bandwidth, concentration, kernel, df, estimator)
    return both.entropy("joint").to(both.dtype)


def kde_conditional_entropy(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: JointKernelName = "gaussian",
    df: float | None = None,
    estimator: OwnPoint = "loo",
) -> Tensor:
    """H(X|Y) = H(X, Y) − H(Y), both with the widths of the joint, in nats.

    The arguments are those of `kde_joint_entropy`. The biases of the two entropies are those of Dx + Dy and of Dy
    dimensions, so that of Dx is left.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> jk.kde_conditional_entropy(x, torch.zeros(2, 1), bandwidth=1.0)     # y tells nothing: H(X), ½ log 2π + ½
    tensor(1.4189)
    """
    both = _Views.of("kde_conditional_entropy", x, y, bandwidth, concentration, kernel, df, estimator)
    return (both.entropy("joint") - both.entropy("y")).to(both.dtype)


def kde_mutual_information(
    x: Tensor,
    y: Tensor,
    *,
    bandwidth: Bandwidth | None = None,
    concentration: float | Tensor | None = None,
    kernel: JointKernelName = "gaussian",
    df: float | None = None,
    estimator: OwnPoint = "loo",
) -> Tensor:
    """I(X; Y) = H(X) + H(Y) − H(X, Y) by kernel-density estimation, in nats and O(N·D) memory.

    The arguments are those of `kde_joint_entropy`. **One rule of widths**: h is settled for the joint of Dx + Dy dimensions, and
    the marginals take the same numbers (of a covariance, its two blocks). The marginal of the joint estimate is then the
    estimate of the marginal, so all three entropies are of one density, and independent views give about 0. Silverman's widths
    of each view alone would smooth the marginals less than the joint.

    What to expect: smoothing hides dependence, so for few dimensions the estimate is low; in many, leaving points out costs the
    joint more than the marginals, and it is low again, far below 0 at times. It is no bound. For Dx + Dy above about 10 take
    `jk.mi`.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> x = torch.linspace(-1, 1, 50)[:, None]
    >>> bool(jk.kde_mutual_information(x, x, bandwidth=0.1) > 1)
    True
    """
    both = _Views.of("kde_mutual_information", x, y, bandwidth, concentration, kernel, df, estimator)
    return (both.entropy("x") + both.entropy("y") - both.entropy("joint")).to(both.dtype)


class _Views(NamedTuple):
    """Two views, their kernels with one set of widths, and the estimator."""

    points: dict[str, Tensor]
    kernels: dict[str, Kernel]
    estimator: str
    dtype: torch.dtype

    @staticmethod
    def of(
        function: str,
        x: Tensor,
        y: Tensor,
        bandwidth: Bandwidth | None,
        concentration: float | Tensor | None,
        kernel: str,
        df: float | None,
        estimator: str,
    ) -> _Views:
        choice(function, "estimator", estimator, OWN_POINT)
        choice(function, "kernel", kernel, JOINT_KERNELS)
        embeddings(function, "x", x)
        pairs(function, x, y)
        if x.dtype != y.dtype:
            wrong_type(function, "y", y, f"must be {str(x.dtype).removeprefix('torch.')} like x")
        if len(x) < 2:
            fail(function, "x", f"of shape {tuple(x.shape)}", "must have at least 2 rows")
        df = degrees_of_freedom(function, kernel, df)
        # Widened once for all entropies, so that their gradients are added before they are rounded to the inputs' dtype.
        dtype = accumulation_dtype(x.dtype)
        x, y = x.to(dtype), y.to(dtype)
        points = {"x": x, "y": y, "joint": torch.cat([x, y], dim=1)}
        if kernel == "vmf":
            kernels = _of_spheres(function, x, y, bandwidth, concentration)
        else:
            h = settled_width(function, kernel, points["joint"], bandwidth, concentration, df)
            D = x.shape[1] + y.shape[1]
            at = {"x": slice(0, x.shape[1]), "y": slice(x.shape[1], D), "joint": slice(0, D)}
            kernels = {name: kernel_of(kernel, _part(h, at[name]), points[name], df) for name in points}
        return _Views(points, kernels, estimator, dtype)

    def entropy(self, name: str) -> Tensor:
        """The entropy of a view, or of both, in fp64."""
        leave_one_out = self.estimator == "loo"
        return -log_density(self.kernels[name], self.points[name], None, leave_one_out=leave_one_out, reduction="mean")


def _part(h: Tensor, dimensions: slice) -> Tensor:
    """The widths of some dimensions: of a covariance, that of the marginal."""
    for dim in range(h.dim()):
        h = h.narrow(dim, dimensions.start, dimensions.stop - dimensions.start)
    return h


def _of_spheres(
    function: str, x: Tensor, y: Tensor, bandwidth: Bandwidth | None, concentration: float | Tensor | None
) -> dict[str, Kernel]:
    """The kernels of two spheres, and their product, whose exponent is κ⟨x, x'⟩ + κ⟨y, y'⟩."""
    if isinstance(concentration, str):
        fail(function, "concentration", repr(concentration), "must be a number (κ >= 0)")
    for name, view in (("x", x), ("y", y)):
        if view.shape[1] < 2:
            fail(function, name, f"of shape {tuple(view.shape)}", 'must have 2 columns or more with kernel="vmf"')
    kappa = settled_width(function, "vmf", x, bandwidth, concentration, None)
    of_x, of_y = (vmf(kappa, view.shape[1], unit) for view in (x, y))
    Dx, Dy = x.shape[1], y.shape[1]

    def place(z: Tensor) -> Tensor:
        return torch.cat(
            [kernel.place(part) for kernel, part in zip((of_x, of_y), z.split((Dx, Dy), dim=1), strict=True)], dim=1
        )

    joint = Kernel("dot", None, kappa, of_x.log_normaliser + of_y.log_normaliser, place)
    return {"x": of_x, "y": of_y, "joint": joint}
