"""Who is counted: each loss of ours, and the installed rivals that compute the same one, by their public functions."""

from __future__ import annotations

import importlib
import importlib.metadata
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

import jessl_kernels as jk
from jessl_kernels.backends import WORKSPACE
from jessl_kernels.triton import launch

ROWS = 16_384  # of the score matrix for which the model speaks
WIDEST_FUSED = 256  # dimensions, above which ours makes blocks of weights
TILE = 128  # rows and columns of a tile of ours, at most
TEMPERATURE, BIAS = 0.07, -10.0
OURS = "jessl_kernels"
RIVALS = {"inf-cl": "1.2.1", "memeff": "0.3.1", "siglip-kernel": "0.1.2"}  # benchmarks/requirements-gpu-rivals.txt


@dataclass(frozen=True)
class Contender:
    """One who computes a loss and its gradients by all embeddings.

    run     takes N, and how many parts of the score matrix are kept one after the other, each way
    rows    of the score matrix for each of N
    N       a multiple of the tiles and of the parts, so that no lane is masked
    parts   at ROWS rows, given the compute capability
    varies  what of the compute capability the shapes depend on
    """

    who: str
    loss: str
    D: int
    run: Callable[[int, int], None]
    rows: int = 1
    N: int = 256
    parts: Callable[[tuple[int, int]], int] = lambda capability: 1
    varies: Callable[[tuple[int, int]], object] = lambda capability: None


def pairs(N: int, D: int) -> tuple[Tensor, Tensor]:
    """Random unit vectors: all log-sum-exps lie within `tile.MAX_LSE_GAP`, so that rows and columns share an exponential."""
    drawn = torch.randn(2, N, D, generator=torch.Generator().manual_seed(0))
    x, y = F.normalize(drawn, dim=2).bfloat16()
    return x.requires_grad_(), y.requires_grad_()


def ours(loss: str, D: int) -> Contender:
    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "InfoNCE": lambda x, y: jk.info_nce(x, y, temperature=TEMPERATURE, normalize=False),
        "CLIP": lambda x, y: jk.clip_loss(x, y, 1 / TEMPERATURE),
        "NT-Xent": lambda x, y: jk.nt_xent(x, y, temperature=TEMPERATURE, normalize=False),
        "SigLIP": lambda x, y: jk.siglip_loss(x, y, *_learned(1 / TEMPERATURE, BIAS)),
        "KDE entropy": lambda x, y: jk.kde_entropy(x.detach().float().requires_grad_(), bandwidth=1.0),
    }
    in_blocks = D > WIDEST_FUSED
    rows = 2 if loss == "NT-Xent" else 1

    def run(N: int, parts: int) -> None:
        workspace = 2 * (rows * N // parts) ** 2 if in_blocks else WORKSPACE  # a block of U in bf16
        # Columns in one range, as with many rows, where row tiles alone fill the device.
        with mock.patch.object(launch, "PROGRAMS_EACH", 0), jk.use_backend("triton", workspace=workspace):
            functions[loss](*pairs(N, D)).backward()

    if in_blocks:
        parts = -(-ROWS // (math.isqrt(WORKSPACE // 2) // TILE * TILE))
        return Contender(OURS, loss, D, run, rows, TILE * parts // rows, lambda capability: parts, _is_hopper)
    return Contender(OURS, loss, D, run, rows, N=256 // rows, varies=_is_hopper)


def _is_hopper(capability: tuple[int, int]) -> bool:
    return capability[0] == 9


def _learned(*values: float) -> list[Tensor]:
    return [torch.tensor(value, requires_grad=True) for value in values]


def rivals(loss: str, D: int) -> list[Contender]:
    """Installed or not: running one that is not raises ImportError."""
    if loss == "InfoNCE":
        return [Contender("inf-cl", loss, D, lambda N, _: _inf_cl(*pairs(N, D)).backward())]
    if loss == "CLIP":
        return [
            Contender("inf-cl", loss, D, lambda N, _: _inf_cl_both(*pairs(N, D)).backward()),
            Contender("memeff", loss, D, lambda N, _: _memeff(*pairs(N, D)).backward(), varies=lambda c: c),
        ]
    if loss == "SigLIP":
        return [
            Contender(
                "siglip-kernel",
                loss,
                D,
                lambda N, parts: _siglip_kernel(*pairs(N, D), N // parts).backward(),
                parts=lambda capability: ROWS // (4096 if capability >= (9, 0) else 1024),
            )
        ]
    return []


def _imported(package: str, module: str) -> Any:
    """The rival's module, of the version that the report names."""
    try:
        found = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise ImportError(f"{package} is not installed") from error
    if found != RIVALS[package]:
        raise ImportError(f"{package} {found} is installed, {RIVALS[package]} is counted")
    return importlib.import_module(module)


def _inf_cl(x: Tensor, y: Tensor) -> Tensor:
    scale = torch.tensor(1 / TEMPERATURE)
    return _imported("inf-cl", "inf_cl.flash").cal_flash_loss(x, y, scale=scale, head_dim=min(256, x.shape[1])).mean()


def _inf_cl_both(x: Tensor, y: Tensor) -> Tensor:
    return 0.5 * (_inf_cl(x, y) + _inf_cl(y, x))


def _memeff(x: Tensor, y: Tensor) -> Tensor:
    loss = _imported("memeff", "memeff").MemoryEfficientCLIPLoss
    return loss(temperature=TEMPERATURE, normalized_inputs=True, stable=False)(x, y)


def _siglip_kernel(x: Tensor, y: Tensor, chunk: int) -> Tensor:
    """What its `fused_siglip_loss` takes for bf16, at a chunk that is given."""
    kernels = _imported("siglip-kernel", "siglip_kernel.triton_sigmoid_bce")
    # It reads rows in blocks of 2048, of which few rows would leave lanes masked; many rows leave none.
    kernels._select_block_size = lambda B: min(B, 2048)
    function = _imported("siglip-kernel", "siglip_kernel").fused_chunked_bf16_siglip_loss
    log_temperature, bias = _learned(torch.tensor(1 / TEMPERATURE).log().item(), BIAS)
    return function(x, y, log_temperature, bias, chunk_size=chunk)
