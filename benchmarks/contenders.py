"""The registry of contenders: ours, the matrix form, torch.compile of it, and what people use instead, on a CPU or a GPU.

Peers are the installed packages that the tests compare with (tests/requirements-peers.txt), and published GPU kernels
(requirements-gpu-rivals.txt), called as their authors ask. Each is made in the process that times it; an ImportError says
that it is not installed, and NotPossible that it does not take this size.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk
from jessl_kernels.literals import BoundName
from jessl_kernels.native import cuda_status

from . import information
from .forms import BIAS, NEAREST, SCALE, TEMPERATURE, entropy_of_radii, labels, silverman
from .problems import PROBLEMS

Function = Callable[..., Tensor]
EPSILONS = ("1e-6", "1e-3")
BOTH = ("cpu", "cuda")


class NotPossible(Exception):
    """A contender that does not take a size or a device, for the reason given."""


@dataclass(frozen=True)
class Contender:
    """label     what the report calls it
    make      returns its function of the problem's batches
    compiles  its first call at a shape compiles, which takes seconds
    on        devices that it is made for
    products  matrix products that it computes, where it computes something else than the problem: it is shown for its
              speed, neither checked nor compared
    """

    label: str
    make: Callable[[], Function]
    compiles: bool = False
    on: tuple[str, ...] = BOTH
    products: float | None = None


def contenders(problem: str, device: str = "cpu") -> dict[str, Contender]:
    """The contenders of a problem on a device ("cpu" or "cuda") by their short names, ours first."""
    of = PROBLEMS[problem]
    ours = {"ours": Contender("ours", partial(_ours, problem, device))}
    if of.skips:
        skipping = {f"skip_{e}": Contender(f"skip_below={e}", partial(_skipping, problem, float(e))) for e in EPSILONS}
        return ours | skipping
    every = ours | {
        "plain": Contender("ours without C++", partial(_plain, problem), on=("cpu",)),
        "cuda": Contender("ours, CUDA C++", partial(_cuda, problem), on=("cuda",)),
        "matrix": Contender("matrix form", lambda: of.matrix),
        "compiled": Contender("torch.compile", lambda: _compiled(of.matrix), compiles=True),
        **RIVALS.get(problem, {}),
    }
    return {name: contender for name, contender in every.items() if device in contender.on}


def contender(problem: str, name: str) -> Contender:
    """A contender of a problem, on whichever device."""
    return (contenders(problem, "cpu") | contenders(problem, "cuda"))[name]


def _ours(problem: str, device: str) -> Function:
    """On a GPU the triton backend or an error: what it declines must not be timed under its name."""
    if device == "cpu":
        return PROBLEMS[problem].ours

    def ours(*batches: Tensor) -> Tensor:
        with jk.use_backend("triton"):
            return PROBLEMS[problem].ours(*batches)

    return ours


def _plain(problem: str) -> Function:
    """What computes where the extension could not be built."""

    def ours(*batches: Tensor) -> Tensor:
        with jk.use_backend("chunked"):
            return PROBLEMS[problem].ours(*batches)

    return ours


def _cuda(problem: str) -> Function:
    """The kernels for a GPU without Triton, where they are built."""
    if reason := cuda_status().reason:
        raise ImportError(reason)

    def ours(*batches: Tensor) -> Tensor:
        if batches[0].device.type != "cuda":
            raise NotPossible("the executor of the tests runs Triton's kernels alone")
        with jk.use_backend("cuda"):
            return PROBLEMS[problem].ours(*batches)

    return ours


def _skipping(problem: str, epsilon: float) -> Function:
    def ours(*batches: Tensor) -> Tensor:
        with jk.use_backend(skip_below=epsilon):
            return PROBLEMS[problem].ours(*batches)

    return ours


def _compiled(function: Function) -> Function:
    # Static shapes: the best that torch.compile can do, at the price of compiling for each.
    return torch.compile(function, dynamic=False)


def _installed() -> Any:
    from tests.peers import installed  # it raises where a peer is absent, and must not when another is asked for

    return installed


def _info_nce() -> Function:
    return partial(_installed().info_nce, temperature=TEMPERATURE)


def _open_clip() -> Function:
    loss = _installed().ClipLoss()
    return lambda x, y: loss(x, y, SCALE)


def _open_clip_siglip() -> Function:
    loss = _installed().SigLipLoss()
    return lambda x, y: loss(x, y, SCALE, BIAS)


def _lightly(name: str) -> Function:
    return getattr(_installed(), name)(TEMPERATURE)


def _metric_learning_sup_con() -> Function:
    loss = _installed().metric_learning.SupConLoss(TEMPERATURE)
    return lambda z1, z2: loss(torch.cat([z1, z2]), labels(2 * len(z1), z1.device))


def _reference_sup_con() -> Function:
    return lambda z1, z2: reference_sup_con(
        F.normalize(torch.cat([z1, z2]), dim=1), labels(2 * len(z1), z1.device), TEMPERATURE
    )


def reference_sup_con(z: Tensor, label: Tensor, temperature: float) -> Tensor:
    """L_out of the paper (arXiv 2004.11362, eq. 2) in the usual way, which no installed package carries: an equality mask in
    floats, the row maximum taken off, exp, and log of the sum.

        −1/|P(i)| Σ_{p ∈ P(i)} log( exp(z_i·z_p/τ) / Σ_{a ≠ i} exp(z_i·z_a/τ) ), mean over i
    """
    others = 1 - torch.eye(len(z), device=z.device)
    mask = torch.eq(label[:, None], label[None, :]).to(z.dtype) * others
    s = z @ z.T / temperature
    s = s - s.max(dim=1, keepdim=True).values.detach()
    log_p = s - (s.exp() * others).sum(dim=1, keepdim=True).log()
    return -((mask * log_p).sum(dim=1) / mask.sum(dim=1)).mean()


def _authors_uniformity() -> Function:
    # Wang & Isola print it as this line (arXiv 2005.10242, figure 5).
    return lambda x: torch.pdist(x, p=2).pow(2).mul(-2).exp().mean().log()


def _keops() -> Function:
    from pykeops.torch import Vi, Vj

    def entropy(z: Tensor) -> Tensor:
        N, D = z.shape
        h = silverman(D, N)
        index = torch.arange(N, dtype=z.dtype, device=z.device)[:, None]  # exact in fp32 up to 2^24
        s = -((Vi(z) - Vj(z)) ** 2).sum(-1) / (2 * h * h)
        itself = (0.5 - (Vi(index) - Vj(index)).abs()).step()
        density = (s - itself * 1e30).logsumexp(dim=1).mean() - math.log(N - 1)
        return -density + D * math.log(h) + 0.5 * D * math.log(2 * math.pi)

    return entropy


def _scikit_learn() -> Function:
    from sklearn.neighbors import KernelDensity

    def entropy(z: Tensor) -> Tensor:
        numbers = z.numpy()
        density = KernelDensity(bandwidth=silverman(z.shape[1], len(z))).fit(numbers)
        return torch.tensor(-density.score_samples(numbers).mean())

    return entropy


def _scipy() -> Function:
    from scipy.stats import gaussian_kde

    def entropy(z: Tensor) -> Tensor:
        numbers = z.numpy().T
        return torch.tensor(-gaussian_kde(numbers, bw_method=silverman(*z.shape[::-1])).logpdf(numbers).mean())

    return entropy


def _scikit_learn_neighbours() -> Function:
    from sklearn.neighbors import NearestNeighbors

    def entropy(z: Tensor) -> Tensor:
        distance, _ = NearestNeighbors(n_neighbors=NEAREST).fit(z.numpy()).kneighbors()
        return entropy_of_radii(torch.from_numpy(distance[:, -1]), z.shape[1])

    return entropy


def _flex_info_nce() -> Function:
    """Log-sum-exps by flex_attention. Nobody needs its values, which are as narrow as it allows."""
    from torch.nn.attention.flex_attention import flex_attention

    attend = torch.compile(flex_attention, dynamic=False)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
        values = y.new_zeros(len(y), 16)
        _, lse = attend(x[None, None], y[None, None], values[None, None], scale=1 / TEMPERATURE, return_lse=True)
        return lse.float().mean() - (x * y).sum(dim=1, dtype=torch.float32).mean() / TEMPERATURE

    return loss


def _attention(x: Tensor, y: Tensor) -> Tensor:
    """Σ_j p_ij y_j. Torch's fused attention returns no log-sum-exp; this is the closest computation that it offers."""
    x, y = F.normalize(x, dim=1)[None, None], F.normalize(y, dim=1)[None, None]
    return F.scaled_dot_product_attention(x, y, y, scale=1 / TEMPERATURE).sum(dtype=torch.float32)


def _sdpa(x: Tensor, y: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(x[None, None], y[None, None], v[None, None]).square().mean()


def _inf_cl(x: Tensor, y: Tensor, scale: float) -> Tensor:
    from inf_cl import cal_inf_loss  # pyright: ignore[reportMissingImports]

    # It cuts rows into heads, whose width must be a power of 2 (others give NaN) and divide the dimension.
    width = math.gcd(x.shape[1], 256)
    if width < 16:
        raise NotPossible(f"inf-cl cannot cut {x.shape[1]} dimensions into heads")
    return cal_inf_loss(x, y, scale=scale, head_dim=width)


def _inf_cl_info_nce() -> Function:
    import inf_cl  # noqa: F401 # pyright: ignore[reportMissingImports]

    return lambda x, y: _inf_cl(F.normalize(x, dim=1), F.normalize(y, dim=1), 1 / TEMPERATURE)


def _inf_cl_clip() -> Function:
    import inf_cl  # noqa: F401 # pyright: ignore[reportMissingImports]

    return lambda x, y: 0.5 * (_inf_cl(x, y, SCALE) + _inf_cl(y, x, SCALE))


def _memeff() -> Function:
    from memeff import MemoryEfficientCLIPLoss  # pyright: ignore[reportMissingImports]

    # Its default, stable=True, multiplies the gradient by √(N τ).
    return MemoryEfficientCLIPLoss(temperature=1 / SCALE, normalized_inputs=True, stable=False)


def _siglip_kernel() -> Function:
    from siglip_kernel import fused_siglip_loss  # pyright: ignore[reportMissingImports]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        return fused_siglip_loss(x, y, *(torch.full((), v, device=x.device) for v in (math.log(SCALE), BIAS)))

    return loss


def _other_diagonals(name: BoundName) -> dict[str, Contender]:
    """The matrix form once more, with the diagonal left out in two other ways."""
    return {
        "subtracted": Contender("diagonal subtracted", lambda: information.form(name, information.SUBTRACTED)),
        "copied": Contender("off-diagonal copied", lambda: information.form(name, information.COPIED)),
    }


GPU, CPU = ("cuda",), ("cpu",)
RIVALS: dict[str, dict[str, Contender]] = {
    "info_nce": {
        "info_nce": Contender("info-nce-pytorch", _info_nce),
        "flex": Contender("flex_attention", _flex_info_nce, compiles=True, on=GPU),
        # Forward 2 products, backward 5.
        "attention": Contender("attention (not a loss)", lambda: _attention, on=GPU, products=7),
        "inf_cl": Contender("inf-cl", _inf_cl_info_nce, on=GPU),
    },
    "clip_loss": {
        "open_clip": Contender("open_clip", _open_clip),
        "inf_cl": Contender("inf-cl", _inf_cl_clip, on=GPU),
        "memeff": Contender("memeff", _memeff, on=GPU),
    },
    "nt_xent": {"lightly": Contender("lightly", lambda: _lightly("NTXentLoss"))},
    "dcl": {"lightly": Contender("lightly", lambda: _lightly("DCLLoss"))},
    "sup_con": {
        "metric_learning": Contender("pytorch_metric_learning", _metric_learning_sup_con),
        "reference": Contender("reference SupCon", _reference_sup_con),
    },
    "siglip_loss": {
        "open_clip": Contender("open_clip", _open_clip_siglip),
        "siglip_kernel": Contender("siglip-kernel", _siglip_kernel, on=GPU),
    },
    "kde_entropy": {"keops": Contender("KeOps", _keops, compiles=True)},
    "uniformity": {"authors": Contender("authors' pdist", _authors_uniformity)},
    **{f"mi_{name}": _other_diagonals(name) for name in information.FORMS if name != "info_nce"},
    "attend": {"sdpa": Contender("scaled_dot_product_attention", lambda: _sdpa)},
    "knn_entropy": {"scikit_learn": Contender("scikit-learn", _scikit_learn_neighbours, on=CPU)},
    "kde_value": {
        "scikit_learn": Contender("scikit-learn", _scikit_learn, on=CPU),
        "scipy": Contender("scipy", _scipy, on=CPU),
    },
}
