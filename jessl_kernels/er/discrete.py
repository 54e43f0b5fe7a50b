"""The ER bound of assignments to prototypes: the entropy of their mean, and their cross entropy."""

from __future__ import annotations

import torch
from torch import Tensor

from .._checks import embeddings, flag, same_shape, scalar
from ..functional.rows import log_of
from ..pairwise import pairwise_logsumexp
from .bound import ERBound
from .checks import prototypes_of
from .cross_entropy import Target, cross_entropy, prepared


def assignment_entropy(
    z: Tensor, prototypes: Tensor, *, temperature: float | Tensor = 0.1, normalize: bool = True
) -> Tensor:
    """Entropy of the mean assignment of a sample to prototypes, in nats and O((N + K)·D) memory.

        m_k = mean_i softmax_k(⟨z_i, c_k⟩/τ),    H = −Σ_k m_k log m_k ≤ log K

    log m_k is a column log-sum-exp with row biases, so an empty prototype counts 0 and no number is added inside the logarithm.

    z            (N, D) float tensor
    prototypes   (K, D), K ≥ 2, of any norms
    temperature  τ > 0, float or 0-d tensor; tensors receive gradients
    normalize    divide each row of z by its norm first; False if rows are already unit vectors, which is checked on the CPU

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.assignment_entropy(torch.eye(4), torch.eye(4))         # each to its own: log 4
    tensor(1.3863)
    """
    function = "assignment_entropy"
    flag(function, "normalize", normalize)
    embeddings(function, "z", z)
    prototypes_of(function, "prototypes", prototypes, ("z", z))
    scale = scalar(function, "temperature", temperature, ("z", z), above=0, inverse=True)
    (view,), prototypes = prepared(function, ["z"], [z], prototypes, normalize)
    return entropy_of_mean(view.scored, prototypes, scale)


def discrete_bound(
    z1: Tensor,
    z2: Tensor,
    prototypes: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    target_temperature: float | Tensor | None = None,
    symmetric: bool = False,
    normalize: bool = True,
) -> ERBound:
    """The ER bound on the information that view 1 has of view 2's assignment to prototypes, in nats and O((N + K)·D) memory.

        H(W2) + E log q(W2|Z1),    W2 ~ p2 = softmax_k(⟨z2, c_k⟩/τ'),    q = softmax_k(⟨z1, c_k⟩/τ)

    The first term is `assignment_entropy` of z2 at τ', the second minus the cross entropy of p2 with q. By the data processing
    inequality it bounds I(Z1; Z2) too; it is at most log K, and estimated from N pairs the entropy is at most log N too if
    assignments are sharp.

    z1, z2              (N, D) float tensors; row i of both are two views of one item
    prototypes          (K, D), K ≥ 2, of any norms
    temperature         τ > 0 of q, float or 0-d tensor; tensors receive gradients
    target_temperature  τ' > 0 of the assignment; None for τ
    symmetric           the mean of both directions
    normalize           divide each row of z1 and z2 by its norm first; False if rows are already unit vectors, which is
                        checked on the CPU

    Returns an `ERBound` of 0-d tensors in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> found = jk.er.discrete_bound(torch.eye(4), torch.eye(4), torch.eye(4), temperature=0.05)
    >>> found.value                                                  # log 4, and nothing is lost in reconstruction
    tensor(1.3863)
    """
    return _discrete("discrete_bound", z1, z2, prototypes, temperature, target_temperature, symmetric, normalize)


def discrete_loss(
    z1: Tensor,
    z2: Tensor,
    prototypes: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    target_temperature: float | Tensor | None = None,
    symmetric: bool = True,
    normalize: bool = True,
) -> Tensor:
    """Minus `discrete_bound`, to be minimised; symmetric unless asked otherwise. Targets have their gradient too.

    Returns a 0-d tensor in fp32 (fp64 for fp64). Raises ValueError or TypeError naming the argument at fault.

    >>> jk.er.discrete_loss(torch.eye(4), torch.eye(4), torch.eye(4), temperature=0.05)      # −log 4
    tensor(-1.3863)
    """
    return -_discrete("discrete_loss", z1, z2, prototypes, temperature, target_temperature, symmetric, normalize).value


def _discrete(
    function: str, z1: Tensor, z2: Tensor, prototypes: Tensor, temperature, target_temperature, symmetric, normalize
) -> ERBound:
    flag(function, "symmetric", symmetric)
    flag(function, "normalize", normalize)
    embeddings(function, "z1", z1)
    embeddings(function, "z2", z2, like=("z1", z1))
    same_shape(function, "z2", z2, ("z1", z1), "row i of both must be views of one item")
    prototypes_of(function, "prototypes", prototypes, ("z1", z1))
    scale = scalar(function, "temperature", temperature, ("z1", z1), above=0, inverse=True)
    of_targets = scale
    if target_temperature is not None:
        of_targets = scalar(function, "target_temperature", target_temperature, ("z1", z1), above=0, inverse=True)
    views, prototypes = prepared(function, ["z1", "z2"], [z1, z2], prototypes, normalize)
    targets = views if symmetric else views[1:]
    entropies = [entropy_of_mean(target.scored, prototypes, of_targets) for target in targets]
    entropy = torch.stack(entropies).mean()
    assigned = [Target(target.scored, prototypes, of_targets, None) for target in targets]
    pairs = [(0, 1), (1, 0)] if symmetric else [(0, 0)]
    crossed = cross_entropy(pairs, assigned, views if symmetric else views[:1], prototypes, scale)
    return ERBound(entropy - crossed, entropy, -crossed)


def entropy_of_mean(z: Tensor, prototypes: Tensor, scale: float | Tensor) -> Tensor:
    """−Σ_k m_k log m_k of the mean softmax of scores."""
    row = pairwise_logsumexp(z, prototypes, scale=scale)
    col = pairwise_logsumexp(z, prototypes, scale=scale, row_bias=-row, dim="col")
    log_mean = col - log_of(len(z), col)
    return -(log_mean.exp() * log_mean).sum()
