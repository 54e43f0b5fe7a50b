"""The operators under a schema, for compile, export, fake and meta tensors: the same functions, and the shapes they return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..problem.score import FLAT, SCHEMA, Score
from ..problem.types import Gradients, Needs
from . import autograd, eager

NAMESPACE = "jessl_kernels"


def _register(name: str, arguments: str, results: str, run: Callable, fake: Callable) -> Any:
    op = torch.library.custom_op(
        f"{NAMESPACE}::{name}",
        run,
        mutates_args=(),
        schema=f"({SCHEMA}, {arguments}, str backend, int workspace) -> {results}",
    )
    op.register_fake(fake)
    return op


def _fake_reduce(*args: Any) -> tuple[Tensor, Tensor]:
    score, cols = Score.unflatten(args[:FLAT]), args[FLAT + 1]
    return _new(score, score.N), _new(score, score.M if cols else 0)


def _fake_gradient(*args: Any) -> tuple[Tensor, ...]:
    return Gradients.zeros(Score.unflatten(args[:FLAT]), Needs(*args[FLAT + 5])).flatten()


def _fake_scalar(*args: Any) -> tuple[Tensor, ...]:
    score, (_, _, anchor, _, col_anchor, needs, _, _) = Score.unflatten(args[:FLAT]), args[FLAT:]
    anchors = (_new(score, 0 if a is None else a.shape[0]) for a in (anchor, col_anchor))
    return _new(score), *Gradients.zeros(score, Needs(*needs)).flatten(), *anchors


def _fake_made(*args: Any) -> tuple[Tensor, ...]:
    score = Score.unflatten(args[:FLAT])
    return _new(score), *Gradients.zeros(score, Needs(*args[-3])).flatten()


def _fake_top_k(*args: Any) -> tuple[Tensor, Tensor]:
    score, k = Score.unflatten(args[:FLAT]), args[FLAT]
    return _new(score, score.N, k), score.x.new_empty((score.N, k), dtype=torch.int64)


def _new(score: Score, *shape: int) -> Tensor:
    return score.x.new_empty(shape, dtype=score.dtype)


_register("reduce", "str op, bool cols", "(Tensor, Tensor)", eager.reduce, _fake_reduce).register_autograd(
    autograd.reduce_backward, setup_context=autograd.reduce_setup
)
_register(
    "gradient",
    "str op, Tensor row_gradient, Tensor? row_lse, Tensor? col_gradient, Tensor? col_lse, bool[] needs",
    "(Tensor, Tensor, Tensor, Tensor, Tensor)",
    eager.gradient,
    _fake_gradient,
)
_register(
    "scalar",
    "str op, Tensor row_weight, Tensor? anchor, Tensor? col_weight, Tensor? col_anchor, bool[] needs",
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    eager.scalar,
    _fake_scalar,
).register_autograd(autograd.scalar_backward, setup_context=autograd.scalar_setup)
_register(
    "total", "bool[] needs", "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)", eager.total, _fake_made
).register_autograd(autograd.made_backward, setup_context=autograd.made_setup)
_register(
    "paired",
    "str op, float weight, str join, int shift, bool normalize, bool cols, bool[] needs",
    "(Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    eager.paired,
    _fake_made,
).register_autograd(autograd.made_backward, setup_context=autograd.made_setup)
_register("top_k", "int k", "(Tensor, Tensor)", eager.top_k, _fake_top_k)
