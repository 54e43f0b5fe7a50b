"""Who computes each problem: ours, the matrix form, torch.compile of it, and what a user would pick instead.

Peers are the installed packages that the tests compare with (tests/requirements-peers.txt). Each contender is made where it
runs, in the process that times it; one that is not installed says so in its row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk

from .problems import BIAS, PROBLEMS, SCALE, TEMPERATURE, labels, silverman

Function = Callable[..., Tensor]
EPSILONS = ("1e-6", "1e-3")


@dataclass(frozen=True)
class Contender:
    """label  what the report calls it
    make  returns its function of the problem's batches; an ImportError says that it is not installed
    compiles  its first call at a shape compiles, which takes seconds
    """

    label: str
    make: Callable[[], Function]
    compiles: bool = False


def contenders(problem: str) -> dict[str, Contender]:
    """The contenders of a problem by their short names, ours first."""
    if PROBLEMS[problem].skips:
        ours = {"ours": Contender("ours", lambda: PROBLEMS[problem].ours)}
        return ours | {
            f"skip_{e}": Contender(f"skip_below={e}", partial(_skipping, problem, float(e))) for e in EPSILONS
        }
    return {
        "ours": Contender("ours", lambda: PROBLEMS[problem].ours),
        "matrix": Contender("matrix form", lambda: PROBLEMS[problem].matrix),
        "compiled": Contender("torch.compile", lambda: _compiled(PROBLEMS[problem].matrix), compiles=True),
        **PEERS.get(problem, {}),
    }


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
    return lambda x, y: _installed().info_nce(x, y, temperature=TEMPERATURE)


def _open_clip() -> Function:
    loss = _installed().ClipLoss()
    return lambda x, y: loss(x, y, SCALE)


def _open_clip_siglip() -> Function:
    loss = _installed().SigLipLoss()
    return lambda x, y: loss(x, y, SCALE, BIAS)


def _lightly_nt_xent() -> Function:
    return _installed().NTXentLoss(TEMPERATURE)


def _lightly_dcl() -> Function:
    return _installed().DCLLoss(TEMPERATURE)


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


PEERS: dict[str, dict[str, Contender]] = {
    "info_nce": {"info_nce": Contender("info_nce", _info_nce)},
    "clip_loss": {"open_clip": Contender("open_clip", _open_clip)},
    "nt_xent": {"lightly": Contender("lightly", _lightly_nt_xent)},
    "dcl": {"lightly": Contender("lightly", _lightly_dcl)},
    "sup_con": {
        "metric_learning": Contender("pytorch_metric_learning", _metric_learning_sup_con),
        "reference": Contender("reference SupCon", _reference_sup_con),
    },
    "siglip_loss": {"open_clip": Contender("open_clip", _open_clip_siglip)},
    "kde_entropy": {"keops": Contender("KeOps", _keops, compiles=True)},
    "uniformity": {"authors": Contender("authors' pdist", _authors_uniformity)},
    "kde_value": {
        "scikit_learn": Contender("scikit-learn", _scikit_learn),
        "scipy": Contender("scipy", _scipy),
    },
}


@cache
def label(problem: str, contender: str) -> str:
    return contenders(problem)[contender].label
