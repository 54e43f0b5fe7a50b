"""Who computes a loss on a GPU: ours, the matrix form, compilers of it, attention kernels, and published GPU kernels.

Each is a function of the problem's batches that returns a scalar, made when it is wanted: an ImportError says that it is not
installed. Rivals are called as their authors ask: unit rows, square batches, dimensions that they allow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk

from ..contenders import PEERS
from ..problems import BIAS, PROBLEMS, SCALE, TEMPERATURE
from .journal import NotRun

Function = Callable[..., Tensor]


@dataclass(frozen=True)
class Contender:
    """label  what the report calls it
    make  returns its function
    compiles  its first call at a shape takes seconds, so that it takes part in the foremost cells alone
    products  matrix products that it computes, if it computes something else than the problem: shown for its speed, not
        checked and not compared
    """

    label: str
    make: Callable[[], Function]
    compiles: bool = False
    products: float | None = None


def contenders(problem: str) -> dict[str, Contender]:
    """Ours first."""
    return {
        "ours": Contender("ours", partial(_ours, problem)),
        "matrix": Contender("matrix form", lambda: PROBLEMS[problem].matrix),
        "compiled": Contender("torch.compile", lambda: _compiled(PROBLEMS[problem].matrix), compiles=True),
        **RIVALS.get(problem, {}),
        # What users of a CPU pick as well.
        **{name: Contender(peer.label, peer.make, peer.compiles) for name, peer in PEERS.get(problem, {}).items()},
    }


def _ours(problem: str) -> Function:
    def ours(*batches: Tensor) -> Tensor:
        with jk.use_backend("triton"):
            return PROBLEMS[problem].ours(*batches)

    return ours


def _compiled(function: Function) -> Function:
    return torch.compile(function, dynamic=False)


def _flex_info_nce() -> Function:
    """Log-sum-exps by flex_attention, whose values nobody needs: they are as narrow as it allows."""
    from torch.nn.attention.flex_attention import flex_attention

    attend = torch.compile(flex_attention, dynamic=False)

    def loss(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
        values = y.new_zeros(len(y), 16)
        _, lse = attend(x[None, None], y[None, None], values[None, None], scale=1 / TEMPERATURE, return_lse=True)
        return lse.float().mean() - (x * y).sum(dim=1, dtype=torch.float32).mean() / TEMPERATURE

    return loss


def _attention() -> Function:
    """Σ_j p_ij y_j with its gradients: the nearest that torch's own fused attention comes to a loss, whose log-sum-exp it does
    not give out."""

    def attention(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.normalize(x, dim=1)[None, None], F.normalize(y, dim=1)[None, None]
        return F.scaled_dot_product_attention(x, y, y, scale=1 / TEMPERATURE).sum(dtype=torch.float32)

    return attention


def _inf_cl_info_nce() -> Function:
    from inf_cl import cal_inf_loss  # pyright: ignore[reportMissingImports]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        x, y = F.normalize(x, dim=1), F.normalize(y, dim=1)
        return cal_inf_loss(x, y, scale=1 / TEMPERATURE, head_dim=_head(x))

    return loss


def _inf_cl_clip() -> Function:
    from inf_cl import cal_inf_loss  # pyright: ignore[reportMissingImports]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        sides = (cal_inf_loss(a, b, scale=SCALE, head_dim=_head(x)) for a, b in ((x, y), (y, x)))
        return 0.5 * sum(sides, start=x.new_zeros((), dtype=torch.float32))

    return loss


def _head(x: Tensor) -> int:
    """inf-cl cuts rows into heads whose width must be a power of 2 (others give NaN) and divide the dimension."""
    width = math.gcd(x.shape[1], 256)
    if width < 16:
        raise NotRun(f"inf-cl cannot cut {x.shape[1]} dimensions into heads")
    return width


def _memeff() -> Function:
    from memeff import MemoryEfficientCLIPLoss  # pyright: ignore[reportMissingImports]

    # Its default, stable=True, multiplies the gradient by √(N τ).
    return MemoryEfficientCLIPLoss(temperature=1 / SCALE, normalized_inputs=True, stable=False)


def _siglip_kernel() -> Function:
    from siglip_kernel import fused_siglip_loss  # pyright: ignore[reportMissingImports]

    def loss(x: Tensor, y: Tensor) -> Tensor:
        log_scale, bias = (torch.full((), v, device=x.device) for v in (math.log(SCALE), BIAS))
        return fused_siglip_loss(x, y, log_scale, bias)

    return loss


RIVALS: dict[str, dict[str, Contender]] = {
    "info_nce": {
        "flex": Contender("flex_attention", _flex_info_nce, compiles=True),
        # Forward 2 products, backward 5.
        "attention": Contender("attention (not a loss)", _attention, products=7),
        "inf_cl": Contender("inf-cl", _inf_cl_info_nce),
    },
    "clip_loss": {"inf_cl": Contender("inf-cl", _inf_cl_clip), "memeff": Contender("memeff", _memeff)},
    "siglip_loss": {"siglip_kernel": Contender("siglip-kernel", _siglip_kernel)},
}
