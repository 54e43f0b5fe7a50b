"""The clustering family: SwAV, whose codes Sinkhorn's iterations balance, and its ER form, which pays for balance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .._checks import embeddings, fail, flag, scalar, wrong_type
from ..functional.rows import prepare
from ..pairwise import pairwise_logsumexp
from .checks import at_least, prototypes_of, unit_rows, views_of
from .cross_entropy import NORMALIZE, Target, View, cross_entropy, prepared, swapped
from .discrete import entropy_of_mean


def sinkhorn(z: Tensor, prototypes: Tensor, *, epsilon: float | Tensor = 0.05, iterations: int = 3) -> Tensor:
    """The balance of prototypes by Sinkhorn's iterations in the log domain (SwAV, arXiv 2006.09882, section 3.1).

    With s_ik = ⟨z_i, c_k⟩/ε, from r = 0, each iteration takes

        b_k = −log Σ_i e^{s_ik + r_i},    r_i = −log Σ_k e^{s_ik + b_k}

    and the codes are q_ik = softmax_k(s_ik + b_k): each row sums to 1, and each prototype has nearly N/K of the sample. They are
    never made: `jk.attend(z, prototypes, values, scale=1/ε, col_bias=b)` gives their means.

    z           (N, D) float tensor, taken as it is: SwAV's rows are unit vectors
    prototypes  (K, D), K ≥ 2, as they are
    epsilon     ε > 0, float or 0-d tensor
    iterations  n ≥ 1, 2n − 1 sweeps over N·K pairs

    Returns b, (K,), a constant for autograd, in fp32 (fp64 for fp64); finite at any ε. Raises ValueError or TypeError naming the
    argument at fault.

    >>> jk.er.sinkhorn(torch.eye(2), torch.eye(2), epsilon=1.0)      # in balance from the start: −log(e + 1)
    tensor([-1.3133, -1.3133])
    """
    function = "sinkhorn"
    embeddings(function, "z", z)
    prototypes_of(function, "prototypes", prototypes, ("z", z))
    scale = scalar(function, "epsilon", epsilon, ("z", z), above=0, inverse=True)
    return balance(z, prototypes, scale, at_least(function, "iterations", iterations, 1))


@torch.no_grad()
def balance(z: Tensor, prototypes: Tensor, scale: float | Tensor, iterations: int) -> Tensor:
    """b of `sinkhorn`; the last r is left to the softmax."""
    z, prototypes = z.detach(), prototypes.detach()
    bias = -pairwise_logsumexp(z, prototypes, scale=scale, dim="col")
    for _ in range(iterations - 1):
        row = -pairwise_logsumexp(z, prototypes, scale=scale, col_bias=bias)
        bias = -pairwise_logsumexp(z, prototypes, scale=scale, row_bias=row, dim="col")
    return bias


def swav(
    views: Sequence[Tensor],
    prototypes: Tensor,
    *,
    local: Sequence[Tensor] = (),
    queue: Sequence[Tensor] | None = None,
    temperature: float | Tensor = 0.1,
    epsilon: float | Tensor = 0.05,
    iterations: int = 3,
    normalize: bool = True,
) -> Tensor:
    """Swapped prediction of balanced codes (SwAV, arXiv 2006.09882, eq. 2), in nats and O((N + K)·D) memory.

        loss = mean over pairs t ≠ v of  mean_i −Σ_k q_ik^t log softmax_k(⟨z_i^v, c_k⟩/τ)

    The codes q^t of a view are those of `sinkhorn` at ε, without gradient.

    views        list of two or more (N, D) float tensors, rows i of which are views of one item: each is predicted and has codes
    prototypes   (K, D), K ≥ 2, unit rows, which is checked on the CPU
    local        list of further (N, D) views (small crops), predicted from the codes of `views` alone
    queue        None, or for each of `views` the (M, D) embeddings of earlier batches, M ≥ 0: more rows for its Sinkhorn
    temperature  τ > 0, float or 0-d tensor; a tensor receives its gradient
    epsilon      ε > 0; the smaller, the harder the codes
    iterations   of Sinkhorn, ≥ 1
    normalize    divide each row of views, local and queue by its norm first; False if rows are already unit vectors, which is
                 checked on the CPU

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.swav([torch.eye(4), torch.eye(4)], torch.eye(4))       # codes nearly one-hot: log(1 + 3 e⁻¹⁰)
    tensor(0.0001)
    """
    function = "swav"
    iterations = at_least(function, "iterations", iterations, 1)
    targets, every, prototypes, scale = _views(function, views, local, prototypes, temperature, normalize)
    like = ("views[0]", views[0])
    of_codes = scalar(function, "epsilon", epsilon, like, above=0, inverse=True)
    earlier = _queues(function, queue, len(views), like, normalize)
    codes = []
    for view, keys in zip(targets, earlier, strict=True):
        z = view.scored.detach()
        sample = z if keys is None else torch.cat([z, keys.to(z.dtype)])
        bias = balance(sample, prototypes, of_codes, iterations)
        codes.append(_codes(z, prototypes, of_codes, bias))
    return cross_entropy(swapped(len(codes), len(every)), codes, every, prototypes, scale)


def swav_er(
    views: Sequence[Tensor],
    prototypes: Tensor,
    *,
    local: Sequence[Tensor] = (),
    temperature: float | Tensor = 0.1,
    epsilon: float | Tensor = 0.05,
    normalize: bool = True,
) -> Tensor:
    """SwAV without Sinkhorn, whose balance the entropy of the mean assignment keeps: minus a discrete ER bound.

        loss = mean over pairs t ≠ v of  mean_i −Σ_k q_ik^t log softmax_k(⟨z_i^v, c_k⟩/τ)  −  mean over t of H(mean_i q_i^t)
        q_ik^t = softmax_k(⟨z_i^t, c_k⟩/ε)

    Its value is that of `discrete_loss` with ε for the targets' temperature. In the first term codes have no gradient, as in
    SwAV; in the entropy they have. It needs no queue: it balances by a gradient, and not within a batch.

    The arguments are those of `swav`. Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the
    argument at fault.

    >>> jk.er.swav_er([torch.eye(4), torch.eye(4)], torch.eye(4))    # nearly −log 4
    tensor(-1.3862)
    """
    function = "swav_er"
    targets, every, prototypes, scale = _views(function, views, local, prototypes, temperature, normalize)
    of_codes = scalar(function, "epsilon", epsilon, ("views[0]", views[0]), above=0, inverse=True)
    codes = [_codes(view.scored.detach(), prototypes, of_codes, None) for view in targets]
    entropies = [entropy_of_mean(view.scored, prototypes, of_codes) for view in targets]
    crossed = cross_entropy(swapped(len(codes), len(every)), codes, every, prototypes, scale)
    return crossed - torch.stack(entropies).mean()


def _codes(z: Tensor, prototypes: Tensor, scale: float | Tensor, bias: Tensor | None) -> Target:
    """Codes are constants; the prototypes that they average are not."""
    return Target(z, prototypes.detach(), scale.detach() if isinstance(scale, Tensor) else scale, bias)


def _views(
    function: str, views: Any, local: Any, prototypes: Any, temperature: Any, normalize: Any
) -> tuple[list[View], list[View], Tensor, float | Tensor]:
    """Views with codes, all views, prototypes and 1/τ, checked and prepared."""
    flag(function, "normalize", normalize)
    first = views_of(function, "views", views, least=2)
    like = ("views[0]", first[0])
    rest = views_of(function, "local", local, least=0, like=like)
    prototypes_of(function, "prototypes", prototypes, like, unit=True)
    scale = scalar(function, "temperature", temperature, like, above=0, inverse=True)
    names = [f"views[{n}]" for n in range(len(first))] + [f"local[{n}]" for n in range(len(rest))]
    every, prototypes = prepared(function, names, [*first, *rest], prototypes, normalize)
    return every[: len(first)], every, prototypes, scale


def _queues(function: str, queue: Any, count: int, like: tuple[str, Tensor], normalize: bool) -> list[Tensor | None]:
    """For each view the rows of earlier batches, or None."""
    if queue is None:
        return [None] * count
    if not isinstance(queue, (list, tuple)):
        wrong_type(function, "queue", queue, "must be a list of tensors (M, D), one for each view, or None")
    if len(queue) != count:
        fail(function, "queue", f"a list of {len(queue)}", f"must be one of {count}, as many as views")
    found: list[Tensor | None] = []
    for number, keys in enumerate(queue):
        if isinstance(keys, Tensor) and keys.dim() == 2 and len(keys) == 0:  # before its first batch
            found.append(None)
            continue
        embeddings(function, f"queue[{number}]", keys, like=like)
        if not normalize:
            unit_rows(function, f"queue[{number}]", keys, NORMALIZE)
        found.append(prepare(keys.detach(), normalize=normalize)[0])
    return found
