"""The arguments that all sums over pairs share, checked and turned into a problem; and the choice of the backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, choice, embeddings, fail, scalar, wrong_type
from ..autocast import under_autocast
from ..backends import select, settings, use_backend
from ..literals import KINDS, PHI_NAMES, PSI_NAMES, SUM_NAMES
from ..ops import Who
from ..problem.exclude import as_exclude
from ..problem.phi import IDENTITY, PHIS, Phi
from ..problem.row_loss import RowProblem

Pieces = tuple[Tensor, ...]


def who(function: str, problem: RowProblem) -> Who:
    """The backend that will compute this problem, and its workspace. NotImplementedError if all decline."""
    ops = dict.fromkeys((problem.negatives.op, problem.of_positives.op))
    return Who(select(function, problem, *ops), settings().workspace_on(problem.x[0].device))


def held_settings() -> Callable[[], AbstractContextManager[None]]:
    """A maker of blocks with the settings of here and now: for a backward pass, which on a GPU another thread runs."""
    kept = settings()
    name: Any = kept.backend
    return lambda: use_backend(name, workspace=kept.workspace, skip_below=kept.skip_below)


def pieces_of(
    function: str, name: str, value: Tensor | Sequence[Tensor], like: tuple[str, Tensor] | None = None
) -> Pieces:
    """A batch of embeddings, or several that follow each other, checked."""
    pieces = (value,) if isinstance(value, Tensor) else value
    if not isinstance(pieces, (tuple, list)) or not pieces:
        wrong_type(
            function, name, value, "must be a float tensor of embeddings, one per row, or a list of such tensors"
        )
    for k, piece in enumerate(pieces):
        of_piece = name if len(pieces) == 1 else f"{name}[{k}]"
        embeddings(function, of_piece, piece, like=like)
        like = like or (of_piece, piece)
    return tuple(pieces)


def as_scored(x: Pieces, y: Pieces, kind: str) -> tuple[Pieces, Pieces]:
    """Embeddings in the dtype of autocast. Those of squared distances, which would lose all their digits, keep their dtype, or
    fp32 if two dtypes meet."""
    every = (*x, *y)
    if kind == "dot":
        every = under_autocast(*every)
    elif any(t.dtype != every[0].dtype for t in every):
        every = tuple(t.float() for t in every)
    return every[: len(x)], every[len(x) :]


def score_fields(
    function: str,
    like: Tensor,
    N: int,
    M: int,
    kind: str,
    phi: Any,
    scale: Any,
    row_bias: Any,
    col_bias: Any,
    exclude: Any,
) -> dict[str, Any]:
    """The fields of a problem that define the score of a pair, checked."""
    choice(function, "kind", kind, KINDS)
    return {
        "kind": kind,
        "scale": scalar(function, "scale", scale, ("x", like)),
        "row_bias": vector(function, "row_bias", row_bias, like, N),
        "col_bias": vector(function, "col_bias", col_bias, like, M),
        "exclude": as_exclude(function, exclude, N, M, like.device),
        "phi": phi_of(function, phi, kind),
        "skip_below": settings().skip_below,
    }


def unit(z: Tensor, *, rounded: bool = True) -> Tensor:
    """Each row (last dimension) divided by its norm, in fp32 at least; `rounded`: rounded once to the dtype of z, which is left
    out if another rounding follows."""
    wide = torch.nn.functional.normalize(z.to(accumulation_dtype(z.dtype)), dim=-1)
    return wide.to(z.dtype) if rounded else wide


def phi_of(function: str, phi: Any, kind: str) -> Phi:
    """φ by its name, or the given Phi."""
    if isinstance(phi, str):
        if phi == "clamp":
            fail(function, "phi", "'clamp'", "must be jk.phi.clamp(low, high), which says where to clamp")
        if phi == "student":
            fail(function, "phi", "'student'", "must be jk.phi.student(power), which says how fast its tails fall")
        phi = PHIS[choice(function, "phi", phi, PHI_NAMES)]
    if phi is None:
        return IDENTITY
    if not isinstance(phi, Phi):
        wrong_type(function, "phi", phi, "must be a name, a jk.phi.Phi or None")
    if kind not in phi.kinds:
        must = f'must be defined for kind="{kind}"; this one is for {" and ".join(phi.kinds)}'
        fail(function, "phi", repr(phi.name), must)
    return phi


def psi_of(function: str, name: str, psi: Any, *, or_logsumexp: bool = False) -> str:
    """The name of the ψ, or "logsumexp", that is summed over pairs."""
    return choice(function, name, psi, SUM_NAMES if or_logsumexp else PSI_NAMES)


def vector(function: str, name: str, value: Any, like: Tensor, length: int) -> Tensor | None:
    """A bias, an anchor or weights: one number per row or column, in the accumulation dtype, with its graph."""
    if value is None:
        return None
    if not isinstance(value, Tensor) or not value.dtype.is_floating_point:
        wrong_type(function, name, value, "must be a float tensor or None")
    if value.shape != (length,):
        fail(function, name, f"of shape {tuple(value.shape)}", f"must be ({length},)")
    if value.device != like.device:
        fail(function, name, f"on {value.device}", f"must be on {like.device} like the embeddings")
    return value.to(accumulation_dtype(like.dtype))


def constants(function: str, name: str, value: Any, like: Tensor, length: int) -> Tensor | None:
    """Weights, which receive no gradient."""
    weights = vector(function, name, value, like, length)
    if weights is not None and weights.requires_grad:
        wrong_type(function, name, weights, "must not require a gradient: weights are constants (detach them)")
    return weights
