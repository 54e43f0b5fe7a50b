#!/usr/bin/env bash
# torch 2.13.0: an operator of torch.library.custom_op whose schema takes `Tensor?[]`, with a backward by register_autograd.
#
# Guess: members of the list that require a gradient receive what the backward returns for them, as they do where no member is None.
# Seen: as soon as one member is None, no member is seen by autograd at all. The result does not require a gradient, the backward
# is never called, and nothing is said; in a loss of several terms the gradient of one is silently missing.
# What helps: `Tensor[]` of the members that are there, and a `bool[]` that tells which.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --disable-pip-version-check install -qq torch==2.13.0
"$folder/venv/bin/python" - <<'PYTHON'
import torch


@torch.library.custom_op("finding::total", mutates_args=(), schema="(Tensor?[] parts) -> Tensor")
def total(parts):
    return sum(part.sum() for part in parts if part is not None)


def setup(ctx, inputs, output):
    ctx.shapes = [None if part is None else part.shape for part in inputs[0]]


def backward(ctx, upstream):
    return [None if shape is None else upstream.expand(shape) for shape in ctx.shapes]


total.register_autograd(backward, setup_context=setup)
x, y, weight = (torch.ones(3, requires_grad=True) for _ in range(3))
whole = total([x, y]) + (weight * weight).sum()
whole.backward()
print("torch", torch.__version__)
print("without None: gradient of x", x.grad.tolist())
x.grad = None
with_none = total([x, None, y])
(with_none + (weight * weight).sum()).backward()
print("with None: requires_grad", with_none.requires_grad, "gradient of x", x.grad)
assert not with_none.requires_grad and x.grad is None, "the behaviour has changed"
PYTHON
