"""The entropy and reconstruction (ER) bound of continuous embeddings: an entropy by kernel density, and a model q(z2|z1).

I(Z1; Z2) = H(Z2) − H(Z2|Z1) ≥ H(Z2) + E log q(Z2|Z1)          for any density q
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, flag, readable, same_shape, wide_scalar, widest
from ..functional.bandwidth import Bandwidth, Concentration
from ..functional.density import kde_entropy
from ..functional.kernels import vmf
from ..functional.rows import rowwise_dot, unit
from ..literals import BANDWIDTH_WORDS, ER_KERNELS, ESTIMATORS, ERKernel, Estimator


class ERBound(NamedTuple):
    """value           entropy + reconstruction, 0-d, in nats
    entropy         the estimate of H(Z2)
    reconstruction  the estimate of E log q(Z2|Z1)
    """

    value: Tensor
    entropy: Tensor
    reconstruction: Tensor


def bound(
    z1: Tensor,
    z2: Tensor,
    *,
    kernel: ERKernel = "vmf",
    concentration: Concentration | None = None,
    bandwidth: Bandwidth | None = None,
    q_concentration: float | Tensor | None = None,
    q_bandwidth: float | Tensor | None = None,
    estimator: Estimator = "loo",
    symmetric: bool = False,
) -> ERBound:
    """The ER bound on the mutual information of two views, in nats and O(N·D) memory (arXiv 2307.10907).

        H(Z2) + E log q(Z2|Z1) ≤ I(Z1; Z2)

    H(Z2) is `jk.kde_entropy` of z2, each point left out of its own density. The model q(z2|z1) has its mode at z1, which may
    be a network's prediction of z2:

        "vmf"        von Mises–Fisher: log q = κ⟨z1, z2⟩ − log ∫ e^{κ⟨z1, x⟩} dx; rows of both are normalised first
        "gaussian"   log q = −‖z2 − z1‖²/2h² − D log h − (D/2) log 2π

    z1, z2           (N, D) float tensors, N ≥ 2; row i of both are two views of one item
    kernel           "vmf" or "gaussian": of the density of z2, and of q
    concentration    κ > 0 of "vmf" for the entropy: float, 0-d tensor or "likelihood"; tensors receive gradients
    bandwidth        h > 0 of "gaussian" for the entropy, or (D,), or the word of a rule, as in `jk.kde_entropy`
    q_concentration, q_bandwidth   the width of q; None for that of the entropy, unless that is a word
    estimator        as in `jk.kde_entropy`
    symmetric        the mean of both directions, in which z1 has its entropy estimated too

    It is a bound in expectation only as far as the entropy is: leave-one-out errs upwards by the kernel's width. A width of the
    entropy that is trained to raise the bound makes that error as large as one likes; q's may be. `ER` does both rightly. From N
    pairs no estimate can certify much more than log N.

    Returns an `ERBound` of 0-d tensors in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> found = jk.er.bound(torch.eye(4), torch.eye(4), concentration=5.0)
    >>> found.value                                                  # others have cosine 0: log 1 + 5
    tensor(5.)
    """
    widths = (concentration, bandwidth, q_concentration, q_bandwidth)
    return _bound("bound", z1, z2, kernel, widths, estimator, symmetric)


def loss(
    z1: Tensor,
    z2: Tensor,
    *,
    kernel: ERKernel = "vmf",
    concentration: Concentration | None = None,
    bandwidth: Bandwidth | None = None,
    q_concentration: float | Tensor | None = None,
    q_bandwidth: float | Tensor | None = None,
    estimator: Estimator = "loo",
    symmetric: bool = True,
) -> Tensor:
    """Minus the ER bound, to be minimised: SimCLR-ER, where z1 and z2 come from one encoder (arXiv 2307.10907).

    The arguments are those of `bound`; symmetric unless asked otherwise. With one κ for both parts the normalisers cancel:

        loss = mean_i (log Σ_{j≠i} e^{κ⟨z2_i, z2_j⟩} − κ⟨z1_i, z2_i⟩) − log(N − 1)

    which is DCL (`jk.dcl`) with negatives of one view alone, κ = 1/temperature.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.loss(torch.eye(4), torch.eye(4), concentration=5.0)
    tensor(-5.)
    """
    widths = (concentration, bandwidth, q_concentration, q_bandwidth)
    return -_bound("loss", z1, z2, kernel, widths, estimator, symmetric).value


def reconstruction(
    z1: Tensor,
    z2: Tensor,
    *,
    kernel: ERKernel = "vmf",
    concentration: float | Tensor | None = None,
    bandwidth: float | Tensor | None = None,
) -> Tensor:
    """mean_i log q(z2_i|z1_i), the model's log likelihood, in nats; q as in `bound`.

    z1, z2         (N, D) float tensors
    concentration  κ > 0 of kernel="vmf", float or 0-d tensor
    bandwidth      h > 0 of kernel="gaussian", float, 0-d or (D,) tensor

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.reconstruction(torch.zeros(1, 1), torch.zeros(1, 1), kernel="gaussian", bandwidth=1.0)     # −½ log 2π
    tensor(-0.9189)
    """
    function = "reconstruction"
    choice(function, "kernel", kernel, ER_KERNELS)
    _pair(function, z1, z2)
    width = width_of(function, kernel, (concentration, "concentration"), (bandwidth, "bandwidth"))
    name = "concentration" if kernel == "vmf" else "bandwidth"
    return log_q(function, name, kernel, z1, z2, width)


def _bound(
    function: str, z1: Tensor, z2: Tensor, kernel: ERKernel, widths: tuple, estimator: Estimator, symmetric: bool
) -> ERBound:
    """The checked bound; widths are the concentration and the bandwidth of the entropy, and those of q."""
    choice(function, "kernel", kernel, ER_KERNELS)
    choice(function, "estimator", estimator, ESTIMATORS)
    flag(function, "symmetric", symmetric)
    _pair(function, z1, z2)
    if len(z2) < 2:
        fail(function, "z2", f"of shape {tuple(z2.shape)}", "must have at least 2 rows")
    concentration, bandwidth, q_concentration, q_bandwidth = widths
    name = "concentration" if kernel == "vmf" else "bandwidth"
    width = width_of(function, kernel, (concentration, "concentration"), (bandwidth, "bandwidth"))
    of_q = width_of(function, kernel, (q_concentration, "q_concentration"), (q_bandwidth, "q_bandwidth"), needed=False)
    q_name = name if of_q is None else f"q_{name}"
    if isinstance(width, str):
        choice(function, name, width, BANDWIDTH_WORDS if kernel == "gaussian" else ("likelihood",))
        if of_q is None:
            fail(function, f"q_{name}", None, f"must be given with {name}={width!r}, which is found in the sample")
    elif kernel == "gaussian":
        each_dimension(function, name, width, z2)
    else:
        wide_scalar(function, name, width, ("z2", z2), above=0)
    q_width: Any = width if of_q is None else of_q
    likelihood = log_q(function, q_name, kernel, z1, z2, q_width)  # the same in both directions
    of_points = [z1, z2] if symmetric else [z2]
    options: dict[str, Any] = {name: width, "kernel": kernel, "estimator": estimator}
    entropies = [kde_entropy(z, **options) for z in of_points]
    entropy = entropies[0] if len(entropies) == 1 else 0.5 * (entropies[0] + entropies[1])
    return ERBound(entropy + likelihood, entropy, likelihood)


def log_q(function: str, name: str, kernel: str, z1: Tensor, z2: Tensor, width: float | Tensor) -> Tensor:
    """mean_i log q(z2_i|z1_i) with the width, an argument of this name, checked."""
    dtype, D = accumulation_dtype(z2.dtype), z2.shape[1]
    if kernel == "vmf":
        if D < 2:
            fail(function, "kernel", "'vmf'", f"must be another for D = {D}: a sphere needs 2 dimensions")
        of_q = vmf(wide_scalar(function, name, width, ("z2", z2), above=0), D, unit)
        cosine = rowwise_dot(of_q.place(z1), of_q.place(z2)).mean()
        return (of_q.scale * cosine.to(of_q.scale.dtype) - of_q.log_normaliser).to(dtype)
    h = each_dimension(function, name, width, z2)
    difference = ((z2.to(dtype) - z1.to(dtype)) / h.to(dtype)).square().sum(dim=1).mean()
    return (-0.5 * difference.to(h.dtype) - h.log().sum() - 0.5 * D * math.log(2 * math.pi)).to(dtype)


def each_dimension(function: str, name: str, width: float | Tensor, z: Tensor) -> Tensor:
    """The bandwidth of each dimension, (D,), in fp64 where the device has it."""
    if not isinstance(width, Tensor) or width.dim() != 1 or len(width) == 1:
        return wide_scalar(function, name, width, ("z2", z), above=0).expand(z.shape[1])
    if width.shape != z.shape[1:]:
        fail(function, name, f"of shape {tuple(width.shape)}", f"must be a number or ({z.shape[1]},)")
    if width.device != z.device:
        fail(function, name, f"on {width.device}", f"must be on {z.device} like z2")
    if readable(width) and not bool(((width > 0) & width.isfinite()).all()):
        fail(function, name, "not > 0 and finite somewhere", "must be > 0 and finite")
    return width.to(widest(width.device))


def width_of(function: str, kernel: str, of_vmf: tuple, of_gaussian: tuple, *, needed: bool = True) -> Any:
    """The width that the kernel takes, of two (value, name); ValueError if it is missing and needed, or the other is given."""
    (width, wanted), (stray, other) = (of_vmf, of_gaussian) if kernel == "vmf" else (of_gaussian, of_vmf)
    if stray is not None:
        fail(function, other, "given", f"must be None with kernel={kernel!r}, whose width is its {wanted}")
    if width is None and needed:
        fail(function, wanted, None, f"must be given with kernel={kernel!r}, > 0")
    return width


def _pair(function: str, z1: Tensor, z2: Tensor) -> None:
    embeddings(function, "z1", z1)
    embeddings(function, "z2", z2, like=("z1", z1))
    same_shape(function, "z2", z2, ("z1", z1), "row i of both must be views of one item")
