"""Softmax-weighted sums of values: the one reduction whose result is a vector for each row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .. import ops
from .._checks import accumulation_dtype, fail, wrong_type
from ..literals import ExcludeWord, Kind, PhiName
from ..problem.exclude import Exclude
from ..problem.phi import Phi
from .arguments import who
from .reductions import problem_of


def attend(
    x: Tensor,
    y: Tensor | None,
    values: Tensor,
    *,
    kind: Kind = "dot",
    phi: Phi | PhiName | None = None,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    exclude: Exclude | ExcludeWord | None = None,
) -> Tensor:
    """Values weighted by the softmax of pairwise scores, in O(N·(D + V)) memory.

        o_i = Σ_j p_ij v_j        p_ij = e^{s_ij} / Σ_k e^{s_ik}

    x, y     (N, D) and (M, D) float tensors; y None compares x with itself
    values   (M, V) float tensor v; fp64 exactly if x is, and of any other float dtype otherwise
    kind, phi, scale, row_bias, col_bias, exclude   the score s, as in `pairwise_logsumexp`; a row_bias changes no result

    It is attention with any of the package's scores: the mean-shift vector of a density, soft targets ⟨x_i, Σ_j t_ij y_j⟩, a
    teacher's expected prototype. x, y, values, scale and biases receive gradients; a gradient takes five products in place
    of the value's two, since scores are made again.

    Returns (N, V) in fp32 (fp64 for fp64); 0 for a row without pairs. Raises ValueError or TypeError naming the argument
    at fault.

    >>> x, values = torch.zeros(1, 2), torch.tensor([[0.0], [3.0]])
    >>> jk.attend(x, torch.eye(2), values)                            # equal scores: the mean
    tensor([[1.5000]])
    """
    function = "attend"
    problem = problem_of(function, x, y, kind, phi, scale, row_bias, col_bias, exclude)
    _check_values(function, values, problem.M, x)
    return ops.attend(problem, values, who(function, problem))


def _check_values(function: str, values: Any, M: int, x: Tensor) -> None:
    if not isinstance(values, Tensor) or not values.dtype.is_floating_point:
        wrong_type(function, "values", values, "must be a float tensor")
    if values.dim() != 2 or values.shape[0] != M or 0 in values.shape:
        fail(function, "values", f"of shape {tuple(values.shape)}", f"must be ({M}, V), a row for each column")
    if values.device != x.device:
        fail(function, "values", f"on {values.device}", f"must be on {x.device} like x")
    if accumulation_dtype(values.dtype) != accumulation_dtype(x.dtype):
        wide = "float64" if accumulation_dtype(x.dtype) == torch.float64 else "float32, bfloat16 or float16"
        wrong_type(function, "values", values, f"must be {wide} with x of {str(x.dtype).removeprefix('torch.')}")
