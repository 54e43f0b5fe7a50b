"""Checks that the objectives of this room share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .._checks import accumulation_dtype, embeddings, fail, integer, number, readable, same_shape, wrong_type

TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3}  # of a unit row's norm; 0.02 in half precision


def views_of(
    function: str, name: str, value: Any, *, least: int, like: tuple[str, Tensor] | None = None
) -> list[Tensor]:
    """A list of at least `least` views, embeddings of one shape; with `like`, of that shape too."""
    if not isinstance(value, (list, tuple)):
        wrong_type(function, name, value, "must be a list of float tensors (N, D), one for each view")
    if len(value) < least:
        fail(function, name, f"a list of {len(value)}", f"must be one of {least} views at least")
    found: list[Tensor] = []
    for index, view in enumerate(value):
        known = like or (f"{name}[0]", found[0]) if found or like else None
        embeddings(function, f"{name}[{index}]", view, like=known)
        if known is not None:
            same_shape(function, f"{name}[{index}]", view, known, "row i of every view is one item")
        found.append(view)
    return found


def prototypes_of(
    function: str, name: str, value: Any, like: tuple[str, Tensor], *, unit: bool = False, count: int | None = None
) -> Tensor:
    """Prototypes (K, D), K ≥ 2, with the columns of `like`; unit rows, or K = count, where asked for."""
    embeddings(function, name, value, like=like)
    if len(value) < 2:
        fail(function, name, f"of shape {tuple(value.shape)}", "must have at least 2 rows: one prototype tells nothing")
    if count is not None and len(value) != count:
        fail(function, name, f"of shape {tuple(value.shape)}", f"must have {count} rows, one for each prototype")
    if unit:
        unit_rows(function, name, value, "divide each by its norm before a step, as jk.er.Prototypes does")
    return value


def unit_rows(function: str, name: str, value: Tensor, remedy: str) -> None:
    """ValueError if a row of a readable tensor is not a unit vector."""
    if not readable(value):
        return
    norms = torch.linalg.vector_norm(value.detach(), dim=1, dtype=accumulation_dtype(value.dtype))
    off = (norms - 1).abs()
    if bool((off > TOLERANCE.get(value.dtype, 0.02)).any()):
        worst = int(off.argmax())
        fail(function, name, f"not of unit rows (row {worst} has norm {float(norms[worst]):.4g})", f"must be: {remedy}")


def at_least(function: str, name: str, value: Any, least: int) -> int:
    """An int of this size or more."""
    if integer(function, name, value) < least:
        fail(function, name, value, f"must be >= {least}")
    return int(value)


def share(function: str, name: str, value: Any) -> float:
    """A number between 0 and 1."""
    if not 0 <= number(function, name, value) <= 1:
        fail(function, name, value, "must be between 0 and 1")
    return float(value)
